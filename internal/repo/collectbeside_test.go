package repo_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/lock"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// moments is a store that runs something before a put or a removal of a kind, once: the moments at which the order decides.
type moments struct {
	*mem.Store
	mu     sync.Mutex
	before string // the beginning of the object's name, or of the entry's kind
	do     func()
}

// at returns what is to be done now, if anything.
func (m *moments) at(what string) {
	m.mu.Lock()
	do := m.do
	if do == nil || !strings.HasPrefix(what, m.before) {
		m.mu.Unlock()
		return
	}
	m.do = nil
	m.mu.Unlock()
	do()
}

func (m *moments) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	what := name
	if _, rest, ok := bytes.Cut(data, []byte(`"kind":"`)); ok && strings.HasPrefix(name, "log/") {
		kind, _, _ := bytes.Cut(rest, []byte(`"`))
		what = string(kind)
	}
	m.at(what)
	return m.Store.Put(ctx, name, data, o)
}

// Remover is what a collector is given.
func (m *moments) Remover() blob.Remover { return momentsRemover{m} }

type momentsRemover struct{ m *moments }

func (r momentsRemover) Remove(ctx context.Context, name string) error {
	r.m.at("remove")
	return r.m.Store.Remover().Remove(ctx, name)
}

// A backup publishes at each of the moments of a collection that decide: before what is needed is moved, before the index leads
// there, before the condemnation, after it, before and after the deletion. It had found chunks in packs that are repacked under it, and
// a parent that they belong to. It is published and restores, as does every other point, and nothing is left over.
func TestCollect_BackupPublishesAtEveryMoment(t *testing.T) {
	for _, moment := range []string{"begin", "data/", "index/", "index", "lists/", "condemn", "remove", "swept"} {
		for _, full := range []bool{false, true} {
			c := newCollectable(t)
			writer := repotest.Open(t, c.store)
			s, point := openBackup(t, writer, c, full)
			var published holdfast.PointID
			m := &moments{Store: c.store, before: moment, do: func() {
				p, err := s.Publish(t.Context(), point, nil)
				if err != nil {
					t.Errorf("%s, full %v: %v", moment, full, err)
					return
				}
				published = p.ID
				if err := writer.Settle(t.Context(), s.ID()); err != nil {
					t.Error(err)
				}
			}}
			result, err := repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule})
			if err != nil || m.do != nil || published == "" || result.Moved.Objects == 0 {
				t.Fatalf("%s, full %v: %+v, %v; published %q", moment, full, result.Moved, err, published)
			}
			extra := map[holdfast.PointID][]byte{published: c.disk.Data}
			c.mustHold(t, c.store, extra)
			mustBeBare(t, c.store)
			c.mustHold(t, c.store, extra)
			mustStandAlone(t, c.store, published, c.disk.Data)
		}
	}
}

// openBackup writes the disk of a collectable in a session that is not published yet.
func openBackup(t *testing.T, r *repo.Repository, c collectable, full bool) (*repo.Session, holdfast.Point) {
	t.Helper()
	begin := repo.BeginOptions{VM: "vm"}
	in := repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: int64(len(c.disk.Data)), Extents: repotest.Seq(c.disk.Allocated()), Source: c.disk}
	if !full {
		begin.Parents = []holdfast.PointID{c.parent.ID}
		in.Base, in.Extents = &c.parent.Disks[0], repotest.Seq(c.disk.Changes())
	}
	s, err := r.Begin(t.Context(), begin)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.WriteDisk(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return s, holdfast.Point{
		VM: "vm", Name: "vm", Time: repotest.Start(), Kind: holdfast.PointBackup,
		Disks: []holdfast.PointDisk{{LUN: holdfast.OSDisk, SizeBytes: in.SizeBytes, Root: out.Root}},
	}
}

// mustStandAlone fails unless a point restores after its index was lost and rebuilt from pack lists, which name packs that are gone.
func mustStandAlone(t *testing.T, store *mem.Store, id holdfast.PointID, want []byte) {
	t.Helper()
	lost := cloneStore(t, store)
	for _, name := range lost.Adversary().Names() {
		if strings.HasPrefix(name, "index/") {
			lost.Adversary().Erase(name)
		}
	}
	r := repotest.Open(t, lost)
	if result, err := r.RebuildIndex(t.Context(), nil); err != nil || len(result.Damaged) > 0 {
		t.Fatalf("rebuild: %+v, %v", result, err)
	}
	mustEqual(t, r, id, want)
}

