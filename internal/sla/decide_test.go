package sla_test

import (
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// night returns the slots of Monday 2 March in Dublin: backups at 22:00 and 02:00, and the weekly one with the first.
func night() []schedule.Slot {
	return slices.Collect(schedule.Slots(weekly(), zoneOf(dublin), when("03-02 12:00"), when("03-03 12:00")))
}

func TestServes(t *testing.T) {
	slots := night()
	for i, want := range [][]bool{{true, false, false, false}, {true, true, true, false}, {false, true, false, false}} {
		for k, session := range []string{"03-02 22:00", "03-03 02:00", "03-03 05:59", "03-03 06:00"} {
			if got := sla.Serves(slots[i], when(session)); got != want[k] {
				t.Errorf("%s %s by the session of %s: %t", slots[i].Flag, slots[i].At, session, got)
			}
		}
	}
}

func TestInTime(t *testing.T) {
	first := night()[0]
	for at, want := range map[string]bool{"03-02 22:01": true, "03-03 01:59": true, "03-03 02:00": false} {
		if sla.InTime(first, when(at)) != want || sla.Over(first, when(at)) == want {
			t.Errorf("at %s: %t", at, !want)
		}
	}
}

func TestOverlaps(t *testing.T) {
	for _, kind := range []holdfast.PointKind{holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive} {
		for _, running := range []holdfast.PointKind{"", holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive} {
			if got := sla.Overlaps(kind, running); got != (kind == holdfast.PointBackup && running == holdfast.PointBackup) {
				t.Errorf("%s while %q runs: %t", kind, running, got)
			}
		}
	}
}

// Flags go to the first point of the window, in time or not.
func TestFlagsOf(t *testing.T) {
	for _, c := range []struct {
		session string
		first   bool
		want    string
	}{
		{"03-02 22:00", true, "DW"},
		{"03-03 02:00", true, "DW"},
		{"03-03 02:00", false, "D"},
		{"03-03 03:00", true, "W"},
		{"03-03 06:00", true, ""},
	} {
		if got := sla.FlagsOf(night(), when(c.session), c.first); got.String() != c.want {
			t.Errorf("session of %s, first %t: %s, not %s", c.session, c.first, got, c.want)
		}
	}
}

func TestAfterDowntime(t *testing.T) {
	slots := night() // daily and weekly of 22:00, daily of 02:00
	for _, c := range []struct {
		open   []schedule.Slot
		newest string
		now    string
		run    bool
		missed int
	}{
		{slots, "03-03 02:00", "03-03 02:30", true, 1},       // the first daily one is too old
		{slots[:2], "03-02 22:00", "03-02 23:00", true, 0},   // both by one session
		{slots, "03-03 02:00", "03-03 07:00", false, 3},      // too late for all
		{slots[:1], "03-03 02:00", "03-03 01:00", false, 1},  // a newer one was due and is done
		{slots[1:2], "03-03 22:00", "03-03 06:30", false, 1}, // the newest session is of another window
		{nil, "03-03 02:00", "03-03 02:30", false, 0},        // nothing was open
	} {
		run, missed := sla.AfterDowntime(c.open, when(c.newest), when(c.now))
		if run != c.run || len(missed) != c.missed {
			t.Errorf("newest %s, back at %s: run %t, missed %v", c.newest, c.now, run, missed)
		}
	}
}

func TestDayOf(t *testing.T) {
	for _, c := range []struct {
		window, at, day string
		open            bool
	}{
		{"10:00-18:00", "03-02 09:59", "03-02", false},
		{"10:00-18:00", "03-02 10:00", "03-02", true},
		{"10:00-18:00", "03-02 18:00", "03-02", false},
		{"22:00-06:00", "03-03 05:59", "03-02", true},
		{"22:00-06:00", "03-03 06:00", "03-03", false},
		{"22:00-06:00", "03-03 22:00", "03-03", true},
		{"00:00-00:00", "03-03 00:00", "03-03", true},
		{"12:00-12:00", "03-03 11:59", "03-02", true},
		{"01:30-02:30", "03-29 01:30", "03-29", false}, // Dublin's gap goes from 01:00 UTC on: both ends are at 01:00 UTC or 01:30
		{"23:00-01:00", "03-28 23:30", "03-28", true},
	} {
		day, open := sla.DayOf(window(c.window), zoneOf(dublin), when(c.at))
		if day != date(c.day) || open != c.open {
			t.Errorf("%s at %s: %s %t, not %s %t", c.window, c.at, day, open, c.day, c.open)
		}
	}
}

// A proof counts for its level and all below, and while it is not older than allowed.
func TestStanding_Holds(t *testing.T) {
	at := when("03-20 00:00")
	s := sla.Standing{}.Proven(sla.PointProven{At: when("03-01 00:00"), Level: 4, OK: true}).Proven(sla.PointProven{At: when("03-10 00:00"), Level: 2, OK: true})
	for _, c := range []struct {
		level int
		age   holdfast.Period
		want  bool
	}{
		{0, holdfast.Days(1), true},
		{1, holdfast.Days(10), true},
		{2, holdfast.Days(9), false},
		{3, holdfast.Days(10), false},
		{3, holdfast.Days(19), true},
		{4, holdfast.Period{}, true},
		{5, holdfast.Period{}, false},
	} {
		if got := s.Holds(c.level, c.age, at); got != c.want {
			t.Errorf("level %d within %q: %t", c.level, c.age, got)
		}
	}
	if (sla.Standing{}).Holds(1, holdfast.Period{}, at) || !(sla.Standing{}).Holds(0, holdfast.Period{}, at) {
		t.Error("a point that was only written counts as proven, or not even as written")
	}
	if older := s.Proven(sla.PointProven{At: when("03-11 00:00"), Level: 2, OK: true, Proved: when("03-09 00:00")}); older != s {
		t.Error("an older proof replaced a newer one")
	}
}
