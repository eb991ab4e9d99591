package vdisk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	tib = int64(1) << 40
)

func openStore(t testing.TB, dir string) *vdisk.Store {
	t.Helper()
	store, err := vdisk.Open(dir)
	must(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func create(t testing.TB, store *vdisk.Store, size int64) vdisk.ID {
	t.Helper()
	v, err := store.Create(size)
	must(t, err)
	return v.ID
}

func write(t testing.TB, store *vdisk.Store, id vdisk.ID, off int64, data []byte) {
	t.Helper()
	_, err := store.WriteAt(id, data, off)
	must(t, err)
}

func snapshot(t testing.TB, store *vdisk.Store, id vdisk.ID) vdisk.ID {
	t.Helper()
	v, err := store.Snapshot(id)
	must(t, err)
	return v.ID
}

func read(t testing.TB, store *vdisk.Store, id vdisk.ID, off int64, length int) []byte {
	t.Helper()
	p := make([]byte, length)
	_, err := store.ReadAt(id, p, off)
	must(t, err)
	return p
}

// TestStore_64TiB_ReadsAndDiffersAtItsEnds proves 64-bit arithmetic, and writes that cross the border of two data files.
func TestStore_64TiB_ReadsAndDiffersAtItsEnds(t *testing.T) {
	store := openStore(t, t.TempDir())
	id := create(t, store, vdisk.SizeMax)
	data := bytes.Repeat([]byte("holdfast"), 1024)
	length := int64(len(data))
	offsets := []int64{0, tib - length/2, 17*tib - 512, vdisk.SizeMax - length}

	before := snapshot(t, store, id)
	var want []holdfast.Extent
	for _, off := range offsets {
		write(t, store, id, off, data)
		want = append(want, holdfast.Extent{Offset: off, Length: length})
	}
	must(t, store.Zero(id, 20*tib, 30*tib))
	after := snapshot(t, store, id)

	for _, off := range offsets {
		if !bytes.Equal(read(t, store, after, off, len(data)), data) {
			t.Errorf("at %d other bytes came back", off)
		}
	}
	allocated, err := collect(store.Allocated(after, holdfast.Extent{}))
	must(t, err)
	wantExtents(t, allocated, want)
	diff, err := collect(store.Diff(before, after, holdfast.Extent{}))
	must(t, err)
	wantExtents(t, diff, []holdfast.Extent{want[0], want[1], want[2], {Offset: 20 * tib, Length: 30 * tib, Zero: true}, want[3]})
}

// TestStore_ReadAt_AtTheEnd_IsAnIoReaderAt proves the io.ReaderAt rules at the end of a volume.
func TestStore_ReadAt_AtTheEnd_IsAnIoReaderAt(t *testing.T) {
	store := openStore(t, t.TempDir())
	id := create(t, store, 4*kib)
	p := make([]byte, 1024)
	for _, row := range []struct {
		off  int64
		n    int
		want error
	}{{0, 1024, nil}, {3 * kib, 1024, nil}, {3*kib + 1, 1023, io.EOF}, {4 * kib, 0, io.EOF}, {9 * kib, 0, io.EOF}, {-1, 0, vdisk.ErrRange}} {
		n, err := store.ReadAt(id, p, row.off)
		if n != row.n || !errors.Is(err, row.want) {
			t.Errorf("ReadAt %d: %d, %v; want %d, %v", row.off, n, err, row.n, row.want)
		}
	}
}

// TestStore_WrongUse_IsRefused proves every refusal that the package documents, and its kind.
func TestStore_WrongUse_IsRefused(t *testing.T) {
	store := openStore(t, t.TempDir())
	live := create(t, store, 4*kib)
	frozen := snapshot(t, store, live)
	second := func(_ any, err error) error { return err }

	for name, row := range map[string]struct{ err, want error }{
		"create 0":         {second(store.Create(0)), vdisk.ErrSize},
		"create odd":       {second(store.Create(1000)), vdisk.ErrSize},
		"create huge":      {second(store.Create(vdisk.SizeMax + 512)), vdisk.ErrSize},
		"write frozen":     {second(store.WriteAt(frozen, []byte{1}, 0)), vdisk.ErrFrozen},
		"zero frozen":      {store.Zero(frozen, 0, 512), vdisk.ErrFrozen},
		"import frozen":    {store.Import(frozen, bytes.NewReader([]byte{1})), vdisk.ErrFrozen},
		"resize frozen":    {store.Resize(frozen, 8*kib), vdisk.ErrFrozen},
		"snapshot frozen":  {second(store.Snapshot(frozen)), vdisk.ErrFrozen},
		"clone live":       {second(store.Clone(live, 4*kib)), vdisk.ErrLive},
		"clone smaller":    {second(store.Clone(frozen, 2*kib)), vdisk.ErrSize},
		"shrink":           {store.Resize(live, 2*kib), vdisk.ErrSize},
		"write outside":    {second(store.WriteAt(live, make([]byte, 2), 4*kib-1)), vdisk.ErrRange},
		"write before":     {second(store.WriteAt(live, make([]byte, 2), -1)), vdisk.ErrRange},
		"zero outside":     {store.Zero(live, 0, 4*kib+1), vdisk.ErrRange},
		"import too long":  {store.Import(live, bytes.NewReader(make([]byte, 4*kib+1))), vdisk.ErrRange},
		"read unknown":     {second(store.ReadAt("volume-x", []byte{1}, 0)), vdisk.ErrNotFound},
		"delete unknown":   {store.Delete("volume-x"), vdisk.ErrNotFound},
		"snapshot unknown": {second(store.Snapshot("volume-x")), vdisk.ErrNotFound},
		"list unknown":     {second(collect(store.Allocated("volume-x", holdfast.Extent{}))), vdisk.ErrNotFound},
	} {
		if !errors.Is(row.err, row.want) || holdfast.KindOf(row.err) != holdfast.KindOf(row.want) {
			t.Errorf("%s: %v, want %v", name, row.err, row.want)
		}
	}

	must(t, store.Close())
	if _, err := store.ReadAt(live, make([]byte, 1), 0); !errors.Is(err, vdisk.ErrClosed) {
		t.Errorf("read of a closed store: %v", err)
	}
}

// TestStore_SecondOpen_IsRefused proves that two processes cannot write the same store.
func TestStore_SecondOpen_IsRefused(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir)
	if _, err := vdisk.Open(dir); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Fatalf("second Open: %v", err)
	}
	must(t, store.Close())
	openStore(t, dir)
}

