package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const day = 24 * time.Hour

// lockedStore is a store that can lock, with its own time.
func lockedStore() (*mem.Store, *clock.Manual) {
	manual := clock.NewManual(repotest.Start())
	return mem.New(manual), manual
}

func mustBackupLocked(t *testing.T, r *repo.Repository, vm string, d *repotest.Disk, parent *holdfast.Point, days int) holdfast.Point {
	t.Helper()
	p, err := repotest.LockedBackup(t.Context(), r, vm, d, parent, days)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// horizon asks for a point's locks without a key, and makes sure that a key changes nothing.
func horizon(t *testing.T, store blob.Store, id holdfast.PointID) time.Time {
	t.Helper()
	keyless, err := repo.Locks(t.Context(), store, repo.LocksOptions{Point: id})
	if err != nil {
		t.Fatal(err)
	}
	keyed, err := repo.Locks(t.Context(), store, repo.LocksOptions{Point: id, Repository: repotest.Open(t, store)})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(names(keyless)) != fmt.Sprint(names(keyed)) {
		t.Errorf("with a key the point needs %v, without %v", names(keyed), names(keyless))
	}
	if keyed.Horizon == nil {
		return time.Time{}
	}
	return *keyed.Horizon
}

func names(l repo.PointLocks) []string {
	var all []string
	for _, o := range l.Objects {
		all = append(all, o.Name)
	}
	return all
}

// A point that was promised to stay has a horizon not before the promise, whether what it needs is new or was there without a
// lock; a point without promises has none, and says which objects it needs.
func TestLocks_Promise(t *testing.T) {
	store, now := lockedStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(20 * chunkSize)
	d.Scribble(newRand(1), 10, 200<<10)
	first := mustBackup(t, r, "vm", d, nil)
	if h := horizon(t, store, first.ID); !h.IsZero() {
		t.Errorf("without locks the horizon is %s", h)
	}
	d.Scribble(newRand(2), 3, 100<<10)
	second := mustBackupLocked(t, r, "vm", d, &first, 30)
	if h := horizon(t, store, second.ID); h.Before(now.Now().Add(30 * day)) {
		t.Errorf("promised 30 days, the horizon is %s", h)
	}
	d.Scribble(newRand(3), 3, 100<<10)
	before := horizon(t, store, second.ID)
	third := mustBackupLocked(t, r, "vm", d, &second, 400)
	if h := horizon(t, store, third.ID); h.Before(now.Now().Add(400 * day)) {
		t.Errorf("promised 400 days, the horizon is %s", h)
	}
	fourth := mustBackupLocked(t, repotest.Open(t, store), "vm", d, &third, 1)
	if h := horizon(t, store, fourth.ID); h.Before(now.Now().Add(day)) {
		t.Errorf("promised a day, the horizon is %s", h)
	}
	for id, least := range map[holdfast.PointID]time.Time{second.ID: before, third.ID: now.Now().Add(400 * day)} {
		if h := horizon(t, store, id); h.Before(least) {
			t.Errorf("the horizon of %s has become shorter: %s", id, h)
		}
	}
	l, err := repo.Locks(t.Context(), store, repo.LocksOptions{Point: third.ID})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[layout.Kind]int{}
	for _, name := range names(l) {
		kind, _ := layout.Parse(name)
		kinds[kind]++
	}
	if kinds[layout.DataPack] != 3 || kinds[layout.TreePack] != 3 || kinds[layout.Manifest] != 1 || kinds[layout.KeyObject] != 2 || kinds[layout.LogEntry] < 7 || kinds[layout.Foreign] > 0 {
		t.Errorf("a point needs %v", kinds)
	}
	now.Advance(1000 * day)
	if h := horizon(t, store, third.ID); !h.IsZero() {
		t.Errorf("after all locks have run out the horizon is %s", h)
	}
}

// A store that cannot lock, and a date that cannot be promised, are refused before anything is written.
func TestLocks_Refused(t *testing.T) {
	folder, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for what, row := range map[string]struct {
		store blob.Store
		until time.Time
		word  string
	}{
		"a folder":     {folder, repotest.Start().Add(30 * day), "cannot lock"},
		"yesterday":    {newStore(), repotest.Start().Add(-day), "has passed"},
		"for too long": {newStore(), repotest.Start().AddDate(400, 0, 0), "cannot be locked until"},
	} {
		r := repotest.Init(t, row.store)
		_, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm", RetainUntil: row.until})
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != holdfast.KindInvalid || e.Field != "lockFor" || !strings.Contains(e.Message, row.word) || e.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
		if info, err := r.Info(t.Context()); err != nil || info.LogEntries != 1 {
			t.Errorf("%s: %d log entries, %v", what, info.LogEntries, err)
		}
	}
	r := repotest.Open(t, folder)
	if _, err := r.RetainFor(t.Context(), 30); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a date on a folder: %v", err)
	}
	p := mustBackup(t, r, "vm", repotest.NewDisk(chunkSize), nil)
	if h := horizon(t, folder, p.ID); !h.IsZero() {
		t.Errorf("a point in a folder has the horizon %s", h)
	}
}

