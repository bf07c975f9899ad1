package tests

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

// symbols are the names one package declares: "T", "F", and for methods and fields "T.M".
type symbols map[string]bool

// world knows the declared names of our packages from their source, for all systems, and of all others from their types.
type world struct {
	ours  map[string]symbols // by folder
	types map[string]*types.Package
}

// declare adds what a file declares.
func (s symbols) declare(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				s[d.Name.Name] = true
			} else if receiver := baseName(d.Recv.List[0].Type); receiver != "" {
				s[receiver+"."+d.Name.Name] = true
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, n := range spec.Names {
						s[n.Name] = true
					}
				case *ast.TypeSpec:
					s[spec.Name.Name] = true
					switch t := spec.Type.(type) {
					case *ast.StructType:
						s.members(spec.Name.Name, t.Fields)
					case *ast.InterfaceType:
						s.members(spec.Name.Name, t.Methods)
					}
				}
			}
		}
	}
}

func (s symbols) members(typeName string, list *ast.FieldList) {
	for _, f := range list.List {
		for _, n := range f.Names {
			s[typeName+"."+n.Name] = true
		}
		if len(f.Names) == 0 {
			s[typeName+"."+baseName(f.Type)] = true
		}
	}
}

// baseName is the name of a type in an expression like *T, T[K] or p.T.
func baseName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return baseName(e.X)
	case *ast.IndexExpr:
		return baseName(e.X)
	case *ast.IndexListExpr:
		return baseName(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// has tells whether a package declares a name; "" is the package itself.
func (w world) has(importPath, name string) bool {
	if dir := ours(importPath); dir != "" {
		if s, ok := w.ours[dir]; ok && (name == "" || s[name]) {
			return true
		}
	}
	p, ok := w.types[importPath]
	if !ok || name == "" {
		return ok
	}
	first, member, isMember := strings.Cut(name, ".")
	object := p.Scope().Lookup(first)
	if object == nil || !isMember {
		return object != nil
	}
	found, _, _ := types.LookupFieldOrMethod(object.Type(), true, p, member)
	return found != nil
}

// comments calls visit with each doc comment of a file: of the package, of each declaration, field and method.
func comments(f *ast.File, visit func(*ast.CommentGroup)) {
	group := func(g *ast.CommentGroup) {
		if g != nil {
			visit(g)
		}
	}
	group(f.Doc)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			group(n.Doc)
			return false // comments in a body are not documentation
		case *ast.GenDecl:
			group(n.Doc)
		case *ast.TypeSpec:
			group(n.Doc)
		case *ast.ValueSpec:
			group(n.Doc)
		case *ast.Field:
			group(n.Doc)
		}
		return true
	})
}

// staleLinks returns the links in the doc comments of a file that lead nowhere.
func (w world) staleLinks(s *source) []string {
	var found []string
	comments(s.file, func(g *ast.CommentGroup) {
		docLinks(g, func(l *comment.DocLink) {
			if reason := w.stale(s, l); reason != "" {
				found = append(found, s.at(g.Pos(), "%s", reason))
			}
		})
	})
	return found
}

// stale tells what is wrong with a link; "" = nothing. In it, ImportPath is what stands before the first dot of the link.
func (w world) stale(s *source, l *comment.DocLink) string {
	name := l.Name
	if l.Recv != "" {
		name = l.Recv + "." + l.Name
	}
	here := module + "/" + s.dir
	if l.ImportPath == "" {
		if !w.has(here, name) {
			return fmt.Sprintf("[%s]: this package has no such name", name)
		}
		return ""
	}
	target, known := w.resolve(s, l.ImportPath)
	switch {
	case name == "" && !known:
		// A word in brackets, unless it is a path of ours.
		if ours(l.ImportPath) != "" {
			return fmt.Sprintf("[%s]: there is no such package", l.ImportPath)
		}
		return ""
	case !known:
		return fmt.Sprintf("[%s.%s]: %q is neither imported here nor a package of the standard library", l.ImportPath, name, l.ImportPath)
	case !w.has(target, name):
		return fmt.Sprintf("[%s.%s]: %s has no such name", l.ImportPath, name, target)
	}
	return ""
}

