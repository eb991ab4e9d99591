package repo_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// listings is a store whose next list of everything is what infos returns.
type listings struct {
	*mem.Store
	infos func() []blob.Info
}

func (l *listings) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	if prefix != "" || l.infos == nil {
		return l.Store.List(ctx, prefix)
	}
	infos := l.infos()
	l.infos = nil
	return func(yield func(blob.Info, error) bool) {
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func infosOf(t *testing.T, store *mem.Store) (infos []blob.Info) {
	t.Helper()
	for info, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	return infos
}

// What a collection planned to delete without a condemnation is judged again before it goes: another one that began after the log was
// read, and before the store was listed, had stored its lists already, and named them in the log afterwards.
func TestCollect_SparesListsOfOneThatBegan(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	points, contents, d := chain(t, r, "vm", 7, 24*chunkSize, 3)
	mustBeBare(t, store)
	s, point := openBackup(t, repotest.Open(t, store), collectable{disk: d}, true) // condemnations stay in the state while it is open
	reached, planned, done := make(chan struct{}), make(chan struct{}), make(chan error)
	l := &listings{Store: store, infos: func() []blob.Info {
		if _, err := r.Remove(t.Context(), []holdfast.PointID{points[0].ID}, repo.RemoveOptions{}); err != nil {
			t.Error(err)
		}
		m := &moments{Store: store, before: "condemn", do: func() { close(reached); <-planned }}
		go func() {
			_, err := repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: repo.CollectRule{MoveBytesMax: 1}})
			done <- err
		}()
		<-reached
		return infosOf(t, store)
	}}
	plan, err := repo.NewCollector(openLater(t, l, 0), store.Remover()).Plan(t.Context(), repo.CollectOptions{})
	if err != nil || l.infos != nil {
		t.Fatal(err)
	}
	close(planned)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Execute(t.Context()); err != nil {
		t.Fatal(err)
	}
	repotest.Verify(t, store)
	published, err := s.Publish(t.Context(), point, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, repotest.Open(t, store), published.ID, d.Data)
	mustEqual(t, repotest.Open(t, store), points[1].ID, contents[1])
}

// A point is removed and collected by somebody else after a collection has read the log and before it walks the point's map. What is
// missing then is no damage: the collection starts anew and comes to its end.
func TestCollect_PointGoesBeforeItIsMarked(t *testing.T) {
	c := newCollectable(t)
	l := &listings{Store: c.store}
	l.infos = func() []blob.Info {
		infos := infosOf(t, c.store)
		if _, err := repotest.Open(t, c.store).Remove(t.Context(), []holdfast.PointID{c.parent.ID}, repo.RemoveOptions{}); err != nil {
			t.Error(err)
		}
		delete(c.points, c.parent.ID)
		mustCollect(t, c.store, eager())
		return infos
	}
	result, err := repo.NewCollector(openLater(t, l, 0), c.store.Remover()).Collect(t.Context(), eager())
	if err != nil || l.infos != nil || len(result.Damaged) > 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	c.mustHold(t, c.store, nil)
	mustBeBare(t, c.store)
}

// merged is moments that run something more, once: at the first read after a collection has made the index lead to what it moved.
type merged struct {
	*moments
	merge func()
	moved bool
}

func (m *merged) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	err := m.moments.Put(ctx, name, data, o)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moved = m.moved || strings.HasPrefix(name, "log/") && bytes.Contains(data, []byte(`"kind":"index"`))
	return err
}

func (m *merged) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	m.mu.Lock()
	merge := m.merge
	if !m.moved {
		merge = nil
	}
	if merge != nil {
		m.merge = nil
	}
	m.mu.Unlock()
	if merge != nil {
		merge()
	}
	return m.moments.Read(ctx, name, offset, p)
}

