package tree_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

func (f *forest) diff(t *testing.T, disk, since tree.Disk) map[int64]chunk.ID {
	t.Helper()
	found, last := map[int64]chunk.ID{}, int64(-1)
	for c, err := range tree.Diff(t.Context(), disk, since, f) {
		if err != nil || c.Number <= last {
			t.Fatal(c.Number, last, err)
		}
		last, found[c.Number] = c.Number, c.Child.ID
	}
	return found
}

// Whatever two disks hold and whichever of them is larger, Diff yields just the chunks of the first that the second does not have there.
func TestDiff_EqualsComparison(t *testing.T) {
	for _, sizes := range [][2]int64{{1, 1}, {64, 64}, {65, 64}, {64, 65}, {4096, 7}, {7, 4096}, {5000, 513}, {513, 5000}, {600, 600}} {
		t.Run(fmt.Sprint(sizes), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(sizes[0]), uint64(sizes[1])))
			f := newForest(8)
			for round := range 20 {
				var disks [2]tree.Disk
				var contents [2]map[int64]chunk.ID
				common := map[int64]chunk.ID{}
				for range r.IntN(60) {
					common[r.Int64N(min(sizes[0], sizes[1]))] = randomID(r)
				}
				for i, size := range sizes {
					contents[i] = maps.Clone(common)
					for range r.IntN(1 + 3*round) {
						contents[i][r.Int64N(size)] = randomID(r)
					}
					for range r.IntN(5) {
						delete(contents[i], r.Int64N(size))
					}
					top, err := tree.Update(t.Context(), f.shape(size), tree.Base{}, inOrder(contents[i]), f.surroundings())
					if err != nil {
						t.Fatal(err)
					}
					disks[i] = tree.Disk{Top: top, Shape: f.shape(size)}
				}
				want := map[int64]chunk.ID{}
				for n := range sizes[0] {
					if contents[0][n] != contents[1][n] {
						want[n] = contents[0][n]
					}
				}
				if got := f.diff(t, disks[0], disks[1]); !maps.Equal(got, want) {
					t.Fatalf("round %d: %d chunks differ, want %d", round, len(got), len(want))
				}
			}
		})
	}
}

// Comparing two maps of a 32 TiB disk loads the nodes on the paths to what differs, of both, and no others, however much else there is.
func TestDiff_LoadsOnlyPaths(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	f := newForest(32)
	const chunks = 32 << 40 / (64 << 10)
	height := f.shape(chunks).Height()
	content := map[int64]chunk.ID{}
	for range 5000 {
		content[r.Int64N(chunks)] = randomID(r)
	}
	base, err := tree.Update(t.Context(), f.shape(chunks), tree.Base{}, inOrder(content), f.surroundings())
	if err != nil {
		t.Fatal(err)
	}
	for _, changed := range []int{0, 1, 10, 100} {
		changes := map[int64]chunk.ID{}
		for len(changes) < changed {
			changes[r.Int64N(chunks)] = randomID(r)
		}
		top, err := tree.Update(t.Context(), f.shape(chunks), tree.Base{Top: base, SizeBytes: f.shape(chunks).SizeBytes}, inOrder(changes), f.surroundings())
		if err != nil {
			t.Fatal(err)
		}
		f.loads = 0
		got := f.diff(t, tree.Disk{Top: top, Shape: f.shape(chunks)}, tree.Disk{Top: base, Shape: f.shape(chunks)})
		t.Logf("%d changes: %d nodes loaded of %d", changed, f.loads, len(f.nodes))
		if !maps.Equal(got, changes) || f.loads > 2*height*changed {
			t.Errorf("%d changes: %d found with %d nodes loaded", changed, len(got), f.loads)
		}
	}
}

// A node that cannot be loaded ends the comparison with its error, and a caller may stop early.
func TestDiff_Ends(t *testing.T) {
	f, r := newForest(8), rand.New(rand.NewPCG(4, 4))
	top, err := tree.Update(t.Context(), f.shape(100), tree.Base{}, inOrder(map[int64]chunk.ID{1: randomID(r), 99: randomID(r)}), f.surroundings())
	if err != nil {
		t.Fatal(err)
	}
	disk, zeros := tree.Disk{Top: top, Shape: f.shape(100)}, tree.Disk{Shape: f.shape(100)}
	for c, err := range tree.Diff(t.Context(), disk, zeros, f) {
		if c.Number != 1 || err != nil {
			t.Error(c.Number, err)
		}
		break
	}
	f.fail = errors.New("out of reach")
	n := 0
	for _, err := range tree.Diff(t.Context(), disk, zeros, f) {
		if n++; !errors.Is(err, f.fail) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("it yields %d times", n)
	}
}
