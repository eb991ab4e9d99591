package repo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// sparse is a disk of any size with a few chunks of content.
type sparse struct {
	chunkSize int64
	chunks    map[int64]byte // number: what its bytes are
	reads     atomic.Int64
}

func (s *sparse) ReadAt(_ context.Context, p []byte, offset int64) error {
	s.reads.Add(1)
	for start := int64(0); start < int64(len(p)); start += s.chunkSize {
		number := (offset + start) / s.chunkSize
		part := p[start:min(start+s.chunkSize, int64(len(p)))]
		for i := range part {
			part[i] = s.chunks[number]
		}
		if s.chunks[number] != 0 && len(part) > 8 { // no chunk is like another
			binary.BigEndian.PutUint64(part, uint64(number))
		}
	}
	return nil
}

func (s *sparse) extents(numbers ...int64) []holdfast.Extent {
	var list []holdfast.Extent
	for _, n := range slices.Sorted(slices.Values(numbers)) {
		list = append(list, holdfast.Extent{Offset: n * s.chunkSize, Length: s.chunkSize})
	}
	return list
}

// byFolder counts the bytes put, by the folder of the name.
type byFolder struct {
	blob.Store
	mu    sync.Mutex
	bytes map[string]int
	puts  map[string]int
}

func (b *byFolder) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	err := b.Store.Put(ctx, name, data, o)
	folder, _, _ := strings.Cut(name, "/")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes[folder] += len(data)
	b.puts[folder]++
	return err
}

func (b *byFolder) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes, b.puts = map[string]int{}, map[string]int{}
}

// put writes one point of a sparse disk, against a parent where given, of which only the numbers have changed.
func (s *sparse) put(t testing.TB, r *repo.Repository, size int64, parent *holdfast.Point, numbers ...int64) *holdfast.Point {
	t.Helper()
	begin := repo.BeginOptions{VM: "vm"}
	in := repo.DiskInput{LUN: "os", SizeBytes: size, Extents: repotest.Seq(s.extents(numbers...)), Source: s}
	if parent != nil {
		begin.Parents, in.Base = []holdfast.PointID{parent.ID}, &parent.Disks[0]
	}
	session, err := r.Begin(t.Context(), begin)
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.WriteDisk(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	published, err := session.Publish(t.Context(), holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: size, Root: out.Root}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := r.OpenPoint(t.Context(), published.ID)
	if err != nil {
		t.Fatal(err)
	}
	point := reader.Point()
	return &point
}

// At 32 TiB and the default parameters, on a map as old and scattered as it can be (every node on the path full, every child of it
// in a pack of its own), one isolated changed chunk costs at most 16 KiB of metadata beside what every session costs; and the
// disk reads back at both ends.
func TestLimits_MetadataOfOneChunkAt32TiB(t *testing.T) {
	store := &byFolder{Store: newStore()}
	store.reset()
	p := repo.Parameters{}.OrDefault()
	r, err := repo.Init(t.Context(), store, repo.InitOptions{Password: repotest.Password, KDF: repotest.FastKDF(), Clock: openOptions().Clock, Parameters: p})
	if err != nil {
		t.Fatal(err)
	}
	const size = 32 << 40
	disk := &sparse{chunkSize: int64(p.ChunkSize), chunks: map[int64]byte{}}
	chunks := size / int64(p.ChunkSize)
	var parent *holdfast.Point
	for i := range int64(p.FanOut) { // each session adds one child to every node on the path of chunk 0
		var numbers []int64
		for step := int64(1); step < chunks && i*step < chunks; step *= int64(p.FanOut) {
			n := i * step
			disk.chunks[n] = byte(1 + i)
			numbers = append(numbers, n)
		}
		numbers = slices.Compact(slices.Sorted(slices.Values(numbers)))
		parent = disk.put(t, r, size, parent, numbers...)
	}
	store.reset()
	parent = disk.put(t, r, size, parent)
	idle := maps.Clone(store.bytes)
	store.reset()
	disk.chunks[0] = 200
	parent = disk.put(t, r, size, parent, 0)
	one := maps.Clone(store.bytes)
	t.Logf("a session without change adds %v bytes, one changed chunk %v", idle, one)
	const entry = 100 // in the index, per node or chunk, at most
	if metadata := one["tree"] + 7*entry; metadata > 16<<10 {
		t.Errorf("one isolated changed chunk has %d bytes of metadata", metadata)
	}
	if one["tree"] < 6*2000 {
		t.Errorf("%d bytes of nodes: this is not the worst case", one["tree"])
	}
	if idle["tree"]+idle["data"]+idle["index"] != 0 {
		t.Errorf("a session without change adds %v", idle)
	}
	reader, err := r.OpenPoint(t.Context(), parent.ID)
	if err != nil {
		t.Fatal(err)
	}
	d, err := reader.Disk("os")
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range disk.chunks {
		var b [1]byte
		if n, err := d.ReadAt(t.Context(), b[:], number*disk.chunkSize+17); n != 1 || err != nil || b[0] != want {
			t.Fatalf("chunk %d reads %d, want %d, %v", number, b[0], want, err)
		}
	}
	reads := disk.reads.Load()
	if n, err := d.ReadAt(t.Context(), make([]byte, 10), size-5); n != 5 || err == nil {
		t.Errorf("the end reads %d bytes, %v", n, err)
	}
	if disk.reads.Load() != reads {
		t.Error("reading a point reads the source")
	}
}

// Disks up to the greatest size work, with content in the first and the last chunk; sizes beyond it, and none, are refused.
func TestLimits_DiskSizes(t *testing.T) {
	r := repotest.Init(t, newStore())
	for _, size := range []int64{1, chunkSize, 64<<40 + 512, repo.DiskBytesMax} {
		disk := &sparse{chunkSize: chunkSize, chunks: map[int64]byte{0: 1, (size - 1) / chunkSize: 2}}
		in := disk.extents(slices.Collect(maps.Keys(disk.chunks))...)
		in[len(in)-1].Length = size - in[len(in)-1].Offset
		root, err := r.RootOf(t.Context(), repo.RootInput{SizeBytes: size, Extents: repotest.Seq(in), Source: disk})
		if err != nil || root == (holdfast.Root{}) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, -1, repo.DiskBytesMax + 1, 1<<63 - 1} {
		if _, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: size, Extents: repotest.Seq(nil)}); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%d bytes are written: %v", size, err)
		}
		if _, err := r.RootOf(t.Context(), repo.RootInput{SizeBytes: size, Extents: repotest.Seq(nil)}); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%d bytes have a root: %v", size, err)
		}
	}
	if err := s.Close(t.Context(), "test"); err != nil {
		t.Error(err)
	}
}

