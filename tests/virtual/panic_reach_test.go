package virtual

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/control"
)

const (
	oneContainer = control.Containers + ofAnObject
	oneImage     = control.Images + ofAnObject
	oneVolume    = control.Volumes + ofAnObject
)

// rolesOf says which actors have the code of a type: its Receive, or what their Receive hands messages on to.
var rolesOf = map[string][]string{
	"app.root":          {control.Root},
	"app.appActor":      {control.App},
	"engine.watcher":    {control.Engine},
	"engine.session":    {control.Session},
	"journal.journal":   {control.Journal},
	"mirror.family":     {control.Containers, control.Images, control.Volumes},
	"mirror.userIndex":  {control.Containers},
	"mirror.tagHandout": {control.Images},
	"mirror.object":     {oneContainer, oneVolume},
	"mirror.image":      {oneImage},
	"mirror.will":       {oneContainer},
	"mirror.skeleton":   {control.Containers + aSkeleton, control.Images + aSkeleton, control.Volumes + aSkeleton},
	"mirror.owner":      {oneContainer, oneImage, oneVolume},
	"mirror.namespace":  {control.Moby},
	"mirror.namespaces": {control.Namespaces},
	"store.store":       {control.Store},
	"vm.vmActor":        {control.VM},
}

// unreached are messages and effects that no story has, each with its reason.
var unreached = map[string]string{
	control.Containers + " mirror.relist":    "only an image's owner asks for a list",
	control.Volumes + " mirror.relist":       "only an image's owner asks for a list",
	control.Images + " mirror.healed":        "images are compared by their list, without a word of an owner",
	control.Containers + " mirror.usersLost": "it keeps the index, the others are told",
	oneVolume + " mirror.settleDue":          "volumes do not die",
	oneContainer + " #fence":                 "it only waits for its turn: nothing is done in it that could panic",
	oneImage + " mirror.creditBack":          "an image is inspected after lists, which come no faster than credit does",
	oneVolume + " mirror.Act":                "only a container is asked to act",
	control.Images + " mirror.Act":           "only a container is asked to act",
	control.Volumes + " mirror.Act":          "only a container is asked to act",
	control.Journal + " journal.probeDue":    "it is in memory here, and its disk is never full: that is tested beside it",
	control.Journal + " journal.Committed":   "the answer to its own probe of a full disk",
}

// code is what the actors' sources say that they accept and do, by the type whose code it is.
type code struct{ messages, effects map[string]map[string]bool }

func note(m map[string]map[string]bool, who, what string) {
	if m[who] == nil {
		m[who] = map[string]bool{}
	}
	m[who][what] = true
}

// readActors takes every switch over the type of a parameter msg for what is accepted, and every literal name of work for an effect.
func readActors(t *testing.T) code {
	c := code{map[string]map[string]bool{}, map[string]map[string]bool{}}
	err := filepath.WalkDir("../../actors", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil || file.Name.Name == "kit" || file.Name.Name == "calls" { // the machinery, not actors
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Body != nil {
				c.read(file.Name.Name, f)
			}
		}
		return nil
	})
	require.NoError(t, err)
	return c
}

func (c *code) read(pkg string, f *ast.FuncDecl) {
	who := pkg + "." + strings.TrimPrefix(typeName("", f.Recv.List[0].Type), "*")
	if f.Name.Name == "Receive" && c.messages[who] == nil {
		c.messages[who] = map[string]bool{} // accepts nothing, perhaps
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSwitchStmt:
			if switchedOn(n) != "msg" {
				break
			}
			for _, clause := range n.Body.List {
				for _, e := range clause.(*ast.CaseClause).List {
					note(c.messages, who, typeName(pkg+".", e))
				}
			}
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Run", "RunTelling", "RunDetached", "call"}, sel.Sel.Name) {
				for _, arg := range n.Args[:min(2, len(n.Args))] {
					c.effect(who, arg)
				}
			}
		case *ast.CompositeLit:
			if n.Type != nil && typeName("", n.Type) == "calls.Call" {
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok && typeName("", kv.Key) == "Name" {
						c.effect(who, kv.Value)
					}
				}
			}
		}
		return true
	})
}

func (c *code) effect(who string, e ast.Expr) {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		name, _ := strconv.Unquote(lit.Value) // the parser has read it
		note(c.effects, who, "#"+name)
	}
}

// switchedOn is the variable whose type is asked for.
func switchedOn(s *ast.TypeSwitchStmt) string {
	var x ast.Expr
	switch a := s.Assign.(type) {
	case *ast.AssignStmt:
		x = a.Rhs[0].(*ast.TypeAssertExpr).X
	case *ast.ExprStmt:
		x = a.X.(*ast.TypeAssertExpr).X
	}
	return typeName("", x)
}

// typeName writes a type as %T does; local is put before names of the package itself.
func typeName(local string, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return local + e.Name
	case *ast.StarExpr:
		return "*" + typeName(local, e.X)
	case *ast.SelectorExpr:
		return typeName("", e.X) + "." + e.Sel.Name
	}
	return ""
}

func Test_F51_TheStoriesHaveEveryMessageAndEffectThereIs(t *testing.T) {
	reached := map[string]bool{}
	for _, sc := range scenarios() {
		t.Run(sc.title, func(t *testing.T) {
			seen := play(t, sc, occasion{step: -1}).seen
			for o := range seen {
				reached[o.who+" "+o.what] = true
			}
		})
	}
	c := readActors(t)
	used := map[string]bool{}
	for _, have := range []map[string]map[string]bool{c.messages, c.effects} {
		for _, who := range slices.Sorted(maps.Keys(have)) {
			roles := rolesOf[who]
			if len(roles) == 0 {
				t.Errorf("%s gets messages or does work, and rolesOf does not say for which actors", who)
			}
			for _, role := range roles {
				for what := range have[who] {
					key := role + " " + what
					switch _, excepted := unreached[key]; {
					case excepted && reached[key]:
						t.Errorf("%s is excepted, and a story has it", key)
					case excepted:
						used[key] = true
					case !reached[key]:
						t.Errorf("no story has %s", key)
					}
				}
			}
		}
	}
	for key := range unreached {
		if !used[key] {
			t.Errorf("%s is excepted, and there is no such thing", key)
		}
	}
	for who := range rolesOf {
		if c.messages[who] == nil && c.effects[who] == nil {
			t.Errorf("%s is in rolesOf, and there is no such thing", who)
		}
	}
}
