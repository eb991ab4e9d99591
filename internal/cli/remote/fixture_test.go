package remote_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func vm(name string) holdfast.ResourceID {
	return holdfast.NewResourceID("s", "shop", "Microsoft.Compute/virtualMachines", name)
}

func session(id holdfast.RunID, outcome holdfast.Outcome) holdfast.Session {
	s := holdfast.Session{
		ID: id, Type: holdfast.SessionPolicy, Policy: "nightly", Slot: noon, Manual: true, By: "anna", State: holdfast.StateRunning, Queued: noon, Started: noon.Add(time.Second),
		Makes: []holdfast.Makes{{Kind: holdfast.PointSnapshot}, {Kind: holdfast.PointBackup, Flags: holdfast.Flags(holdfast.Daily), Repository: "hot"}},
		Items: holdfast.ItemCounts{Total: 2, Running: 2}, Bytes: holdfast.Bytes{Total: 12 << 30, Read: 3 << 20, Stored: 1 << 20},
	}
	if outcome != "" {
		s.State, s.Outcome, s.Ended, s.Items = holdfast.StateDone, outcome, noon.Add(time.Minute), holdfast.ItemCounts{Total: 2, Success: 1, Error: 1}
	}
	return s
}

// shares are those of two machines: one that came through, one that did not.
func shares(s holdfast.Session) view.Session {
	good := holdfast.SessionItem{
		Session: s.ID, VM: vm("web-1"), Region: "westeurope", State: holdfast.StateRunning, Attempts: 1, Started: noon, Points: []holdfast.PointID{"p-1"},
		Progress: &holdfast.Progress{Stage: "read", Done: 1 << 30, Total: 4 << 30, Since: noon, At: noon.Add(time.Second)},
	}
	bad := holdfast.SessionItem{Session: s.ID, VM: vm("web-2"), Region: "westeurope", State: holdfast.StateWaiting, Attempts: 2, NextAt: noon.Add(time.Hour), Points: []holdfast.PointID{}}
	left := int64(90)
	remaining := &left
	if s.State == holdfast.StateDone {
		remaining = nil
		good.State, good.Outcome, good.Ended = holdfast.StateDone, holdfast.OutcomeSuccess, noon.Add(30*time.Second)
		bad.State, bad.Outcome, bad.Points = holdfast.StateDone, s.Outcome, []holdfast.PointID{"p-2"}
	}
	if s.Outcome == holdfast.OutcomeError {
		bad.Message, bad.Hint, bad.Points = "the disk is locked", "remove the lock", []holdfast.PointID{}
	}
	return view.Session{Session: s, PerSecond: 1 << 20, RemainingSeconds: remaining, Machines: []holdfast.SessionItem{good, bad}}
}

func logLines(from, to int64) []holdfast.LogLine {
	var lines []holdfast.LogLine
	for n := from; n <= to; n++ {
		lines = append(lines, holdfast.LogLine{Session: "s-1", Number: n, At: noon.Add(time.Duration(n) * time.Second), VM: vm("web-1"), Level: holdfast.LogInfo, Text: fmt.Sprintf("step %d", n)})
	}
	return lines
}

// events answers as a server that a session is watched at: some lines of its log and how it is, then how it ended.
func events(lines []holdfast.LogLine, states ...view.Session) func(http.ResponseWriter, *http.Request) {
	return func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "text/event-stream")
		for _, l := range lines {
			event(out, "log", l)
		}
		for _, s := range states {
			event(out, "session", s)
		}
	}
}

func event(out io.Writer, name string, value any) {
	fmt.Fprintf(out, "event: %s\ndata: %s\n\n", name, encoded(value))
}

func watched(id holdfast.RunID, outcome holdfast.Outcome) func(http.ResponseWriter, *http.Request) {
	lines := append(logLines(1, 2), holdfast.LogLine{Session: id, Number: 3, At: noon, Level: holdfast.LogWarning, Text: "slow today"})
	return events(lines, shares(session(id, "")), shares(session(id, outcome)))
}

