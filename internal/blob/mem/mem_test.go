package mem_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/blobtest"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// The memory store keeps every rule of the port, locks and versions included.
func TestStore_Conforms(t *testing.T) {
	manual := clock.NewManual(time.Unix(1_800_000_000, 0))
	store := mem.New(manual)
	blobtest.Test(t, store, blobtest.Options{
		Remover: store.Remover(), Locker: store, Versioned: store, Prefix: "check", Clock: manual,
		Wait: func(_ context.Context, d time.Duration) error { manual.Advance(d); return nil },
		Overwrite: func(_ context.Context, name string, data []byte) error {
			store.Adversary().Overwrite(name, data)
			return nil
		},
	}, "lock-refused")
	if names := store.Adversary().Names(); len(names) != 0 {
		t.Errorf("the suite leaves %d objects behind: %v", len(names), names)
	}
}

// What the adversary does shows in the store as it would on a versioned container, and a lock keeps the first version.
func TestAdversary(t *testing.T) {
	manual := clock.NewManual(time.Unix(1_800_000_000, 0))
	store, ctx := mem.New(manual), t.Context()
	adversary := store.Adversary()
	if err := store.Put(ctx, "a", []byte("first"), blob.PutOptions{LockUntil: manual.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	adversary.Overwrite("a", []byte("second"))
	if !adversary.Delete("a") || adversary.Delete("a") {
		t.Error("delete does not report whether there was a current version")
	}
	if _, err := store.Stat(ctx, "a"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("stat of a deleted object: %v", err)
	}
	if err := store.Remover().Remove(ctx, "a"); !errors.Is(err, blob.ErrLocked) {
		t.Errorf("remove while an older version is locked: %v", err)
	}
	var sizes []int64
	for v, err := range store.Versions(ctx, "a") {
		if err != nil || v.Current {
			t.Errorf("version %+v, %v", v, err)
		}
		sizes = append(sizes, v.Size)
	}
	if len(sizes) != 2 || sizes[0] != 6 || sizes[1] != 5 {
		t.Errorf("sizes of versions, newest first: %v", sizes)
	}
	if err := store.Put(ctx, "b", []byte("bytes"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	adversary.Damage("b", func(data []byte) []byte { data[0] ^= 1; return data })
	p := make([]byte, 5)
	if _, err := store.Read(ctx, "b", 0, p); err != nil || string(p) != "cytes" {
		t.Errorf("damaged object reads %q, %v", p, err)
	}
	adversary.Hide("b")
	for info := range store.List(ctx, "") {
		t.Errorf("list shows %q", info.Name)
	}
	adversary.Show("b")
	if !adversary.Erase("a") || !adversary.Erase("b") || adversary.Erase("b") {
		t.Error("erase does not report whether the object existed")
	}
}
