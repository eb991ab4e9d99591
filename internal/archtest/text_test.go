package archtest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// textBytesMax is the largest file that is looked at as text; what is larger is data.
const textBytesMax = 2 << 20

// TestFilesNameNoMachine proves that no file holds a folder of somebody's machine or the address of a package registry:
// what is built here is built anywhere.
func TestFilesNameNoMachine(t *testing.T) {
	patterns := map[string]*regexp.Regexp{
		"a home folder":          regexp.MustCompile(`(^|[^\w.~/-])/(root|home/[a-z][\w-]*|Users/[A-Za-z][\w-]*)/[\w.]`),
		"a folder of a checkout": regexp.MustCompile(`(^|[^\w.~/-])/(work` + `|farm|workspace|builds)/[\w.]`),
		"a drive of Windows":     regexp.MustCompile(`\b[C-Z]:\\` + `Users\\`),
		"a package registry": regexp.MustCompile(`(registry\.` + `npmjs|proxy\.` + `golang|sum\.` + `golang|deb\.` + `debian|pypi\.` + `org|pythonhosted\.` +
			`org|crates\.` + `io|registry\.` + `yarnpkg)`),
		"a resolved address of npm": regexp.MustCompile(`"resolved":\s*"` + `http`),
	}
	eachText(t, func(name string, text []byte) {
		for n, line := range bytes.Split(text, []byte("\n")) {
			for what, pattern := range patterns {
				if found := pattern.Find(line); found != nil {
					t.Errorf("%s:%d names %s: %s", name, n+1, what, found)
				}
			}
		}
	})
}

// TestFilesAreFinished proves that no file carries a mark of unfinished work or of a merge.
func TestFilesAreFinished(t *testing.T) {
	unfinished := regexp.MustCompile(`(^|[^.\w])(TO` + `DO|FIX` + `ME|X` + `XX)\b|^(<{7}|>{7}) `)
	issue := regexp.MustCompile(`\(#\d+\)`) // a mark with an issue's number is a plan, not a gap
	eachText(t, func(name string, text []byte) {
		for n, line := range bytes.Split(text, []byte("\n")) {
			if found := unfinished.Find(line); found != nil && !issue.Match(line) && !strings.HasSuffix(name, ".sum") {
				t.Errorf("%s:%d: %s without the number of an issue", name, n+1, found)
			}
		}
	})
}

// eachText calls visit for every text file of the project; lists that tools write are left out.
func eachText(t *testing.T, visit func(name string, text []byte)) {
	t.Helper()
	visited := 0
	err := eachFile(func(name string) error {
		text, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			return nil // a test of another package removed its file meanwhile
		}
		if err != nil || len(text) > textBytesMax || bytes.IndexByte(text[:min(len(text), 4096)], 0) >= 0 {
			return err
		}
		visited++
		visit(name, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if visited < 100 {
		t.Fatalf("only %d text files were found", visited)
	}
}

// requirement is a line of go.mod.
type requirement struct {
	module   string
	indirect bool
}

// requirements reads a go.mod: its required modules and its tools.
func requirements(t *testing.T, name string) (required []requirement, tools []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	block := ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == ")":
			block = ""
		case len(words) == 2 && words[1] == "(":
			block = words[0]
		case block == "" && len(words) > 1:
			required, tools = appendLine(required, tools, words[0], words[1:])
		default:
			required, tools = appendLine(required, tools, block, words)
		}
	}
	return required, tools
}

func appendLine(required []requirement, tools []string, verb string, words []string) ([]requirement, []string) {
	switch verb {
	case "require":
		required = append(required, requirement{words[0], slices.Contains(words, "indirect")})
	case "tool":
		tools = append(tools, words[0])
	}
	return required, tools
}

// TestDependenciesAreExplained wants a line in doc/dependencies.md for every module that our code imports and for every
// tool, and no line for anything else. What go.mod calls indirect must be what no package of ours imports.
func TestDependenciesAreExplained(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "doc/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	explained := make(map[string]bool)
	for _, found := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllSubmatch(page, -1) {
		explained[string(found[1])] = true
	}
	used := usedModules(t)
	required, _ := requirements(t, "go.mod")
	for _, r := range required {
		if used[r.module] && !explained[r.module] {
			t.Errorf("doc/dependencies.md has no line for %s: what for, why this one, who keeps it, what it drags in", r.module)
		}
		if used[r.module] == r.indirect {
			t.Errorf("go.mod: %s: indirect is %t, imported by our code is %t; run go mod tidy", r.module, r.indirect, used[r.module])
		}
	}
	_, tools := requirements(t, "tools/go.mod")
	for _, tool := range tools {
		if !explained[tool] {
			t.Errorf("doc/dependencies.md has no line for the tool %s", tool)
		}
	}
	for module := range explained {
		if !used[module] && !slices.Contains(tools, module) {
			t.Errorf("doc/dependencies.md explains %s, which nothing imports", module)
		}
	}
}

// usedModules returns the modules of go.mod that a package of ours imports, tests included.
func usedModules(t *testing.T) map[string]bool {
	t.Helper()
	required, _ := requirements(t, "go.mod")
	used := make(map[string]bool)
	for _, p := range source(t).packages {
		for _, f := range p.files {
			for _, i := range f.imports {
				owner := ""
				for _, r := range required {
					if under(i.path, r.module) && len(r.module) > len(owner) {
						owner = r.module
					}
				}
				if owner != "" {
					used[owner] = true
				}
			}
		}
	}
	return used
}

// TestPagesLeadSomewhere proves that every file that a page of the documentation links to, or names by its path, exists.
func TestPagesLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	named := regexp.MustCompile("`((?:internal|cmd|bench|doc|scripts|testdata|changelog|tools|\\.ci)/[\\w./-]*[\\w])`")
	eachText(t, func(name string, text []byte) {
		if !strings.HasSuffix(name, ".md") {
			return
		}
		for _, found := range link.FindAllSubmatch(text, -1) {
			target := filepath.Join(filepath.Dir(name), string(found[1]))
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, found[1])
			}
		}
		for _, found := range named.FindAllSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, string(found[1]))); err != nil {
				t.Errorf("%s names %s, which is not there", name, found[1])
			}
		}
	})
}

// TestEveryPackageIsOnTheMap wants each package of internal in the table of doc/architecture.md, and no other.
func TestEveryPackageIsOnTheMap(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "doc/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	mapped := make(map[string]bool)
	for _, found := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllSubmatch(page, -1) {
		mapped[string(found[1])] = true
	}
	for _, p := range source(t).packages {
		if p.path != "." && !mapped[p.path] {
			t.Errorf("doc/architecture.md: the table of packages has no line for %s", p.path)
		}
		delete(mapped, p.path)
	}
	for path := range mapped {
		if path != "holdfast" {
			t.Errorf("doc/architecture.md: the table of packages names %s, which is not there", path)
		}
	}
}

// TestChangelogIsReadable wants the form that CONTRIBUTING.md asks for: a heading of one known kind, then a sentence.
func TestChangelogIsReadable(t *testing.T) {
	form := regexp.MustCompile(`^(Added|Changed|Fixed|Removed|Security): .+\.\n(\n|$)`)
	entries, err := os.ReadDir(filepath.Join(root, "changelog"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(root, "changelog", entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !form.Match(text) {
			t.Errorf("changelog/%s does not begin with a line such as \"Added: what a user can do now.\"", entry.Name())
		}
	}
	if len(entries) == 0 {
		t.Error("changelog holds no file")
	}
}
