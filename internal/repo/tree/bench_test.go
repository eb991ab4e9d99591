package tree_test

import (
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// BenchmarkScale_Map changes and compares the map of a disk of 32 TiB that has 500,000 chunks all over, nodes being in memory: what is left
// is the work itself.
func BenchmarkScale_Map(b *testing.B) {
	const size, chunkSize, fanOut, present = 32 << 40, 128 << 10, 32, 500_000
	f, r := newForest(fanOut), rand.New(rand.NewPCG(1, 1))
	shape := tree.Shape{SizeBytes: size, ChunkSize: chunkSize, FanOut: fanOut}
	some := func(n int) map[int64]chunk.ID {
		changes := map[int64]chunk.ID{}
		for range n {
			changes[r.Int64N(shape.Chunks())] = randomID(r)
		}
		return changes
	}
	update := func(b *testing.B, base tree.Child, changes map[int64]chunk.ID) tree.Child {
		b.Helper()
		top, err := tree.Update(b.Context(), shape, tree.Base{Top: base, SizeBytes: size}, inOrder(changes), f.surroundings())
		if err != nil {
			b.Fatal(err)
		}
		return top
	}
	base := update(b, tree.Child{}, some(present))
	for _, row := range []struct {
		name  string
		count int
	}{{"1", 1}, {"1000", 1000}} {
		changes := some(row.count)
		changed := update(b, base, changes)
		b.Run("update-"+row.name, func(b *testing.B) {
			f.puts, f.loads = 0, 0
			for b.Loop() {
				update(b, base, changes)
			}
			b.ReportMetric(float64(f.puts)/float64(b.N*row.count), "nodes-written/chunk")
			b.ReportMetric(float64(f.loads)/float64(b.N*row.count), "nodes-read/chunk")
		})
		b.Run("compare-"+row.name, func(b *testing.B) {
			f.loads = 0
			for b.Loop() {
				for _, err := range tree.Diff(b.Context(), tree.Disk{Top: changed, Shape: shape}, tree.Disk{Top: base, Shape: shape}, f) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(f.loads)/float64(b.N*row.count), "nodes-read/chunk")
		})
	}
	b.Run("lookup", func(b *testing.B) {
		f.loads = 0
		for b.Loop() {
			n := r.Int64N(shape.Chunks())
			for _, err := range tree.Leaves(b.Context(), shape, base, n, n+1, f) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(f.loads)/float64(b.N), "nodes-read")
	})
}