// A session that is open protects what it wrote, and what it found stored and somebody else needs, through any number of collections.
// When it is given up, its leftovers go, and it cannot publish any more.
func TestCollect_OpenSessionsProtect(t *testing.T) {
	c := newCollectable(t)
	s, point := openBackup(t, repotest.Open(t, c.store), c, true)
	for range 3 {
		result, err := repo.NewCollector(openLater(t, c.store, 0), c.store.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule})
		if err != nil || len(result.GivenUp) != 0 {
			t.Fatalf("%+v, %v", result, err)
		}
	}
	kept := cloneStore(t, c.store)
	published, err := s.Publish(t.Context(), point, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.mustHold(t, c.store, map[holdfast.PointID][]byte{published.ID: c.disk.Data})

	result := mustCollect(t, kept, eager())
	if len(result.GivenUp) != 1 || result.GivenUp[0] != s.ID() {
		t.Errorf("giving up: %+v", result)
	}
	c.mustHold(t, kept, nil)
	mustBeBare(t, kept)
}

// A session that found chunks in a pack which no visible point needs fails with a conflict when that is collected under it, and
// succeeds when it is run again.
func TestCollect_TakesWhatOnlyASessionFound(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(8 * chunkSize)
	d.Write(0, randomBytes(newRand(61), len(d.Data)))
	p := mustBackup(t, r, "vm", d, nil)
	if err := r.Settle(t.Context(), p.Session); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Remove(t.Context(), []holdfast.PointID{p.ID}, repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	s, point := openBackup(t, r, collectable{disk: d}, true)
	if result, err := repo.NewCollector(openLater(t, store, 0), store.Remover()).Collect(t.Context(), repo.CollectOptions{}); err != nil || result.Freed.Objects == 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := s.Publish(t.Context(), point, nil); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("published on what is gone: %v", err)
	}
	if err := s.Close(t.Context(), "collected"); err != nil {
		t.Fatal(err)
	}
	again := mustBackup(t, r, "vm", d, nil)
	mustEqual(t, r, again.ID, d.Data)
	mustBeBare(t, store)
}

// Points are removed, another collection runs whole, and keys change, each at every moment of a collection: both do their work, or one
// of them is told that it came too late, and nothing is lost.
func TestCollect_OthersAtEveryMoment(t *testing.T) {
	others := map[string]func(t *testing.T, c collectable) error{
		"collect": func(t *testing.T, c collectable) error {
			_, err := repo.NewCollector(openLater(t, c.store, 0), c.store.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule})
			return err
		},
		"remove": func(t *testing.T, c collectable) error {
			_, err := repotest.Open(t, c.store).Remove(t.Context(), []holdfast.PointID{c.parent.ID}, repo.RemoveOptions{})
			delete(c.points, c.parent.ID)
			return err
		},
		"rebuild": func(t *testing.T, c collectable) error {
			_, err := repotest.Open(t, c.store).RebuildIndex(t.Context(), nil)
			return err
		},
	}
	for name, other := range others {
		for _, moment := range []string{"begin", "data/", "index", "lists/", "condemn", "remove", "swept"} {
			c := newCollectable(t)
			t.Logf("%s at %s", name, moment)
			m := &moments{Store: c.store, before: moment, do: func() {
				if err := other(t, c); err != nil {
					t.Errorf("%s at %s: %v", name, moment, err)
				}
			}}
			_, err := repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule})
			if err != nil && !holdfast.IsKind(err, holdfast.KindConflict) || m.do != nil {
				t.Fatalf("%s at %s: %v", name, moment, err)
			}
			c.mustHold(t, c.store, nil)
			mustBeBare(t, c.store)
			c.mustHold(t, c.store, nil)
		}
	}
}

// A collection that runs whole while a backup has uploaded its packs, its lists or its manifest and not published yet takes none of
// them for leftovers.
func TestCollect_BetweenUploadAndPublication(t *testing.T) {
	for _, moment := range []string{"tree/", "lists/", "index/", "points/", "publish"} {
		c := newCollectable(t)
		m := &moments{Store: c.store, before: moment, do: func() {
			for range 2 {
				if _, err := repo.NewCollector(openLater(t, c.store, 0), c.store.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule}); err != nil {
					t.Error(err)
				}
			}
		}}
		writer := repotest.Open(t, m)
		s, point := openBackup(t, writer, c, false)
		published, err := s.Publish(t.Context(), point, nil)
		if err != nil || m.do != nil {
			t.Fatalf("%s: %v", moment, err)
		}
		c.mustHold(t, c.store, map[holdfast.PointID][]byte{published.ID: c.disk.Data})
	}
}

