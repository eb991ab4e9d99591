package schedule

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// row walks over the slots of one row of a template, in order of time and one for an instant.
type row struct {
	flag     holdfast.Flag
	kind     holdfast.PointKind
	calendar holdfast.Calendar // picks the dates
	window   holdfast.Window
	every    int // minutes of the wall clock between slots; 0: one slot when the window opens
	grace    time.Duration
	wall     *civil.Wall

	from   time.Time  // windows that close before are left out
	date   civil.Date // whose window is walked through
	last   civil.Date // with which the walk ends
	opens  time.Time
	closes time.Time
	minute int // of the wall clock, from the window's opening to the slot after next; beyond the window when it is done

	next Slot // without its deadline
	some bool // whether there is a next slot
}

// rowsOf returns the rows of a template, each before its first slot that may lie in [from, to), and walking as far as the
// deadlines of these slots can be told from what follows them.
func rowsOf(t holdfast.SLATemplate, zone *time.Location, from, to time.Time) []*row {
	wall := civil.NewWall(zone)
	rows := make([]*row, 0, len(t.Rows))
	for _, asked := range t.Rows {
		r := &row{
			flag: asked.Flag, kind: asked.Kind, window: t.BackupWindow, grace: t.Grace, wall: wall,
			calendar: holdfast.Calendar{Days: asked.Days, Months: asked.Months, On: asked.On},
			from:     from, date: firstDate(from, zone).AddDays(-1), last: lastDate(to.Add(t.Grace), zone).AddDays(2),
		}
		if asked.Kind == holdfast.PointSnapshot {
			r.window = t.SnapshotWindow
		}
		if length, ok := asked.Every.Duration(); ok && asked.Flag == holdfast.Daily {
			r.every = int(length / time.Minute)
		}
		r.minute = r.window.Minutes()
		r.next, r.some = r.step()
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(a, b *row) int {
		return cmp.Or(cmp.Compare(rank(a.kind), rank(b.kind)), cmp.Compare(a.flag, b.flag))
	})
	return rows
}

// rank orders what is started at one instant: an archive copies a backup, and a backup may take longer than a snapshot.
func rank(kind holdfast.PointKind) int {
	switch kind {
	case holdfast.PointSnapshot:
		return 0
	case holdfast.PointBackup:
		return 1
	case holdfast.PointArchive:
	}
	return 2
}

// firstDate is the earliest date of which something may be due at from or later: the window of the day before may reach
// over midnight, and a gap may reach from the day before that to midnight.
func firstDate(from time.Time, zone *time.Location) civil.Date {
	return civil.DateOf(from, zone).AddDays(-2)
}

// lastDate is the last date of which something may be due before to: where the hour around midnight is repeated, a date
// begins before the one before it has ended.
func lastDate(to time.Time, zone *time.Location) civil.Date { return civil.DateOf(to, zone).AddDays(1) }

// take returns the next slot and walks on. Slots that a gap moves to the same instant are the last one of them, which is
// the one that has its place there if any has.
func (r *row) take() Slot {
	taken := r.next
	for r.next, r.some = r.step(); r.some && r.next.At.Equal(taken.At); r.next, r.some = r.step() {
		r.next.Shift = r.next.Shift.And(taken.Shift)
		taken = r.next
	}
	taken.Deadline = taken.Closes.Add(r.grace)
	if r.some && r.next.At.Before(taken.Deadline) {
		taken.Deadline = r.next.At
	}
	if earliest := taken.At.Add(DeadlineMin); taken.Deadline.Before(earliest) {
		taken.Deadline = earliest
	}
	return taken
}

// step walks to the next slot, by the wall clock.
func (r *row) step() (Slot, bool) {
	if r.minute >= r.window.Minutes() && !r.open() {
		return Slot{}, false
	}
	at, shift := r.wall.PlaceMinute(r.date, int(r.window.Opens)+r.minute)
	r.minute += r.every
	if r.every <= 0 {
		r.minute = r.window.Minutes()
	}
	return Slot{Flag: r.flag, Kind: r.kind, At: at, Opens: r.opens, Closes: r.closes, Day: r.date, Shift: shift}, true
}

// open walks to the next window in which the row has slots. It reports false when there is none up to the last date.
func (r *row) open() bool {
	for r.date.Before(r.last) {
		r.date = r.date.AddDays(1)
		if !picks(r.calendar, r.date) {
			continue
		}
		r.closes, _ = r.wall.PlaceMinute(r.date, int(r.window.Opens)+r.window.Minutes())
		if r.closes.Before(r.from) {
			continue
		}
		r.opens, _ = r.wall.Place(r.date, r.window.Opens)
		r.minute = 0
		return true
	}
	return false
}
