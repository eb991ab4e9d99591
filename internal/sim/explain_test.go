package sim_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/sim"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// at is an instant of the day of these tests.
func at(hour, minute int) time.Time { return time.Date(2026, 3, 28, hour, minute, 0, 0, time.UTC) }

var (
	explainVM = holdfast.NewResourceID("s", "shop", "Microsoft.Compute/virtualMachines", "web-1")
	daily     = holdfast.Flags(holdfast.Daily)
)

func told(name preview.Name, slot, when time.Time, flags holdfast.Flags, reason string) store.Event {
	e := store.Event{At: when, VM: explainVM, Policy: "gold", Name: string(name), Slot: slot, Flags: flags, Reason: reason}
	if name == preview.Run || name == preview.Period {
		e.VM = ""
	}
	return e
}

// Histories that differ in instants alone do not differ.
func TestExplain_InstantsDoNotCount(t *testing.T) {
	promised := []store.Event{told(preview.Backup, at(1, 0), at(1, 0), daily, "to hot"), told(preview.Met, at(1, 0), at(1, 0), daily, "backup")}
	recorded := []store.Event{told(preview.Backup, at(1, 0), at(1, 12), daily, "to hot"), told(preview.Met, at(1, 0), at(1, 12), daily, "backup")}
	if got := sim.Explain(promised, recorded); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// Each difference is explained by the one line that says why, and by no other; without that line nothing explains it.
func TestExplain_OneLineEach(t *testing.T) {
	slot, next := at(1, 0), at(5, 0)
	weekly := daily.With(holdfast.Weekly)
	refused := told(preview.Refused, slot, at(1, 20), daily, "no backup: the disk is gone")
	first := told(preview.Refused, slot, at(1, 10), daily, "no backup: the service is busy")
	missed := told(preview.Missed, slot, at(5, 0), daily, "backup: failed")
	skipped := told(preview.Skipped, slot, at(1, 0), 0, "overlap")
	late := told(preview.Backup, slot, at(4, 0), daily, "to hot")
	for _, c := range []struct {
		name               string
		promised, recorded []store.Event
		because            store.Event
		differences        int
	}{
		{"a point that was refused, at last", []store.Event{told(preview.Backup, slot, slot, daily, "to hot")}, []store.Event{first, refused}, refused, 1},
		{"a point whose slot was skipped", []store.Event{told(preview.Backup, slot, slot, daily, "to hot")}, []store.Event{skipped}, skipped, 1},
		{"a session that did not begin", []store.Event{told(preview.Run, slot, slot, daily, "backup")}, []store.Event{skipped}, skipped, 1},
		{"a session without one of its machines", []store.Event{told(preview.Run, slot, slot, daily, "2 machines")}, []store.Event{told(preview.Run, slot, slot, daily, "1 machines"), skipped}, skipped, 2},
		{"a slot that was missed", []store.Event{told(preview.Met, slot, slot, daily, "backup")}, []store.Event{missed}, missed, 2},
		{"a slot that is still open", []store.Event{told(preview.Met, slot, slot, daily, "backup")}, []store.Event{refused}, refused, 1},
		{
			"a flag that the next point bears",
			[]store.Event{told(preview.Backup, next, next, daily, "to hot")},
			[]store.Event{refused, told(preview.Backup, next, next, weekly, "to hot")},
			refused, 2,
		},
		{"the removal of a point that never was", []store.Event{told(preview.Remove, slot, at(23, 0), daily, "2 days ended")}, []store.Event{refused}, refused, 1},
		{
			"a point that came late and goes later",
			[]store.Event{told(preview.Backup, slot, slot, daily, "to hot"), told(preview.Remove, slot, at(23, 0), daily, "ended on 30 March")},
			[]store.Event{late, told(preview.Remove, slot, at(23, 0), daily, "ended on 31 March")},
			late, 2,
		},
		{"a point that stays since a newer one is missing", []store.Event{told(preview.Remove, at(0, 30), at(1, 30), daily, "5 of 4")}, []store.Event{refused}, refused, 1},
		{
			"the figure of a period",
			[]store.Event{told(preview.Period, time.Time{}, at(23, 0), daily, "daily backups of 2026-03-28: 100.0 %, met")},
			[]store.Event{told(preview.Period, time.Time{}, at(23, 0), daily, "daily backups of 2026-03-28: 50.0 %, missed"), missed},
			missed, 2,
		},
	} {
		got := sim.Explain(c.promised, c.recorded)
		got = slices.DeleteFunc(got, func(d sim.Difference) bool {
			return c.name == "the figure of a period" && d.Name == string(preview.Missed)
		})
		if len(got) != c.differences {
			t.Errorf("%s: %d differences: %v", c.name, len(got), got)
		}
		for _, d := range got {
			if d.Cause == nil || *d.Cause != c.because {
				t.Errorf("%s: %v", c.name, d)
			}
		}
		silent := slices.DeleteFunc(slices.Clone(c.recorded), func(e store.Event) bool { return e == c.because || e == first })
		unexplained := slices.ContainsFunc(sim.Explain(c.promised, silent), func(d sim.Difference) bool {
			return d.Cause == nil && strings.Contains(d.String(), "nothing on record says why")
		})
		if !unexplained {
			t.Errorf("%s: something else explains it as well", c.name)
		}
	}
}

// A number that retention tells of is explained by a point that would have borne the flag, weeks before; not by one of other flags.
func TestExplain_NumbersOfRetention(t *testing.T) {
	slot, later := at(1, 0), at(1, 0).AddDate(0, 0, 21)
	weekly := daily.With(holdfast.Weekly)
	for _, flags := range []holdfast.Flags{weekly, daily} {
		refused := told(preview.Refused, slot, at(1, 20), flags, "no backup: the disk is gone")
		got := sim.Explain(
			[]store.Event{told(preview.Backup, slot, slot, flags, "to hot"), told(preview.Unflag, later, later.AddDate(0, 0, 3), daily, "stays: weekly 1 of 4")},
			[]store.Event{refused, told(preview.Unflag, later, later.AddDate(0, 0, 3), daily, "stays: weekly 1 of 3")},
		)
		for _, d := range got {
			explained := d.Cause != nil && *d.Cause == refused
			if want := flags == weekly || d.Name == string(preview.Backup); explained != want {
				t.Errorf("flags %s: %v", flags, d)
			}
		}
		if len(got) != 3 {
			t.Errorf("%d differences", len(got))
		}
	}
}

// Failures of another machine, policy, kind or time explain nothing, and what was not promised is told.
func TestExplain_OthersExplainNothing(t *testing.T) {
	slot := at(1, 0)
	base := told(preview.Refused, slot, slot, daily, "no backup: gone")
	machine, policy, kind, older, newer := base, base, base, base, base
	machine.VM = holdfast.NewResourceID("s", "shop", "Microsoft.Compute/virtualMachines", "web-2")
	policy.Policy, kind.Reason = "silver", "no snapshot: gone"
	older.Slot, newer.Slot = slot.Add(-26*time.Hour), slot.Add(time.Hour)
	for _, other := range []store.Event{machine, policy, kind, older, newer} {
		got := sim.Explain([]store.Event{told(preview.Backup, slot, slot, daily, "to hot")}, []store.Event{other})
		if len(got) != 1 || got[0].Cause != nil {
			t.Errorf("%v", got)
		}
	}
	for _, e := range []store.Event{told(preview.Backup, slot, slot, daily, "to hot"), told(preview.Missed, slot, slot, daily, "backup: noPoint"), told(preview.Excused, slot, slot, daily, "backup: left")} {
		if got := sim.Explain(nil, []store.Event{e}); len(got) != 1 || !got[0].Happened || got[0].Cause != nil {
			t.Errorf("%v", got)
		}
	}
}
