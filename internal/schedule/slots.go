package schedule

import (
	"iter"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Slot is an instant for which a row of an SLA template asks for a point.
type Slot struct {
	Flag     holdfast.Flag      `json:"flag"` // of the row
	Kind     holdfast.PointKind `json:"kind"`
	At       time.Time          `json:"at"`
	Opens    time.Time          `json:"opens"`    // the window's opening
	Closes   time.Time          `json:"closes"`   // and its close; At itself where a gap reaches from the slot to the end of the window
	Deadline time.Time          `json:"deadline"` // the point must be durable before
	Day      civil.Date         `json:"day"`      // on which the window opens, by the wall clock
	Shift    civil.Shift        `json:"shift,omitempty"`
}

// DeadlineMin is how long after its slot a point may at least become durable, however soon the next slot comes or the
// window closes.
const DeadlineMin = 15 * time.Minute

// Slots yields the slots of a template that lie in [from, to) in one zone, in order of time. Of those at one instant
// snapshots come first, then backups, then archives, and for each kind the more frequent row before the rarer one.
func Slots(t holdfast.SLATemplate, zone *time.Location, from, to time.Time) iter.Seq[Slot] {
	return func(yield func(Slot) bool) {
		rows := rowsOf(t, zone, from, to)
		for {
			first := earliest(rows)
			if first == nil || !first.next.At.Before(to) {
				return
			}
			if s := first.take(); !s.At.Before(from) && !yield(s) {
				return
			}
		}
	}
}

// earliest returns the first of the rows whose next slot is the earliest, and nil when none has one.
func earliest(rows []*row) *row {
	var first *row
	for _, r := range rows {
		if r.some && (first == nil || r.next.At.Before(first.next.At)) {
			first = r
		}
	}
	return first
}

// Session is something to start at an instant: points of one kind, for all rows that ask for one then. Scheduled snapshots
// never feed backups: a backup session makes a temporary snapshot of its own.
type Session struct {
	At    time.Time          `json:"at"`
	Kind  holdfast.PointKind `json:"kind"`
	Slots []Slot             `json:"slots"` // at least one; the more frequent row first
}

// Sessions yields what has to be started for the slots of a template in [from, to), in order of time; of those at one
// instant snapshots come first, then backups, then archives, which wait for the backups.
func Sessions(t holdfast.SLATemplate, zone *time.Location, from, to time.Time) iter.Seq[Session] {
	return func(yield func(Session) bool) {
		var held Session
		for s := range Slots(t, zone, from, to) {
			if len(held.Slots) > 0 && held.At.Equal(s.At) && held.Kind == s.Kind {
				held.Slots = append(held.Slots, s)
				continue
			}
			if len(held.Slots) > 0 && !yield(held) {
				return
			}
			held = Session{At: s.At, Kind: s.Kind, Slots: []Slot{s}}
		}
		if len(held.Slots) > 0 {
			yield(held)
		}
	}
}

// HealthChecks yields the instants in [from, to) at which a template asks for its points to be checked: when the window of
// backups closes on each day that its health check picks. Whoever is still at work then is waited for.
func HealthChecks(t holdfast.SLATemplate, zone *time.Location, from, to time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		if t.HealthCheck == nil || !makesBackups(t) {
			return
		}
		wall, closes := civil.NewWall(zone), int(t.BackupWindow.Opens)+t.BackupWindow.Minutes()
		last, before := lastDate(to, zone), time.Time{}
		for date := firstDate(from, zone); !last.Before(date); date = date.AddDays(1) {
			if !picks(t.HealthCheck.When, date) {
				continue
			}
			at, _ := wall.PlaceMinute(date, closes)
			if at.Equal(before) || at.Before(from) || !at.Before(to) {
				continue
			}
			if !yield(at) {
				return
			}
			before = at
		}
	}
}

func makesBackups(t holdfast.SLATemplate) bool {
	for _, r := range t.Rows {
		if r.Kind == holdfast.PointBackup {
			return true
		}
	}
	return false
}
