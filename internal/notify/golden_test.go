package notify_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

var update = flag.Bool("update", false, "write the golden messages anew; look at them afterwards, in a browser too")

const gib = 1 << 30

var night = time.Date(2026, time.November, 30, 21, 0, 0, 0, time.UTC)

func brussels(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Brussels")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func settings(t testing.TB) notify.Settings {
	t.Helper()
	nine := holdfast.NewTimeOfDay(9, 0)
	return notify.Settings{Zone: brussels(t), Mail: &holdfast.Mail{
		Enabled: true, Server: "mail.example.com", Port: 587, TLS: holdfast.MailTLSStart, From: "holdfast@example.com", Recipients: []string{"operations@example.com"},
		Subject:    "[%JobResult%] %JobName% (%ObjectCount% instances) %Issues%",
		SLASubject: "%JobName% (%ObjectCount% instances): [%SLAType% for the period %SLAPeriod% is %SLAStatus%]",
		OnSuccess:  true, OnWarning: true, OnFailure: true, DailyReportAt: &nine,
	}}
}

// everything is a policy's notification that leaves nothing out.
var everything = holdfast.PolicyNotification{Enabled: true, OnSuccess: true, OnWarning: true, OnFailure: true}

func vm(name string) holdfast.ResourceID {
	return holdfast.NewResourceID("6f1c2a0e-0000-4000-8000-000000000001", "rg-shop", "Microsoft.Compute/virtualMachines", name)
}

// failed is a session with every kind of item.
func failed() notify.Finished {
	item := func(name string, o holdfast.Outcome, minutes int, read, stored int64) holdfast.SessionItem {
		return holdfast.SessionItem{
			VM: vm(name), Region: "westeurope", State: holdfast.StateDone, Outcome: o, Attempts: 1, Started: night, Ended: night.Add(time.Duration(minutes)*time.Minute + 7*time.Second),
			Bytes: holdfast.Bytes{Total: 160 * gib, Read: read, Stored: stored},
		}
	}
	database := item("db-1", holdfast.OutcomeError, 31, 0, 0)
	database.Attempts, database.Message = 4, "the changed ranges of disk db-1-data-2 cannot be read: the access to its snapshot was revoked while it was read"
	database.Hint = "see who ended the access in the activity log of rg-shop, and start the policy again"
	mail := item("mail-legacy-with-a-rather-long-name-01", holdfast.OutcomeWarning, 12, 5*gib, gib+300<<20)
	mail.Message = "the guest could not be frozen, so that the point is consistent as after power loss"
	return notify.Finished{
		Session: holdfast.Session{
			ID: "0193807c-7e2b-7000-8000-000000000001", Type: holdfast.SessionPolicy, Policy: "Shop, nightly", State: holdfast.StateDone, Outcome: holdfast.OutcomeError,
			Makes:   []holdfast.Makes{{Kind: holdfast.PointSnapshot}, {Kind: holdfast.PointBackup}},
			Started: night, Ended: night.Add(31*time.Minute + 7*time.Second), Items: holdfast.ItemCounts{Total: 4, Success: 2, Warning: 1, Error: 1},
			Bytes: holdfast.Bytes{Total: 640 * gib, Read: 17 * gib, Stored: 3*gib + 900<<20},
		},
		Items: []holdfast.SessionItem{item("web-1", holdfast.OutcomeSuccess, 6, 7*gib, gib), item("web-2", holdfast.OutcomeSuccess, 5, 5*gib, 1500<<20), mail, database},
	}
}

func number(n float64) *float64 { return &n }

func report() (sla.Compliance, []sla.MachineCompliance) {
	machine := func(name string, met, missed int, ratio *float64, s sla.Status) sla.MachineCompliance {
		return sla.MachineCompliance{Machine: vm(name), Count: sla.Count{Planned: met + missed, Met: met, Missed: missed, Proven: met}, Created: ratio, ProvenRatio: ratio, Status: s}
	}
	compliance := sla.Compliance{
		Policy: "Databases", Row: sla.Row{Kind: holdfast.PointBackup, Flag: holdfast.Daily}, Entry: civil.Date{Year: 2026, Month: time.November, Day: 29}, Closed: night,
		TargetPercent: 95, Machines: sla.Machines{Total: 4, Met: 2, Missed: 1, Removed: 1}, Created: number(91.0 + 2.0/3), ProvenRatio: number(87.5),
		Status: sla.MissedSLA, ProvenStatus: sla.MissedSLA,
	}
	return compliance, []sla.MachineCompliance{
		machine("db-1", 4, 0, number(100), sla.MetSLA), machine("db-2", 3, 1, number(75), sla.MissedSLA), machine("db-3", 4, 0, number(100), sla.MetSLA),
		machine("db-old", 1, 0, nil, sla.Removed),
	}
}

