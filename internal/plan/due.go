package plan

import (
	"iter"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// horizon is how far ahead the next slot is looked for: a slot on the 29th of February comes once in eight years at worst.
const horizon = 8*366 + 1

// dueSlot is a slot that has fallen due, as the intent that would start it.
type dueSlot struct {
	Intent
	deadline time.Time // from then on it is not started any more
}

func (s dueSlot) late(now time.Time) bool { return !now.Before(s.deadline) }

// startWithin is how long after its time a run of a schedule-based policy may still begin.
const startWithin = 24 * time.Hour

// slotKinds are the kinds of which the sessions of SLA policies are decided apart. Archives wait for the backups of their
// window, and are decided with them.
var slotKinds = [...]holdfast.PointKind{holdfast.PointSnapshot, holdfast.PointBackup}

// tracks are the sequences of slots of a policy.
func (p *policy) tracks() []TrackKey {
	if p.kind == holdfast.PolicySchedule {
		return []TrackKey{{Policy: p.Name}}
	}
	var keys []TrackKey
	for _, r := range p.regions {
		for _, kind := range slotKinds {
			keys = append(keys, TrackKey{Policy: p.Name, Region: r.name, Kind: kind})
		}
		if p.checks.HealthCheck != nil {
			keys = append(keys, TrackKey{Policy: p.Name, Region: r.name})
		}
	}
	return keys
}

// after returns the first slot of a track after an instant; zero when there is none.
func (p *policy) after(key TrackKey, t time.Time) time.Time {
	for s := range p.slots(key, t.Add(1), t.AddDate(0, 0, horizon)) {
		return s.Slot
	}
	return time.Time{}
}

// due returns the slots of a track after one instant, up to and at another.
func (p *policy) due(key TrackKey, after, now time.Time) []dueSlot {
	return slices.Collect(p.slots(key, after.Add(1), now.Add(1)))
}

// slots yields the slots of a track in [from, to).
func (p *policy) slots(key TrackKey, from, to time.Time) iter.Seq[dueSlot] {
	if p.kind == holdfast.PolicySchedule {
		return p.runs(from, to)
	}
	for i := range p.regions {
		switch r := &p.regions[i]; {
		case r.name != key.Region:
		case key.Kind == "":
			return p.healthChecks(r, from, to)
		default:
			return p.sessions(r, key.Kind, from, to)
		}
	}
	return func(func(dueSlot) bool) {}
}

// runs yields the runs of a schedule-based policy.
func (p *policy) runs(from, to time.Time) iter.Seq[dueSlot] {
	return func(yield func(dueSlot) bool) {
		for run := range schedule.Runs(*p.schedule, p.zone, from, to) {
			i := Intent{Verb: Start, Policy: p.Name, Slot: run.At, Makes: makesOf(run), Machines: p.machines, CheckAfter: run.HealthCheck}
			if !yield(dueSlot{i, run.At.Add(startWithin)}) {
				return
			}
		}
	}
}

// healthChecks yields the health checks that an SLA template asks for in a region.
func (p *policy) healthChecks(r *region, from, to time.Time) iter.Seq[dueSlot] {
	return func(yield func(dueSlot) bool) {
		for at := range schedule.HealthChecks(p.checks, r.zone, from, to) {
			i := Intent{Verb: Check, Policy: p.Name, Region: r.name, Slot: at, Machines: r.machines}
			if !yield(dueSlot{i, at.Add(startWithin)}) {
				return
			}
		}
	}
}

func makesOf(run schedule.Run) []Making {
	var makes []Making
	if run.MakesSnapshot() {
		makes = append(makes, Making{Kind: holdfast.PointSnapshot, Flags: run.Snapshot})
	}
	for _, t := range run.Backups {
		makes = append(makes, Making{Kind: holdfast.PointBackup, Flags: t.Flags, Repository: t.Repository})
	}
	for _, t := range run.Archives {
		makes = append(makes, Making{Kind: holdfast.PointArchive, Flags: t.Flags, Repository: t.Repository})
	}
	return makes
}
