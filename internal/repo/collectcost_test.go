package repo_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// metered counts what a collection asks of a store.
type metered struct {
	*mem.Store
	trees, treeBytes, packs, packBytes atomic.Int64 // reads below tree/ and data/
}

func (m *metered) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	n, err := m.Store.Read(ctx, name, offset, p)
	switch {
	case strings.HasPrefix(name, "tree/"):
		m.trees.Add(1)
		m.treeBytes.Add(int64(n))
	case strings.HasPrefix(name, "data/"):
		m.packs.Add(1)
		m.packBytes.Add(int64(n))
	}
	return n, err
}

// A collection visits a subtree that many points share once, and reads of packs that stay nothing but a few bytes each: forty points
// that hardly differ cost little more than one.
func TestCollect_SharedSubtreesAreVisitedOnce(t *testing.T) {
	reads := map[int]int64{}
	for _, points := range []int{1, 40} {
		store := newStore()
		r := repotest.Init(t, store)
		d := repotest.NewDisk(600 * chunkSize)
		for i := range 600 {
			d.Write(i*chunkSize, []byte{byte(i), byte(i >> 8), 1})
		}
		var parent *holdfast.Point
		for i := range points {
			d.Write(0, []byte{byte(i), 2})
			p := mustBackup(t, r, "vm", d, parent)
			parent = &p
		}
		m := &metered{Store: store}
		if _, err := repo.NewCollector(openLater(t, m, 0), nil).Plan(t.Context(), repo.CollectOptions{}); err != nil {
			t.Fatal(err)
		}
		reads[points] = m.trees.Load()
		if perPoint := m.packBytes.Load() / int64(points); perPoint > 1024 {
			t.Errorf("%d points: %d bytes are read of the data of each", points, perPoint)
		}
	}
	// A map of 600 chunks has 75 + 10 + 2 + 1 nodes; each further point has four of its own.
	if reads[1] < 88 || reads[1] > 2*88 || reads[40] > reads[1]+39*2*6 {
		t.Errorf("reads of nodes by points: %v", reads)
	}
}

// BenchmarkCollect measures collections of repositories whose living part is the same and of which more and more is dead: what is read
// and written goes with what died, and what is looked at with what is left.
func BenchmarkCollect(b *testing.B) {
	const live = 32 << 20
	for _, dead := range []int{1 << 20, 8 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("dead=%dMiB", dead>>20), func(b *testing.B) {
			var trees, treeBytes, packs, packBytes, freed, moved int64
			for range b.N {
				b.StopTimer()
				store := newStore()
				r := repotest.Init(b, store)
				rnd := newRand(81)
				keep, drop := repotest.NewDisk(live), repotest.NewDisk(dead)
				keep.Write(0, randomBytes(rnd, live))
				drop.Write(0, randomBytes(rnd, dead))
				if _, err := repotest.Backup(b.Context(), r, "keep", keep, nil); err != nil {
					b.Fatal(err)
				}
				p, err := repotest.Backup(b.Context(), r, "drop", drop, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := r.Remove(b.Context(), []holdfast.PointID{p.ID}, repo.RemoveOptions{}); err != nil {
					b.Fatal(err)
				}
				m := &metered{Store: store}
				c := repo.NewCollector(repotest.Open(b, m), store.Remover())
				b.StartTimer()
				result, err := c.Collect(b.Context(), repo.CollectOptions{})
				if err != nil {
					b.Fatal(err)
				}
				trees, treeBytes, packs, packBytes = trees+m.trees.Load(), treeBytes+m.treeBytes.Load(), packs+m.packs.Load(), packBytes+m.packBytes.Load()
				freed, moved = freed+result.Freed.Bytes, moved+result.Moved.Bytes
			}
			for unit, total := range map[string]int64{
				"treeReads/op": trees, "treeBytes/op": treeBytes, "packReads/op": packs, "packBytes/op": packBytes, "freedBytes/op": freed, "movedBytes/op": moved,
			} {
				b.ReportMetric(float64(total)/float64(b.N), unit)
			}
		})
	}
}
