package document

import (
	"slices"

	"github.com/holdfast-backup/holdfast"
)

func policyFieldsOf(c holdfast.PolicyCommon) policyFields {
	return policyFields{
		Enabled: unless(c.Enabled, true), Priority: given(c.Priority), ServiceAccount: c.ServiceAccount, Sources: sourcesFieldsOf(c.Sources),
		Guest: guestFieldsOf(c.Guest), SnapshotOptions: snapshotOptionFieldsOf(c.Snapshots), Retries: unless(c.Retries, retriesDefault),
	}
}

func sourcesFieldsOf(s holdfast.Sources) sourcesFields {
	f := sourcesFields{Regions: s.Regions, All: s.All, Include: selectorFieldsOf(s.Include), OnboardByTag: s.OnboardByTag}
	for _, e := range selectorFieldsOf(s.Exclude) {
		f.Exclude = append(f.Exclude, exclusionFields{e.Tag, e.VM})
	}
	for _, c := range s.Conditions {
		f.Conditions = append(f.Conditions, conditionFields{c.Name, c.Subscription, string(c.ResourceGroup), tagFieldsOf(c.Tags)})
	}
	return f
}

func selectorFieldsOf(selectors []holdfast.Selector) []selectorFields {
	var all []selectorFields
	for _, s := range selectors {
		f := selectorFields{Subscription: s.Subscription, ResourceGroup: string(s.ResourceGroup), VM: string(s.VM)}
		if s.Tag != nil {
			f.Tag = &tagFields{s.Tag.Name, s.Tag.Value}
		}
		all = append(all, f)
	}
	return all
}

func tagFieldsOf(tags []holdfast.Tag) []tagFields {
	var all []tagFields
	for _, t := range tags {
		all = append(all, tagFields(t))
	}
	return all
}

func guestFieldsOf(g holdfast.GuestProcessing) *guestFields {
	scripts := func(s holdfast.GuestScripts) *scriptsFields {
		script := func(s holdfast.Script) *scriptFields { return given(scriptFields(s)) }
		return given(scriptsFields{script(s.Before), script(s.After)})
	}
	return given(guestFields{g.ApplicationConsistent, scripts(g.Windows), scripts(g.Linux), g.BackupsOnly, g.IgnoreMissingScripts, g.IgnoreExitCodes})
}

func snapshotOptionFieldsOf(o holdfast.SnapshotOptions) *snapshotOptionFields {
	f := &snapshotOptionFields{o.CopyTags, tagFieldsOf(o.Tags), o.ResourceGroups, o.CrashConsistent}
	if !f.CopyTags && len(f.Tags)+len(f.ResourceGroups) == 0 && !f.CrashConsistent {
		return nil
	}
	return f
}

func slaPolicyFieldsOf(p holdfast.SLAPolicy) *slaPolicyFields {
	f := &slaPolicyFields{
		header: header{KindSLAPolicy, p.Name, p.Description}, policyFields: policyFieldsOf(p.PolicyCommon), SLATemplate: p.Template, StorageTemplate: p.Storage,
	}
	if n := p.Notify; n.Enabled || len(n.Recipients) > 0 || n.OnlyMissed || n.At != nil {
		f.Notify = &slaNotifyFields{Enabled: unless(n.Enabled, true), Recipients: n.Recipients, OnlyMissed: n.OnlyMissed, At: n.At}
	}
	return f
}

func (w *writer) schedulePolicy(p holdfast.SchedulePolicy) {
	f := schedulePolicyFields{
		header: header{KindSchedulePolicy, p.Name, p.Description}, policyFields: policyFieldsOf(p.PolicyCommon), Zone: p.Zone, HealthCheck: healthCheckFieldsOf(p.HealthCheck),
	}
	if n := p.Notify; n.Enabled || len(n.Recipients) > 0 || n.OnSuccess || n.OnWarning || n.OnFailure {
		f.Notify = &runNotifyFields{unless(n.Enabled, true), n.Recipients, unless(n.OnSuccess, true), unless(n.OnWarning, true), unless(n.OnFailure, true)}
	}
	for _, row := range p.Rows {
		f.addRow(row)
	}
	again := scratch()
	rows := slices.Concat(again.daily(f.Daily), again.weekly(f.Weekly), again.monthly(f.Monthly), again.yearly(f.Yearly))
	if again.broken || !slices.EqualFunc(rows, p.Rows, sameRow) || !sameCheck(again.healthCheck(f.HealthCheck), p.HealthCheck) {
		w.strange(KindSchedulePolicy, p.Name, "its rows are none that a document leads to")
	}
	w.put(KindSchedulePolicy, p.Name, &f)
}

