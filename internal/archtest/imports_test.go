package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// ban forbids imports. Folders are relative to the module and include what lies below them; other import paths are
// written in full.
type ban struct {
	from    []string // who must not import; nil means every package
	to      []string // what
	except  []string // folders that may
	tests   bool     // whether tests are bound as well
	because string
}

const (
	azureSDK  = "github.com/Azure"
	yamlKit   = "github.com/goccy/go-yaml"
	cobraKit  = "github.com/spf13"
	progress  = "github.com/vbauerster/mpb"
	terminal  = "golang.org/x/term"
	argon     = "golang.org/x/crypto"
	mailKit   = "github.com/wneessen/go-mail"
	bunKit    = "github.com/uptrace/bun"
	queue     = "github.com/riverqueue/river"
	ours      = "."
	allOfOurs = "internal"
)

const flowsStandAlone = "each verb is read, tested and changed alone; what two flows share is a noun and moves down"

// table is the import table of doc/architecture.md.
var table = []ban{
	{
		from: []string{ours}, to: []string{allOfOurs, "cmd"},
		because: "the nouns are what everybody shares; a noun that imports one of us makes everybody import it",
	},
	{
		to: []string{"cmd", "scripts", "bench"}, tests: true,
		because: "programs know everything, so nobody may know them",
	},
	{
		to: []string{"internal/azure"}, except: []string{"internal/azure", "cmd", "internal/sim", "internal/server", "internal/repositories", "internal/storage"},
		because: "flows take Azure as the small interfaces that they declare; only the wiring knows the adapter",
	},
	{
		to: []string{"internal/twin"}, except: []string{"internal/twin", "internal/azure/azuretest", "cmd", "internal/sim"},
		because: "product code must not be able to tell the twin from Azure; it stands below the SDK, over HTTP",
	},
	{
		from:    []string{"internal/twin"},
		to:      []string{"internal/azure", "internal/repo", "internal/blob", "internal/machine", "internal/capture", "internal/restore"},
		because: "a twin that shares code with the product shares its mistakes, and proves nothing",
	},
	{
		to:      []string{azureSDK},
		except:  []string{"internal/azure", "internal/twin", "internal/blob/azblob", "cmd"},
		because: "the SDK has one client for management, one for blobs, and lends its model types to the twin; elsewhere our own nouns stand",
	},
	{
		from: []string{"cmd"}, to: []string{azureSDK}, tests: true,
		because: "wiring joins our packages; what needs an SDK type belongs into the adapter",
	},
	{
		from: []string{"internal/blob"}, to: []string{"internal/repo", "internal/machine", "internal/capture", "internal/restore"},
		because: "a store holds objects and knows nothing of what they mean",
	},
	{
		from: []string{"internal/repo"}, tests: true,
		to:      []string{"internal/capture", "internal/restore", "internal/machine", "internal/azure", "internal/twin", "internal/cli", "internal/blob/azblob"},
		because: "storage and a key open a repository; whoever restores after a disaster needs nothing else",
	},
	{
		to: []string{
			"internal/repo/access", "internal/repo/audit", "internal/repo/cache", "internal/repo/chunk", "internal/repo/collect", "internal/repo/idset", "internal/repo/index", "internal/repo/keys", "internal/repo/layout", "internal/repo/ledger",
			"internal/repo/oplog", "internal/repo/manifest", "internal/repo/pack", "internal/repo/packlist", "internal/repo/seal", "internal/repo/scan", "internal/repo/span",
			"internal/repo/stored", "internal/repo/tree", "internal/repo/verify",
		},
		except: []string{"internal/repo"}, tests: true,
		because: "package repo is the only door to the format; a second door would let its invariants be broken from outside",
	},
	{
		from: []string{"rescue"}, to: []string{ours, allOfOurs, "cmd", "scripts", "test"}, tests: true,
		because: "a second reader that shares code with the first shares its mistakes, and proves neither the page nor the bytes",
	},
	{
		to: []string{"rescue"}, tests: true,
		because: "as above, the other way round; tests call the built program",
	},
	{
		from: []string{"internal/capture"}, to: []string{"internal/restore", "internal/export", "internal/image", "internal/archive"},
		because: flowsStandAlone,
	},
	{
		from: []string{"internal/restore"}, to: []string{"internal/capture", "internal/export", "internal/image", "internal/archive"},
		because: flowsStandAlone,
	},
	{
		from: []string{"internal/export"}, to: []string{"internal/capture", "internal/restore", "internal/image", "internal/archive"},
		because: flowsStandAlone,
	},
	{
		from: []string{"internal/archive"}, to: []string{"internal/capture", "internal/restore", "internal/export", "internal/image", "internal/machine"},
		because: flowsStandAlone,
	},
	{
		from: []string{"internal/guest"}, to: []string{"internal/capture", "internal/restore", "internal/export", "internal/image", "internal/archive"},
		because: flowsStandAlone,
	},
	{
		from: []string{"internal/capture", "internal/restore", "internal/export", "internal/image", "internal/archive"}, to: []string{"internal/guest"},
		because: flowsStandAlone,
	},
	{
		from: []string{"internal/image"}, to: []string{"internal/capture", "internal/restore", "internal/export", "internal/archive"},
		because: flowsStandAlone,
	},
	{
		from:    []string{"internal/civil", "internal/schedule", "internal/retention", "internal/sla", "internal/scope", "internal/cost", "internal/plan", "internal/preview"},
		to:      []string{"internal/azure", "internal/blob", "internal/repo", "internal/clock", "internal/document", "internal/inventory", "internal/strictyaml", "internal/machine", "log/slog", "os", "net/http", "context"},
		because: "time and lists in, decisions with reasons out: what decides touches nothing, so that preview, server and simulator can call the same",
	},
	{
		from: []string{"internal/notify"}, except: []string{"internal/notify/smtp", "internal/notify/webhook"},
		to:      []string{"internal/notify/smtp", "internal/notify/webhook", "internal/clock", "log/slog", "os", "net", "net/http", "context"},
		because: "who is told what is decided before anything is sent, by what happened and the settings alone",
	},
	{
		to: []string{mailKit, "net/smtp"}, except: []string{"internal/notify/smtp"}, tests: true,
		because: "one place knows how mail travels, and holds that nothing is said in the clear",
	},
	{
		to: []string{"internal/cli", "internal/demo"}, except: []string{"cmd", "internal/demo", "internal/cli"},
		because: "how results look to people is decided last, at the edge",
	},
	{
		to: []string{cobraKit}, except: []string{"cmd", "internal/cli/command", "internal/cli/policies", "internal/cli/remote"}, tests: true,
		because: "the command line is one way to ask; whoever is asked must not know it",
	},
	{
		to: []string{progress, terminal}, except: []string{"cmd", "internal/cli"}, tests: true,
		because: "work reports numbers; only the edge draws them",
	},
	{
		to: []string{yamlKit}, except: []string{"internal/strictyaml"}, tests: true,
		because: "every YAML file is read with the same strictness and the same words for its mistakes",
	},
	{
		to: []string{argon}, except: []string{"internal/repo/keys", "internal/auth", "rescue"},
		because: "keys are derived in one place of each reader, and passwords of users in one place, which bound what a hostile file may ask for",
	},
	{
		to: []string{bunKit}, except: []string{"internal/database", "internal/jobs/river", "internal/store"},
		because: "rows are read and written in one package, so that the meaning of a table has one place",
	},
	{
		to:      []string{bunKit + "/dialect", "github.com/jackc/pgx", "github.com/pressly/goose", "modernc.org/sqlite", queue},
		except:  []string{"internal/database", "internal/jobs/river"},
		because: "which database it is, and which queue, nobody above may know: both run on two",
	},
	{
		to: []string{queue}, except: []string{"internal/jobs/river"}, tests: true,
		because: "the queue has defects that one package works around; a second way in would meet them again",
	},
	{
		to: []string{"internal/jobs/river"}, except: []string{"internal/jobs", "internal/server", "cmd"},
		because: "who enqueues and handles jobs takes the ports of package jobs; only the wiring knows the adapter",
	},
	{
		to: []string{"pgregory.net/rapid", "go.uber.org/goleak", "github.com/santhosh-tekuri/jsonschema/v6", "testing"}, except: []string{"internal/archtest"},
		because: "the program that customers run holds no test library",
	},
	{
		to: []string{"unsafe", "reflect", "C", "plugin"}, except: []string{"internal/strictyaml", "internal/api"},
		because: "none of our problems needs them but two: strictyaml fills the struct that its caller hands in, and the REST interface names schemas by their types",
	},
	{
		to: []string{"log"}, tests: true,
		because: "events go to the logger that was handed in, with constant keys",
	},
	{
		to: []string{"math/rand"}, tests: true,
		because: "math/rand/v2 for what is to be repeatable, crypto/rand for the rest",
	},
}

