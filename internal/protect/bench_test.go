package protect_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/store"
)

const growthPolicies = `
kind: Repository
name: hot
url: /backups/hot
encrypted: false
---
kind: SLATemplate
name: template
snapshots:
  daily: {every: 6 hours, keep: 3 days}
backups:
  window: {from: "20:00", to: "06:00"}
  daily: {every: 12 hours, keep: 14 days}
  weekly: {days: [sunday], keep: 3 months}
---
kind: StorageTemplate
name: near
backups: {default: hot}
---
kind: SLAPolicy
name: gold
slaTemplate: template
storageTemplate: near
sources: {regions: [westeurope], all: true}
`

// What a machine's year may add to the database: four snapshots a day and a backup each night, with all that is written down of them.
const (
	growthMachines   = 50
	growthDays       = 14
	growthBytesBound = 20 << 20
)

// BenchmarkGrowth lets machines live through two weeks with flows that do nothing, and says what a machine's year adds to the database, by what the
// second week added; to which tables; and what a machine takes of the scheduler's memory.
func BenchmarkGrowth(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		var machines []holdfast.InventoryVM
		for i := range growthMachines {
			name := fmt.Sprintf("production-web-%03d", i)
			machines = append(machines, holdfast.InventoryVM{
				ID: holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", "production-westeurope", "Microsoft.Compute/virtualMachines", name), Name: name, Region: "westeurope",
				Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: name + "-os", SizeBytes: 32 << 30}},
			})
		}
		from := time.Date(2026, 3, 2, 0, 30, 0, 0, time.UTC)
		before := heap()
		w := newWorld(b, from, growthPolicies, machines...)
		b.StartTimer()
		w.through(from.AddDate(0, 0, growthDays/2))
		half := w.sizes()
		w.through(from.AddDate(0, 0, growthDays))
		b.StopTimer()
		whole := w.sizes()
		w.queue, w.ended, w.missed, w.periods, w.flows.there = nil, nil, nil, nil, nil // what the test remembers
		b.ReportMetric(float64(heap()-before)/growthMachines, "heapB/VM")
		years := growthMachines * float64(growthDays/2) / 365
		total := 0.0
		for table, bytes := range whole {
			if table == "ledger_events" || bytes == half[table] {
				continue // these go whenever the ledger is written as a whole
			}
			grown := float64(bytes-half[table]) / years
			total += grown
			b.ReportMetric(grown/1024, table+"-KiB/VM-year")
		}
		b.ReportMetric(total/(1<<20), "MiB/VM-year")
		if total > growthBytesBound {
			b.Errorf("a machine's year adds %.1f MiB, and %d are allowed", total/(1<<20), growthBytesBound>>20)
		}
		b.StartTimer()
	}
}

// sizes returns the bytes of each table with its indexes.
func (w *world) sizes() map[string]int64 {
	w.t.Helper()
	sizes := map[string]int64{}
	w.read(func(ctx context.Context, q store.Query) error {
		rows, err := q.QueryContext(ctx, "SELECT m.tbl_name, SUM(s.pgsize) FROM dbstat AS s JOIN sqlite_master AS m ON m.name = s.name GROUP BY m.tbl_name")
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var table string
			var bytes int64
			if err := rows.Scan(&table, &bytes); err != nil {
				return err
			}
			sizes[table] = bytes
		}
		return rows.Err()
	})
	return sizes
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