// resolve finds the package that a name or path in a link means, as the documentation tools do: the file's imports, the package
// itself, the standard library, or a full path.
func (w world) resolve(s *source, name string) (importPath string, ok bool) {
	for _, i := range s.imports {
		p, loaded := w.types[i.path]
		if i.name == name || i.path == name || loaded && p.Name() == name && i.name != "_" && i.name == packageName(i.path) {
			return i.path, true
		}
	}
	if s.file.Name.Name == name {
		return module + "/" + s.dir, true
	}
	if w.has(name, "") {
		return name, true
	}
	if p, ok := comment.DefaultLookupPackage(name); ok {
		return p, w.has(p, "")
	}
	return "", false
}

// packageForm is what can stand before the name in a link; the parser is less strict.
var packageForm = regexp.MustCompile(`^([A-Za-z_][\w.~-]*(/[\w.~-]+)*)?$`)

// docLinks calls visit with all that has the form of a link in a doc comment: the parser is told that everything exists.
func docLinks(g *ast.CommentGroup, visit func(*comment.DocLink)) {
	parser := comment.Parser{
		LookupPackage: func(name string) (string, bool) { return name, true },
		LookupSym:     func(string, string) bool { return true },
	}
	walkLinks(parser.Parse(g.Text()), func(l *comment.DocLink) {
		if packageForm.MatchString(l.ImportPath) {
			visit(l)
		}
	})
}

// walkLinks walks through a parsed comment.
func walkLinks(d *comment.Doc, visit func(*comment.DocLink)) {
	var text func([]comment.Text)
	var blocks func([]comment.Block)
	text = func(ts []comment.Text) {
		for _, t := range ts {
			switch t := t.(type) {
			case *comment.DocLink:
				visit(t)
			case *comment.Link:
				text(t.Text)
			}
		}
	}
	blocks = func(bs []comment.Block) {
		for _, b := range bs {
			switch b := b.(type) {
			case *comment.Paragraph:
				text(b.Text)
			case *comment.Heading:
				text(b.Text)
			case *comment.List:
				for _, i := range b.Items {
					blocks(i.Content)
				}
			}
		}
	}
	blocks(d.Content)
}

// loadWorld collects the names of our packages from their source, and the types of everything they import.
func loadWorld(t testing.TB, sources []*source) world {
	t.Helper()
	w := world{ours: map[string]symbols{}, types: map[string]*types.Package{}}
	others := map[string]bool{}
	for _, s := range sources {
		if s.test {
			continue
		}
		if w.ours[s.dir] == nil {
			w.ours[s.dir] = symbols{}
		}
		w.ours[s.dir].declare(s.file)
		for _, i := range s.imports {
			if ours(i.path) == "" && i.path != "C" {
				others[i.path] = true
			}
		}
	}
	for _, s := range sources {
		// A link may name a package of the standard library that is not imported.
		comments(s.file, func(g *ast.CommentGroup) {
			docLinks(g, func(l *comment.DocLink) {
				if p, ok := comment.DefaultLookupPackage(l.ImportPath); ok {
					others[p] = true
				} else if strings.Contains(l.ImportPath, "/") && ours(l.ImportPath) == "" {
					others[l.ImportPath] = true
				}
			})
		})
	}
	patterns := []string{}
	for p := range others {
		patterns = append(patterns, p)
	}
	for dir := range w.ours {
		patterns = append(patterns, module+"/"+dir)
	}
	slices.Sort(patterns)
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.LoadTypes, // from export data
		Dir:  top(t),
	}, patterns...)
	require.NoError(t, err)
	for _, p := range loaded {
		if p.Types != nil && p.Types.Complete() {
			w.types[p.PkgPath] = p.Types
		}
	}
	return w
}

