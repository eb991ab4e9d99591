package retention_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// harmonised makes a machine with points every hour, of which every 24th is kept for longer, as backups and snapshots in turn.
func harmonised(n int) []retention.Point {
	points := make([]retention.Point, n)
	for i := range points {
		moment := at("01-01 00:00").Add(time.Duration(i) * time.Hour)
		p := retention.Point{ID: holdfast.PointID(fmt.Sprintf("%06d", i)), VM: "vm", Kind: snapshot, Policy: "shop", Slot: moment, Created: moment, Good: i%17 > 0, Flags: holdfast.Flags(holdfast.Daily)}
		if i%2 == 0 {
			p.Kind = backup
		}
		if i%24 == 0 {
			p.Flags = p.Flags.With(holdfast.Weekly).With(holdfast.Monthly)
		}
		points[i] = p
	}
	return points
}

func benchmarkRules() retention.Rules {
	return protected(
		row(snapshot, holdfast.Daily, retention.Newest(300)), row(snapshot, holdfast.Weekly, retention.Newest(50)), row(snapshot, holdfast.Monthly, retention.Newest(60)),
		row(backup, holdfast.Daily, retention.Lasting(holdfast.Days(90))), row(backup, holdfast.Weekly, retention.Lasting(holdfast.Months(6))), row(backup, holdfast.Monthly, retention.Lasting(holdfast.Years(3))),
	)
}

// BenchmarkExplain_TenThousandPoints is one machine with more points than any platform holds.
func BenchmarkExplain_TenThousandPoints(b *testing.B) {
	points, rules := harmonised(10_000), benchmarkRules()
	now := points[len(points)-1].Created
	for b.Loop() {
		retention.Explain(now, retention.BothOccasions, rules, points)
	}
}

// BenchmarkExplain_ThreeThousandMachines is a daily pass over an estate.
func BenchmarkExplain_ThreeThousandMachines(b *testing.B) {
	points, rules := harmonised(60), benchmarkRules()
	now := points[len(points)-1].Created
	for b.Loop() {
		for range 3000 {
			retention.Explain(now, retention.DailyPass, rules, points)
		}
	}
}