func plan() view.Plan {
	return view.Plan{
		Base: 7,
		Changes: []view.Change{
			{Kind: "Repository", Name: "hot", Verb: view.Create, Diff: []string{"+kind: Repository", "+name: hot"}},
			{Kind: "SchedulePolicy", Name: "nightly", Verb: view.Update, Version: 3, Author: "bert", Diff: []string{" zone: UTC", "-  keep: 3 days", "+  keep: 5 days"}},
			{Kind: "SLAPolicy", Name: "old", Verb: view.Remove, Version: 1, Author: "anna"},
			{Kind: "SLATemplate", Name: "gold", Verb: view.Unchanged, Version: 2},
		},
		Coverage: []view.Coverage{{VM: vm("web-2"), Before: "old", Why: "no policy asks for it any more"}},
		Notes:    []string{"4 points of web-2 would go on 14 March"},
	}
}

func policyView() view.Policy {
	last := session("s-1", holdfast.OutcomeWarning)
	return view.Policy{
		Name: "nightly", Kind: holdfast.PolicySchedule, Description: "all", Enabled: true, Priority: 1, Version: 3, Machines: 2, Next: noon.Add(time.Hour), Running: []holdfast.RunID{}, Last: &last,
	}
}

func pointView() view.Point {
	return view.Point{
		ID: "p-1", VM: vm("web-1"), Name: "web-1", Kind: holdfast.PointBackup, State: "kept", Policy: "nightly", Session: "s-1", Slot: noon, Created: noon, Flags: holdfast.Flags(holdfast.Daily).With(holdfast.Weekly),
		Repository: "hot", Good: true, Bytes: holdfast.Bytes{Stored: 5 << 20}, ProofLevel: 2, Proved: noon.Add(time.Hour), Why: "daily 1 of 3", Until: noon.Add(72 * time.Hour), LockedUntil: noon.Add(24 * time.Hour),
	}
}

func slaReport() report.Report {
	half, all := 50.0, 100.0
	first := civil.Date{Year: 2026, Month: time.March, Day: 1}
	row := sla.Row{Kind: holdfast.PointBackup, Flag: holdfast.Daily}
	count := sla.Count{Planned: 2, Met: 1, Missed: 1, Proven: 1}
	return report.Report{
		Policy: "gold", Template: "gold", Period: holdfast.Daily, From: first, To: first,
		Entries: []report.Entry{{
			Compliance: sla.Compliance{Policy: "gold", Row: row, Entry: first, TargetPercent: 95, Machines: sla.Machines{Total: 1, Missed: 1}, Count: count, Created: &half, ProvenRatio: &half, Status: sla.MissedSLA, ProvenStatus: sla.MissedSLA},
			ProvenNow:  &all,
			ByMachine: []report.Machine{{
				MachineCompliance: sla.MachineCompliance{Machine: vm("web-1"), Count: count, Created: &half, Status: sla.MissedSLA}, Name: "web-1",
				Expectations: []sla.Expectation{{Policy: "gold", Machine: vm("web-1"), Row: row, Slot: noon.Add(-24 * time.Hour), Entry: first, State: sla.Missed, Reason: sla.Overlap}},
			}},
		}},
		Open: []sla.Expectation{{Policy: "gold", Machine: vm("web-1"), Row: row, Slot: noon, Deadline: noon.Add(time.Hour), Entry: first, State: sla.Open}},
	}
}

