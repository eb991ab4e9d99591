package preview

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// Change is an event that happens by one set of documents and not by another.
type Change struct {
	Event
	Added bool // it happens by the newer documents alone; else by the older ones alone
}

// Lines returns the change as JSON, a line for each machine, appended to buffer: the event's with a field change in front,
// gone or added.
func (c Change) Lines(buffer []byte) ([]byte, error) {
	if c.Added {
		return c.lines("added", buffer)
	}
	return c.lines("gone", buffer)
}

// Compare runs two previews of one inventory from the same instant up to another, and yields in order of time what differs: of
// each instant first what does not happen any more, then what newly does. Its memory is that of one instant.
func Compare(before, after *Preview, until time.Time) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		older, stopOlder := iter.Pull2(before.Run(until))
		defer stopOlder()
		newer, stopNewer := iter.Pull2(after.Run(until))
		defer stopNewer()
		a, b := &side{next: older}, &side{next: newer}
		a.advance()
		b.advance()
		for a.some || b.some {
			now := earlier(a, b)
			gone, come := a.take(now), b.take(now)
			if a.err != nil || b.err != nil {
				yield(Change{}, firstError(a.err, b.err))
				return
			}
			if !difference(gone, come, yield) {
				return
			}
		}
		if err := firstError(a.err, b.err); err != nil { // before either had an event
			yield(Change{}, err)
		}
	}
}

// side is one of two previews that are compared.
type side struct {
	next func() (Event, error, bool)
	held Event // the next event
	some bool  // there is one
	err  error
}

func (s *side) advance() {
	s.held, s.err, s.some = s.next()
	if s.err != nil {
		s.some = false
	}
}

// take returns the events of an instant.
func (s *side) take(now time.Time) []Event {
	var taken []Event
	for s.some && s.held.At.Equal(now) {
		taken = append(taken, s.held)
		s.advance()
	}
	return taken
}

func earlier(a, b *side) time.Time {
	if !a.some || b.some && b.held.At.Before(a.held.At) {
		return b.held.At
	}
	return a.held.At
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// sameButMachines is what two events must have in common to be one, but for the machines that they are about.
type sameButMachines struct {
	policy string
	name   Name
	slot   time.Time
	point  holdfast.PointID
	flags  holdfast.Flags
	reason string
}

func sameOf(e Event) sameButMachines {
	return sameButMachines{e.Policy, e.Name, e.Slot, e.Point, e.Flags, e.Reason}
}

// difference yields what differs between the events of one instant.
func difference(before, after []Event, yield func(Change, error) bool) bool {
	older, newer := machinesOf(before), machinesOf(after)
	return without(before, newer, false, yield) && without(after, older, true, yield)
}

// machinesOf gathers the machines of equal events, by key. An event about no machine is about the empty one.
func machinesOf(events []Event) map[sameButMachines]map[holdfast.ResourceID]bool {
	all := map[sameButMachines]map[holdfast.ResourceID]bool{}
	for _, e := range events {
		machines := all[sameOf(e)]
		if machines == nil {
			machines = map[holdfast.ResourceID]bool{}
			all[sameOf(e)] = machines
		}
		if len(e.Machines) == 0 {
			machines[""] = true
		}
		for _, id := range e.Machines {
			machines[id] = true
		}
	}
	return all
}

// without yields the events, less the machines that the other side has as well.
func without(events []Event, other map[sameButMachines]map[holdfast.ResourceID]bool, added bool, yield func(Change, error) bool) bool {
	for _, e := range events {
		known := other[sameOf(e)]
		if len(e.Machines) == 0 {
			if !known[""] && !yield(Change{e, added}, nil) {
				return false
			}
			continue
		}
		e.Machines = slices.DeleteFunc(slices.Clone(e.Machines), func(id holdfast.ResourceID) bool { return known[id] })
		if len(e.Machines) > 0 && !yield(Change{e, added}, nil) {
			return false
		}
	}
	return true
}

// Lost is a point that exists, and that an edit takes.
type Lost struct {
	VM      holdfast.ResourceID `json:"vm"`
	Point   holdfast.PointID    `json:"point"`
	Kind    holdfast.PointKind  `json:"kind"`
	Created time.Time           `json:"created"`
	Reason  string              `json:"reason"`
}

// LostByEdit returns the points that exist when two previews begin, and that the next passes of retention remove by the newer
// documents, though by the older ones they would stay. Neither preview may have been run.
func LostByEdit(before, after *Preview) []Lost {
	holds := map[string]*group{}
	for _, g := range before.groups {
		for _, id := range g.ids {
			holds[id.Key()] = g
		}
	}
	var lost []Lost
	for _, g := range after.groups {
		older := holds[g.ids[0].Key()]
		if len(g.points) == 0 || older == nil {
			continue
		}
		for _, v := range retention.Edit(after.now, older.rules, g.rules, g.points) {
			lost = append(lost, Lost{g.ids[0], v.Point.ID, v.Point.Kind, v.Point.Created, Why(v.Reasons)})
		}
	}
	slices.SortStableFunc(lost, func(a, b Lost) int { return strings.Compare(a.VM.Key(), b.VM.Key()) })
	return lost
}
