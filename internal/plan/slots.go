package plan

import (
	"iter"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// sessions yields the sessions of one track of an SLA policy in a region. A backup and the archive that waits for it are one
// session, which makes one after the other.
func (p *policy) sessions(r *region, kind holdfast.PointKind, from, to time.Time) iter.Seq[dueSlot] {
	return func(yield func(dueSlot) bool) {
		var held dueSlot
		for s := range schedule.Sessions(p.tracked[kind].all, r.zone, from, to) {
			if len(held.Makes) > 0 && !held.Slot.Equal(s.At) {
				if !yield(held) {
					return
				}
				held = dueSlot{}
			}
			held = p.joined(held, r, kind, s)
		}
		if len(held.Makes) > 0 {
			yield(held)
		}
	}
}

// joined adds what a session makes to those of the same instant.
func (p *policy) joined(held dueSlot, r *region, track holdfast.PointKind, s schedule.Session) dueSlot {
	if len(held.Makes) == 0 {
		held.Intent = Intent{Verb: Start, Policy: p.Name, Region: r.name, Slot: s.At, Machines: r.machines}
	}
	making := Making{Kind: s.Kind, Owed: p.owed(r, track, s), Opens: s.Slots[0].Opens}
	for _, slot := range s.Slots {
		if slot.Flag == holdfast.Daily {
			making.Flags = making.Flags.With(slot.Flag)
		}
		if slot.Deadline.After(held.deadline) {
			held.deadline = slot.Deadline
		}
	}
	switch s.Kind {
	case holdfast.PointBackup:
		making.Repository = p.storage.Backups.In(r.name)
	case holdfast.PointArchive:
		making.Repository = p.storage.Archives.In(r.name)
	case holdfast.PointSnapshot:
	}
	held.Makes = append(held.Makes, making)
	return held
}

// owed are the flags of rarer rows whose slot stands in the session's window: the first good point of the window takes them,
// and every session of the window may be the one that makes it.
func (p *policy) owed(r *region, track holdfast.PointKind, s schedule.Session) holdfast.Flags {
	var flags holdfast.Flags
	opens := s.Slots[0].Opens
	for slot := range schedule.Slots(p.tracked[track].rare, r.zone, opens, opens.Add(1)) {
		if slot.Kind == s.Kind {
			flags = flags.With(slot.Flag)
		}
	}
	return flags
}

// byHand is what a schedule-based policy makes when a person starts it: a point of each kind that it makes, without flags, where
// its most frequent schedule of that kind puts it.
func (p *policy) byHand() []Making {
	if p.schedule == nil {
		return nil
	}
	var makes []Making
	for _, kind := range [...]holdfast.PointKind{holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive} {
		if row, ok := mostFrequent(p.schedule.Rows, kind); ok {
			makes = append(makes, Making{Kind: kind, Repository: row.Repository})
		}
	}
	if len(makes) > 0 && makes[0].Kind == holdfast.PointBackup { // no backup without a snapshot to read
		makes = append([]Making{{Kind: holdfast.PointSnapshot}}, makes...)
	}
	return makes
}

func mostFrequent(all []holdfast.ScheduleRow, kind holdfast.PointKind) (holdfast.ScheduleRow, bool) {
	var found holdfast.ScheduleRow
	for _, r := range all {
		if r.Kind == kind && (found.Flag == 0 || r.Flag < found.Flag) {
			found = r
		}
	}
	return found, found.Flag != 0
}
