package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
)

func TestPatched(t *testing.T) {
	spec := messages.DefaultAppSpec()
	spec.VirtualMachine.CPUs = 2
	next, err := patched(spec, json.RawMessage(`{"running":true,"virtualMachine":{"memory":4096}}`), "rancher-desktop")
	require.NoError(t, err)
	require.True(t, next.Running)
	require.Equal(t, messages.VirtualMachineSpec{Driver: "auto", CPUs: 2, Memory: 4096}, next.VirtualMachine)
	next, err = patched(spec, json.RawMessage(`{"virtualMachine":null,"namespace":null}`), "rancher-desktop")
	require.NoError(t, err)
	require.Equal(t, messages.DefaultAppSpec(), next, "null is the default")
}

func TestPatchedRejects(t *testing.T) {
	for patch, words := range map[string][]string{
		`{"runing":true}`:                               {"runing", "no such property", "virtualMachine.cpus"},
		`{"running":"yes"}`:                             {"running", "true or false", "yes"},
		`{"running":1}`:                                 {"running", "true or false"},
		`{"running":{}}`:                                {"running", "true or false"},
		`{"virtualMachine":3}`:                          {"virtualMachine", "virtualMachine.cpus", "3"},
		`{"virtualMachine":{"cpu":3}}`:                  {"virtualMachine.cpu", "no such property"},
		`{"virtualMachine.cpus":3}`:                     {"nested"},
		`{"virtualMachine":{"cpus":1.5}}`:               {"virtualMachine.cpus", "whole number", "1.5"},
		`{"virtualMachine":{"cpus":-1}}`:                {"virtualMachine.cpus", "-1"},
		`{"virtualMachine":{"cpus":3000000000}}`:        {"virtualMachine.cpus", "2147483647"},
		`{"virtualMachine":{"driver":"vbox"}}`:          {"virtualMachine.driver", "vbox", "native"},
		`{"virtualMachine":{"socket":"x"}}`:             {"virtualMachine.socket", "absolute"},
		`{"virtualMachine":{"socket":"ssh://h"}}`:       {"ssh"},
		`{"virtualMachine":{"socket":"` + long + `"}}`:  {"104"},
		`{"containerEngine":{"name":"podman"}}`:         {"containerEngine.name", "podman", "containerd"},
		`{"namespace":"x"}`:                             {"namespace", "cannot be changed", "rancher-desktop"},
		`{"spec":{"running":true}}`:                     {"spec", "no such property"},
		`{"virtualMachine":{"driver":"auto","x":null}}`: {"virtualMachine.x"},
		`[]`:         {"no JSON object"},
		`null`:       {"no JSON object"},
		``:           {"no JSON object"},
		`{} {}`:      {"no JSON object"},
		`{"running"`: {"no JSON object"},
	} {
		_, err := patched(messages.DefaultAppSpec(), json.RawMessage(patch), "rancher-desktop")
		require.ErrorIs(t, err, messages.ErrInvalid, patch)
		require.Equal(t, messages.ClassPermanent, messages.ClassOf(err), patch)
		for _, w := range words {
			require.ErrorContains(t, err, w, patch)
		}
	}
}

var long = "/" + strings.Repeat("s", 104)

func TestCheckBackend(t *testing.T) {
	backends := func(d string) []string {
		return map[string][]string{"lima": {"moby", "containerd"}, "native": {"moby"}}[d]
	}
	spec := messages.DefaultAppSpec()
	require.NoError(t, checkBackend(spec, "native", backends))
	require.NoError(t, checkBackend(spec, "unheard of", backends))
	spec.ContainerEngine.Name = messages.EngineContainerd
	require.NoError(t, checkBackend(spec, "lima", backends))
	require.NoError(t, checkBackend(spec, "", backends), "not resolved yet")
	err := checkBackend(spec, "native", backends)
	require.ErrorIs(t, err, messages.ErrInvalid)
	require.ErrorContains(t, err, `"containerd" cannot run with driver native: valid with it: moby`)
	require.ErrorIs(t, checkBackend(spec, "unheard of", backends), messages.ErrInvalid)
}

func FuzzPatched(f *testing.F) {
	for _, s := range []string{`{"running":true}`, `{"virtualMachine":{"cpus":1e2}}`, `{"a":[{}]}`, `{"running":true,"running":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, patch []byte) {
		before := messages.DefaultAppSpec()
		next, err := patched(before, patch, "rancher-desktop")
		require.Equal(t, messages.DefaultAppSpec(), before, "what is patched stays as it is")
		if err != nil {
			require.ErrorIs(t, err, messages.ErrInvalid)
			return
		}
		require.NoError(t, messages.ValidateAppSpec(next))
		require.Equal(t, "rancher-desktop", next.Namespace)
		again, err := patched(next, patch, "rancher-desktop")
		require.NoError(t, err)
		require.Equal(t, next, again, "a patch made twice is made once")
		nothing, err := patched(next, json.RawMessage(`{}`), "rancher-desktop")
		require.NoError(t, err)
		require.Equal(t, next, nothing)
		whole, err := json.Marshal(next)
		require.NoError(t, err)
		same, err := patched(messages.DefaultAppSpec(), whole, "rancher-desktop")
		require.NoError(t, err, "%s", whole)
		require.Equal(t, next, same, "a spec is a patch that leads to itself")
	})
}