// The next day's backup of an unchanged disk moves no lock and asks little; a window later all shared locks move once, one
// request each, and not again the day after.
func TestLocks_Requests(t *testing.T) {
	store, now := lockedStore()
	repotest.Init(t, store)
	d := repotest.NewDisk(40 * chunkSize)
	d.Scribble(newRand(4), 20, 300<<10)
	parent := mustBackupLocked(t, repotest.Open(t, store), "vm", d, nil, 30)
	moved := map[int]int{}
	for number := 1; number <= 13; number++ {
		now.Advance(day)
		counter := &wrap.Counter{}
		r, err := repo.Open(t.Context(), wrap.Count(store, counter), openOptions())
		if err != nil {
			t.Fatal(err)
		}
		opened := counter.Calls()
		next := mustBackupLocked(t, r, "vm", d, &parent, 30)
		calls := counter.Calls()
		moved[number] = calls[wrap.OpExtend]
		if looks := calls[wrap.OpVersions] + calls[wrap.OpListVersions] - opened[wrap.OpVersions] - opened[wrap.OpListVersions]; looks > 40 {
			t.Errorf("day %d: %d requests to look", number, looks)
		}
		if h := horizon(t, store, next.ID); h.Before(now.Now().Add(30 * day)) {
			t.Errorf("day %d: horizon %s", number, h)
		}
		parent = next
	}
	for number, n := range moved {
		if (n > 0) != (number == 11) || n > 20 {
			t.Errorf("on day %d %d locks were moved: %v", number, n, moved)
		}
	}
}

// A budget that does not do is refused with the number that is needed, before any lock is moved.
func TestLocks_Budget(t *testing.T) {
	store, now := lockedStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(4 * chunkSize)
	d.Scribble(newRand(5), 4, 100<<10)
	first := mustBackup(t, r, "vm", d, nil)
	counter := &wrap.Counter{}
	r, err := repo.Open(t.Context(), wrap.Count(store, counter), openOptions())
	if err != nil {
		t.Fatal(err)
	}
	publish := func(budget int) (repo.Published, error) {
		s, err := r.Begin(t.Context(), repo.BeginOptions{
			VM: "vm", Parents: []holdfast.PointID{first.ID}, RetainUntil: now.Now().Add(day), LockRequestsMax: budget,
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: int64(len(d.Data)), Base: &first.Disks[0], Extents: repotest.Seq(nil), Source: d})
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Publish(t.Context(), holdfast.Point{
			VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: holdfast.OSDisk, SizeBytes: int64(len(d.Data)), Root: out.Root}},
		}, nil)
		return p, errors.Join(err, s.Close(t.Context(), "test"))
	}
	if _, err := publish(2); !holdfast.IsKind(err, holdfast.KindInvalid) || counter.Calls()[wrap.OpExtend] != 0 {
		t.Errorf("with a budget of 2: %v after %d renewals", err, counter.Calls()[wrap.OpExtend])
	}
	p, err := publish(100)
	if err != nil || p.LocksRenewed == 0 || p.LocksRenewed != counter.Calls()[wrap.OpExtend] || !p.LockedUntil.Equal(now.Now().Add(day)) {
		t.Errorf("with a budget of 100: %+v, %v; %d requests", p, err, counter.Calls()[wrap.OpExtend])
	}
}

