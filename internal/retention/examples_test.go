package retention_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

const (
	snapshot = holdfast.PointSnapshot
	backup   = holdfast.PointBackup
	archive  = holdfast.PointArchive
)

// at reads a moment of 2026 in UTC, such as "03-02 07:00". 2 March is a Monday.
func at(text string) time.Time {
	moment, err := time.Parse("2006-01-02 15:04", "2026-"+text)
	if err != nil {
		panic(err)
	}
	return moment
}

// point makes a good point of a scheduled session, with its moment for a name.
func point(kind holdfast.PointKind, moment, letters string) retention.Point {
	p := retention.Point{ID: holdfast.PointID(moment), VM: "vm", Kind: kind, Policy: "shop", Slot: at(moment), Created: at(moment), Good: true}
	if err := p.Flags.UnmarshalText([]byte(letters)); err != nil {
		panic(err)
	}
	return p
}

func row(kind holdfast.PointKind, flag holdfast.Flag, keep retention.Limit) retention.Row {
	return retention.Row{Kind: kind, Flag: flag, Keep: keep}
}

func protected(rows ...retention.Row) retention.Rules {
	return retention.Rules{Protected: true, Rows: rows, Settings: settings()}
}

func settings() retention.Settings {
	return retention.Settings{PassAt: holdfast.NewTimeOfDay(0, 15)}
}

// machine is the history of one machine: what is there, and what its retention said last.
type machine struct {
	t        *testing.T
	rules    retention.Rules
	points   []retention.Point
	verdicts []retention.Verdict
}

// session makes points; then, at the close, counts are held.
func (m *machine) session(points ...retention.Point) {
	m.t.Helper()
	m.points = append(m.points, points...)
	m.run(points[0].Created.Add(10*time.Minute), retention.Closing)
}

// run carries one occasion out.
func (m *machine) run(now time.Time, occasion retention.Occasion) {
	m.verdicts = retention.Explain(now, occasion, m.rules, m.points)
	m.points = retention.Kept(m.verdicts)
}

// wants compares what is there with "kind-less" lines of moment and flags, oldest first.
func (m *machine) wants(when string, want ...string) {
	m.t.Helper()
	var got []string
	for _, p := range m.points {
		got = append(got, strings.TrimSpace(string(p.ID)+" "+p.Flags.String()))
	}
	if !slices.Equal(got, want) {
		m.t.Errorf("%s:\n got %q\nwant %q\n%s", when, got, want, told(m.verdicts))
	}
}

