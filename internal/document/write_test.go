package document_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
)

// TestWrite_RoundTrip draws sets of documents over all their fields, writes them and reads the same.
func TestWrite_RoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := drawDocuments(rt)
		text, err := document.Write(want)
		if err != nil {
			rt.Fatal(err)
		}
		got, _, err := document.Read(document.File{Name: "set.yaml", Data: text})
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(got, want) {
			rt.Fatalf("read %+v\nof      %+v\n%s", got, want, text)
		}
		again, err := document.Write(got)
		if err != nil || string(again) != string(text) {
			rt.Fatalf("%v, written twice:\n%s\n%s", err, text, again)
		}
	})
}

// TestWrite_Whole writes a set by hand and reads the same.
func TestWrite_Whole(t *testing.T) {
	want, _, err := read(whole)
	if err != nil {
		t.Fatal(err)
	}
	text, err := document.Write(want)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := read(string(text))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n%+v\n%+v\n%s", err, got, want, text)
	}
}

// TestWrite_Refuses what no document leads to, instead of writing something else.
func TestWrite_Refuses(t *testing.T) {
	policy := func(rows ...holdfast.ScheduleRow) holdfast.Documents {
		return holdfast.Documents{SchedulePolicies: []holdfast.SchedulePolicy{{PolicyCommon: holdfast.PolicyCommon{Name: "odd"}, Rows: rows}}}
	}
	daily := func(times ...holdfast.TimeOfDay) holdfast.ScheduleRow {
		return holdfast.ScheduleRow{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, KeepCount: 1, When: holdfast.Calendar{Days: holdfast.EveryDay, Times: times}}
	}
	yearly := holdfast.ScheduleRow{
		Flag: holdfast.Yearly, Kind: holdfast.PointBackup, KeepFor: holdfast.Years(1), Repository: "hot",
		When: holdfast.Calendar{Months: holdfast.NewMonthSet(time.May, time.June), On: holdfast.MonthDay{Day: 1}, Times: []holdfast.TimeOfDay{60}},
	}
	template := func(window holdfast.Window, rows ...holdfast.SLARow) holdfast.Documents {
		return holdfast.Documents{SLATemplates: []holdfast.SLATemplate{{Name: "odd", Grace: time.Hour, ProofLevel: 2, ProofAge: holdfast.Days(30), SnapshotWindow: window, Rows: rows}}}
	}
	weekly := holdfast.SLARow{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.EveryDay, KeepFor: holdfast.Days(7)}
	for what, d := range map[string]holdfast.Documents{
		"a time between the hours":       policy(daily(holdfast.NewTimeOfDay(7, 1))),
		"hours cut into different parts": policy(daily(420, 450, 480)),
		"two rows for one":               policy(daily(420), daily(480)),
		"rows out of order":              policy(yearly, daily(420)),
		"two months a year":              policy(yearly),
		"a window of nothing":            template(holdfast.Window{Opens: 60, Closes: 120}, weekly),
		"two weekly rows":                template(holdfast.Window{}, weekly, weekly),
		"ages that differ":               {Installation: holdfast.Installation{ObsoleteAge: holdfast.Days(30), SnapshotAge: holdfast.Days(60)}},
		"bytes that are no text":         {StorageTemplates: []holdfast.StorageTemplate{{Name: "odd", Description: "\xff", Backups: holdfast.Placement{Default: "hot"}}}},
	} {
		if text, err := document.Write(d); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: %v\n%s", what, err, text)
		}
	}
}

// draw is where sets of documents come from: whatever it draws is right and in the canonical order.
type draw struct{ *rapid.T }