func TestDocLinks(t *testing.T) {
	sources := repository(t)
	w := loadWorld(t, sources)
	for _, s := range sources {
		if !s.test {
			for _, stale := range w.staleLinks(s) {
				t.Error(stale)
			}
		}
	}
}

// TestDocLinksCanFail holds the check against links that lead nowhere, and such that do.
func TestDocLinksCanFail(t *testing.T) {
	const declarations = `
import (
	"context"
	c2 "errors"
	"go/doc"
)

type T struct {
	// Field is one; see [T.Other] and [T.NoField].
	Field int
	context.Context
	Other c2.X
}

func (t *T) Method() {}

// I has a method: [I.Do], not [I.Undo].
type I interface{ Do() }

func F[K any]() {
	// In a body [Nothing] is checked.
}

type G[K any] struct{}

func (G[K]) M() {}

const C = 1
`
	const text = `// Package p has links to [T], [*T], [T.Method], [T.Field], [T.Context], [F], [G.M], [C], [I] and [p.T]; to [context.Context],
// [context.Context.Done], [c2.New], [doc.Package.Filter], [io.EOF], [encoding/json.Marshal], [encoding/json] and [messages].
//
//   - in a list [Missing1]
//
// # A heading
//
// [Missing2] [T.Missing3] [context.Missing4] [context.Context.Missing5] [unknown.Missing6] [io.Missing7] [F.Missing8]
// ["` + module + `/missing9"] [` + module + `/missing9] [not a link] a[T] [x] [0..N] [ok/ko]
//
//	code with [Missing10]
package p
`
	s := parse(t, "p/p.go", text+declarations)
	w := loadWorld(t, []*source{s})
	var names []string
	link := regexp.MustCompile(`\[([^\]]+)\]`)
	for _, f := range w.staleLinks(s) {
		names = append(names, link.FindStringSubmatch(f)[1])
	}
	require.Equal(t, []string{
		"Missing1", "Missing2", "T.Missing3", "context.Missing4", "context.Context.Missing5", "unknown.Missing6", "io.Missing7", "F.Missing8",
		module + "/missing9", "T.NoField", "I.Undo",
	}, names)
}

// Links and paths in the written documentation.

var (
	inlineLink    = regexp.MustCompile(`!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)`)
	referenceLink = regexp.MustCompile(`(?m)^\s{0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)`)
	codeSpan      = regexp.MustCompile("`([^`\n]+)`")
	repoPath      = regexp.MustCompile(`^(?:\./)?(?:` + strings.Join(topFolders, "|") + `)/[\w./*-]*$`)
	schemed       = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)
	heading       = regexp.MustCompile(`^\s{0,3}#{1,6}\s+(.*?)\s*#*\s*$`)
	anchorTag     = regexp.MustCompile(`<a\s+(?:id|name)="([^"]+)"`)
)

// withoutFences blanks the fenced code blocks of a page: what looks like a link or a heading in them is none.
func withoutFences(page string) string {
	fence := ""
	lines := strings.Split(page, "\n")
	for i, l := range lines {
		trimmed := strings.TrimSpace(l)
		mark := ""
		if len(trimmed) >= 3 && (strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~")) {
			mark = trimmed[:3]
		}
		switch {
		case fence == "" && mark != "":
			fence = mark
		case fence != "":
			if mark == fence {
				fence = ""
			}
		default:
			continue
		}
		lines[i] = ""
	}
	return strings.Join(lines, "\n")
}

// anchors are the places in a page one can link to, as GitHub names them.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for line := range strings.Lines(withoutFences(page)) {
		for _, m := range anchorTag.FindAllStringSubmatch(line, -1) {
			found[m[1]] = true
		}
		m := heading.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		title := inlineLink.ReplaceAllStringFunc(m[1], func(l string) string {
			return l[strings.Index(l, "[")+1 : strings.Index(l, "]")]
		})
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		unique := slug
		for n := 1; found[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", slug, n)
		}
		found[unique] = true
	}
	return found
}