// told writes verdicts as a person reads them.
func told(verdicts []retention.Verdict) string {
	var b strings.Builder
	for _, v := range verdicts {
		fmt.Fprintf(&b, "%s %s %q kept=%t lost=%q until=%s:", v.Point.ID, v.Point.Kind, v.Point.Flags, v.Keep, v.Lost, v.Until.Format(time.RFC3339))
		for _, r := range v.Reasons {
			fmt.Fprintf(&b, " [%s]", r.Text())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Catalogue §4.4, snapshots: 3 daily and 2 weekly are kept; sessions run on workdays at 7, 9 and 11, on Mondays at 7 for both.
func TestExplain_HarmonisedSnapshots(t *testing.T) {
	m := &machine{t: t, rules: protected(row(snapshot, holdfast.Daily, retention.Newest(3)), row(snapshot, holdfast.Weekly, retention.Newest(2)))}
	m.session(point(snapshot, "03-02 07:00", "DW"))
	m.session(point(snapshot, "03-02 09:00", "D"))
	m.session(point(snapshot, "03-02 11:00", "D"))
	m.wants("Monday", "03-02 07:00 DW", "03-02 09:00 D", "03-02 11:00 D")
	m.session(point(snapshot, "03-03 07:00", "D"))
	m.wants("Tuesday 07:00: the first loses D and keeps W", "03-02 07:00 W", "03-02 09:00 D", "03-02 11:00 D", "03-03 07:00 D")
	m.session(point(snapshot, "03-03 09:00", "D"))
	m.wants("Tuesday 09:00: the second had D alone", "03-02 07:00 W", "03-02 11:00 D", "03-03 07:00 D", "03-03 09:00 D")
	for day := 4; day <= 13; day++ {
		if weekday := at(fmt.Sprintf("03-%02d 00:00", day)).Weekday(); weekday == time.Saturday || weekday == time.Sunday {
			continue
		}
		for _, hour := range []int{7, 9, 11} {
			letters := "D"
			if day == 9 && hour == 7 {
				letters = "DW"
			}
			m.session(point(snapshot, fmt.Sprintf("03-%02d %02d:00", day, hour), letters))
		}
	}
	m.wants("Friday of week 2", "03-02 07:00 W", "03-09 07:00 W", "03-13 07:00 D", "03-13 09:00 D", "03-13 11:00 D")
	m.session(point(snapshot, "03-16 07:00", "DW"))
	m.wants("Monday of week 3: a third W", "03-09 07:00 W", "03-13 09:00 D", "03-13 11:00 D", "03-16 07:00 DW")
}

// Catalogue §4.4, backups: 3 days and 14 days weekly, made daily at 7. Each day something is looked at after the session, as there.
func TestExplain_HarmonisedBackups(t *testing.T) {
	m := &machine{t: t, rules: protected(row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(3))), row(backup, holdfast.Weekly, retention.Lasting(holdfast.Days(14))))}
	for day := 2; day <= 16; day++ {
		letters := "D"
		if day%7 == 2 {
			letters = "DW"
		}
		made := point(backup, fmt.Sprintf("03-%02d 07:00", day), letters)
		m.session(made)
		m.run(made.Created.Add(time.Hour), retention.DailyPass)
		switch day {
		case 4:
			m.wants("Wednesday", "03-02 07:00 DW", "03-03 07:00 D", "03-04 07:00 D")
		case 5:
			m.wants("Thursday: Monday is older than 3 days, and keeps W", "03-02 07:00 W", "03-03 07:00 D", "03-04 07:00 D", "03-05 07:00 D")
		case 6:
			m.wants("Friday: Tuesday had D alone", "03-02 07:00 W", "03-04 07:00 D", "03-05 07:00 D", "03-06 07:00 D")
		case 15:
			m.wants("Sunday of week 2", "03-02 07:00 W", "03-09 07:00 W", "03-13 07:00 D", "03-14 07:00 D", "03-15 07:00 D")
		case 16:
			m.wants("Monday of week 3: the first Monday loses W", "03-09 07:00 W", "03-14 07:00 D", "03-15 07:00 D", "03-16 07:00 DW")
		}
	}
}

// Catalogue §4.3: a point of Monday at 7 is outdated three weeks later when the session of 7:00 ends, or with 3 days on Thursday.
// At the very moment it is not; and it goes in the next daily pass.
func TestExplain_Periods(t *testing.T) {
	for _, c := range []struct {
		keep holdfast.Period
		ends string
	}{
		{holdfast.Days(21), "03-23 07:00"},
		{holdfast.Days(3), "03-05 07:00"},
		{holdfast.Months(1), "04-02 07:00"},
	} {
		points := []retention.Point{point(backup, "03-02 07:00", "D"), point(backup, "04-30 07:00", "D")}
		rules := protected(row(backup, holdfast.Daily, retention.Lasting(c.keep)))
		if v := retention.Explain(at(c.ends), retention.BothOccasions, rules, points)[0]; !v.Keep || !v.Until.Equal(at(c.ends[:3]+day(c.ends, 1)+" 00:15")) {
			t.Errorf("%s, at the end: %s", c.keep, told([]retention.Verdict{v}))
		}
		if v := retention.Explain(at(c.ends).Add(time.Nanosecond), retention.BothOccasions, rules, points)[0]; v.Keep || v.Reasons[0].Cause != retention.CauseAge {
			t.Errorf("%s, past the end: %s", c.keep, told([]retention.Verdict{v}))
		}
		if v := retention.Explain(at(c.ends).Add(time.Hour), retention.Closing, rules, points)[0]; !v.Keep || !v.Reasons[0].Pending {
			t.Errorf("%s, at the close of a session: %s", c.keep, told([]retention.Verdict{v}))
		}
	}
}

// day returns the day of a moment, and some days more.
func day(moment string, more int) string { return at(moment).AddDate(0, 0, more).Format("02") }

// Catalogue §2.1: snapshots at 7, 9, 11, 13, 15 and 17, backups at 7 and 17. To have the base of the second backup as a restore point,
// too, 5 must be kept. With fewer the base stays beyond the count, until the next backup has its own.
func TestExplain_BaseOfChangedRanges(t *testing.T) {
	for _, c := range []struct {
		keep  int
		flags string // of the base when the second backup begins
		there int    // snapshots at that moment
	}{{5, "D", 5}, {4, "", 5}, {1, "", 2}} {
		m := &machine{t: t, rules: protected(row(snapshot, holdfast.Daily, retention.Newest(c.keep)))}
		for hour := 7; hour <= 15; hour += 2 {
			made := point(snapshot, fmt.Sprintf("03-02 %02d:00", hour), "D")
			made.Base = hour == 7
			m.session(made)
		}
		if base := m.points[0]; base.ID != "03-02 07:00" || base.Flags.String() != c.flags || len(m.points) != c.there {
			t.Errorf("keep %d: %s", c.keep, told(m.verdicts))
		}
		m.points[0].Base = false // the backup of 17:00 has its own
		made := point(snapshot, "03-02 17:00", "D")
		made.Base = true
		m.session(made)
		if len(m.points) != c.keep || m.points[0].ID == "03-02 07:00" {
			t.Errorf("keep %d, after the second backup: %s", c.keep, told(m.verdicts))
		}
	}
}

// Catalogue §4.6: 5 days, made daily at 7 from 1 March, in a store that locks generations of 10 days. All points of a generation are
// free on one date, whatever their retention says, and go on the next occasion, here the close of the session of that day; a
// retention that is shortened changes nothing.
func TestExplain_Generations(t *testing.T) {
	m := &machine{t: t, rules: protected(row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(5))))}
	lockEnds := map[int]string{1: "03-16 07:00", 11: "03-26 07:00", 21: "04-05 07:00"}
	for now := at("03-01 00:15"); now.Before(at("03-28 00:00")); now = now.AddDate(0, 0, 1) {
		before := len(m.points)
		m.run(now, retention.DailyPass)
		if len(m.points) != before {
			t.Errorf("%s: %s", now, told(m.verdicts))
		}
		made := point(backup, now.Format("01-02")+" 07:00", "D")
		made.LockedUntil = at(lockEnds[(now.Day()-1)/10*10+1])
		m.session(made)
		want, oldest := before+1, m.points[0].ID
		if day := now.Day(); day == 16 || day == 26 {
			want = before + 1 - 10
			oldest = holdfast.PointID(fmt.Sprintf("03-%d 07:00", day-5))
		}
		if len(m.points) != want || m.points[0].ID != oldest {
			t.Errorf("%s: %s", now, told(m.verdicts))
		}
		if now.Day() == 15 {
			m.rules.Rows[0].Keep = retention.Lasting(holdfast.Days(1))
		}
	}
}