// A plan from the time when another collection had moved things and not condemned their old places yet is not executed after that: it
// took the new places for superfluous.
func TestCollect_PlanFromBeforeAnother(t *testing.T) {
	c := newCollectable(t)
	var plan *repo.CollectPlan
	m := &moments{Store: c.store, before: "condemn", do: func() {
		var err error
		if plan, err = repo.NewCollector(repotest.Open(t, c.store), c.store.Remover()).Plan(t.Context(), repo.CollectOptions{}); err != nil {
			t.Error(err)
		}
	}}
	if result, err := repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule}); err != nil || result.Moved.Objects == 0 || plan == nil {
		t.Fatalf("%+v, %v", result.Moved, err)
	}
	if _, err := plan.Execute(t.Context()); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("an old plan was executed: %v", err)
	}
	c.mustHold(t, c.store, nil)
	mustBeBare(t, c.store)
	c.mustHold(t, c.store, nil)
}

// Who loses the repository to another installation in the middle of a collection cannot condemn any more; the new owner finishes.
func TestCollect_TakenOver(t *testing.T) {
	for _, moment := range []string{"index", "condemn", "swept"} {
		c := newCollectable(t)
		o := openOptions()
		o.Installation, o.Clock = "new", clock.NewManual(repotest.Start().Add(2*time.Hour))
		owner, err := repo.Open(t.Context(), c.store, o)
		if err != nil {
			t.Fatal(err)
		}
		m := &moments{Store: c.store, before: moment, do: func() {
			if _, err := owner.TakeOver(t.Context(), ""); err != nil {
				t.Error(err)
			}
		}}
		_, err = repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule})
		if !holdfast.IsKind(err, holdfast.KindRefused) || m.do != nil {
			t.Fatalf("%s: %v", moment, err)
		}
		c.mustHold(t, c.store, nil)
		for range 4 {
			if _, err := repo.NewCollector(owner, c.store.Remover()).Collect(t.Context(), eager()); err != nil {
				t.Fatalf("%s: the new owner: %v", moment, err)
			}
		}
		c.mustHold(t, c.store, nil)
		if report, err := repo.Verify(t.Context(), c.store, repo.VerifyOptions{Level: repo.VerifyStored}); err != nil || !report.OK || report.Orphans != 0 {
			t.Errorf("%s: %d orphans, %v, %v", moment, report.Orphans, report.Objects, err)
		}
	}
}

// A restore that began before a point was removed and repacked under it reads on with the handle it has, and a handle that is old
// restores visible points after any number of collections.
func TestCollect_OldHandlesRead(t *testing.T) {
	c := newCollectable(t)
	old := repotest.Open(t, c.store)
	reader, err := old.OpenPoint(t.Context(), c.parent.ID)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := reader.Disk(holdfast.OSDisk)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, chunkSize)
	if _, err := disk.ReadAt(t.Context(), first, 0); err != nil {
		t.Fatal(err)
	}
	if result := mustCollect(t, c.store, eager()); result.Moved.Objects == 0 {
		t.Fatal("nothing was moved")
	}
	mustBeBare(t, c.store)
	b := &repotest.Buffer{Data: make([]byte, disk.SizeBytes())}
	if err := disk.CopyTo(t.Context(), b, repo.CopyOptions{}); err != nil || !bytes.Equal(b.Data, c.points[c.parent.ID]) {
		t.Errorf("an old reader: %v", err)
	}
	for id, want := range c.points {
		mustEqual(t, old, id, want)
	}
}

// What a lock holds is neither moved nor deleted, and told with the date, also when the collector's own clock says that the lock has ended;
// once it has it goes.
func TestCollect_Locks(t *testing.T) {
	for _, ahead := range []time.Duration{0, 1000 * day} {
		c := newCollectable(t)
		until := repotest.Start().Add(2 * day)
		for _, name := range c.store.Adversary().Names() {
			if err := c.store.Extend(t.Context(), name, until); err != nil {
				t.Fatal(err)
			}
		}
		before := c.store.Adversary().Names()
		result, err := repo.NewCollector(openLater(t, c.store, ahead), c.store.Remover()).Collect(t.Context(), eager())
		if err != nil {
			t.Fatal(err)
		}
		if result.Locked.Objects == 0 || !result.Locked.First.Equal(until) || !result.Locked.Last.Equal(until) || result.Moved.Objects != 0 || result.Freed.Objects != 0 {
			t.Errorf("a clock %v ahead: %+v", ahead, result)
		}
		if result.Waiting.Objects == 0 || !result.Waiting.First.Equal(until) { // what lists name
			t.Errorf("a clock %v ahead: %+v", ahead, result.Waiting)
		}
		plan, err := repo.NewCollector(openLater(t, c.store, ahead), nil).Plan(t.Context(), eager())
		if err != nil {
			t.Fatal(err)
		}
		if preview := plan.Result(); preview.Waiting != result.Waiting || preview.Freed.Objects != 0 {
			t.Errorf("a clock %v ahead: waiting are %+v, and a preview says %+v, with %+v to be freed", ahead, result.Waiting, preview.Waiting, preview.Freed)
		}
		after := c.store.Adversary().Names()
		if slices.ContainsFunc(before, func(name string) bool { return !slices.Contains(after, name) }) {
			t.Errorf("a clock %v ahead: of %d objects some went", ahead, len(before))
		}
		c.mustHold(t, c.store, nil)
	}
}

