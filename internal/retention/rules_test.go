package retention_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// causes lists a verdict's causes.
func causes(v retention.Verdict) string {
	var all []string
	for _, r := range v.Reasons {
		all = append(all, string(r.Cause))
	}
	return strings.Join(all, " ")
}

// want is what is expected of one point.
type want struct {
	id     string
	keep   bool
	flags  string
	causes string
}

// expect compares the verdicts of both occasions.
func expect(t *testing.T, title string, verdicts []retention.Verdict, wants ...want) {
	t.Helper()
	if len(verdicts) != len(wants) {
		t.Errorf("%s: %d verdicts, expected %d\n%s", title, len(verdicts), len(wants), told(verdicts))
		return
	}
	for i, w := range wants {
		v := verdicts[i]
		if got := (want{string(v.Point.ID), v.Keep, v.Point.Flags.String(), causes(v)}); got != w {
			t.Errorf("%s:\n got %v\nwant %v\n%s", title, got, w, told(verdicts))
		}
	}
}

func bad(p retention.Point) retention.Point {
	p.Good = false
	return p
}

// A bad point counts for nobody, and loses a flag when as many newer good ones bear it as are kept: not before, since it may be mended.
func TestExplain_BadPoints(t *testing.T) {
	rules := protected(row(snapshot, holdfast.Daily, retention.Newest(2)))
	points := []retention.Point{
		bad(point(snapshot, "03-01 07:00", "D")), point(snapshot, "03-02 07:00", "D"), bad(point(snapshot, "03-03 07:00", "D")),
		point(snapshot, "03-04 07:00", "D"), bad(point(snapshot, "03-05 07:00", "D")),
	}
	expect(t, "bad points", retention.Explain(at("03-05 08:00"), retention.Closing, rules, points),
		want{"03-01 07:00", false, "", "count"}, want{"03-02 07:00", true, "D", "flag"}, want{"03-03 07:00", true, "D", "flag"},
		want{"03-04 07:00", true, "D", "flag lastGood"}, want{"03-05 07:00", true, "D", "flag"})
}

// Of a machine that is protected the last good point of each kind stays, however old it is. Bad points, points made by hand and
// snapshots that are held for a backup alone do not stand in for it.
func TestExplain_LastGoodOfEachKind(t *testing.T) {
	rules := protected(row(snapshot, holdfast.Daily, retention.Lasting(holdfast.Days(1))), row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(1))))
	byHand := retention.Point{ID: "hand", VM: "vm", Kind: snapshot, Created: at("03-05 07:00"), Good: true, Manual: true}
	working := retention.Point{ID: "work", VM: "vm", Kind: snapshot, Policy: "shop", Slot: at("03-05 08:00"), Created: at("03-05 08:00"), Good: true, Temporary: true, Base: true}
	outdated := point(snapshot, "03-05 06:00", "")
	outdated.Base = true
	points := []retention.Point{
		point(snapshot, "03-01 07:00", "D"), point(snapshot, "03-02 07:00", "D"), bad(point(backup, "03-02 08:00", "D")),
		point(backup, "03-01 08:00", "D"), point(archive, "03-01 09:00", ""), byHand, working, outdated,
	}
	expect(t, "last good", retention.Explain(at("03-20 00:15"), retention.DailyPass, rules, points),
		want{"03-01 07:00", false, "", "age"}, want{"03-01 08:00", true, "", "lastGood"}, want{"03-01 09:00", true, "", "lastGood"},
		want{"03-02 07:00", true, "", "lastGood"}, want{"03-02 08:00", false, "", "age"}, want{"03-05 06:00", true, "", "base"},
		want{"hand", true, "", "manual"}, want{"work", true, "", "base"})
}