// A point says of its disks what was written, and is written against a parent of its session, or not at all: what a point
// rests on must be pinned and in its pack list.
func TestSession_MisuseIsRefused(t *testing.T) {
	r := repotest.Init(t, newStore())
	d := repotest.NewDisk(4 * chunkSize)
	d.Scribble(newRand(9), 4, 50<<10)
	p := mustBackup(t, r, "vm", d, nil)
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"}) // without parents
	if err != nil {
		t.Fatal(err)
	}
	in := repo.DiskInput{LUN: "os", SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(nil), Source: d, Base: &p.Disks[0]}
	if _, err := s.WriteDisk(t.Context(), in); !holdfast.IsKind(err, holdfast.KindInternal) {
		t.Errorf("written against a point that is not pinned: %v", err)
	}
	in.Base, in.Extents = nil, repotest.Seq(d.Allocated())
	out, err := s.WriteDisk(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	right := holdfast.PointDisk{LUN: "os", SizeBytes: in.SizeBytes, Root: out.Root}
	for what, disk := range map[string]holdfast.PointDisk{
		"another root": {LUN: "os", SizeBytes: in.SizeBytes}, "another size": {LUN: "os", SizeBytes: 1, Root: out.Root}, "another disk": {LUN: "7", SizeBytes: in.SizeBytes, Root: out.Root},
	} {
		if _, err := s.Publish(t.Context(), holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{disk}}, nil); !holdfast.IsKind(err, holdfast.KindInternal) {
			t.Errorf("published with %s: %v", what, err)
		}
	}
	if _, err := s.Publish(t.Context(), holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{right}}, nil); err != nil {
		t.Errorf("published as written, after all: %v", err)
	}
}

