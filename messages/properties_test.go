package messages

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPropertiesAreComplete(t *testing.T) {
	names := PropertyNames()
	require.Contains(t, names, "running")
	require.Contains(t, names, "virtualMachine.cpus")
	require.Len(t, propertyNotes, len(names), "a note without a field, or a field without a note")
	for _, p := range Properties() {
		require.NotEmpty(t, p.Help, "%s needs a line of help in propertyNotes", p.Name)
		require.NotEmpty(t, p.Type, p.Name)
		require.Equal(t, p.Default, Value(DefaultAppSpec(), p.Name))
		if len(p.Enum) > 0 {
			require.Contains(t, p.Enum, p.Default, p.Name)
		}
	}
	require.NoError(t, ValidateAppSpec(DefaultAppSpec()))
	require.Empty(t, Value(DefaultAppSpec(), "nope"))
}

func TestParseAssignments(t *testing.T) {
	patch, err := ParseAssignments([]string{"running=true", "virtualMachine.cpus=4", "virtualMachine.socket=tcp://h:1?a=b"})
	require.NoError(t, err)
	require.JSONEq(t, `{"running":true,"virtualMachine":{"cpus":4,"socket":"tcp://h:1?a=b"}}`, string(patch))

	patch, err = ParseAssignments(nil)
	require.NoError(t, err)
	require.JSONEq(t, `{}`, string(patch))

	for arg, words := range map[string][]string{
		"running":                            {"PROPERTY=VALUE", "running"},
		"=x":                                 {"PROPERTY=VALUE"},
		"runing=true":                        {"runing", "no such property", "virtualMachine.cpus"},
		"virtualMachine=1":                   {"no such property"},
		"running=yes":                        {"running", "true or false", "yes"},
		"running=":                           {"true or false"},
		"virtualMachine.cpus=many":           {"virtualMachine.cpus", "whole number", "many"},
		"virtualMachine.cpus=-1":             {"whole number", "-1"},
		"virtualMachine.cpus=99999999999":    {"2147483647"},
		"virtualMachine.driver=vbox":         {"vbox", "auto, lima, native, external, simulated"},
		"containerEngine.name=":              {"moby, containerd"},
		"virtualMachine.socket=run/x":        {"absolute"},
		"virtualMachine.socket=ssh://h":      {"ssh", "unix://"},
		"virtualMachine.socket=tcp://":       {"no address"},
		"virtualMachine.socket=/a\nb":        {"control"},
		"virtualMachine.socket=" + long(105): {"105 bytes", "104"},
	} {
		_, err := ParseAssignments([]string{arg})
		require.ErrorIs(t, err, ErrInvalid, arg)
		require.ErrorIs(t, err, ErrPermanent, arg)
		for _, w := range words {
			require.ErrorContains(t, err, w, arg)
		}
	}
	_, err = ParseAssignments([]string{"virtualMachine.socket=unix://" + long(104)})
	require.NoError(t, err)
	_, err = ParseAssignments([]string{"running=true", "running=false"})
	require.ErrorContains(t, err, "twice")
}

func long(n int) string { return "/" + strings.Repeat("s", n-1) }
