package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSLAReplay proves that the example of the documentation works, that scripts read what doc/cli.md promises, and that a file
// that is not right is refused with its line.
func TestSLAReplay(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	examples, err := filepath.Abs("../../examples")
	must(t, err)
	replay := []string{"sla", "replay", "--events", filepath.Join(examples, "events.jsonl"), "-f", filepath.Join(examples, "policies")}
	people := string(w.run(replay...).out)
	for _, want := range []string{"daily snapshot   2026-03-06  MissedSLA  66.6 %", "2026-03-06 23:00:00Z  late", "2026-03-07 03:00:00Z  overlap", "2026-03-06 15:00:00Z  failed", "the point meets nothing"} {
		if !strings.Contains(people, want) {
			t.Errorf("%q is not in\n%s", want, people)
		}
	}
	result := mustHave(t, "the result", w.value(replay...), "until string expectations list entries list notes list")
	states := make(map[any]int)
	for _, e := range listOf(t, result, "expectations", 15) {
		line := mustHave(t, "an expectation", e, `policy string policyVersion number template string templateVersion number machine string region string kind string flag string
			slot string opens string closes string deadline string entry string state string reason string point string …`)
		states[line["state"]]++
		if (line["state"] == "met") != (line["standing"] != nil) || (line["state"] == "open") != (line["ended"] == nil) {
			t.Errorf("%v", line)
		}
	}
	if states["met"] != 5 || states["excused"] != 4 {
		t.Errorf("%v", states)
	}
	for _, e := range listOf(t, result, "entries", 6) {
		entry := mustHave(t, "an entry", e, `policy string kind string flag string entry string targetPercent number machines object planned number met number missed number
			excused number open number proven number status string provenStatus string byMachine list …`)
		mustHave(t, "machines", entry["machines"], "total number met number missed number removed number none number")
		for _, m := range entry["byMachine"].([]any) {
			mustHave(t, "a machine", m, "machine string planned number met number missed number excused number open number proven number status string …")
		}
	}
	for _, n := range listOf(t, result, "notes", 1) {
		mustHave(t, "a note", n, "at string policy string machine string kind string slot string point string text string")
	}
	bad := filepath.Join(w.dir, "bad.jsonl")
	must(t, os.WriteFile(bad, []byte(`{"event":"timePassed","at":"2026-03-01T00:00:00Z"}`+"\n"+`{"event":"nothing","at":"2026-03-01T00:00:00Z"}`), 0o600))
	w.mustRefuse(refusal{2, "invalid", "event", []string{"line 2", "nothing", "timePassed"}}, "sla", "replay", "--events", bad, "-f", filepath.Join(examples, "policies"))
	w.mustRefuse(refusal{3, "notFound", "events", []string{"nowhere.jsonl"}}, "sla", "replay", "--events", "nowhere.jsonl", "-f", filepath.Join(examples, "policies"))
	w.mustRefuse(refusal{2, "invalid", "events", nil}, "sla", "replay", "-f", filepath.Join(examples, "policies"))
	w.mustRefuse(refusal{2, "invalid", "file", nil}, "sla", "replay", "--events", bad)
}