// TestStore_IDs_AreNotReused proves that a deleted volume's ID stays free, across restarts and catalogue compaction.
func TestStore_IDs_AreNotReused(t *testing.T) {
	dir := t.TempDir()
	seen := map[vdisk.ID]bool{}
	for range 3 {
		store := openStore(t, dir)
		for range 200 {
			id := create(t, store, 512)
			if seen[id] {
				t.Fatalf("%s was given twice", id)
			}
			seen[id] = true
			must(t, store.Delete(id))
		}
		must(t, store.Close())
	}
	openStore(t, dir)
	info, err := os.Stat(filepath.Join(dir, "catalogue"))
	must(t, err)
	if info.Size() > 64*kib {
		t.Errorf("the catalogue of an empty store has %d bytes after Open: not compacted", info.Size())
	}
}

// allocatedBytes returns the disk space of a folder.
func allocatedBytes(t testing.TB, dir string) int64 {
	t.Helper()
	var sum int64
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	}))
	return sum
}

// TestStore_FreedContent_GivesSpaceBack proves that clearing and deleting free files, and that a snapshot keeps its bytes.
func TestStore_FreedContent_GivesSpaceBack(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir)
	id := create(t, store, tib)
	data := bytes.Repeat([]byte{7}, int(4*mib))
	write(t, store, id, 0, data)
	if held := allocatedBytes(t, dir); held < 4*mib {
		t.Fatalf("%d bytes held after writing 4 MiB", held)
	}
	must(t, store.Zero(id, 0, 3*mib))
	if held := allocatedBytes(t, dir); held > mib+256*kib {
		t.Errorf("%d bytes held after clearing 3 of 4 MiB", held)
	}

	frozen := snapshot(t, store, id)
	must(t, store.Zero(id, 0, tib))
	if !bytes.Equal(read(t, store, frozen, 3*mib, int(mib)), data[:mib]) {
		t.Error("clearing the live volume changed its snapshot")
	}
	must(t, store.Delete(id))
	if !bytes.Equal(read(t, store, frozen, 3*mib, int(mib)), data[:mib]) {
		t.Error("deleting the live volume changed its snapshot")
	}
	must(t, store.Delete(frozen))
	if held := allocatedBytes(t, dir); held > 64*kib {
		t.Errorf("%d bytes held after the last volume was deleted", held)
	}
}

// TestStore_RotatedSnapshots_HoldNoOldBytes proves that a disk with one base snapshot, renewed again and again as a backup
// does it, takes the space of its content and not of its history.
func TestStore_RotatedSnapshots_HoldNoOldBytes(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir)
	id := create(t, store, tib)
	write(t, store, id, 0, bytes.Repeat([]byte{255}, int(4*mib)))
	base := snapshot(t, store, id)
	for round := range byte(20) {
		write(t, store, id, mib, bytes.Repeat([]byte{round}, int(mib)))
		next := snapshot(t, store, id)
		must(t, store.Delete(base))
		base = next
		content := read(t, store, base, 0, int(3*mib))
		if content[0] != 255 || content[mib] != round || content[2*mib-1] != round || content[2*mib] != 255 {
			t.Fatalf("round %d: the base lost bytes", round)
		}
	}
	if held := allocatedBytes(t, dir); held > 5*mib {
		t.Errorf("%d bytes held for 4 MiB of content", held)
	}
}

