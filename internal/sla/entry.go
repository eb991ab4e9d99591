package sla

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// FreezeAfter is how long after an entry closes proofs of its points still count for it.
const FreezeAfter = 7 * 24 * time.Hour

// How many closed entries a chart has.
const (
	daysShown   = 14
	weeksShown  = 12
	monthsShown = 12
)

// Shown is the number of closed entries that the chart of a frequency has, and that the ledger keeps.
func Shown(flag holdfast.Flag) int {
	switch flag {
	case holdfast.Daily:
		return daysShown
	case holdfast.Weekly:
		return weeksShown
	case holdfast.Monthly, holdfast.Yearly:
	}
	return monthsShown
}

// book holds the entries of one row of a policy.
type book struct {
	row     Row
	entries []*entry   // in order; the closed ones first
	through civil.Date // the first day of the last entry that closed; the zero date when none has
}

// entry is a day, a week or a month of one row: who was asked for what, and what came.
type entry struct {
	schedule.Entry
	last    time.Time            // the newest slot at which a machine was expected
	target  float64              // of the version to which it belongs
	reached map[string]time.Time // by region: the last deadline of the slots that have fallen due
	closes  time.Time            // when it closes as things stand; zero: to be reckoned
	closed  time.Time
	frozen  time.Time
	tallies []tally         // in the order in which machines came
	places  map[*member]int // where in tallies a machine is; nil once the entry has closed
}

// tally counts the expectations of one machine in one entry.
type tally struct {
	member                     *member
	open, met, missed, excused int32
	proven                     int32 // once frozen
	removed                    bool
	points                     []metPoint // until frozen
}

// metPoint is a point that met an expectation, and the version that says how it is to be proven.
type metPoint struct {
	point *point
	terms *Terms
}

// book returns the book of a row, a new one if need be. Books are in order of kind and frequency.
func (p *policy) book(row Row) *book {
	k, found := p.searchBook(row)
	if !found {
		p.books = slices.Insert(p.books, k, &book{row: row})
	}
	return p.books[k]
}

func (p *policy) searchBook(row Row) (int, bool) {
	return slices.BinarySearchFunc(p.books, row, func(b *book, row Row) int { return b.row.Compare(row) })
}

// Compare orders rows by kind, as points are made, and then the more frequent before the rarer.
func (r Row) Compare(o Row) int {
	order := kinds()
	return cmp.Or(cmp.Compare(slices.Index(order[:], r.Kind), slices.Index(order[:], o.Kind)), cmp.Compare(r.Flag, o.Flag))
}

// entry returns an entry that is not closed, a new one if need be, and nil for one that has closed.
func (p *policy) entry(kind holdfast.PointKind, of schedule.Entry) *entry {
	b := p.book(Row{kind, of.Flag})
	if b.through != (civil.Date{}) && !b.through.Before(of.First) {
		return nil
	}
	k, found := slices.BinarySearchFunc(b.entries, of, func(e *entry, of schedule.Entry) int { return e.First.Compare(of.First) })
	if !found {
		made := &entry{Entry: of, reached: make(map[string]time.Time), places: make(map[*member]int)}
		b.entries = slices.Insert(b.entries, k, made)
	}
	return b.entries[k]
}

// asked takes note that a machine is expected at a slot. The entry is judged by the version of the last one.
func (e *entry) asked(d *due) {
	if !d.slot.At.Before(e.last) {
		e.last, e.target = d.slot.At, d.terms.Template.TargetPercent
	}
}

// reach takes note of the deadline of a slot that has fallen due.
func (e *entry) reach(region string, deadline time.Time) {
	if deadline.After(e.reached[region]) {
		e.reached[region] = deadline
	}
	if !e.closes.IsZero() && deadline.After(e.closes) {
		e.closes = deadline
	}
}

// tally returns the counters of a machine. It must not be kept: another machine's may move it.
func (e *entry) tally(m *member) *tally {
	k, found := e.places[m]
	if !found {
		k = len(e.tallies)
		e.places[m] = k
		e.tallies = append(e.tallies, tally{member: m})
	}
	return &e.tallies[k]
}