// What others append to the log while a locking backup runs is locked too before the point is published.
func TestLocks_OthersAppendMeanwhile(t *testing.T) {
	store, now := lockedStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(4 * chunkSize)
	d.Scribble(newRand(6), 4, 100<<10)
	until := now.Now().Add(30 * day)
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm", RetainUntil: until})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(d.Allocated()), Source: d})
	if err != nil {
		t.Fatal(err)
	}
	other := repotest.Open(t, store)
	mustBackup(t, other, "other", d, nil)
	if _, err := other.AddSlot(t.Context(), repo.NewSlot{Password: "another", Label: "another", KDF: repotest.FastKDF()}); err != nil {
		t.Fatal(err)
	}
	p, err := s.Publish(t.Context(), holdfast.Point{
		VM: "vm", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: holdfast.OSDisk, SizeBytes: int64(len(d.Data)), Root: out.Root}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if h := horizon(t, store, p.ID); h.Before(until) {
		t.Errorf("promised %s, the horizon is %s", until, h)
	}
}

// A store that keeps versions and cannot lock: what others put over objects is seen through as long as the versions stay, and no
// promise is made.
func TestLocks_VersionsAlone(t *testing.T) {
	below := newStore()
	store := struct {
		blob.Store
		blob.Versioned
	}{below, below}
	r := repotest.Init(t, store)
	d := repotest.NewDisk(20 * chunkSize)
	d.Scribble(newRand(10), 10, 200<<10)
	p := mustBackup(t, r, "vm", d, nil)
	for i, name := range below.Adversary().Names() {
		if below.Adversary().Overwrite(name, []byte("garbage")); i%2 == 0 {
			below.Adversary().Delete(name)
		}
	}
	mustEqual(t, repotest.Open(t, store), p.ID, d.Data)
	if h := horizon(t, store, p.ID); !h.IsZero() {
		t.Errorf("the horizon is %s", h)
	}
	if _, err := r.RetainFor(t.Context(), 30); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a promise: %v", err)
	}
}

// A repository that was deleted where versions stay is still there: another one cannot be made over it, and it opens.
func TestInit_OverADeletedRepository(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	for _, name := range store.Adversary().Names() {
		store.Adversary().Delete(name)
	}
	_, err := repo.Init(t.Context(), store, repo.InitOptions{Password: "another", KDF: repotest.FastKDF(), Clock: openOptions().Clock})
	if !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("another one over it: %v", err)
	}
	if again := repotest.Open(t, store); again.ID() != r.ID() {
		t.Errorf("repository %s has become %s", r.ID(), again.ID())
	}
}

// What was locked goes when its time is over: the collection leaves nothing of a removed point, no version either, and what is
// locked longer stays.
func TestLocks_CollectedAfterTheirTime(t *testing.T) {
	store, now := lockedStore()
	r := repotest.Init(t, store)
	d, other := repotest.NewDisk(20*chunkSize), repotest.NewDisk(20*chunkSize)
	d.Scribble(newRand(11), 10, 200<<10)
	other.Scribble(newRand(12), 10, 200<<10)
	short := mustBackupLocked(t, r, "short", d, nil, 10)
	long := mustBackupLocked(t, r, "long", other, nil, 400)
	locks, err := repo.Locks(t.Context(), store, repo.LocksOptions{Point: short.ID})
	if err != nil {
		t.Fatal(err)
	}
	now.Advance(100 * day)
	if _, err := repotest.Open(t, store).Remove(t.Context(), []holdfast.PointID{short.ID}, repo.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := repo.NewCollector(openLater(t, store, 100*day), store.Remover()).Collect(t.Context(), eager()); err != nil {
			t.Fatal(err)
		}
	}
	gone := 0
	for _, name := range names(locks) {
		versions := 0
		for _, err := range store.Versions(t.Context(), name) {
			if err != nil {
				t.Fatal(err)
			}
			versions++
		}
		if versions == 0 {
			gone++
		}
	}
	if gone < 4 { // manifest, list, data, tree
		t.Errorf("%d objects of the removed point are gone", gone)
	}
	mustEqual(t, repotest.Open(t, store), long.ID, other.Data)
	if h := horizon(t, store, long.ID); h.Before(repotest.Start().Add(400 * day)) {
		t.Errorf("the horizon of the other point is %s", h)
	}
}

