package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module is the path in front of all our packages.
const module = "github.com/rdd-desktop/rdd"

const (
	proto     = "github.com/asynkron/protoactor-go"
	remote    = proto + "/remote"
	cluster   = proto + "/cluster"
	cobra     = "github.com/spf13/cobra"
	charm     = "github.com/charmbracelet"
	moby      = "github.com/moby/moby"
	oldDocker = "github.com/docker/docker"
	lima      = "github.com/lima-vm/lima"
)

// source is one parsed Go file. The parser ignores build tags: the rules hold for all systems at once.
type source struct {
	path    string // from the top of the repository, with slashes
	dir     string // "." for the top
	test    bool   // a _test.go file
	fset    *token.FileSet
	file    *ast.File
	imports []imported
}

type imported struct {
	path string
	name string // the name in this file; for an import without one, a guess: the last element that is no version
	pos  token.Pos
}

// rule is one law of the architecture. check returns what breaks it in one file.
type rule struct {
	name   string
	reason string
	check  func(*source) []string
	// bad maps a path to the content of a file that breaks the rule, and good to one that looks alike and keeps it: a check that
	// cannot fail is no check.
	bad, good map[string]string
}

// in tells whether a folder is one of these or below one.
func in(dir string, parents ...string) bool {
	return slices.ContainsFunc(parents, func(p string) bool { return dir == p || strings.HasPrefix(dir, p+"/") })
}

// ours is the folder of an import of our own; "" for another one.
func ours(importPath string) string {
	if importPath == module {
		return "."
	}
	dir, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	return dir
}

// isPort tells whether a folder holds a port: interfaces, values, errors. What is below is an adapter, or help for tests.
func isPort(dir string) bool { return dir == "vmdriver" || dir == "dockerio" }

// isAdapter tells whether a folder belongs to an adapter: everything below a port but the suites that all adapters must pass.
func isAdapter(dir string) bool {
	return !isPort(dir) && in(dir, "vmdriver", "dockerio") && !in(dir, "vmdriver/conformance", "dockerio/conformance")
}

func (s *source) at(pos token.Pos, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.path, s.fset.Position(pos).Line, fmt.Sprintf(format, args...))
}

// noImports makes a check: in the files that where picks, no import that forbidden picks.
func noImports(where func(*source) bool, forbidden func(importPath string) bool) func(*source) []string {
	return func(s *source) []string {
		if !where(s) {
			return nil
		}
		var found []string
		for _, i := range s.imports {
			if forbidden(i.path) {
				found = append(found, s.at(i.pos, "imports %s", i.path))
			}
		}
		return found
	}
}

// under makes a picker of import paths: these modules or packages, and what is below them.
func under(parents ...string) func(string) bool {
	return func(p string) bool { return in(p, parents...) }
}

// noUse makes a check: in the files that where picks, none of these members of a package ("*" for all). A dot import of the package
// is a use too, because it hides the members.
func noUse(where func(*source) bool, importPath string, members ...string) func(*source) []string {
	return func(s *source) []string {
		if !where(s) {
			return nil
		}
		var found []string
		names := map[string]bool{}
		for _, i := range s.imports {
			if i.path != importPath {
				continue
			}
			if i.name == "." {
				found = append(found, s.at(i.pos, "dot import of %s", i.path))
			}
			names[i.name] = true
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			// An identifier that the parser resolved within the file is a variable, not the package.
			if x, ok := selector.X.(*ast.Ident); ok && x.Obj == nil && names[x.Name] {
				if slices.Contains(members, selector.Sel.Name) || slices.Contains(members, "*") {
					found = append(found, s.at(n.Pos(), "uses %s.%s", importPath, selector.Sel.Name))
				}
			}
			return true
		})
		return found
	}
}

// noSelector makes a check: in the files that where picks, nothing called that on anything.
func noSelector(where func(*source) bool, names ...string) func(*source) []string {
	return func(s *source) []string {
		if !where(s) {
			return nil
		}
		var found []string
		ast.Inspect(s.file, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, selector.Sel.Name) {
				found = append(found, s.at(selector.Sel.Pos(), "uses .%s", selector.Sel.Name))
			}
			return true
		})
		return found
	}
}

