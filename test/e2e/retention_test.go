package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const retentionDocuments = `
kind: Repository
name: hot
url: file:///nowhere
encrypted: false
---
kind: SchedulePolicy
name: shop
zone: Europe/Berlin
sources: {regions: [westeurope], all: true}
daily: {days: [weekdays], snapshots: {hours: [7, 9, 11], keep: 3}, backups: {hours: [7], keep: 14 days, repository: hot}}
weekly: {at: "07:00", snapshots: {days: [monday], keep: 2}, backups: {days: [monday], keep: 21 days, repository: hot}}
---
kind: SLATemplate
name: gold
snapshots: {window: 22:00-06:00, daily: {every: 30 minutes, keep: 2 days}}
---
kind: SLAPolicy
name: gold
slaTemplate: gold
sources: {regions: [japaneast], all: true}
`

// retentionPoints are of three machines: web by schedule, gold by a template in Tokyo, old by a policy that is no more.
const retentionPoints = `
{"id":"w1","vm":"/web","kind":"snapshot","policy":"shop","slot":"2026-03-02T07:00:00+01:00","created":"2026-03-02T07:00:00+01:00","flags":"DW","base":true}
{"id":"w2","vm":"/web","kind":"snapshot","policy":"shop","slot":"2026-03-02T08:00:00Z","created":"2026-03-02T08:00:00Z","flags":"D"}
{"id":"w3","vm":"/WEB","kind":"snapshot","policy":"shop","slot":"2026-03-02T10:00:00Z","created":"2026-03-02T10:00:00Z","flags":"D"}
{"id":"w4","vm":"/web","kind":"snapshot","policy":"shop","slot":"2026-03-03T06:00:00Z","created":"2026-03-03T06:00:00Z","flags":"D"}
{"id":"w5","vm":"/web","kind":"snapshot","policy":"shop","slot":"2026-03-03T08:00:00Z","created":"2026-03-03T08:00:00Z","flags":"D"}
{"id":"w6","vm":"/web","kind":"backup","policy":"shop","slot":"2026-03-02T06:00:00Z","created":"2026-03-02T06:00:00Z","flags":"DW","repository":"hot"}
{"id":"g1","vm":"/gold","kind":"snapshot","policy":"gold","region":"japaneast","slot":"2026-03-01T13:00:00Z","created":"2026-03-01T13:00:00Z","flags":"D"}
{"id":"g2","vm":"/gold","kind":"snapshot","policy":"gold","region":"japaneast","slot":"2026-03-03T13:00:00Z","created":"2026-03-03T13:00:00Z","flags":"D"}
{"id":"o1","vm":"/old","kind":"backup","policy":"gone","slot":"2026-02-01T06:00:00Z","created":"2026-02-01T06:00:00Z","flags":"D","repository":"hot","keep":{"daily":"3 days"}}
{"id":"o2","vm":"/old","kind":"backup","policy":"gone","slot":"2026-02-02T06:00:00Z","created":"2026-02-02T06:00:00Z","flags":"D","repository":"hot","keep":{"daily":"3 days"}}
{"id":"h1","vm":"/hand","kind":"snapshot","manual":true,"created":"2026-01-01T06:00:00Z"}
`

