package repo_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// ailing is a repository with points of a disk whose content has not changed since the newest one.
type ailing struct {
	store  *mem.Store
	disk   *repotest.Disk
	points []holdfast.Point
	held   [][]byte // what the disk held at each point
}

// newAiling makes two points. The second one adds to the disk and changes nothing that the first one has.
func newAiling(t *testing.T) *ailing {
	t.Helper()
	a := &ailing{store: newStore(), disk: repotest.NewDisk(40*chunkSize + 512)}
	r := repotest.Init(t, a.store)
	for n := range 20 {
		a.disk.Write(2*n*chunkSize, randomBytes(newRand(uint64(n)), chunkSize))
	}
	a.backup(t, r)
	a.disk.Write(7*chunkSize, randomBytes(newRand(41), chunkSize))
	a.disk.Write(33*chunkSize, randomBytes(newRand(42), chunkSize))
	a.backup(t, r)
	return a
}

// copied returns the same in a store of its own.
func (a *ailing) copied(t *testing.T) *ailing {
	return &ailing{store: cloneStore(t, a.store), disk: a.disk, points: slices.Clone(a.points), held: slices.Clone(a.held)}
}

// backup makes a point against the newest one, in full where the repository asks for it.
func (a *ailing) backup(t *testing.T, r *repo.Repository) holdfast.Point {
	t.Helper()
	var parent *holdfast.Point
	if n := len(a.points); n > 0 {
		parent = &a.points[n-1]
	}
	p, err := repotest.Backup(t.Context(), r, "vm", a.disk, parent)
	var damaged *repo.BaseDamaged
	if errors.As(err, &damaged) {
		p, err = repotest.Backup(t.Context(), r, "vm", a.disk, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.points, a.held = append(a.points, p), append(a.held, bytes.Clone(a.disk.Data))
	return p
}

// packs returns the packs of a folder.
func (a *ailing) packs(folder string) []string {
	return slices.DeleteFunc(a.store.Adversary().Names(), func(name string) bool { return !strings.HasPrefix(name, folder) })
}

// harm damages an object: it goes, or a bit of it flips.
func harm(t *testing.T, store *mem.Store, name string, flip bool) {
	t.Helper()
	if !flip {
		store.Adversary().Erase(name)
		return
	}
	store.Adversary().Damage(name, func(data []byte) []byte {
		data[len(data)/2] ^= 1
		return data
	})
}

// mustVerify verifies with the key and records what was found.
func mustVerify(t *testing.T, store blob.Store, level repo.VerifyLevel) repo.Report {
	t.Helper()
	r := repotest.Open(t, store)
	report, err := r.Verify(t.Context(), level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.RecordProof(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	return report
}

// Any data pack is lost or changed: verification names it and the points, the points are shown as damaged, the next backup writes what was
// lost again from the unchanged disk, and then everything is sound, with and without a key, and older points restore equal.
func TestHeal_NextBackup(t *testing.T) {
	first := newAiling(t)
	for _, name := range first.packs("data/") {
		for _, flip := range []bool{false, true} {
			a := first.copied(t)
			a.mustBeFound(t, name, flip)
			a.backup(t, repotest.Open(t, a.store))
			a.mustBeHealed(t, name)
		}
	}
}

// The same with a part of the disk's map: it takes a full read, and what only older points' maps had in it is lost for good.
func TestHeal_Map(t *testing.T) {
	first := newAiling(t)
	for i, p := range first.points { // as many as there are tree packs
		for _, flip := range []bool{false, true} {
			a := first.copied(t)
			name := a.topOf(t, p)
			a.mustBeFound(t, name, flip)
			a.backup(t, repotest.Open(t, a.store))
			if i == 1 {
				a.mustBeHealed(t, name)
				continue
			}
			report := mustVerify(t, a.store, repo.VerifyComplete)
			if report.OK || !slices.Equal(report.Points, []holdfast.PointID{p.ID}) {
				t.Errorf("%+v", report)
			}
			for j := 1; j < len(a.points); j++ {
				mustEqual(t, repotest.Open(t, a.store), a.points[j].ID, a.held[j])
			}
		}
	}
}

// topOf returns the pack with the top of a point's map.
func (a *ailing) topOf(t *testing.T, p holdfast.Point) string {
	t.Helper()
	for _, name := range a.packs("tree/") {
		if strings.Contains(string(p.Disks[0].Top), name) {
			return name
		}
	}
	t.Fatalf("no pack holds the top %s", p.Disks[0].Top)
	return ""
}

// mustBeFound harms a pack and has it found by a verification.
func (a *ailing) mustBeFound(t *testing.T, name string, flip bool) {
	t.Helper()
	harm(t, a.store, name, flip)
	report := mustVerify(t, a.store, repo.VerifyComplete)
	if report.OK || len(report.Objects) != 1 || report.Objects[0].Name != name || len(report.Points) == 0 {
		t.Fatalf("%s: %+v", name, report)
	}
	hit, err := repotest.Open(t, a.store).DamagedPoints(t.Context())
	if err != nil || len(hit) != len(report.Points) || !hit[report.Points[0]] {
		t.Errorf("%s: damaged points %v, %v; hit were %v", name, hit, err, report.Points)
	}
}

func (a *ailing) mustBeHealed(t *testing.T, name string) {
	t.Helper()
	for _, level := range []repo.VerifyLevel{repo.VerifyStored, repo.VerifyComplete} {
		report := mustVerify(t, a.store, level)
		if !report.OK || !slices.Equal(report.Healed, []string{name}) {
			t.Fatalf("%s: after healing, level %d: %+v", name, level, report)
		}
	}
	report, err := repo.Verify(t.Context(), a.store, repo.VerifyOptions{Level: repo.VerifyStored})
	if err != nil || !report.OK {
		t.Fatalf("%s: after healing, without a key: %+v, %v", name, report, err)
	}
	r := repotest.Open(t, a.store)
	if hit, err := r.DamagedPoints(t.Context()); err != nil || len(hit) > 0 {
		t.Errorf("%s: damaged still: %v, %v", name, hit, err)
	}
	for i, p := range a.points {
		mustEqual(t, r, p.ID, a.held[i])
	}
}

// A chunk that has changed on the disk cannot be healed: the points that need it stay named, the new one is sound, and the check
// says so exactly, although the new point's pack list names the lost pack as well.
func TestHeal_ChangedChunk(t *testing.T) {
	a := newAiling(t)
	first := a.packs("data/")
	for _, name := range first {
		harm(t, a.store, name, false)
	}
	mustVerify(t, a.store, repo.VerifyStored)
	for offset := 0; offset < len(a.disk.Data); offset += chunkSize { // a byte of every chunk
		a.disk.Write(offset, []byte{byte(offset>>16) | 1})
	}
	p := a.backup(t, repotest.Open(t, a.store))
	report := mustVerify(t, a.store, repo.VerifyComplete)
	if report.OK || slices.Contains(report.Points, p.ID) || len(report.Points) != 2 {
		t.Fatalf("%+v", report)
	}
	r := repotest.Open(t, a.store)
	mustEqual(t, r, p.ID, a.disk.Data)
	if hit, err := r.DamagedPoints(t.Context()); err != nil || len(hit) != 2 || hit[p.ID] {
		t.Errorf("damaged points %v, %v", hit, err)
	}
	for _, id := range report.Points { // the rest of the test's checks want a sound repository
		if err := repo.RemovePoint(t.Context(), r, id); err != nil {
			t.Fatal(err)
		}
	}
	mustVerify(t, a.store, repo.VerifyStored)
}

// What a session reads and writes for healing is content fetched, and told apart.
func TestHeal_Figures(t *testing.T) {
	a := newAiling(t)
	packs := a.packs("data/")
	harm(t, a.store, packs[0], false)
	mustVerify(t, a.store, repo.VerifyStored)
	r := repotest.Open(t, a.store)
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm", Parents: []holdfast.PointID{a.points[1].ID}})
	if err != nil {
		t.Fatal(err)
	}
	a.disk.Read.Store(0)
	out, err := s.WriteDisk(t.Context(), repo.DiskInput{
		LUN: holdfast.OSDisk, SizeBytes: int64(len(a.disk.Data)), Base: &a.points[1].Disks[0], Extents: repotest.Seq(nil), Source: a.disk,
	})
	if err != nil || out.HealedBytes == 0 || out.HealedBytes != out.NewBytes || out.ReadBytes != out.HealedBytes || a.disk.Read.Load() != out.ReadBytes {
		t.Errorf("%+v, %d bytes read, %v", out, a.disk.Read.Load(), err)
	}
	if out.Root != a.points[1].Disks[0].Root {
		t.Error("the disk has another root although nothing changed")
	}
	if err := s.Close(t.Context(), "test"); err != nil {
		t.Error(err)
	}
	a.backup(t, repotest.Open(t, a.store))
}

// Damage that nobody has verified is found by the backup that stumbles over it; it is recorded, and the next run heals.
func TestHeal_FailedReadIsRecorded(t *testing.T) {
	a := newAiling(t)
	for _, name := range a.packs("tree/") {
		harm(t, a.store, name, false)
	}
	a.disk.Write(5*chunkSize, []byte("changed"))
	r := repotest.Open(t, a.store)
	_, err := repotest.Backup(t.Context(), r, "vm", a.disk, &a.points[1])
	var damaged *repo.BaseDamaged
	if !errors.As(err, &damaged) || damaged.LUN != holdfast.OSDisk || !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Fatalf("error %v", err)
	}
	if hit, err := r.DamagedPoints(t.Context()); err != nil || !hit[a.points[1].ID] {
		t.Errorf("damaged points %v, %v", hit, err)
	}
	p, err := repotest.Backup(t.Context(), r, "vm", a.disk, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, repotest.Open(t, a.store), p.ID, a.disk.Data)
	for i, old := range a.points { // the first point's map has other nodes, which are lost for good
		if _, err := repotest.Restore(t.Context(), repotest.Open(t, a.store), old.ID); err == nil && i == 0 {
			continue
		}
		if err := repo.RemovePoint(t.Context(), r, old.ID); err != nil {
			t.Fatal(err)
		}
	}
	mustVerify(t, a.store, repo.VerifyComplete)
}

// A session that rests on a pack which is found damaged while it runs does not publish: nobody would be told that its point is damaged.
func TestHeal_FoundMeanwhile(t *testing.T) {
	a := newAiling(t)
	r := repotest.Open(t, a.store)
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm", Parents: []holdfast.PointID{a.points[1].ID}})
	if err != nil {
		t.Fatal(err)
	}
	in := repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: int64(len(a.disk.Data)), Base: &a.points[1].Disks[0], Extents: repotest.Seq(nil), Source: a.disk}
	out, err := s.WriteDisk(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	harm(t, a.store, a.packs("data/")[0], true)
	mustVerify(t, a.store, repo.VerifyStored)
	_, err = s.Publish(t.Context(), holdfast.Point{VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: in.LUN, SizeBytes: in.SizeBytes, Root: out.Root}}}, nil)
	if !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("published: %v", err)
	}
	if err := s.Close(context.WithoutCancel(t.Context()), "test"); err != nil {
		t.Error(err)
	}
	a.backup(t, repotest.Open(t, a.store))
}