// TestImportTable holds every import against the table.
func TestImportTable(t *testing.T) {
	for _, p := range source(t).packages {
		for _, f := range p.files {
			for _, i := range f.imports {
				for _, b := range table {
					if b.forbids(p.path, f.test, i.path) {
						t.Errorf("%s:%d imports %s\n\tbecause: %s", f.name, i.line, i.path, b.because)
					}
				}
			}
		}
	}
}

// TestImportTable_Bites proves that each ban forbids something and that its exceptions hold, so that a misspelt folder
// does not make a rule that nothing can break.
func TestImportTable_Bites(t *testing.T) {
	for _, b := range table {
		from := "internal/made/up"
		if b.from != nil {
			from = b.from[0]
		}
		for _, to := range b.to {
			path := to
			switch {
			case to == ours:
				path = modulePath
			case anyUnder(to, []string{allOfOurs, "cmd", "scripts", "bench", "test", "rescue"}):
				path = modulePath + "/" + to
			}
			if !b.forbids(from, false, path) {
				t.Errorf("the ban on %s (%s) does not forbid it to %s", to, b.because, from)
			}
			for _, except := range b.except {
				if b.forbids(except, false, path) {
					t.Errorf("the ban on %s forbids it to %s, its own exception", to, except)
				}
			}
		}
	}
}