// The last good snapshot that is a base as well does not go when the base moves on to one that a session made for itself.
func TestExplain_LastGoodThatIsABase(t *testing.T) {
	rules := protected(row(snapshot, holdfast.Daily, retention.Lasting(holdfast.Days(1))))
	last := point(snapshot, "03-01 07:00", "D")
	last.Base = true
	m := &machine{t: t, rules: rules, points: []retention.Point{last}}
	m.run(at("03-10 00:15"), retention.DailyPass)
	expect(t, "base", m.verdicts, want{"03-01 07:00", true, "", "base"})
	m.points[0].Base = false
	m.session(retention.Point{ID: "work", VM: "vm", Kind: snapshot, Policy: "shop", Slot: at("03-10 07:00"), Created: at("03-10 07:00"), Good: true, Temporary: true, Base: true})
	expect(t, "the base moved", m.verdicts, want{"03-01 07:00", true, "", "lastGood"}, want{"work", true, "", "base"})
	m.points[1].Base = false
	m.run(at("03-11 00:15"), retention.DailyPass)
	expect(t, "after the work", m.verdicts, want{"03-01 07:00", true, "", "lastGood"}, want{"work", false, "", "temporary"})
}

// Points of a machine that no policy protects age by what was stored with them, in the zone that was stored, and one last good one of all
// kinds stays. Numbers are never exceeded, since nothing new comes; points without stored rules wait for a person.
func TestExplain_Unprotected(t *testing.T) {
	berlin, err := civil.Zone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	before := retention.Rules{Protected: true, Zone: berlin, Settings: settings(), Rows: []retention.Row{
		row(snapshot, holdfast.Daily, retention.Newest(2)), row(backup, holdfast.Daily, retention.Lasting(holdfast.Months(1))),
	}}
	stamped := func(p retention.Point) retention.Point { return before.Stamp(p) }
	points := []retention.Point{
		stamped(point(backup, "01-30 23:30", "D")), // 31 January in Berlin: a month later is 28 February, 00:30 there
		stamped(point(backup, "02-02 07:00", "D")), stamped(point(snapshot, "02-01 07:00", "D")), point(snapshot, "02-01 08:00", "D"),
	}
	rules := retention.Unprotected(settings())
	expect(t, "at the end of its month", retention.Explain(at("02-27 23:30"), retention.BothOccasions, rules, points),
		want{"01-30 23:30", true, "D", "flag"}, want{"02-01 07:00", true, "D", "flag"}, want{"02-01 08:00", true, "D", "noRule"}, want{"02-02 07:00", true, "D", "flag lastGood"})
	expect(t, "past it", retention.Explain(at("02-27 23:30").Add(time.Second), retention.BothOccasions, rules, points)[:1], want{"01-30 23:30", false, "", "age"})
	expect(t, "a year later", retention.Explain(at("12-01 00:15"), retention.BothOccasions, rules, points),
		want{"01-30 23:30", false, "", "age"}, want{"02-01 07:00", true, "D", "flag"}, want{"02-01 08:00", true, "D", "noRule"}, want{"02-02 07:00", true, "", "lastGood"})
	together := []retention.Point{stamped(point(backup, "02-01 07:00", "D")), stamped(point(snapshot, "02-01 07:00", "D"))}
	together[0].ID, together[1].ID = "1", "2"
	rules.Settings.ObsoleteAge = holdfast.Days(60)
	expect(t, "a snapshot and its backup: the backup lasts", retention.Explain(at("04-01 00:15"), retention.BothOccasions, rules, together),
		want{"2", true, "D", "flag"}, want{"1", true, "", "lastGood"})
	gone := retention.Rules{Protected: true, Gone: true, Rows: before.Rows, Settings: settings()}
	expect(t, "a machine that is gone", retention.Explain(at("12-01 00:15"), retention.BothOccasions, gone, points[:2]),
		want{"01-30 23:30", false, "", "age"}, want{"02-02 07:00", true, "", "lastGood"})
}

