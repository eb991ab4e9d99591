package idset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
)

func idOf(key uint64) chunk.ID {
	var id chunk.ID
	binary.BigEndian.PutUint64(id[:], key)
	return id
}

func build(t testing.TB, limit int, keys []uint64) *Set {
	t.Helper()
	b := newBuilder(limit)
	defer b.Close()
	for _, key := range keys {
		if err := b.Add(idOf(key)); err != nil {
			t.Fatal(err)
		}
	}
	set, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// A set answers as a map does, in memory and out of files, and numbers its ids without gap.
func TestSet_AnswersAsAMapDoes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limit := rapid.SampledFrom([]int{40, 64, 300, 1 << 20}).Draw(r, "limit")
		seed, count := rapid.Uint64().Draw(r, "seed"), rapid.IntRange(0, 3000).Draw(r, "count")
		span := rapid.SampledFrom([]uint64{50, 5000, 1 << 63}).Draw(r, "span") // small ones repeat keys
		random, want := rand.New(rand.NewPCG(seed, 1)), map[uint64]bool{}
		keys := make([]uint64, count)
		for i := range keys {
			keys[i] = random.Uint64N(span) * (^uint64(0) / span) // from 0 to the greatest
			want[keys[i]] = true
		}
		set := build(t, limit, keys)
		defer set.Close()
		if set.Len() != int64(len(want)) || (set.file != nil) != (count > limit) {
			r.Fatalf("%d of %d keys, in a file: %v", set.Len(), len(want), set.file != nil)
		}
		ranks := map[int64]bool{}
		for key := range want {
			rank, ok, err := set.Rank(idOf(key))
			if err != nil || !ok || rank < 0 || rank >= set.Len() || ranks[rank] {
				r.Fatalf("key %x: %d, %v, %v", key, rank, ok, err)
			}
			ranks[rank] = true
			for _, near := range []uint64{key - 1, key + 1, random.Uint64()} {
				if has, err := set.Has(idOf(near)); err != nil || has != want[near] {
					r.Fatalf("key %x: %v, %v", near, has, err)
				}
			}
		}
	})
}

