package index_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

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

// fixture is a store with what makes and reads runs in it. It counts what it is asked for.
type fixture struct {
	store  *mem.Store
	ring   *keys.Ring
	codec  *seal.Codec
	id     keys.RepositoryID
	limits index.Limits
	merger *index.Merger

	mu       sync.Mutex // guards the fields below
	reads    int
	written  int64
	borrowed int64 // bytes of buffers at the moment
	most     int64 // and at most
	noticed  []string
}

func newFixture(limits index.Limits) *fixture {
	id := keys.NewRepositoryID()
	f := &fixture{store: mem.New(clock.NewManual(time.Unix(0, 0))), ring: keys.NewRing(id), codec: seal.NewCodec(1, seal.CompressionDefault, 1<<20), id: id, limits: limits}
	f.merger = &index.Merger{Reader: f.reader(), Header: f.header, Put: f.put, Buffer: f.buffer}
	return f
}

func (f *fixture) header() seal.Header {
	return seal.NewHeader(seal.KindIndex, f.ring, f.id, holdfast.SessionID{})
}

func (f *fixture) put(ctx context.Context, data []byte) (string, error) {
	name := layout.Name(layout.IndexRun, layout.Sum(data))
	f.mu.Lock()
	f.written += int64(len(data))
	f.mu.Unlock()
	return name, f.store.Put(ctx, name, data, blob.PutOptions{})
}

func (f *fixture) buffer(size int) ([]byte, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.borrowed += int64(size)
	f.most = max(f.most, f.borrowed)
	return make([]byte, 0, size), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.borrowed -= int64(size)
	}
}

// reader returns a reader that has read nothing.
func (f *fixture) reader() *index.Reader {
	return index.NewReader(index.ReaderOptions{Store: counted{f.store, f}, Ring: f.ring, Codec: f.codec, Limits: f.limits, Notice: func(_ context.Context, name string, _ error) {
		f.noticed = append(f.noticed, name)
	}})
}

// counted counts reads.
type counted struct {
	*mem.Store
	f *fixture
}

func (c counted) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	c.f.mu.Lock()
	c.f.reads++
	c.f.mu.Unlock()
	return c.Store.Read(ctx, name, offset, p)
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func randomID(r *rand.Rand) (id chunk.ID) {
	for i := 0; i < len(id); i += 8 {
		binary.BigEndian.PutUint64(id[i:], r.Uint64())
	}
	return id
}

func packNumber(n int) index.Pack {
	p := index.Pack{Kind: seal.KindData}
	if n%3 == 0 {
		p.Kind = seal.KindTree
	}
	binary.BigEndian.PutUint64(p.Hash[:], uint64(n))
	return p
}

// random returns entries of new ids in packs of 5.
func random(r *rand.Rand, n int) []index.Entry {
	entries := make([]index.Entry, n)
	for i := range entries {
		entries[i] = index.Entry{ID: randomID(r), Pack: packNumber(r.IntN(5)), Offset: r.Uint32(), Stored: r.Uint32(), Slot: uint16(r.Uint32())}
	}
	return entries
}

// write makes one run of entries.
func (f *fixture) write(t testing.TB, entries []index.Entry) index.About {
	t.Helper()
	step := index.Step{Targets: []index.Target{{Room: max(len(entries), 1)}}}
	made, err := f.merger.Do(t.Context(), step, slices.Clone(entries))
	if err != nil || len(made) != 1 {
		t.Fatal(made, err)
	}
	return made[0]
}