// The base goes with its machine, and stays with one that a policy may protect again.
func TestExplain_BaseOfAMachineThatIsGone(t *testing.T) {
	base := retention.Point{ID: "base", VM: "vm", Kind: snapshot, Policy: "shop", Slot: at("03-01 07:00"), Created: at("03-01 07:00"), Good: true, Temporary: true, Base: true}
	for _, gone := range []bool{false, true} {
		rules := retention.Rules{Gone: gone, Settings: settings()}
		if v := retention.Explain(at("12-01 00:15"), retention.Closing, rules, []retention.Point{base})[0]; v.Keep == gone {
			t.Errorf("gone %t: %s", gone, told([]retention.Verdict{v}))
		}
	}
}

// Global ages are the points' own. Of a protected machine they spare the base and the last good snapshot; of others they take all
// snapshots, and all backups, but no archive, and never what is made by hand.
func TestExplain_GlobalAges(t *testing.T) {
	byHand := retention.Point{ID: "hand", VM: "vm", Kind: snapshot, Created: at("01-01 06:00"), Good: true, Manual: true}
	base := point(snapshot, "01-02 07:00", "D")
	base.Base = true
	points := []retention.Point{
		byHand, point(snapshot, "01-01 07:00", "D"), base, point(snapshot, "01-03 07:00", "D"), point(backup, "01-01 08:00", "D"), point(archive, "01-01 09:00", "M"),
	}
	rows := []retention.Row{row(snapshot, holdfast.Daily, retention.Newest(9)), row(backup, holdfast.Daily, retention.Lasting(holdfast.Years(1))), row(archive, holdfast.Monthly, retention.Lasting(holdfast.Years(9)))}
	before := protected(rows...)
	for i := range points {
		points[i] = before.Stamp(points[i])
	}
	rules := protected(rows...)
	rules.Settings.SnapshotAge = holdfast.Days(30)
	rules.Settings.UnprotectedAge = holdfast.Days(60)
	expect(t, "all snapshots, protected", retention.Explain(at("06-01 00:15"), retention.DailyPass, rules, points),
		want{"hand", true, "", "manual"}, want{"01-01 07:00", false, "D", "snapshotAge"}, want{"01-01 08:00", true, "D", "flag lastGood"},
		want{"01-01 09:00", true, "M", "flag lastGood"}, want{"01-02 07:00", true, "D", "flag base"}, want{"01-03 07:00", true, "D", "flag lastGood"})
	expect(t, "not at the close of a session", retention.Explain(at("06-01 00:15"), retention.Closing, rules, points)[1:2], want{"01-01 07:00", true, "D", "flag"})
	rules.Protected = false
	rules.Settings.ObsoleteAge = holdfast.Days(15)
	expect(t, "unprotected, before", retention.Explain(at("01-16 07:00"), retention.DailyPass, rules, points)[1:2], want{"01-01 07:00", true, "D", "flag"})
	expect(t, "unprotected", retention.Explain(at("06-01 00:15"), retention.DailyPass, rules, points),
		want{"hand", true, "", "manual"}, want{"01-01 07:00", false, "D", "obsoleteAge"}, want{"01-01 08:00", false, "D", "unprotectedAge"},
		want{"01-01 09:00", true, "M", "flag lastGood"}, want{"01-02 07:00", false, "D", "obsoleteAge"}, want{"01-03 07:00", false, "D", "obsoleteAge"})
	expect(t, "unprotected, no archive", retention.Explain(at("06-01 00:15"), retention.DailyPass, rules, points[3:5]),
		want{"01-01 08:00", false, "D", "unprotectedAge"}, want{"01-03 07:00", false, "D", "obsoleteAge"})
}

