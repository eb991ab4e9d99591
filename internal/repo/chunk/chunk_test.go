package chunk_test

import (
	"bytes"
	"math"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
)

// Zeros are recognised at every length, and one byte anywhere tells.
func TestIsZero(t *testing.T) {
	for _, n := range []int{0, 1, 511, 4095, 4096, 4097, 8192, 65536, 100_001} {
		b := make([]byte, n)
		if !chunk.IsZero(b) {
			t.Errorf("%d zeros", n)
		}
		for _, at := range []int{0, 1, n / 2, 4095, 4096, 8191, 8192, n - 1} {
			if at < 0 || at >= n {
				continue
			}
			b[at] = 1
			if chunk.IsZero(b) {
				t.Errorf("%d bytes with a one at %d", n, at)
			}
			b[at] = 0
		}
	}
}

// Chunks are counted with the short last one, without overflow at the largest sizes.
func TestCount(t *testing.T) {
	for _, test := range []struct {
		size  int64
		chunk int
		want  int64
	}{{0, 65536, 0}, {1, 65536, 1}, {65536, 65536, 1}, {65537, 65536, 2}, {32 << 40, 128 << 10, 1 << 28}, {1 << 50, 65536, 1 << 34}, {math.MaxInt64 - 65535, 65536, 1<<47 - 1}} {
		if got := chunk.Count(test.size, test.chunk); got != test.want {
			t.Errorf("%d bytes in chunks of %d: %d, want %d", test.size, test.chunk, got, test.want)
		}
	}
}

// Ids are keyed: equal content has equal ids in one repository, from any goroutine, and others in another; uses do not mix.
func TestHasher(t *testing.T) {
	a, b := chunk.NewHasher(keys.NewRing(keys.RepositoryID{1})), chunk.NewHasher(keys.NewRing(keys.RepositoryID{1}))
	data := bytes.Repeat([]byte{7}, 100_000)
	want := a.Chunk(data)
	if want == b.Chunk(data) {
		t.Error("two repositories share an id")
	}
	if want == a.Node(data[0], data[1:2], data[2:]) {
		t.Error("a chunk and a node share an id")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if a.Chunk(data) != want {
					t.Error("the id changes")
				}
			}
		})
	}
	wg.Wait()
	roots := map[holdfast.Root]bool{}
	for _, root := range []holdfast.Root{
		a.Root(1, 2, 3, want), a.Root(2, 2, 3, want), a.Root(1, 3, 3, want), a.Root(1, 2, 4, want), a.Root(1, 2, 3, chunk.ID{}), b.Root(1, 2, 3, want),
	} {
		roots[root] = true
	}
	if len(roots) != 6 {
		t.Error("roots do not commit to everything")
	}
	if a.Subject("/subscriptions/S/x") != a.Subject("/SUBSCRIPTIONS/s/X") || a.Subject("a") == a.Subject("b") || len(a.Subject("a")) != 32 {
		t.Error("subjects do not follow ARM ids")
	}
}

// A reference has no name before it is resolved, and then the name it was given, for all who wait.
func TestPackRef(t *testing.T) {
	r := chunk.NewPackRef()
	if r.Name() != "" {
		t.Error("a name before its time")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			<-r.Ready()
			if r.Name() != "data/x" {
				t.Errorf("name %q", r.Name())
			}
		})
	}
	r.Resolve("data/x")
	wg.Wait()
	if chunk.NamedPack("tree/y").Name() != "tree/y" {
		t.Error("a named pack has no name")
	}
}