// forbids reports whether the ban forbids a package, or its tests, to import a path.
func (b ban) forbids(from string, test bool, path string) bool {
	if (test || testSupport(from)) && !b.tests {
		return false
	}
	if b.from != nil && !anyUnder(from, b.from) || anyUnder(from, b.except) {
		return false
	}
	if inside, ok := local(path); ok {
		return anyUnder(inside, b.to) && inside != from
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return slices.Contains(b.to, path) // log is banned, log/slog is another package
	}
	return anyUnder(path, b.to)
}

func anyUnder(path string, folders []string) bool {
	for _, folder := range folders {
		if path == folder || folder != "." && under(path, folder) {
			return true
		}
	}
	return false
}

// TestNounsImportTheStandardLibraryAlone holds the root package against its promise.
func TestNounsImportTheStandardLibraryAlone(t *testing.T) {
	for _, p := range source(t).packages {
		if p.path != "." {
			continue
		}
		for _, f := range p.files {
			for _, i := range f.imports {
				if first, _, _ := strings.Cut(i.path, "/"); strings.Contains(first, ".") && !f.test {
					t.Errorf("%s:%d imports %s\n\tbecause: a noun with a dependency gives it to everybody", f.name, i.line, i.path)
				}
			}
		}
	}
}

// shipped names the test-support packages that a program may contain, with the reason.
var shipped = map[string]string{
	"internal/blob/blobtest": "`holdfast storage check` runs the conformance suite on a user's own store",
}

// TestTestSupportStaysInTests proves that packages made for tests are imported by tests and one another alone.
func TestTestSupportStaysInTests(t *testing.T) {
	for _, p := range source(t).packages {
		for _, f := range p.files {
			for _, i := range f.imports {
				to, ok := local(i.path)
				if !ok || !testSupport(to) || f.test || testSupport(p.path) || shipped[to] != "" && command(p.path) {
					continue
				}
				t.Errorf("%s:%d imports %s, which exists for tests", f.name, i.line, to)
			}
		}
	}
}

