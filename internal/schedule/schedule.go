// Package schedule says when something is due: the runs of a schedule-based policy, the slots of an SLA template and the
// sessions that have to be started for them. The rules are those of doc/policies.md, "Time", "Schedules" and "SLA".
//
// It promises that no day loses its slot to a change of the clock, that what it yields is in strict order of time for each
// policy (for each row of a template), and that a stretch of time cut in two yields in its parts what it yields as a whole.
// Everything is an iterator that holds one day at a time, so a year costs what its runs cost, and the first one of a range
// does not depend on how long the policy exists.
//
// It is pure: it reads no clock, knows no machine and remembers nothing. It must never decide what is done about a slot;
// that is package plan's, and whether it was met is package sla's.
package schedule

import (
	"iter"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Run is what a schedule-based policy does at one instant: the union of what all its rows ask for then.
type Run struct {
	At       time.Time      `json:"at"`
	Snapshot holdfast.Flags `json:"snapshot"`           // of the snapshot; may be empty, when it is made for the backup alone
	Backups  []Target       `json:"backups,omitempty"`  // one for each repository
	Archives []Target       `json:"archives,omitempty"` // made after the backups; without any, of the newest good backup
	// HealthCheck says that the points are checked when the run is over: it is the last one with a backup on a day that the
	// policy's health check picks.
	HealthCheck bool        `json:"healthCheck,omitempty"`
	Shift       civil.Shift `json:"shift,omitempty"` // what the clock did to the local time of the run, or of one of those that became one
}

// Target is a repository, and the flags of the points that go there.
type Target struct {
	Repository string         `json:"repository"`
	Flags      holdfast.Flags `json:"flags"`
}

// MakesSnapshot reports whether machines are snapshotted, which a run of archives alone leaves out.
func (r Run) MakesSnapshot() bool { return r.Snapshot != 0 || len(r.Backups) > 0 }

// Runs yields the runs of a policy that are due in [from, to), in order of time, one for an instant. Whether the policy is
// enabled is not looked at. The zone is the policy's own, or the installation's.
func Runs(p holdfast.SchedulePolicy, zone *time.Location, from, to time.Time) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for r := range joined(newPlanner(p, zone).dates(from, to)) {
			if !r.At.Before(to) {
				return
			}
			if !r.At.Before(from) && !yield(r) {
				return
			}
		}
	}
}

// horizonYears is how far Next looks. The rarest date that a calendar can ask for, a weekday on 29 February, comes round
// after 40 years at the latest.
const horizonYears = 40

// Next returns the first run of a policy after an instant, and false when there is none.
func Next(p holdfast.SchedulePolicy, zone *time.Location, after time.Time) (Run, bool) {
	for r := range Runs(p, zone, after.Add(1), after.AddDate(horizonYears, 0, 0)) {
		return r, true
	}
	return Run{}, false
}

// lateMax bounds how old a run may be that is made up for.
const lateMax = 24 * time.Hour

// Missed sorts the runs that fell due after since, up to and at now, while nobody was there to start them: the newest one
// is to be run if it is less than 24 hours old, the others are skipped. Where nothing was missed for long, run is simply
// what is due now.
func Missed(p holdfast.SchedulePolicy, zone *time.Location, since, now time.Time) (run *Run, skipped []Run) {
	for r := range Runs(p, zone, since.Add(1), now.Add(1)) {
		if run != nil {
			skipped = append(skipped, *run)
		}
		run = &r
	}
	if run != nil && now.Sub(run.At) >= lateMax {
		return nil, append(skipped, *run)
	}
	return run, skipped
}