// A locked point is not removed before its time, and the refusal says the date; what could be removed beside it stays too.
func TestLocks_RefuseRemoval(t *testing.T) {
	store, now := lockedStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(4 * chunkSize)
	d.Scribble(newRand(9), 4, 100<<10)
	loose := mustBackup(t, r, "vm", d, nil)
	p := mustBackupLocked(t, r, "vm", d, nil, 30)
	for _, dry := range []bool{true, false} {
		_, err := r.Remove(t.Context(), []holdfast.PointID{loose.ID, p.ID}, repo.RemoveOptions{DryRun: dry})
		var locked *blob.LockedError
		if !holdfast.IsKind(err, holdfast.KindRefused) || !errors.As(err, &locked) || locked.Until.Before(now.Now().Add(30*day)) || !strings.Contains(err.Error(), locked.Until.UTC().Format(time.RFC3339)) {
			t.Errorf("removal, dry %t: %v", dry, err)
		}
	}
	if points, err := r.Points(); err != nil || len(points) != 2 {
		t.Errorf("%d points, %v", len(points), err)
	}
	now.Advance(60 * day)
	if _, err := r.Remove(t.Context(), []holdfast.PointID{p.ID}, repo.RemoveOptions{}); err != nil {
		t.Errorf("after its time: %v", err)
	}
}

