package shadow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
)

// begins is a judge of log entries for tests: entry n begins with its number.
func begins(stored []byte, n uint64) error {
	if !bytes.HasPrefix(stored, fmt.Appendf(nil, "entry %d ", n)) {
		return errors.New("no entry")
	}
	return nil
}

// newStore returns a store in memory and what sees through it, surveyed.
func newStore(t *testing.T) (*mem.Store, *shadow.Store) {
	t.Helper()
	below := mem.New(clock.NewManual(time.Unix(1_800_000_000, 0)))
	return below, surveyed(t, below)
}

func surveyed(t *testing.T, below blob.Store) *shadow.Store {
	t.Helper()
	s := shadow.New(below, begins)
	if s == nil {
		t.Fatal("a store with versions is not seen through")
	}
	if err := s.Survey(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s blob.Store, name string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, data, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func named(kind layout.Kind, data []byte) string { return layout.Name(kind, layout.Sum(data)) }

func mustRead(t *testing.T, s blob.Reader, name string, want []byte) {
	t.Helper()
	got, err := blob.ReadAll(t.Context(), s, name, 1<<30)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s reads %.40q (%d bytes), %v", name, got, len(got), err)
	}
	info, err := s.Stat(t.Context(), name)
	if err != nil || info.Size != int64(len(want)) || info.Name != name {
		t.Errorf("%s: %+v, %v", name, info, err)
	}
}

// What is named by its hash is found under whatever was put over it, small or large, by a reader that was there before as
// well as by a later one; and it is told that this is so.
func TestStore_NamedByHash(t *testing.T) {
	large := bytes.Repeat([]byte("a large object. "), 100_000)
	for what, attack := range map[string]func(a mem.Adversary, name string){
		"overwritten":           func(a mem.Adversary, name string) { a.Overwrite(name, []byte("garbage")) },
		"overwritten twice":     func(a mem.Adversary, name string) { a.Overwrite(name, nil); a.Overwrite(name, large[1:]) },
		"deleted":               func(a mem.Adversary, name string) { a.Delete(name) },
		"overwritten, deleted":  func(a mem.Adversary, name string) { a.Overwrite(name, []byte("garbage")); a.Delete(name) },
		"beginning kept, large": func(a mem.Adversary, name string) { a.Overwrite(name, append(bytes.Clone(large[:1<<20]), 'x')) },
	} {
		t.Run(what, func(t *testing.T) {
			below, before := newStore(t)
			small, medium := []byte("small"), bytes.Repeat([]byte("m"), 40<<10)
			names := map[string][]byte{named(layout.Manifest, small): small, named(layout.List, medium): medium, named(layout.DataPack, large): large}
			for name, data := range names {
				put(t, before, name, data)
				attack(below.Adversary(), name)
			}
			after := surveyed(t, below)
			for name, data := range names {
				mustRead(t, after, name, data)
				part := make([]byte, 3)
				if n, err := after.Read(t.Context(), name, 2, part); err != nil || !bytes.Equal(part[:n], data[2:5]) {
					t.Errorf("a part of %s reads %q, %v", name, part[:n], err)
				}
				if _, err := before.Doubt(t.Context(), name); err != nil {
					t.Error(err)
				}
				mustRead(t, before, name, data)
			}
			if got := after.Shadowed(); len(got) != len(names) || !slices.IsSorted(got) {
				t.Errorf("shadowed: %v", got)
			}
		})
	}
}

// A whole object that does not prove itself is doubted without being told to; a part is not, until somebody tells.
func TestStore_DoubtsWholeObjects(t *testing.T) {
	below, s := newStore(t)
	data := []byte("an object of some length")
	whole, part := named(layout.List, data), named(layout.Manifest, data)
	put(t, s, whole, data)
	put(t, s, part, data)
	below.Adversary().Overwrite(whole, []byte("garbage"))
	below.Adversary().Overwrite(part, []byte("garbage that is as long"))
	mustRead(t, s, whole, data)
	p := make([]byte, 4)
	if _, err := s.Read(t.Context(), part, 0, p); err != nil || string(p) != "garb" {
		t.Errorf("a part reads %q, %v", p, err)
	}
	if another, err := s.Doubt(t.Context(), part); err != nil || !another {
		t.Errorf("doubt: %t, %v", another, err)
	}
	mustRead(t, s, part, data)
	if another, err := s.Doubt(t.Context(), part); err != nil || another {
		t.Errorf("doubt again: %t, %v", another, err)
	}
}

// An object that no version proves stays what it is: damage is for the caller to find, and is not looked for again and again.
func TestStore_NothingProves(t *testing.T) {
	below, _ := newStore(t)
	data := []byte("an object")
	name := named(layout.DataPack, data)
	put(t, below, name, data)
	below.Adversary().Damage(name, func(data []byte) []byte { data[0] ^= 1; return data })
	below.Adversary().Overwrite(name, []byte("garbage"))
	counter := &wrap.Counter{}
	s := surveyed(t, wrap.Count(below, counter))
	for range 5 {
		got, err := blob.ReadAll(t.Context(), s, name, 100)
		if err != nil || string(got) != "garbage" {
			t.Errorf("reads %q, %v", got, err)
		}
	}
	if n := counter.Calls()[wrap.OpReadVersion]; n != 2 {
		t.Errorf("versions were read %d times, there are 2", n)
	}
	if len(s.Shadowed()) != 0 {
		t.Errorf("shadowed: %v", s.Shadowed())
	}
	if _, err := s.Stat(t.Context(), named(layout.DataPack, nil)); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("an object that never was: %v", err)
	}
}

