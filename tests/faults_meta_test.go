package tests

import (
	"go/ast"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// faults are the faults of the design that this one replaces. Each must have a test, named Test_<id>_…, that fails if ours has it.
var faults = []struct{ id, fault string }{
	{"I1", "the watcher panics, nobody is told, and the mirror is silently dead"},
	{"I2", "one stuck finalizer starves all others"},
	{"I3", "a deleted ContainerNamespace never comes back"},
	{"S1", "events are lost through the skew between the host's clock and the engine's"},
	{"S2", "a finalizer that the user removed is not restored, and a deletion right after bypasses the engine"},
	{"S3", "two writers race on the App's status"},
	{"S4", "the socket's path is fixed, its directory made in passing, and errors swallowed"},
	{"S5", "ContainerEngineReady is True for a backend that mirrors nothing"},
	{"S6", "the error of a condition's write is discarded"},
	{"S7", "a resource without an engine object hangs in Terminating for ever"},
	{"S8", "the version of the engine's API is fixed"},
	{"S9", "cleaning up kills processes of other instances"},
	{"S10", "errors do not name the object"},
	{"S11", "one broken inspect fails the whole start"},
	{"S12", "a time limit of 0 turns off diagnostics too"},
	{"D1", "the cost of an event grows with the number of objects"},
	{"D2", "the inspects at start run one after the other"},
	{"D3", "a set of what needs a restart returns at once on a running VM"},
	{"D4", "what is removed between list and inspect stays as a ghost"},
}

// faultTests finds the tests named for a fault: by id, the names.
func faultTests(sources []*source) map[string][]string {
	found := map[string][]string{}
	for _, s := range sources {
		if !s.test {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			rest, ok := strings.CutPrefix(f.Name.Name, "Test_")
			id, what, named := strings.Cut(rest, "_")
			if ok && named && what != "" {
				found[id] = append(found[id], s.path+": "+f.Name.Name)
			}
		}
	}
	return found
}

func TestFaultsHaveTests(t *testing.T) {
	found := faultTests(repository(t))
	for _, f := range faults {
		if len(found[f.id]) == 0 {
			t.Errorf("no test Test_%s_… : %s", f.id, f.fault)
		}
	}
}

func TestFaultsHaveTestsCanFail(t *testing.T) {
	found := faultTests([]*source{
		parse(t, "a/a_test.go", `package a
func Test_I1_PanicIsReported() {}
func Test_I2() {}
func Test_I3_() {}
func (x) Test_S1_Method() {}
func TestS2_Other() {}
`),
		parse(t, "a/a.go", "package a; func Test_S4_NotATest() {}"),
	})
	require.Equal(t, map[string][]string{"I1": {"a/a_test.go: Test_I1_PanicIsReported"}}, found)
}
