package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// runAlone runs a command without any Azure at hand.
func (w *world) runAlone(args ...string) answer {
	var errs strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stderr = w.dir, &errs
	out, _ := cmd.Output() // the exit code is checked
	return answer{code: cmd.ProcessState.ExitCode(), out: out, errors: errs.String()}
}

// TestPolicyCheck proves the contract of the command: every mistake has its place and the exit code is 2; what is right is
// said in sentences; other commands tell the same mistakes as an error.
func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	examples, err := filepath.Abs("../../examples/policies")
	must(t, err)
	right := mustHave(t, "policy check", oneValue(t, w.runAlone("policy", "check", "-f", examples, "--json")), "ok bool mistakes list notes list documents list")
	if documents := listOf(t, right, "documents", 13); right["ok"] != true || len(right["mistakes"].([]any)) > 0 {
		t.Errorf("the examples are not right: %v", right)
	} else {
		first := mustHave(t, "a document", documents[0], "kind string name string sentences list")
		if first["kind"] != "SLAPolicy" || first["name"] != "gold of the shop" {
			t.Errorf("the first document is %v", first)
		}
	}
	if a := w.runAlone("policy", "check", "-f", examples); a.code != 0 || !strings.Contains(string(a.out), "  A snapshot every 2 hours from 08:00 to 20:00 on the clock of each region, kept for 3 days.\n") {
		t.Errorf("exit %d, people read\n%s%s", a.code, a.out, a.errors)
	}

	must(t, os.WriteFile(filepath.Join(w.dir, "a.yaml"), []byte("kind: SLATemplate\nname: gold\nsnapshots: {daily: {every: 7 minutes, keep: 1 day}}\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(w.dir, "b.yaml"), []byte("kind: SchedulePolicy\nname: shop\npassword: x\nsources: {regions: [westeurop], all: true}\n"), 0o600))
	a := w.runAlone("policy", "check", "-f", "a.yaml", "-f", "b.yaml", "--json")
	wrong := mustHave(t, "policy check", oneValue(t, a), "ok bool mistakes list notes list documents list")
	var told []string
	for _, m := range listOf(t, wrong, "mistakes", 3) {
		m := mustHave(t, "a mistake", m, "level string file string line number column number field string message string hint string")
		told = append(told, fmt.Sprint(m["file"], ":", m["line"], ":", m["column"], " ", m["field"]))
	}
	if want := []string{"a.yaml:3:21 snapshots.daily.every", "b.yaml:3:1 password", "b.yaml:4:21 sources.regions[0]"}; a.code != 2 || !slices.Equal(told, want) || wrong["ok"] != false {
		t.Errorf("exit %d, mistakes at %q, want %q", a.code, told, want)
	}
	people := w.runAlone("policy", "check", "-f", ".")
	for _, part := range []string{"a.yaml:3:21: snapshots.daily.every: snapshots cannot be made every \"7 minutes\"\n  → 5, 10, 15", "  → perhaps westeurope\n", "mistakes: 3\n"} {
		if people.code != 2 || !strings.Contains(string(people.out), part) {
			t.Errorf("exit %d, people do not read %q in\n%s", people.code, part, people.out)
		}
	}

	w.mustRefuseFile(refusal{2, "invalid", "snapshots.daily.every", []string{"a.yaml:3:21", "5, 10, 15"}}, "policy", "scope", "-f", ".", "--inventory", "none")
	w.mustRefuseFile(refusal{2, "invalid", "file", []string{"-f is missing"}}, "policy", "check")
	w.mustRefuseFile(refusal{3, "notFound", "file", []string{"none.yaml"}}, "policy", "check", "-f", "none.yaml")
}

// TestPolicySchema prints the schema that is committed.
func TestPolicySchema(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	want, err := os.ReadFile("../../schemas/documents.schema.json")
	must(t, err)
	if a := w.runAlone("policy", "schema"); a.code != 0 || string(a.out) != string(want) {
		t.Errorf("exit %d, %d bytes, want %d", a.code, len(a.out), len(want))
	}
	if a := w.runAlone("policy", "schema", "--json"); a.code != 0 || !json.Valid(a.out) || strings.Count(string(a.out), "\n") != 1 {
		t.Errorf("exit %d, no single line of JSON", a.code)
	}
}

// TestExamples_ProtectTheShop holds the examples against the estate that they are written for.
func TestExamples_ProtectTheShop(t *testing.T) {
	t.Parallel()
	estate, err := os.ReadFile("../../examples/shop.yaml")
	must(t, err)
	examples, err := filepath.Abs("../../examples/policies")
	must(t, err)
	var result struct {
		VMs []struct {
			Name   string
			Policy string
			Why    string
		}
		Unprotected int
	}
	newWorld(t, string(estate)).do(&result, "policy", "scope", "-f", examples)
	if len(result.VMs) != 1 || result.Unprotected != 0 || result.VMs[0].Name != "web-1" || result.VMs[0].Policy != "gold of the shop" || result.VMs[0].Why != "tag env=prod" {
		t.Errorf("the examples protect %+v", result)
	}
}
