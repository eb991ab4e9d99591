package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const chunkSize = 64 << 10

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func newStore() *mem.Store { return mem.New(clock.NewManual(repotest.Start())) }

func mustBackup(t *testing.T, r *repo.Repository, vm string, d *repotest.Disk, parent *holdfast.Point) holdfast.Point {
	t.Helper()
	p, err := repotest.Backup(t.Context(), r, vm, d, parent)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustEqual(t *testing.T, r *repo.Repository, id holdfast.PointID, want []byte) {
	t.Helper()
	got, err := repotest.Restore(t.Context(), r, id)
	if err != nil {
		t.Fatalf("restore %s: %v", id, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("restore point %s differs from the disk", id)
	}
}

// Every point of a chain of increments restores to what the disk held at that moment, and its root is the root of a full
// read: same content, same root, whatever the history.
func TestSession_IncrementsRestoreEqualAndRootIsHistoryFree(t *testing.T) {
	for _, size := range []int{1 << 20, 5<<20 + 512, 33 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			store := newStore()
			r := repotest.Init(t, store)
			rnd := newRand(uint64(size))
			d := repotest.NewDisk(size)
			d.Scribble(rnd, 20, 200<<10)
			var points []holdfast.Point
			var contents [][]byte
			var parent *holdfast.Point
			for round := range 6 {
				p := mustBackup(t, r, "vm", d, parent)
				points, contents = append(points, p), append(contents, bytes.Clone(d.Data))
				root, err := r.RootOf(t.Context(), repo.RootInput{SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(d.Allocated()), Source: d})
				if err != nil || root != p.Disks[0].Root {
					t.Fatalf("round %d: root of a full read %v, of the increment %v, error %v", round, root, p.Disks[0].Root, err)
				}
				parent = &p
				d.Scribble(rnd, 3, 100<<10)
				if round == 3 {
					d.Grow(len(d.Data) + 3<<20 + 1024)
				}
			}
			again := repotest.Open(t, store)
			for i, p := range points {
				mustEqual(t, again, p.ID, contents[i])
			}
		})
	}
}

// An increment reads the changed ranges rounded to chunks and nothing else.
func TestSession_IncrementReadsChangedChunksOnly(t *testing.T) {
	r := repotest.Init(t, newStore())
	d := repotest.NewDisk(16 << 20)
	d.Scribble(newRand(1), 40, 500<<10)
	p := mustBackup(t, r, "vm", d, nil)
	d.Read.Store(0)
	d.Write(3*chunkSize+512, bytes.Repeat([]byte{7}, 512))
	d.Write(9*chunkSize-512, bytes.Repeat([]byte{7}, 1024)) // two chunks
	d.Clear(20*chunkSize, chunkSize)                        // a hole: not read
	d.Clear(30*chunkSize, 512)                              // a part of a chunk: read
	p2 := mustBackup(t, r, "vm", d, &p)
	if got, want := d.Read.Load(), int64(4*chunkSize); got != want || p2.Disks[0].ReadBytes != want {
		t.Errorf("read %d bytes, said %d, want %d", got, p2.Disks[0].ReadBytes, want)
	}
	mustEqual(t, r, p2.ID, d.Data)
}

// Without changes nothing is read and hardly anything stored.
func TestSession_NoChange(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(8 << 20)
	d.Scribble(newRand(2), 10, 500<<10)
	p := mustBackup(t, r, "vm", d, nil)
	before := r.BytesAdded()
	d.Read.Store(0)
	p2 := mustBackup(t, r, "vm", d, &p)
	if d.Read.Load() != 0 || p2.Disks[0].Root != p.Disks[0].Root {
		t.Errorf("read %d bytes, roots %v and %v", d.Read.Load(), p.Disks[0].Root, p2.Disks[0].Root)
	}
	if added := r.BytesAdded() - before; added > 8<<10 {
		t.Errorf("a backup without changes stored %d bytes", added)
	}
}

// The same content on another machine is stored once.
func TestSession_DeduplicatesAcrossMachines(t *testing.T) {
	r := repotest.Init(t, newStore())
	d := repotest.NewDisk(8 << 20)
	d.Scribble(newRand(3), 20, 500<<10)
	a := mustBackup(t, r, "a", d, nil)
	before := r.BytesAdded()
	b := mustBackup(t, r, "b", d, nil)
	if a.Disks[0].Root != b.Disks[0].Root {
		t.Error("equal disks have different roots")
	}
	if added := r.BytesAdded() - before; added > 8<<10 {
		t.Errorf("the second machine stored %d bytes again", added)
	}
	mustEqual(t, r, b.ID, d.Data)
}

