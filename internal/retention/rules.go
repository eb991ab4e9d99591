package retention

import (
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Rules are what applies to the points of one machine now.
type Rules struct {
	Protected bool           // a policy, enabled or not, protects the machine
	Gone      bool           // the machine was deleted; a direct read confirmed it. Nothing protects what is gone
	Rows      []Row          // of the policy that protects it
	Zone      *time.Location // in which the policy counts days, months and years; nil: that of the installation
	Settings  Settings
}

// Row says how long the points of one kind bear a flag.
type Row struct {
	Kind holdfast.PointKind
	Flag holdfast.Flag
	Keep Limit
}

// RulesOf returns the rules of a machine that a schedule-based policy protects, in the policy's zone.
func RulesOf(policy holdfast.SchedulePolicy, zone *time.Location, settings Settings) Rules {
	rules := Rules{Protected: true, Zone: zone, Settings: settings}
	for _, row := range policy.Rows {
		keep := Lasting(row.KeepFor)
		if row.Kind == holdfast.PointSnapshot {
			keep = Newest(row.KeepCount)
		}
		rules.Rows = append(rules.Rows, Row{row.Kind, row.Flag, keep})
	}
	return rules
}

// RulesOfTemplate returns the rules of a machine that an SLA-based policy protects, in the zone of the machine's region.
func RulesOfTemplate(template holdfast.SLATemplate, zone *time.Location, settings Settings) Rules {
	rules := Rules{Protected: true, Zone: zone, Settings: settings}
	for _, row := range template.Rows {
		rules.Rows = append(rules.Rows, Row{row.Kind, row.Flag, Lasting(row.KeepFor)})
	}
	return rules
}

// Unprotected returns the rules of a machine that no policy protects.
func Unprotected(settings Settings) Rules { return Rules{Settings: settings} }

// protects reports whether a policy looks after the machine.
func (r Rules) protects() bool { return r.Protected && !r.Gone }

// zone is where the policy counts its days.
func (r Rules) zone() *time.Location {
	if r.Zone != nil {
		return r.Zone
	}
	return r.Settings.zone()
}

// limit returns how long a point bears a flag, and in which zone that is counted: by the row of the protecting policy, else as it
// was stored; in the zone of the policy that protects the machine, or did so last.
func (r Rules) limit(p Point, flag holdfast.Flag) (Limit, *time.Location) {
	if !r.protects() {
		if p.Keep.Zone.IsZero() {
			return p.Keep.Of(flag), r.zone()
		}
		return p.Keep.Of(flag), p.Keep.Zone.Location
	}
	for _, row := range r.Rows {
		if row.Flag == flag && row.Kind == p.Kind {
			return row.Keep, r.zone()
		}
	}
	return p.Keep.Of(flag), r.zone()
}

// Stamp returns a point with the rules stored in it, as it has to be written down: when it is made, and for every point of the
// machine when its policy is edited, so that the last settings are known when the policy, or the schedule, is no more.
// What Explain returns is stamped.
func (r Rules) Stamp(p Point) Point {
	if p.Manual || p.Temporary {
		return p
	}
	if r.protects() {
		p.Keep.Zone = Zone{r.zone()}
		for _, row := range r.Rows {
			if row.Kind == p.Kind {
				p.Keep = p.Keep.With(row.Flag, row.Keep)
			}
		}
	}
	if p.byPerson() && p.Like == 0 {
		p.Like = r.mostFrequent(p)
	}
	return p
}

// mostFrequent is the flag of the most frequent schedule that makes points of this kind; zero when there is none.
func (r Rules) mostFrequent(p Point) holdfast.Flag {
	var made holdfast.Flags
	if r.protects() {
		for _, row := range r.Rows {
			if row.Kind == p.Kind {
				made = made.With(row.Flag)
			}
		}
	}
	for _, flag := range holdfast.AllFlags() {
		if made.Has(flag) || made == 0 && !p.Keep.Of(flag).IsZero() {
			return flag
		}
	}
	return 0
}

// Settings are what an installation says of all machines. The zero value has no global ages, and its daily pass at midnight UTC.
type Settings struct {
	Zone           *time.Location
	PassAt         holdfast.TimeOfDay
	ObsoleteAge    holdfast.Period
	SnapshotAge    holdfast.Period
	UnprotectedAge holdfast.Period
}

// SettingsOf reads an installation's settings. The error has KindInvalid: its zone is not known.
func SettingsOf(i holdfast.Installation) (Settings, error) {
	s := Settings{Zone: time.UTC, PassAt: i.RetentionAt, ObsoleteAge: i.ObsoleteAge, SnapshotAge: i.SnapshotAge, UnprotectedAge: i.UnprotectedAge}
	if i.Zone == "" {
		return s, nil
	}
	var err error
	s.Zone, err = civil.Zone(i.Zone)
	return s, err
}

func (s Settings) zone() *time.Location {
	if s.Zone != nil {
		return s.Zone
	}
	return time.UTC
}

// NextPass returns when the first daily pass after a moment runs.
func (s Settings) NextPass(after time.Time) time.Time {
	for date := civil.DateOf(after, s.zone()).AddDays(-1); ; date = date.AddDays(1) {
		if at := civil.At(date, s.PassAt, s.zone()); at.After(after) {
			return at
		}
	}
}

// takes returns when the settings take a point that no other rule and no lock holds, and by which of them. The time is zero when
// they never do.
func (s Settings) takes(p Point, protected bool) (time.Time, Reason) {
	type age struct {
		cause Cause
		after holdfast.Period
	}
	var ages []age
	switch {
	case p.Manual:
	case p.Kind == holdfast.PointSnapshot && protected:
		ages = []age{{CauseSnapshotAge, s.SnapshotAge}}
	case p.Kind == holdfast.PointSnapshot:
		ages = []age{{CauseObsoleteAge, s.ObsoleteAge}, {CauseSnapshotAge, s.SnapshotAge}}
	case p.Kind == holdfast.PointBackup && !protected:
		ages = []age{{CauseUnprotectedAge, s.UnprotectedAge}}
	}
	var first time.Time
	var why Reason
	for _, a := range ages {
		if a.after.IsZero() {
			continue
		}
		if at := civil.Add(p.Created, a.after, s.zone()); first.IsZero() || at.Before(first) {
			first, why = at, Reason{Cause: a.cause, Age: a.after, Until: at.In(s.zone())}
		}
	}
	return first, why
}
