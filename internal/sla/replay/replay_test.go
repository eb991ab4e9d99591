package replay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/sla/replay"
)

// policies are a policy whose template asks for eight backups a day, and one with another template for edits.
const policies = `
kind: SLATemplate
name: hourly
target: 97
backups:
  window: 10:00-18:00
  daily: {every: 1 hour, keep: 14 days}
---
kind: SLATemplate
name: two-hourly
target: 50
backups:
  window: 10:00-18:00
  daily: {every: 2 hours, keep: 14 days}
---
kind: Repository
name: local
url: backups
passwordFrom: {file: secret}
---
kind: StorageTemplate
name: here
backups: {default: local}
---
kind: SLAPolicy
name: shop
slaTemplate: hourly
storageTemplate: here
sources: {regions: [northeurope], all: true}
`

func documents(t testing.TB) holdfast.Documents {
	t.Helper()
	d, _, err := document.Read(document.File{Name: "policies.yaml", Data: []byte(policies)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const web1 = `"/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1"`

// day is 2 March: the policy was there before, a machine joins at 12:30, and makes three of the five backups that are left.
func day() []string {
	lines := []string{
		`{"event":"policyInForce","at":"2026-02-20T00:00:00Z","policy":"shop"}`,
		`{"event":"machineJoined","at":"2026-03-02T12:30:00Z","policy":"shop","machine":` + web1 + `,"region":"northeurope"}`,
	}
	for _, h := range []int{13, 14, 15} {
		lines = append(lines, fmt.Sprintf(`{"event":"pointDurable","at":"2026-03-02T%d:10:00Z","policy":"shop","machine":%s,"kind":"backup","slot":"2026-03-02T%d:00:00Z","point":"p%d"}`, h, web1, h, h))
	}
	return append(lines,
		`{"event":"sessionStarted","at":"2026-03-02T16:00:00Z","policy":"shop","machine":`+web1+`,"kind":"backup","slot":"2026-03-02T16:00:00Z"}`,
		`{"event":"sessionSkipped","at":"2026-03-02T17:00:00Z","policy":"shop","machine":`+web1+`,"kind":"backup","slot":"2026-03-02T17:00:00Z"}`,
		`{"event":"pointProven","at":"2026-03-02T20:00:00Z","point":"p13","level":2,"ok":true,"proved":"2026-03-02T19:00:00Z"}`,
		`{"event":"timePassed","at":"2026-03-11T00:00:00Z"}`,
		`{"event":"pointProven","at":"2026-03-11T01:00:00Z","point":"p14","level":2,"ok":true}`,
	)
}

func run(t testing.TB, lines ...string) (replay.Result, error) {
	t.Helper()
	return replay.Run(strings.NewReader(strings.Join(lines, "\n")), documents(t))
}

// A file of events becomes a ledger and its ratios.
func TestRun(t *testing.T) {
	result, err := run(t, day()...)
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, e := range result.Expectations[:8] {
		states = append(states, strings.TrimSpace(fmt.Sprint(e.State, " ", e.Reason)))
	}
	want := "excused joinedLate, excused joinedLate, excused joinedLate, met, met, met, missed late, missed overlap"
	if got := strings.Join(states, ", "); got != want {
		t.Errorf("%s", got)
	}
	if s := result.Expectations[3].Standing; s == nil || s.Proofs[1].Hour() != 19 || result.Expectations[7].Standing != nil {
		t.Errorf("%+v", result.Expectations[3])
	}
	first := result.Entries[0]
	if first.Status != sla.MissedSLA || *first.Created != 60 || *first.ProvenRatio != 20 || *first.ProvenNow != 40 || len(first.ByMachine) != 1 || first.Frozen.IsZero() {
		t.Errorf("%+v", first)
	}
	if len(result.Entries) != 9 { // 2 to 10 March; on 11 March nothing has fallen due
		t.Errorf("%d entries", len(result.Entries))
	}
	if len(result.Notes) != 1 || result.Notes[0].Point != "p14" {
		t.Errorf("%+v", result.Notes)
	}
}

// An edit is an event that names another template of the documents; versions count up.
func TestRun_Edit(t *testing.T) {
	result, err := run(t, append(day()[:5],
		`{"event":"policyInForce","at":"2026-03-02T15:30:00Z","policy":"shop","template":"two-hourly","templateVersion":3,"regions":["northeurope","eastus"]}`,
		`{"event":"timePassed","at":"2026-03-03T12:00:00Z"}`)...)
	if err != nil {
		t.Fatal(err)
	}
	var last replay.Expectation
	for _, e := range result.Expectations {
		if e.Slot.Day() == 2 {
			last = e
		}
	}
	if last.Slot.Hour() != 16 || last.Template != "two-hourly" || last.PolicyVersion != 2 || last.TemplateVersion != 3 || last.State != sla.Missed {
		t.Errorf("%+v", last)
	}
	if e := result.Entries[0]; e.TargetPercent != 50 || *e.Created != 75 || e.Status != sla.MetSLA || e.Closed.Hour() != 5 {
		t.Errorf("%+v", e.Compliance)
	}
}

// Whatever is wrong is told with its line and field.
func TestRun_Refuses(t *testing.T) {
	good := day()[0]
	for name, c := range map[string]struct {
		lines []string
		field string
		says  string
	}{
		"no JSON":        {[]string{good, `event`}, "", "line 2 "},
		"a list":         {[]string{`[1]`}, "", "line 1 "},
		"two objects":    {[]string{`{"event":"timePassed","at":"2026-03-01T00:00:00Z"} {}`}, "", "line 1 "},
		"an empty line":  {[]string{good, ``, good}, "", "line 2 "},
		"half a line":    {[]string{`{"event":"timePassed","at":`}, "", "line 1 "},
		"unknown event":  {[]string{`{"event":"timePassing","at":"2026-03-01T00:00:00Z"}`}, "event", `"timePassing"`},
		"no event":       {[]string{`{"at":"2026-03-01T00:00:00Z"}`}, "event", "no event"},
		"unknown field":  {[]string{`{"event":"timePassed","at":"2026-03-01T00:00:00Z","policy":"shop"}`}, "policy", "no field of timePassed"},
		"case":           {[]string{`{"event":"timePassed","At":"2026-03-01T00:00:00Z"}`}, "At", "no field"},
		"twice":          {[]string{`{"event":"timePassed","at":"2026-03-01T00:00:00Z","at":"2026-03-02T00:00:00Z"}`}, "at", "twice"},
		"missing":        {[]string{`{"event":"policyRemoved","at":"2026-03-01T00:00:00Z"}`}, "policy", "no field policy"},
		"null":           {[]string{`{"event":"policyRemoved","at":"2026-03-01T00:00:00Z","policy":null}`}, "policy", "null"},
		"no time":        {[]string{`{"event":"timePassed","at":"yesterday"}`}, "at", `"yesterday"`},
		"no number":      {[]string{`{"event":"pointProven","at":"2026-03-01T00:00:00Z","point":"p","level":"two","ok":true}`}, "level", `"two"`},
		"no machine":     {[]string{good, `{"event":"machineLeft","at":"2026-03-01T00:00:00Z","policy":"shop","machine":"web-1"}`}, "machine", "ARM"},
		"other policy":   {[]string{`{"event":"policyInForce","at":"2026-03-01T00:00:00Z","policy":"none"}`}, "policy", `"none"`},
		"other template": {[]string{`{"event":"policyInForce","at":"2026-03-01T00:00:00Z","policy":"shop","template":"none"}`}, "template", `"none"`},
		"order":          {[]string{good, `{"event":"timePassed","at":"2026-02-19T00:00:00Z"}`}, "at", "line 2 "},
		"not in force":   {[]string{`{"event":"policyEnabled","at":"2026-03-01T00:00:00Z","policy":"shop"}`}, "policy", "line 1 "},
		"too long":       {[]string{good, `{"event":"` + strings.Repeat("a", 70_000)}, "", "line 2 "},
	} {
		_, err := run(t, c.lines...)
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != holdfast.KindInvalid || e.Field != c.field || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Message, "line ") || e.Hint == "" {
			t.Errorf("%s: %#v", name, err)
		}
	}
	if _, err := replay.Run(broken{}, documents(t)); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, os.ErrPermission }

// The result is one JSON value with the fields that doc/cli.md names.
func TestRun_JSON(t *testing.T) {
	result, err := run(t, day()...)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{
		`"until":"2026-03-11T01:00:00Z"`, `"expectations":[{"policy":"shop"`, `"entry":"2026-03-02"`, `"state":"met"`, `"standing":{"proofs":[{"level":2,"at":"2026-03-02T19:00:00Z"}]}`,
		`"createdPercent":60`, `"provenPercent":20`, `"provenNowPercent":40`, `"byMachine":[{"machine":`, `"status":"MissedSLA"`, `"flag":"daily"`,
	} {
		if !bytes.Contains(data, []byte(field)) {
			t.Errorf("%s is not in %s", field, data[:min(len(data), 3000)])
		}
	}
	if empty, err := run(t); err != nil || !bytes.Contains(must(json.Marshal(empty)), []byte(`"expectations":[],"entries":[],"notes":[]`)) {
		t.Errorf("without events: %+v, %v", empty, err)
	}
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// FuzzParse: whatever a line holds, it is an event or an error of kind invalid; and an event is the same however it is spaced.
func FuzzParse(f *testing.F) {
	for _, l := range day() {
		f.Add([]byte(l))
	}
	f.Add([]byte(`{"event":"pointRemoved","at":"2026-03-01T00:00:00+05:00","point":"p"}`))
	f.Add([]byte(`{"event":"policyInForce","at":"2026-03-01T00:00:00Z","policy":"shop","version":1,"templateVersion":2,"regions":["a"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := replay.Parse(data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindInvalid) {
				t.Fatalf("%v", err)
			}
			return
		}
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, data, " ", "\t"); err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		again, err := replay.Parse(spaced.Bytes())
		if err != nil || fmt.Sprintf("%#v", parsed) != fmt.Sprintf("%#v", again) {
			t.Fatalf("%#v, and spaced %#v, %v", parsed, again, err)
		}
	})
}
