package sla

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// region is a policy in one Azure region, whose wall clock its windows follow.
type region struct {
	name    string
	zone    *time.Location
	listed  bool                             // the version in force names it
	seats   []seat                           // who is protected there, in order of joining; some may be empty
	taken   int                              // how many are not
	due     []*due                           // slots whose deadline has not come
	newest  map[holdfast.PointKind]time.Time // the newest slot that fell due while the policy was enabled
	coming  []schedule.Slot                  // the next slots, up to horizon
	horizon time.Time
	past    past
}

// seat is a place of a machine among those that a slot asks. It is empty once the machine has left, even if it returns.
type seat struct {
	member *member
	join   int
}

func (s seat) taken() bool { return s.member.in && s.member.join == s.join }

// due is a slot that has fallen due, and who is waited for.
type due struct {
	slot    schedule.Slot
	terms   *Terms
	region  *region
	entry   *entry
	waiting []waiting // in order of joining
}

// waiting is the expectation of one machine at a slot, as long as it is open.
type waiting struct {
	member  *member
	join    int32
	attempt attempt
	ended   bool
}

// attempt is how far the session of an expectation has come.
type attempt uint8

const (
	noAttempt attempt = iota
	started
	failed
	overlapped
)

// reason says why an expectation is missed when its deadline comes.
func (a attempt) reason() Reason {
	switch a {
	case started:
		return Late
	case failed:
		return Failed
	case overlapped:
		return Overlap
	case noAttempt:
	}
	return NoPoint
}

func newRegion(name string, zone *time.Location) *region {
	return &region{name: name, zone: zone, newest: make(map[holdfast.PointKind]time.Time)}
}

// active reports whether the region counts: the version in force names it, or machines are there.
func (r *region) active() bool { return r.listed || r.taken > 0 }

// restart forgets the slots that were to come, because they are others from now on.
func (r *region) restart(now time.Time) { r.coming, r.horizon, r.past = nil, now, past{} }

// machines yields those that are protected now, in order of joining.
func (r *region) machines() iter.Seq[*member] {
	return func(yield func(*member) bool) {
		for _, s := range r.seats {
			if s.taken() && !yield(s.member) {
				return
			}
		}
	}
}

// sit gives a machine that joins a seat behind all others.
func (r *region) sit(m *member) {
	r.seats = append(r.seats, seat{m, m.join})
	r.taken++
}

// rise takes note that a machine has left its seat. Empty ones are cleared away when they are the greater part.
func (r *region) rise() {
	r.taken--
	if len(r.seats) > 2*r.taken+seatsMin {
		r.seats = slices.DeleteFunc(r.seats, func(s seat) bool { return !s.taken() })
	}
}

// seatsMin spares small regions the clearing.
const seatsMin = 16

// slotsAhead is how far the slots to come are looked up at once: a day of them is small, and a day of ticks uses it.
const slotsAhead = 24 * time.Hour

// nextSlot returns the instant of the next slot, if it is not after to.
func (p *policy) nextSlot(r *region, to time.Time) (time.Time, bool) {
	s := p.inForce()
	if s == nil || !r.active() {
		return time.Time{}, false
	}
	for len(r.coming) == 0 && !r.horizon.After(to) {
		until := r.horizon.Add(slotsAhead)
		r.coming = slices.AppendSeq(r.coming, schedule.Slots(s.terms.Template, r.zone, r.horizon, until))
		r.horizon = until
	}
	if len(r.coming) == 0 {
		return time.Time{}, false
	}
	return r.coming[0].At, true
}

// fallDue writes the expectations of the slots of this instant.
func (p *policy) fallDue(l *Ledger) {
	for _, r := range p.regions {
		for at, ok := p.nextSlot(r, l.now); ok && at.Equal(l.now); at, ok = p.nextSlot(r, l.now) {
			s := r.coming[0]
			r.coming = r.coming[1:]
			p.expect(l, r, s)
		}
	}
}

// expect writes the expectations of one slot. In a closed entry nothing is expected.
func (p *policy) expect(l *Ledger, r *region, s schedule.Slot) {
	e := p.entry(s.Kind, s.Entry())
	if e == nil {
		return
	}
	now := p.inForce()
	d := &due{slot: s, terms: now.terms, region: r, entry: e}
	e.reach(r.name, s.Deadline)
	if !now.enabled {
		for m := range r.machines() {
			p.excuse(l, d, m, Disabled)
		}
		return
	}
	r.newest[s.Kind] = s.At
	r.due = append(r.due, d)
	d.waiting = make([]waiting, 0, r.taken)
	for m := range r.machines() {
		d.waiting = append(d.waiting, waiting{member: m, join: int32(m.join)})
		t := e.tally(m)
		t.open++
		e.asked(d)
		l.recorder.Expectation(p.expectation(d, m))
	}
}

// expectation is the line of the ledger for a machine at a slot, while it is open.
func (p *policy) expectation(d *due, m *member) Expectation {
	return Expectation{
		Policy: p.name, PolicyVersion: d.terms.Version, Template: d.terms.Template.Name, TemplateVersion: d.terms.TemplateVersion,
		Machine: m.id, Region: d.region.name, Row: Row{d.slot.Kind, d.slot.Flag},
		Slot: d.slot.At, Opens: d.slot.Opens, Closes: d.slot.Closes, Deadline: d.slot.Deadline, Entry: d.entry.First, State: Open,
	}
}

// excuse writes an expectation that is excused from the start.
func (p *policy) excuse(l *Ledger, d *due, m *member, why Reason) {
	d.entry.asked(d)
	d.entry.tally(m).excused++
	line := p.expectation(d, m)
	line.State, line.Reason, line.Ended = Excused, why, l.now
	l.recorder.Expectation(line)
}

// ending is how an expectation ends.
type ending struct {
	state  State
	reason Reason
	point  holdfast.PointID
}

// finish ends an open expectation.
func (p *policy) finish(l *Ledger, d *due, w *waiting, how ending) {
	w.ended = true
	t := d.entry.tally(w.member)
	t.open--
	switch how.state {
	case Met:
		t.met++
		t.points = append(t.points, metPoint{l.follow(how.point), d.terms})
	case Missed:
		t.missed++
	case Excused:
		t.excused++
	case Open:
	}
	line := p.expectation(d, w.member)
	line.State, line.Reason, line.Ended, line.Point = how.state, how.reason, l.now, how.point
	l.recorder.Expectation(line)
}

// expire misses what is open at slots whose deadline has come.
func (p *policy) expire(l *Ledger, r *region) {
	for _, d := range r.due {
		if Over(d.slot, l.now) {
			p.miss(l, d, "")
		}
	}
	r.due = slices.DeleteFunc(r.due, func(d *due) bool { return Over(d.slot, l.now) })
}

// miss ends what is open at a slot, for a reason, or for each machine's own.
func (p *policy) miss(l *Ledger, d *due, why Reason) {
	for i := range d.waiting {
		w := &d.waiting[i]
		if w.ended {
			continue
		}
		reason := cmp.Or(why, w.attempt.reason())
		if l.down {
			reason = NotRunning
		}
		p.finish(l, d, w, ending{state: Missed, reason: reason})
	}
}

// find returns the expectation of a machine at a slot, nil when it has none that is open.
func (d *due) find(m *member) *waiting {
	k, found := slices.BinarySearchFunc(d.waiting, m.join, func(w waiting, join int) int { return cmp.Compare(int(w.join), join) })
	if !found || d.waiting[k].ended {
		return nil
	}
	return &d.waiting[k]
}
