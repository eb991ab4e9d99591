package repo_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// eager repacks whatever has something dead in it, however young.
func eager() repo.CollectOptions {
	return repo.CollectOptions{GiveUpAfter: time.Nanosecond, Rule: repo.CollectRule{FreedPerMoved: 0.3, SeeksPerGiBMax: 1e9, MoveBytesMax: 1 << 40}}
}

func mustCollect(t *testing.T, store *mem.Store, o repo.CollectOptions) repo.Collected {
	t.Helper()
	result, err := repo.NewCollector(openLater(t, store, 0), store.Remover()).Collect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// openLater opens a repository by a clock that is ahead of the others.
func openLater(t *testing.T, store blob.Store, by time.Duration) *repo.Repository {
	t.Helper()
	o := openOptions()
	o.Clock = clock.NewManual(repotest.Start().Add(time.Hour + by))
	r, err := repo.Open(t.Context(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func stored(store *mem.Store, prefix string) (objects int, bytes int64) {
	for _, name := range store.Adversary().Names() {
		if strings.HasPrefix(name, prefix) {
			info, err := store.Stat(context.Background(), name)
			if err == nil {
				objects, bytes = objects+1, bytes+info.Size
			}
		}
	}
	return objects, bytes
}

// chain makes a chain of points of one machine whose disk changes in between.
func chain(t *testing.T, r *repo.Repository, vm string, seed uint64, size, points int) (all []holdfast.Point, contents [][]byte, d *repotest.Disk) {
	t.Helper()
	d = repotest.NewDisk(size)
	rnd := newRand(seed)
	d.Write(0, randomBytes(rnd, size))
	var parent *holdfast.Point
	for range points {
		p := mustBackup(t, r, vm, d, parent)
		if err := r.Settle(t.Context(), p.Session); err != nil {
			t.Fatal(err)
		}
		parent = &p
		all, contents = append(all, p), append(contents, bytes.Clone(d.Data))
		d.Scribble(rnd, 6, 150<<10)
	}
	return all, contents, d
}

// After the removal of points a collection frees what they alone needed, moves what is left of mostly dead packs, and every other
// point restores as before; the next collection finds nothing to do but the lists of this one.
func TestCollect_FreesWhatNothingNeeds(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	points, contents, _ := chain(t, r, "vm", 1, 3<<20, 6)
	_, before := stored(store, "")
	if _, err := r.Remove(t.Context(), []holdfast.PointID{points[0].ID, points[1].ID, points[2].ID, points[4].ID}, repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	result := mustCollect(t, store, eager())
	_, after := stored(store, "")
	t.Logf("%d bytes before, %d after: %+v", before, after, result)
	if result.Freed.Bytes == 0 || result.Moved.Objects == 0 || after >= before {
		t.Errorf("%d bytes before, %d after: %+v", before, after, result)
	}
	again := openLater(t, store, 0)
	for _, i := range []int{3, 5} {
		mustEqual(t, again, points[i].ID, contents[i])
	}
	repotest.Verify(t, store)
	mustBeBare(t, store)
	for _, i := range []int{3, 5} {
		mustEqual(t, again, points[i].ID, contents[i]) // a handle that has not read the log since
	}
}

// mustOutliveNothing collects and fails if a pack, manifest or key is left that nothing leads to.
func mustOutliveNothing(t *testing.T, store *mem.Store) {
	t.Helper()
	mustCollect(t, store, eager())
	after := store.Adversary().Names()
	plan, err := repo.NewCollector(openLater(t, store, 0), nil).Plan(t.Context(), eager())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range plan.Unneeded() {
		if !strings.HasPrefix(name, "index/") && !strings.HasPrefix(name, "lists/") && slices.Contains(after, name) {
			t.Errorf("%s outlived a collection", name)
		}
	}
}

// mustBeBare fails unless collections come to an end with nothing in the store that the log does not lead to. One collection leaves the
// index runs that it replaced and its own lists: the second one condemns the runs, the third deletes the lists, and a fourth has
// nothing to do.
func mustBeBare(t *testing.T, store *mem.Store) {
	t.Helper()
	mustOutliveNothing(t, store)
	mustCollect(t, store, eager())
	mustCollect(t, store, eager())
	kept := store.Adversary().Names()
	report, err := repo.Verify(t.Context(), store, repo.VerifyOptions{Level: repo.VerifyStored})
	if err != nil || !report.OK || report.Orphans != 0 {
		t.Fatalf("left over: %d orphans, problems %v, %v", report.Orphans, report.Objects, err)
	}
	if idle := mustCollect(t, store, eager()); idle.Freed.Objects != 0 || len(store.Adversary().Names()) != len(kept) {
		t.Errorf("an idle collection freed %d objects and wrote %d", idle.Freed.Objects, len(store.Adversary().Names())-len(kept))
	}
}
