package sla

import (
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// InTime reports whether a point that became durable at an instant is in time for a slot: before the deadline, not at it.
func InTime(s schedule.Slot, durable time.Time) bool { return durable.Before(s.Deadline) }

// Over reports whether it is too late for a slot: its deadline has come.
func Over(s schedule.Slot, now time.Time) bool { return !InTime(s, now) }

// Serves reports whether the points of a session can meet a slot of their kind. A daily slot is met by its own session
// alone, a weekly or monthly one by any session of its window.
func Serves(s schedule.Slot, session time.Time) bool {
	if session.Equal(s.At) {
		return true
	}
	return s.Flag != holdfast.Daily && !session.Before(s.Opens) && session.Before(s.Closes)
}

// Overlaps reports whether a slot is skipped since the machine is still in work: backups are, while a backup runs.
func Overlaps(kind, running holdfast.PointKind) bool {
	return kind == holdfast.PointBackup && running == holdfast.PointBackup
}

// AfterDowntime sorts the open slots of one machine and kind when the server has come back. newest is the newest slot of
// that kind that fell due: for it a session is started, as long as one of the slots can still be met by it. The others are
// missed.
func AfterDowntime(open []schedule.Slot, newest, now time.Time) (run bool, missed []schedule.Slot) {
	for _, s := range open {
		if Over(s, now) || !Serves(s, newest) {
			missed = append(missed, s)
			continue
		}
		run = true
	}
	return run, missed
}

// FlagsOf returns the flags of a point that a session made, given the slots of its kind that are due in the session's
// window: those at the session's own instant, and the weekly and monthly ones of the window for the first point that was
// made in it, whether or not in time.
func FlagsOf(slots []schedule.Slot, session time.Time, first bool) holdfast.Flags {
	var flags holdfast.Flags
	for _, s := range slots {
		if Serves(s, session) && (first || s.Flag == holdfast.Daily) {
			flags = flags.With(s.Flag)
		}
	}
	return flags
}

// DayOf returns the day to whose slots an instant belongs in a zone: the one whose window is open, else the local date.
// open reports which of them it is.
func DayOf(w holdfast.Window, zone *time.Location, at time.Time) (day civil.Date, open bool) {
	today := civil.DateOf(at, zone)
	for _, day := range [...]civil.Date{today, today.AddDays(-1)} {
		if opens, closes := span(w, zone, day); !at.Before(opens) && at.Before(closes) {
			return day, true
		}
	}
	return today, false
}

// span returns the instants at which the window of a day opens and closes.
func span(w holdfast.Window, zone *time.Location, day civil.Date) (opens, closes time.Time) {
	last := day
	if w.CrossesMidnight() {
		last = day.AddDays(1)
	}
	return civil.At(day, w.Opens, zone), civil.At(last, w.Closes, zone)
}

// windowOf returns the window of a kind of points; archives are made in that of backups.
func windowOf(t holdfast.SLATemplate, kind holdfast.PointKind) holdfast.Window {
	if kind == holdfast.PointSnapshot {
		return t.SnapshotWindow
	}
	return t.BackupWindow
}
