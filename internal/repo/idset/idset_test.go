package idset

import (
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
)

// A set answers as a map does, however little of it fits into memory.
func TestSet_AnswersAsAMapDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.Uint64Range(1, 3000).Draw(t, "space") // small ones repeat keys
		keys := rapid.SliceOfN(rapid.Uint64Range(0, space), 0, 2500).Draw(t, "keys")
		b := NewBuilder(rapid.IntRange(1, 700).Draw(t, "memory"))
		want := map[Key]bool{}
		for _, k := range keys {
			if err := b.Add(Key(k)); err != nil {
				t.Fatal(err)
			}
			want[Key(k)] = true
		}
		s, err := b.Set()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		if s.Len() != int64(len(want)) {
			t.Fatalf("%d keys, want %d", s.Len(), len(want))
		}
		for k := range Key(space + 2) {
			if has, err := s.Has(k); err != nil || has != want[k] {
				t.Fatalf("key %d: %v (%v), want %v", k, has, err, want[k])
			}
		}
	})
}

// Several goroutines add; nothing of what they added is lost, and no file has a name.
func TestSet_AddedByMany(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	b := NewBuilder(1000)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 5000 {
				if err := b.Add(Key(i*4 + g)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	s, err := b.Set()
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(folder)
	if err != nil || len(names) > 0 {
		t.Errorf("files with names: %v %v", names, err)
	}
	for k := range Key(20_001) {
		if has, err := s.Has(k); err != nil || has != (k < 20_000) {
			t.Fatalf("key %d: %v %v", k, has, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Has(7); err == nil {
		t.Error("a set answers that was closed")
	}
}

func TestBuilder_NoPlaceForTheFile(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/none")
	b := NewBuilder(1)
	err := b.Add(1, 2)
	var known *holdfast.Error
	if !errors.As(err, &known) || known.Kind != holdfast.KindUnavailable || known.Hint == "" {
		t.Errorf("%v", err)
	}
	b.Close()
}

// BenchmarkSet adds keys as verification does at level 2, and asks for as many.
func BenchmarkSet(b *testing.B) {
	const keys = 20 << 20
	for b.Loop() {
		random := rand.New(rand.NewPCG(1, 2))
		builder := NewBuilder(0)
		for range keys {
			if err := builder.Add(Key(random.Uint64())); err != nil {
				b.Fatal(err)
			}
		}
		s, err := builder.Set()
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		b.ReportMetric(float64(memory.HeapAlloc)/(1<<20), "MiB-live")
		random = rand.New(rand.NewPCG(1, 2))
		for range keys / 20 {
			if has, err := s.Has(Key(random.Uint64())); err != nil || !has {
				b.Fatal(has, err)
			}
		}
		_ = s.Close()
	}
	b.ReportMetric(keys, "keys/op")
}
