package sla_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// estate is a ledger of one policy with many machines in three regions: hourly snapshots, backups three times a day, and weekly
// and monthly rows.
func estate(b *testing.B, machines int) *sla.Ledger {
	b.Helper()
	backup, snapshot := holdfast.PointBackup, holdfast.PointSnapshot
	t := asks(hourly(),
		every(snapshot, holdfast.Hours(1)), every(backup, holdfast.Hours(8)), weeklyOn(backup, time.Monday), monthlyOn(backup, 1), monthlyOn(holdfast.PointArchive, 1))
	t.SnapshotWindow, t.BackupWindow = window("00:00-00:00"), window("00:00-00:00")
	l := sla.New()
	feed(b, l, inForce("01-01 00:00", 1, t, dublin, newYork, tokyo))
	regions := []string{dublin, newYork, tokyo}
	for i := range machines {
		feed(b, l, joinedIn("01-01 00:00", fmt.Sprintf("web-%d", i), regions[i%len(regions)]))
	}
	return l
}

func feed(b *testing.B, l *sla.Ledger, events ...sla.Event) {
	b.Helper()
	for _, e := range events {
		if err := l.Apply(e, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdvance is a tick of a minute of a server, averaged over a day: most ticks bring nothing, one an hour brings an
// expectation for every machine.
func BenchmarkAdvance(b *testing.B) {
	for _, machines := range []int{3_000, 100_000} {
		b.Run(fmt.Sprint(machines), func(b *testing.B) {
			l := estate(b, machines)
			at := when("01-02 00:00")
			feed(b, l, sla.TimePassed{At: at})
			b.ReportAllocs()
			for b.Loop() {
				at = at.Add(time.Minute)
				feed(b, l, sla.TimePassed{At: at})
			}
		})
	}
}

// BenchmarkAdvance_Hour is the worst tick: slots fall due for all machines, and those of the hour before are missed.
func BenchmarkAdvance_Hour(b *testing.B) {
	for _, machines := range []int{3_000, 100_000} {
		b.Run(fmt.Sprint(machines), func(b *testing.B) {
			l := estate(b, machines)
			at := when("01-02 00:30")
			feed(b, l, sla.TimePassed{At: at})
			b.ReportAllocs()
			for b.Loop() {
				at = at.Add(time.Hour)
				feed(b, l, sla.TimePassed{At: at})
			}
		})
	}
}

// BenchmarkPoint is a point that becomes durable, in a policy with many machines.
func BenchmarkPoint(b *testing.B) {
	l := estate(b, 100_000)
	at := when("01-02 00:30")
	feed(b, l, sla.TimePassed{At: at})
	i := 0
	for b.Loop() {
		name := fmt.Sprintf("web-%d", i%100_000)
		feed(b, l, sla.PointDurable{At: at, Work: work(name, holdfast.PointSnapshot, "01-02 00:00"), Point: holdfast.PointID(name)})
		i++
	}
}

// BenchmarkSeries is the chart of twelve months of a policy with 3,000 machines, from the counters.
func BenchmarkSeries(b *testing.B) {
	l := estate(b, 3_000)
	for at := when("01-02 00:00"); at.Before(when("12-31 00:00").AddDate(0, 1, 20)); at = at.AddDate(0, 0, 1) {
		feed(b, l, sla.TimePassed{At: at})
	}
	b.ReportAllocs()
	for b.Loop() {
		if series := l.Series(shop, monthlyBackups); len(series) != 12 || series[0].Machines.Total != 3_000 {
			b.Fatalf("%d entries", len(series))
		}
	}
}

// BenchmarkSnapshot writes the whole state of a policy with 3,000 machines after two weeks, as JSON.
func BenchmarkSnapshot(b *testing.B) {
	l := estate(b, 3_000)
	feed(b, l, sla.TimePassed{At: when("01-15 00:30")})
	for b.Loop() {
		data, err := json.Marshal(l.Snapshot())
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}
