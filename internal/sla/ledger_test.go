package sla_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// Events that do not fit are refused by name of the field, and change nothing.
func TestApply_Refuses(t *testing.T) {
	backup := work("web-1", holdfast.PointBackup, "03-02 10:00")
	for _, c := range []struct {
		event sla.Event
		kind  holdfast.Kind
		field string
	}{
		{sla.TimePassed{}, holdfast.KindInvalid, "at"},
		{sla.TimePassed{At: when("03-02 10:29")}, holdfast.KindInvalid, "at"},
		{sla.TimePassed{At: when("03-02 10:30").AddDate(11, 0, 0)}, holdfast.KindInvalid, "at"},
		{joined("03-02 10:30", "web-2"), holdfast.KindInvalid, "at"}, // the slots of this instant have fallen due
		{inForce("03-02 11:00", 0, hourly()), holdfast.KindConflict, "version"},
		{sla.PolicyInForce{At: when("03-02 11:00")}, holdfast.KindInvalid, "policy"},
		{sla.PolicyEnabled{At: when("03-02 11:00"), Policy: "none"}, holdfast.KindNotFound, "policy"},
		{sla.PolicyRemoved{At: when("03-02 11:00"), Policy: "none"}, holdfast.KindNotFound, "policy"},
		{sla.MachineJoined{At: when("03-02 11:00"), Policy: "none", Machine: machine("web-2"), Region: dublin}, holdfast.KindNotFound, "policy"},
		{sla.MachineJoined{At: when("03-02 11:00"), Policy: shop, Machine: machine("web-2")}, holdfast.KindInvalid, "region"},
		{sla.MachineJoined{At: when("03-02 11:00"), Policy: shop, Region: dublin}, holdfast.KindInvalid, "machine"},
		{joined("03-02 11:00", "WEB-1"), holdfast.KindConflict, "machine"},
		{left("03-02 11:00", "web-2"), holdfast.KindConflict, "machine"},
		{sla.ServerStarted{At: when("03-02 11:00")}, holdfast.KindConflict, ""},
		{backed("03-02 11:00", "web-2", "03-02 10:00"), holdfast.KindNotFound, "machine"},
		{sla.PointDurable{At: when("03-02 10:40"), Work: backup}, holdfast.KindInvalid, "point"},
		{sla.PointDurable{At: when("03-02 10:40"), Work: sla.Work{Policy: "none"}, Point: "p"}, holdfast.KindNotFound, "policy"},
		{made("03-02 10:40", "web-1", "copy", "03-02 10:00"), holdfast.KindInvalid, "kind"},
		{backed("03-02 10:40", "web-1", "03-02 11:00"), holdfast.KindInvalid, "slot"},
		{sla.SessionSkipped{At: when("03-02 10:40"), Work: sla.Work{Policy: shop, Machine: machine("web-1"), Kind: holdfast.PointArchive, Slot: when("03-02 10:00")}}, holdfast.KindInvalid, "kind"},
		{sla.PointProven{At: when("03-02 10:40"), Point: "p", Level: 6, OK: true}, holdfast.KindInvalid, "level"},
		{sla.PointProven{At: when("03-02 10:40"), Point: "p", Level: 2, OK: true, Proved: when("03-02 10:41")}, holdfast.KindInvalid, "proved"},
	} {
		w := daily(t)
		w.until("03-02 10:30")
		before := string(encode(t, w.ledger.Snapshot()))
		err := w.ledger.Apply(c.event, w)
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field || e.Hint == "" {
			t.Errorf("%#v: %v", c.event, err)
		}
		if after := string(encode(t, w.ledger.Snapshot())); after != before {
			t.Errorf("%#v was refused, and changed the ledger", c.event)
		}
	}
	w := daily(t)
	w.do(sla.ServerStopped{At: when("03-02 11:00")})
	if err := w.ledger.Apply(sla.ServerStopped{At: when("03-02 11:00")}, nil); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("stopped twice: %v", err)
	}
}

// Ids of machines are compared without regard to case, and figures bear the id with which the machine joined.
func TestApply_MachineIDs(t *testing.T) {
	w := daily(t)
	w.do(sla.PointDurable{At: when("03-02 10:10"), Work: work("WEB-1", holdfast.PointBackup, "03-02 10:00"), Point: "p"})
	w.wantLine("web-1", "03-02 10:00", sla.Met, "")
}

// An expectation is written down before anything can meet it, and a period when all of it has ended.
func TestRecorder_Order(t *testing.T) {
	w := daily(t)
	w.told = nil // the empty entries of February
	w.served("03-02", "web-1", 10)
	w.until("03-03 00:00")
	want := []string{"10:00 open", "10:00 met", "11:00 open", "11:00 missed", "12:00 open"}
	for i, word := range want {
		if !strings.Contains(w.told[i], word) {
			t.Errorf("%d: %s, not %s", i, w.told[i], word)
		}
	}
	periods := w.told[16:] // eight that were opened and ended
	if !strings.Contains(periods[0], `"closed":"2026-03-03T00:00:00Z"`) {
		t.Errorf("after the lines comes %s", periods[0])
	}
}