func drawDocuments(rt *rapid.T) holdfast.Documents {
	d := draw{rt}
	set := holdfast.Documents{Installation: d.installation()}
	for i, tier := range []holdfast.Tier{holdfast.TierHot, holdfast.TierArchive, holdfast.TierInferred, holdfast.TierCold} {
		set.Repositories = append(set.Repositories, d.repository(i, tier))
	}
	hot, vault := set.Repositories[0].Name, set.Repositories[1].Name
	for i := range d.upTo(2, "storage templates") + 1 {
		set.StorageTemplates = append(set.StorageTemplates, holdfast.StorageTemplate{
			Name: d.name("storage", i), Description: d.text("description"), Backups: d.placement(hot), Archives: d.placement(vault),
		})
	}
	for i := range d.upTo(2, "templates") + 1 {
		set.SLATemplates = append(set.SLATemplates, d.slaTemplate(i))
	}
	for i := range d.upTo(2, "schedule policies") {
		p := holdfast.SchedulePolicy{PolicyCommon: d.common("policy", i), Rows: d.scheduleRows(hot, vault)}
		p.Zone = rapid.SampledFrom([]string{"", "UTC", "America/New_York"}).Draw(rt, "zone")
		if d.yes("check") && slices.ContainsFunc(p.Rows, func(r holdfast.ScheduleRow) bool { return r.Kind == holdfast.PointBackup }) {
			p.HealthCheck = &holdfast.HealthCheck{When: d.checkDays(true)}
		}
		p.Notify = holdfast.PolicyNotification{Enabled: d.yes("mail"), Recipients: d.recipients(), OnSuccess: d.yes("success"), OnWarning: d.yes("warning"), OnFailure: d.yes("failure")}
		set.SchedulePolicies = append(set.SchedulePolicies, p)
	}
	for i := range d.upTo(2, "SLA policies") {
		p := holdfast.SLAPolicy{PolicyCommon: d.common("sla", i), Template: set.SLATemplates[0].Name, Storage: set.StorageTemplates[0].Name}
		p.Notify = holdfast.PolicyNotification{Enabled: d.yes("mail"), Recipients: d.recipients(), OnlyMissed: d.yes("missed")}
		if d.yes("at") {
			at := d.time()
			p.Notify.At = &at
		}
		set.SLAPolicies = append(set.SLAPolicies, p)
	}
	return set
}

func (d draw) yes(what string) bool        { return rapid.Bool().Draw(d.T, what) }
func (d draw) upTo(n int, what string) int { return rapid.IntRange(0, n).Draw(d.T, what) }
func (d draw) text(what string) string     { return rapid.StringN(0, 20, 60).Draw(d.T, what) }
func (d draw) time() holdfast.TimeOfDay    { return holdfast.TimeOfDay(d.upTo(1439, "time")) }
func (d draw) period(units ...holdfast.Unit) holdfast.Period {
	return holdfast.Period{N: d.upTo(9, "n") + 1, Unit: rapid.SampledFrom(units).Draw(d.T, "unit")}
}

// name draws a name that differs from those with other numbers.
func (d draw) name(what string, i int) string {
	return fmt.Sprintf("%s%s %d", what, rapid.StringMatching(`[A-Za-zé日 ()~{}\[\]-]{0,9}`).Draw(d.T, "name"), i)
}

func (d draw) days() holdfast.Weekdays {
	return holdfast.Weekdays(rapid.IntRange(1, 127).Draw(d.T, "days"))
}

func (d draw) months() holdfast.MonthSet {
	return holdfast.MonthSet(rapid.IntRange(1, 1<<12-1).Draw(d.T, "months") << 1)
}

func (d draw) monthDay() holdfast.MonthDay {
	if d.yes("date") {
		return holdfast.MonthDay{Day: d.upTo(30, "day") + 1}
	}
	ordinal := rapid.SampledFrom([]holdfast.Ordinal{holdfast.First, holdfast.Second, holdfast.Third, holdfast.Fourth, holdfast.Last}).Draw(d.T, "ordinal")
	return holdfast.MonthDay{Ordinal: ordinal, Weekday: time.Weekday(d.upTo(6, "weekday"))}
}

func (d draw) checkDays(weekly bool) holdfast.Calendar {
	var c holdfast.Calendar
	if d.yes("some months") {
		c.Months = d.months()
	}
	if weekly && d.yes("weekly") {
		c.Days = d.days()
		return c
	}
	c.On = d.monthDay()
	return c
}

