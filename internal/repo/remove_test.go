package repo_test

import (
	"context"
	"iter"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// Points are removed all or none, by the beginnings of their ids too, each once; a dry run changes nothing and tells roughly what a
// collection frees afterwards.
func TestRemove(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	points, contents, _ := chain(t, r, "vm", 71, 4<<20, 4)
	ids := func(numbers ...int) (ids []holdfast.PointID) {
		for _, n := range numbers {
			ids = append(ids, points[n].ID)
		}
		return ids
	}
	names := len(store.Adversary().Names())
	dry, err := r.Remove(t.Context(), ids(0, 1, 0), repo.RemoveOptions{DryRun: true})
	if err != nil || len(dry.Points) != 2 || dry.FreesBytes == 0 || len(store.Adversary().Names()) != names {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	for _, row := range []struct {
		points []holdfast.PointID
		kind   holdfast.Kind
	}{{nil, holdfast.KindInvalid}, {append(ids(0), "2099"), holdfast.KindNotFound}, {append(ids(0), "2026"), holdfast.KindInvalid}} {
		if _, err := r.Remove(t.Context(), row.points, repo.RemoveOptions{}); !holdfast.IsKind(err, row.kind) {
			t.Errorf("removing %v: %v", row.points, err)
		}
	}
	other := repotest.Open(t, store) // it knows all four
	if _, err := r.Remove(t.Context(), ids(0, 1), repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Remove(t.Context(), ids(2, 1), repo.RemoveOptions{}); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("a second removal: %v", err)
	}
	_, before := stored(store, "")
	rule := repo.CollectOptions{Rule: repo.CollectRule{FreedPerMoved: 0.01, MoveBytesMax: 1 << 40, SeeksPerGiBMax: 1e9}}
	if _, err := repo.NewCollector(openLater(t, store, 0), store.Remover()).Collect(t.Context(), rule); err != nil {
		t.Fatal(err)
	}
	_, after := stored(store, "")
	if freed := float64(before - after); freed < 0.6*float64(dry.FreesBytes) || freed > 1.5*float64(dry.FreesBytes) {
		t.Errorf("%d bytes were said to be freed, and %.0f were", dry.FreesBytes, freed)
	}
	for n := 2; n < 4; n++ {
		mustEqual(t, repotest.Open(t, store), points[n].ID, contents[n])
	}
}

// A point that an open session builds on is not removed, nor are those named with it; it is when the session is over.
func TestRemove_Pinned(t *testing.T) {
	c := newCollectable(t)
	r := repotest.Open(t, c.store)
	s, _ := openBackup(t, r, c, false)
	var all []holdfast.PointID
	for id := range c.points {
		all = append(all, id)
	}
	_, err := r.Remove(t.Context(), all, repo.RemoveOptions{})
	if !holdfast.IsKind(err, holdfast.KindConflict) || !strings.Contains(err.Error(), string(c.parent.ID)) {
		t.Errorf("a pinned point: %v", err)
	}
	if _, err := r.Remove(t.Context(), all, repo.RemoveOptions{DryRun: true}); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("a dry run on a pinned point: %v", err)
	}
	c.mustHold(t, c.store, nil)
	if err := s.Close(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Remove(t.Context(), all, repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	mustBeBare(t, c.store)
	if objects, _ := stored(c.store, "data/"); objects != 0 {
		t.Errorf("%d packs are left of nothing", objects)
	}
}

// A removal either happened whole or not at all, whatever call fails; and a backup beside a whole collection, of which any call
// fails, loses nothing.
func TestFaults_Remove(t *testing.T) {
	c := newCollectable(t)
	flow := func(store blob.Store) error {
		r, err := repo.Open(t.Context(), store, openOptions())
		if err == nil {
			_, err = r.Remove(t.Context(), []holdfast.PointID{c.parent.ID}, repo.RemoveOptions{})
		}
		return err
	}
	everyFault(t, c.store, flow, func(t *testing.T, store *mem.Store, err error) {
		r := repotest.Open(t, store)
		points, listErr := r.Points()
		if listErr != nil || len(points) != len(c.points) && len(points) != len(c.points)-1 || err == nil && len(points) == len(c.points) {
			t.Fatalf("%d points, %v", len(points), listErr)
		}
		for _, p := range points {
			mustEqual(t, r, p.ID, c.points[p.ID])
		}
		repotest.Verify(t, store)
	})
}

// A backup runs and a collection comes between its reading and its publication; whatever call of either fails, everything that is
// visible is whole, and its leftovers go.
func TestFaults_BackupBesideCollection(t *testing.T) {
	c := newCollectable(t)
	flow := func(store blob.Store, remover blob.Remover) error {
		r, err := repo.Open(t.Context(), store, openOptions())
		if err != nil {
			return err
		}
		s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
		if err != nil {
			return err
		}
		in := repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: int64(len(c.disk.Data)), Extents: repotest.Seq(c.disk.Allocated()), Source: c.disk, Readers: 1}
		out, err := s.WriteDisk(t.Context(), in)
		if err == nil {
			var collector *repo.Repository
			if collector, err = repo.Open(t.Context(), store, openOptions()); err == nil {
				_, err = repo.NewCollector(collector, remover).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule})
			}
			if err == nil {
				_, err = s.Publish(t.Context(), holdfast.Point{
					VM: "vm", Time: repotest.Start(), Kind: holdfast.PointBackup, Disks: []holdfast.PointDisk{{LUN: in.LUN, SizeBytes: in.SizeBytes, Root: out.Root}},
				}, nil)
			}
		}
		if err != nil {
			_ = s.Close(t.Context(), err.Error()) // it may fail like the rest
		}
		return err
	}
	n := 0
	everyFaultWithRemover(t, c.store, flow, func(t *testing.T, store *mem.Store, err error) {
		r := repotest.Open(t, store)
		points, listErr := r.Points()
		if listErr != nil || err == nil && len(points) != len(c.points)+1 {
			t.Fatalf("%d points, %v", len(points), listErr)
		}
		extra := map[holdfast.PointID][]byte{}
		for _, p := range points {
			if c.points[p.ID] == nil {
				extra[p.ID] = c.disk.Data
			}
		}
		if n++; n%4 > 0 {
			c.mustRestore(t, store, extra)
			return
		}
		mustOutliveNothing(t, store)
		c.mustHold(t, store, extra)
	})
}

// beforeList is a store that runs something before the first list of everything, as verification asks for.
type beforeList struct {
	*mem.Store
	do func()
}

func (b *beforeList) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	if do := b.do; do != nil && prefix == "" {
		b.do = nil
		do()
	}
	return b.Store.List(ctx, prefix)
}

// What is removed and collected while a verification is under way is no damage: the log is asked once more.
func TestVerify_BesideCollection(t *testing.T) {
	for _, level := range []repo.VerifyLevel{repo.VerifyStored, repo.VerifyComplete} {
		c := newCollectable(t)
		v := &beforeList{Store: c.store, do: func() {
			if _, err := repotest.Open(t, c.store).Remove(t.Context(), []holdfast.PointID{c.parent.ID}, repo.RemoveOptions{}); err != nil {
				t.Error(err)
			}
			mustBeBare(t, c.store)
		}}
		report, err := repo.Verify(t.Context(), v, repo.VerifyOptions{Level: level, Repository: repotest.Open(t, c.store)})
		if err != nil || !report.OK || v.do != nil {
			t.Errorf("level %d: %v, %v", level, report.Objects, err)
		}
	}
}