// The runs that lead to what a collection moved are merged by somebody else, and then, before it condemns the old places, the index is
// made anew from lists that do not know of the new ones yet: the collection sees it, and makes the index lead there once more.
func TestCollect_IndexMergedAndMadeAnew(t *testing.T) {
	c := newCollectable(t)
	m := &merged{moments: &moments{Store: c.store, before: "condemn", do: func() {
		if _, err := repotest.Open(t, c.store).RebuildIndex(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}}, merge: func() {
		if err := repo.RewriteIndex(t.Context(), repotest.Open(t, c.store)); err != nil {
			t.Error(err)
		}
	}}
	result, err := repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(t.Context(), repo.CollectOptions{Rule: eager().Rule})
	if err != nil || m.merge != nil || m.do != nil || result.Moved.Objects == 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	c.mustHold(t, c.store, nil)
	mustBeBare(t, c.store)
	c.mustHold(t, c.store, nil)
}

// Packs that were condemned and deleted come back with a copy of the storage. Lists stand for what took their place, so nothing comes to
// rest on them again: they go with the next collection, and every point stands without the index as before.
func TestCollect_CondemnedPacksComeBack(t *testing.T) {
	c := newCollectable(t)
	before := cloneStore(t, c.store)
	mustBeBare(t, c.store)
	back := 0
	for _, name := range before.Adversary().Names() {
		if !strings.HasPrefix(name, "data/") && !strings.HasPrefix(name, "tree/") {
			continue
		}
		data, err := blob.ReadAll(t.Context(), before, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if c.store.Put(t.Context(), name, data, blob.PutOptions{}) == nil {
			back++
		}
	}
	for range 3 {
		mustCollect(t, c.store, repo.CollectOptions{Rule: repo.CollectRule{MoveBytesMax: 1}})
	}
	if report, err := repo.Verify(t.Context(), c.store, repo.VerifyOptions{Level: repo.VerifyStored}); err != nil || report.Orphans > 0 || back == 0 {
		t.Errorf("of %d packs that came back: %d orphans, %v", back, report.Orphans, err)
	}
	c.mustHold(t, c.store, nil)
	for id, want := range c.points {
		mustStandAlone(t, c.store, id, want)
	}
}

// Nothing is collected while the log or the index is damaged, whatever was collected before: the error says which, and what to do.
func TestCollect_RefusedOnDamage(t *testing.T) {
	for _, prefix := range []string{"log/", "index/"} {
		c := newCollectable(t)
		mustCollect(t, c.store, eager())
		damaged := cloneStore(t, c.store)
		for _, name := range damaged.Adversary().Names() {
			if strings.HasPrefix(name, prefix) && name != layout.EntryName(0) {
				harm(t, damaged, name, true)
			}
		}
		_, err := repo.NewCollector(openLater(t, damaged, 0), damaged.Remover()).Collect(t.Context(), eager())
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != holdfast.KindCorrupt || e.Hint == "" || !strings.Contains(err.Error(), prefix) {
			t.Errorf("%s: %v", prefix, err)
		}
		if prefix == "index/" {
			if _, err := repotest.Open(t, damaged).RebuildIndex(t.Context(), nil); err != nil {
				t.Error(err)
			}
			mustCollect(t, damaged, eager())
			c.mustHold(t, damaged, nil)
		}
	}
}

// When a record of gone packs is lost, and a part of a point's map with it, nobody can tell what the rest of the map named: nothing is
// collected before the point is whole again, or goes.
func TestCollect_RefusedWithoutRecordAndMap(t *testing.T) {
	c := newCollectable(t)
	mustBeBare(t, c.store)
	for _, name := range c.store.Adversary().Names() {
		data, err := blob.ReadAll(t.Context(), c.store, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(data, []byte("holdfast gone packs 1")) || strings.HasPrefix(name, "tree/") {
			harm(t, c.store, name, true)
		}
	}
	before := c.store.Adversary().Names()
	_, err := repo.NewCollector(openLater(t, c.store, 0), c.store.Remover()).Collect(t.Context(), eager())
	var e *holdfast.Error
	if !errors.As(err, &e) || e.Kind != holdfast.KindCorrupt || e.Hint == "" || !strings.Contains(err.Error(), "nobody can tell") {
		t.Errorf("%v", err)
	}
	if after := c.store.Adversary().Names(); len(after) != len(before) {
		t.Errorf("%d objects became %d", len(before), len(after))
	}
	r := repotest.Open(t, c.store)
	for id := range c.points {
		if err := repo.RemovePoint(t.Context(), r, id); err != nil {
			t.Fatal(err)
		}
	}
	mustBeBare(t, c.store)
}

// The lists of an earlier collection are lost or changed while they are in force: what it condemned, and what became of packs that it took.
// Backups go on without the first, restores without either; the next collection does without the one and makes the other anew, and then
// everything is sound, every point stands without the index as before, and nothing is left over.
func TestCollect_ListsOfCollectionsAreDamaged(t *testing.T) {
	for _, label := range []string{"holdfast condemnation 1", "holdfast gone packs 1"} {
		for _, flip := range []bool{false, true} {
			for _, dies := range []string{"", "remove"} { // the collection that made them came to its end, or died before it deleted
				t.Logf("%s, flipped %v, died at %q", label, flip, dies)
				c := newCollectable(t)
				held, err := repotest.Open(t, c.store).Begin(t.Context(), repo.BeginOptions{VM: "held"}) // condemnations stay in the state
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				m := &moments{Store: c.store, before: dies, do: cancel}
				if dies == "" {
					m.do = nil
				}
				result, err := repo.NewCollector(openLater(t, m, 0), m.Remover()).Collect(ctx, repo.CollectOptions{Rule: eager().Rule})
				if (err != nil) != (dies != "") || err == nil && result.Moved.Objects == 0 {
					t.Fatalf("%+v, %v", result, err)
				}
				harmed := 0
				for _, name := range c.store.Adversary().Names() {
					data, err := blob.ReadAll(t.Context(), c.store, name, 1<<30)
					if err == nil && strings.HasPrefix(name, "lists/") && bytes.HasPrefix(data, []byte(label)) {
						harm(t, c.store, name, flip)
						harmed++
					}
				}
				c.mustRestore(t, c.store, nil)
				report, err := repotest.Open(t, c.store).Verify(t.Context(), repo.VerifyComplete)
				if err != nil || harmed == 0 || len(report.Objects) != harmed || slices.ContainsFunc(report.Objects, func(o repo.ObjectProblem) bool { return !strings.HasPrefix(o.Name, "lists/") }) {
					t.Errorf("%d lists are damaged: %+v, %v", harmed, report.Objects, err)
				}
				extra := map[holdfast.PointID][]byte{}
				if p, err := repotest.Backup(t.Context(), repotest.Open(t, c.store), "new", c.disk, nil); err == nil {
					extra[p.ID] = c.disk.Data
				} else {
					t.Errorf("a backup: %v", err)
				}
				if err := held.Close(t.Context(), "test"); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					mustCollect(t, c.store, eager())
				}
				c.mustHold(t, c.store, extra)
				for id, want := range c.points {
					mustStandAlone(t, c.store, id, want)
				}
				mustBeBare(t, c.store)
				c.mustHold(t, c.store, extra)
			}
		}
	}
}
