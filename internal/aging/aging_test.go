package aging_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/aging"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/store"
)

var now = time.Date(2026, time.March, 31, 0, 15, 0, 0, time.UTC)

// world is a database with points of a machine that no policy protects, and of one that a policy does.
type world struct {
	t       *testing.T
	db      *database.DB
	clock   *clock.Manual
	aging   *aging.Aging
	removed []holdfast.PointID
}

// RemoveSnapshots implements aging.Remover.
func (w *world) RemoveSnapshots(_ context.Context, set holdfast.SnapshotSet) error {
	w.removed = append(w.removed, set.Point)
	return nil
}

// RemoveBackup implements aging.Remover.
func (w *world) RemoveBackup(_ context.Context, _ string, point holdfast.PointID) error {
	w.removed = append(w.removed, point)
	return nil
}

// Collect implements aging.Remover.
func (w *world) Collect(context.Context, string) error { return nil }

func vm(name string) holdfast.ResourceID {
	return holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", "shop", "Microsoft.Compute/virtualMachines", name)
}

const policy = "kind: SchedulePolicy\nname: nightly\nsources: {regions: [westeurope], include: [{tag: {name: env, value: prod}}]}\ndaily: {snapshots: {hours: [22], keep: 50}}\n"

func newWorld(t *testing.T, installation string) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewManual(now)}
	w.db = databasetest.Open(t, databasetest.SQLite(t), database.Options{Migrations: store.Migrations()})
	w.aging = aging.New(aging.Config{Database: w.db, Remover: w, Clock: w.clock, Log: slog.New(slog.DiscardHandler)})
	w.write(func(ctx context.Context, tx database.Tx) error {
		for name, text := range map[string]string{"nightly": policy, "Installation": installation} {
			kind := map[bool]string{true: "Installation", false: "SchedulePolicy"}[name == "Installation"]
			if text == "" {
				continue
			}
			if err := store.PutDocument(ctx, tx, store.Document{Kind: kind, Name: name, YAML: text, Updated: now, Author: "test"}); err != nil {
				return err
			}
		}
		for name, tags := range map[string]map[string]string{"protected": {"env": "prod"}, "lost": nil} {
			m := store.Machine{InventoryVM: holdfast.InventoryVM{ID: vm(name), Name: name, Region: "westeurope", Tags: tags, Disks: []holdfast.InventoryDisk{{LUN: "os", Name: "os", SizeBytes: 1}}}}
			if err := store.PutMachine(ctx, tx, m); err != nil {
				return err
			}
		}
		_, err := store.Count(ctx, tx, store.CounterMachines)
		return err
	})
	return w
}

func (w *world) write(do func(ctx context.Context, tx database.Tx) error) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), do); err != nil {
		w.t.Fatal(err)
	}
}

// point writes a point down.
func (w *world) point(p retention.Point) {
	w.t.Helper()
	p.Good = true
	row := store.Point{Point: p, State: store.PointKept}
	if p.Kind == holdfast.PointSnapshot {
		row = row.WithSet(holdfast.SnapshotSet{Point: p.ID, VM: p.VM})
	}
	w.write(func(ctx context.Context, tx database.Tx) error { return store.PutPoint(ctx, tx, row) })
}

// pass runs the daily pass in a session.
func (w *world) pass(id holdfast.RunID) holdfast.Session {
	w.t.Helper()
	w.write(func(ctx context.Context, tx database.Tx) error {
		_, err := store.BeginSession(ctx, tx, store.NewSession{Session: holdfast.Session{ID: id, Type: holdfast.SessionRetention, Queued: w.clock.Now()}, Key: string(id)})
		return err
	})
	if err := w.aging.Pass(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
	var s holdfast.Session
	w.write(func(ctx context.Context, tx database.Tx) (err error) {
		s, err = store.SessionOf(ctx, tx, id)
		return err
	})
	return s
}

// TestPass_GlobalRetention proves that the installation's ages are at work, each on what it is for, and spare what a person made.
func TestPass_GlobalRetention(t *testing.T) {
	old, older := now.AddDate(0, 0, -20), now.AddDate(0, 0, -40)
	points := []retention.Point{
		{ID: "lost-old", VM: vm("lost"), Kind: holdfast.PointSnapshot, Policy: "gone", Created: old, Slot: old, Flags: holdfast.Flags(0).With(holdfast.Daily)},
		{ID: "lost-older", VM: vm("lost"), Kind: holdfast.PointSnapshot, Policy: "gone", Created: older, Slot: older, Flags: holdfast.Flags(0).With(holdfast.Daily)},
		{ID: "lost-manual", VM: vm("lost"), Kind: holdfast.PointSnapshot, Manual: true, Created: older},
		{ID: "lost-backup", VM: vm("lost"), Kind: holdfast.PointBackup, Repository: "hot", Policy: "gone", Created: older, Slot: older, Flags: holdfast.Flags(0).With(holdfast.Daily), Keep: retention.Keep{Daily: retention.Lasting(holdfast.Days(300))}},
		{ID: "kept-older", VM: vm("protected"), Kind: holdfast.PointSnapshot, Policy: "nightly", Created: older, Slot: older, Flags: holdfast.Flags(0).With(holdfast.Daily)},
		{ID: "kept-old", VM: vm("protected"), Kind: holdfast.PointSnapshot, Policy: "nightly", Created: old, Slot: old, Flags: holdfast.Flags(0).With(holdfast.Daily)},
	}
	for i := range points {
		if points[i].Flags != 0 && points[i].Kind == holdfast.PointSnapshot {
			points[i].Keep = retention.Keep{Daily: retention.Newest(50)}
		}
	}
	for _, c := range []struct {
		name, installation string
		goes               []holdfast.PointID
	}{
		{"nothing", "", nil},
		{"obsolete snapshots", "kind: Installation\nglobalRetention: {age: 30 days}\n", []holdfast.PointID{"lost-older"}},
		{"all snapshots", "kind: Installation\nglobalRetention: {age: 30 days, allSnapshots: true}\n", []holdfast.PointID{"kept-older", "lost-older"}},
		{"unprotected backups", "kind: Installation\nglobalRetention: {age: 30 days, unprotectedBackups: true}\n", []holdfast.PointID{"lost-backup", "lost-older"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.installation)
			for _, p := range points {
				w.point(p)
			}
			w.pass("pass")
			slices.Sort(w.removed)
			if !slices.Equal(w.removed, c.goes) {
				t.Errorf("%v went, and %v were to go", w.removed, c.goes)
			}
		})
	}
}