// Many nodes waiting for one data pack do not pile up without bound, stop nothing, and do not make a pack each: the pack is
// closed early once per queue.
func TestSession_ManyWaitingNodes(t *testing.T) {
	store := &byFolder{Store: newStore()}
	store.reset()
	repotest.Init(t, store)
	r := repotest.Open(t, store)
	const size, changed = 1 << 40, 1500 // eight levels at fan-out 8: up to 12,000 nodes
	disk := &sparse{chunkSize: chunkSize, chunks: map[int64]byte{}}
	var numbers []int64
	for i := range int64(changed) {
		n := i * (size / chunkSize / changed)
		disk.chunks[n] = byte(1 + i%255)
		numbers = append(numbers, n)
	}
	full := disk.put(t, r, size, nil, numbers...)
	nodes := changed * 4 // at least, and so more than may wait
	if packs := store.puts["data"]; packs < 2 || packs > 2+9*changed/repo.WaitingNodesMax {
		t.Errorf("%d data packs for %d or more nodes", packs, nodes)
	}
	store.reset()
	session, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm", Parents: []holdfast.PointID{full.ID}})
	if err != nil {
		t.Fatal(err)
	}
	holes := disk.extents(numbers...)
	for i := range holes {
		holes[i].Zero = i > 0 && i%2 == 0 // the first chunk changes, its pack stays open, and half of the others go
	}
	disk.chunks[0] = 77
	holes = slices.DeleteFunc(holes, func(e holdfast.Extent) bool { return !e.Zero && e.Offset > 0 })
	out, err := session.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: size, Base: &full.Disks[0], Extents: repotest.Seq(holes), Source: disk})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Publish(t.Context(), holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: size, Root: out.Root}}}, nil); err != nil {
		t.Fatal(err)
	}
	for i, n := range numbers {
		if i > 0 && i%2 == 0 {
			delete(disk.chunks, n)
		}
	}
	want, err := r.RootOf(t.Context(), repo.RootInput{SizeBytes: size, Extents: repotest.Seq(disk.extents(slices.Collect(maps.Keys(disk.chunks))...)), Source: disk})
	if err != nil || want != out.Root {
		t.Errorf("the root is %s, of what is left %s, %v", out.Root, want, err)
	}
}

// When a disk grows whose last chunk was short and is not touched by any change, that chunk is read again: it is a longer one now.
func TestSession_GrownShortChunk(t *testing.T) {
	r := repotest.Init(t, newStore())
	d := repotest.NewDisk(2*chunkSize + 512)
	d.Write(2*chunkSize, []byte("at the very end"))
	p := mustBackup(t, r, "vm", d, nil)
	for _, size := range []int{2*chunkSize + 1024, 3 * chunkSize, 20*chunkSize + 512, 21 * chunkSize} {
		d.Grow(size)
		p = mustBackup(t, r, "vm", d, &p)
		mustEqual(t, r, p.ID, d.Data)
	}
}

// A disk that holds one chunk over and over is stored once and restores.
func TestDiskReader_SameChunkOverAndOver(t *testing.T) {
	r := repotest.Init(t, newStore())
	d := repotest.NewDisk(600 * chunkSize)
	d.Write(0, bytes.Repeat([]byte("same"), len(d.Data)/4))
	p := mustBackup(t, r, "vm", d, nil)
	mustEqual(t, r, p.ID, d.Data)
}

// readOnly is a store that can be read alone.
type readOnly struct{ blob.Store }

func (readOnly) Put(context.Context, string, []byte, blob.PutOptions) error {
	return holdfast.Wrap(holdfast.KindRefused, blob.ErrReadOnly, "cannot write").WithHint("mount it for writing")
}