// fixture is what the server answers.
func fixture() map[string]any {
	hot := view.Connected{Name: "hot", URL: "/srv/hot", ID: "r-1", Created: true, RecoveryCode: "HF-CODE-ON-PAPER"}
	repository := view.Repository{Name: "hot", URL: "azblob://shopvault/backups/hot", Region: "westeurope", Tier: "hot", Encrypted: true, Immutable: true, Backups: 3, StoredBytes: 7 << 30, UsedBy: []string{"nightly"}}
	looked := repository
	looked.Checked, looked.ID, looked.Owner, looked.Problem = noon, "r-1", "holdfast-1", "the container is gone"
	withYAML, disabled, copied := policyView(), policyView(), policyView()
	disabled.Name, disabled.Next, copied.Next = "old", time.Time{}, time.Time{}
	withYAML.YAML = "kind: SchedulePolicy\nname: nightly\n"
	disabled.Enabled, disabled.Priority = false, 2
	copied.Name, copied.Enabled = "copy", false
	asked := session("s-2", "")
	asked.Stopping = true
	removal := session("s-3", "")
	machine := view.Machine{InventoryVM: holdfast.InventoryVM{ID: vm("web-1"), Name: "web-1", Region: "westeurope", Disks: []holdfast.InventoryDisk{}}, Policy: "nightly", PolicyKind: holdfast.PolicySchedule, Why: "its tag env is prod", FirstSeen: noon, LastSeen: noon, Points: 4, Newest: noon}
	bare := view.Machine{InventoryVM: holdfast.InventoryVM{ID: vm("web-2"), Name: "web-2", Region: "westeurope", Disks: []holdfast.InventoryDisk{}}, Why: "no policy asks for it", Refused: "it has no managed disk", FirstSeen: noon, LastSeen: noon}
	return map[string]any{
		"POST /sign-in": view.SignedIn{Token: token, User: "anna", Role: "operator", Expires: noon.Add(12 * time.Hour)}, "POST /sign-out": nil,
		"GET /me": view.Me{User: "anna", Role: "operator", Rights: []string{"see the overview", "run policies"}}, "GET /server": view.Server{Name: "holdfast", Version: "v0.1.0", API: "1", Now: noon},
		"GET /documents":       fixed(view.Document{Kind: "Repository", Name: "hot", Version: 1, YAML: "kind: Repository\nname: hot\n"}, view.Document{Kind: "SchedulePolicy", Name: "nightly", Version: 3, YAML: "kind: SchedulePolicy\nname: nightly\n"}),
		"POST /documents/plan": plan(), "POST /documents/apply": view.Applied{Plan: plan(), Repositories: []view.Connected{hot}},
		"GET /policies": fixed(policyView(), disabled), "GET /policies/nightly": withYAML, "DELETE /policies/nightly": nil, "PATCH /policies/nightly": disabled, "POST /policies/nightly/clone": copied,
		"POST /policies/nightly/run": view.Started{Sessions: []holdfast.Session{session("s-1", "")}, Note: "web-3 is in work already"}, "POST /policies/nightly/stop": view.Stopped{Sessions: []holdfast.RunID{"s-1"}},
		"GET /policies/gold/sla": slaReport(),
		"GET /sessions":          fixed(view.Session{Session: session("s-2", "")}, view.Session{Session: session("s-1", holdfast.OutcomeError)}),
		"GET /sessions/s-1":      shares(session("s-1", holdfast.OutcomeError)), "GET /sessions/s-1/watch": watched("s-1", holdfast.OutcomeError), "POST /sessions/s-2/stop": view.Session{Session: asked},
		"GET /sessions/s-1/log": func(out http.ResponseWriter, in *http.Request) {
			pages := map[string][]holdfast.LogLine{"0": logLines(1, 2), "2": logLines(3, 3), "3": {}}
			_, _ = out.Write(encoded(fixed(pages[in.URL.Query().Get("after")]...)))
		},
		"GET /sessions/statistics": view.Statistics{From: noon, To: noon.Add(time.Hour), Sessions: 5, Running: 1, Outcomes: map[holdfast.Outcome]int{holdfast.OutcomeSuccess: 3, holdfast.OutcomeError: 1}, Machines: holdfast.ItemCounts{Total: 9, Success: 7, Error: 1, Running: 1}, Bytes: holdfast.Bytes{Read: 5 << 30, Stored: 1 << 30, Saved: 4 << 30}, Seconds: 97},
		"GET /sessions/export":     func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, "session,vm\ns-1,web-1\n") },
		"GET /machines":            fixed(machine, bare), "POST /machines/discover": nil, "POST /machines/snapshot": view.Session{Session: session("s-4", "")}, "GET /sessions/s-4/watch": watched("s-4", holdfast.OutcomeSuccess),
		"GET /points": fixed(pointView()), "POST /points/remove": view.Removal{Points: []view.Point{pointView()}, Session: &removal},
		"GET /repositories": fixed(repository), "GET /repositories/hot": looked, "POST /repositories": hot, "DELETE /repositories/hot": nil,
		"POST /notifications/test": view.Delivered{Deliveries: []view.Delivery{{To: "anna@example.com", OK: true}, {To: "https://hooks.example.com", Problem: "it answered 500", Hint: "look at its log"}}},
	}
}

func encoded(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return data
}
