package scheduler_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/document"
	riverjobs "github.com/holdfast-backup/holdfast/internal/jobs/river"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/scheduler"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// What a pass of the scheduler over 3,000 machines may take.
const (
	benchMachines = 3_000
	passBound     = time.Second
)

const benchSchedule = `
kind: Repository
name: hot
url: /backups/hot
encrypted: false
---
kind: SchedulePolicy
name: policy
sources: {regions: [westeurope, eastus, japaneast], all: true}
daily:
  snapshots: {hours: [0, 6, 12, 18], keep: 3}
  backups: {hours: [0, 6, 12, 18], keep: 3 days, repository: hot}
`

const benchSLA = `
kind: Repository
name: hot
url: /backups/hot
encrypted: false
---
kind: SLATemplate
name: template
backups:
  daily: {every: 1 hour, keep: 2 days}
---
kind: StorageTemplate
name: near
backups: {default: hot}
---
kind: SLAPolicy
name: policy
slaTemplate: template
storageTemplate: near
sources: {regions: [westeurope, eastus, japaneast], all: true}
`

// benchWorld is a server's database with 3,000 machines under one policy, and its durable queue.
type benchWorld struct {
	b         *testing.B
	db        *database.DB
	clock     *clock.Manual
	scheduler *scheduler.Scheduler
}

func newBenchWorld(b *testing.B, documents string) *benchWorld {
	b.Helper()
	w := &benchWorld{b: b, clock: clock.NewManual(time.Date(2026, 3, 2, 0, 30, 0, 0, time.UTC)), db: databasetest.Open(b, databasetest.SQLite(b), database.Options{Migrations: store.Migrations()})}
	queue, err := riverjobs.New(b.Context(), w.db, riverjobs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	d, _, err := document.Read(document.File{Name: "policies.yaml", Folder: "/", Data: []byte(documents)})
	if err != nil {
		b.Fatal(err)
	}
	rows, err := protection.Rows(d)
	if err != nil {
		b.Fatal(err)
	}
	w.write(func(ctx context.Context, tx database.Tx) error {
		for _, row := range rows {
			if err := store.PutDocument(ctx, tx, row); err != nil {
				return err
			}
		}
		for i := range benchMachines {
			name := fmt.Sprintf("web-%04d", i)
			vm := holdfast.InventoryVM{
				ID:   holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", "shop", "Microsoft.Compute/virtualMachines", name),
				Name: name, Region: []string{"westeurope", "eastus", "japaneast"}[i%3], Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: "os", SizeBytes: 32 << 30}},
			}
			if err := store.PutMachine(ctx, tx, store.Machine{InventoryVM: vm, FirstSeen: w.clock.Now(), LastSeen: w.clock.Now()}); err != nil {
				return err
			}
		}
		_, err := store.Count(ctx, tx, store.CounterMachines)
		return err
	})
	w.scheduler = scheduler.New(scheduler.Config{
		Database: w.db, Jobs: queue, Clock: w.clock, Log: slog.New(slog.DiscardHandler),
		NewID: func() holdfast.RunID { return holdfast.RunID(uuid.Must(uuid.NewV7()).String()) },
	})
	return w
}

func (w *benchWorld) write(do func(ctx context.Context, tx database.Tx) error) {
	w.b.Helper()
	if err := w.db.Write(w.b.Context(), do); err != nil {
		w.b.Fatal(err)
	}
}

// tick ticks, and returns when something is due next.
func (w *benchWorld) tick() time.Time {
	w.b.Helper()
	next, err := w.scheduler.Tick(w.b.Context())
	if err != nil {
		w.b.Fatal(err)
	}
	return next
}

// finish ends all work that was begun.
func (w *benchWorld) finish() {
	w.b.Helper()
	w.write(func(ctx context.Context, tx database.Tx) error {
		for _, statement := range []string{"UPDATE items SET state = 'done', outcome = 'success'", "UPDATE sessions SET state = 'done', outcome = 'success'"} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *benchWorld) items() (n int) {
	w.b.Helper()
	err := w.db.Read(w.b.Context(), func(ctx context.Context, q store.Query) error {
		return q.QueryRowContext(ctx, "SELECT COUNT(*) FROM items WHERE state = 'queued'").Scan(&n)
	})
	if err != nil {
		w.b.Fatal(err)
	}
	return n
}

// BenchmarkTick is one pass of the scheduler over 3,000 machines, on SQLite with the durable queue: with a slot due for all of them at once, and
// with none due. Under an SLA policy the slot before, which nobody met, is missed by all of them in the same pass.
func BenchmarkTick(b *testing.B) {
	for _, c := range []struct{ name, documents string }{{"Schedule", benchSchedule}, {"SLA", benchSLA}} {
		b.Run(c.name+"_AllDue", func(b *testing.B) {
			w := newBenchWorld(b, c.documents)
			next := w.tick()
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				w.finish()
				for w.clock.Advance(next.Sub(w.clock.Now())); next.Minute() != 0; w.clock.Advance(next.Sub(w.clock.Now())) { // the daily pass is not what is measured
					next = w.tick()
				}
				b.StartTimer()
				next = w.tick()
				b.StopTimer()
				if n := w.items(); n < benchMachines/3 {
					b.Fatalf("%d items at %s", n, w.clock.Now())
				}
				b.StartTimer()
			}
			bound(b)
		})
		b.Run(c.name+"_Idle", func(b *testing.B) {
			w := newBenchWorld(b, c.documents)
			w.tick()
			b.ReportAllocs()
			for b.Loop() {
				w.clock.Advance(time.Millisecond)
				w.tick()
			}
			bound(b)
		})
	}
}

func bound(b *testing.B) {
	b.Helper()
	if each := b.Elapsed() / time.Duration(b.N); each > passBound {
		b.Errorf("%v, and %v are allowed", each, passBound)
	}
}
