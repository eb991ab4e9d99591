package repo_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// everyFaultWithRemover is everyFault for flows that delete: the right to remove is spoilt as well.
func everyFaultWithRemover(t *testing.T, base *mem.Store, flow func(blob.Store, blob.Remover) error, check func(t *testing.T, store *mem.Store, err error)) {
	t.Helper()
	counted := wrap.NewFaults(wrap.Healthy, 0)
	good := cloneStore(t, base)
	if err := flow(wrap.Fault(good, counted), wrap.FaultRemover(good.Remover(), counted)); err != nil {
		t.Fatalf("the good run: %v", err)
	}
	for _, mode := range faultModes {
		t.Run(string(mode), func(t *testing.T) {
			met := 0
			for at := 1; ; at++ {
				if leftOut(at, counted.Calls()) {
					met++
					continue
				}
				store, faults := cloneStore(t, base), wrap.NewFaults(mode, at)
				err := flow(wrap.Fault(store, faults), wrap.FaultRemover(store.Remover(), faults))
				if !faults.Fired() {
					break // the order of calls that are made at the same time differs, and their number by a few
				}
				met++
				check(t, store, err)
				if t.Failed() {
					t.Fatalf("call %d of %d, mode %s, flow returned: %v", at, counted.Calls(), mode, err)
				}
			}
			if met < counted.Calls()*9/10 {
				t.Errorf("only %d of the %d calls of a good run were spoilt", met, counted.Calls())
			}
			t.Logf("%d calls", met)
		})
	}
}

// collectable is a repository of which much is dead: points of two machines with packs in common, some removed, leftovers of a
// session that died, and what remains with its content.
type collectable struct {
	store  *mem.Store
	points map[holdfast.PointID][]byte
	parent holdfast.Point
	disk   *repotest.Disk
}

func newCollectable(t *testing.T) collectable {
	t.Helper()
	c := collectable{store: newStore(), points: map[holdfast.PointID][]byte{}}
	r := repotest.Init(t, c.store)
	points, contents, d := chain(t, r, "vm", 51, 24*chunkSize, 4)
	others, otherContents, _ := chain(t, r, "other", 51, 20*chunkSize, 2)
	for i, p := range points[2:] {
		c.points[p.ID] = contents[2+i]
	}
	c.points[others[1].ID] = otherContents[1]
	died, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := died.WriteDisk(t.Context(), repo.DiskInput{
		LUN: holdfast.OSDisk, SizeBytes: 9 * chunkSize, Extents: repotest.Seq([]holdfast.Extent{{Length: 9 * chunkSize}}), Source: &noise{},
	}); err != nil {
		t.Fatal(err)
	}
	if err := died.Close(t.Context(), "died"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Remove(t.Context(), []holdfast.PointID{points[0].ID, points[1].ID, others[0].ID}, repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	c.parent, c.disk = points[3], d
	d.Cut()
	d.Data = bytes.Clone(contents[3])
	d.Scribble(newRand(52), 3, 100<<10)
	return c
}

// mustHold fails unless exactly the points are visible, restore equal, and the repository is sound.
func (c collectable) mustHold(t *testing.T, store *mem.Store, extra map[holdfast.PointID][]byte) {
	t.Helper()
	c.mustRestore(t, store, extra)
	repotest.Verify(t, store)
}

// mustRestore fails unless exactly the points are visible and restore equal.
func (c collectable) mustRestore(t *testing.T, store *mem.Store, extra map[holdfast.PointID][]byte) {
	t.Helper()
	r := repotest.Open(t, store)
	points, err := r.Points()
	if err != nil || len(points) != len(c.points)+len(extra) {
		t.Fatalf("%d points, %v", len(points), err)
	}
	for _, p := range points {
		want, ok := c.points[p.ID]
		if !ok {
			want = extra[p.ID]
		}
		mustEqual(t, r, p.ID, want)
	}
}

func collectWith(ctx context.Context, store blob.Store, remover blob.Remover) error {
	r, err := repo.Open(ctx, store, openOptions())
	if err != nil {
		return err
	}
	_, err = repo.NewCollector(r, remover).Collect(ctx, eager())
	return err
}

// Whatever call of a collection fails, fails after its effect, or is the last of its process: the repository is sound, every visible
// point restores equal, and the next collection leaves nothing that nothing leads to.
func TestFaults_Collect(t *testing.T) {
	c := newCollectable(t)
	flow := func(store blob.Store, remover blob.Remover) error { return collectWith(t.Context(), store, remover) }
	n := 0
	everyFaultWithRemover(t, c.store, flow, func(t *testing.T, store *mem.Store, _ error) {
		c.mustRestore(t, store, nil)
		if n++; n%8 == 0 { // what it takes to come to the end of all is the same wherever it began
			mustBeBare(t, store)
		} else {
			mustOutliveNothing(t, store)
		}
		c.mustHold(t, store, nil)
	})
}
