package sla

import (
	"encoding/json"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Proof levels that a person can give a point; level 0, written, every point has.
const (
	levelMin = 1
	levelMax = 5
)

// Standing is what is known of how far a point has been proven. The zero value is a point that was written and no more.
type Standing struct {
	Proofs  Proofs    `json:"proofs"`           // the newest ones that are not void
	Failed  time.Time `json:"failed,omitzero"`  // the last failed proof; what was proven before it is void
	Removed time.Time `json:"removed,omitzero"` // by retention
}

// Proofs are the times of proofs by level, that of level 1 first. A zero time: none. As JSON they are a list of
// those that there are, each with its level.
type Proofs [levelMax]time.Time

type proof struct {
	Level int       `json:"level"`
	At    time.Time `json:"at"`
}

// MarshalJSON implements json.Marshaler.
func (p Proofs) MarshalJSON() ([]byte, error) {
	list := []proof{}
	for i, at := range p {
		if !at.IsZero() {
			list = append(list, proof{i + 1, at})
		}
	}
	return json.Marshal(list)
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Proofs) UnmarshalJSON(data []byte) error {
	var list []proof
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	*p = Proofs{}
	for _, one := range list {
		if one.Level < levelMin || one.Level > levelMax {
			return holdfast.Errorf(holdfast.KindInvalid, "%d is not a proof level", one.Level)
		}
		p[one.Level-1] = one.At
	}
	return nil
}

// Proven returns the standing after a proof. One of a point that was removed changes nothing, nor does one that was
// overtaken by a failure.
func (s Standing) Proven(e PointProven) Standing {
	if !s.Removed.IsZero() || e.Level < levelMin || e.Level > levelMax {
		return s
	}
	if !e.OK {
		return Standing{Failed: e.At}
	}
	at := e.Proved
	if at.IsZero() {
		at = e.At
	}
	if newest := &s.Proofs[e.Level-1]; at.After(s.Failed) && at.After(*newest) {
		*newest = at
	}
	return s
}

// RemovedAt returns the standing of a point that retention removed: its proofs stay, and age no more.
func (s Standing) RemovedAt(at time.Time) Standing {
	if s.Removed.IsZero() {
		s.Removed = at
	}
	return s
}

// Holds reports whether the point counts as proven at an instant: to that level or a higher one, by a proof that is not
// older than age. One exactly as old counts; without an age every proof does. Days are of 24 hours.
func (s Standing) Holds(level int, age holdfast.Period, at time.Time) bool {
	if level < levelMin {
		return true
	}
	var newest time.Time
	for _, proof := range s.Proofs[min(level, levelMax)-1:] {
		if proof.After(newest) {
			newest = proof
		}
	}
	if newest.IsZero() {
		return false
	}
	if !s.Removed.IsZero() && s.Removed.Before(at) {
		at = s.Removed
	}
	return age.IsZero() || !civil.Add(newest, age, time.UTC).Before(at)
}