func TestBuilder_AddsFromSeveralGoroutines(t *testing.T) {
	b := newBuilder(100)
	defer b.Close()
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 1000 {
				if err := b.Add(idOf(uint64(i*8+g) << 40)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	set, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if set.Len() != 8000 {
		t.Errorf("%d ids", set.Len())
	}
	if err := b.Add(idOf(1)); !holdfast.IsKind(err, holdfast.KindInternal) {
		t.Errorf("adding to a set that was built: %v", err)
	}
}

func TestBuilder_LeavesNoFile(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	set := build(t, 10, make([]uint64, 100))
	defer set.Close()
	left, err := os.ReadDir(folder)
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	if set.file == nil {
		t.Error("nothing was spilled")
	}
}

func TestBuilder_SaysWhereThereIsNoFolder(t *testing.T) {
	t.Setenv("TMPDIR", "/nowhere/at/all")
	b := newBuilder(1)
	defer b.Close()
	if err := b.Add(idOf(1)); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(idOf(2)); !holdfast.IsKind(err, holdfast.KindUnavailable) || !strings.Contains(hint(err), "TMPDIR") {
		t.Errorf("%v", err)
	}
}

// Whichever file cannot be made, or finds its disk full: the error says so and what to do, and nothing stays open.
func TestBuilder_FailsAndLeavesNothing(t *testing.T) {
	broken := func() (*unnamed, error) { return nil, failed(os.ErrPermission, "made") }
	full := func() (*unnamed, error) {
		f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
		return &unnamed{f}, err
	}
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("the system has no /dev/full")
	}
	for _, tt := range []struct {
		name string
		nth  int // file that fails
		fail func() (*unnamed, error)
		want error
	}{
		{"no file for runs", 0, broken, os.ErrPermission},
		{"no file to merge into", 1, broken, os.ErrPermission},
		{"runs find the disk full", 0, full, syscall.ENOSPC},
		{"merging finds the disk full", 1, full, syscall.ENOSPC},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			var made []*unnamed
			b := newBuilder(300)
			b.temporary = func() (*unnamed, error) {
				open := newUnnamed
				if len(made) == tt.nth {
					open = tt.fail
				}
				file, err := open()
				if err == nil {
					made = append(made, file)
				}
				return file, err
			}
			err := addAndBuild(b, 2000)
			b.Close()
			if !errors.Is(err, tt.want) || !holdfast.IsKind(err, holdfast.KindUnavailable) || !strings.Contains(hint(err), "TMPDIR") {
				t.Errorf("%v", err)
			}
			for i, file := range made {
				if err := file.f.Close(); !errors.Is(err, os.ErrClosed) {
					t.Errorf("file %d of %d was left open: %v", i, len(made), err)
				}
			}
			if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// addAndBuild builds a set that nobody asks.
func addAndBuild(b *Builder, count int) error {
	for i := range count {
		if err := b.Add(idOf(uint64(i) << 40)); err != nil {
			return err
		}
	}
	set, err := b.Build()
	if err == nil {
		set.Close()
	}
	return err
}

// The row of keys never has room for more than the limit, which is what the memory of a builder is counted from.
func TestBuilder_KeepsWithinItsLimit(t *testing.T) {
	for _, limit := range []int{1, 1000, 1 << 10, 3000, 100_000} {
		b := newBuilder(limit)
		for i := range 2*limit + 1 {
			if err := b.Add(idOf(uint64(i))); err != nil {
				t.Fatal(err)
			}
			if cap(b.keys) > limit {
				t.Fatalf("room for %d keys, limit %d", cap(b.keys), limit)
			}
		}
		b.Close()
	}
}

func hint(err error) string {
	var e *holdfast.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Hint
}

// What is gone from the file is an error, never an id that was not seen.
func TestSet_NeverAnswersFromAPart(t *testing.T) {
	keys := make([]uint64, 2000)
	for i := range keys {
		keys[i] = uint64(i+1) << 50
	}
	b := newBuilder(300)
	defer b.Close()
	for _, key := range keys {
		if err := b.Add(idOf(key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.spillKeys(); err != nil {
		t.Fatal(err)
	}
	if err := b.spill.file.f.Truncate(100 * keyBytes); err != nil {
		t.Fatal(err)
	}
	if _, err := b.spill.merge(); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Errorf("merging runs that are cut: %v", err)
	}
	set := build(t, 300, keys)
	defer set.Close()
	if err := set.file.f.Truncate(100 * keyBytes); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Has(idOf(keys[1500])); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Errorf("asking a file that is cut: %v", err)
	}
}

// BenchmarkScale_Set builds a set of made-up ids, those of HOLDFAST_SCALE_TIB of unique chunks (0.3 by default), and asks it, half of the
// time for what it does not have; it reports the memory of the process at its peak. Run by itself: the peak is that of the process.
func BenchmarkScale_Set(b *testing.B) {
	count := scaleIDs(b)
	for b.Loop() {
		var set *Set
		timed(b, count, "ns/id", func() { set = buildRandom(b, count) })
		const asked = 200_000
		timed(b, asked, "ns/question", func() { askRandom(b, set, asked) })
		set.Close()
	}
	reportResident(b)
}

func scaleIDs(b *testing.B) int {
	b.Helper()
	const chunksPerTiB = 8 << 20
	text := os.Getenv("HOLDFAST_SCALE_TIB")
	if text == "" {
		text = "0.3" // enough for a file
	}
	tib, err := strconv.ParseFloat(text, 64)
	if err != nil || tib <= 0 {
		b.Fatalf("HOLDFAST_SCALE_TIB: %q", text)
	}
	return int(tib * chunksPerTiB)
}

func timed(b *testing.B, count int, unit string, work func()) {
	b.Helper()
	before := b.Elapsed()
	work()
	b.ReportMetric(float64((b.Elapsed()-before).Nanoseconds())/float64(count), unit)
}

func buildRandom(b *testing.B, count int) *Set {
	b.Helper()
	builder, random := NewBuilder(), rand.New(rand.NewPCG(1, 2))
	defer builder.Close()
	for range count {
		if err := builder.Add(idOf(random.Uint64())); err != nil {
			b.Fatal(err)
		}
	}
	set, err := builder.Build()
	if err != nil {
		b.Fatal(err)
	}
	return set
}

func askRandom(b *testing.B, set *Set, asked int) {
	b.Helper()
	added, others := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
	for i := range asked {
		random := added
		if i%2 == 1 {
			random = others
		}
		if has, err := set.Has(idOf(random.Uint64())); err != nil || has != (i%2 == 0) {
			b.Fatal(has, err)
		}
	}
}

func reportResident(b *testing.B) {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return // another system
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			b.ReportMetric(float64(kib)/1024, "MiB-resident")
		}
	}
}