func (f *fixture) open(t testing.TB, about index.About) *index.Run {
	t.Helper()
	run, err := f.reader().MustOpen(t.Context(), about)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func describe(p *chunk.Place) string {
	if p == nil {
		return "nowhere"
	}
	return fmt.Sprint(p.Pack.Name(), p.Offset, p.Stored, p.Slot)
}

func described(e index.Entry) string { return fmt.Sprint(e.Pack.Name(), e.Offset, e.Stored, e.Slot) }

// first returns the first place that an index knows.
func first(t testing.TB, x *index.Index, id chunk.ID) string {
	t.Helper()
	var found *chunk.Place
	err := x.Lookup(t.Context(), id, func(p *chunk.Place) bool {
		found = p
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return describe(found)
}

// Every entry is found where it was said to lie, nothing else is, and the whole comes back in order; at sizes around blocks, read at
// once or in parts, with its size known or not.
func TestRun_Lookup(t *testing.T) {
	for _, n := range []int{1, 2, 255, 256, 257, 512, 5000} {
		r, f := newRand(uint64(n)), newFixture(index.Limits{})
		entries := random(r, n)
		about := f.write(t, entries)
		if about.Entries != n || about.Bytes <= 0 || about.Bytes > int64(index.SizeMax(n)) {
			t.Errorf("%d entries: %+v", n, about)
		}
		for _, about := range []index.About{about, {Name: about.Name}} {
			run := f.open(t, about)
			if run.Len() != n || run.Check(t.Context()) != nil {
				t.Errorf("%d entries, want %d; %v", run.Len(), n, run.Check(t.Context()))
			}
			for _, e := range entries {
				place, err := run.Lookup(t.Context(), e.ID)
				if err != nil || describe(place) != described(e) {
					t.Fatalf("%d entries: %+v found at %+v, %v", n, e, place, err)
				}
			}
			strangers := []chunk.ID{{}, {0: 255, 31: 255}}
			for range 500 {
				strangers = append(strangers, randomID(r))
			}
			for _, id := range strangers {
				if place, err := run.Lookup(t.Context(), id); place != nil || err != nil {
					t.Fatalf("a stranger found at %+v, %v", place, err)
				}
			}
			var last chunk.ID
			seen := 0
			err := run.Entries(t.Context(), func(e index.Entry) error {
				if seen++; seen > 1 && slices.Compare(last[:], e.ID[:]) >= 0 {
					t.Fatal("out of order")
				}
				last = e.ID
				return nil
			})
			if err != nil || seen != n {
				t.Errorf("%d of %d entries, %v", seen, n, err)
			}
		}
	}
}

// Ids that begin with the same 8 bytes, by which blocks are found, are found on both sides of a cut.
func TestRun_IDsThatBeginAlike(t *testing.T) {
	f := newFixture(index.Limits{})
	entries := random(newRand(1), 700)
	for i := range entries[100:650] {
		entries[100+i].ID = chunk.ID{0: 77, 30: byte(i >> 8), 31: byte(i)}
	}
	run := f.open(t, f.write(t, entries))
	for _, e := range entries {
		if place, err := run.Lookup(t.Context(), e.ID); err != nil || describe(place) != described(e) {
			t.Fatalf("%s is at %s, %v", e.ID, describe(place), err)
		}
	}
	if place, err := run.Lookup(t.Context(), chunk.ID{0: 77, 29: 1}); place != nil || err != nil {
		t.Errorf("a stranger among them is found: %v", err)
	}
}

// A run whose directory has the usual shape is opened with two reads and answers with one more; a small one with one read in all.
func TestRun_FewReads(t *testing.T) {
	f := newFixture(index.Limits{})
	for _, row := range []struct{ entries, reads int }{{1000, 1}, {100_000, 3}} {
		entries := random(newRand(2), row.entries)
		about := f.write(t, entries)
		f.reads = 0
		run := f.open(t, about)
		if place, err := run.Lookup(t.Context(), entries[7].ID); place == nil || err != nil {
			t.Fatal(err)
		}
		if f.reads != row.reads {
			t.Errorf("%d entries: %d reads, want %d", row.entries, f.reads, row.reads)
		}
	}
}

// The filter spares the read of a block for nearly all strangers (1 in 120 by theory, at 10 bits and 7 hashes), and an entry costs less
// than 80 bytes. A run whose filter has no room in memory answers all the same, with one read each.
func TestIndex_FilterAndSize(t *testing.T) {
	const entries, strangers = 50_000, 5_000
	for _, row := range []struct {
		filters  int64
		min, max int
	}{{1 << 20, 1, strangers / 80}, {1, strangers * 9 / 10, strangers}} {
		r, f := newRand(3), newFixture(index.Limits{FilterBytes: row.filters, BlockBytes: 1}) // keeps one block
		known := random(r, entries)
		about := f.write(t, known)
		if perEntry := float64(about.Bytes) / entries; perEntry > 80 {
			t.Errorf("%.1f bytes an entry", perEntry)
		}
		reader := f.reader()
		x := index.New(reader, []index.About{about})
		if first(t, x, known[0].ID) != described(known[0]) {
			t.Fatal("an entry is not found")
		}
		f.reads = 0
		for range strangers {
			if at := first(t, x, randomID(r)); at != "nowhere" {
				t.Fatalf("a stranger is at %s", at)
			}
		}
		t.Logf("%d of %d strangers made a read; %+v kept", f.reads, strangers, reader.Kept())
		if f.reads < row.min || f.reads > row.max {
			t.Errorf("%d of %d strangers made a read", f.reads, strangers)
		}
	}
}

// Whatever is asked, what a reader keeps stays within its limits (and one value more: the last one is always kept).
func TestReader_KeepsWithinLimits(t *testing.T) {
	limits := index.Limits{RunEntries: 512, OpenBytes: 20 << 10, FilterBytes: 4 << 10, BlockBytes: 100 << 10, AheadBytes: 1 << 16}
	r, f := newRand(4), newFixture(limits)
	change := index.NewChange(nil)
	entries := random(r, 8_000)
	for batch := range slices.Chunk(slices.Clone(entries), 500) {
		if err := change.Add(t.Context(), f.merger, batch); err != nil {
			t.Fatal(err)
		}
		if err := change.Tend(t.Context(), f.merger, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	if f.most > int64(index.SizeMax(512+512/8)) {
		t.Errorf("merging kept %d bytes of runs in memory, more than one run has", f.most)
	}
	reader := f.reader()
	x := index.New(reader, change.Runs())
	for i, e := range entries {
		if at := first(t, x, e.ID); at != described(e) {
			t.Fatalf("an entry is at %s", at)
		}
		first(t, x, randomID(r))
		if kept := reader.Kept(); i%10 == 0 && (kept.Open > limits.OpenBytes || kept.Filters > limits.FilterBytes || kept.Blocks > limits.BlockBytes) {
			t.Fatalf("%+v kept", kept)
		}
	}
	if kept := reader.Kept(); kept.Open == 0 || kept.Filters == 0 || kept.Blocks == 0 {
		t.Errorf("nothing is kept: %+v", kept)
	}
}

// A run of which a block is damaged is asked for the others still, one that cannot be opened is passed over; each is told of once, and a
// check names both.
func TestIndex_Damage(t *testing.T) {
	r, f := newRand(6), newFixture(index.Limits{})
	entries := random(r, 3000)
	about := f.write(t, entries)
	f.store.Adversary().Damage(about.Name, func(data []byte) []byte { data[100] ^= 1; return data }) // in the first block
	x := index.New(f.reader(), []index.About{about})
	lost := 0
	for _, e := range entries {
		if at := first(t, x, e.ID); at == "nowhere" {
			lost++
		}
	}
	if lost != 256 || !slices.Equal(f.noticed, []string{about.Name}) {
		t.Errorf("%d entries are lost, want the 256 of one block; told of %v", lost, f.noticed)
	}
	if err := f.open(t, about).Check(t.Context()); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a check of a damaged run: %v", err)
	}
	f.store.Adversary().Damage(about.Name, func(data []byte) []byte { return data[:len(data)-1] })
	for _, about := range []index.About{about, {Name: about.Name}} {
		if _, err := f.reader().MustOpen(t.Context(), about); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("a run cut short opens: %v", err)
		}
	}
	sound := f.write(t, entries[:10])
	f.noticed = nil
	reader := f.reader()
	x = index.New(reader, []index.About{about, sound})
	for range 3 {
		if at := first(t, x, entries[5].ID); at != described(entries[5]) {
			t.Errorf("beside a damaged run it is at %s", at)
		}
		first(t, x, randomID(r)) // asks both
	}
	if len(f.noticed) != 1 || reader.Unusable(about.Name) == nil {
		t.Errorf("told of %v", f.noticed)
	}
	made, err := f.merger.Do(t.Context(), index.Step{Runs: []index.About{about, sound}, Targets: []index.Target{{Room: 4000}}}, nil)
	if err != nil || len(made) != 1 || made[0].Entries != 10 {
		t.Errorf("merged with a run that is lost: %+v, %v", made, err)
	}
}

// What the log says wrongly about a run is damage, not another run's answer.
func TestReader_AboutAnother(t *testing.T) {
	f := newFixture(index.Limits{})
	about := f.write(t, random(newRand(8), 3000))
	for _, wrong := range []index.About{
		{Name: about.Name, Entries: about.Entries + 1, Bytes: about.Bytes},
		{Name: about.Name, Entries: about.Entries, Bytes: about.Bytes - 1},
		{Name: about.Name, Bytes: about.Bytes + 1},
		{Name: about.Name, Bytes: 3},
		{Name: about.Name, Bytes: 1 << 50},
	} {
		if _, err := f.reader().MustOpen(t.Context(), wrong); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%+v opens: %v", wrong, err)
		}
	}
}

// Entries of packs that are left out do not come through a merge, and the runs it makes say as of when.
func TestMerger_Without(t *testing.T) {
	r, f := newRand(9), newFixture(index.Limits{})
	entries := random(r, 2000)
	a, b := f.write(t, entries[:1500]), f.write(t, entries[1000:])
	f.merger.Without, f.merger.Clean = func(p index.Pack) bool { return p == packNumber(2) }, 77
	made, err := f.merger.Do(t.Context(), index.Step{Runs: []index.About{a, b}, Targets: []index.Target{{Room: 3000}}}, random(r, 100))
	if err != nil || len(made) != 1 || made[0].Clean != 77 {
		t.Fatal(made, err)
	}
	x := index.New(f.reader(), made)
	for _, e := range entries {
		want := described(e)
		if e.Pack == packNumber(2) {
			want = "nowhere"
		}
		if at := first(t, x, e.ID); at != want {
			t.Fatalf("%s, want %s", at, want)
		}
	}
}
