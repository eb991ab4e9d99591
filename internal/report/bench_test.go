package report_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Beyond these a report is too slow to be waited for: twelve months of 3,000 machines, and the same with what would count as proven now, for
// which 36,000 points are looked up.
const (
	benchMachines   = 3_000
	complianceBound = 200 * time.Millisecond
	provenBound     = time.Second
)

// BenchmarkCompliance is what one policy with 3,000 machines achieved in twelve months, and each of its machines, out of a year of weekly and
// monthly rows.
func BenchmarkCompliance(b *testing.B) {
	db := databasetest.Open(b, databasetest.SQLite(b), database.Options{Migrations: store.Migrations()})
	w := newWorld(b, db, "weekly: {days: [sunday], keep: 1 month}", benchMachines)
	w.pass(w.now.AddDate(1, 0, 20), 6*time.Hour, func(e sla.Expectation) bool { return e.Slot.Unix()/3600%7 != 0 }, always)
	w.write(func(ctx context.Context, tx database.Tx) error {
		return store.SaveLedger(ctx, tx, store.LedgerState{Ledger: w.ledger, Through: w.last})
	})
	for _, c := range []struct {
		name  string
		ask   report.Ask
		bound time.Duration
	}{
		{"Months", report.Ask{Policy: "gold", Period: holdfast.Monthly}, complianceBound},
		{"Months_WithMissedSlots", report.Ask{Policy: "gold", Period: holdfast.Monthly, Slots: report.MissedSlots}, complianceBound},
		{"Months_UpToNow", report.Ask{Policy: "gold", Period: holdfast.Monthly, UnderWay: true}, complianceBound},
		{"Weeks", report.Ask{Policy: "gold", Period: holdfast.Weekly}, complianceBound},
		{"Months_ProvenNow", report.Ask{Policy: "gold", Period: holdfast.Monthly, ProvenNow: true}, provenBound},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := w.report(c.ask)
				if len(r.Entries) < 12 || len(r.Entries[0].ByMachine) != benchMachines {
					b.Fatalf("%d entries", len(r.Entries))
				}
			}
			if each := b.Elapsed() / time.Duration(b.N); each > c.bound {
				b.Errorf("%v, and %v are allowed", each, c.bound)
			}
		})
	}
}
