package document

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// perHourAccepted are the numbers of snapshots in an hour that lie evenly in it, none closer than five minutes to the next.
var perHourAccepted = []int{1, 2, 3, 4, 6, 12}

func (p *page) schedulePolicy(f schedulePolicyFields) holdfast.SchedulePolicy {
	policy := holdfast.SchedulePolicy{PolicyCommon: p.common(f.header, f.policyFields), Zone: f.Zone}
	if f.Zone != "" {
		p.checkZone("zone", f.Zone)
	}
	policy.Notify = p.runNotify(f.Notify)
	policy.Rows = slices.Concat(p.daily(f.Daily), p.weekly(f.Weekly), p.monthly(f.Monthly), p.yearly(f.Yearly))
	policy.HealthCheck = p.healthCheck(f.HealthCheck)
	if len(policy.Rows) == 0 {
		p.note("", "the policy has no schedule: it runs when somebody starts it")
	}
	return policy
}

func (p *page) checkZone(where, zone string) {
	if _, err := civil.Zone(zone); err != nil {
		p.refuse(where, err)
	}
}

func (p *page) daily(f *dailyFields) []holdfast.ScheduleRow {
	if f == nil {
		return nil
	}
	days := holdfast.EveryDay
	if f.Days != nil {
		days = p.weekdays("daily.days", f.Days)
		p.wantSome("daily.days", len(f.Days), "days")
	}
	p.wantKinds("daily", f.Snapshots != nil, f.Backups != nil)
	var rows []holdfast.ScheduleRow
	var backups uint32
	if b := f.Backups; b != nil {
		backups = p.hours("daily.backups.hours", b.Hours)
		p.wantSome("daily.backups.hours", len(b.Hours), "hours")
		p.checkKeep("daily.backups.keep", b.Keep, holdfast.UnitDay, holdfast.UnitMonth)
	}
	if s := f.Snapshots; s != nil {
		hours := p.hours("daily.snapshots.hours", s.Hours)
		if added := backups &^ hours; added != 0 {
			p.note("daily.snapshots", "%s %s added to the snapshots: a backup is made from a snapshot", listHours(added), wasOrWere(len(timesOf(added, 1))))
		}
		hours |= backups
		p.wantSome("daily.snapshots.hours", len(s.Hours)+len(timesOf(backups, 1)), "hours")
		p.checkKeepCount("daily.snapshots.keep", s.Keep)
		rows = append(rows, holdfast.ScheduleRow{
			Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, When: holdfast.Calendar{Days: days, Times: timesOf(hours, p.perHour(s.PerHour))}, KeepCount: s.Keep,
		})
	}
	if b := f.Backups; b != nil {
		rows = append(rows, holdfast.ScheduleRow{
			Flag: holdfast.Daily, Kind: holdfast.PointBackup, When: holdfast.Calendar{Days: days, Times: timesOf(backups, 1)}, KeepFor: b.Keep, Repository: b.Repository,
		})
	}
	return rows
}