func (d draw) recipients() []string {
	return rapid.SampledFrom([][]string{nil, {"a@example.com"}, {"a@example.com", "o'b+c@example.org"}}).Draw(d.T, "recipients")
}

func (d draw) secret() holdfast.SecretSource {
	return rapid.SampledFrom([]holdfast.SecretSource{
		{File: "secrets/hot"}, {File: "/etc/holdfast/hot"}, {Environment: "HOT"}, {VaultSecret: "https://v.vault.azure.net/secrets/hot"},
	}).Draw(d.T, "secret")
}

func (d draw) installation() holdfast.Installation {
	i := holdfast.Installation{Zone: rapid.SampledFrom([]string{"UTC", "Europe/Berlin"}).Draw(d.T, "zone"), RetentionAt: d.time()}
	if d.yes("global") {
		i.ObsoleteAge = rapid.SampledFrom([]holdfast.Period{holdfast.Days(15), holdfast.Months(3), holdfast.Years(99)}).Draw(d.T, "age")
		if d.yes("all") {
			i.SnapshotAge = i.ObsoleteAge
		}
		if d.yes("backups") {
			i.UnprotectedAge = i.ObsoleteAge
		}
	}
	if d.yes("sessions") {
		i.SessionRecordAge = d.period(holdfast.UnitDay, holdfast.UnitMonth, holdfast.UnitYear)
	}
	if d.yes("mail") {
		i.Mail = &holdfast.Mail{
			Enabled: d.yes("enabled"), Server: "mail.example.com", Port: d.upTo(65534, "port") + 1, Timeout: time.Duration(d.upTo(99, "timeout")+1) * time.Second,
			TLS:  rapid.SampledFrom([]holdfast.MailTLS{holdfast.MailTLSNone, holdfast.MailTLSStart, holdfast.MailTLSFirst}).Draw(d.T, "tls"),
			From: "holdfast@example.com", Recipients: d.recipients(), Subject: "%JobName%: " + rapid.StringMatching(`[ -$&-~]{0,20}`).Draw(d.T, "subject"), SLASubject: "x",
			OnSuccess: d.yes("success"), OnWarning: d.yes("warning"), OnFailure: d.yes("failure"),
		}
		if d.yes("account") {
			i.Mail.User, i.Mail.Password = "holdfast", d.secret()
		}
		if d.yes("report") {
			at := d.time()
			i.Mail.DailyReportAt = &at
		}
	}
	for n := range d.upTo(2, "webhooks") {
		i.Webhooks = append(i.Webhooks, holdfast.Webhook{URL: fmt.Sprintf("https://hooks.example.com/%d", n), Secret: d.secret(), Events: rapid.SampledFrom([][]holdfast.WebhookEvent{
			holdfast.WebhookEvents(), {holdfast.EventSlotsMissed}, {holdfast.EventSlotsMissed, holdfast.EventSessionEnded},
		}).Draw(d.T, "events")})
	}
	return i
}

func (d draw) repository(i int, tier holdfast.Tier) holdfast.RepositorySpec {
	r := holdfast.RepositorySpec{
		Name: d.name("repository", i), Description: d.text("description"), URL: fmt.Sprintf("azblob://account/container/%d", i), Region: "westeurope", Tier: tier,
		Encrypted: true, Immutable: tier != holdfast.TierArchive && d.yes("immutable"), Concurrency: d.upTo(9, "concurrency"),
	}
	if tier != holdfast.TierInferred {
		r.Redundancy = rapid.SampledFrom([]holdfast.Redundancy{"", holdfast.RedundancyLRS, holdfast.RedundancyGRS}).Draw(d.T, "redundancy")
	}
	if d.yes("vault") {
		r.KeyID = "https://v.vault.azure.net/keys/hot"
	} else {
		r.Password = d.secret()
	}
	if tier == holdfast.TierInferred {
		r.URL, r.Region, r.Immutable = rapid.SampledFrom([]string{"folder/below", "/srv/backups", "file:///srv/my%20backups"}).Draw(d.T, "folder"), "", false
		if d.yes("plain") {
			r.Encrypted, r.KeyID, r.Password = false, "", holdfast.SecretSource{}
		}
	}
	return r
}

