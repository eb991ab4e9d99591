package document

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// snapshotsMax is how many incremental snapshots of one disk Azure lets exist. Its other limit, seven in five minutes, no
// document can reach: at most twelve an hour lie evenly in it, and one each of the weekly, monthly and yearly schedule, or
// of the sessions that back up and archive, may fall between two of them.
const snapshotsMax = 500

// share is a part of the snapshots of a disk that exist at once.
type share struct {
	count int
	what  string
}

// checkSnapshots refuses more snapshots of a disk than may exist, and says where they come from.
func (p *page) checkSnapshots(where string, shares []share) {
	sum := 0
	var parts []string
	for _, s := range shares {
		if s.count > 0 {
			sum += s.count
			parts = append(parts, fmt.Sprintf("%d %s", s.count, s.what))
		}
	}
	if sum > snapshotsMax {
		p.wrong(where, "fewer snapshots, or a shorter retention for them",
			"up to %d snapshots of a disk would exist at once (%s); Azure takes %d at the most", sum, strings.Join(parts, ", "), snapshotsMax)
	}
}

// checkScheduleSnapshots counts the snapshots that a schedule-based policy keeps of a disk. What is kept by two schedules
// counts twice, as it does when their slots do not coincide.
func (p *page) checkScheduleSnapshots(policy holdfast.SchedulePolicy) {
	var shares []share
	where, repositories := "", map[string]bool{}
	for _, row := range policy.Rows {
		switch row.Kind {
		case holdfast.PointSnapshot:
			if where == "" {
				where = blockOf(row) + ".keep"
			}
			shares = append(shares, share{row.KeepCount, row.Flag.String()})
		case holdfast.PointBackup:
			repositories[row.Repository] = true
		case holdfast.PointArchive:
		}
	}
	p.checkSnapshots(where, append(shares, share{1, "before the oldest one goes"}, share{len(repositories), "that backups count changes from"}))
}

// checkTemplateSnapshots counts the snapshots that an SLA template keeps of a disk. A point of a less frequent row is one of
// the more frequent row as well, and counts by itself only when that one has let it go. Those that are outdated stay until
// the daily pass of retention, which is a day more at the worst.
func (p *page) checkTemplateSnapshots(t holdfast.SLATemplate) {
	var shares []share
	where, covered, backups := "", 0, false
	for _, row := range t.Rows {
		backups = backups || row.Kind == holdfast.PointBackup
		if row.Kind != holdfast.PointSnapshot {
			continue
		}
		if where == "" {
			where = fmt.Sprintf("snapshots.%s.keep", row.Flag)
		}
		days := max(0, daysAtMost(row.KeepFor)+1-covered)
		shares = append(shares, share{slotsIn(row, t.SnapshotWindow, days), row.Flag.String()})
		covered = max(covered, daysAtLeast(row.KeepFor))
	}
	shares = append(shares, share{1, "before the oldest one goes"})
	if backups {
		shares = append(shares, share{1, "that backups count changes from"})
	}
	p.checkSnapshots(where, shares)
}

const (
	daysInAWeek  = 7
	daysInAMonth = 28 // of the shortest one
	daysInAYear  = 366
)

// slotsIn is how many slots a row has in a number of days at the most.
func slotsIn(row holdfast.SLARow, window holdfast.Window, days int) int {
	switch row.Flag {
	case holdfast.Daily:
		every, _ := row.Every.Duration()
		return days * roundUp(window.Minutes(), int(every/time.Minute))
	case holdfast.Weekly:
		return roundUp(days*bits.OnesCount8(uint8(row.Days)), daysInAWeek)
	case holdfast.Monthly, holdfast.Yearly:
	}
	if row.Months == holdfast.EveryMonth {
		return roundUp(days, daysInAMonth)
	}
	return roundUp(days, daysInAYear) * bits.OnesCount16(uint16(row.Months))
}

// roundUp divides, and rounds up.
func roundUp(n, by int) int { return (n + by - 1) / by }

// daysAtMost is the length of a period in days where its months are long.
func daysAtMost(keep holdfast.Period) int {
	switch keep.Unit {
	case holdfast.UnitMonth:
		return min(keep.N*31, roundUp(keep.N*daysInAYear, 12))
	case holdfast.UnitYear:
		return keep.N * daysInAYear
	case holdfast.UnitDay, holdfast.UnitHour, holdfast.UnitMinute:
	}
	return keep.N
}