// A disk of zeros has no nodes, and a hole that is punched leaves the map of the smaller content.
func TestSession_Zeros(t *testing.T) {
	r := repotest.Init(t, newStore())
	d := repotest.NewDisk(4 << 20)
	empty := mustBackup(t, r, "vm", d, nil)
	d.Write(1<<20, bytes.Repeat([]byte{1}, 2<<20))
	full := mustBackup(t, r, "vm", d, &empty)
	d.Clear(1<<20, 2<<20)
	again := mustBackup(t, r, "vm", d, &full)
	if again.Disks[0].Root != empty.Disks[0].Root {
		t.Error("a cleared disk has another root than a disk of zeros")
	}
	for _, p := range []holdfast.PointID{empty.ID, again.ID} {
		mustEqual(t, r, p, d.Data)
	}
}

// Random reads through ReadAt and At agree with the disk.
func TestDiskReader_ReadAt(t *testing.T) {
	r := repotest.Init(t, newStore())
	rnd := newRand(4)
	d := repotest.NewDisk(6<<20 + 1536)
	d.Scribble(rnd, 15, 300<<10)
	p := mustBackup(t, r, "vm", d, nil)
	reader, err := r.OpenPoint(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := reader.Disk(holdfast.OSDisk)
	if err != nil {
		t.Fatal(err)
	}
	at := disk.At(t.Context())
	for range 200 {
		offset := rnd.IntN(len(d.Data))
		b := make([]byte, rnd.IntN(300<<10))
		n, err := at.ReadAt(b, int64(offset))
		want := d.Data[offset:min(len(d.Data), offset+len(b))]
		if !bytes.Equal(b[:n], want) || (err != nil) != (len(want) < len(b)) {
			t.Fatalf("ReadAt(%d, %d) = %d, %v", offset, len(b), n, err)
		}
	}
}

// Many writers at once, in handles of their own, all publish.
func TestSession_ManyWriters(t *testing.T) {
	store, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	repotest.Init(t, store)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	disks := make([]*repotest.Disk, len(errs))
	ids := make([]holdfast.PointID, len(errs))
	for i := range errs {
		disks[i] = repotest.NewDisk(2 << 20)
		disks[i].Scribble(newRand(uint64(i%3)), 6, 300<<10)
		r := repotest.Open(t, store)
		wg.Go(func() {
			var parent *holdfast.Point
			for range 3 {
				p, err := repotest.Backup(t.Context(), r, fmt.Sprint("vm", i), disks[i], parent)
				if err != nil {
					errs[i] = err
					return
				}
				parent, ids[i] = &p, p.ID
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	r := repotest.Open(t, store)
	for i, id := range ids {
		mustEqual(t, r, id, disks[i].Data)
	}
	if points, err := r.Points(); err != nil || len(points) != 3*len(errs) {
		t.Errorf("%d points, error %v", len(points), err)
	}
}

// An abandoned session cannot publish, and leaving a session publishes nothing.
func TestSession_AbandonedCannotPublish(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(1 << 20)
	d.Scribble(newRand(5), 3, 100<<10)
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm", Resources: func(id holdfast.SessionID) (any, error) { return map[string]string{"snapshot": id.String()}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: 1 << 20, Extents: repotest.Seq(d.Allocated()), Source: d})
	if err != nil {
		t.Fatal(err)
	}
	other := repotest.Open(t, store)
	unsettled, err := other.Unsettled("VM") // ARM ids are case-insensitive
	if err != nil || len(unsettled) != 1 || unsettled[0].Status != repo.SessionOpen || string(unsettled[0].Resources) != fmt.Sprintf(`{"snapshot":"%s"}`, s.ID()) {
		t.Fatalf("unsettled: %+v, %v", unsettled, err)
	}
	if err := other.Abandon(t.Context(), s.ID(), "killed"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Publish(t.Context(), holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: holdfast.OSDisk, SizeBytes: 1 << 20, Root: out.Root}}}, nil)
	if !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("publishing an abandoned session: %v", err)
	}
	if err := s.Close(t.Context(), "test"); err != nil {
		t.Error(err)
	}
	if err := r.Settle(t.Context(), s.ID()); err != nil {
		t.Error(err)
	}
	if err := r.Settle(t.Context(), s.ID()); err != nil {
		t.Errorf("settling twice: %v", err)
	}
	if points, err := r.Points(); err != nil || len(points) != 0 {
		t.Errorf("points %v, error %v", points, err)
	}
}

// A source that fails ends the session without a point, and without goroutines left (see TestMain).
func TestSession_SourceFails(t *testing.T) {
	r := repotest.Init(t, newStore())
	boom := errors.New("boom")
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.WriteDisk(t.Context(), repo.DiskInput{
		LUN: holdfast.OSDisk, SizeBytes: 1 << 30, Extents: repotest.Seq([]holdfast.Extent{{Length: 1 << 30}}), Source: failingSource{boom},
	})
	if !errors.Is(err, boom) {
		t.Errorf("error %v, want boom", err)
	}
	if err := s.Close(t.Context(), "boom"); err != nil {
		t.Error(err)
	}
}

type failingSource struct{ err error }

func (f failingSource) ReadAt(_ context.Context, _ []byte, offset int64) error {
	if offset > 100<<20 {
		return f.err
	}
	return nil
}

func TestOpen_Refusals(t *testing.T) {
	store := newStore()
	if _, err := repo.Open(t.Context(), store, repo.OpenOptions{Clock: clock.System{}}); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("no repository: %v", err)
	}
	repotest.Init(t, store)
	for password, kind := range map[string]holdfast.Kind{"": holdfast.KindWrongKey, "wrong": holdfast.KindWrongKey} {
		if _, err := repo.Open(t.Context(), store, repo.OpenOptions{Password: password, Clock: clock.System{}}); !holdfast.IsKind(err, kind) {
			t.Errorf("password %q: %v", password, err)
		}
	}
	_, err := repo.Init(t.Context(), store, repo.InitOptions{Password: "x", Clock: clock.System{}, KDF: repotest.FastKDF()})
	if !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("init twice: %v", err)
	}
	for _, o := range []repo.InitOptions{{}, {Password: "x", Unencrypted: true}, {Password: "x", Parameters: repo.Parameters{ChunkSize: 1000}}} {
		o.Clock = clock.System{}
		if _, err := repo.Init(t.Context(), newStore(), o); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("init with %+v: %v", o, err)
		}
	}
}

