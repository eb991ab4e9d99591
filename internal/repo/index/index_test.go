package index_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

type fixture struct {
	id    keys.RepositoryID
	ring  *keys.Ring
	codec *seal.Codec
	store *mem.Store
}

func newFixture() fixture {
	id := keys.NewRepositoryID()
	return fixture{id, keys.NewRing(id), seal.NewCodec(1), mem.New(clock.System{})}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func randomID(r *rand.Rand) (id chunk.ID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

func packName(n byte) string {
	if n%2 == 0 {
		return layout.Name(layout.DataPack, layout.Hash{n})
	}
	return layout.Name(layout.TreePack, layout.Hash{n})
}

// random returns contents of n entries in a few packs.
func random(r *rand.Rand, n int) index.Contents {
	var c index.Contents
	for i := range 5 {
		c.Packs = append(c.Packs, packName(byte(10*r.IntN(5)+i)))
	}
	for range n {
		c.Entries = append(c.Entries, index.Entry{ID: randomID(r), Pack: uint32(r.IntN(5)), Offset: r.Uint32(), Stored: r.Uint32(), Slot: uint16(r.Uint32())})
	}
	return c
}

func (f fixture) write(t testing.TB, c index.Contents) string {
	t.Helper()
	data, err := index.Encode(c, seal.NewHeader(seal.KindIndex, f.ring, f.id, holdfast.SessionID{}), f.ring, f.codec)
	if err != nil {
		t.Fatal(err)
	}
	name := layout.Name(layout.IndexRun, layout.Sum(data))
	if err := f.store.Put(t.Context(), name, data, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

func (f fixture) open(t testing.TB, c index.Contents) *index.Run {
	t.Helper()
	run, err := index.Open(t.Context(), f.store, f.write(t, c), f.ring, f.codec, index.NewBlocks(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// Every entry is found where it was said to lie, nothing else is, and the whole comes back in order; at sizes around blocks.
func TestRun_Lookup(t *testing.T) {
	for _, n := range []int{0, 1, 2, 1023, 1024, 1025, 5000} {
		r, f := newRand(uint64(n)), newFixture()
		c := random(r, n)
		given := index.Contents{Packs: slices.Clone(c.Packs), Entries: slices.Clone(c.Entries)}
		run := f.open(t, c)
		if run.Len() != n {
			t.Errorf("%d entries, want %d", run.Len(), n)
		}
		for _, e := range given.Entries {
			place, err := run.Lookup(t.Context(), e.ID)
			if err != nil || place == nil || place.Pack.Name() != given.Packs[e.Pack] || place.Offset != int64(e.Offset) || place.Stored != int(e.Stored) || place.Slot != int(e.Slot) {
				t.Fatalf("%d entries: %+v found at %+v, %v", n, e, place, err)
			}
		}
		for range 2000 {
			if place, err := run.Lookup(t.Context(), randomID(r)); place != nil || err != nil {
				t.Fatalf("a stranger found at %+v, %v", place, err)
			}
		}
		for _, id := range []chunk.ID{{}, chunk.ID(bytes.Repeat([]byte{255}, 32))} {
			if place, err := run.Lookup(t.Context(), id); place != nil || err != nil {
				t.Fatalf("the end of the range found at %+v, %v", place, err)
			}
		}
		whole, err := run.Contents(t.Context())
		if err != nil || len(whole.Entries) != n || !slices.IsSortedFunc(whole.Entries, func(a, b index.Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) }) {
			t.Errorf("contents of %d entries: %d, %v", n, len(whole.Entries), err)
		}
	}
}

// The filter spares the read of a block for nearly all strangers (1 in 120 by theory, at 10 bits and 7 hashes), and an entry
// costs less than 100 bytes.
func TestRun_FilterAndSize(t *testing.T) {
	r, f := newRand(3), newFixture()
	const entries, strangers = 50_000, 20_000
	c := random(r, entries)
	name := f.write(t, c)
	info, err := f.store.Stat(t.Context(), name)
	if err != nil || info.Size > entries*100 {
		t.Errorf("%d bytes for %d entries, %v", info.Size, entries, err)
	}
	reads := &countReads{Store: f.store}
	run, err := index.Open(t.Context(), reads, name, f.ring, f.codec, index.NewBlocks(1)) // keeps one block
	if err != nil {
		t.Fatal(err)
	}
	reads.n = 0
	for range strangers {
		if _, err := run.Lookup(t.Context(), randomID(r)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d strangers passed the filter; %.1f bytes an entry", reads.n, strangers, float64(info.Size)/entries)
	if reads.n > strangers/80 {
		t.Errorf("%d of %d strangers passed the filter", reads.n, strangers)
	}
}

// Merging gives the union, the first place given winning, whatever the order of the parts; Without takes packs out.
func TestMergeAndWithout(t *testing.T) {
	r := newRand(4)
	a, b, c := random(r, 300), random(r, 200), random(r, 100)
	copy(b.Entries, slices.Clone(a.Entries[:50])) // the same ids, perhaps elsewhere
	for i := range 50 {
		b.Entries[i].Pack, b.Entries[i].Offset = uint32(r.IntN(5)), r.Uint32()
	}
	merged := index.Merge(a, b, c)
	if len(merged.Entries) != 550 {
		t.Errorf("%d entries", len(merged.Entries))
	}
	where := places(merged)
	for _, e := range a.Entries {
		if where[e.ID] != fmt.Sprint(a.Packs[e.Pack], e.Offset, e.Stored, e.Slot) {
			t.Fatalf("the first place did not win: %s", where[e.ID])
		}
	}
	for _, part := range []index.Contents{b, c} {
		for _, e := range part.Entries {
			if where[e.ID] == "" {
				t.Fatal("an entry is lost")
			}
		}
	}
	if other := index.Merge(c, index.Merge(b, a)); len(other.Entries) != 550 {
		t.Errorf("in another order %d entries", len(other.Entries))
	}
	gone := map[string]bool{a.Packs[0]: true, a.Packs[3]: true}
	kept := merged.Without(gone)
	for _, name := range kept.Packs {
		if gone[name] {
			t.Errorf("%s is still named", name)
		}
	}
	want := 0
	for _, e := range merged.Entries {
		if !gone[merged.Packs[e.Pack]] {
			want++
		}
	}
	now := places(kept)
	if len(now) != want {
		t.Errorf("%d entries are left, want %d", len(now), want)
	}
	for id, place := range now {
		if place != where[id] {
			t.Errorf("%s moved from %s to %s", id, where[id], place)
		}
	}
	if same := merged.Without(nil); len(same.Entries) != 550 {
		t.Error("taking nothing out takes something out")
	}
}

func places(c index.Contents) map[chunk.ID]string {
	m := map[chunk.ID]string{}
	for _, e := range c.Entries {
		m[e.ID] = fmt.Sprint(c.Packs[e.Pack], e.Offset, e.Stored, e.Slot)
	}
	return m
}

// Equal contents make runs that answer alike, in whatever order their entries and packs came.
func TestEncode_OrderDoesNotMatter(t *testing.T) {
	r, f := newRand(5), newFixture()
	c := random(r, 3000)
	shuffled := index.Merge(index.Contents{}, c)
	r.Shuffle(len(shuffled.Entries), func(i, j int) {
		shuffled.Entries[i], shuffled.Entries[j] = shuffled.Entries[j], shuffled.Entries[i]
	})
	a, err := f.open(t, c).Contents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.open(t, shuffled).Contents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	where := places(a)
	for id, place := range places(b) {
		if where[id] != place {
			t.Fatalf("%s at %s and %s", id, where[id], place)
		}
	}
}

// A run of which a block is damaged says so for ids of that block, and a run cut short does not open.
func TestRun_Damage(t *testing.T) {
	r, f := newRand(6), newFixture()
	c := random(r, 3000)
	name := f.write(t, c)
	f.store.Adversary().Damage(name, func(data []byte) []byte { data[100] ^= 1; return data }) // in the first block
	run, err := index.Open(t.Context(), f.store, name, f.ring, f.codec, index.NewBlocks(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for _, e := range c.Entries {
		_, err := run.Lookup(t.Context(), e.ID)
		if err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Fatal(err)
		}
		if err != nil {
			damaged++
		}
	}
	if damaged != 1024 {
		t.Errorf("%d entries cannot be read, want the 1024 of one block", damaged)
	}
	if _, err := run.Contents(t.Context()); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("contents of a damaged run: %v", err)
	}
	f.store.Adversary().Damage(name, func(data []byte) []byte { return data[:len(data)-1] })
	if _, err := index.Open(t.Context(), f.store, name, f.ring, f.codec, index.NewBlocks(1<<20)); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a run cut short: %v", err)
	}
	f.store.Adversary().Erase(name)
	if _, err := index.Open(t.Context(), f.store, name, f.ring, f.codec, index.NewBlocks(1<<20)); err == nil {
		t.Error("a run that is gone opens")
	}
}
