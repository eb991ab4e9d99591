package plan

import (
	"maps"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// TrackKey names a sequence of slots that is decided by itself: a schedule-based policy, or the sessions of one kind that an
// SLA policy has in one region.
type TrackKey struct {
	Policy string
	Region string
	Kind   holdfast.PointKind // of SLA policies; "" for their health checks
}

// Track is how far a sequence of slots has been decided.
type Track struct {
	Decided time.Time // every slot up to and at this instant has been decided
	Next    time.Time // the first slot after it; zero when there is none
}

// Work is what a machine is busy with.
type Work struct {
	Backup bool // a session that makes a backup or an archive of it is not over
}

// Again asks to try machines again that failed in a session.
type Again struct {
	Policy   string
	Region   string
	Slot     time.Time
	Attempt  int // of the new try: 1 for the first one
	Due      time.Time
	Makes    []Making // those that failed
	Machines []Machine
}

// Request asks for a session by hand.
type Request struct {
	Policy string
	At     time.Time
}

// State is what is known when a decision is made.
type State struct {
	Tracks   map[TrackKey]Track
	Working  map[string]Work // by ResourceID.Key; a machine that is not in it is idle
	Retries  []Again
	Requests []Request
	Pass     time.Time // when the next daily pass of retention is due
}

// Begin returns the state of an estate that comes into force at an instant: nothing before it is due.
func Begin(e Estate, at time.Time) State {
	s := State{Tracks: map[TrackKey]Track{}, Working: map[string]Work{}, Pass: e.PassAfter(at)}
	return s.Follow(e, at)
}

// Follow returns the state for an estate that takes the place of another one at an instant. Tracks that the new estate has
// as well go on from what was decided, so that no slot is decided twice and none is passed over; new ones begin at the
// instant. Retries and requests for policies that are gone are dropped.
func (s State) Follow(e Estate, at time.Time) State {
	next := State{Tracks: map[TrackKey]Track{}, Working: maps.Clone(s.Working), Pass: s.Pass}
	policies := map[string]bool{}
	for i := range e.policies {
		p := &e.policies[i]
		policies[p.Name] = true
		for _, key := range p.tracks() {
			decided := at.Add(-1) // a slot at this very instant belongs to the new estate
			if known, ok := s.Tracks[key]; ok {
				decided = known.Decided
			}
			next.Tracks[key] = Track{Decided: decided, Next: p.after(key, decided)}
		}
	}
	for _, r := range s.Retries {
		if policies[r.Policy] {
			next.Retries = append(next.Retries, r)
		}
	}
	for _, r := range s.Requests {
		if policies[r.Policy] {
			next.Requests = append(next.Requests, r)
		}
	}
	return next
}

// Due is the earliest instant at which there will be something to decide, if nothing happens before.
func (s State) Due() time.Time {
	due := s.Pass
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(due) {
			due = t
		}
	}
	for _, t := range s.Tracks {
		earlier(t.Next)
	}
	for _, r := range s.Retries {
		earlier(r.Due)
	}
	for _, r := range s.Requests {
		earlier(r.At)
	}
	return due
}
