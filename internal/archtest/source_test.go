package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// modulePath is this module's import path.
const modulePath = "github.com/holdfast-backup/holdfast"

// root is the folder of the module, seen from this package.
const root = "../.."

// goPackage is a folder with Go files. Its path is relative to the module; the root package's is ".".
type goPackage struct {
	path  string
	files []goFile
}

// testsAlone reports whether all files of the package are tests.
func (p goPackage) testsAlone() bool {
	return !slices.ContainsFunc(p.files, func(f goFile) bool { return !f.test })
}

// goFile is one parsed file.
type goFile struct {
	name    string // relative to the module, with slashes
	test    bool
	syntax  *ast.File
	imports []goImport

	sourceLines int // lines that are neither blank nor comment alone
}

// goImport is an import with its place.
type goImport struct {
	path string
	line int
}

// tree is the module's source, parsed once for all tests. The set of files is read whatever their build tags say.
type tree struct {
	files    *token.FileSet
	packages []goPackage
}

// load parses the module; it is called once per test binary.
var load = sync.OnceValues(func() (*tree, error) {
	t := &tree{files: token.NewFileSet()}
	byPath := make(map[string]*goPackage)
	err := eachFile(func(name string) error {
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		f, err := t.parse(name, text)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(name))
		if byPath[folder] == nil {
			byPath[folder] = &goPackage{path: folder}
		}
		byPath[folder].files = append(byPath[folder].files, f)
		return nil
	})
	for _, p := range byPath {
		t.packages = append(t.packages, *p)
	}
	slices.SortFunc(t.packages, func(a, b goPackage) int { return strings.Compare(a.path, b.path) })
	return t, err
})

func (t *tree) parse(name string, text []byte) (goFile, error) {
	syntax, err := parser.ParseFile(t.files, filepath.Join(root, name), text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return goFile{}, err
	}
	f := goFile{name: name, test: strings.HasSuffix(name, "_test.go"), syntax: syntax}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			f.sourceLines++
		}
	}
	for _, spec := range syntax.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return goFile{}, err
		}
		f.imports = append(f.imports, goImport{path: path, line: t.files.Position(spec.Pos()).Line})
	}
	return f, nil
}

// source returns the parsed module.
func source(t *testing.T) *tree {
	t.Helper()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(all.packages) < 10 {
		t.Fatalf("only %d packages were found: the module is not where this test looks for it", len(all.packages))
	}
	return all
}

// eachFile calls visit for every file of the project, with its name relative to the module. Folders that belong to the
// version control, to npm, or that are not part of the project are left out, and so are modules of their own but for their
// text.
func eachFile(visit func(name string) error) error {
	skipped := []string{".git", "node_modules", "bin"}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) { // a test of another package removed its file meanwhile
				return nil
			}
			return err
		}
		if entry.IsDir() && slices.Contains(skipped, entry.Name()) {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return visit(filepath.ToSlash(name))
	})
}

// position returns FILE:LINE of a node, relative to the module.
func (t *tree) position(at token.Pos) string {
	p := t.files.Position(at)
	name, err := filepath.Rel(root, p.Filename)
	if err != nil {
		name = p.Filename
	}
	return filepath.ToSlash(name) + ":" + strconv.Itoa(p.Line)
}

// local returns an import path of this module relative to it ("." for the root package), or false for a foreign one.
func local(path string) (string, bool) {
	if path == modulePath {
		return ".", true
	}
	return strings.CutPrefix(path, modulePath+"/")
}

// under reports whether a package is the folder or lies below it.
func under(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// command reports whether a package is a program, or a tool of the project.
func command(path string) bool {
	return under(path, "cmd") || under(path, "scripts") || under(path, "bench")
}

// testSupport reports whether a package exists for tests: its last element ends in "test".
func testSupport(path string) bool { return strings.HasSuffix(path, "test") }
