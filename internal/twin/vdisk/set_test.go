package vdisk_test

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// TestSnapshotSet_IsOneInstant proves that a set holds a state through which the disks really went: a guest writes a
// counter to its first disk, then to its second one, so that the first is never behind and never more than one ahead.
func TestSnapshotSet_IsOneInstant(t *testing.T) {
	store := openStore(t, t.TempDir())
	log, table := create(t, store, mib), create(t, store, mib)
	stop, ended := make(chan struct{}), sync.WaitGroup{}
	ended.Go(func() {
		for counter := uint64(1); ; counter++ {
			select {
			case <-stop:
				return
			default:
			}
			written := binary.BigEndian.AppendUint64(nil, counter)
			for _, disk := range []vdisk.ID{log, table} {
				if _, err := store.WriteAt(disk, written, 0); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	at := func(v vdisk.Volume) uint64 { return binary.BigEndian.Uint64(read(t, store, v.ID, 0, 8)) }
	last := uint64(0)
	for range 300 {
		set, err := store.SnapshotSet([]vdisk.ID{table, log}) // in another order than they are written and locked
		must(t, err)
		if set[0].Parent != table || set[1].Parent != log || !set[0].Frozen || !set[1].Frozen {
			t.Fatalf("%+v", set)
		}
		second, first := at(set[0]), at(set[1])
		if first < second || first > second+1 || second < last {
			t.Fatalf("the set holds %d on the first disk and %d on the second one, after %d: the guest never was there", first, second, last)
		}
		last = second
	}
	close(stop)
	ended.Wait()
	if last == 0 {
		t.Error("the guest did not write: nothing was proven")
	}
}

// TestSnapshotSet_IsAllOrNothing: one volume that cannot be frozen leaves the others as they are, and usable.
func TestSnapshotSet_IsAllOrNothing(t *testing.T) {
	store := openStore(t, t.TempDir())
	live := create(t, store, mib)
	frozen := snapshot(t, store, live)
	before := len(store.List())
	_, err := store.SnapshotSet([]vdisk.ID{live, frozen})
	wantError(t, err, vdisk.ErrFrozen)
	_, err = store.SnapshotSet([]vdisk.ID{live, "volume-nowhere"})
	wantError(t, err, vdisk.ErrNotFound)
	if _, err = store.SnapshotSet([]vdisk.ID{live, live}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("%v", err)
	}
	if after := len(store.List()); after != before {
		t.Errorf("%d volumes, before %d", after, before)
	}
	write(t, store, live, 0, []byte("x")) // nothing is locked any more
}
