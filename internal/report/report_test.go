package report_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

const documents = `
kind: Repository
name: hot
url: /backups/hot
encrypted: false
---
kind: SLATemplate
name: gold
target: 90
proof: {level: 2, within: 30 days}
backups:
  window: {from: "20:00", to: "06:00"}
  %s
  monthly: {months: [every], on: last day, keep: 1 month}
---
kind: StorageTemplate
name: near
backups: {default: hot}
---
kind: SLAPolicy
name: gold
slaTemplate: gold
storageTemplate: near
sources: {regions: [westeurope, eastus, japaneast], all: true}
`

const daily = "daily: {every: 4 hours, keep: 2 days}"

// world is a database with a policy that has been in force for some time.
type world struct {
	t      testing.TB
	db     *database.DB
	state  *protection.State
	ledger *sla.Ledger
	now    time.Time

	vms   []holdfast.ResourceID
	ended []sla.Expectation
	due   []sla.Expectation
	rows  []store.Period
	last  int64
}

func (w *world) write(do func(ctx context.Context, tx database.Tx) error) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), do); err != nil {
		w.t.Fatal(err)
	}
}

func newWorld(t testing.TB, db *database.DB, template string, machines int) *world {
	t.Helper()
	w := &world{t: t, db: db, ledger: sla.New(), now: time.Date(2025, 12, 31, 12, 0, 0, 0, time.UTC)}
	d, _, err := document.Read(document.File{Name: "policies.yaml", Folder: "/", Data: fmt.Appendf(nil, documents, template)})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := protection.Rows(d)
	if err != nil {
		t.Fatal(err)
	}
	w.write(func(ctx context.Context, tx database.Tx) error {
		for _, row := range rows {
			row.Updated, row.Author = w.now, "ada"
			if err := store.PutDocument(ctx, tx, row); err != nil {
				return err
			}
		}
		for i := range machines {
			vm := holdfast.InventoryVM{
				ID: holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", "Shop", "Microsoft.Compute/virtualMachines", fmt.Sprintf("web-%04d", i)), Name: fmt.Sprintf("web-%04d", i),
				Region: []string{"westeurope", "eastus", "japaneast"}[i%3],
			}
			w.vms = append(w.vms, vm.ID)
			if err := store.PutMachine(ctx, tx, store.Machine{InventoryVM: vm, FirstSeen: w.now, LastSeen: w.now}); err != nil {
				return err
			}
		}
		_, err := store.Count(ctx, tx, store.CounterMachines)
		return err
	})
	err = db.Read(t.Context(), func(ctx context.Context, q store.Query) (err error) {
		w.state, err = protection.Load(ctx, q, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, terms, _ := w.state.SLA("gold")
	w.happens(sla.PolicyInForce{At: w.now, Policy: "gold", Terms: sla.Terms{Version: 1, Enabled: true, Regions: []string{"eastus", "japaneast", "westeurope"}, Template: terms, TemplateVersion: 1}})
	for i, vm := range w.vms {
		w.happens(sla.MachineJoined{At: w.now, Policy: "gold", Machine: vm, Region: w.state.Inventory.VMs[i].Region})
	}
	return w
}

// Expectation, Period and Note implement sla.Recorder, as the scheduler does.
func (w *world) Expectation(e sla.Expectation) {
	if e.State == sla.Open {
		w.due = append(w.due, e)
		return
	}
	w.ended = append(w.ended, e)
}

func (w *world) Period(c sla.Compliance) {
	w.rows = append(w.rows, store.Period{Compliance: c, ByMachine: w.ledger.Machines(c.Policy, c.Row, c.Entry)})
}

func (w *world) Note(sla.Note) {}

func (w *world) happens(events ...sla.Event) {
	w.t.Helper()
	for _, e := range events {
		if err := w.ledger.Apply(e, w); err != nil {
			w.t.Fatal(err)
		}
	}
	w.write(func(ctx context.Context, tx database.Tx) error {
		if err := store.AppendLedger(ctx, tx, events...); err != nil {
			return err
		}
		w.last += int64(len(events))
		return store.Told(ctx, tx, w.last)
	})
}

// pass lets time pass, step by step. makes says of each expectation whether its point is made; a point that is gets a proof when proven says so.
func (w *world) pass(until time.Time, step time.Duration, makes, proven func(e sla.Expectation) bool) {
	w.t.Helper()
	for w.now.Before(until) {
		w.now = w.now.Add(step)
		w.happens(sla.TimePassed{At: w.now})
		due := w.due
		w.due = nil
		var events []sla.Event
		var points []store.Point
		for _, e := range due {
			if !makes(e) {
				continue
			}
			p := store.Point{Point: retention.Point{
				ID: holdfast.PointID(fmt.Sprintf("%s-%s-%d", e.Machine.Name(), e.Flag, e.Slot.Unix())), VM: e.Machine, Kind: e.Kind, Policy: "gold", Slot: e.Slot, Created: w.now, Repository: "hot", Good: true,
			}, State: store.PointKept}
			events = append(events, sla.PointDurable{At: w.now, Work: sla.Work{Policy: "gold", Machine: e.Machine, Kind: e.Kind, Slot: e.Slot}, Point: p.ID})
			if proven(e) {
				events = append(events, sla.PointProven{At: w.now, Point: p.ID, Level: 2, OK: true})
				p.ProofLevel, p.Proved = 2, w.now
			}
			points = append(points, p)
		}
		if len(events) > 0 {
			w.happens(events...)
			w.write(func(ctx context.Context, tx database.Tx) error {
				for _, p := range points {
					if err := store.PutPoint(ctx, tx, p); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	w.write(func(ctx context.Context, tx database.Tx) error {
		if err := store.AppendExpectations(ctx, tx, w.ended); err != nil {
			return err
		}
		for _, p := range w.rows {
			if err := store.PutPeriod(ctx, tx, p); err != nil {
				return err
			}
		}
		w.ended, w.rows = nil, nil
		return nil
	})
}

func (w *world) report(ask report.Ask) report.Report {
	w.t.Helper()
	var r report.Report
	err := w.db.Read(w.t.Context(), func(ctx context.Context, q store.Query) (err error) {
		r, err = report.Of(ctx, q, w.state, w.now, ask)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func always(sla.Expectation) bool { return true }

func text(t testing.TB, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func both(t *testing.T, run func(t *testing.T, db *database.DB)) {
	t.Helper()
	databasetest.Each(t, database.Options{Migrations: store.Migrations()}, run)
}

// A report says of each closed day and machine what the ledger says of it, names each missed slot with its reason, and tells what is open
// only when asked.
func TestOf_SaysWhatTheLedgerSays(t *testing.T) {
	both(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, daily, 3)
		w.pass(w.now.Add(5*24*time.Hour), time.Hour, func(e sla.Expectation) bool {
			return e.Machine != w.vms[1] || e.Slot.Day() != 2
		}, func(e sla.Expectation) bool { return e.Machine == w.vms[0] })
		row := sla.Row{Kind: holdfast.PointBackup, Flag: holdfast.Daily}
		got := w.report(report.Ask{Policy: "gold", Period: holdfast.Daily, Slots: report.MissedSlots, UnderWay: true})
		if len(got.Entries) < 4 || got.Template != "gold" || len(got.Open) != 0 {
			t.Fatalf("%d entries, template %q, %d open", len(got.Entries), got.Template, len(got.Open))
		}
		missed, open := 0, 0
		for i, e := range got.Entries {
			if i > 0 && !e.Entry.Before(got.Entries[i-1].Entry) {
				t.Errorf("%s comes after %s", e.Entry, got.Entries[i-1].Entry)
			}
			want, known := w.ledger.Entry("gold", row, e.Entry)
			if !known || text(t, want) != text(t, e.Compliance) {
				t.Errorf("%s: %s\nthe ledger says %s", e.Entry, text(t, e.Compliance), text(t, want))
			}
			if e.Closed.IsZero() {
				open++
			}
			for k, m := range w.ledger.Machines("gold", row, e.Entry) {
				if text(t, m) != text(t, e.ByMachine[k].MachineCompliance) || e.ByMachine[k].Name != m.Machine.Name() {
					t.Errorf("%s: %s\nthe ledger says %s", e.Entry, text(t, e.ByMachine[k]), text(t, m))
				}
				for _, x := range e.ByMachine[k].Expectations {
					missed++
					if x.Machine != w.vms[1] || x.State != sla.Missed || x.Reason != sla.NoPoint || x.Deadline.IsZero() || x.Point != "" {
						t.Errorf("missed: %s", text(t, x))
					}
				}
				if m.Missed != len(e.ByMachine[k].Expectations) {
					t.Errorf("%s: %d slots of %d missed ones are told", e.Entry, len(e.ByMachine[k].Expectations), m.Missed)
				}
			}
		}
		if missed != 3 || open == 0 {
			t.Errorf("%d slots were missed, %d days are open", missed, open)
		}
		closed := w.report(report.Ask{Policy: "gold", Period: holdfast.Daily})
		if len(closed.Entries) != len(got.Entries)-open {
			t.Errorf("%d closed days of %d", len(closed.Entries), len(got.Entries)-open)
		}
	})
}

// What is proven now follows proofs and retention, while figures that closed stay; a machine, all its slots and a span of days can be asked for.
func TestOf_ProvenNow_OneMachine(t *testing.T) {
	both(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db, daily, 3)
		w.pass(w.now.Add(4*24*time.Hour), time.Hour, always, func(e sla.Expectation) bool { return e.Machine == w.vms[0] })
		day := civil.Date{Year: 2026, Month: time.January, Day: 1}
		ask := report.Ask{Policy: "gold", Period: holdfast.Daily, From: day, To: day, VM: w.vms[2], Slots: report.AllSlots, ProvenNow: true}
		third := func(r report.Report) bool {
			e := r.Entries[0]
			return e.ProvenNow != nil && *e.ProvenNow > 33.3 && *e.ProvenNow < 33.4
		}
		got := w.report(ask)
		if len(got.Entries) != 1 || len(got.Entries[0].ByMachine) != 1 || got.Entries[0].Machines.Total != 3 || !third(got) {
			t.Fatalf("%s", text(t, got))
		}
		for i, x := range got.Entries[0].ByMachine[0].Expectations {
			if x.Machine != w.vms[2] || x.State != sla.Met || !strings.HasPrefix(string(x.Point), "web-0002") || x.Slot.IsZero() {
				t.Errorf("%d: %s", i, text(t, x))
			}
		}
		if n := len(got.Entries[0].ByMachine[0].Expectations); n != got.Entries[0].ByMachine[0].Planned || n == 0 {
			t.Errorf("%d slots of %d are told", n, got.Entries[0].ByMachine[0].Planned)
		}
		frozen := text(t, got.Entries[0].Compliance)
		w.write(func(ctx context.Context, tx database.Tx) error { // retention takes what was proven
			points, err := store.Points(ctx, tx, store.PointFilter{VM: w.vms[0]}, store.Page{})
			for _, p := range points {
				p.State, p.RemovedAt = store.PointRemoved, w.now
				if err := store.PutPoint(ctx, tx, p); err != nil {
					return err
				}
			}
			return err
		})
		after := w.report(ask)
		if p := after.Entries[0].ProvenNow; p == nil || *p != 0 || text(t, after.Entries[0].Compliance) != frozen {
			t.Errorf("%s\n%s", text(t, after.Entries[0]), frozen)
		}
		w.now = w.now.Add(40 * 24 * time.Hour) // and the proofs of all others would be too old
		if late := w.report(ask); third(late) {
			t.Error("proofs do not age")
		}
	})
}

// A question that makes no sense is refused with the name of what is wrong.
func TestOf_Refuses(t *testing.T) {
	w := newWorld(t, databasetest.Open(t, databasetest.SQLite(t), database.Options{Migrations: store.Migrations()}), daily, 1)
	day := civil.Date{Year: 2026, Month: time.January, Day: 1}
	for _, c := range []struct {
		ask   report.Ask
		kind  holdfast.Kind
		field string
	}{
		{report.Ask{Policy: "gold"}, holdfast.KindInvalid, "period"},
		{report.Ask{Policy: "gold", Period: holdfast.Yearly}, holdfast.KindInvalid, "period"},
		{report.Ask{Policy: "gold", Period: holdfast.Daily, Slots: "some"}, holdfast.KindInvalid, "slots"},
		{report.Ask{Policy: "gold", Period: holdfast.Daily, From: day, To: civil.Date{Year: 2025, Month: time.January, Day: 1}}, holdfast.KindInvalid, "to"},
		{report.Ask{Policy: "silver", Period: holdfast.Daily}, holdfast.KindNotFound, "policy"},
	} {
		err := w.db.Read(t.Context(), func(ctx context.Context, q store.Query) error {
			_, err := report.Of(ctx, q, w.state, w.now, c.ask)
			return err
		})
		var refusal *holdfast.Error
		if !errors.As(err, &refusal) || refusal.Kind != c.kind || refusal.Field != c.field {
			t.Errorf("%+v: %v", c.ask, err)
		}
	}
}
