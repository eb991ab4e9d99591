package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSim lets a policy live through two days: events in the form of a preview's, a proof at the end, the same for the same seed, and what is refused.
func TestSim(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	for _, name := range []string{"shop.yaml", "first/nightly.yaml"} {
		data, err := os.ReadFile(filepath.Join("../../examples", name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(w.dir, filepath.Base(name)), data, 0o600))
	}
	args := []string{"sim", "-f", "nightly.yaml", "--estate", "shop.yaml", "--from", "2026-03-01", "--days", "2", "--seed", "3", "--json"}
	first, second := w.run(args...), w.run(args...)
	if first.code != 0 || second.code != 0 {
		t.Fatalf("exit %d, %d\n%s%s", first.code, second.code, first.errors, second.errors)
	}
	lines := bytes.Split(bytes.TrimSpace(first.out), []byte("\n"))
	count := map[string]int{}
	for _, line := range lines[:len(lines)-1] {
		var event struct{ At, Event, Policy string }
		must(t, json.Unmarshal(line, &event))
		count[event.Event]++
	}
	if count["run"] != 2 || count["snapshot"] != 2 || count["backup"] != 2 {
		t.Errorf("%v", count)
	}
	var proof struct {
		Points, Disks, Snapshots int
		Wrong                    []string
	}
	must(t, json.Unmarshal(lines[len(lines)-1], &proof))
	if proof.Points != 2 || proof.Disks != 4 || proof.Snapshots != 4 || len(proof.Wrong) > 0 {
		t.Errorf("%+v", proof)
	}
	if a, b := withoutPoints(first.out), withoutPoints(second.out); a != b {
		t.Errorf("one seed made two histories:\n%s\n%s", a, b)
	}
	for says, args := range map[string][]string{
		"no number of days":    {"sim", "-f", "nightly.yaml", "--estate", "shop.yaml", "--days", "0"},
		"--estate is missing":  {"sim", "-f", "first/nightly.yaml"},
		"no number of crashes": {"sim", "-f", "nightly.yaml", "--estate", "shop.yaml", "--crashes", "-1"},
		"is not empty":         {"sim", "-f", "nightly.yaml", "--estate", "shop.yaml", "--dir", "."},
	} {
		if a := w.run(args...); a.code != 2 || !strings.Contains(a.errors, says) {
			t.Errorf("%v: exit %d, %s", args, a.code, a.errors)
		}
	}
}

// withoutPoints leaves out the names of points, which repositories draw.
func withoutPoints(out []byte) string {
	var kept []string
	for line := range strings.Lines(string(out)) {
		var event map[string]any
		if json.Unmarshal([]byte(line), &event) != nil {
			continue
		}
		delete(event, "point")
		text, _ := json.Marshal(event)
		kept = append(kept, string(text))
	}
	return strings.Join(kept, "\n")
}
