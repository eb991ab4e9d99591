package vdisk_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// scatter writes n single sectors all over the volume.
func scatter(b *testing.B, store *vdisk.Store, id vdisk.ID, size, n int64) {
	b.Helper()
	step := size / n / vdisk.SectorBytes * vdisk.SectorBytes
	sector := make([]byte, vdisk.SectorBytes)
	for i := range n {
		write(b, store, id, i*step, sector)
	}
}

// BenchmarkDiff lists 1,000 changes of a 32 TiB volume.
func BenchmarkDiff(b *testing.B) {
	store := openStore(b, b.TempDir())
	id := create(b, store, 32*tib)
	scatter(b, store, id, tib, 20_000)
	older := snapshot(b, store, id)
	scatter(b, store, id, 32*tib, 1000)
	newer := snapshot(b, store, id)
	for b.Loop() {
		found, err := collect(store.Diff(older, newer, holdfast.Extent{}))
		if err != nil || len(found) != 1000 {
			b.Fatal(len(found), err)
		}
	}
}

// BenchmarkSnapshot takes snapshots of a 32 TiB volume with 100,000 extents. The write after each, which makes the new
// layer's files, is not counted.
func BenchmarkSnapshot(b *testing.B) {
	store := openStore(b, b.TempDir())
	id := create(b, store, 32*tib)
	scatter(b, store, id, tib, 100_000)
	for b.Loop() {
		snapshot(b, store, id)
		b.StopTimer()
		write(b, store, id, 31*tib, make([]byte, vdisk.SectorBytes))
		b.StartTimer()
	}
}

// BenchmarkReadAt reads 4 MiB at a time.
func BenchmarkReadAt(b *testing.B) {
	store := openStore(b, b.TempDir())
	id := create(b, store, tib)
	p := make([]byte, 4*mib)
	for i := range p {
		p[i] = byte(i)
	}
	for off := int64(0); off < 64*mib; off += 4 * mib {
		write(b, store, id, off, p)
	}
	b.SetBytes(4 * mib)
	for off := int64(0); b.Loop(); off = (off + 4*mib) % (64 * mib) {
		if _, err := store.ReadAt(id, p, off); err != nil {
			b.Fatal(err)
		}
	}
}
