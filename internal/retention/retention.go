// Package retention decides which restore points of a machine stay, why, and until when, and which go (doc/policies.md,
// "Retention").
//
// Points bear flags: those of the schedules for which they were made. A schedule's limit, a number of points or a period, takes
// its flag from the points that exceed it; a point goes when it bears none any more and nothing else holds it. What else holds
// points is in the list of causes.
//
// It promises: of a machine that a policy protects the last good point of each kind stays, and of any machine the last good one
// of all kinds, until a person or a global age says otherwise; a locked point stays; a flag once lost does not return; the same
// points give the same verdicts in whatever order they are handed in, and verdicts that were carried out change nothing when they
// are asked for again.
// It must never touch a point that was made by hand. It does no I/O and reads no clock.
package retention

import (
	"encoding/json"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Occasion is what retention runs for. Occasions can be added up.
type Occasion uint8

// The occasions. A point that nothing holds goes on either.
const (
	Closing   Occasion = 1 << iota // the last step of a session: limits of a number of points are held
	DailyPass                      // once a day: periods and global ages are held

	// BothOccasions answers how things stand: what the next closing step and the next daily pass would do, if both ran now.
	BothOccasions = Closing | DailyPass
)

// Has reports whether an occasion is among those that are added up.
func (o Occasion) Has(other Occasion) bool { return o&other != 0 }

// Verdict is what becomes of a point.
type Verdict struct {
	Point   Point          // as it stands afterwards: less the flags that it lost, and with its rules stored in it
	Lost    holdfast.Flags // on this occasion
	Keep    bool
	Reasons []Reason // all that keep it; of a point that goes, all that took it. Never empty
	// Until is the daily pass in which a kept point goes when nothing else happens, unless it is the last good one by then; zero when
	// that takes more than time, as the reasons say.
	Until time.Time
}

// MarshalJSON implements json.Marshaler: the point's fields, and the verdict's beside them.
func (v Verdict) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Point
		Lost    holdfast.Flags `json:"lost"`
		Verdict string         `json:"verdict"` // keep or remove
		Until   time.Time      `json:"until,omitzero"`
		Reasons []Reason       `json:"reasons"`
	}{v.Point.inUTC(), v.Lost, v.word(), written(v.Until), v.Reasons})
}

func (v Verdict) word() string {
	if v.Keep {
		return "keep"
	}
	return "remove"
}

// Explain returns a verdict on each of the points of one machine, the oldest point first. The points are left as they are.
func Explain(now time.Time, occasion Occasion, rules Rules, points []Point) []Verdict {
	p := newPass(now, occasion, rules, points)
	p.flags()
	p.age()
	p.lastGood()
	verdicts := make([]Verdict, len(p.states))
	for i := range p.states {
		verdicts[i] = p.verdict(&p.states[i])
	}
	return verdicts
}

// Kept returns the points that stay, as they have to be written down.
func Kept(verdicts []Verdict) []Point {
	points := []Point{}
	for _, v := range verdicts {
		if v.Keep {
			points = append(points, v.Point)
		}
	}
	return points
}

// Edit returns the verdicts on the existing points that would go because the rules of their machine change: on the next occasions
// the old rules would keep them, and the new ones do not.
func Edit(now time.Time, before, after Rules, points []Point) []Verdict {
	stamped := make([]Point, len(points)) // a schedule that the edit turns off keeps its last setting
	for i, p := range points {
		stamped[i] = before.Stamp(p)
	}
	old := Explain(now, BothOccasions, before, stamped)
	gone := []Verdict{}
	for i, v := range Explain(now, BothOccasions, after, stamped) {
		if old[i].Keep && !v.Keep {
			gone = append(gone, v)
		}
	}
	return gone
}