// readmit takes back that a machine was removed from the entries that are not closed.
func (b *book) readmit(m *member) {
	for _, e := range b.entries {
		if k, found := e.places[m]; found {
			e.tallies[k].removed = false
		}
	}
}

// reckon forgets when entries close, since regions or versions have changed.
func (p *policy) reckon() {
	for _, b := range p.books {
		for _, e := range b.entries {
			e.closes = time.Time{}
		}
	}
}

// nextChange returns when the next entry of a book closes, or the next figure freezes.
func (p *policy) nextChange(b *book) (next time.Time, some bool) {
	for _, e := range b.entries {
		at := time.Time{}
		switch {
		case !e.frozen.IsZero():
			continue
		case !e.closed.IsZero():
			at = e.closed.Add(FreezeAfter)
		default:
			at = p.closing(b, e)
		}
		if !some || at.Before(next) {
			next, some = at, true
		}
		if e.closed.IsZero() {
			break // entries close in their order
		}
	}
	return next, some
}

// closing returns the instant at which an entry closes: in every region of the policy, and in those where it protects
// machines, the last deadline and the last local midnight have passed.
func (p *policy) closing(b *book, e *entry) time.Time {
	if e.closes.IsZero() {
		for _, r := range p.regions {
			if !r.active() {
				continue
			}
			for _, at := range [...]time.Time{e.Ends(r.zone), e.reached[r.name], p.lastDeadline(b.row, e, r)} {
				if at.After(e.closes) {
					e.closes = at
				}
			}
		}
	}
	return e.closes
}

// lastDeadline returns the last deadline that the version in force asks for on the last day of an entry; zero when it has no
// slot on it. Deadlines of earlier days are known before the entry ends.
func (p *policy) lastDeadline(row Row, e *entry, r *region) time.Time {
	s := p.inForce()
	if s == nil {
		return time.Time{}
	}
	var last time.Time
	begin := civil.Begin(e.Last(), r.zone)
	from, to := s.covers(begin, begin.Add(longestDay))
	for _, asked := range s.terms.Template.Rows {
		if (Row{asked.Kind, asked.Flag}) != row {
			continue
		}
		for slot := range schedule.Slots(withRow(s.terms.Template, asked), r.zone, from, to) {
			if slot.Day == e.Last() && slot.Deadline.After(last) {
				last = slot.Deadline
			}
		}
	}
	return last
}

// close closes the entries of a book whose time has come.
func (p *policy) close(l *Ledger, b *book) {
	for _, e := range b.entries {
		if !e.closed.IsZero() {
			continue
		}
		if p.closing(b, e).After(l.now) {
			return
		}
		e.closed, e.places, e.reached = l.now, nil, nil
		b.through = e.First
		p.forget(l.now)
		l.recorder.Period(p.compliance(b, e, l.now))
	}
}

// freeze settles the proven figures whose time has come, and forgets entries that no chart shows any more.
func (p *policy) freeze(l *Ledger, b *book) {
	closed := 0
	for _, e := range b.entries {
		if e.closed.IsZero() {
			break
		}
		closed++
		if !e.frozen.IsZero() || e.closed.Add(FreezeAfter).After(l.now) {
			continue
		}
		for i := range e.tallies {
			t := &e.tallies[i]
			t.proven = int32(t.provenAt(l.now))
			for _, met := range t.points {
				l.unfollow(met.point)
			}
			t.points = nil
		}
		e.frozen = l.now
		l.recorder.Period(p.compliance(b, e, l.now))
	}
	for closed > Shown(b.row.Flag) && !b.entries[0].frozen.IsZero() {
		b.entries = slices.Delete(b.entries, 0, 1)
		closed--
	}
}

// provenAt counts the points that are proven at an instant, as the versions ask that they were made for.
func (t *tally) provenAt(at time.Time) int {
	n := int(t.proven)
	for _, met := range t.points {
		if met.point.holds(met.terms, at) {
			n++
		}
	}
	return n
}

// count returns what became of the machine's slots.
func (t *tally) count(at time.Time) Count {
	c := Count{Met: int(t.met), Missed: int(t.missed), Excused: int(t.excused), Open: int(t.open), Proven: t.provenAt(at)}
	c.Planned = c.Met + c.Missed + c.Excused + c.Open
	return c
}