func (d draw) placement(name string) holdfast.Placement {
	p := holdfast.Placement{Default: name}
	if d.yes("regions") {
		p.Regions = map[string]string{"northeurope": name, "westus2": name}
	}
	return p
}

func (d draw) slaTemplate(i int) holdfast.SLATemplate {
	t := holdfast.SLATemplate{
		Name: d.name("template", i), Description: d.text("description"), ChangedRanges: d.yes("changed"), TargetPercent: rapid.Float64Range(0, 100).Draw(d.T, "target"),
		Grace: time.Duration(d.upTo(1440, "grace")+1) * time.Minute, ProofLevel: d.upTo(4, "level") + 1, ProofAge: d.period(holdfast.UnitDay),
	}
	t.Grace = min(t.Grace, 24*time.Hour)
	rows := func(kind holdfast.PointKind, daily bool) {
		if daily {
			every := rapid.SampledFrom([]holdfast.Period{holdfast.Hours(1), holdfast.Hours(8), holdfast.Hours(24)}).Draw(d.T, "every")
			t.Rows = append(t.Rows, holdfast.SLARow{Flag: holdfast.Daily, Kind: kind, Every: every, KeepFor: d.period(holdfast.UnitDay)})
		}
		if d.yes("weekly") {
			t.Rows = append(t.Rows, holdfast.SLARow{Flag: holdfast.Weekly, Kind: kind, Days: d.days(), KeepFor: d.period(holdfast.UnitDay)})
		}
		if d.yes("monthly") {
			t.Rows = append(t.Rows, holdfast.SLARow{Flag: holdfast.Monthly, Kind: kind, On: d.monthDay(), Months: d.months(), KeepFor: d.period(holdfast.UnitMonth)})
		}
	}
	if d.yes("snapshots") {
		t.SnapshotWindow = holdfast.Window{Opens: d.time(), Closes: d.time()}
		rows(holdfast.PointSnapshot, true)
	}
	t.BackupWindow = holdfast.Window{Opens: d.time(), Closes: d.time()}
	rows(holdfast.PointBackup, true)
	if d.yes("archives") {
		on := holdfast.MonthDay{Day: rapid.SampledFrom([]int{1, holdfast.LastDay}).Draw(d.T, "on")}
		t.Rows = append(t.Rows, holdfast.SLARow{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, On: on, Months: d.months(), KeepFor: d.period(holdfast.UnitYear)})
	}
	if d.yes("check") {
		t.HealthCheck = &holdfast.HealthCheck{When: d.checkDays(false)}
	}
	return t
}

func (d draw) common(what string, i int) holdfast.PolicyCommon {
	c := holdfast.PolicyCommon{
		Name: d.name(what, i), Description: d.text("description"), Enabled: d.yes("enabled"), Priority: 7*i + 1, ServiceAccount: d.text("account"), Retries: d.upTo(144, "retries"),
		Sources:   holdfast.Sources{Regions: []string{"westeurope", "northeurope"}[:d.upTo(1, "regions")+1], All: d.yes("all"), OnboardByTag: d.yes("onboard")},
		Snapshots: holdfast.SnapshotOptions{CopyTags: d.yes("copy"), CrashConsistent: d.yes("crash")},
	}
	const subscription = "11111111-1111-1111-1111-111111111111"
	group := holdfast.ResourceID("/subscriptions/" + subscription + "/resourceGroups/shop")
	tag := holdfast.Tag{Name: "env", Value: d.text("value")}
	c.Sources.Include = []holdfast.Selector{
		{Subscription: subscription}, {ResourceGroup: group}, {Tag: &tag}, {VM: holdfast.NewResourceID(subscription, "shop", "Microsoft.Compute/virtualMachines", "web-1")},
	}[:d.upTo(3, "include")+1]
	if d.yes("conditions") {
		c.Sources.Conditions = []holdfast.Condition{{Name: "a", Subscription: subscription, Tags: []holdfast.Tag{tag}}, {Name: "b", Tags: []holdfast.Tag{tag, {Name: "x"}}}}
	}
	if d.yes("exclude") {
		c.Sources.Exclude = []holdfast.Selector{{Tag: &holdfast.Tag{Name: "no", Value: "backup"}}}
	}
	if d.yes("tags") {
		c.Snapshots.Tags = []holdfast.Tag{tag}
	}
	if d.yes("groups") {
		c.Snapshots.ResourceGroups = map[string]string{subscription: "snapshots"}
	}
	if d.yes("guest") {
		c.Guest = holdfast.GuestProcessing{ApplicationConsistent: d.yes("application"), BackupsOnly: d.yes("only"), IgnoreExitCodes: d.yes("codes"), IgnoreMissingScripts: d.yes("missing")}
		c.Guest.Linux.Before = holdfast.Script{Path: "/opt/before.sh", Arguments: d.text("arguments")}
		c.Guest.Windows.After = holdfast.Script{Path: `C:\scripts\after run.ps1`}
	}
	return c
}

