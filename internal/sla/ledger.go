package sla

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// Ledger is the state of all SLA policies of an installation. It is not for several goroutines at once.
type Ledger struct {
	now      time.Time
	due      bool // the slots of now have fallen due
	down     bool // the server is
	policies []*policy
	points   map[holdfast.PointID]*point
	recorder Recorder // of the call under way
}

// point is a restore point whose proofs count for a figure that is not frozen yet.
type point struct {
	id       holdfast.PointID
	followed int       // by how many met expectations
	standing *Standing // nil: written and no more
}

func (p *point) holds(t *Terms, at time.Time) bool {
	if p.standing == nil {
		return t.Template.ProofLevel < levelMin
	}
	return p.standing.Holds(t.Template.ProofLevel, t.Template.ProofAge, at)
}

// New makes a ledger in which nothing has happened.
func New() *Ledger { return &Ledger{points: make(map[holdfast.PointID]*point)} }

// Now returns how far the ledger's time has come: the instant of the last event.
func (l *Ledger) Now() time.Time { return l.now }

// Apply lets time pass up to an event and takes it in. The recorder, which may be nil, is told what ended, fell due and
// closed on the way. An event that is out of order, names what is not there or contradicts what is known is refused with
// KindInvalid, KindNotFound or KindConflict, and has no effect. One about an expectation that has ended is no error: it is
// told as a note.
func (l *Ledger) Apply(e Event, r Recorder) error {
	at := e.instant().UTC()
	if err := l.inOrder(at, e.change()); err != nil {
		return err
	}
	if err := e.check(l); err != nil {
		return err
	}
	if l.recorder = r; r == nil {
		l.recorder = nobody{}
	}
	l.settle(at, !e.change())
	e.apply(l)
	l.recorder = nil
	return nil
}

// Advance lets time pass up to and at an instant, as the event TimePassed does.
func (l *Ledger) Advance(now time.Time, r Recorder) error { return l.Apply(TimePassed{now}, r) }

func (TimePassed) check(*Ledger) error { return nil }
func (TimePassed) apply(*Ledger)       {}

type nobody struct{}

func (nobody) Expectation(Expectation) {}
func (nobody) Period(Compliance)       {}
func (nobody) Note(Note)               {}

// inOrder refuses an event that comes after a later one.
func (l *Ledger) inOrder(at time.Time, change bool) error {
	switch {
	case at.IsZero():
		return holdfast.Errorf(holdfast.KindInvalid, "the event bears no time").WithField("at").WithHint("write when it happened, such as 2026-03-01T22:00:00Z")
	case len(l.policies) > 0 && at.Sub(l.now) > stepMax:
		return holdfast.Errorf(holdfast.KindInvalid, "the event of %s is more than ten years after the one of %s", stamp(at), stamp(l.now)).WithField("at").
			WithHint("where a policy is in force, slots fall due all the while; check the year")
	case at.Before(l.now):
		return holdfast.Errorf(holdfast.KindInvalid, "the event of %s comes after one of %s", stamp(at), stamp(l.now)).WithField("at").
			WithHint("put events in order of time")
	case change && l.due && at.Equal(l.now):
		return holdfast.Errorf(holdfast.KindInvalid, "at %s the slots have fallen due already", stamp(at)).WithField("at").
			WithHint("at one instant, put changes of policies, machines and the server before what sessions and points did, and before time passes")
	}
	return nil
}

// stepMax bounds how long time passes at once: a slip in a year would otherwise be paid with the slots of centuries.
const stepMax = 10 * 366 * 24 * time.Hour

// stamp writes an instant for people.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// settle lets time pass: whatever is due before an instant happens, in order of time. At the instant itself deadlines pass,
// entries close and figures freeze; its slots fall due where that is asked for.
func (l *Ledger) settle(to time.Time, slots bool) {
	l.due = l.due && l.now.Equal(to)
	for {
		next, some := l.next(to, slots)
		if !some {
			break
		}
		l.now = next
		for _, p := range l.policies {
			if p.isNext {
				p.pass(l)
			}
		}
		if next.Equal(to) && !slots {
			continue
		}
		for _, p := range l.policies {
			if p.isNext {
				p.fallDue(l)
			}
		}
	}
	l.now, l.due = to, l.due || slots
}

// next returns the earliest instant up to to at which something is due, and marks the policies of which it is.
func (l *Ledger) next(to time.Time, slots bool) (time.Time, bool) {
	var earliest time.Time
	some := false
	for _, p := range l.policies {
		at, ok := p.next(l.now, to, slots)
		p.isNext = false
		if !ok || some && at.After(earliest) {
			continue
		}
		if !some || at.Before(earliest) {
			for _, other := range l.policies {
				other.isNext = false
			}
		}
		earliest, some, p.isNext = at, true, true
	}
	return earliest, some
}

// policy returns a policy by its name, nil when it was never in force.
func (l *Ledger) policy(name string) *policy {
	k, found := l.search(name)
	if !found {
		return nil
	}
	return l.policies[k]
}

func (l *Ledger) search(name string) (int, bool) {
	return slices.BinarySearchFunc(l.policies, name, func(p *policy, name string) int { return strings.Compare(p.name, name) })
}

// Policies yields the names of all policies that ever were in force.
func (l *Ledger) Policies() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, p := range l.policies {
			if !yield(p.name) {
				return
			}
		}
	}
}

// InForce returns the version of a policy that is in force, and false when none is.
func (l *Ledger) InForce(policyName string) (Terms, bool) {
	p := l.policy(policyName)
	if p == nil || p.inForce() == nil {
		return Terms{}, false
	}
	s := p.inForce()
	terms := *s.terms
	terms.Enabled = s.enabled
	return terms, true
}

// Open yields the expectations of a policy that are open, by region and in order of their slots.
func (l *Ledger) Open(policyName string) iter.Seq[Expectation] {
	return func(yield func(Expectation) bool) {
		p := l.policy(policyName)
		if p == nil {
			return
		}
		for _, r := range p.regions {
			for _, d := range r.due {
				for i := range d.waiting {
					if w := &d.waiting[i]; !w.ended && !yield(p.expectation(d, w.member)) {
						return
					}
				}
			}
		}
	}
}

func (ServerStopped) check(l *Ledger) error {
	if l.down {
		return holdfast.Errorf(holdfast.KindConflict, "the server had stopped already").WithHint("put an event serverStarted before it")
	}
	return nil
}

func (ServerStopped) apply(l *Ledger) { l.down = true }

func (ServerStarted) check(l *Ledger) error {
	if !l.down {
		return holdfast.Errorf(holdfast.KindConflict, "the server had not stopped").WithHint("put an event serverStopped before it")
	}
	return nil
}

// apply ends a downtime. What fell due and can still be met stays open; what no session can meet any more is missed now.
func (ServerStarted) apply(l *Ledger) {
	l.down = false
	for _, p := range l.policies {
		for _, r := range p.regions {
			for _, d := range r.due {
				if _, missed := AfterDowntime([]schedule.Slot{d.slot}, r.newest[d.slot.Kind], l.now); len(missed) > 0 {
					p.miss(l, d, NotRunning)
				}
			}
		}
	}
}