// TestStore_DeletedSnapshot_LeavesItsNeighboursAlone proves that freeing what a snapshot held takes nothing from the one
// before it, the one after it, or a clone of it.
func TestStore_DeletedSnapshot_LeavesItsNeighboursAlone(t *testing.T) {
	for _, cloned := range []bool{false, true} {
		store := openStore(t, t.TempDir())
		id := create(t, store, mib)
		var frozen []vdisk.ID
		for generation := range byte(4) {
			write(t, store, id, 0, bytes.Repeat([]byte{generation + 1}, int(64*kib)))
			frozen = append(frozen, snapshot(t, store, id))
		}
		want := map[vdisk.ID]byte{frozen[0]: 1, frozen[3]: 4, id: 4}
		if cloned {
			clone, err := store.Clone(frozen[1], mib)
			must(t, err)
			want[clone.ID], want[snapshot(t, store, clone.ID)] = 2, 2
		}
		must(t, store.Delete(frozen[2]))
		must(t, store.Delete(frozen[1]))
		for volume, value := range want {
			if content := read(t, store, volume, 0, int(64*kib)); !bytes.Equal(content, bytes.Repeat([]byte{value}, int(64*kib))) {
				t.Errorf("cloned %v: %s lost bytes", cloned, volume)
			}
		}
	}
}

// TestStore_Import_LeavesZeroBlocksOut proves that a sparse image stays sparse and old content does not shine through.
func TestStore_Import_LeavesZeroBlocksOut(t *testing.T) {
	store := openStore(t, t.TempDir())
	id := create(t, store, 8*mib)
	write(t, store, id, 2*mib, bytes.Repeat([]byte{1}, int(8*kib)))
	image := make([]byte, 4*mib+1000)
	image[5*kib], image[3*mib-1], image[len(image)-1] = 1, 2, 3
	must(t, store.Import(id, bytes.NewReader(image)))

	if !bytes.Equal(read(t, store, id, 0, len(image)), image) {
		t.Error("other bytes than the image's")
	}
	got, err := collect(store.Allocated(id, holdfast.Extent{}))
	must(t, err)
	wantExtents(t, got, []holdfast.Extent{
		{Offset: 4 * kib, Length: 4 * kib}, {Offset: 3*mib - 4*kib, Length: 4 * kib}, {Offset: 4 * mib, Length: 1024},
	})

	broken := io.MultiReader(bytes.NewReader(image), failing{})
	if err := store.Import(id, broken); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Errorf("import of an unreadable image: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is broken") }

// TestStore_SnapshotAmongWriters_IsAtomic proves that a snapshot holds each concurrent write wholly or not at all, and
// never changes afterwards. Run it under -race.
func TestStore_SnapshotAmongWriters_IsAtomic(t *testing.T) {
	const blockBytes, blocks, rounds, snapshots = 64 << 10, 8, 150, 20
	store := openStore(t, t.TempDir())
	id := create(t, store, blockBytes*blocks)

	var writers sync.WaitGroup
	for b := range blocks {
		writers.Go(func() {
			for round := range rounds {
				block := bytes.Repeat(binary.LittleEndian.AppendUint64(nil, uint64(round+1)), blockBytes/8)
				if _, err := store.WriteAt(id, block, int64(b*blockBytes)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range snapshots {
		frozen := snapshot(t, store, id)
		first := read(t, store, frozen, 0, blockBytes*blocks)
		for b := range blocks {
			block := first[b*blockBytes : (b+1)*blockBytes]
			if !bytes.Equal(block, bytes.Repeat(block[:8], blockBytes/8)) {
				t.Errorf("block %d of %s was torn", b, frozen)
			}
		}
		for range store.Allocated(id, holdfast.Extent{}) { // a listing of the live volume beside the writers
		}
		if !bytes.Equal(first, read(t, store, frozen, 0, blockBytes*blocks)) {
			t.Errorf("%s changed", frozen)
		}
		must(t, store.Delete(frozen))
	}
	writers.Wait()
}

// TestStore_ManyMapsAndFiles_StaysWithinCaches proves that content is right when files and maps are dropped and taken
// again: more layers than files may be open.
func TestStore_ManyMapsAndFiles_StaysWithinCaches(t *testing.T) {
	const generations = 450
	dir := t.TempDir()
	store := openStore(t, dir)
	id := create(t, store, generations*512)
	var frozen []vdisk.ID
	for g := range int64(generations) {
		write(t, store, id, g*512, bytes.Repeat([]byte{byte(g%255) + 1}, 512))
		frozen = append(frozen, snapshot(t, store, id))
	}
	must(t, store.Close())
	store = openStore(t, dir)

	for _, g := range rand.Perm(generations)[:40] {
		content := read(t, store, frozen[g], 0, generations*512)
		for sector := range generations {
			want := byte(0)
			if sector <= g {
				want = byte(sector%255) + 1
			}
			if content[sector*512] != want {
				t.Fatalf("snapshot %d, sector %d: %d, want %d", g, sector, content[sector*512], want)
			}
		}
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err == nil && len(entries) > 450 {
		t.Errorf("%d files are open", len(entries))
	}
}
