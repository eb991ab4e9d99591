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
