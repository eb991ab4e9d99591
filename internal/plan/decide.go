package plan

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Decision is what is to be done, and the state once that has been written down.
type Decision struct {
	Intents []Intent // by slot, then by the order of policies
	After   State
}

// Decide says what is to be done now. The intents and the state after them are to be written down together: then a
// decision is neither lost nor made twice. Requests and retries that are due leave the state with it.
func Decide(now time.Time, e Estate, s State) Decision {
	d := decision{now: now, after: s.without(now)}
	for i := range e.policies {
		p := &e.policies[i]
		for _, key := range p.tracks() {
			if track := s.Tracks[key]; !track.Next.IsZero() && !track.Next.After(now) {
				d.slots(p, key, track)
			}
		}
		d.requests(p, s.Requests)
		d.retries(p, s.Retries)
	}
	d.pass(e, s)
	slices.SortStableFunc(d.intents, func(a, b Intent) int { return a.Slot.Compare(b.Slot) })
	return Decision{Intents: d.intents, After: d.after}
}

// decision is one under way.
type decision struct {
	now     time.Time
	intents []Intent
	after   State
}

// slots decides the slots of one track that have fallen due: the newest is started if it still can be met, and those before
// it were not run in time. A policy that is disabled has nothing to decide: its slots are nobody's.
func (d *decision) slots(p *policy, key TrackKey, track Track) {
	due := p.due(key, track.Decided, d.now)
	d.after.Tracks[key] = Track{Decided: d.now, Next: p.after(key, d.now)}
	if !p.Enabled || len(due) == 0 {
		return
	}
	newest := due[len(due)-1]
	for _, missed := range due[:len(due)-1] {
		d.skip(missed.Intent, missed.Machines, NotRunning)
	}
	if newest.late(d.now) {
		d.skip(newest.Intent, newest.Machines, NotRunning)
		return
	}
	if newest.Verb == Check {
		d.intents = append(d.intents, newest.Intent)
		return
	}
	d.start(p, newest.Intent)
}

// start begins a session with the machines that are idle, and skips it for those that are not.
func (d *decision) start(p *policy, i Intent) {
	idle, busy := d.split(p, i)
	d.skip(i, busy, Overlap)
	if len(idle) > 0 {
		i.Machines = idle
		d.intents = append(d.intents, i)
	}
}

func (d *decision) skip(i Intent, machines []Machine, why Reason) {
	if len(machines) == 0 {
		return
	}
	i.Verb, i.Machines, i.Reason, i.CheckAfter = Skip, machines, why, false
	d.intents = append(d.intents, i)
}

// split parts the machines of a session into those that can begin and those still in work. Snapshots of an SLA policy are
// made beside a backup that runs.
func (d *decision) split(p *policy, i Intent) (idle, busy []Machine) {
	if len(d.after.Working) == 0 || p.kind == holdfast.PolicySLA && i.snapshotsAlone() {
		return i.Machines, nil
	}
	for _, m := range i.Machines {
		work, working := d.after.Working[m.Key()]
		if working && (work.Backup || p.kind == holdfast.PolicySchedule) {
			busy = append(busy, m)
			continue
		}
		idle = append(idle, m)
	}
	return idle, busy
}

func (i Intent) snapshotsAlone() bool {
	return !slices.ContainsFunc(i.Makes, func(m Making) bool { return m.Kind != holdfast.PointSnapshot })
}

// requests starts what people asked for. A disabled policy can be started by hand; an SLA policy cannot.
func (d *decision) requests(p *policy, all []Request) {
	for _, r := range all {
		if r.Policy != p.Name || r.At.After(d.now) || p.kind != holdfast.PolicySchedule {
			continue
		}
		i := Intent{Verb: Start, Policy: p.Name, Slot: r.At, Makes: p.byHand(), Machines: p.machines, Manual: true}
		if len(i.Makes) > 0 && len(i.Machines) > 0 {
			d.start(p, i)
		}
	}
}

// retries tries again what failed, unless a newer slot of the same machines has been decided meanwhile: that session does it.
func (d *decision) retries(p *policy, all []Again) {
	for _, r := range all {
		if r.Policy != p.Name || r.Due.After(d.now) {
			continue
		}
		i := Intent{Verb: Retry, Policy: p.Name, Region: r.Region, Slot: r.Slot, Attempt: r.Attempt, Makes: r.Makes, Machines: r.Machines}
		if !p.Enabled || d.newer(p, r) {
			d.skip(i, i.Machines, Superseded)
			continue
		}
		d.start(p, i)
	}
}

// newer reports whether a slot after that of a retry has fallen due meanwhile whose session makes all that the retry would.
func (d *decision) newer(p *policy, r Again) bool {
	key := TrackKey{Policy: p.Name}
	if p.kind == holdfast.PolicySLA {
		key.Region, key.Kind = r.Region, holdfast.PointSnapshot
		if slices.ContainsFunc(r.Makes, func(m Making) bool { return m.Kind != holdfast.PointSnapshot }) {
			key.Kind = holdfast.PointBackup
		}
	}
	return slices.ContainsFunc(p.due(key, r.Slot, d.now), func(s dueSlot) bool { return s.Covers(r.Makes) })
}

// Covers reports whether the session makes all of some points: of each kind, and in each repository.
func (i Intent) Covers(wanted []Making) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(i.Makes, func(m Making) bool { return m.Kind == w.Kind && m.Repository == w.Repository }) {
			return false
		}
	}
	return true
}

// pass starts the daily pass of retention. One that nobody started is made up for once, whatever their number.
func (d *decision) pass(e Estate, s State) {
	if s.Pass.After(d.now) {
		return
	}
	d.intents = append(d.intents, Intent{Verb: Retain, Slot: s.Pass})
	d.after.Pass = e.PassAfter(d.now)
}

// without returns the state less the requests and retries that are due, with tracks of its own.
func (s State) without(now time.Time) State {
	s.Tracks = maps.Clone(s.Tracks)
	s.Retries = slices.DeleteFunc(slices.Clone(s.Retries), func(r Again) bool { return !r.Due.After(now) })
	s.Requests = slices.DeleteFunc(slices.Clone(s.Requests), func(r Request) bool { return !r.At.After(now) })
	return s
}