// noNode makes a check: in the files that where picks, no syntax of a kind. what names it, or is "" for any other syntax.
func noNode(where func(*source) bool, what func(ast.Node) string) func(*source) []string {
	return func(s *source) []string {
		if !where(s) {
			return nil
		}
		var found []string
		ast.Inspect(s.file, func(n ast.Node) bool {
			if n != nil {
				if name := what(n); name != "" {
					found = append(found, s.at(n.Pos(), "%s", name))
				}
			}
			return true
		})
		return found
	}
}

// all joins checks.
func all(checks ...func(*source) []string) func(*source) []string {
	return func(s *source) []string {
		var found []string
		for _, c := range checks {
			found = append(found, c(s)...)
		}
		return found
	}
}

func goStatement(n ast.Node) string {
	if _, ok := n.(*ast.GoStmt); ok {
		return "go statement"
	}
	return ""
}

func channelOperation(n ast.Node) string {
	switch n := n.(type) {
	case *ast.SendStmt:
		return "channel send"
	case *ast.SelectStmt:
		return "select"
	case *ast.ChanType:
		return "channel type"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "channel receive"
		}
	}
	return ""
}

func printCall(n ast.Node) string {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	if f, ok := call.Fun.(*ast.Ident); ok && f.Obj == nil && (f.Name == "print" || f.Name == "println") {
		return "calls the builtin " + f.Name
	}
	return ""
}

// resultCall finds x.Result(): a future's, as far as one can tell without types.
func resultCall(n ast.Node) string {
	if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 0 {
		if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Result" {
			return "calls .Result()"
		}
	}
	return ""
}

// Pickers of files.
func code(dirs ...string) func(*source) bool {
	return func(s *source) bool { return !s.test && in(s.dir, dirs...) }
}

func outside(dirs ...string) func(*source) bool {
	return func(s *source) bool { return !in(s.dir, dirs...) }
}

func isFSM(s *source) bool { return !s.test && strings.HasSuffix(s.path, "_fsm.go") }

func library(s *source) bool { return !s.test && !in(s.dir, "cmd", "tests") }

