package schedule

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// planner makes the runs of a policy, one date after the other.
type planner struct {
	rows     []holdfast.ScheduleRow
	check    *holdfast.HealthCheck
	zone     *time.Location
	wall     *civil.Wall
	points   []duty // of snapshots and backups, in order of the wall clock
	archives []duty
	picked   []bool // whether each row picks the date at hand
	runs     []Run  // of the date at hand, in order of time
}

// duty is a time of day at which a row is due, on the dates that it picks.
type duty struct {
	at  holdfast.TimeOfDay
	row int
}

func newPlanner(p holdfast.SchedulePolicy, zone *time.Location) *planner {
	made := &planner{
		rows: p.Rows, check: p.HealthCheck, zone: zone, wall: civil.NewWall(zone), picked: make([]bool, len(p.Rows)),
	}
	for i, row := range p.Rows {
		for _, at := range row.When.Times {
			if row.Kind == holdfast.PointArchive {
				made.archives = append(made.archives, duty{at, i})
				continue
			}
			made.points = append(made.points, duty{at, i})
		}
	}
	inOrder := func(a, b duty) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.row, b.row)) }
	slices.SortFunc(made.points, inOrder)
	slices.SortFunc(made.archives, inOrder)
	return made
}

// dates yields the runs of every date that may have some in [from, to), in order of time. Two of different dates may stand
// at the same instant.
func (p *planner) dates(from, to time.Time) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		if len(p.points)+len(p.archives) == 0 {
			return
		}
		last := lastDate(to, p.zone)
		for date := firstDate(from, p.zone); !last.Before(date); date = date.AddDays(1) {
			if end, _ := p.wall.Place(date.AddDays(1), 0); end.Before(from) {
				continue
			}
			for _, r := range p.date(date) {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// date returns the runs of a date. The slice is written over by the next call.
func (p *planner) date(date civil.Date) []Run {
	p.runs = p.runs[:0]
	for i, row := range p.rows {
		p.picked[i] = picks(row.When, date)
	}
	lastBackup := -1
	for _, d := range p.points {
		if !p.picked[d.row] {
			continue
		}
		p.addPoint(date, d)
		if p.rows[d.row].Kind == holdfast.PointBackup {
			lastBackup = len(p.runs) - 1
		}
	}
	if lastBackup >= 0 && p.check != nil && picks(p.check.When, date) {
		p.runs[lastBackup].HealthCheck = true
	}
	for _, d := range p.archives {
		if p.picked[d.row] {
			p.addArchive(date, d, lastBackup)
		}
	}
	return p.runs
}

// addPoint adds what is due to the last run, or to a new one behind it: duties come in order of time.
func (p *planner) addPoint(date civil.Date, d duty) {
	at, shift := p.wall.Place(date, d.at)
	if k := len(p.runs) - 1; k < 0 || !p.runs[k].At.Equal(at) {
		p.runs = append(p.runs, Run{At: at})
	}
	r, row := &p.runs[len(p.runs)-1], p.rows[d.row]
	r.Shift = r.Shift.And(shift)
	if row.Kind == holdfast.PointSnapshot {
		r.Snapshot = r.Snapshot.With(row.Flag)
		return
	}
	r.Backups = withTarget(r.Backups, Target{row.Repository, holdfast.Flags(row.Flag)})
}

// addArchive gives an archive to the date's first run with a backup at or after its time, else to the last one before it.
// On a date without a backup it has a run of its own.
func (p *planner) addArchive(date civil.Date, d duty, lastBackup int) {
	at, shift := p.wall.Place(date, d.at)
	k := lastBackup
	if lastBackup < 0 {
		k = p.runAt(at)
		p.runs[k].Shift = p.runs[k].Shift.And(shift)
	}
	for i := lastBackup; i >= 0 && !p.runs[i].At.Before(at); i-- {
		if len(p.runs[i].Backups) > 0 {
			k = i
		}
	}
	row := p.rows[d.row]
	p.runs[k].Archives = withTarget(p.runs[k].Archives, Target{row.Repository, holdfast.Flags(row.Flag)})
}

// runAt returns the place of the run at an instant, which is made when there is none.
func (p *planner) runAt(at time.Time) int {
	k, found := slices.BinarySearchFunc(p.runs, at, func(r Run, at time.Time) int { return r.At.Compare(at) })
	if !found {
		p.runs = slices.Insert(p.runs, k, Run{At: at})
	}
	return k
}

// withTarget adds a target, to the one of the same repository where there is one.
func withTarget(targets []Target, t Target) []Target {
	for i := range targets {
		if targets[i].Repository == t.Repository {
			targets[i].Flags |= t.Flags
			return targets
		}
	}
	return append(targets, t)
}

// joined makes one run of those that stand at the same instant next to one another.
func joined(runs iter.Seq[Run]) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		var held Run
		some := false
		for r := range runs {
			switch {
			case some && r.At.Equal(held.At):
				held = union(held, r)
				continue
			case some && !yield(held):
				return
			}
			held, some = r, true
		}
		if some {
			yield(held)
		}
	}
}

func union(a, b Run) Run {
	a.Snapshot |= b.Snapshot
	for _, t := range b.Backups {
		a.Backups = withTarget(a.Backups, t)
	}
	for _, t := range b.Archives {
		a.Archives = withTarget(a.Archives, t)
	}
	a.HealthCheck = a.HealthCheck || b.HealthCheck
	a.Shift = a.Shift.And(b.Shift)
	return a
}

// picks reports whether a calendar picks a date. Its times are not looked at.
func picks(c holdfast.Calendar, d civil.Date) bool {
	return (c.Days == holdfast.NoWeekdays || c.Days.Has(d.Weekday())) &&
		(c.Months == 0 || c.Months.Has(d.Month)) &&
		(c.On.IsZero() || c.On.In(d.Year, d.Month) == d.Day)
}