// TestPass_ForgetsSessions proves that records go at the age that the installation names, and never that of the pass itself.
func TestPass_ForgetsSessions(t *testing.T) {
	w := newWorld(t, "kind: Installation\nsessionRecords: {keep: 30 days}\n")
	w.clock.Advance(-45 * 24 * time.Hour)
	w.pass("old")
	w.clock.Advance(20 * 24 * time.Hour)
	w.pass("young")
	w.clock.Advance(25 * 24 * time.Hour)
	if s := w.pass("now"); s.Outcome != holdfast.OutcomeSuccess {
		t.Errorf("%+v", s)
	}
	w.write(func(ctx context.Context, tx database.Tx) error {
		all, err := store.Sessions(ctx, tx, store.Filter{}, store.Page{})
		if len(all) != 2 || all[0].ID != "now" || all[1].ID != "young" {
			t.Errorf("left: %+v", all)
		}
		return err
	})
}

// TestRemove proves that what a person orders goes, with who did it, and that what must not go is refused.
func TestRemove(t *testing.T) {
	w := newWorld(t, "")
	w.point(retention.Point{ID: "mine", VM: vm("lost"), Kind: holdfast.PointSnapshot, Manual: true, Created: now})
	w.point(retention.Point{ID: "other", VM: vm("lost"), Kind: holdfast.PointBackup, Repository: "hot", Created: now})
	w.write(func(ctx context.Context, tx database.Tx) error {
		p, err := store.PointOf(ctx, tx, "mine")
		if err != nil {
			return err
		}
		for why, change := range map[string]func(*store.Point){
			"locked":  func(p *store.Point) { p.LockedUntil = now },
			"base":    func(p *store.Point) { p.BaseFor = []string{"hot"} },
			"making":  func(p *store.Point) { p.State = store.PointMaking },
			"removed": func(p *store.Point) { p.State = store.PointRemoved },
		} {
			changed := p
			change(&changed)
			if aging.Refusal(changed, nil, now) == "" {
				t.Errorf("one that is %s may go", why)
			}
		}
		if why := aging.Refusal(p, nil, now); why != "" {
			t.Error(why)
		}
		s := store.NewSession{Session: holdfast.Session{ID: "removal", Type: holdfast.SessionRemoval, Queued: now}, Key: "removal", Items: []store.NewItem{{VM: vm("lost"), Region: "westeurope"}}}
		if _, err := store.BeginSession(ctx, tx, s); err != nil {
			return err
		}
		return aging.Order(ctx, tx, []store.Point{p}, "anna", now)
	})
	for range 2 { // a second time finds nothing to do
		if err := w.aging.Remove(t.Context(), "removal"); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(w.removed, []holdfast.PointID{"mine"}) {
		t.Errorf("%v went", w.removed)
	}
	w.write(func(ctx context.Context, tx database.Tx) error {
		p, err := store.PointOf(ctx, tx, "mine")
		if err != nil {
			return err
		}
		s, err := store.SessionOf(ctx, tx, "removal")
		if p.State != store.PointRemoved || p.RemovedWhy != "anna removed it" || s.Outcome != holdfast.OutcomeSuccess {
			t.Errorf("%s, %q, %+v", p.State, p.RemovedWhy, s)
		}
		return err
	})
}