// rules is the table: the architecture as far as a test can hold it.
var rules = []rule{
	{
		name: "messages imports nothing of ours",
		reason: "messages is the vocabulary that all others share, and what an embedder compiles against; with an import upwards every " +
			"package would depend on every other",
		check: noImports(code("messages"), func(p string) bool { return ours(p) != "" && !in(ours(p), "messages") }),
		bad:   map[string]string{"messages/a.go": `package messages; import _ "` + module + `/dockerio"`},
		good:  map[string]string{"messages/a.go": `package messages; import _ "k8s.io/apimachinery/pkg/apis/meta/v1"`},
	},
	{
		name: "messages and the ports know no actor library",
		reason: "resources, interfaces and errors must outlive the library that carries them, and an adapter must be testable without an " +
			"actor system",
		check: noImports(func(s *source) bool { return in(s.dir, "messages") || isPort(s.dir) }, under(proto)),
		bad: map[string]string{
			"messages/a.go": `package messages; import _ "` + proto + `/actor"`,
			"vmdriver/a.go": `package vmdriver; import _ "` + proto + `/actor"`,
			"dockerio/a.go": `package dockerio; import _ "` + proto + `/actor"`,
		},
		good: map[string]string{"actors/a.go": `package actors; import _ "` + proto + `/actor"`},
	},
	{
		name: "a port imports of ours only messages",
		reason: "a port says what the actors need from the world, in our own types; the two ports are independent, so that any VM goes " +
			"with any engine",
		check: noImports(func(s *source) bool { return !s.test && isPort(s.dir) },
			func(p string) bool { return ours(p) != "" && !in(ours(p), "messages") }),
		bad: map[string]string{
			"vmdriver/a.go": `package vmdriver; import _ "` + module + `/dockerio"`,
			"dockerio/a.go": `package dockerio; import _ "` + module + `/vmdriver"`,
			"dockerio/b.go": `package dockerio; import _ "` + module + `/dockerio/moby"`,
		},
		good: map[string]string{"dockerio/a.go": `package dockerio; import _ "` + module + `/messages"`},
	},
	{
		name: "an adapter imports nothing above it",
		reason: "imports point down only: an adapter implements a port for whoever wires it, and must not know the actors, the supervisor " +
			"or an actor library",
		check: noImports(func(s *source) bool { return isAdapter(s.dir) },
			func(p string) bool { return in(ours(p), "actors", "supervisor", "cmd") || in(p, proto) }),
		bad: map[string]string{
			"dockerio/moby/a.go":   `package moby; import _ "` + module + `/actors/kit"`,
			"vmdriver/native/a.go": `package native; import _ "` + module + `/supervisor"`,
			"dockerio/sim/a.go":    `package sim; import _ "` + proto + `/actor"`,
		},
		good: map[string]string{"vmdriver/simulated/a.go": `package simulated; import _ "` + module + `/dockerio/sim"`},
	},
	{
		name: "actors never import adapters",
		reason: "actors decide with the ports alone, so that they run unchanged on every VM, every engine and every fake; only their tests " +
			"may use the simulated engine",
		check: all(
			noImports(code("actors"), func(p string) bool { return isAdapter(ours(p)) }),
			noImports(func(s *source) bool { return s.test && in(s.dir, "actors") },
				func(p string) bool { return isAdapter(ours(p)) && !in(ours(p), "dockerio/sim") }),
		),
		bad: map[string]string{
			"actors/a.go":                `package actors; import _ "` + module + `/dockerio/sim"`,
			"actors/container/a.go":      `package container; import _ "` + module + `/vmdriver/native"`,
			"actors/container/a_test.go": `package container; import _ "` + module + `/dockerio/moby"`,
		},
		good: map[string]string{
			"actors/container/a_test.go": `package container; import _ "` + module + `/dockerio/sim"`,
			"actors/container/a.go":      `package container; import _ "` + module + `/dockerio"`,
		},
	},
	{
		name:   "actors import nothing above them",
		reason: "imports point down only: the supervisor puts the tree together, an actor does not know who started it",
		check:  noImports(code("actors"), func(p string) bool { return in(ours(p), "supervisor", "cmd", "tests") }),
		bad:    map[string]string{"actors/app/a.go": `package app; import _ "` + module + `/supervisor"`},
		good:   map[string]string{"actors/app/a.go": `package app; import _ "` + module + `/actors/kit"`},
	},
	{
		name:   "the supervisor does not import cmd",
		reason: "imports point down only: an embedder has a supervisor without a command line",
		check:  noImports(outside("cmd", "tests"), func(p string) bool { return in(ours(p), "cmd") }),
		bad:    map[string]string{"supervisor/a.go": `package supervisor; import _ "` + module + `/cmd/rdd/output"`},
		good:   map[string]string{"cmd/rdd/a.go": `package main; import _ "` + module + `/cmd/rdd/output"`},
	},
	{
		name:   "no code of the product imports tests",
		reason: "the harness writes to the terminal, starts daemons and may change at any time; only tests may lean on it",
		check: noImports(func(s *source) bool { return !s.test && !in(s.dir, "tests") },
			func(p string) bool { return in(ours(p), "tests") }),
		bad:  map[string]string{"dockerio/moby/a.go": `package moby; import _ "` + module + `/tests/enginetest"`},
		good: map[string]string{"dockerio/moby/a_test.go": `package moby; import _ "` + module + `/tests/enginetest"`},
	},
	{
		name: "only the supervisor imports adapters",
		reason: "the choice of VM and engine is made in one place; a second place that names an adapter is a second place to forget when " +
			"one is added",
		check: noImports(func(s *source) bool { return !s.test && !in(s.dir, "supervisor", "tests") && !isAdapter(s.dir) },
			func(p string) bool { return isAdapter(ours(p)) }),
		bad: map[string]string{"cmd/rdd/a.go": `package main; import _ "` + module + `/dockerio/moby"`},
		good: map[string]string{
			"supervisor/a.go":        `package supervisor; import _ "` + module + `/dockerio/moby"`,
			"dockerio/moby/a.go":     `package moby; import _ "` + module + `/dockerio/moby/wire"`,
			"cmd/rdd/script_test.go": `package main; import _ "` + module + `/dockerio/sim"`,
		},
	},
	{
		name: "only the supervisor imports protoactor's remote",
		reason: "anyone who reaches a remote port can stop any actor: the core must be unable to listen, and the edge must be one package " +
			"that can be audited and replaced",
		check: noImports(outside("supervisor", "tests"), under(remote, cluster)),
		bad: map[string]string{
			"actors/edge/a.go": `package edge; import _ "` + remote + `"`,
			"cmd/rdd/a.go":     `package main; import _ "` + remote + `"`,
		},
		good: map[string]string{"supervisor/edge/a.go": `package edge; import _ "` + remote + `"`},
	},
	{
		name:   "only cmd imports cobra and charmbracelet",
		reason: "an embedder must not get a command line or a terminal's colours with the library; libraries log to the *slog.Logger they are given",
		check:  noImports(outside("cmd"), under(cobra, charm)),
		bad: map[string]string{
			"supervisor/a.go": `package supervisor; import _ "` + cobra + `"`,
			"actors/a.go":     `package actors; import _ "` + charm + `/log"`,
		},
		good: map[string]string{"cmd/rdd/a.go": `package main; import ( _ "` + cobra + `"; _ "` + charm + `/log" )`},
	},
	{
		name:   "only dockerio/moby imports the Docker client",
		reason: "third-party types stop at the adapter: a new major version of the client must be a change of one package",
		check:  noImports(outside("dockerio/moby", "tests"), under(moby, oldDocker)),
		bad: map[string]string{
			"dockerio/a.go":     `package dockerio; import _ "` + moby + `/api/types/container"`,
			"dockerio/sim/a.go": `package sim; import _ "` + moby + `/client"`,
		},
		good: map[string]string{"dockerio/moby/a.go": `package moby; import _ "` + moby + `/client"`},
	},
	{
		name:   "only vmdriver/lima imports Lima",
		reason: "third-party types stop at the adapter, and Lima is the heaviest of them",
		check:  noImports(outside("vmdriver/lima", "tests"), under(lima)),
		bad:    map[string]string{"supervisor/a.go": `package supervisor; import _ "` + lima + `/pkg/store"`},
		good:   map[string]string{"vmdriver/lima/a.go": `package lima; import _ "` + lima + `/pkg/store"`},
	},
	{
		name: "one helper starts goroutines in actors",
		reason: "a goroutine without deadline, recover and report is how the old watcher died in silence; the helper in actors/kit/run.go " +
			"has all three",
		check: noNode(func(s *source) bool { return code("actors")(s) && s.path != "actors/kit/run.go" }, goStatement),
		bad: map[string]string{
			"actors/engine/a.go": `package engine; func f() { go f() }`,
			"actors/kit/a.go":    `package kit; func f() { func() { go f() }() }`,
		},
		good: map[string]string{
			"actors/kit/run.go":       `package kit; func f() { go f() }`,
			"actors/engine/a_test.go": `package engine; func f() { go f() }`,
		},
	},
	{
		name: "a state machine is pure",
		reason: "x_fsm.go decides, x.go acts: without clock, randomness, context, goroutine, PID or I/O a machine can be driven through " +
			"thousands of seeded schedules, and a failure is a seed",
		check: all(
			noUse(isFSM, "time", "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"),
			noImports(isFSM, under("context", "math/rand", "crypto/rand", proto, "os", "net", "syscall", "io", "log", "sync",
				"testing", "github.com/google/uuid")),
			noNode(isFSM, goStatement),
			noNode(isFSM, channelOperation),
		),
		bad: map[string]string{
			"actors/a/a_fsm.go": `package a; import "time"; var t = time.Now()`,
			"actors/a/b_fsm.go": `package a; import t "time"; var f = t.Since`,
			"actors/a/c_fsm.go": `package a; import . "time"; var f = Now`,
			"actors/a/d_fsm.go": `package a; import _ "context"`,
			"actors/a/e_fsm.go": `package a; import _ "math/rand/v2"`,
			"actors/a/f_fsm.go": `package a; import _ "` + proto + `/actor"`,
			"actors/a/g_fsm.go": `package a; func f() { go f() }`,
			"actors/a/h_fsm.go": `package a; func f(c any) { c <- 1 }`,
			"actors/a/i_fsm.go": `package a; func f(c any) any { return <-c }`,
			"actors/a/j_fsm.go": `package a; type s struct { c chan int }`,
			"actors/a/k_fsm.go": `package a; func f() { select {} }`,
			"actors/a/l_fsm.go": `package a; import _ "os/exec"`,
			"actors/a/m_fsm.go": `package a; import _ "log/slog"`,
		},
		good: map[string]string{
			"actors/a/a_fsm.go":      `package a; import "time"; const d = 2 * time.Second; type e struct { At time.Time }`,
			"actors/a/a_fsm_test.go": `package a; import "time"; var t = time.Now()`,
			"actors/a/b_fsm.go":      `package a; import _ "time"; func f() { var time struct { Now int }; _ = time.Now }`,
		},
	},
	{
		name: "actors do not use ReenterAfter, Result or SetReceiveTimeout",
		reason: "ReenterAfter runs with the old incarnation captured and without the receiver middleware; Result blocks the mailbox; " +
			"SetReceiveTimeout has a data race upstream. Results come as messages from the helper, timers are messages",
		check: all(
			noSelector(code("actors"), "ReenterAfter", "SetReceiveTimeout"),
			noNode(code("actors"), resultCall),
		),
		bad: map[string]string{
			"actors/a/a.go": `package a; func f(c, r any) { c.ReenterAfter(r, nil) }`,
			"actors/a/b.go": `package a; func f(c any) { c.RequestFuture(nil, nil, 0).Result() }`,
			"actors/a/c.go": `package a; func f(c any) { c.SetReceiveTimeout(1) }`,
		},
		good: map[string]string{
			"actors/a/a.go":      `package a; type s struct{ Result int }; func f(r s) any { return r.Result }`,
			"actors/a/a_test.go": `package a; func f(c any) { c.RequestFuture(nil, nil, 0).Result() }`,
		},
	},
	{
		name: "dockerio/moby does not read the host's clock",
		reason: "events are asked for and compared in the engine's time only; the host's clock is another one, and the old watcher lost " +
			"events by mixing them",
		check: noUse(code("dockerio/moby"), "time", "Now", "Since", "Until"),
		bad: map[string]string{
			"dockerio/moby/a.go": `package moby; import "time"; var since = time.Now().Unix()`,
			"dockerio/moby/b.go": `package moby; import "time"; func f(t time.Time) any { return time.Since(t) }`,
		},
		good: map[string]string{
			"dockerio/moby/a.go":      `package moby; import "time"; var t = time.NewTimer(time.Second)`,
			"dockerio/moby/a_test.go": `package moby; import "time"; var t = time.Now()`,
		},
	},
	{
		name: "libraries do not end the process, catch signals or write to the terminal",
		reason: "an embedder owns the process, its signals and its output; a library takes a *slog.Logger and a context, and returns " +
			"errors",
		check: all(
			noUse(library, "os", "Exit", "Stdin", "Stdout", "Stderr"),
			noUse(library, "os/signal", "*"),
			noUse(library, "fmt", "Print", "Printf", "Println"),
			noUse(library, "log", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Print", "Printf", "Println", "Default",
				"SetOutput", "Writer"),
			noUse(library, "log/slog", "Default", "SetDefault", "Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext",
				"Error", "ErrorContext", "Log", "LogAttrs", "With"),
			noNode(library, printCall),
		),
		bad: map[string]string{
			"supervisor/a.go":      `package supervisor; import "os"; func f() { os.Exit(1) }`,
			"supervisor/b.go":      `package supervisor; import "os/signal"; func f() { signal.Notify(nil) }`,
			"actors/a.go":          `package actors; import "fmt"; func f() { fmt.Println() }`,
			"actors/b.go":          `package actors; import "log"; func f() { log.Fatal() }`,
			"actors/c.go":          `package actors; import "log/slog"; func f() { slog.Info("x") }`,
			"actors/d.go":          `package actors; func f() { println() }`,
			"vmdriver/native/a.go": `package native; import "os"; var out = os.Stderr`,
			"messages/a.go":        `package messages; import . "fmt"; func f() { Println() }`,
		},
		good: map[string]string{
			"cmd/rdd/a.go":          `package main; import "os"; func main() { os.Exit(1) }`,
			"actors/a.go":           `package actors; import ("fmt"; "log/slog"); func f(l *slog.Logger) { l.Info(fmt.Sprint(1)) }`,
			"actors/b.go":           `package actors; import "log/slog"; var l = slog.New(slog.DiscardHandler)`,
			"tests/enginetest/a.go": `package enginetest; import "os"; var out = os.Stderr`,
		},
	},
	{
		name:   "files lie in the folders of the design",
		reason: "the top level is the map of the house; a new folder there is a decision of the design, not of a change",
		check: func(s *source) []string {
			top, _, below := strings.Cut(s.path, "/")
			if below && slices.Contains(topFolders, top) {
				return nil
			}
			return []string{s.path + ": Go code belongs into one of " + strings.Join(topFolders, " ")}
		},
		bad:  map[string]string{"main.go": `package main`, "internal/util/a.go": `package util`},
		good: map[string]string{"cmd/rdd/main.go": `package main`},
	},
}