// TestRetentionExplain proves the contract of the command: each machine is judged alone by its own policy, a script reads
// the verdicts with their reasons, and people read the same.
func TestRetentionExplain(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	must(t, os.WriteFile(filepath.Join(w.dir, "policies.yaml"), []byte(retentionDocuments), 0o600))
	must(t, os.WriteFile(filepath.Join(w.dir, "points.json"), []byte(retentionPoints), 0o600))
	command := []string{"retention", "explain", "--points", "points.json", "-f", "policies.yaml", "--at", "2026-03-04T00:15:00+01:00"}
	result := mustHave(t, "retention explain", w.value(command...), "at string nextPass string keep number remove number machines list")
	if result["at"] != "2026-03-03T23:15:00Z" || result["nextPass"] != "2026-03-04T00:15:00Z" || result["keep"] != 8.0 || result["remove"] != 3.0 {
		t.Errorf("%v", result)
	}
	var told []string
	for _, m := range listOf(t, result, "machines", 4) {
		m := mustHave(t, "a machine", m, "vm string policy string protected bool zone string points list")
		told = append(told, fmt.Sprint(m["vm"], " ", m["policy"], " ", m["protected"], " ", m["zone"]))
		for _, p := range m["points"].([]any) {
			told = append(told, pointLine(t, p))
		}
	}
	want := []string{
		"/gold gold true Asia/Tokyo", "g1 remove -D age", "g2 keep D flag lastGood",
		"/hand  false UTC", "h1 keep manual",
		"/old gone false UTC", "o1 remove -D age", "o2 keep -D lastGood",
		"/web shop true Europe/Berlin", "w1 keep W -D flag base", "w6 keep DW flag flag lastGood", "w2 remove -D count", "w3 keep D flag", "w4 keep D flag", "w5 keep D flag lastGood",
	}
	if !slices.Equal(told, want) {
		t.Errorf("a script reads\n%s\nnot\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	people := string(w.run(command...).out)
	for _, part := range []string{
		"protected by policy shop, days of Europe/Berlin", "no document has policy gone any more", "daily 2 of 3, until 2 more good ones are made", "weekly 1 of 1, until 23 March 2026",
		"daily: 2 days ended on 3 March 2026", "11 restore points at 2026-03-03 23:15:00Z: 8 stay, 3 go",
	} {
		if !strings.Contains(people, part) {
			t.Errorf("people do not read %q in\n%s", part, people)
		}
	}
}

// TestRetentionExplain_Example proves that the example that the documentation names is explained as it is meant to be.
func TestRetentionExplain_Example(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	examples, err := filepath.Abs("../../examples")
	must(t, err)
	people := w.run("retention", "explain", "--points", filepath.Join(examples, "points.jsonl"), "-f", filepath.Join(examples, "policies"), "--at", "2026-05-14T22:15:00Z")
	for _, part := range []string{
		"weekly 1 of 1, until 27 July 2026", "locked until 1 June 2026", "started by a person, kept like a daily one, until 27 May 2026", "changed-range base", "made by hand",
		"last good restore point of a machine that no policy protects", "8 stay, 2 go",
	} {
		if !strings.Contains(string(people.out), part) {
			t.Errorf("%q is not in\n%s%s", part, people.out, people.errors)
		}
	}
}

// pointLine is what a script reads of a point, in short.
func pointLine(t *testing.T, point any) string {
	p := mustHave(t, "a point", point, "id string vm string kind string created string flags string good bool lost string verdict string reasons list …")
	line := fmt.Sprint(p["id"], " ", p["verdict"])
	if p["flags"] != "" {
		line += fmt.Sprint(" ", p["flags"])
	}
	if p["lost"] != "" {
		line += fmt.Sprint(" -", p["lost"])
	}
	for _, r := range listOf(t, p, "reasons", 1) {
		line += fmt.Sprint(" ", mustHave(t, "a reason", r, "cause string text string …")["cause"])
	}
	return line
}

// TestRetentionExplain_Mistakes proves that what is wrong with a list of points is told with its place.
func TestRetentionExplain_Mistakes(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	must(t, os.WriteFile(filepath.Join(w.dir, "policies.yaml"), []byte(retentionDocuments), 0o600))
	must(t, os.WriteFile(filepath.Join(w.dir, "points.json"), []byte(retentionPoints+`{"id":"x"}`), 0o600))
	for line, want := range map[string]refusal{
		"--points points.json -f policies.yaml":                {2, "invalid", "[11].vm", []string{"points.json:13", "vm is missing"}},
		"--points nowhere.json -f policies.yaml":               {3, "notFound", "points", []string{"nowhere.json", "JSON array"}},
		"--points points.json -f policies.yaml --at yesterday": {2, "invalid", "at", []string{"yesterday", "2026-05-01T00:15:00Z"}},
		"--points points.json":                                 {2, "invalid", "file", []string{"-f"}},
		"-f policies.yaml":                                     {2, "invalid", "points", []string{"--points"}},
	} {
		w.mustRefuse(want, append([]string{"retention", "explain"}, strings.Fields(line)...)...)
	}
}