// stalePaths returns the links and paths in a page that lead nowhere. read returns the content of a file of the repository, and
// whether a path (a file, a folder, a pattern) exists.
func stalePaths(name, page string, read func(string) (content string, exists bool)) []string {
	var found []string
	text := withoutFences(page)
	prose := codeSpan.ReplaceAllString(text, "")
	var targets []string
	for _, pattern := range []*regexp.Regexp{inlineLink, referenceLink} {
		for _, m := range pattern.FindAllStringSubmatch(prose, -1) {
			targets = append(targets, m[1])
		}
	}
	for _, target := range targets {
		if schemed.MatchString(target) || strings.HasPrefix(target, "//") {
			continue
		}
		file, anchor, hasAnchor := strings.Cut(target, "#")
		content, where := page, name
		if file != "" {
			where = path.Join(path.Dir(name), file)
			if strings.HasPrefix(file, "/") {
				where = strings.TrimPrefix(path.Clean(file), "/")
			}
			exists := false
			if content, exists = read(where); !exists {
				found = append(found, fmt.Sprintf("%s: link to %s: there is no %s", name, target, where))
				continue
			}
		}
		if hasAnchor && strings.HasSuffix(where, ".md") && !anchors(content)[anchor] {
			found = append(found, fmt.Sprintf("%s: link to %s: %s has no heading for #%s", name, target, where, anchor))
		}
	}
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		span := strings.TrimSuffix(m[1], "/...")
		if !repoPath.MatchString(span) {
			continue
		}
		if _, exists := read(path.Clean(span)); !exists {
			found = append(found, fmt.Sprintf("%s: `%s`: there is no such path", name, m[1]))
		}
	}
	return found
}

func TestDocLinksOfPages(t *testing.T) {
	root := top(t)
	pages, err := filepath.Glob(filepath.Join(root, "*.md"))
	require.NoError(t, err)
	_ = filepath.WalkDir(filepath.Join(root, "docs"), func(file string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(file, ".md") {
			pages = append(pages, file)
		}
		return nil
	})
	read := func(name string) (string, bool) {
		matches, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil || len(matches) == 0 {
			return "", false
		}
		content, _ := os.ReadFile(matches[0]) // of a folder: nothing
		return string(content), true
	}
	for _, file := range pages {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		name, err := filepath.Rel(root, file)
		require.NoError(t, err)
		for _, stale := range stalePaths(filepath.ToSlash(name), string(content), read) {
			t.Error(stale)
		}
	}
}

func TestDocLinksOfPagesCanFail(t *testing.T) {
	files := map[string]string{
		"README.md":          "# The `rdd` page, again!\n",
		"docs/use.md":        "# Use\n## Use\n<a id=\"mark\"></a>\n```\n# not a heading\n```\n",
		"supervisor/tree.go": "", "supervisor": "", "docs": "", "LICENSE": "",
	}
	read := func(name string) (string, bool) { content, ok := files[name]; return content, ok }
	good := "# Title\n[a](../README.md) [b](use.md#use-1) [c](use.md#mark 'x') [d](#title) [e](https://x/y) [f](mailto:a@b) [g](/LICENSE)\n" +
		"[h](../README.md#the-rdd-page-again) `supervisor/tree.go` `supervisor/...` `./docs` `docker ps` `[x](nothing)` `cmd` \n" +
		"[ref]: ../LICENSE\n```\n[x](nothing)\n`docs/nothing`\n```\n"
	require.Empty(t, stalePaths("docs/page.md", good, read))
	bad := "[a](README.md) [b](use.md#nothing) [c](#nothing) [d](use.md#not-a-heading) `supervisor/trees.go`\n[ref]: gone.md\n"
	require.Len(t, stalePaths("docs/page.md", bad, read), 6)
}