// topFolders and topFiles are all that may stand at the top of the repository.
var (
	topFolders = []string{"cmd", "actors", "messages", "supervisor", "vmdriver", "dockerio", "tests", "docs", ".ci"}
	topFiles   = []string{"README.md", "LICENSE", "go.mod", "go.sum", "Makefile", "staticcheck.conf", ".gitignore"}
)

func TestArchRules(t *testing.T) {
	sources := repository(t)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			var found []string
			for _, s := range sources {
				found = append(found, r.check(s)...)
			}
			if len(found) > 0 {
				t.Errorf("%s\n\nwhy: %s", strings.Join(found, "\n"), r.reason)
			}
		})
	}
}

// TestArchRulesCanFail holds each rule against code that breaks it, file by file, and against code that keeps it.
func TestArchRulesCanFail(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			require.NotEmpty(t, r.reason)
			require.NotEmpty(t, r.bad)
			require.NotEmpty(t, r.good)
			for p, content := range r.bad {
				require.NotEmpty(t, r.check(parse(t, p, content)), "%s:\n%s", p, content)
			}
			for p, content := range r.good {
				require.Empty(t, r.check(parse(t, p, content)), "%s:\n%s", p, content)
			}
		})
	}
}

// TestArchTopLevel holds the list of what stands at the top: what git knows or would add; everything, without git.
func TestArchTopLevel(t *testing.T) {
	var names []string
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	list.Dir = top(t)
	if out, err := list.Output(); err == nil {
		for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			if _, err := os.Lstat(filepath.Join(list.Dir, name)); err == nil { // not one that is just being deleted
				names = append(names, name)
			}
		}
	} else {
		entries, err := os.ReadDir(list.Dir)
		require.NoError(t, err)
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() {
				name += "/"
			}
			if name != ".git/" && name != "bin/" {
				names = append(names, name)
			}
		}
	}
	require.NotEmpty(t, names)
	require.Empty(t, strangers(names), "the top level is the map of the house (README, docs, Makefile and the folders of the design)")
}

