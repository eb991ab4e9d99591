package sla

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// snapshotFormat is raised when snapshots of before cannot be read any more.
const snapshotFormat = 1

// Snapshot is all that a ledger knows, as a value that can be written as JSON and shares nothing with the ledger. A ledger
// that is restored from it goes on as the first one would.
type Snapshot struct {
	Format   int                           `json:"format"`
	Now      time.Time                     `json:"now"`
	Due      bool                          `json:"due"`
	Down     bool                          `json:"down"`
	Points   map[holdfast.PointID]Standing `json:"points"` // those with a standing that is followed
	Policies []PolicySnapshot              `json:"policies"`
}

// PolicySnapshot is what a ledger knows of one policy. Versions and machines are named by their place in the lists.
type PolicySnapshot struct {
	Name     string         `json:"name"`
	Versions []Terms        `json:"versions"`
	InForce  []inForceState `json:"inForce"`
	Joins    int            `json:"joins"`
	Machines []machineState `json:"machines"`
	Regions  []regionState  `json:"regions"`
	Books    []bookState    `json:"books"`
}

type inForceState struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to,omitzero"`
	Version int       `json:"version"`
	Enabled bool      `json:"enabled"`
}

type machineState struct {
	ID     holdfast.ResourceID `json:"id"`
	Region string              `json:"region"`
	Join   int                 `json:"join"`
	In     bool                `json:"in,omitzero"`
	Left   time.Time           `json:"left,omitzero"`
	Gone   bool                `json:"gone,omitzero"` // closed entries alone know it
}

type regionState struct {
	Name   string                           `json:"name"`
	Listed bool                             `json:"listed"`
	Newest map[holdfast.PointKind]time.Time `json:"newest"`
	Due    []dueState                       `json:"due"`
}

type dueState struct {
	Slot    schedule.Slot  `json:"slot"`
	Version int            `json:"version"`
	Waiting []waitingState `json:"waiting"`
}

type waitingState struct {
	Machine int     `json:"machine"`
	Attempt attempt `json:"attempt,omitzero"`
}

type bookState struct {
	Row
	Through *civil.Date  `json:"through"`
	Entries []entryState `json:"entries"`
}

type entryState struct {
	First   civil.Date           `json:"first"`
	Last    time.Time            `json:"last,omitzero"`
	Target  float64              `json:"target"`
	Reached map[string]time.Time `json:"reached,omitempty"`
	Closed  time.Time            `json:"closed,omitzero"`
	Frozen  time.Time            `json:"frozen,omitzero"`
	Tallies []tallyState         `json:"tallies"`
}

type tallyState struct {
	Machine int          `json:"machine"`
	Open    int32        `json:"open,omitzero"`
	Met     int32        `json:"met,omitzero"`
	Missed  int32        `json:"missed,omitzero"`
	Excused int32        `json:"excused,omitzero"`
	Proven  int32        `json:"proven,omitzero"`
	Removed bool         `json:"removed,omitzero"`
	Points  []pointState `json:"points,omitempty"`
}

type pointState struct {
	ID      holdfast.PointID `json:"id"`
	Version int              `json:"version"`
}

// Snapshot returns what the ledger knows. It must not be called while an event is applied.
func (l *Ledger) Snapshot() Snapshot {
	s := Snapshot{Format: snapshotFormat, Now: l.now, Due: l.due, Down: l.down, Points: make(map[holdfast.PointID]Standing)}
	for id, pt := range l.points {
		if pt.standing != nil {
			s.Points[id] = *pt.standing
		}
	}
	for _, p := range l.policies {
		w := snapshotWriter{versions: make(map[*Terms]int), machines: make(map[*member]int)}
		s.Policies = append(s.Policies, w.policy(p))
	}
	return s
}

// snapshotWriter gives versions and machines their places.
type snapshotWriter struct {
	state    PolicySnapshot
	versions map[*Terms]int
	machines map[*member]int
}

func (w *snapshotWriter) policy(p *policy) PolicySnapshot {
	w.state = PolicySnapshot{Name: p.name, Joins: p.joins}
	w.list(p)
	for _, s := range p.stretches {
		w.state.InForce = append(w.state.InForce, inForceState{s.from, s.to, w.version(s.terms), s.enabled})
	}
	for _, r := range p.regions {
		w.state.Regions = append(w.state.Regions, w.region(r))
	}
	for _, b := range p.books {
		w.state.Books = append(w.state.Books, w.book(b))
	}
	return w.state
}

// list writes the machines that anything refers to, in the order in which they joined last.
func (w *snapshotWriter) list(p *policy) {
	all := slices.Collect(maps.Values(p.members))
	for _, m := range all {
		w.machines[m] = 0
	}
	known := len(all)
	for _, b := range p.books {
		for _, e := range b.entries {
			for i := range e.tallies {
				if m := e.tallies[i].member; !found(w.machines, m) {
					w.machines[m] = 0
					all = append(all, m)
				}
			}
		}
	}
	gone := make(map[*member]bool)
	for _, m := range all[known:] {
		gone[m] = true
	}
	slices.SortFunc(all, func(a, b *member) int { return cmp.Compare(a.join, b.join) })
	for i, m := range all {
		w.machines[m] = i
		w.state.Machines = append(w.state.Machines, machineState{m.id, m.region.name, m.join, m.in, m.left, gone[m]})
	}
}

func found[K comparable, V any](in map[K]V, key K) bool {
	_, ok := in[key]
	return ok
}

// version returns the place of a version, a new one if need be.
func (w *snapshotWriter) version(t *Terms) int {
	k, ok := w.versions[t]
	if !ok {
		k = len(w.state.Versions)
		w.versions[t] = k
		w.state.Versions = append(w.state.Versions, *t)
	}
	return k
}

func (w *snapshotWriter) region(r *region) regionState {
	state := regionState{Name: r.name, Listed: r.listed, Newest: maps.Clone(r.newest)}
	for _, d := range r.due {
		due := dueState{Slot: d.slot, Version: w.version(d.terms)}
		for _, open := range d.waiting {
			if !open.ended {
				due.Waiting = append(due.Waiting, waitingState{w.machines[open.member], open.attempt})
			}
		}
		state.Due = append(state.Due, due)
	}
	return state
}

func (w *snapshotWriter) book(b *book) bookState {
	state := bookState{Row: b.row}
	if b.through != (civil.Date{}) {
		through := b.through
		state.Through = &through
	}
	for _, e := range b.entries {
		entry := entryState{First: e.First, Last: e.last, Target: e.target, Reached: maps.Clone(e.reached), Closed: e.closed, Frozen: e.frozen}
		for i := range e.tallies {
			entry.Tallies = append(entry.Tallies, w.tally(&e.tallies[i]))
		}
		state.Entries = append(state.Entries, entry)
	}
	return state
}

func (w *snapshotWriter) tally(t *tally) tallyState {
	state := tallyState{w.machines[t.member], t.open, t.met, t.missed, t.excused, t.proven, t.removed, nil}
	for _, met := range t.points {
		state.Points = append(state.Points, pointState{met.point.id, w.version(met.terms)})
	}
	return state
}
