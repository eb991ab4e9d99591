package sla

import (
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

func (e MachineJoined) check(l *Ledger) error {
	if err := l.checkInForce(e.Policy); err != nil {
		return err
	}
	if e.Region == "" {
		return holdfast.Errorf(holdfast.KindInvalid, "the machine's region is missing").WithField("region").WithHint("write Azure's short name, such as westeurope")
	}
	if e.Machine == "" {
		return holdfast.Errorf(holdfast.KindInvalid, "the machine has no id").WithField("machine").WithHint("write its ARM id")
	}
	if m := l.policy(e.Policy).members[e.Machine.Key()]; m != nil && m.in {
		return holdfast.Errorf(holdfast.KindConflict, "policy %s protects %s already", e.Policy, e.Machine).WithField("machine").WithHint("put an event machineLeft before it")
	}
	return nil
}

// apply takes a machine in. It is expected from its next slot on; earlier ones of the day, the week and the month at hand are
// excused. If it had been removed from an entry that is not closed, it is not any more.
func (e MachineJoined) apply(l *Ledger) {
	p := l.policy(e.Policy)
	key := e.Machine.Key()
	m := p.members[key]
	if m == nil {
		m = &member{id: e.Machine, key: key}
		p.members[key] = m
	}
	r := p.region(e.Region)
	if _, known := schedule.RegionZone(e.Region); !known {
		l.recorder.Note(Note{At: l.now, Policy: p.name, Machine: e.Machine, Text: "region " + e.Region + " is not known: its windows are on the clock of UTC"})
	}
	if !r.active() {
		r.restart(l.now)
	}
	m.region, m.in, m.join = r, true, p.joins
	p.joins++
	r.sit(m)
	if r.taken == 1 {
		p.reckon()
	}
	for _, b := range p.books {
		b.readmit(m)
	}
	for _, s := range p.passed(r, l.now) {
		if s.slot.At.Before(m.left) {
			continue
		}
		if entry := p.entry(s.slot.Kind, s.slot.Entry()); entry != nil {
			entry.reach(r.name, s.slot.Deadline)
			p.excuse(l, &due{slot: s.slot, terms: s.terms, region: r, entry: entry}, m, JoinedLate)
		}
	}
}

// forget drops machines that left so long ago that no open entry can know them.
func (p *policy) forget(now time.Time) {
	for key, m := range p.members {
		if !m.in && m.left.Before(now.Add(-memory)) && !p.counts(m) {
			delete(p.members, key)
		}
	}
}

// counts reports whether an open entry has counters of a machine.
func (p *policy) counts(m *member) bool {
	for _, b := range p.books {
		for _, e := range b.entries {
			if _, found := e.places[m]; found {
				return true
			}
		}
	}
	return false
}

// past is what fell due in a region before an instant, in the day, the week and the month at hand. Many machines are seen
// first at one instant.
type past struct {
	at    time.Time
	slots []pastSlot
}

type pastSlot struct {
	slot  schedule.Slot
	terms *Terms
}

// passed returns the slots that were due in a region before an instant, and belong to the day whose window is open, else to the
// local day, and to its week and month.
func (p *policy) passed(r *region, at time.Time) []pastSlot {
	if r.past.at.Equal(at) {
		return r.past.slots
	}
	var slots []pastSlot
	for _, s := range p.stretches {
		for _, row := range s.terms.Template.Rows {
			day, _ := DayOf(windowOf(p.inForce().terms.Template, row.Kind), r.zone, at)
			entry := schedule.EntryOf(row.Flag, day)
			from, to := s.covers(entry.Begins(r.zone), at)
			for slot := range schedule.Slots(withRow(s.terms.Template, row), r.zone, from, to) {
				if slot.Entry() == entry {
					slots = append(slots, pastSlot{slot, s.terms})
				}
			}
		}
	}
	slices.SortStableFunc(slots, func(a, b pastSlot) int { return a.slot.At.Compare(b.slot.At) })
	r.past = past{at, slots}
	return slots
}

func (e MachineLeft) check(l *Ledger) error {
	if err := l.checkInForce(e.Policy); err != nil {
		return err
	}
	if m := l.policy(e.Policy).members[e.Machine.Key()]; m == nil || !m.in {
		return holdfast.Errorf(holdfast.KindConflict, "policy %s does not protect %s", e.Policy, e.Machine).WithField("machine").
			WithHint("put an event machineJoined before it")
	}
	return nil
}

func (e MachineLeft) apply(l *Ledger) {
	p := l.policy(e.Policy)
	m := p.members[e.Machine.Key()]
	p.leave(l, m)
	if !m.region.active() {
		p.reconsider()
	}
}

// leave lets a machine go: what is open is excused. Where it leaves inside the window of a day with a slot of a row, it is
// removed from that row's entry: counted, not scored.
func (p *policy) leave(l *Ledger, m *member) {
	r := m.region
	for _, d := range r.due {
		if w := d.find(m); w != nil {
			p.finish(l, d, w, ending{state: Excused, reason: Left})
		}
	}
	for _, out := range p.removals(r, l.now) {
		if e := p.entry(out.kind, out.entry); e != nil {
			e.tally(m).removed = true
		}
	}
	m.in, m.left = false, l.now
	r.rise()
}

// removal names the entry of a row from which a machine is removed that leaves now.
type removal struct {
	kind  holdfast.PointKind
	entry schedule.Entry
}

func (p *policy) removals(r *region, at time.Time) []removal {
	var found []removal
	for _, kind := range kinds() {
		day, open := DayOf(windowOf(p.inForce().terms.Template, kind), r.zone, at)
		if !open {
			continue
		}
		for _, row := range p.rowsOfDay(r, kind, day) {
			found = append(found, removal{kind, schedule.EntryOf(row.Flag, day)})
		}
	}
	return found
}

// kinds are the kinds of points in the order in which they are made.
func kinds() [3]holdfast.PointKind {
	return [...]holdfast.PointKind{holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive}
}