func TestArchTopLevelCanFail(t *testing.T) {
	require.Empty(t, strangers([]string{"README.md", "cmd/rdd/main.go", ".ci/run", "go.mod"}))
	require.Equal(t, []string{"NOTES.md", "cmd", "pkg/"}, strangers([]string{"NOTES.md", "cmd", "pkg/a.go", "pkg/b.go"}))
}

// strangers picks from paths the top folders ("pkg/") and files that do not belong there.
func strangers(paths []string) []string {
	var found []string
	for _, p := range paths {
		name, _, folder := strings.Cut(p, "/")
		switch {
		case folder && !slices.Contains(topFolders, name):
			found = append(found, name+"/")
		case !folder && !slices.Contains(topFiles, name):
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// weight is a rule about everything a package is linked with, not only about what it names.
type weight struct {
	dirs      []string
	forbidden []string
	reason    string
}

var weights = []weight{
	{[]string{"messages"}, []string{proto, cobra, charm, moby, oldDocker, lima},
		"an embedder that only reads resources must not compile an actor library, a command line or an engine client"},
	{[]string{"vmdriver", "dockerio"}, []string{proto, cobra, charm, moby, oldDocker, lima},
		"a port is interfaces, values and errors; what is behind them stays behind them"},
	{[]string{"actors"}, []string{remote, cluster, cobra, charm, moby, oldDocker, lima},
		"actors run unchanged on every engine and in every process; they cannot listen, and know no engine client"},
}

// pkg is what `go list -deps -json` tells.
type pkg struct {
	ImportPath string
	Deps       []string
}

// check returns the packages that break the rule.
func (w weight) check(packages []pkg) []string {
	var found []string
	for _, p := range packages {
		dir := ours(p.ImportPath)
		if dir == "" || isAdapter(dir) || !in(dir, w.dirs...) {
			continue
		}
		for _, d := range p.Deps {
			if in(d, w.forbidden...) {
				found = append(found, p.ImportPath+" is linked with "+d)
			}
		}
	}
	return found
}

func TestArchWeights(t *testing.T) {
	list := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Deps", "./...")
	list.Dir = top(t)
	var stderr strings.Builder
	list.Stderr = &stderr
	out, err := list.Output()
	require.NoError(t, err, stderr.String())
	var packages []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
	require.True(t, slices.ContainsFunc(packages, func(p pkg) bool { return ours(p.ImportPath) == "messages" }))
	for _, w := range weights {
		if found := w.check(packages); len(found) > 0 {
			t.Errorf("%s\n\nwhy: %s", strings.Join(found, "\n"), w.reason)
		}
	}
}

func TestArchWeightsCanFail(t *testing.T) {
	for _, w := range weights {
		for _, dir := range w.dirs {
			for _, f := range w.forbidden {
				require.NotEmpty(t, w.check([]pkg{{module + "/" + dir, []string{"fmt", f + "/below"}}}), "%s %s", dir, f)
				require.Empty(t, w.check([]pkg{{module + "/" + dir, []string{"fmt", f + "-other"}}, {"x/" + dir, []string{f}}}))
			}
		}
	}
	require.Empty(t, weights[1].check([]pkg{{module + "/dockerio/moby", []string{moby + "/client"}}}))
}

// top is the folder of go.mod.
func top(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "go.mod"))
	return dir
}

// repository parses all Go files of the repository.
func repository(t testing.TB) []*source {
	t.Helper()
	root := top(t)
	var sources []*source
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			// What the go command ignores too, and what make builds.
			if file != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") ||
				file == filepath.Join(root, "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") && !strings.HasPrefix(name, "_") && !strings.HasPrefix(name, ".") {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			sources = append(sources, parse(t, filepath.ToSlash(relative), string(content)))
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	return sources
}

func parse(t testing.TB, file, content string) *source {
	t.Helper()
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, content, parser.ParseComments)
	require.NoError(t, err)
	s := &source{path: file, dir: path.Dir(file), test: strings.HasSuffix(file, "_test.go"), fset: fset, file: parsed}
	for _, spec := range parsed.Imports {
		importPath, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		i := imported{path: importPath, name: packageName(importPath), pos: spec.Pos()}
		if spec.Name != nil {
			i.name = spec.Name.Name
		}
		s.imports = append(s.imports, i)
	}
	return s
}

// packageName guesses the name of a package from its path.
func packageName(importPath string) string {
	elements := strings.Split(importPath, "/")
	last := elements[len(elements)-1]
	if v, ok := strings.CutPrefix(last, "v"); ok && len(elements) > 1 {
		if _, err := strconv.Atoi(v); err == nil {
			last = elements[len(elements)-2]
		}
	}
	last, _, _ = strings.Cut(last, ".")
	return strings.TrimPrefix(last, "go-")
}