func wasOrWere(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

func (p *page) perHour(given *int) int {
	n := orDefault(given, 1)
	if !slices.Contains(perHourAccepted, n) {
		p.wrong("daily.snapshots.perHour", "1, 2, 3, 4, 6 or 12, evenly spaced from the hour", "%d is not a number of snapshots an hour", n)
		return 1
	}
	return n
}

// wantSome refuses a list that came out empty.
func (p *page) wantSome(where string, n int, what string) {
	if n == 0 {
		p.wrong(where, "a list of "+what, "names no %s", what)
	}
}

// wantKinds refuses a schedule that makes nothing.
func (p *page) wantKinds(where string, kinds ...bool) {
	if !slices.Contains(kinds, true) {
		p.wrong(where, "snapshots, backups or both; leave the schedule out to turn it off", "the schedule makes nothing")
	}
}

// keepCountMax is how many snapshots of a disk Azure lets exist.
const keepCountMax = 500

func (p *page) checkKeepCount(where string, n int) {
	if n < 0 || n > keepCountMax {
		p.wrong(where, fmt.Sprintf("a number of snapshots from 0 to %d", keepCountMax), "%d snapshots cannot be kept", n)
	}
}

// checkKeep refuses a retention in units that it cannot have.
func (p *page) checkKeep(where string, keep holdfast.Period, units ...holdfast.Unit) {
	if slices.Contains(units, keep.Unit) {
		return
	}
	var names []string
	for _, unit := range units {
		names = append(names, string(unit)+"s")
	}
	p.wrong(where, "a number of "+strings.Join(names, " or "), "%q is not a retention here", keep)
}

func (p *page) weekly(f *weeklyFields) []holdfast.ScheduleRow {
	if f == nil {
		return nil
	}
	p.wantKinds("weekly", f.Snapshots != nil, f.Backups != nil)
	times := []holdfast.TimeOfDay{f.At}
	var rows []holdfast.ScheduleRow
	var backups holdfast.Weekdays
	if b := f.Backups; b != nil {
		backups = p.weekdays("weekly.backups.days", b.Days)
		p.wantSome("weekly.backups.days", len(b.Days), "days")
		p.checkKeep("weekly.backups.keep", b.Keep, holdfast.UnitDay, holdfast.UnitMonth)
	}
	if s := f.Snapshots; s != nil {
		days := p.weekdays("weekly.snapshots.days", s.Days)
		if added := backups &^ days; added != 0 {
			p.note("weekly.snapshots", "%s %s added to the snapshots: a backup is made from a snapshot", list(wordsOfDays(added)), wasOrWere(len(wordsOfDays(added))))
		}
		days |= backups
		p.wantSome("weekly.snapshots.days", len(s.Days)+int(backups), "days")
		p.checkKeepCount("weekly.snapshots.keep", s.Keep)
		rows = append(rows, holdfast.ScheduleRow{
			Flag: holdfast.Weekly, Kind: holdfast.PointSnapshot, When: holdfast.Calendar{Days: days, Times: times}, KeepCount: s.Keep,
		})
	}
	if b := f.Backups; b != nil {
		rows = append(rows, holdfast.ScheduleRow{
			Flag: holdfast.Weekly, Kind: holdfast.PointBackup, When: holdfast.Calendar{Days: backups, Times: times}, KeepFor: b.Keep, Repository: b.Repository,
		})
	}
	return rows
}

func (p *page) monthly(f *monthlyFields) []holdfast.ScheduleRow {
	if f == nil {
		return nil
	}
	p.wantKinds("monthly", f.Snapshots != nil, f.Backups != nil, f.Archives != nil)
	p.checkOneCopy("monthly", f.Backups != nil, f.Archives != nil)
	p.checkOn("monthly.on", f.On)
	calendar := holdfast.Calendar{On: f.On, Times: []holdfast.TimeOfDay{f.At}}
	backups, backupRows := p.monthlyRow(f.Backups, holdfast.PointBackup, calendar)
	_, archiveRows := p.monthlyRow(f.Archives, holdfast.PointArchive, calendar)
	var rows []holdfast.ScheduleRow
	if s := f.Snapshots; s != nil {
		months := p.months("monthly.snapshots.months", s.Months)
		if added := backups &^ months; added != 0 {
			p.note("monthly.snapshots", "%s %s added to the snapshots: a backup is made from a snapshot", list(wordsOfMonths(added)), wasOrWere(len(wordsOfMonths(added))))
		}
		calendar.Months = months | backups
		p.wantSome("monthly.snapshots.months", len(s.Months)+int(backups), "months")
		p.checkKeepCount("monthly.snapshots.keep", s.Keep)
		rows = append(rows, holdfast.ScheduleRow{Flag: holdfast.Monthly, Kind: holdfast.PointSnapshot, When: calendar, KeepCount: s.Keep})
	}
	return slices.Concat(rows, backupRows, archiveRows)
}

// monthlyRow makes the monthly row of backups or archives, if there is one, and returns its months as well.
func (p *page) monthlyRow(f *monthlyBackupFields, kind holdfast.PointKind, calendar holdfast.Calendar) (holdfast.MonthSet, []holdfast.ScheduleRow) {
	if f == nil {
		return 0, nil
	}
	where := "monthly." + string(kind) + "s"
	calendar.Months = p.months(where+".months", f.Months)
	p.wantSome(where+".months", len(f.Months), "months")
	p.checkKeep(where+".keep", f.Keep, holdfast.UnitDay, holdfast.UnitMonth)
	return calendar.Months, []holdfast.ScheduleRow{{Flag: holdfast.Monthly, Kind: kind, When: calendar, KeepFor: f.Keep, Repository: f.Repository}}
}

// checkOneCopy refuses backups and archives at one frequency: what is archived stays in the archive alone.
func (p *page) checkOneCopy(where string, backups, archives bool) {
	if backups && archives {
		p.wrong(where+".archives", "backups or archives at one frequency; keep the backups by a more frequent schedule", "a schedule that archives cannot keep backups as well")
	}
}

func (p *page) yearly(f *yearlyFields) []holdfast.ScheduleRow {
	if f == nil {
		return nil
	}
	p.wantKinds("yearly", f.Backups != nil, f.Archives != nil)
	p.checkOneCopy("yearly", f.Backups != nil, f.Archives != nil)
	p.checkOn("yearly.on", f.On)
	month, err := holdfast.ParseMonth(f.Month)
	if err != nil {
		p.refuse("yearly.month", err)
		month = time.January
	}
	calendar := holdfast.Calendar{Months: holdfast.NewMonthSet(month), On: f.On, Times: []holdfast.TimeOfDay{f.At}}
	row := func(f *yearlyBackupFields, kind holdfast.PointKind) []holdfast.ScheduleRow {
		if f == nil {
			return nil
		}
		p.checkKeep("yearly."+string(kind)+"s.keep", f.Keep, holdfast.UnitYear)
		return []holdfast.ScheduleRow{{Flag: holdfast.Yearly, Kind: kind, When: calendar, KeepFor: f.Keep, Repository: f.Repository}}
	}
	return slices.Concat(row(f.Backups, holdfast.PointBackup), row(f.Archives, holdfast.PointArchive))
}

// checkOn refuses the empty text, which a day of the month may be elsewhere.
func (p *page) checkOn(where string, on holdfast.MonthDay) {
	if on.IsZero() {
		p.wrong(where, `"first monday", "day 15" or "last day"`, "names no day")
	}
}

// healthCheck makes the days of health checks: days of the week, or a day of some months.
func (p *page) healthCheck(f *healthCheckFields) *holdfast.HealthCheck {
	if f == nil {
		return nil
	}
	const accepted = "days, or on, with months if not every one"
	when := holdfast.Calendar{Days: p.weekdays("healthCheck.days", f.Days), Months: p.months("healthCheck.months", f.Months), On: f.On}
	switch {
	case len(f.Days) > 0 && !f.On.IsZero():
		p.wrong("healthCheck.on", accepted, "given together with days")
	case len(f.Days) == 0 && f.On.IsZero():
		p.wrong("healthCheck", accepted, "names no day")
	}
	return &holdfast.HealthCheck{When: when}
}