// Open tells what is open, by policy.
func TestOpen(t *testing.T) {
	w := daily(t)
	w.until("03-02 10:00")
	n := 0
	for e := range w.ledger.Open(shop) {
		n++
		if e != w.lines[nameOf(e)] {
			t.Errorf("%+v", e)
		}
	}
	for range w.ledger.Open("none") {
		n++
	}
	for name := range w.ledger.Policies() {
		if name != shop {
			t.Errorf("policy %s", name)
		}
	}
	if n != 1 || w.ledger.Series("none", dailyBackups) != nil || w.ledger.Machines(shop, dailySnapshots, date("03-02")) != nil {
		t.Errorf("%d expectations are open", n)
	}
}

// What does not fit together is no ledger.
func TestRestore_Refuses(t *testing.T) {
	w := nightly(t)
	w.do(backed("03-02 22:30", "web-1", "03-02 22:00"), proven("03-02 23:00", "web-1", "03-02 22:00", 2))
	w.until("03-03 02:00")
	sound := string(encode(t, w.ledger.Snapshot()))
	for old, bad := range map[string]string{
		`"format":1`:              `"format":2`,
		`"version":0,"enabled"`:   `"version":7,"enabled"`,
		`"version":0,"waiting"`:   `"version":-1,"waiting"`,
		`"waiting":[{"machine":0`: `"waiting":[{"machine":1`,
		`"tallies":[{"machine":0`: `"tallies":[{"machine":9`,
		`"join":0`:                `"join":-1`,
		`"through":"2026-03-01"`:  `"through":"2026-12-31"`,
		`"points":{"`:             `"points":{"another`,
		`"region":"northeurope"`:  `"region":"elsewhere"`,
	} {
		if !strings.Contains(sound, old) {
			t.Fatalf("%s is not in %s", old, sound)
		}
		var s sla.Snapshot
		if err := json.Unmarshal([]byte(strings.ReplaceAll(sound, old, bad)), &s); err != nil {
			t.Fatal(err)
		}
		if _, err := sla.Restore(s); !holdfast.IsKind(err, holdfast.KindCorrupt) && !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	var s sla.Snapshot
	if err := json.Unmarshal([]byte(sound), &s); err != nil {
		t.Fatal(err)
	}
	s.Policies = append(s.Policies, s.Policies[0])
	if _, err := sla.Restore(s); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a policy twice: %v", err)
	}
}

// Machines that come and go leave nothing behind: what left two months ago is known to nobody.
func TestLedger_Forgets(t *testing.T) {
	w := newWorld(t)
	w.do(inForce("01-01 00:00", 1, hourly()))
	for at := when("01-01 08:00"); at.Before(when("06-01 00:00")); at = at.Add(24 * time.Hour) {
		name := at.Format("web-0102")
		w.do(
			sla.MachineJoined{At: at, Policy: shop, Machine: machine(name), Region: dublin},
			sla.MachineLeft{At: at.Add(4 * time.Hour), Policy: shop, Machine: machine(name)},
		)
	}
	if n := len(w.ledger.Snapshot().Policies[0].Machines); n < 14 || n > 45 {
		t.Errorf("%d machines are remembered", n)
	}
	if n := w.ledger.Seats(shop); n > 20 {
		t.Errorf("%d seats are kept", n)
	}
	if n := len(w.ledger.Snapshot().Policies[0].Books[0].Entries); n > 16 {
		t.Errorf("%d entries are remembered", n)
	}
}

// The mean of ratios is exact: three machines with 1/3 each reach 100/3 only if nothing is rounded on the way.
func TestCompliance_Exact(t *testing.T) {
	for _, target := range []float64{50, 50.01} {
		w := newWorld(t)
		three := with(hourly(), func(t *holdfast.SLATemplate) { t.BackupWindow, t.TargetPercent = window("10:00-13:00"), target })
		w.do(inForce("02-20 00:00", 1, three), joined("03-02 08:00", "web-1"), joined("03-02 08:00", "web-2"))
		w.served("03-02", "web-1", 10)
		w.served("03-02", "web-2", 11, 12)
		w.until("03-03 00:00")
		c, _ := w.ledger.Entry(shop, dailyBackups, date("03-02"))
		if want := map[float64]sla.Status{50: sla.MetSLA, 50.01: sla.MissedSLA}[target]; c.Status != want || *c.Created != 50 {
			t.Errorf("1/3 and 2/3 against %g %%: %s, %g", target, c.Status, *c.Created)
		}
	}
}

// A machine in a region that nobody knows is protected all the same, by the clock of UTC, and this is told.
func TestApply_UnknownRegion(t *testing.T) {
	w := daily(t)
	w.do(joinedIn("03-02 08:30", "web-2", "atlantis"))
	w.until("03-02 10:00")
	w.wantLine("web-2", "03-02 10:00", sla.Open, "")
	if len(w.notes) != 1 || !strings.Contains(w.notes[0].Text, "atlantis") {
		t.Errorf("%+v", w.notes)
	}
}