// A store that can only be read serves reading and refuses writing, with its own kind and hint.
func TestReadOnlyStore(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(2 * chunkSize)
	d.Write(0, []byte("content"))
	p := mustBackup(t, r, "vm", d, nil)
	r = repotest.Open(t, readOnly{store})
	mustEqual(t, r, p.ID, d.Data)
	mustBeSound(t, readOnly{store}, r)
	_, rebuildErr := r.RebuildIndex(t.Context(), nil)
	_, beginErr := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
	_, initErr := repo.Init(t.Context(), readOnly{newStore()}, repo.InitOptions{Password: "x", KDF: repotest.FastKDF(), Clock: openOptions().Clock})
	for what, err := range map[string]error{"begin": beginErr, "rebuild-index": rebuildErr, "init": initErr} {
		var e *holdfast.Error
		if !holdfast.IsKind(err, holdfast.KindRefused) || !errors.Is(err, blob.ErrReadOnly) || !errors.As(err, &e) || e.Hint != "mount it for writing" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// lostPublish is a store that takes the entry it is told to lose the answer of, and cannot be read right after.
type lostPublish struct {
	blob.Store
	lose atomic.Bool
	down atomic.Bool
}

var errLost = holdfast.Errorf(holdfast.KindUnavailable, "the answer was lost")

func (l *lostPublish) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	if err := l.Store.Put(ctx, name, data, o); err != nil {
		return err
	}
	if l.lose.Load() && bytes.Contains(data, []byte(`"kind":"publish"`)) {
		l.down.Store(true)
		return errLost
	}
	return nil
}

func (l *lostPublish) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	if l.down.CompareAndSwap(true, false) {
		return 0, errLost
	}
	return l.Store.Read(ctx, name, offset, p)
}

// When nobody can tell whether a publication happened, Publish says that it failed; the log knows better, closing changes
// nothing about it, and publishing again does not make a second point.
func TestSession_PublishOutcomeUnknown(t *testing.T) {
	store := &lostPublish{Store: newStore()}
	repotest.Init(t, store.Store)
	r := repotest.Open(t, store)
	d := repotest.NewDisk(2 * chunkSize)
	d.Write(0, []byte("content"))
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(d.Allocated()), Source: d})
	if err != nil {
		t.Fatal(err)
	}
	point := holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: int64(len(d.Data)), Root: out.Root}}}
	store.lose.Store(true)
	if _, err := s.Publish(t.Context(), point, nil); !errors.Is(err, errLost) {
		t.Fatalf("publish: %v", err)
	}
	if _, err := s.Publish(t.Context(), point, nil); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("publish again: %v", err)
	}
	if err := s.Close(t.Context(), "unknown"); err != nil {
		t.Errorf("close: %v", err)
	}
	again := repotest.Open(t, store.Store)
	points, err := again.Points()
	if err != nil || len(points) != 1 {
		t.Fatalf("%d points, %v", len(points), err)
	}
	mustEqual(t, again, points[0].ID, d.Data)
	if u, err := again.Unsettled("vm"); err != nil || len(u) != 1 || u[0].Status != repo.SessionPublished || u[0].Point != points[0].ID {
		t.Errorf("unsettled %+v, %v", u, err)
	}
}