// A key change shortens nobody's horizon: the new slot and ring are locked as long as those whose place they take.
func TestLocks_KeyChange(t *testing.T) {
	store, _ := lockedStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(4 * chunkSize)
	d.Scribble(newRand(7), 4, 100<<10)
	p := mustBackupLocked(t, r, "vm", d, nil, 30)
	before := horizon(t, store, p.ID)
	if _, err := r.AddSlot(t.Context(), repo.NewSlot{Password: "another", Label: "another", KDF: repotest.FastKDF()}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Rotate(t.Context(), repo.RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	if h := horizon(t, store, p.ID); h.Before(before) || before.IsZero() {
		t.Errorf("the horizon was %s and is %s", before, h)
	}
}

// What was lost with a pack and written again lies in another one, which only the damage list names, and which may be locked for a shorter
// time. Without that list no horizon is told, rather than one that is too high; a verification finds out again.
func TestLocks_WithoutTheDamageList(t *testing.T) {
	store, now := lockedStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(8 * chunkSize)
	d.Write(0, randomBytes(newRand(5), len(d.Data)))
	first := mustBackupLocked(t, r, "vm", d, nil, 300)
	for _, name := range store.Adversary().Names() {
		if strings.HasPrefix(name, "data/") {
			store.Adversary().Erase(name)
		}
	}
	mustVerify(t, store, repo.VerifyComplete)
	healer := mustBackupLocked(t, repotest.Open(t, store), "vm", d, &first, 30)
	mustVerify(t, store, repo.VerifyComplete)
	until := horizon(t, store, first.ID)
	if !until.Before(now.Now().Add(100 * day)) {
		t.Fatalf("what was written again is locked until %s", until)
	}
	for _, name := range store.Adversary().Names() {
		data, err := blob.ReadAll(t.Context(), store, name, 1<<30)
		if err == nil && bytes.HasPrefix(data, []byte("holdfast damage list 1")) {
			store.Adversary().Erase(name)
		}
	}
	var e *holdfast.Error
	if l, err := repo.Locks(t.Context(), store, repo.LocksOptions{Point: first.ID}); !errors.As(err, &e) || e.Kind != holdfast.KindCorrupt || e.Hint == "" {
		t.Errorf("%v, %v", l.Horizon, err)
	}
	if _, err := repotest.LockedBackup(t.Context(), repotest.Open(t, store), "vm", d, &healer, 30); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a promise without knowing what is needed: %v", err)
	}
	mustVerify(t, store, repo.VerifyComplete)
	if again := horizon(t, store, first.ID); !again.Equal(until) {
		t.Errorf("the horizon was %s and is %s", until, again)
	}
}

// A local clock that is wrong, by years and in either direction, moves no lock: dates come from the store.
func TestLocks_WrongLocalClock(t *testing.T) {
	for _, local := range []time.Time{repotest.Start().AddDate(-20, 0, 0), repotest.Start().AddDate(20, 0, 0)} {
		store, now := lockedStore()
		repotest.Init(t, store)
		o := openOptions()
		o.Clock = clock.NewManual(local)
		r, err := repo.Open(t.Context(), store, o)
		if err != nil {
			t.Fatal(err)
		}
		d := repotest.NewDisk(4 * chunkSize)
		d.Scribble(newRand(8), 4, 100<<10)
		p := mustBackupLocked(t, r, "vm", d, nil, 30)
		if h := horizon(t, store, p.ID); h.Before(now.Now().Add(30*day)) || h.After(now.Now().Add(300*day)) {
			t.Errorf("local clock %s: the horizon is %s", local, h)
		}
	}
}

// Whatever call of a locking backup fails, fails after its effect, or is the last of its process: a point that is visible is
// locked as was promised, and running again succeeds.
func TestFaults_LockedBackup(t *testing.T) {
	base, parent, before, d := faultBase(t)
	run := func(store blob.Store) (holdfast.PointID, error) { return lockedBackup(t.Context(), store, parent, d) }
	flow := func(store blob.Store) error { _, err := run(store); return err }
	everyFault(t, base, flow, func(t *testing.T, store *mem.Store, _ error) {
		points, err := repotest.Open(t, store).Points()
		if err != nil {
			t.Fatal(err)
		}
		again, err := run(store)
		if err != nil {
			t.Fatalf("running again: %v", err)
		}
		for _, p := range append(points, repo.PointSummary{ID: again}) {
			if h := horizon(t, store, p.ID); p.ID != parent.ID && h.Before(repotest.Start().Add(30*day)) {
				t.Errorf("%s was published, and its horizon is %s", p.ID, h)
			}
		}
		r := repotest.Open(t, store)
		mustEqual(t, r, parent.ID, before)
		mustEqual(t, r, again, d.Data)
	})
}

// lockedBackup is a whole locking run by a process of its own.
func lockedBackup(ctx context.Context, store blob.Store, parent holdfast.Point, d *repotest.Disk) (id holdfast.PointID, err error) {
	r, err := repo.Open(ctx, store, openOptions())
	if err != nil {
		return "", err
	}
	until, err := r.RetainFor(ctx, 30)
	if err != nil {
		return "", err
	}
	s, err := r.Begin(ctx, repo.BeginOptions{VM: "vm", Parents: []holdfast.PointID{parent.ID}, RetainUntil: until})
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(ctx, err.Error()))
		}
	}()
	out, err := s.WriteDisk(ctx, repo.DiskInput{
		LUN: holdfast.OSDisk, SizeBytes: int64(len(d.Data)), Base: &parent.Disks[0], Extents: repotest.Seq(d.Changes()), Source: d, Readers: 1,
	})
	if err != nil {
		return "", err
	}
	published, err := s.Publish(ctx, holdfast.Point{
		VM: "vm", Name: "vm", Time: repotest.Start(), Kind: holdfast.PointBackup, Parent: parent.ID,
		Disks: []holdfast.PointDisk{{LUN: holdfast.OSDisk, SizeBytes: int64(len(d.Data)), Root: out.Root}},
	}, nil)
	if err != nil {
		return "", err
	}
	return published.ID, r.Settle(ctx, s.ID())
}

// attacked is a locked repository with two points of two machines, and what their disks held.
type attacked struct {
	store   *mem.Store
	now     *clock.Manual
	content map[holdfast.PointID][]byte
	before  map[holdfast.PointID]time.Time
}