func missed() []sla.Expectation {
	slot := func(name string, hour int, why sla.Reason) sla.Expectation {
		at := night.Add(time.Duration(hour) * time.Hour)
		return sla.Expectation{
			Policy: "Databases", Machine: vm(name), Region: "westeurope", Row: sla.Row{Kind: holdfast.PointBackup, Flag: holdfast.Daily},
			Slot: at, Deadline: at.Add(time.Hour), Ended: at.Add(time.Hour), State: sla.Missed, Reason: why,
		}
	}
	return []sla.Expectation{slot("db-2", 1, sla.Overlap), slot("db-1", 0, sla.Failed), slot("db-1", 1, sla.NotRunning)}
}

func past() []notify.Past {
	run := func(policy string, hour int, o holdfast.Outcome, items holdfast.ItemCounts) notify.Past {
		at := time.Date(2026, time.December, 1, hour, 0, 0, 0, time.UTC)
		return notify.Past{Made: map[holdfast.PointKind]int{holdfast.PointBackup: items.Success + items.Warning, holdfast.PointSnapshot: items.Success + items.Warning}, Session: holdfast.Session{
			ID: holdfast.RunID(fmt.Sprint(policy, hour)), Type: holdfast.SessionPolicy, Policy: policy, Outcome: o, Items: items, Started: at, Ended: at.Add(25 * time.Minute),
			Makes: []holdfast.Makes{{Kind: holdfast.PointSnapshot}, {Kind: holdfast.PointBackup}}, Bytes: holdfast.Bytes{Total: 640 * gib, Read: 17 * gib, Stored: 4 * gib},
		}}
	}
	pass := notify.Past{Removed: 31, Session: holdfast.Session{ID: "r", Type: holdfast.SessionRetention, Outcome: holdfast.OutcomeSuccess, Started: night, Ended: night.Add(2 * time.Minute), Items: holdfast.ItemCounts{Total: 40, Success: 40}}}
	return []notify.Past{
		run("Shop, nightly", 1, holdfast.OutcomeError, holdfast.ItemCounts{Total: 4, Success: 2, Warning: 1, Error: 1}), run("Databases", 0, holdfast.OutcomeSuccess, holdfast.ItemCounts{Total: 4, Success: 4}),
		run("Databases", 4, holdfast.OutcomeSuccess, holdfast.ItemCounts{Total: 4, Success: 4}), run("Workstations", 2, holdfast.OutcomeWarning, holdfast.ItemCounts{Total: 212, Success: 210, Warning: 2}), pass,
	}
}

// TestGolden holds whole messages against files, so that a change of words or looks is a change that somebody sees.
func TestGolden(t *testing.T) {
	s := settings(t)
	must := func(messages []notify.Message, err error) notify.Message {
		t.Helper()
		if err != nil || len(messages) != 1 {
			t.Fatalf("%d messages, %v", len(messages), err)
		}
		return messages[0]
	}
	well := failed()
	well.Session.Outcome, well.Items, well.Session.Items = holdfast.OutcomeSuccess, well.Items[:2], holdfast.ItemCounts{Total: 2, Success: 2}
	well.Session.Manual, well.Session.By = true, "ann"
	compliance, machines := report()
	test, err := notify.Test(s, "1", "operations@example.com", night)
	for name, m := range map[string]notify.Message{
		"session-failed": must(notify.Session(s, everything, failed())), "session-success": must(notify.Session(s, everything, well)), "report": must(notify.Report(s, everything, compliance, machines)),
		"missed": must(notify.Missed(s, everything, "Databases", missed())), "daily": must(notify.Daily(s, time.Date(2026, time.December, 1, 8, 0, 0, 0, time.UTC), past())),
		"daily-empty": must(notify.Daily(s, time.Date(2026, time.December, 1, 8, 0, 0, 0, time.UTC), nil)), "test": must([]notify.Message{test}, err),
	} {
		golden(t, name+".txt", "Subject: "+m.Subject+"\n\n"+m.Text)
		golden(t, name+".html", m.HTML)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != got {
		t.Errorf("%s is not what is made now (%v); write it anew with -update and look at it", file, err)
	}
}