// Two sessions of one machine at the same time, on the same parent: both publish, or the one that was given up does not; no
// point depends on which was first.
func TestSession_SameMachineAtOnce(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(40 * chunkSize)
	d.Scribble(newRand(31), 10, 200<<10)
	parent := mustBackup(t, r, "vm", d, nil)
	var wg sync.WaitGroup
	disks := make([]*repotest.Disk, 4)
	points := make([]holdfast.Point, len(disks))
	for i := range disks {
		disks[i] = repotest.NewDisk(len(d.Data))
		copy(disks[i].Data, d.Data)
		disks[i].Scribble(newRand(uint64(32+i/2)), 5, 100<<10) // two pairs write the same
		handle := repotest.Open(t, store)
		wg.Go(func() {
			var err error
			if points[i], err = repotest.Backup(t.Context(), handle, "vm", disks[i], &parent); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	fresh := repotest.Open(t, store)
	for i, p := range points {
		mustEqual(t, fresh, p.ID, disks[i].Data)
	}
	if points[0].Disks[0].Root != points[1].Disks[0].Root || points[0].Disks[0].Root == points[2].Disks[0].Root {
		t.Error("roots do not follow the contents")
	}
}

// condemnable returns a repository of which one point is removed, the packs of that point, and a disk with its content.
func condemnable(t *testing.T) (*repo.Repository, []string, *repotest.Disk) {
	t.Helper()
	store := newStore()
	r := repotest.Init(t, store)
	before := store.Adversary().Names()
	d := repotest.NewDisk(4 * chunkSize)
	d.Write(0, randomBytes(newRand(41), len(d.Data)))
	p := mustBackup(t, r, "vm", d, nil)
	if err := r.Settle(t.Context(), p.Session); err != nil {
		t.Fatal(err)
	}
	var packs []string
	for _, name := range store.Adversary().Names() {
		if !slices.Contains(before, name) && (strings.HasPrefix(name, "data/") || strings.HasPrefix(name, "tree/")) {
			packs = append(packs, name)
		}
	}
	if err := repo.RemovePoint(t.Context(), r, p.ID); err != nil {
		t.Fatal(err)
	}
	return r, packs, d
}

// A session that found chunks in a pack which is condemned before it publishes does not publish, also when the sweep is over
// by then.
func TestCondemned_UnderAnOpenSession(t *testing.T) {
	for _, sweep := range []bool{false, true} {
		r, packs, d := condemnable(t)
		s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(d.Allocated()), Source: d})
		if err != nil || out.DuplicateBytes == 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		list, err := repo.Condemn(t.Context(), r, packs...)
		if err != nil {
			t.Fatal(err)
		}
		if sweep {
			if err := repo.Sweep(t.Context(), r, list); err != nil {
				t.Fatal(err)
			}
		}
		_, err = s.Publish(t.Context(), holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: int64(len(d.Data)), Root: out.Root}}}, nil)
		if !holdfast.IsKind(err, holdfast.KindConflict) {
			t.Errorf("swept %v: published on condemned packs: %v", sweep, err)
		}
		if err := s.Close(t.Context(), "condemned"); err != nil {
			t.Error(err)
		}
		again := mustBackup(t, r, "vm", d, nil)
		mustEqual(t, r, again.ID, d.Data)
	}
}

// After a condemnation nobody builds on what it names. The state keeps it, swept or not, until no live index run may lead there: those
// that do are written anew, by a collection or a rebuild.
func TestCondemned_IsNotFoundAnyMore(t *testing.T) {
	for _, how := range []struct {
		name  string
		clean func(*repo.Repository) error
	}{
		{"cleaned", func(r *repo.Repository) error { return repo.CleanIndex(t.Context(), r) }},
		{"rebuilt", func(r *repo.Repository) error { _, err := r.RebuildIndex(t.Context(), nil); return err }},
	} {
		t.Run(how.name, func(t *testing.T) {
			r, packs, d := condemnable(t)
			list, err := repo.Condemn(t.Context(), r, packs...)
			if err != nil {
				t.Fatal(err)
			}
			before := r.BytesAdded()
			p := mustBackup(t, r, "vm", d, nil)
			if added := r.BytesAdded() - before; added < int64(len(d.Data)) {
				t.Errorf("%d bytes were added: something condemned was built on", added)
			}
			mustEqual(t, r, p.ID, d.Data)
			if err := repo.Sweep(t.Context(), r, list); err != nil {
				t.Fatal(err)
			}
			if lists := repo.Condemnations(r); !slices.Contains(lists, list) {
				t.Fatalf("%v: the condemnation is forgotten, and the index leads there", lists)
			}
			if err := how.clean(r); err != nil {
				t.Fatal(err)
			}
			indexed, err := repo.IndexedPacks(t.Context(), r)
			if err != nil || len(indexed) == 0 {
				t.Fatal(indexed, err)
			}
			for _, name := range packs {
				if indexed[name] {
					t.Errorf("the index names %s", name)
				}
			}
			if lists := repo.Condemnations(r); len(lists) > 0 {
				t.Errorf("%v: the condemnation is kept, and nothing leads there", lists)
			}
			if u, err := r.Unsettled(""); err != nil || len(u) != 0 {
				t.Errorf("%v is left to do, %v", u, err)
			}
			before = r.BytesAdded()
			again := mustBackup(t, r, "another vm", d, nil)
			if added := r.BytesAdded() - before; added > int64(len(d.Data))/4 {
				t.Errorf("%d bytes were added: what is stored was not found", added)
			}
			mustEqual(t, r, again.ID, d.Data)
		})
	}
}
