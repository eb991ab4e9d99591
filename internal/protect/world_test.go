package protect_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/aging"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/protect"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/scheduler"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// world is a control plane over flows that do nothing, on a clock that a test moves.
type world struct {
	t         testing.TB
	db        *database.DB
	clock     *clock.Manual
	flows     *flows
	aging     *aging.Aging
	protect   *protect.Protector
	scheduler *scheduler.Scheduler
	queue     []jobs.Job
	number    uint64
	ended     []holdfast.Session // as they were told of
	missed    [][]sla.Expectation
	periods   []toldPeriod
}

type toldPeriod struct {
	period   sla.Compliance
	machines []sla.MachineCompliance
}

func newWorld(t testing.TB, at time.Time, yaml string, machines ...holdfast.InventoryVM) *world {
	t.Helper()
	db, err := database.Open(t.Context(), "sqlite://"+t.TempDir()+"/holdfast.db", database.Options{Migrations: store.Migrations(), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := &world{t: t, db: db, clock: clock.NewManual(at), flows: &flows{}}
	w.flows.clock = w.clock
	log := slog.New(slog.DiscardHandler)
	w.aging = aging.New(aging.Config{Database: db, Remover: w.flows.remover(), Clock: w.clock, Log: log, Closed: w.closed})
	w.protect = protect.New(protect.Config{
		Database: db, Flows: w.flows, Aging: w.aging, Clock: w.clock, Log: log, Closed: w.closed,
		Random: func() (random [4]byte) {
			w.number++
			binary.BigEndian.PutUint32(random[:], uint32(w.number))
			return random
		},
	})
	w.restart()
	w.apply(yaml)
	w.see(machines...)
	return w
}

// restart forgets all that a scheduler keeps in memory.
func (w *world) restart() {
	w.scheduler = scheduler.New(scheduler.Config{
		Database: w.db, Jobs: w, Clock: w.clock, Log: slog.New(slog.DiscardHandler), NewID: func() holdfast.RunID { return holdfast.RunID(uuid.Must(uuid.NewV7()).String()) },
		Closed: w.closed, Teller: w,
	})
}

// Missed implements scheduler.Teller.
func (w *world) Missed(_ context.Context, tx database.Tx, missed []sla.Expectation) error {
	tx.OnCommit(func() { w.missed = append(w.missed, missed) })
	return nil
}

// PeriodClosed implements scheduler.Teller.
func (w *world) PeriodClosed(_ context.Context, tx database.Tx, period sla.Compliance, machines []sla.MachineCompliance) error {
	tx.OnCommit(func() { w.periods = append(w.periods, toldPeriod{period, machines}) })
	return nil
}

// closed keeps what is told of the end of sessions.
func (w *world) closed(_ context.Context, tx database.Tx, s holdfast.Session) error {
	tx.OnCommit(func() { w.ended = append(w.ended, s) })
	return nil
}

// checkEnds proves that of each session which is done was told once, as it stands.
func (w *world) checkEnds() {
	w.t.Helper()
	done := slices.DeleteFunc(w.sessions(), func(s holdfast.Session) bool { return s.State != holdfast.StateDone })
	told := slices.SortedFunc(slices.Values(w.ended), func(a, b holdfast.Session) int {
		return cmp.Or(a.Queued.Compare(b.Queued), cmp.Compare(a.ID, b.ID))
	})
	if len(done) == 0 || !reflect.DeepEqual(told, done) {
		w.t.Errorf("%d sessions ended, and of %d was told", len(done), len(told))
	}
}

// Enqueue implements jobs.Enqueuer.
func (w *world) Enqueue(_ context.Context, tx database.Tx, job jobs.Job) (bool, error) {
	tx.OnCommit(func() { w.queue = append(w.queue, job) })
	return false, nil
}

func (w *world) write(do func(ctx context.Context, tx database.Tx) error) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), do); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(do func(ctx context.Context, q store.Query) error) {
	w.t.Helper()
	if err := w.db.Read(w.t.Context(), do); err != nil {
		w.t.Fatal(err)
	}
}

