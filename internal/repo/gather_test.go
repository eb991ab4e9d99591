package repo_test

import (
	"bytes"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// scatter backs a disk up day after day with changes all over, keeps two points, and collects; it returns the breaks per GiB of the newest point after
// each collection, and the most bytes that a collection moved.
func scatter(t *testing.T, rule repo.CollectRule) (store *mem.Store, breaks []float64, moved int64) {
	t.Helper()
	const chunks, days = 600, 12
	store = newStore()
	r := repotest.Init(t, store)
	rnd := newRand(17)
	d := repotest.NewDisk(chunks * chunkSize)
	d.Write(0, randomBytes(rnd, len(d.Data)))
	var points []holdfast.Point
	var held []byte
	for range days {
		var parent *holdfast.Point
		if len(points) > 0 {
			parent = &points[len(points)-1]
		}
		p := mustBackup(t, r, "vm", d, parent)
		if err := r.Settle(t.Context(), p.Session); err != nil {
			t.Fatal(err)
		}
		points, held = append(points, p), bytes.Clone(d.Data)
		if len(points) > 2 {
			if _, err := r.Remove(t.Context(), []holdfast.PointID{points[len(points)-3].ID}, repo.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		result := mustCollect(t, store, repo.CollectOptions{Rule: rule})
		moved = max(moved, result.Moved.Bytes)
		plan, err := repo.NewCollector(openLater(t, store, 0), nil).Plan(t.Context(), repo.CollectOptions{Rule: rule})
		if err != nil {
			t.Fatal(err)
		}
		next := plan.Result()
		if next.Gathered.Objects > 0 {
			t.Errorf("right after a collection another one would gather %d packs again", next.Gathered.Objects)
		}
		breaks = append(breaks, next.Scattered[0].SeeksPerGiB)
		for range chunks / 20 {
			d.Write(rnd.IntN(chunks)*chunkSize, randomBytes(rnd, chunkSize))
		}
	}
	mustEqual(t, repotest.Open(t, store), points[len(points)-1].ID, held)
	return store, breaks, moved
}

// Without the rule the newest point is scattered further day by day; with it the breaks stay below twice the limit, as far as packs may be moved, nothing is
// gathered twice, and no collection moves more than it may.
func TestCollect_KeepsNewestPointsInOrder(t *testing.T) {
	const limit, budget = 400, 64 << 20
	rule := repo.CollectRule{FreedPerMoved: 1e9, ScatteredFreedPerMoved: 1e9, MoveBytesMax: 1 << 40, SeeksPerGiBMax: 1e9}
	_, without, _ := scatter(t, rule)
	rule.SeeksPerGiBMax, rule.GatherBytesMax = limit, budget
	_, with, moved := scatter(t, rule)
	t.Logf("breaks per GiB without: %.0f, with: %.0f; at most %d bytes were moved at once", without, with, moved)
	if last := without[len(without)-1]; last < 3*limit {
		t.Errorf("without the rule there are %.0f breaks per GiB only", last)
	}
	for day, breaks := range with {
		if breaks > 2*limit {
			t.Errorf("on day %d there are %.0f breaks per GiB", day, breaks)
		}
	}
	if moved > budget+budget/100 {
		t.Errorf("%d bytes were moved at once", moved)
	}
}