// Of several versions of an entry that prove themselves the oldest counts, in a survey and for entries that came after it.
func TestStore_OldestEntryCounts(t *testing.T) {
	below, s := newStore(t)
	for n := range uint64(3) {
		put(t, s, layout.EntryName(n), fmt.Appendf(nil, "entry %d of ours", n))
	}
	adversary := below.Adversary()
	adversary.Overwrite(layout.EntryName(0), []byte("entry 0 of a stranger"))
	adversary.Delete(layout.EntryName(1))
	adversary.Overwrite(layout.EntryName(2), []byte("garbage"))
	adversary.Overwrite(layout.EntryName(3), []byte("garbage beyond the end"))
	for who, reader := range map[string]*shadow.Store{"later": surveyed(t, below), "from before": s} {
		if err := reader.Survey(t.Context(), layout.LogPrefix); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(3) {
			mustRead(t, reader, layout.EntryName(n), fmt.Appendf(nil, "entry %d of ours", n))
		}
		if got, err := blob.ReadAll(t.Context(), reader, layout.EntryName(3), 100); err != nil || string(got) != "garbage beyond the end" {
			t.Errorf("%s: what a stranger added reads %q, %v", who, got, err)
		}
	}
}

// Two writers and somebody who deletes between them: the entry of the first one counts, and the second one hears that the
// number is taken. (Without that the first publication would be gone after it was told to be durable.)
func TestStore_EntryDeletedBetweenTwoWriters(t *testing.T) {
	below, first := newStore(t)
	put(t, first, layout.EntryName(0), []byte("entry 0 x"))
	second, reader := surveyed(t, below), surveyed(t, below)
	if _, err := second.Stat(t.Context(), layout.EntryName(1)); !errors.Is(err, blob.ErrNotFound) {
		t.Fatal(err)
	}
	put(t, first, layout.EntryName(1), []byte("entry 1 of the first"))
	below.Adversary().Delete(layout.EntryName(1))
	if err := second.Put(t.Context(), layout.EntryName(1), []byte("entry 1 of the second"), blob.PutOptions{}); !errors.Is(err, blob.ErrExists) {
		t.Errorf("second put: %v", err)
	}
	for _, s := range []*shadow.Store{first, second, reader, surveyed(t, below)} {
		mustRead(t, s, layout.EntryName(1), []byte("entry 1 of the first"))
	}
}

// A put that finds its name taken is told apart: by its own bytes, also under a shadow, or by a stranger's.
func TestStore_PutUnderATakenName(t *testing.T) {
	below, s := newStore(t)
	data := []byte("what we write")
	name := named(layout.State, data)
	below.Adversary().Overwrite(name, []byte("a stranger was faster"))
	if err := s.Put(t.Context(), name, data, blob.PutOptions{}); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("put over a stranger's bytes: %v", err)
	}
	ours := named(layout.List, data)
	put(t, s, ours, data)
	for range 2 {
		if err := s.Put(t.Context(), ours, data, blob.PutOptions{}); !errors.Is(err, blob.ErrExists) {
			t.Errorf("put of what is there: %v", err)
		}
		below.Adversary().Overwrite(ours, []byte("garbage"))
	}
}

// The lock that counts is the longest one of a version that proves itself, whatever lies on top and however long that is locked.
func TestStore_Longest(t *testing.T) {
	below, s := newStore(t)
	data := []byte("a pack")
	name := named(layout.DataPack, data)
	until := time.Unix(1_900_000_000, 0)
	if err := below.Put(t.Context(), name, data, blob.PutOptions{LockUntil: until}); err != nil {
		t.Fatal(err)
	}
	longest := func() (blob.Version, bool) {
		versions, err := s.VersionsOf(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		v, ok, err := s.Longest(t.Context(), versions)
		if err != nil {
			t.Fatal(err)
		}
		return v, ok
	}
	ours, ok := longest()
	if !ok || !ours.LockedUntil.Equal(until) || !ours.Current {
		t.Errorf("alone: %+v, %t", ours, ok)
	}
	below.Adversary().Overwrite(name, []byte("garbage"))
	if err := below.Extend(t.Context(), name, until.AddDate(100, 0, 0)); err != nil {
		t.Fatal(err)
	}
	below.Adversary().Overwrite(name, data) // a copy without a lock
	if v, ok := longest(); !ok || v.ID != ours.ID {
		t.Errorf("under garbage: %+v, %t", v, ok)
	}
	if _, ok, err := s.Longest(t.Context(), nil); ok || err != nil {
		t.Errorf("of nothing: %t, %v", ok, err)
	}
}

// List shows a shadowed object as it is answered, and passes errors on.
func TestStore_List(t *testing.T) {
	below, s := newStore(t)
	data := []byte("some bytes")
	name := named(layout.List, data)
	put(t, s, name, data)
	below.Adversary().Overwrite(name, nil)
	s = surveyed(t, below)
	for info, err := range s.List(t.Context(), "") {
		if err != nil || info.Size != int64(len(data)) {
			t.Errorf("%+v, %v", info, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.List(ctx, "") {
		if err == nil {
			t.Error("a list that was cancelled goes on")
		}
	}
	if err := s.Survey(ctx, ""); err == nil {
		t.Error("a survey that was cancelled succeeds")
	}
}

// A store without versions is left alone, and what sees through is not wrapped twice.
func TestNew(t *testing.T) {
	below, s := newStore(t)
	if shadow.New(s, begins) != s {
		t.Error("wrapped twice")
	}
	if shadow.New(struct{ blob.Store }{below}, begins) != nil {
		t.Error("a store without versions is seen through")
	}
}