// A point that rests on a damaged pack is published after the pack was found damaged and before that is recorded, at either of two moments:
// it is shown as damaged like the others, and the next backup heals it.
func TestProofs_PublishedBeforeTheRecord(t *testing.T) {
	for _, moment := range []string{"", "proof"} {
		a := newAiling(t)
		m := &moments{Store: a.store, before: moment}
		r := repotest.Open(t, m)
		harm(t, a.store, a.packs("data/")[0], true)
		report, err := r.Verify(t.Context(), repo.VerifyComplete)
		if err != nil {
			t.Fatal(err)
		}
		m.do = func() { a.backup(t, repotest.Open(t, a.store)) }
		if moment == "" {
			m.at("")
		}
		if _, err := r.RecordProof(t.Context(), report); err != nil || m.do != nil {
			t.Fatal(err)
		}
		hit, err := repotest.Open(t, a.store).DamagedPoints(t.Context())
		if err != nil || len(hit) != len(report.Points)+1 || !hit[a.points[2].ID] {
			t.Errorf("at %q: shown as damaged are %v, %v", moment, hit, err)
		}
		a.backup(t, repotest.Open(t, a.store))
	}
}

// A pack that others were moved to is damaged: it is named, and no manifest in its place.
func TestVerify_DamageOfWhatWasMoved(t *testing.T) {
	c := newCollectable(t)
	mustBeBare(t, c.store)
	for _, prefix := range []string{"data/", "tree/"} {
		for _, name := range c.store.Adversary().Names() {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			store := cloneStore(t, c.store)
			harm(t, store, name, true)
			report, err := repotest.Open(t, store).Verify(t.Context(), repo.VerifyComplete)
			if err != nil || len(report.Objects) != 1 || report.Objects[0].Name != name || len(report.Points) == 0 {
				t.Errorf("%s: %+v, points %v, %v", name, report.Objects, report.Points, err)
			}
		}
	}
}

