package repo_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// readsOf counts the reads of a store, by the folder of the name.
type readsOf struct {
	blob.Store
	mu    sync.Mutex
	reads map[string]int
}

func countFolders(store blob.Store) *readsOf { return &readsOf{Store: store, reads: map[string]int{}} }

func (c *readsOf) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	folder, _, _ := strings.Cut(name, "/")
	c.mu.Lock()
	c.reads[folder]++
	c.mu.Unlock()
	return c.Store.Read(ctx, name, offset, p)
}

// largeIndex returns a repository with a point of a sparse disk of so many chunks, no two alike, under an index that is cut small.
func largeIndex(t *testing.T, chunks int64) (*mem.Store, *sparse, *holdfast.Point) {
	t.Helper()
	store := newStore()
	repotest.Init(t, store)
	r, err := repo.Open(t.Context(), store, openOptions())
	if err != nil {
		t.Fatal(err)
	}
	disk := &sparse{chunkSize: chunkSize, chunks: map[int64]byte{}}
	var numbers []int64
	for n := range chunks {
		disk.chunks[n] = byte(1 + n%255)
		numbers = append(numbers, n)
	}
	return store, disk, disk.put(t, r, 1<<40, nil, numbers...)
}

// Opening a repository, beginning a session and writing one new chunk reads a few objects of the index, about as many when there are ten
// times as many of them; and a session that writes much keeps little in memory.
func TestScale_OpeningReadsFewObjects(t *testing.T) {
	read := map[int64]int{}
	for _, chunks := range []int64{200, 2000} {
		store, disk, point := largeIndex(t, chunks)
		counted := countFolders(store)
		r, err := repo.Open(t.Context(), counted, openOptions())
		if err != nil {
			t.Fatal(err)
		}
		runs, asked, due, err := repo.IndexShape(t.Context(), r)
		if err != nil || due || runs < int(chunks)/100 {
			t.Fatalf("%d runs, a merge is due: %v, %v", runs, due, err)
		}
		if counted.reads["index"] > 0 {
			t.Errorf("%d reads of the index before anything was asked", counted.reads["index"])
		}
		disk.chunks[chunks+1000] = 77
		disk.put(t, r, 1<<40, point, chunks+1000)
		read[chunks] = counted.reads["index"]
		t.Logf("%d chunks: %d runs, up to %d asked for an id; %d reads of the index", chunks, runs, asked, counted.reads["index"])
	}
	if read[2000] > read[200]+40 || read[2000] > 60 {
		t.Errorf("reads of the index: %v", read)
	}
}

// However much a session writes, it keeps a bounded number of ids in memory, finds what it wrote before, and what it publishes is found by
// the next one.
func TestScale_SessionMemoryIsBounded(t *testing.T) {
	store := newStore()
	repotest.Init(t, store)
	options := openOptions()
	options.Index.RunEntries = 200 // so a session keeps 50 entries
	r, err := repo.Open(t.Context(), store, options)
	if err != nil {
		t.Fatal(err)
	}
	const chunks = 1000
	disk := &sparse{chunkSize: chunkSize, chunks: map[int64]byte{}}
	var numbers []int64
	for n := range int64(chunks) {
		disk.chunks[n] = byte(1 + n%255)
		numbers = append(numbers, n)
	}
	session, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	write := func(lun holdfast.LUN) repo.DiskOutput {
		t.Helper()
		out, err := session.WriteDisk(t.Context(), repo.DiskInput{LUN: lun, SizeBytes: 1 << 40, Extents: repotest.Seq(disk.extents(numbers...)), Source: &smallPacks{session, disk}})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	first := write("os")
	repo.FlushPacks(session)
	pending, entries := repo.InMemory(session)
	t.Logf("%d chunks written: %d ids and %d entries in memory", chunks, pending, entries)
	if entries > 50 || pending > 400 {
		t.Error("that is too much")
	}
	again := write("0")
	if again.NewBytes > 0 || again.DuplicateBytes != first.NewBytes || again.Root != first.Root {
		t.Errorf("the same content again: %+v", again)
	}
	point := holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: 1 << 40, Root: first.Root}, {LUN: "0", SizeBytes: 1 << 40, Root: again.Root}}}
	if _, err := session.Publish(t.Context(), point, nil); err != nil {
		t.Fatal(err)
	}
	if session, err = r.Begin(t.Context(), repo.BeginOptions{VM: "another vm"}); err != nil {
		t.Fatal(err)
	}
	if third := write("os"); third.NewBytes > 0 || third.DuplicateBytes != first.NewBytes {
		t.Errorf("the same content in the next session: %+v", third)
	}
	if err := session.Close(t.Context(), "seen enough"); err != nil {
		t.Fatal(err)
	}
}

// smallPacks is a source that makes a session close its data pack every few reads.
type smallPacks struct {
	session *repo.Session
	*sparse
}

func (s *smallPacks) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if s.reads.Load()%25 == 0 {
		repo.FlushPacks(s.session)
	}
	return s.sparse.ReadAt(ctx, p, offset)
}