// compliance returns what the policy achieved with a row in an entry, as of an instant.
func (p *policy) compliance(b *book, e *entry, at time.Time) Compliance {
	c := Compliance{Policy: p.name, Row: b.row, Entry: e.First, Closed: e.closed, Frozen: e.frozen, TargetPercent: e.target}
	var created, proven mean
	target := verdicts{targetPercent: e.target}
	for i := range e.tallies {
		t := &e.tallies[i]
		c.Machines.Total++
		if t.removed {
			c.Machines.Removed++
			continue
		}
		count := t.count(at)
		c.Count = c.Count.plus(count)
		n := count.rated()
		if n == 0 {
			c.Machines.None++
			continue
		}
		created.add(count.Met, n)
		proven.add(count.Proven, n)
		if target.reached(count.Met, n) {
			c.Machines.Met++
			continue
		}
		c.Machines.Missed++
	}
	c.Created, c.ProvenRatio = created.percent(), proven.percent()
	c.Status, c.ProvenStatus = created.status(e.target), proven.status(e.target)
	return c
}

// Series returns the closed entries of a row's chart, oldest first: at most 14 days, 12 weeks or 12 months. An entry in which
// nothing was due is there with status none.
func (l *Ledger) Series(policyName string, row Row) []Compliance {
	p := l.policy(policyName)
	if p == nil {
		return nil
	}
	k, found := p.searchBook(row)
	if !found {
		return nil
	}
	b := p.books[k]
	var series []Compliance
	for _, e := range b.entries {
		if e.closed.IsZero() {
			break
		}
		for k := len(series) - 1; k >= 0; k = len(series) - 1 {
			gap := schedule.Entry{Flag: row.Flag, First: series[k].Entry}.Next()
			if gap == e.Entry {
				break
			}
			series = append(series, Compliance{Policy: p.name, Row: row, Entry: gap.First, Status: None, ProvenStatus: None})
		}
		series = append(series, p.compliance(b, e, l.now))
	}
	return series[max(0, len(series)-Shown(row.Flag)):]
}

// Unsettled yields what a policy achieved up to now in the entries of a frequency whose figures may still move: those that are open, and
// those whose share of proven points has not frozen; by row and in order of time.
func (l *Ledger) Unsettled(policyName string, flag holdfast.Flag) iter.Seq[Compliance] {
	return func(yield func(Compliance) bool) {
		p := l.policy(policyName)
		if p == nil {
			return
		}
		for _, b := range p.books {
			for _, e := range b.entries {
				if b.row.Flag == flag && e.frozen.IsZero() && len(e.tallies) > 0 && !yield(p.compliance(b, e, l.now)) {
					return
				}
			}
		}
	}
}

// Entry returns what a policy achieved with a row in the entry to which a day belongs, closed or not. It reports false for an
// entry in which nothing fell due, or that no chart shows any more.
func (l *Ledger) Entry(policyName string, row Row, day civil.Date) (Compliance, bool) {
	p, b, e := l.look(policyName, row, day)
	if e == nil {
		return Compliance{}, false
	}
	return p.compliance(b, e, l.now), true
}

// Machines returns what each machine achieved in such an entry, by id.
func (l *Ledger) Machines(policyName string, row Row, day civil.Date) []MachineCompliance {
	_, _, e := l.look(policyName, row, day)
	if e == nil {
		return nil
	}
	sorted := make([]*tally, len(e.tallies))
	for i := range e.tallies {
		sorted[i] = &e.tallies[i]
	}
	slices.SortFunc(sorted, func(a, b *tally) int { return strings.Compare(a.member.key, b.member.key) })
	machines, judge := make([]MachineCompliance, len(sorted)), NewJudge(e.target)
	for i, t := range sorted {
		machines[i] = judge.Machine(t.member.id, t.count(l.now), t.removed)
	}
	return machines
}

func (l *Ledger) look(policyName string, row Row, day civil.Date) (*policy, *book, *entry) {
	p := l.policy(policyName)
	if p == nil {
		return nil, nil, nil
	}
	of := schedule.EntryOf(row.Flag, day)
	for _, b := range p.books {
		for _, e := range b.entries {
			if b.row == row && e.Entry == of {
				return p, b, e
			}
		}
	}
	return nil, nil, nil
}