// An edit dates existing points anew; a flag once lost does not return; a schedule that is turned off keeps its last setting.
func TestExplain_Edits(t *testing.T) {
	m := &machine{t: t, rules: protected(row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(7))), row(backup, holdfast.Weekly, retention.Lasting(holdfast.Days(30))))}
	m.points = []retention.Point{point(backup, "03-02 07:00", "DW"), point(backup, "03-03 07:00", "D"), point(backup, "03-04 07:00", "D"), point(backup, "03-12 07:00", "D")}
	m.run(at("03-10 00:15"), retention.DailyPass)
	m.wants("7 days", "03-02 07:00 W", "03-03 07:00 D", "03-04 07:00 D", "03-12 07:00 D")
	m.rules.Rows[0].Keep = retention.Lasting(holdfast.Days(20))
	m.run(at("03-20 00:15"), retention.DailyPass)
	m.wants("20 days: what was lost stays lost, the rest lasts longer", "03-02 07:00 W", "03-03 07:00 D", "03-04 07:00 D", "03-12 07:00 D")
	m.rules.Rows = m.rules.Rows[1:]
	m.run(at("03-23 08:00"), retention.DailyPass)
	m.wants("daily turned off: 20 days was its last setting", "03-02 07:00 W", "03-04 07:00 D", "03-12 07:00 D")
	m.rules.Rows = nil
	m.run(at("04-01 08:00"), retention.DailyPass)
	m.wants("weekly turned off: 30 days; the last good one outlives its flag", "03-12 07:00")
}

// Edit tells what goes because rules change, and neither what goes anyway nor what a schedule leaves that is turned off.
func TestEdit(t *testing.T) {
	before := protected(row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(7))))
	points := []retention.Point{point(backup, "03-01 07:00", "D"), point(backup, "03-05 07:00", "D"), point(backup, "03-09 07:00", "D")}
	now := at("03-09 08:00")
	for _, c := range []struct {
		title string
		after retention.Rules
		gone  int
	}{
		{"as before", before, 0},
		{"3 days", protected(row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(3)))), 1},
		{"longer", protected(row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(70)))), 0},
		{"turned off", protected(), 0},
		{"unprotected", retention.Unprotected(settings()), 0},
	} {
		gone := retention.Edit(now, before, c.after, points)
		if len(gone) != c.gone || c.gone > 0 && gone[0].Point.ID != "03-05 07:00" {
			t.Errorf("%s: %s", c.title, told(gone))
		}
	}
}

// A point that a person started bears no flag and counts for nobody. It stays as long as one of the most frequent schedule, made at
// its moment, would, and what it lost does not return either.
func TestExplain_StartedByAPerson(t *testing.T) {
	started := func(kind holdfast.PointKind, moment string) retention.Point {
		p := point(kind, moment, "")
		p.Slot = time.Time{}
		return p
	}
	m := &machine{t: t, rules: protected(
		row(snapshot, holdfast.Weekly, retention.Newest(9)), row(snapshot, holdfast.Daily, retention.Newest(2)), row(backup, holdfast.Weekly, retention.Lasting(holdfast.Days(20))),
	)}
	m.session(point(snapshot, "03-01 07:00", "D"))
	m.session(started(snapshot, "03-01 08:00"), started(backup, "03-01 08:30"))
	m.session(point(snapshot, "03-02 07:00", "D"))
	expect(t, "one newer", m.verdicts, want{"03-01 07:00", true, "D", "flag"}, want{"03-01 08:00", true, "", "manualStart"}, want{"03-01 08:30", true, "", "manualStart lastGood"}, want{"03-02 07:00", true, "D", "flag lastGood"})
	m.points[1].LockedUntil = at("03-06 00:00")
	m.session(point(snapshot, "03-03 07:00", "D"))
	expect(t, "two newer", m.verdicts, want{"03-01 07:00", false, "", "count"}, want{"03-01 08:00", true, "", "locked"}, want{"03-01 08:30", true, "", "manualStart lastGood"},
		want{"03-02 07:00", true, "D", "flag"}, want{"03-03 07:00", true, "D", "flag lastGood"})
	m.rules.Rows[1].Keep = retention.Newest(5)
	m.run(at("03-07 00:15"), retention.DailyPass)
	expect(t, "after its lock", m.verdicts[:1], want{"03-01 08:00", false, "", "outdated"})
	m.points = append(m.points, point(backup, "03-08 07:00", "W"))
	m.run(at("03-21 08:31"), retention.DailyPass)
	expect(t, "after its period", m.verdicts[:1], want{"03-01 08:30", false, "", "age"})
	stored := started(snapshot, "03-01 08:00")
	stored.Keep.Daily = retention.Newest(0)
	weekly := protected(row(snapshot, holdfast.Weekly, retention.Newest(2)))
	if like := weekly.Stamp(stored).Like; like != holdfast.Weekly {
		t.Errorf("a daily schedule that is no more goes before the weekly one: %s", like)
	}
	noRows := retention.Explain(at("12-01 00:15"), retention.BothOccasions, protected(), []retention.Point{started(backup, "03-01 08:00"), started(backup, "03-02 08:00")})
	expect(t, "a policy without a schedule", noRows, want{"03-01 08:00", true, "", "noRule"}, want{"03-02 08:00", true, "", "noRule lastGood"})
}