// What is locked only after it was condemned is not deleted: the condemnation waits, is told with the date, and a later collection
// finishes it.
func TestCollect_LockedAfterCondemnation(t *testing.T) {
	c := newCollectable(t)
	until := repotest.Start().Add(48 * time.Hour)
	m := &moments{Store: c.store, before: "condemn"}
	m.do = func() {
		for _, name := range c.store.Adversary().Names() {
			if strings.HasPrefix(name, "tree/") {
				if err := c.store.Extend(t.Context(), name, until); err != nil {
					t.Error(err)
				}
			}
		}
	}
	result, err := repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(t.Context(), eager())
	if err != nil || result.Waiting.Objects == 0 || !result.Waiting.First.Equal(until) {
		t.Fatalf("%+v, %v", result.Waiting, err)
	}
	c.mustHold(t, c.store, nil)
	unlocked := cloneStore(t, c.store) // the clone has no locks: they have ended
	plan, err := repo.NewCollector(repotest.Open(t, unlocked), nil).Plan(t.Context(), eager())
	if err != nil {
		t.Fatal(err)
	}
	if preview := plan.Result(); preview.Waiting.Objects != 0 || preview.Freed.Objects < result.Waiting.Objects {
		t.Errorf("a preview says %+v after the locks of %+v", preview, result.Waiting)
	}
	mustBeBare(t, unlocked)
	c.mustHold(t, unlocked, nil)
}

// A backup that locks publishes at each of the moments of a collection that decide: what was moved out of packs that it locked stays, and
// so do the records that tell how its list is to be read. Its horizon is what it was promised, at every moment and ever after.
func TestCollect_BesideALockingBackup(t *testing.T) {
	for _, moment := range []string{"begin", "data/", "index/", "index", "lists/", "condemn", "remove", "swept"} {
		c := newCollectable(t)
		writer := repotest.Open(t, c.store)
		var published holdfast.Point
		m := &moments{Store: c.store, before: moment, do: func() {
			var err error
			if published, err = repotest.LockedBackup(t.Context(), writer, "vm", c.disk, &c.parent, 30); err != nil {
				t.Errorf("%s: %v", moment, err)
			}
		}}
		if _, err := repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule}); err != nil {
			t.Fatal(err)
		}
		if h := horizon(t, c.store, published.ID); h.Before(repotest.Start().Add(30 * day)) {
			t.Errorf("%s: the horizon of a point that was promised 30 days is %s", moment, h)
		}
		mustEqual(t, repotest.Open(t, c.store), published.ID, c.disk.Data)
	}
}

// A machine is backed up every day with locks, and its oldest point removed as soon as that is allowed. What nothing needs any more goes when
// its lock ends, although each new pack list takes over the names of the one before: no backup locks it anew.
func TestCollect_DeadPacksOfLockedPoints(t *testing.T) {
	store, now := lockedStore()
	repotest.Init(t, store)
	d := repotest.NewDisk(4 * chunkSize)
	const promised = 5
	const kept = promised + int(lock.Window/day) + 2
	var points []holdfast.Point
	most := 0
	for n := range 4 * kept {
		d.Write(0, randomBytes(newRand(uint64(n)), len(d.Data)))
		o := openOptions()
		o.Clock = now
		r, err := repo.Open(t.Context(), store, o)
		if err != nil {
			t.Fatal(err)
		}
		var parent *holdfast.Point
		if len(points) > 0 {
			parent = &points[len(points)-1]
		}
		p := mustBackupLocked(t, r, "vm", d, parent, promised)
		if err := r.Settle(t.Context(), p.Session); err != nil {
			t.Fatal(err)
		}
		if points = append(points, p); len(points) > kept {
			if _, err := r.Remove(t.Context(), []holdfast.PointID{points[0].ID}, repo.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			points = points[1:]
		}
		if _, err := repo.NewCollector(r, store.Remover()).Collect(t.Context(), repo.CollectOptions{}); err != nil {
			t.Fatal(err)
		}
		switch packs, _ := stored(store, "data/"); {
		case n < 2*kept:
			most = max(most, packs)
		case packs > most:
			t.Fatalf("day %d: %d data packs are stored for %d points, on earlier days %d at most", n, packs, len(points), most)
		}
		now.Advance(day)
	}
	mustEqual(t, repotest.Open(t, store), points[len(points)-1].ID, d.Data)
}