func newAttacked(t *testing.T) attacked {
	t.Helper()
	a := attacked{content: map[holdfast.PointID][]byte{}, before: map[holdfast.PointID]time.Time{}}
	a.store, a.now = lockedStore()
	r, err := repo.Init(t.Context(), a.store, repo.InitOptions{
		Password: repotest.Password, KDF: repotest.FastKDF(), Clock: openOptions().Clock,
		Parameters: repo.Parameters{ChunkSize: chunkSize, FrameSize: 4 * chunkSize, FanOut: 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, vm := range []string{"web", "db"} {
		d := repotest.NewDisk(40 * chunkSize)
		d.Scribble(newRand(uint64(i)), 10, 300<<10)
		p := mustBackupLocked(t, r, vm, d, nil, 30)
		a.content[p.ID] = bytes.Clone(d.Data)
		d.Scribble(newRand(uint64(i+10)), 3, 100<<10)
		p = mustBackupLocked(t, r, vm, d, &p, 30)
		a.content[p.ID] = bytes.Clone(d.Data)
		if _, err := r.AddSlot(t.Context(), repo.NewSlot{Password: "p" + vm, Label: vm, KDF: repotest.FastKDF()}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range a.content {
		a.before[id] = horizon(t, a.store, id)
		if a.before[id].Before(a.now.Now().Add(30 * day)) {
			t.Fatalf("%s: horizon %s", id, a.before[id])
		}
	}
	return a
}

// mustStand lists, verifies and restores everything, and compares horizons. strange are objects that somebody added.
func (a attacked) mustStand(t *testing.T, strange []string) {
	t.Helper()
	r := repotest.Open(t, a.store)
	points, err := r.Points()
	if err != nil || len(points) != len(a.content) {
		t.Fatalf("%d points are listed, %v", len(points), err)
	}
	for id, want := range a.content {
		mustEqual(t, r, id, want)
		keyed, err := repo.Locks(t.Context(), a.store, repo.LocksOptions{Point: id, Repository: r})
		if err != nil || keyed.Horizon == nil || keyed.Horizon.Before(a.before[id]) {
			t.Errorf("the horizon of %s was %s: %v, %v", id, a.before[id], keyed.Horizon, err)
		}
	}
	for _, o := range []repo.VerifyOptions{{Level: repo.VerifyStored}, {Level: repo.VerifyComplete, Repository: r}} {
		report, err := repo.Verify(t.Context(), a.store, o)
		if err != nil {
			t.Fatalf("level %d: %v", o.Level, err)
		}
		var found []string
		for _, p := range report.Objects {
			found = append(found, p.Name)
		}
		if !slices.Equal(found, strange) || len(report.Points) > 0 || len(report.VMs) > 0 || report.OK != (len(strange) == 0) {
			t.Errorf("level %d: %+v", o.Level, report)
		}
		if len(report.Shadowed) == 0 {
			t.Errorf("level %d says nothing of shadows", o.Level)
		}
	}
}

// Somebody with all rights on the data deletes, overwrites and shadows every object, locks his garbage for a century, and
// removes every version that no lock holds. Unaided, everything is listed, verified and restored, and no horizon is lower. What
// happened is told, and is no damage.
func TestAdversary_Shadows(t *testing.T) {
	deleted := func(a mem.Adversary, name string) { a.Purge(name) }
	attacks := map[string]func(a mem.Adversary, name string){
		"deletes": deleted,
		"overwrites": func(a mem.Adversary, name string) {
			a.Overwrite(name, []byte("garbage"))
			a.Overwrite(name, bytes.Repeat([]byte("x"), 100_000))
		},
		"overwrites and deletes": func(a mem.Adversary, name string) { a.Overwrite(name, []byte("garbage")); deleted(a, name) },
		"deletes and overwrites": func(a mem.Adversary, name string) { deleted(a, name); a.Overwrite(name, nil) },
	}
	for what, attack := range attacks {
		t.Run(what, func(t *testing.T) {
			a := newAttacked(t)
			for _, name := range a.store.Adversary().Names() {
				attack(a.store.Adversary(), name)
				if err := a.store.Extend(t.Context(), name, a.now.Now().AddDate(100, 0, 0)); err != nil && !errors.Is(err, blob.ErrNotFound) {
					t.Fatal(err)
				}
			}
			a.mustStand(t, nil)
			if _, err := lockedImage(t, repotest.Open(t, a.store)); err != nil {
				t.Errorf("the next backup: %v", err)
			}
			for id, want := range a.content { // a collection over all this takes nothing away
				mustCollect(t, a.store, eager())
				mustEqual(t, repotest.Open(t, a.store), id, want)
				if h := horizon(t, a.store, id); h.Before(a.before[id]) {
					t.Errorf("after a collection the horizon of %s is %s, it was %s", id, h, a.before[id])
				}
			}
		})
	}
}

// lockedImage backs up a small disk.
func lockedImage(t *testing.T, r *repo.Repository) (holdfast.Point, error) {
	t.Helper()
	d := repotest.NewDisk(4 * chunkSize)
	d.Scribble(newRand(9), 4, 100<<10)
	return repotest.LockedBackup(t.Context(), r, "new", d, nil, 30)
}

// forgedEntry makes an entry that has the right form, chain and checksum, and no MAC of ours.
func forgedEntry(t *testing.T, store *mem.Store, n uint64, rest string) []byte {
	t.Helper()
	previous, err := blob.ReadAll(t.Context(), store, layout.EntryName(n-1), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	_, tail, _ := bytes.Cut(previous, []byte(`"repository":"`))
	line := fmt.Sprintf(`{"holdfast":1,"n":%d,"repository":"%s","previous":"%s","time":"2026-03-01T00:00:00Z","writer":"x","generation":1,"checkpoint":0,%s}`,
		n, tail[:32], layout.Sum(previous), rest)
	stored := fmt.Sprintf("%s\nmac %x\n", line, make([]byte, 32))
	return fmt.Appendf(nil, "%ssum %x\n", stored, sha256.Sum256([]byte(stored)))
}

// Somebody puts entries of his own where the log goes on: garbage, removals, key changes, an entry of a newer version, far ones.
// Who has the key lists, verifies, restores; what was added is named, and hits no point. Nothing new can be published, and that is
// told.
func TestAdversary_AddsEntries(t *testing.T) {
	for what, add := range map[string]func(a attacked, next uint64) []string{
		"garbage": func(a attacked, next uint64) []string {
			a.store.Adversary().Overwrite(layout.EntryName(next), []byte("garbage"))
			return []string{layout.EntryName(next)}
		},
		"too much": func(a attacked, next uint64) []string {
			a.store.Adversary().Overwrite(layout.EntryName(next), make([]byte, layout.EntryBytesMax+1))
			return []string{layout.EntryName(next)}
		},
		"a removal": func(a attacked, next uint64) []string {
			var ids []string
			for id := range a.content {
				ids = append(ids, `"`+string(id)+`"`)
			}
			a.store.Adversary().Overwrite(layout.EntryName(next), forgedEntry(t, a.store, next, `"kind":"remove","points":[`+strings.Join(ids, ",")+`]`))
			return []string{layout.EntryName(next)}
		},
		"a key change": func(a attacked, next uint64) []string {
			name := layout.Name(layout.KeyObject, layout.Hash{7})
			a.store.Adversary().Overwrite(layout.EntryName(next), forgedEntry(t, a.store, next, `"kind":"keys","slots":["`+name+`"],"keyRing":"`+name+`"`))
			return []string{layout.EntryName(next)}
		},
		"a newer version": func(a attacked, next uint64) []string {
			a.store.Adversary().Overwrite(layout.EntryName(next), forgedEntry(t, a.store, next, `"kind":"gift"`))
			return []string{layout.EntryName(next)}
		},
		"a checkpoint in a circle": func(a attacked, next uint64) []string {
			rest := fmt.Sprintf(`"checkpoint":%d,"kind":"checkpoint","state":"%s"`, next, layout.Name(layout.State, layout.Hash{8}))
			a.store.Adversary().Overwrite(layout.EntryName(next), forgedEntry(t, a.store, next, rest))
			return []string{layout.EntryName(next)}
		},
	} {
		t.Run(what, func(t *testing.T) {
			a := newAttacked(t)
			info, err := repotest.Open(t, a.store).Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			strange := add(a, info.LogEntries)
			if err := a.store.Extend(t.Context(), strange[0], a.now.Now().AddDate(100, 0, 0)); err != nil {
				t.Fatal(err)
			}
			r := repotest.Open(t, a.store)
			if points, err := r.Points(); err != nil || len(points) != len(a.content) {
				t.Fatalf("%d points are listed, %v", len(points), err)
			}
			for id, want := range a.content {
				mustEqual(t, r, id, want)
				keyed, err := repo.Locks(t.Context(), a.store, repo.LocksOptions{Point: id, Repository: r})
				if err != nil || keyed.Horizon == nil || keyed.Horizon.Before(a.before[id]) {
					t.Errorf("the horizon of %s was %s: %v, %v", id, a.before[id], keyed.Horizon, err)
				}
			}
			report, err := repo.Verify(t.Context(), a.store, repo.VerifyOptions{Level: repo.VerifyComplete, Repository: r})
			if err != nil || len(report.Objects) != 1 || report.Objects[0].Name != strange[0] || len(report.Points) > 0 {
				t.Errorf("verify: %+v, %v", report, err)
			}
			_, err = lockedImage(t, r)
			if !holdfast.IsKind(err, holdfast.KindCorrupt) || !strings.Contains(err.Error(), strange[0]) {
				t.Errorf("the next backup: %v", err)
			}
		})
	}
}

// Garbage far beyond the log's end, of any form, is named and is nobody's business: no entry is missed for it, and backups go on.
func TestAdversary_FarGarbage(t *testing.T) {
	a := newAttacked(t)
	info, err := repotest.Open(t, a.store).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	far := layout.EntryName(info.LogEntries + 500)
	a.store.Adversary().Overwrite(far, []byte("garbage"))
	for _, o := range []repo.VerifyOptions{{Level: repo.VerifyStored}, {Level: repo.VerifyComplete, Repository: repotest.Open(t, a.store)}} {
		report, err := repo.Verify(t.Context(), a.store, o)
		if err != nil || len(report.Objects) != 1 || report.Objects[0].Name != far || len(report.Points) > 0 {
			t.Errorf("level %d: %+v, %v", o.Level, report, err)
		}
	}
	if _, err := lockedImage(t, repotest.Open(t, a.store)); err != nil {
		t.Errorf("the next backup: %v", err)
	}
}

// forgeOwners puts a version over everything that was written since, in which it is nobody's: objects tell by their own bytes whose they
// are, lists also what they are.
func forgeOwners(t *testing.T, store *mem.Store, since []string, prefix string) {
	t.Helper()
	for _, name := range store.Adversary().Names() {
		if slices.Contains(since, name) || !strings.HasPrefix(name, prefix) {
			continue
		}
		data, err := blob.ReadAll(t.Context(), store, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if prefix == "lists/" {
			lines := strings.SplitAfter(string(data), "\n")
			lines[0], lines[2] = "holdfast condemnation 1\n", "session 00000000000000000000000000000000\n"
			data = []byte(strings.Join(lines, ""))
		} else {
			clear(data[32:48])
		}
		store.Adversary().Overwrite(name, data)
	}
}

// Somebody who may write to the storage makes what a running backup has stored look like nobody's, so that a collection takes it for
// leftovers. What was put over it is seen through, and the backup publishes. When that comes while the collection already looks, the
// backup does not publish what the collection takes.
func TestAdversary_ForgesOwners(t *testing.T) {
	for _, prefix := range []string{"data/", "tree/", "lists/", "index/", "points/"} {
		for _, late := range []bool{false, true} {
			c := newCollectable(t)
			mustBeBare(t, c.store)
			before := c.store.Adversary().Names()
			m := &moments{Store: c.store, before: "publish", do: func() {
				l := &listings{Store: c.store}
				if late {
					l.infos = func() []blob.Info {
						forgeOwners(t, c.store, before, prefix)
						return infosOf(t, c.store)
					}
				} else {
					forgeOwners(t, c.store, before, prefix)
				}
				if _, err := repo.NewCollector(openLater(t, l, 0), c.store.Remover()).Collect(t.Context(), repo.CollectOptions{}); err != nil {
					t.Error(err)
				}
			}}
			s, point := openBackup(t, repotest.Open(t, m), c, false)
			published, err := s.Publish(t.Context(), point, nil)
			if m.do != nil || err != nil && !(late && holdfast.IsKind(err, holdfast.KindConflict)) {
				t.Fatalf("%s, late %v: %v", prefix, late, err)
			}
			if err != nil {
				if err := s.Close(t.Context(), "collected"); err != nil {
					t.Error(err)
				}
				continue
			}
			mustEqual(t, repotest.Open(t, c.store), published.ID, c.disk.Data)
			if report, err := repo.Verify(t.Context(), c.store, repo.VerifyOptions{Level: repo.VerifyStored}); err != nil || !report.OK || len(report.Shadowed) == 0 {
				t.Errorf("%s: %+v, %v", prefix, report, err)
			}
		}
	}
}