// A locked point stays until its lock ends, whatever else is said, loses its flags meanwhile, and goes on the next occasion.
func TestExplain_Locks(t *testing.T) {
	locked := point(snapshot, "03-01 07:00", "D")
	locked.LockedUntil = at("03-20 12:00")
	points := []retention.Point{locked, point(snapshot, "03-02 07:00", "D")}
	rules := protected(row(snapshot, holdfast.Daily, retention.Newest(1)))
	rules.Settings.SnapshotAge = holdfast.Days(15)
	for _, occasion := range []retention.Occasion{retention.Closing, retention.DailyPass, retention.BothOccasions} {
		after := retention.Kept(retention.Explain(at("03-18 08:00"), retention.BothOccasions, rules, points))
		if v := retention.Explain(at("03-20 12:00"), occasion, rules, after)[0]; !v.Keep || causes(v) != "locked" || !v.Until.Equal(at("03-21 00:15")) {
			t.Errorf("at the end: %s", told([]retention.Verdict{v}))
		}
		if v := retention.Explain(at("03-20 12:00").Add(time.Second), occasion, rules, after)[0]; v.Keep {
			t.Errorf("past the end: %s", told([]retention.Verdict{v}))
		}
	}
}

// A point "on day" that coincides with no other slot is an ordinary point with that one flag.
func TestExplain_OnDay(t *testing.T) {
	rules := protected(row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(2))), row(backup, holdfast.Monthly, retention.Lasting(holdfast.Months(2))))
	points := []retention.Point{point(backup, "03-15 12:00", "M"), point(backup, "03-16 07:00", "D"), point(backup, "03-30 07:00", "D")}
	expect(t, "on day", retention.Explain(at("03-30 08:00"), retention.BothOccasions, rules, points),
		want{"03-15 12:00", true, "M", "flag"}, want{"03-16 07:00", false, "", "age"}, want{"03-30 07:00", true, "D", "flag lastGood"})
}

// Rules come from what people wrote: numbers for the snapshots of schedules, periods for all else.
func TestRulesOf(t *testing.T) {
	policy := holdfast.SchedulePolicy{Rows: []holdfast.ScheduleRow{
		{Kind: snapshot, Flag: holdfast.Daily, KeepCount: 3}, {Kind: backup, Flag: holdfast.Yearly, KeepFor: holdfast.Years(7)},
	}}
	rules := retention.RulesOf(policy, time.UTC, settings())
	if !rules.Protected || rules.Rows[0] != row(snapshot, holdfast.Daily, retention.Newest(3)) || rules.Rows[1] != row(backup, holdfast.Yearly, retention.Lasting(holdfast.Years(7))) {
		t.Errorf("%+v", rules)
	}
	template := holdfast.SLATemplate{Rows: []holdfast.SLARow{{Kind: snapshot, Flag: holdfast.Weekly, KeepFor: holdfast.Days(8)}}}
	if rules := retention.RulesOfTemplate(template, time.UTC, settings()); !rules.Protected || rules.Rows[0] != row(snapshot, holdfast.Weekly, retention.Lasting(holdfast.Days(8))) {
		t.Errorf("%+v", rules)
	}
}