func (d draw) scheduleRows(hot, vault string) []holdfast.ScheduleRow {
	var rows []holdfast.ScheduleRow
	add := func(flag holdfast.Flag, kind holdfast.PointKind, when holdfast.Calendar) {
		row := holdfast.ScheduleRow{Flag: flag, Kind: kind, When: when}
		switch {
		case kind == holdfast.PointSnapshot:
			row.KeepCount = d.upTo(30, "keep")
		case flag == holdfast.Yearly:
			row.KeepFor = d.period(holdfast.UnitYear)
		default:
			row.KeepFor = d.period(holdfast.UnitDay, holdfast.UnitMonth)
		}
		switch kind {
		case holdfast.PointBackup:
			row.Repository = hot
		case holdfast.PointArchive:
			row.Repository = vault
		case holdfast.PointSnapshot:
		}
		rows = append(rows, row)
	}
	daily := d.yes("daily")
	if daily {
		days, hour := d.days(), d.upTo(22, "hour")
		perHour := rapid.SampledFrom([]int{1, 2, 3, 4, 6, 12}).Draw(d.T, "per hour")
		var times []holdfast.TimeOfDay
		for i := range 2 * perHour {
			times = append(times, holdfast.TimeOfDay(hour*60+i*60/perHour))
		}
		if d.yes("snapshots") {
			add(holdfast.Daily, holdfast.PointSnapshot, holdfast.Calendar{Days: days, Times: times})
		}
		add(holdfast.Daily, holdfast.PointBackup, holdfast.Calendar{Days: days, Times: times[:1]})
	}
	at := []holdfast.TimeOfDay{d.time()}
	if d.yes("weekly") {
		days := d.days()
		add(holdfast.Weekly, holdfast.PointSnapshot, holdfast.Calendar{Days: days | d.days(), Times: at})
		add(holdfast.Weekly, holdfast.PointBackup, holdfast.Calendar{Days: days, Times: at})
	}
	if d.yes("monthly") {
		months, on := d.months(), d.monthDay()
		add(holdfast.Monthly, holdfast.PointSnapshot, holdfast.Calendar{Months: months | d.months(), On: on, Times: at})
		kind := holdfast.PointBackup
		if daily && d.yes("archive") {
			kind = holdfast.PointArchive
		}
		add(holdfast.Monthly, kind, holdfast.Calendar{Months: months, On: on, Times: at})
	}
	if daily && d.yes("yearly") {
		when := holdfast.Calendar{Months: holdfast.NewMonthSet(time.Month(d.upTo(11, "month") + 1)), On: d.monthDay(), Times: at}
		add(holdfast.Yearly, rapid.SampledFrom([]holdfast.PointKind{holdfast.PointBackup, holdfast.PointArchive}).Draw(d.T, "kind"), when)
	}
	return rows
}