// importDepthMax is the longest chain of our own packages, from a program to the nouns, edges counted. One of ten is what a person asks of the control plane:
// program, wiring, REST, control, reports, intentions, rows, ledger, slots, wall clock. Each of them is a layer that tests stand on.
const importDepthMax = 10

// TestImportDepth proves that the layers stay few.
func TestImportDepth(t *testing.T) {
	edges := make(map[string]map[string]bool)
	for _, p := range source(t).packages {
		edges[p.path] = make(map[string]bool)
		for _, f := range p.files {
			for _, i := range f.imports {
				if to, ok := local(i.path); ok && !f.test {
					edges[p.path][to] = true
				}
			}
		}
	}
	chains := make(map[string][]string)
	for path := range edges {
		if chain := longest(path, edges, chains); len(chain)-1 > importDepthMax {
			t.Errorf("a chain of %d imports, at most %d are wanted: %s", len(chain)-1, importDepthMax, strings.Join(chain, " > "))
		}
	}
}

// longest returns the longest chain of imports that starts at a package; known keeps what was found already.
func longest(path string, edges map[string]map[string]bool, known map[string][]string) []string {
	if chain, ok := known[path]; ok {
		return chain
	}
	var best []string
	for to := range edges[path] {
		if chain := longest(to, edges, known); len(chain) > len(best) {
			best = chain
		}
	}
	known[path] = append([]string{path}, best...)
	return known[path]
}

// dataPlane is what recovery without any installation needs, and must be able to link alone.
var dataPlane = []string{"./internal/repo", "./internal/blob/file", "./internal/blob/mem"}

// TestDataPlaneStandsAlone asks the Go tool what the data plane links, whatever the build tags of this platform.
func TestDataPlaneStandsAlone(t *testing.T) {
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps"}, dataPlane...)...)
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	foreign := []string{
		azureSDK, cobraKit, progress, yamlKit, "net/http", bunKit, modulePath + "/internal/database",
		modulePath + "/internal/twin", modulePath + "/internal/azure", modulePath + "/internal/capture", modulePath + "/internal/restore",
		modulePath + "/internal/machine", modulePath + "/internal/cli",
	}
	linked := strings.Fields(string(out))
	for _, path := range linked {
		if anyUnder(path, foreign) {
			t.Errorf("the data plane links %s\n\tbecause it must open a repository with storage and a key, when nothing else is left", path)
		}
	}
	if len(linked) < 20 {
		t.Errorf("go list names %d packages only; this test has lost its subject", len(linked))
	}
}

// TestSecondReaderStandsAlone proves that neither module can import the other: rescue requires what it needs and nothing of
// ours, and our module does not require rescue. (The import table says the same of each file.)
func TestSecondReaderStandsAlone(t *testing.T) {
	allowed := []string{"github.com/klauspost/compress", argon, "golang.org/x/sys"} // the last one for argon
	required, _ := requirements(t, "rescue/go.mod")
	if len(required) < 2 {
		t.Fatalf("rescue/go.mod requires %v: it is not where this test looks for it", required)
	}
	for _, r := range required {
		if !slices.Contains(allowed, r.module) {
			t.Errorf("rescue/go.mod requires %s, and may require %v alone", r.module, allowed)
		}
	}
	required, _ = requirements(t, "go.mod")
	for _, r := range required {
		if under(r.module, modulePath) {
			t.Errorf("go.mod requires %s\n\tbecause: programs that prove one another must not share code", r.module)
		}
	}
	found := 0
	for _, p := range source(t).packages {
		if under(p.path, "rescue") {
			found++
			for _, f := range p.files {
				for _, i := range f.imports {
					if first, _, _ := strings.Cut(i.path, "/"); strings.Contains(first, ".") && !anyUnder(i.path, allowed) {
						t.Errorf("%s:%d imports %s", f.name, i.line, i.path)
					}
				}
			}
		}
	}
	if found != 1 {
		t.Errorf("the second reader has %d packages, want one: it is read from top to bottom", found)
	}
}