// The daily pass runs once on every day, at the first of two moments and after a gap, and never at the moment that is asked about.
func TestNextPass(t *testing.T) {
	for _, c := range []struct {
		zone  string
		at    holdfast.TimeOfDay
		after string
		want  string
	}{
		{"", holdfast.NewTimeOfDay(0, 15), "2026-03-01T00:14:59Z", "2026-03-01T00:15:00Z"},
		{"", holdfast.NewTimeOfDay(0, 15), "2026-03-01T00:15:00Z", "2026-03-02T00:15:00Z"},
		{"Europe/Berlin", holdfast.NewTimeOfDay(2, 30), "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
		{"Europe/Berlin", holdfast.NewTimeOfDay(2, 30), "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"},
		{"Europe/Berlin", holdfast.NewTimeOfDay(2, 30), "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"Pacific/Kiritimati", holdfast.NewTimeOfDay(0, 15), "2026-03-01T10:14:00Z", "2026-03-01T10:15:00Z"},
	} {
		s, err := retention.SettingsOf(holdfast.Installation{Zone: c.zone, RetentionAt: c.at})
		if err != nil {
			t.Fatal(err)
		}
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.NextPass(after).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s in %q after %s: %s, expected %s", c.at, c.zone, c.after, got, c.want)
		}
	}
	if _, err := retention.SettingsOf(holdfast.Installation{Zone: "Mars"}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a zone that is none: %v", err)
	}
}

// What a person reads.
func TestReason_Text(t *testing.T) {
	rules := protected(row(snapshot, holdfast.Daily, retention.Newest(3)), row(backup, holdfast.Weekly, retention.Lasting(holdfast.Days(21))))
	points := []retention.Point{
		point(backup, "04-09 07:00", "W"), point(backup, "04-16 07:00", "W"), bad(point(backup, "04-16 08:00", "W")), point(backup, "04-23 07:00", "W"),
		point(snapshot, "04-20 07:00", "D"), point(snapshot, "04-21 07:00", "D"), point(snapshot, "04-22 07:00", "D"), point(snapshot, "04-22 09:00", "D"),
	}
	points[0].LockedUntil = at("06-02 00:00")
	got := told(retention.Explain(at("04-24 00:15"), retention.BothOccasions, rules, points))
	wanted := `04-09 07:00 backup "W" kept=true lost="" until=2026-06-02T00:15:00Z: [weekly 3 of 3, until 30 April 2026] [locked until 2 June 2026]
04-16 07:00 backup "W" kept=true lost="" until=2026-05-08T00:15:00Z: [weekly 2 of 3, until 7 May 2026]
04-16 08:00 backup "W" kept=true lost="" until=2026-05-08T00:15:00Z: [weekly, until 7 May 2026]
04-20 07:00 snapshot "" kept=false lost="D" until=0001-01-01T00:00:00Z: [daily: 3 newer good ones bear it, as many as are kept]
04-21 07:00 snapshot "D" kept=true lost="" until=0001-01-01T00:00:00Z: [daily 3 of 3, until 1 more good one is made]
04-22 07:00 snapshot "D" kept=true lost="" until=0001-01-01T00:00:00Z: [daily 2 of 3, until 2 more good ones are made]
04-22 09:00 snapshot "D" kept=true lost="" until=0001-01-01T00:00:00Z: [daily 1 of 3, until 3 more good ones are made] [last good snapshot, until there is a newer one]
04-23 07:00 backup "W" kept=true lost="" until=0001-01-01T00:00:00Z: [weekly 1 of 3, until 14 May 2026] [last good backup, until there is a newer one]
`
	if got != wanted {
		t.Errorf("\n%s\nexpected\n%s", got, wanted)
	}
}