// Wherever merging of the index stops, nothing is lost: every chunk is still found, and what is due is done by whoever comes next.
func TestFaults_TendIndex(t *testing.T) {
	base := newStore()
	disk := repotest.NewDisk(60 * chunkSize)
	var point holdfast.Point
	func() { // with an index that is not cut small, so that nothing is merged beyond publications
		r := repotest.Init(t, base)
		for i := range 3 {
			for n := 20 * i; n < 20*i+20; n++ {
				disk.Write(n*chunkSize, []byte(fmt.Sprint("chunk ", n)))
			}
			if i == 0 {
				point = mustBackup(t, r, "vm", disk, nil)
			} else {
				point = mustBackup(t, r, "vm", disk, &point)
			}
		}
	}()
	flow := func(store blob.Store) error {
		r, err := repo.Open(t.Context(), store, openOptions())
		if err != nil {
			return err
		}
		return repo.TendIndex(t.Context(), r)
	}
	everyFault(t, base, flow, func(t *testing.T, store *mem.Store, _ error) {
		r, err := repo.Open(t.Context(), store, openOptions())
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.TendIndex(t.Context(), r); err != nil {
			t.Fatalf("merging again: %v", err)
		}
		runs, asked, due, err := repo.IndexShape(t.Context(), r)
		if err != nil || due || runs < 2 || asked > 4 {
			t.Errorf("%d runs, %d asked for an id, a merge is due: %v, %v", runs, asked, due, err)
		}
		session, err := r.Begin(t.Context(), repo.BeginOptions{VM: "clone"})
		if err != nil {
			t.Fatal(err)
		}
		out, err := session.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: int64(len(disk.Data)), Extents: repotest.Seq(disk.Allocated()), Source: disk})
		if err != nil || out.NewBytes > 0 || out.Root != point.Disks[0].Root {
			t.Errorf("what is stored is not found: %+v, %v", out, err)
		}
		if err := session.Close(t.Context(), "seen enough"); err != nil {
			t.Fatal(err)
		}
		mustBeSound(t, store, r)
	})
}

// Two writers that merge the same runs do not say everything twice: the one that comes later gives up, and both see the first one's.
func TestTendIndex_Race(t *testing.T) {
	store, disk, point := largeIndex(t, 300)
	options := openOptions()
	options.Index.RunEntries = 24 // for these, much is due
	var others []*repo.Repository
	for range 3 {
		r, err := repo.Open(t.Context(), store, options)
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, r)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(others))
	for i, r := range others {
		wg.Go(func() { errs[i] = repo.TendIndex(t.Context(), r) })
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else if !holdfast.IsKind(err, holdfast.KindConflict) {
			t.Error(err)
		}
	}
	fresh, err := repo.Open(t.Context(), store, options)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, due, err := repo.IndexShape(t.Context(), fresh); due || err != nil || done == 0 {
		t.Errorf("%d of %d merges succeeded, more is due: %v, %v", done, len(others), due, err)
	}
	if u, err := fresh.Unsettled(""); err != nil || len(u) > 0 {
		t.Errorf("%v is left to do, %v", u, err)
	}
	disk.chunks[5000] = 1
	disk.put(t, fresh, 1<<40, point, 5000)
}

// Two points of a disk are compared by reading the nodes on the paths to what differs; what is yielded is what changed.
func TestDiskReader_Changes(t *testing.T) {
	store, disk, point := largeIndex(t, 600)
	r := repotest.Open(t, store)
	changed := []int64{7, 8, 500, 90_000}
	for _, n := range changed {
		disk.chunks[n] = 99
	}
	next := disk.put(t, r, 1<<40, point, changed...)
	counted := countFolders(store)
	fresh := repotest.Open(t, counted)
	readers := make([]*repo.DiskReader, 2)
	for i, id := range []holdfast.PointID{point.ID, next.ID} {
		p, err := fresh.OpenPoint(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if readers[i], err = p.Disk("os"); err != nil {
			t.Fatal(err)
		}
	}
	extents := func(n, count int64, zero bool) holdfast.Extent {
		return holdfast.Extent{Offset: n * chunkSize, Length: count * chunkSize, Zero: zero}
	}
	for _, row := range []struct {
		disk, since *repo.DiskReader
		want        []holdfast.Extent
	}{
		{readers[1], readers[0], []holdfast.Extent{extents(7, 2, false), extents(500, 1, false), extents(90_000, 1, false)}},
		{readers[0], readers[1], []holdfast.Extent{extents(7, 2, false), extents(500, 1, false), extents(90_000, 1, true)}},
		{readers[0], readers[0], nil},
	} {
		var got []holdfast.Extent
		for e, err := range row.disk.Changes(t.Context(), row.since) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%v, want %v", got, row.want)
		}
	}
	const height = 8 // at fan-out 8: 2^24 chunks
	t.Logf("%d reads of tree packs", counted.reads["tree"])
	if counted.reads["tree"] > 2*2*height*3 { // two maps, a header and a node each, three places
		t.Errorf("%d reads of tree packs", counted.reads["tree"])
	}
}

// A backup that merges the runs which a rebuild is about to replace does not make the rebuild fail: what both say is said twice.
func TestRebuildIndex_BesideBackup(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(40 * chunkSize)
	write := func(n int) {
		d.Write(n*chunkSize, []byte(fmt.Sprint("chunk ", n)))
		mustBackup(t, r, fmt.Sprint("vm-", n), d, nil)
	}
	for n := range 3 {
		write(n)
	}
	before := repo.LiveRuns(r)
	other, merged := repotest.Open(t, store), false
	_, err := other.RebuildIndex(t.Context(), func(int, int) {
		if !merged {
			merged = true
			write(3)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	after := repo.LiveRuns(r)
	if slices.ContainsFunc(before, func(name string) bool { return slices.Contains(after, name) }) {
		t.Fatalf("the backup merged nothing: this proves nothing (%v, %v)", before, after)
	}
	handle := repotest.Open(t, store)
	if runs := repo.LiveRuns(handle); len(runs) != 2 {
		t.Errorf("%d runs, want that of the rebuild and that of the backup", len(runs))
	}
	added := handle.BytesAdded()
	mustBackup(t, handle, "clone", d, nil)
	if added = handle.BytesAdded() - added; added > 20<<10 {
		t.Errorf("%d bytes were added: what is stored is not found", added)
	}
}