// After healing the point that healed goes, and the index is made anew from pack lists alone: the older point still finds its parts,
// because the damage list names the pack that they lie in now.
func TestHeal_OutlivesTheHealer(t *testing.T) {
	a := newAiling(t)
	a.mustBeFound(t, a.packs("data/")[0], false)
	r := repotest.Open(t, a.store)
	healer := a.backup(t, r)
	if err := repo.RemovePoint(t.Context(), r, healer.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RebuildIndex(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for i, p := range a.points[:2] {
		mustEqual(t, repotest.Open(t, a.store), p.ID, a.held[i])
	}
}

// Two verifications that find different damage at the same time: both are recorded, and nothing that one of them found is lost.
func TestProofs_AtOnce(t *testing.T) {
	a := newAiling(t)
	one, two := repotest.Open(t, a.store), repotest.Open(t, a.store)
	packs := a.packs("data/")
	harm(t, a.store, packs[0], false)
	first, err := one.Verify(t.Context(), repo.VerifyStored)
	if err != nil {
		t.Fatal(err)
	}
	harm(t, a.store, packs[1], false)
	second, err := two.Verify(t.Context(), repo.VerifyStored)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range []struct {
		r      *repo.Repository
		report repo.Report
	}{{two, second}, {one, first}} {
		if _, err := record.r.RecordProof(t.Context(), record.report); err != nil {
			t.Fatal(err)
		}
	}
	a.backup(t, repotest.Open(t, a.store))
	if report := mustVerify(t, a.store, repo.VerifyComplete); !report.OK || len(report.Healed) != 2 {
		t.Errorf("%+v", report)
	}
}
