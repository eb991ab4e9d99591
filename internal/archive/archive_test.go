package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/archive"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const (
	vm          = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web"
	sourceChunk = 64 << 10
	targetChunk = 128 << 10
	password    = "another password"
)

// world is two repositories, of different keys and parameters, and a machine with two disks whose content at each backup is kept.
type world struct {
	t      testing.TB
	source *repo.Repository
	from   *mem.Store
	target *repo.Repository
	into   *mem.Store
	disks  map[holdfast.LUN]*repotest.Disk
	last   *holdfast.Point
	held   map[holdfast.PointID]map[holdfast.LUN][]byte
	random *rand.Rand
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, from: mem.New(clock.NewManual(repotest.Start())), into: mem.New(clock.NewManual(repotest.Start())), held: map[holdfast.PointID]map[holdfast.LUN][]byte{},
		disks:  map[holdfast.LUN]*repotest.Disk{holdfast.OSDisk: repotest.NewDisk(20*sourceChunk + 512), "1": repotest.NewDisk(11 * sourceChunk)},
		random: rand.New(rand.NewPCG(1, 2)),
	}
	w.source = repotest.Init(t, w.from)
	_, err := repo.Init(t.Context(), w.into, repo.InitOptions{
		Password: password, KDF: repotest.FastKDF(), Clock: clock.NewManual(repotest.Start()), Tool: "test",
		Parameters: repo.Parameters{ChunkSize: targetChunk, FrameSize: 512 << 10, FanOut: 16},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.target = w.open(w.into)
	return w
}

// open opens the target anew.
func (w *world) open(store blob.Store) *repo.Repository {
	w.t.Helper()
	r, err := repo.Open(context.WithoutCancel(w.t.Context()), store, options())
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func options() repo.OpenOptions {
	return repo.OpenOptions{Password: password, Clock: clock.NewManual(repotest.Start()), Tool: "test"}
}

// backup writes into the disks and backs them up, the n-th time.
func (w *world) backup(n int) holdfast.PointID {
	w.t.Helper()
	ctx := w.t.Context()
	begin := repo.BeginOptions{VM: vm}
	if w.last != nil {
		begin.Parents = []holdfast.PointID{w.last.ID}
	}
	s, err := w.source.Begin(ctx, begin)
	if err != nil {
		w.t.Fatal(err)
	}
	point := holdfast.Point{VM: vm, Name: "web", Time: repotest.Start().Add(time.Duration(n) * time.Hour), Kind: holdfast.PointBackup, Consistency: holdfast.ConsistencyEachDisk}
	for _, lun := range []holdfast.LUN{holdfast.OSDisk, "1"} {
		d := w.disks[lun]
		d.Scribble(w.random, 3, 90<<10)
		in := repo.DiskInput{LUN: lun, SizeBytes: int64(len(d.Data)), Source: d, Extents: repotest.Seq(d.Allocated())}
		if w.last != nil {
			base, _ := w.last.Disk(lun)
			in.Base, in.Extents = &base, repotest.Seq(d.Changes())
		}
		out, err := s.WriteDisk(ctx, in)
		if err != nil {
			w.t.Fatal(err)
		}
		d.Cut()
		point.Disks = append(point.Disks, holdfast.PointDisk{
			LUN: lun, Name: "web-" + string(lun), UniqueID: "disk " + string(lun), SizeBytes: in.SizeBytes, Root: out.Root, SKU: "Premium_LRS",
			Snapshot: &holdfast.SourceSnapshot{ID: holdfast.ResourceID("snapshot " + string(lun)), SKU: "Standard_ZRS"},
		})
	}
	published, err := s.Publish(ctx, point, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.source.Settle(ctx, s.ID()); err != nil {
		w.t.Fatal(err)
	}
	opened, err := w.source.OpenPoint(ctx, published.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	manifest := opened.Point()
	w.last = &manifest
	w.held[published.ID] = map[holdfast.LUN][]byte{}
	for lun, d := range w.disks {
		w.held[published.ID][lun] = bytes.Clone(d.Data)
	}
	return published.ID
}

// flow makes a flow between two opened repositories.
func flow(t testing.TB, source, target *repo.Repository, change ...func(*archive.Config)) *archive.Flow {
	t.Helper()
	c := archive.Config{Source: source, Target: target, Readers: 1, DisksAtOnce: 1}
	for _, f := range change {
		f(&c)
	}
	f, err := archive.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// archive must archive a backup.
func (w *world) archive(id holdfast.PointID, o archive.Options) archive.Result {
	w.t.Helper()
	result, err := flow(w.t, w.source, w.target).Run(w.t.Context(), id, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.check(w.target, result.Point, id)
	return result
}

// check fails unless an archive holds what the disks held at the backup, and says all that the backup said.
func (w *world) check(target *repo.Repository, id, backup holdfast.PointID) {
	w.t.Helper()
	opened, err := target.OpenPoint(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	point := opened.Point()
	if point.Kind != holdfast.PointArchive || point.VM != vm || point.Name != "web" || point.Consistency != holdfast.ConsistencyEachDisk || len(point.Disks) != 2 {
		w.t.Errorf("%+v", point)
	}
	for _, d := range point.Disks {
		reader, err := opened.Disk(d.LUN)
		if err != nil {
			w.t.Fatal(err)
		}
		got := make([]byte, reader.SizeBytes())
		if _, err := reader.ReadAt(w.t.Context(), got, 0); err != nil && !errors.Is(err, io.EOF) {
			w.t.Fatal(err)
		}
		if !bytes.Equal(got, w.held[backup][d.LUN]) {
			w.t.Errorf("disk %s of %s differs from the backup %s", d.LUN, id, backup)
		}
		if d.UniqueID != "disk "+string(d.LUN) || d.SKU != "Premium_LRS" || d.Snapshot == nil || d.Origin == nil || d.Origin.Point != backup || d.Origin.Repository != w.source.ID() {
			w.t.Errorf("%+v", d)
		}
	}
}

// sound fails unless the target is sound, no session waits to be settled, and a collection leaves nothing that is not needed.
func (w *world) sound(store *mem.Store) {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	r := w.open(store)
	if sessions, err := r.Unsettled(vm); err != nil || len(sessions) > 0 {
		w.t.Errorf("%d sessions are not settled, %v", len(sessions), err)
	}
	for range 2 { // the second one takes the list of the first
		if _, err := repo.NewCollector(r, store.Remover()).Collect(ctx, repo.CollectOptions{}); err != nil {
			w.t.Fatal(err)
		}
	}
	report, err := repo.Verify(ctx, store, repo.VerifyOptions{Level: repo.VerifyComplete, Repository: w.open(store)})
	if err != nil || !report.OK || report.Orphans > 0 {
		w.t.Errorf("%+v, %v", report, err)
	}
}

// TestRun_RoundTrip proves that archives equal their backups, that only what changed is read when the source has the backup before,
// whatever lies between, and that the archive needs the source no more.
func TestRun_RoundTrip(t *testing.T) {
	w := newWorld(t)
	first := w.archive(w.backup(0), archive.Options{})
	for _, d := range first.Disks {
		if !d.Full || d.Reason != holdfast.FullFirst || d.SnapshotSKU != "Standard_ZRS" {
			t.Errorf("%+v", d)
		}
	}
	w.backup(1)
	for n := 2; n < 5; n++ {
		id := w.backup(n)
		before := first.Point
		changed := w.changed(id)
		first = w.archive(id, archive.Options{Compare: true})
		if first.Parent != before || first.ReadBytes > changed || first.ReadBytes == 0 || !first.Time.Equal(repotest.Start().Add(time.Duration(n)*time.Hour)) {
			t.Errorf("%+v; %d bytes changed", first, changed)
		}
		for _, d := range first.Disks {
			if d.Full || d.Reason != "" {
				t.Errorf("%+v", d)
			}
		}
	}
	w.sound(w.into)
}

// changed is how many bytes the archive may read: what differs from the backup that was archived before, in whole chunks.
func (w *world) changed(id holdfast.PointID) (most int64) {
	w.t.Helper()
	points, err := w.target.Points()
	if err != nil {
		w.t.Fatal(err)
	}
	last := points[len(points)-1]
	for _, d := range last.Disks {
		before, now := w.held[d.Origin.Point][d.LUN], w.held[id][d.LUN]
		for offset := 0; offset < len(now); offset += targetChunk {
			end := min(offset+targetChunk, len(now))
			if !bytes.Equal(before[offset:end], now[offset:end]) {
				most += targetChunk
			}
		}
	}
	return most
}

// TestRun_Again proves that a backup is archived once, and anew when a full read is asked for.
func TestRun_Again_MakesNoSecondArchive(t *testing.T) {
	w := newWorld(t)
	id := w.backup(0)
	first := w.archive(id, archive.Options{})
	again := w.archive(id, archive.Options{})
	if again.Point != first.Point || !again.Existing || again.ReadBytes != first.ReadBytes || len(again.Disks) != 2 {
		t.Errorf("%+v, first %+v", again, first)
	}
	full := w.archive(id, archive.Options{Full: true})
	if full.Point == first.Point || full.Disks[0].Reason != holdfast.FullRequested || full.Disks[0].NewBytes != 0 || full.Disks[0].Root != first.Disks[0].Root {
		t.Errorf("%+v", full)
	}
	w.sound(w.into)
}

// TestRun_OriginGone proves that everything is read, and next to nothing stored, when the source has no longer what the last archive
// was copied from.
func TestRun_OriginGone_IsReadInFull(t *testing.T) {
	w := newWorld(t)
	old := w.backup(0)
	w.archive(old, archive.Options{})
	id := w.backup(1)
	if _, err := w.source.Remove(t.Context(), []holdfast.PointID{old}, repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	result := w.archive(id, archive.Options{})
	for _, d := range result.Disks {
		if !d.Full || d.Reason != holdfast.FullBaseMissing || d.Duplicate == 0 {
			t.Errorf("%+v", d)
		}
	}
	w.sound(w.into)
}

// TestRun_OriginUnderAnotherPoint proves that the root decides what may be built on: the backup before is gone, and another one holds
// the same.
func TestRun_OriginUnderAnotherPoint_IsBuiltOn(t *testing.T) {
	w := newWorld(t)
	old := w.backup(0)
	w.archive(old, archive.Options{})
	w.unchanged(1)
	if _, err := w.source.Remove(t.Context(), []holdfast.PointID{old}, repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	result := w.archive(w.backup(2), archive.Options{})
	for _, d := range result.Disks {
		if d.Full {
			t.Errorf("%+v", d)
		}
	}
	w.sound(w.into)
}

// unchanged backs up the disks as they are.
func (w *world) unchanged(n int) holdfast.PointID {
	w.t.Helper()
	ctx := w.t.Context()
	s, err := w.source.Begin(ctx, repo.BeginOptions{VM: vm, Parents: []holdfast.PointID{w.last.ID}})
	if err != nil {
		w.t.Fatal(err)
	}
	point := *w.last
	point.Time, point.Disks = repotest.Start().Add(time.Duration(n)*time.Hour), slices.Clone(point.Disks)
	for i := range point.Disks {
		d := w.last.Disks[i]
		out, err := s.WriteDisk(ctx, repo.DiskInput{LUN: d.LUN, SizeBytes: d.SizeBytes, Base: &d, Extents: repotest.Seq(nil), Source: w.disks[d.LUN]})
		if err != nil || out.Root != d.Root {
			w.t.Fatalf("%s, %v", out.Root, err)
		}
	}
	published, err := s.Publish(ctx, point, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.source.Settle(ctx, s.ID()); err != nil {
		w.t.Fatal(err)
	}
	opened, err := w.source.OpenPoint(ctx, published.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	manifest := opened.Point()
	w.last = &manifest
	return published.ID
}

// TestRun_Resized proves that a disk that grew is built on, and one that shrank is read in full.
func TestRun_Resized(t *testing.T) {
	w := newWorld(t)
	w.archive(w.backup(0), archive.Options{})
	for _, d := range w.disks {
		d.Grow(len(d.Data) + 3*sourceChunk + 1024)
	}
	if grown := w.archive(w.backup(1), archive.Options{Compare: true}); grown.Disks[0].Full || grown.Disks[1].Full {
		t.Errorf("%+v", grown)
	}
	w.last = nil
	w.disks["1"] = repotest.NewDisk(7 * sourceChunk)
	result := w.archive(w.backup(2), archive.Options{})
	if result.Disks[0].Full || !result.Disks[1].Full || result.Disks[1].Reason != holdfast.FullBaseMissing {
		t.Errorf("%+v", result)
	}
	w.sound(w.into)
}

// TestRun_Damage proves that damage of what a run builds on, in either repository, makes it read everything, and that damage of the
// backup itself ends it, with nothing left.
func TestRun_Damage(t *testing.T) {
	spoil := func(store *mem.Store, prefix string) {
		for _, name := range store.Adversary().Names() {
			if strings.HasPrefix(name, prefix) {
				store.Adversary().Damage(name, func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
			}
		}
	}
	t.Run("manifest before", func(t *testing.T) {
		w := newWorld(t)
		w.archive(w.backup(0), archive.Options{})
		spoil(w.into, "points/")
		result := w.archive(w.backup(1), archive.Options{})
		if len(result.Warnings) != 1 || result.Disks[0].Reason != holdfast.FullSuspect {
			t.Errorf("%+v", result)
		}
	})
	t.Run("map before", func(t *testing.T) {
		w := newWorld(t)
		w.archive(w.backup(0), archive.Options{})
		spoil(w.into, "tree/")
		w.target = w.open(w.into)
		id := w.backup(1)
		result, err := flow(t, w.source, w.target).Run(t.Context(), id, archive.Options{})
		if err != nil || result.Disks[0].Reason != holdfast.FullSuspect {
			t.Errorf("%+v, %v", result, err)
		}
	})
	t.Run("backup", func(t *testing.T) {
		w := newWorld(t)
		first := w.backup(0)
		w.archive(first, archive.Options{})
		id := w.backup(1)
		from := clone(t, w.from)
		spoil(from, "data/")
		damaged, err := repo.Open(t.Context(), from, repo.OpenOptions{Password: repotest.Password, Clock: clock.NewManual(repotest.Start()), Tool: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := flow(t, damaged, w.target).Run(t.Context(), id, archive.Options{}); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%v", err)
		}
		if points, err := w.target.Points(); err != nil || len(points) != 1 {
			t.Errorf("%d points, %v", len(points), err)
		}
		w.sound(w.into)
	})
}

// TestRun_Refusals proves that what is no backup, or is not there, is refused, and that a repository is no archive of itself.
func TestRun_Refusals(t *testing.T) {
	w := newWorld(t)
	result := w.archive(w.backup(0), archive.Options{})
	if _, err := archive.New(archive.Config{Source: w.target, Target: w.open(w.into)}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := flow(t, w.target, w.source).Run(t.Context(), result.Point, archive.Options{}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := flow(t, w.source, w.target).Run(t.Context(), "20300101-000000-00000000", archive.Options{}); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("%v", err)
	}
}

// TestRun_SessionsOfBackups proves that a session of a backup of the same machine, whose journal names things in the cloud, is left as
// it is.
func TestRun_SessionsOfBackups_AreLeftAlone(t *testing.T) {
	w := newWorld(t)
	s, err := w.target.Begin(t.Context(), repo.BeginOptions{VM: vm, Resources: func(holdfast.SessionID) (any, error) {
		return map[string][]string{"snapshots": {"hf-1"}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.archive(w.backup(0), archive.Options{})
	sessions, err := w.target.Unsettled(vm)
	if err != nil || len(sessions) != 1 || sessions[0].ID != s.ID() || sessions[0].Status != repo.SessionOpen {
		t.Errorf("%+v, %v", sessions, err)
	}
	if err := s.Close(t.Context(), "the test is over"); err != nil {
		t.Error(err)
	}
}

// TestRun_TwoAtOnce proves that of two archives of one machine the later one wins.
func TestRun_TwoAtOnce_OnlyTheLaterOnePublishes(t *testing.T) {
	w := newWorld(t)
	first, second := w.backup(0), w.backup(1)
	begun := false
	var later archive.Result
	earlier := flow(t, w.source, w.target, func(c *archive.Config) {
		c.Progress = func(archive.Progress) {
			if !begun {
				begun = true
				result, err := flow(t, w.source, w.open(w.into)).Run(t.Context(), second, archive.Options{})
				if err != nil {
					t.Error(err)
				}
				later = result
			}
		}
	})
	if _, err := earlier.Run(t.Context(), first, archive.Options{}); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("the earlier one ended with %v", err)
	}
	w.check(w.open(w.into), later.Point, second)
	w.sound(w.into)
}

// TestFaults proves, for every call of an archive run to the target's store and each way of failing, that the archives there are stay
// whole, that the new one is there whole or not at all, that running again makes it once, and that nothing remains after a collection.
func TestFaults_Archive(t *testing.T) {
	w := newWorld(t)
	first := w.backup(0)
	parent := w.archive(first, archive.Options{})
	second := w.backup(1)
	run := func(store blob.Store) (archive.Result, error) {
		target, err := repo.Open(t.Context(), store, options())
		if err != nil {
			return archive.Result{}, err
		}
		return flow(t, w.source, target).Run(t.Context(), second, archive.Options{})
	}
	for _, mode := range []wrap.Mode{wrap.Fail, wrap.FailAfterEffect, wrap.Die, wrap.DieAfterEffect} {
		t.Run(string(mode), func(t *testing.T) {
			for at := 1; ; at += stride() {
				store, faults := clone(t, w.into), wrap.NewFaults(mode, at)
				result, err := run(wrap.Fault(store, faults))
				if !faults.Fired() {
					t.Logf("%d calls", at-1)
					break
				}
				if err == nil {
					w.check(w.open(store), result.Point, second)
				}
				again, err := run(store)
				if err != nil {
					t.Fatalf("call %d: running again: %v", at, err)
				}
				w.check(w.open(store), again.Point, second)
				w.check(w.open(store), parent.Point, first)
				if points, err := w.open(store).Points(); err != nil || len(points) != 2 {
					t.Errorf("call %d: %d points, %v", at, len(points), err)
				}
				w.sound(store)
				if t.Failed() {
					t.Fatalf("call %d", at)
				}
			}
		})
	}
}

// TestFaults_Source proves the same for the calls to the source's store, which are reads.
func TestFaults_Source(t *testing.T) {
	w := newWorld(t)
	w.archive(w.backup(0), archive.Options{})
	second := w.backup(1)
	for at := 1; ; at += stride() {
		store, faults := clone(t, w.into), wrap.NewFaults(wrap.Fail, at)
		source, err := repo.Open(t.Context(), wrap.Fault(w.from, faults), repo.OpenOptions{Password: repotest.Password, Clock: clock.NewManual(repotest.Start()), Tool: "test"})
		if err == nil {
			var result archive.Result
			if result, err = flow(t, source, w.open(store)).Run(t.Context(), second, archive.Options{}); err == nil {
				w.check(w.open(store), result.Point, second)
			}
		}
		if !faults.Fired() {
			t.Logf("%d calls", at-1)
			return
		}
		w.sound(store)
		if t.Failed() {
			t.Fatalf("call %d: %v", at, err)
		}
	}
}

func stride() int {
	if testing.Short() {
		return 7
	}
	return 1
}

// clone copies a store's objects into a new one.
func clone(t *testing.T, store *mem.Store) *mem.Store {
	t.Helper()
	c := mem.New(clock.NewManual(repotest.Start()))
	for _, name := range store.Adversary().Names() {
		data, err := blob.ReadAll(t.Context(), store, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		c.Adversary().Overwrite(name, data)
	}
	return c
}

// BenchmarkRun archives a disk of random bytes, first in full, then after nothing has changed.
func BenchmarkRun(b *testing.B) {
	const size = 64 << 20
	w := newWorld(b)
	w.disks = map[holdfast.LUN]*repotest.Disk{holdfast.OSDisk: repotest.NewDisk(size), "1": repotest.NewDisk(4 * sourceChunk)}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(w.disks[holdfast.OSDisk].Data) // it cannot fail
	w.disks[holdfast.OSDisk].Write(0, bytes.Clone(w.disks[holdfast.OSDisk].Data))
	id := w.backup(0)
	b.Run("full", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			if _, err := flow(b, w.source, w.target, func(c *archive.Config) { c.Readers, c.DisksAtOnce = 0, 0 }).Run(b.Context(), id, archive.Options{Full: true}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		b.SetBytes(size)
		for n := 1; b.Loop(); n++ {
			b.StopTimer()
			next := w.unchanged(n)
			b.StartTimer()
			if _, err := flow(b, w.source, w.target).Run(b.Context(), next, archive.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