func TestInit_Unencrypted(t *testing.T) {
	store := newStore()
	if _, err := repo.Init(t.Context(), store, repo.InitOptions{Unencrypted: true, Clock: clock.System{}}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), store, repo.OpenOptions{Clock: clock.System{}})
	if err != nil {
		t.Fatal(err)
	}
	d := repotest.NewDisk(1 << 20)
	d.Scribble(newRand(6), 5, 100<<10)
	p := mustBackup(t, r, "vm", d, nil)
	mustEqual(t, r, p.ID, d.Data)
}

// The index is a cache: with every run gone or damaged, points restore, and a rebuilt index finds duplicates again.
func TestRebuildIndex(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(4 << 20)
	d.Scribble(newRand(7), 10, 300<<10)
	p := mustBackup(t, r, "vm", d, nil)
	for _, name := range store.Adversary().Names() {
		if len(name) > 6 && name[:6] == "index/" {
			store.Adversary().Erase(name)
		}
	}
	r = repotest.Open(t, store)
	mustEqual(t, r, p.ID, d.Data)
	result, err := r.RebuildIndex(t.Context(), nil)
	if err != nil || result.Entries == 0 || len(result.Damaged) != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	before := r.BytesAdded()
	mustBackup(t, r, "other", d, nil)
	if added := r.BytesAdded() - before; added > 8<<10 {
		t.Errorf("after the rebuild %d bytes were stored again", added)
	}
}

// Opening after many entries starts from a checkpoint and gives the same points.
func TestOpen_FromCheckpoint(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(256 << 10)
	var parent *holdfast.Point
	for i := range 70 {
		d.Write(0, []byte{byte(i + 1)})
		p := mustBackup(t, r, "vm", d, parent)
		parent = &p
	}
	checkpoints := 0
	for _, name := range store.Adversary().Names() {
		if len(name) > 6 && name[:6] == "state/" {
			checkpoints++
		}
	}
	if checkpoints == 0 {
		t.Error("no checkpoint was written in 140 entries")
	}
	counted := &countReads{Store: store}
	opened := repotest.Open(t, counted)
	if counted.log > 100 {
		t.Errorf("opening read %d log entries", counted.log)
	}
	if points, err := opened.Points(); err != nil || len(points) != 70 {
		t.Errorf("%d points, error %v", len(points), err)
	}
	mustEqual(t, opened, parent.ID, d.Data)
}

type countReads struct {
	blob.Store
	mu  sync.Mutex
	log int
}

func (c *countReads) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	if name[:4] == "log/" {
		c.mu.Lock()
		c.log++
		c.mu.Unlock()
	}
	return c.Store.Read(ctx, name, offset, p)
}