func sameRow(a, b holdfast.ScheduleRow) bool {
	return a.Flag == b.Flag && a.Kind == b.Kind && a.KeepCount == b.KeepCount && a.KeepFor == b.KeepFor && a.Repository == b.Repository &&
		sameCalendar(a.When, b.When)
}

func sameCalendar(a, b holdfast.Calendar) bool {
	return a.Days == b.Days && a.Months == b.Months && a.On == b.On && slices.Equal(a.Times, b.Times)
}

// addRow writes a row into the block of its schedule. Of what all rows of a block share, the last one's is written; whether
// they agree is seen afterwards.
func (f *schedulePolicyFields) addRow(row holdfast.ScheduleRow) {
	switch row.Flag {
	case holdfast.Daily:
		f.Daily = f.Daily.with(row)
	case holdfast.Weekly:
		f.Weekly = f.Weekly.with(row)
	case holdfast.Monthly:
		f.Monthly = f.Monthly.with(row)
	case holdfast.Yearly:
		f.Yearly = f.Yearly.with(row)
	}
}

func (d *dailyFields) with(row holdfast.ScheduleRow) *dailyFields {
	if d == nil {
		d = &dailyFields{}
	}
	if row.When.Days != holdfast.EveryDay {
		d.Days = wordsOfDays(row.When.Days)
	}
	hours, perHour := hoursOf(row.When.Times)
	if row.Kind == holdfast.PointSnapshot {
		d.Snapshots = &dailySnapshotFields{hours, unless(perHour, 1), row.KeepCount}
		return d
	}
	d.Backups = &dailyBackupFields{hours, row.KeepFor, row.Repository}
	return d
}

// hoursOf returns the hours that times lie in, and how many lie in the first of them.
func hoursOf(times []holdfast.TimeOfDay) (hours []int, perHour int) {
	for _, t := range times {
		if !slices.Contains(hours, t.Hour()) {
			hours = append(hours, t.Hour())
		}
		if t.Hour() == times[0].Hour() {
			perHour++
		}
	}
	return hours, perHour
}

// timeOf returns the one time of a calendar; whether there are more is seen afterwards.
func timeOf(when holdfast.Calendar) holdfast.TimeOfDay {
	if len(when.Times) == 0 {
		return 0
	}
	return when.Times[0]
}

func (f *weeklyFields) with(row holdfast.ScheduleRow) *weeklyFields {
	if f == nil {
		f = &weeklyFields{}
	}
	f.At = timeOf(row.When)
	if row.Kind == holdfast.PointSnapshot {
		f.Snapshots = &weeklySnapshotFields{wordsOfDays(row.When.Days), row.KeepCount}
		return f
	}
	f.Backups = &weeklyBackupFields{wordsOfDays(row.When.Days), row.KeepFor, row.Repository}
	return f
}

func (f *monthlyFields) with(row holdfast.ScheduleRow) *monthlyFields {
	if f == nil {
		f = &monthlyFields{}
	}
	f.At, f.On = timeOf(row.When), row.When.On
	months := wordsOfMonths(row.When.Months)
	switch row.Kind {
	case holdfast.PointSnapshot:
		f.Snapshots = &monthlySnapshotFields{months, row.KeepCount}
	case holdfast.PointBackup:
		f.Backups = &monthlyBackupFields{months, row.KeepFor, row.Repository}
	case holdfast.PointArchive:
		f.Archives = &monthlyBackupFields{months, row.KeepFor, row.Repository}
	}
	return f
}

func (f *yearlyFields) with(row holdfast.ScheduleRow) *yearlyFields {
	if f == nil {
		f = &yearlyFields{}
	}
	f.At, f.On = timeOf(row.When), row.When.On
	if months := wordsOfMonths(row.When.Months); len(months) > 0 {
		f.Month = months[0]
	}
	fields := &yearlyBackupFields{row.KeepFor, row.Repository}
	if row.Kind == holdfast.PointArchive {
		f.Archives = fields
		return f
	}
	f.Backups = fields
	return f
}
