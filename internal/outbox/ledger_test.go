package outbox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/scheduler"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// see takes machines under the SLA policy.
func (w *world) see(names ...string) {
	w.t.Helper()
	w.write(func(ctx context.Context, tx database.Tx) error {
		for _, name := range names {
			vm := holdfast.InventoryVM{
				ID: holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", "shop", "Microsoft.Compute/virtualMachines", name), Name: name, Region: "westeurope",
				Tags: map[string]string{"tier": "gold"}, Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: name + "-os", SizeBytes: 1 << 30}},
			}
			if err := store.PutMachine(ctx, tx, store.Machine{InventoryVM: vm, FirstSeen: w.clock.Now(), LastSeen: w.clock.Now()}); err != nil {
				return err
			}
		}
		_, err := store.Count(ctx, tx, store.CounterMachines)
		return err
	})
}

func (w *world) scheduler() *scheduler.Scheduler {
	return scheduler.New(scheduler.Config{
		Database: w.db, Jobs: w.queue, Clock: w.clock, Log: quiet, NewID: func() holdfast.RunID { return holdfast.RunID(uuid.Must(uuid.NewV7()).String()) },
		Closed: w.outbox.SessionClosed, Teller: w.outbox,
	})
}

// Slots that nobody serves raise their alarm by themselves: one for each tick and policy, once, through restarts and downtime. The report of the day
// is posted when the day closes, and mailed at the time that the policy names.
func TestTeller_AlarmsAndReports(t *testing.T) {
	both(t, func(w *world) {
		w.apply(w.settings())
		w.see("db-1", "db-2")
		s := w.scheduler()
		ticks := 0 // in which something was missed
		until := func(end time.Time) {
			for {
				before := len(w.missed())
				next, err := s.Tick(w.t.Context())
				if err != nil {
					w.t.Fatal(err)
				}
				if len(w.missed()) > before {
					ticks++
				}
				w.deliver()
				if next.IsZero() || !next.Before(end) {
					w.clock.Advance(end.Sub(w.clock.Now()))
					return
				}
				w.clock.Advance(next.Sub(w.clock.Now()))
			}
		}
		until(monday.Add(13 * time.Hour))
		w.restart()
		s = w.scheduler()
		w.clock.Advance(9 * time.Hour) // nobody is there
		until(monday.Add(32*time.Hour - time.Minute))

		missed := w.missed()
		slots := 0
		for title, to := range sorted(w.mails()) {
			var n int
			if _, err := fmt.Sscanf(title, "[Missed] gold: %d slots", &n); err != nil {
				w.t.Errorf("a mail %q to %q before eight o'clock", title, to)
			}
			if len(to)%3 != 0 || to[0] != "both@example.com" || to[len(to)-1] != "own@example.com" {
				w.t.Errorf("%s to %q", title, to)
			}
			slots += n * len(to) / 3
		}
		alarms, reports := 0, 0
		for _, p := range w.hook.took() {
			switch p.event {
			case "slotsMissed":
				alarms++
			case "slaReported":
				reports++
			}
		}
		if slots != len(missed) || slots < 12 || alarms != ticks || ticks < 4 || ticks >= slots/2+1 || reports != 1 {
			w.t.Errorf("%d slots were missed in %d ticks; mail told of %d, %d alarms and %d reports were posted", len(missed), ticks, slots, alarms, reports)
		}
		w.restart()
		w.clock.Advance(time.Minute)
		w.deliver()
		var report []string
		for title, to := range sorted(w.mails()) {
			if !strings.HasPrefix(title, "[Missed]") {
				report = append(report, fmt.Sprint(title, to))
			}
		}
		want := "[gold (2 instances): [Daily snapshot SLA for the period 2026-03-02 is missed][both@example.com ops@example.com own@example.com]]"
		if fmt.Sprint(report) != want {
			w.t.Errorf("at eight: %v, want %v", report, want)
		}
	})
}

// missed are the expectations that were missed.
func (w *world) missed() (missed []sla.Expectation) {
	w.t.Helper()
	err := w.db.Read(w.t.Context(), func(ctx context.Context, q store.Query) (err error) {
		missed, err = store.Expectations(ctx, q, store.ExpectationFilter{States: []sla.State{sla.Missed}})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return missed
}
