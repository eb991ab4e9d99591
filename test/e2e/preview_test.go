package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// previewPolicy backs up what is in westeurope at 07:00 for three days, and snapshots at 07:00 and 12:00.
const previewPolicy = `kind: Repository
name: hot
url: azblob://shopvault/backups/hot
region: westeurope
passwordFrom: {environment: HOT_PASSWORD}
---
kind: SchedulePolicy
name: office
sources: {regions: [westeurope], all: true}
daily:
  days: [every]
  snapshots: {hours: [7, 12], keep: 2}
  backups: {hours: [7], keep: 3 days, repository: hot}
`

// previewEvent is a line of policy preview --json.
type previewEvent struct {
	Change, At, VM, Policy, Event, Slot, Point, Flags, Reason string
}

func previewEvents(t *testing.T, a answer) []previewEvent {
	t.Helper()
	if a.code != 0 {
		t.Fatalf("exit %d\n%s\n%s", a.code, a.out, a.errors)
	}
	var events []previewEvent
	for line := range strings.Lines(string(a.out)) {
		var e previewEvent
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		events = append(events, e)
	}
	return events
}

// TestPolicyPreview proves that a preview of the twin's machines, asked for live and from a recorded inventory, is the same, that its
// events are what doc/cli.md says, and that people see a calendar, a summary and costs.
func TestPolicyPreview(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	policies, inventory := filepath.Join(w.dir, "policies.yaml"), filepath.Join(w.dir, "inventory.json")
	must(t, os.WriteFile(policies, []byte(previewPolicy), 0o600))
	must(t, os.WriteFile(inventory, w.run("inventory", "--json").out, 0o600))
	asked := []string{"policy", "preview", "-f", policies, "--from", "2026-03-02T00:00:00Z", "--days", "5"}
	live, recorded := w.run(append(asked, "--json")...), w.run(append(asked, "--json", "--inventory", inventory)...)
	if string(live.out) != string(recorded.out) {
		t.Errorf("live and recorded differ:\n%s\n%s", live.out, recorded.out)
	}
	counts := map[string]int{}
	for _, e := range previewEvents(t, live) {
		counts[e.Event]++
		if e.VM == vmID("shared-1") && e.Event != "refused" && e.Event != "warning" {
			t.Errorf("a machine that cannot be backed up: %+v", e)
		}
		if e.Event == "backup" && (e.Policy != "office" || !strings.HasSuffix(e.Slot, "T07:00:00Z") || e.Point == "" || e.Flags != "D" || e.Reason != "to hot") {
			t.Errorf("a backup: %+v", e)
		}
	}
	// Ten runs; three of the seven machines can be backed up; two snapshots and three days of backups are kept.
	for event, want := range map[string]int{"run": 10, "snapshot": 30, "backup": 15, "refused": 60, "remove": 3*8 + 3*1, "cost": 1} {
		if counts[event] != want {
			t.Errorf("%d events are called %s, not %d: %v", counts[event], event, want, counts)
		}
	}
	people := w.run(append(asked, "--inventory", inventory)...)
	for _, want := range []string{"office (schedule): 7 machines", "week of", "2s1b", "KEPT S/B/A", "March 2026, 5 days"} {
		if !strings.Contains(string(people.out), want) {
			t.Errorf("people do not read %q:\n%s%s", want, people.out, people.errors)
		}
	}
}

// TestPolicyPreview_Against proves that the difference of an edit is told, with the existing points that it takes.
func TestPolicyPreview_Against(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	policies, edited := filepath.Join(w.dir, "policies.yaml"), filepath.Join(w.dir, "edited.yaml")
	inventory, points := filepath.Join(w.dir, "inventory.json"), filepath.Join(w.dir, "points.json")
	must(t, os.WriteFile(policies, []byte(previewPolicy), 0o600))
	must(t, os.WriteFile(edited, []byte(strings.Replace(previewPolicy, "keep: 3 days", "keep: 1 day", 1)), 0o600))
	must(t, os.WriteFile(inventory, []byte(`{"vms":[{"id":"`+vmID("web-1")+`","region":"westeurope","disks":[{"lun":"os","sizeBytes":1073741824}]}]}`), 0o600))
	must(t, os.WriteFile(points, []byte(`[{"id":"20260228-070000-aaaaaaaa","vm":"`+vmID("web-1")+`","kind":"backup","policy":"office","slot":"2026-02-28T07:00:00Z","created":"2026-02-28T07:00:00Z","flags":"D","repository":"hot"},
{"id":"20260301-070000-bbbbbbbb","vm":"`+vmID("web-1")+`","kind":"backup","policy":"office","slot":"2026-03-01T07:00:00Z","created":"2026-03-01T07:00:00Z","flags":"D","repository":"hot"}]`), 0o600))
	asked := []string{"policy", "preview", "-f", edited, "--against", policies, "--inventory", inventory, "--points", points, "--from", "2026-03-01T12:00:00Z", "--days", "3"}
	var gone, added int
	for _, e := range previewEvents(t, w.run(append(asked, "--json")...)) {
		switch {
		case e.Event == "remove" && e.Change == "added" && e.Point == "20260228-070000-aaaaaaaa" && e.At == "2026-03-02T00:15:00Z":
			added++
		case e.Event == "remove" && e.Change == "gone" && e.Point == "20260228-070000-aaaaaaaa" && e.At == "2026-03-04T00:15:00Z":
			gone++
		}
		if e.Event != "remove" && e.Event != "unflag" {
			t.Errorf("shorter retention changes %+v", e)
		}
	}
	if gone != 1 || added != 1 {
		t.Errorf("the old point goes %d times later and %d times earlier", gone, added)
	}
	people := w.run(asked...)
	if !strings.Contains(string(people.out), "Existing points that would go at once:") || !strings.Contains(string(people.out), "20260228-070000-aaaaaaaa") {
		t.Errorf("people do not read what they lose:\n%s%s", people.out, people.errors)
	}
	same := w.run("policy", "preview", "-f", policies, "--against", policies, "--inventory", inventory, "--from", "2026-03-01", "--json")
	if same.code != 0 || len(same.out) != 0 {
		t.Errorf("documents differ from themselves: exit %d\n%s", same.code, same.out)
	}
}

// TestPolicyPreview_BadInput names the flag and what is accepted.
func TestPolicyPreview_BadInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	policies := filepath.Join(w.dir, "policies.yaml")
	must(t, os.WriteFile(policies, []byte(previewPolicy), 0o600))
	for _, c := range []struct {
		args  []string
		field string
		code  int
	}{
		{[]string{"--days", "0", "-f", policies}, "days", 2},
		{[]string{"--days", "9999", "-f", policies}, "days", 2},
		{[]string{"--from", "yesterday", "-f", policies}, "from", 2},
		{nil, "file", 2},
		{[]string{"-f", policies, "--points", filepath.Join(w.dir, "none")}, "points", 3},
		{[]string{"-f", policies, "--prices", policies}, "", 2},
		{[]string{"-f", policies, "--daily-churn", "1.5"}, "daily-churn", 2},
	} {
		a := w.run(append([]string{"policy", "preview", "--json"}, c.args...)...)
		var failed struct {
			Error struct{ Kind, Message, Hint, Field string }
		}
		w.decode(a, &failed)
		if a.code != c.code || c.field != "" && failed.Error.Field != c.field || failed.Error.Message == "" {
			t.Errorf("%v: exit %d, %+v", c.args, a.code, failed.Error)
		}
	}
}
