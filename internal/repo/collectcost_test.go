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
	missed                             atomic.Int64 // reads of what is not there
}

func (m *metered) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	n, err := m.Store.Read(ctx, name, offset, p)
	if err != nil {
		m.missed.Add(1)
	}
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

// After a collection has moved chunks, a restore does not look for each of them in vain where the map says that it was: it learns from the first
// ones what has gone, and reads what was moved together by frames.
func TestCollect_RestoreAfterwardsGoesByFrames(t *testing.T) {
	const chunks = 400
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(chunks * chunkSize)
	rnd := newRand(91)
	d.Write(0, randomBytes(rnd, len(d.Data)))
	first := mustBackup(t, r, "vm", d, nil)
	moved := 0
	for i := range chunks {
		if i/4%5 < 3 { // in runs of a frame
			d.Write(i*chunkSize, randomBytes(rnd, chunkSize))
		} else {
			moved++
		}
	}
	second := mustBackup(t, r, "vm", d, &first)
	for _, p := range []holdfast.Point{first, second} {
		if err := r.Settle(t.Context(), p.Session); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Remove(t.Context(), []holdfast.PointID{first.ID}, repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if result := mustCollect(t, store, repo.CollectOptions{Rule: repo.CollectRule{FreedPerMoved: 1, SeeksPerGiBMax: 1e9, MoveBytesMax: 1 << 40}}); result.Moved.Objects == 0 {
		t.Fatalf("%+v", result)
	}
	m := &metered{Store: store}
	mustEqual(t, repotest.Open(t, m), second.ID, d.Data)
	t.Logf("%d chunks were moved; %d reads of packs, %d in vain", moved, m.packs.Load(), m.missed.Load())
	if most := int64(moved / 4); m.missed.Load() > most {
		t.Errorf("%d reads were in vain for %d moved chunks", m.missed.Load(), moved)
	}
	if most := int64(chunks/4 + 40); m.packs.Load() > most {
		t.Errorf("%d reads of packs for %d frames", m.packs.Load(), chunks/4)
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
