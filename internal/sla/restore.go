package sla

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// Restore makes the ledger that a snapshot was taken of. The error has KindCorrupt when the snapshot does not fit together,
// and KindInvalid when it is of another format.
func Restore(s Snapshot) (*Ledger, error) {
	if s.Format != snapshotFormat {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the state of the ledger has format %d; this version reads format %d", s.Format, snapshotFormat)
	}
	l := New()
	l.now, l.due, l.down = s.Now, s.Due, s.Down
	for _, state := range s.Policies {
		r := snapshotReader{ledger: l, state: state}
		if err := r.read(); err != nil {
			return nil, err
		}
		k, taken := l.search(state.Name)
		if taken {
			return nil, torn(state.Name, "it is there twice")
		}
		l.policies = slices.Insert(l.policies, k, r.policy)
	}
	for id, standing := range s.Points {
		pt := l.points[id]
		if pt == nil {
			return nil, holdfast.Errorf(holdfast.KindCorrupt, "the state of the ledger has a standing of point %s, which nothing follows", id)
		}
		pt.standing = &standing
	}
	return l, nil
}

func torn(policy, what string) error {
	return holdfast.Errorf(holdfast.KindCorrupt, "the state of the ledger does not fit together: policy %s: %s", policy, what)
}

// snapshotReader makes a policy of its snapshot.
type snapshotReader struct {
	ledger   *Ledger
	state    PolicySnapshot
	policy   *policy
	versions []*Terms
	machines []*member
}

func (r *snapshotReader) read() error {
	r.policy = &policy{name: r.state.Name, joins: r.state.Joins, members: make(map[string]*member, len(r.state.Machines))}
	for _, t := range r.state.Versions {
		r.versions = append(r.versions, &t)
	}
	r.regions()
	for _, step := range []func() error{r.stretches, r.members, r.books, r.due} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *snapshotReader) version(k int) (*Terms, error) {
	if k < 0 || k >= len(r.versions) {
		return nil, torn(r.state.Name, "a version is missing")
	}
	return r.versions[k], nil
}

func (r *snapshotReader) machine(k int) (*member, error) {
	if k < 0 || k >= len(r.machines) {
		return nil, torn(r.state.Name, "a machine is missing")
	}
	return r.machines[k], nil
}

func (r *snapshotReader) stretches() error {
	for _, s := range r.state.InForce {
		terms, err := r.version(s.Version)
		if err != nil {
			return err
		}
		r.policy.stretches = append(r.policy.stretches, stretch{s.From, s.To, terms, s.Enabled})
	}
	return nil
}

// regions makes the regions. Their slots go on where time stands: behind those that have fallen due.
func (r *snapshotReader) regions() {
	next := r.ledger.now
	if r.ledger.due {
		next = next.Add(1)
	}
	for _, s := range r.state.Regions {
		made := r.policy.region(s.Name)
		made.listed = s.Listed
		maps.Copy(made.newest, s.Newest)
		made.restart(next)
	}
}

// members makes the machines, and seats those that are protected.
func (r *snapshotReader) members() error {
	last := -1
	for _, s := range r.state.Machines {
		if s.Join <= last {
			return torn(r.state.Name, "machines are not in order of joining")
		}
		last = s.Join
		m := &member{id: s.ID, key: s.ID.Key(), join: s.Join, in: s.In, left: s.Left, region: newRegion(s.Region, nil)}
		for _, known := range r.policy.regions {
			if known.name == s.Region {
				m.region = known
			}
		}
		if m.in && m.region.zone == nil {
			return torn(r.state.Name, "a region is missing")
		}
		r.machines = append(r.machines, m)
		if !s.Gone {
			r.policy.members[m.key] = m
		}
		if m.in {
			m.region.sit(m)
		}
	}
	return nil
}

func (r *snapshotReader) books() error {
	for _, s := range r.state.Books {
		b := r.policy.book(s.Row)
		if s.Through != nil {
			b.through = *s.Through
		}
		for _, state := range s.Entries {
			e, err := r.entry(s.Flag, state)
			if err != nil {
				return err
			}
			b.entries = append(b.entries, e)
		}
	}
	return nil
}

func (r *snapshotReader) entry(flag holdfast.Flag, s entryState) (*entry, error) {
	e := &entry{Entry: schedule.EntryOf(flag, s.First), last: s.Last, target: s.Target, closed: s.Closed, frozen: s.Frozen}
	if e.closed.IsZero() {
		e.reached, e.places = maps.Clone(s.Reached), make(map[*member]int, len(s.Tallies))
		if e.reached == nil {
			e.reached = make(map[string]time.Time)
		}
	}
	for i, state := range s.Tallies {
		m, err := r.machine(state.Machine)
		if err != nil {
			return nil, err
		}
		t := tally{member: m, open: state.Open, met: state.Met, missed: state.Missed, excused: state.Excused, proven: state.Proven, removed: state.Removed}
		for _, met := range state.Points {
			terms, err := r.version(met.Version)
			if err != nil {
				return nil, err
			}
			t.points = append(t.points, metPoint{r.ledger.follow(met.ID), terms})
		}
		e.tallies = append(e.tallies, t)
		if e.places != nil {
			e.places[m] = i
		}
	}
	return e, nil
}

// due makes the slots whose deadline has not come.
func (r *snapshotReader) due() error {
	for _, s := range r.state.Regions {
		of := r.policy.region(s.Name)
		for _, state := range s.Due {
			d, err := r.slot(of, state)
			if err != nil {
				return err
			}
			of.due = append(of.due, d)
		}
	}
	return nil
}

func (r *snapshotReader) slot(of *region, s dueState) (*due, error) {
	terms, err := r.version(s.Version)
	if err != nil {
		return nil, err
	}
	d := &due{slot: s.Slot, terms: terms, region: of, entry: r.policy.entry(s.Slot.Kind, s.Slot.Entry())}
	if d.entry == nil {
		return nil, torn(r.state.Name, "a slot is open in a closed entry")
	}
	for _, w := range s.Waiting {
		m, err := r.machine(w.Machine)
		if err != nil {
			return nil, err
		}
		if _, counted := d.entry.places[m]; !counted || w.Attempt > overlapped {
			return nil, torn(r.state.Name, "an open expectation is not counted")
		}
		d.waiting = append(d.waiting, waiting{member: m, join: int32(m.join), attempt: w.Attempt})
	}
	return d, nil
}