func documentsOf(t testing.TB, yaml string) holdfast.Documents {
	t.Helper()
	d, _, err := document.Read(document.File{Name: "test.yaml", Folder: "/", Data: []byte(yaml)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// apply makes the documents what they are now.
func (w *world) apply(yaml string) {
	w.t.Helper()
	rows, err := protection.Rows(documentsOf(w.t, yaml))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(func(ctx context.Context, tx database.Tx) error {
		for _, d := range rows {
			d.Updated = w.clock.Now()
			if err := store.PutDocument(ctx, tx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) see(machines ...holdfast.InventoryVM) {
	w.t.Helper()
	w.write(func(ctx context.Context, tx database.Tx) error {
		for _, vm := range machines {
			if err := store.PutMachine(ctx, tx, store.Machine{InventoryVM: vm, FirstSeen: w.clock.Now(), LastSeen: w.clock.Now()}); err != nil {
				return err
			}
		}
		_, err := store.Count(ctx, tx, store.CounterMachines)
		return err
	})
}

// tick decides, and works until nothing is left to do at this instant.
func (w *world) tick() (next time.Time) {
	w.t.Helper()
	for {
		next, err := w.scheduler.Tick(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if len(w.queue) == 0 {
			return next
		}
		w.drain() // it may ask for another attempt
	}
}

func (w *world) drain() {
	w.t.Helper()
	for len(w.queue) > 0 {
		job := w.queue[0]
		w.queue = w.queue[1:]
		w.run(job)
	}
}

func (w *world) run(job jobs.Job) {
	w.t.Helper()
	switch job.Kind {
	case work.KindItem:
		item := itemOf(w.t, job)
		if err := w.protect.Item(w.t.Context(), item.Session, item.VM); err != nil {
			w.t.Fatal(err)
		}
	case work.KindPass:
		if err := w.aging.Pass(w.t.Context(), holdfast.RunID(job.Key)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func itemOf(t testing.TB, job jobs.Job) work.Item {
	t.Helper()
	item, err := work.ItemOf(job)
	if err != nil {
		t.Fatal(err)
	}
	return item
}

// through lets time pass up to an instant, which is not reached.
func (w *world) through(until time.Time) {
	w.t.Helper()
	for next := w.tick(); next.Before(until); next = w.tick() {
		w.clock.Advance(next.Sub(w.clock.Now()))
	}
	w.clock.Advance(until.Add(-time.Millisecond).Sub(w.clock.Now()))
	w.tick()
}

// record is what happened, a line each, in order; points are left out, since a preview names them in its own way.
func (w *world) record() []string {
	w.t.Helper()
	var lines []string
	w.read(func(ctx context.Context, q store.Query) error {
		events, err := store.EventsAfter(ctx, q, 0, 1<<20)
		for _, e := range events {
			lines = append(lines, lineOf(e.At, e.VM, e.Policy, preview.Name(e.Name), e.Slot, e.Flags, e.Reason))
		}
		return err
	})
	slices.Sort(lines)
	return lines
}

func lineOf(at time.Time, vm holdfast.ResourceID, policy string, name preview.Name, slot time.Time, flags holdfast.Flags, reason string) string {
	text := fmt.Sprintf("%s %s %s", at.UTC().Format(time.RFC3339Nano), name, policy)
	if vm != "" {
		text += " " + vm.Name()
	}
	if !slot.IsZero() {
		text += " for " + slot.UTC().Format(time.RFC3339)
	}
	return text + " " + cmp.Or(flags.String(), "-") + " " + reason
}

// previewed is what a preview says of the same time.
func previewed(t testing.TB, yaml string, from, until time.Time, machines ...holdfast.InventoryVM) []string {
	t.Helper()
	prices, err := cost.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	p, err := preview.New(preview.Input{
		Documents: documentsOf(t, yaml), Inventory: holdfast.Inventory{At: from, VMs: machines}, Prices: prices, Assumptions: cost.DefaultAssumptions(),
	}, from)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for e, err := range p.Run(until) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Name == preview.Clock {
			continue
		}
		if len(e.Machines) == 0 {
			lines = append(lines, lineOf(e.At, "", e.Policy, e.Name, e.Slot, e.Flags, e.Reason))
		}
		for _, vm := range e.Machines {
			lines = append(lines, lineOf(e.At, vm, e.Policy, e.Name, e.Slot, e.Flags, e.Reason))
		}
	}
	slices.Sort(lines)
	return lines
}

// flows make points of nothing.
type flows struct {
	clock  *clock.Manual
	number int
	fails  func(what string, vm holdfast.ResourceID) error // nil: nothing does
	there  map[holdfast.PointID]bool                       // sets of snapshots that exist
}

func (f *flows) try(what string, vm holdfast.ResourceID) error {
	if f.fails == nil {
		return nil
	}
	return f.fails(what, vm)
}

func (f *flows) PrepareSnapshots(_ context.Context, vm holdfast.ResourceID, o work.SnapshotOrder) (holdfast.SnapshotSet, error) {
	disk := holdfast.SetDisk{
		LUN: holdfast.OSDisk, Name: vm.Name() + "-os", ID: holdfast.NewResourceID(vm.Subscription(), vm.ResourceGroup(), "Microsoft.Compute/disks", vm.Name()+"-os"), SizeBytes: 1 << 30,
		Snapshot: holdfast.SourceSnapshot{ID: holdfast.NewResourceID(vm.Subscription(), vm.ResourceGroup(), "Microsoft.Compute/snapshots", string(o.Point)+"-os")},
	}
	return holdfast.SnapshotSet{Point: o.Point, VM: vm, Name: vm.Name(), Disks: []holdfast.SetDisk{disk}}, f.try("prepare", vm)
}

func (f *flows) MakeSnapshots(_ context.Context, o work.MakeOrder) (holdfast.SnapshotSet, []string, error) {
	set := o.Set
	set.Time = f.clock.Now()
	if f.there == nil {
		f.there = map[holdfast.PointID]bool{}
	}
	f.there[set.Point] = true // what fails may have taken effect
	return set, nil, f.try("snapshot", set.VM)
}

func (f *flows) RemoveSnapshots(_ context.Context, set holdfast.SnapshotSet) error {
	if err := f.try("unmake", set.VM); err != nil {
		return err
	}
	delete(f.there, set.Point)
	return nil
}

func (f *flows) point(vm holdfast.ResourceID) holdfast.BackupResult {
	f.number++
	return holdfast.BackupResult{
		Point: holdfast.PointID(fmt.Sprintf("%s-f%07x", f.clock.Now().UTC().Format("20060102-150405"), f.number)), VM: vm, Time: f.clock.Now(), ReadBytes: 1 << 20, StoredBytes: 1 << 18,
	}
}

func (f *flows) Backup(_ context.Context, o work.BackupOrder) (holdfast.BackupResult, error) {
	return f.point(o.VM), f.try("backup", o.VM)
}

func (f *flows) Archive(_ context.Context, o work.ArchiveOrder) (holdfast.BackupResult, error) {
	return f.point(o.VM), f.try("archive", o.VM)
}

// The same flows remove what ages.
type removals struct{ *flows }

func (f *flows) remover() removals { return removals{f} }

func (r removals) RemoveSnapshots(_ context.Context, set holdfast.SnapshotSet) error {
	if err := r.try("remove", set.VM); err != nil {
		return err
	}
	delete(r.there, set.Point)
	return nil
}

func (r removals) Collect(context.Context, string) error { return nil }

func (r removals) RemoveBackup(context.Context, string, holdfast.PointID) error {
	return r.try("remove", "")
}

func vm(name, region string, tags ...string) holdfast.InventoryVM {
	m := holdfast.InventoryVM{
		ID: holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", "shop", "Microsoft.Compute/virtualMachines", name), Name: name, Region: region, Tags: map[string]string{},
		Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: name + "-os", SizeBytes: 1 << 30}},
	}
	for _, tag := range tags {
		key, value, _ := strings.Cut(tag, "=")
		m.Tags[key] = value
	}
	return m
}
