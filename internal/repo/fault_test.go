package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

var faultModes = []wrap.Mode{wrap.Fail, wrap.FailAfterEffect, wrap.Die, wrap.DieAfterEffect}

// cloneStore copies a store's objects into a new one.
func cloneStore(t *testing.T, store *mem.Store) *mem.Store {
	t.Helper()
	c := newStore()
	for _, name := range store.Adversary().Names() {
		data, err := blob.ReadAll(t.Context(), store, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		c.Adversary().Overwrite(name, data)
	}
	return c
}

// leftOut reports whether a call of a loop over so many is left out: with -short a dozen of them are spoilt, and the last one, and in a
// short loop every seventh. `make loops` spoils all.
func leftOut(at, calls int) bool {
	return testing.Short() && at < calls && at%max(7, calls/12) > 0
}

// everyFault runs a flow with each of its store calls spoilt in each mode: check is told the store as it was left, through a
// decorator no more, and what the flow returned. A fault that is never met ends the loop, and must then have been a good run.
func everyFault(t *testing.T, base *mem.Store, flow func(blob.Store) error, check func(t *testing.T, store *mem.Store, err error)) {
	t.Helper()
	counted := wrap.NewFaults(wrap.Healthy, 0)
	if err := flow(wrap.Fault(cloneStore(t, base), counted)); err != nil {
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
				err := flow(wrap.Fault(store, faults))
				if !faults.Fired() {
					if err != nil {
						t.Fatalf("no fault was met, and yet: %v", err)
					}
					break
				}
				met++
				check(t, store, err)
				if t.Failed() {
					t.Fatalf("call %d of %d, mode %s, flow returned: %v", at, counted.Calls(), mode, err)
				}
			}
			if met < counted.Calls() {
				t.Errorf("only %d of the %d calls of a good run were spoilt", met, counted.Calls())
			}
			t.Logf("%d calls", met)
		})
	}
}

// openOptions cut the index so small that sessions write runs before their end and merge below the first partition.
func openOptions() repo.OpenOptions {
	return repo.OpenOptions{
		Password: repotest.Password, Clock: clock.NewManual(repotest.Start()), Tool: "test", Index: repo.IndexLimits{RunEntries: 48, Stride: 2, AheadBytes: 4 << 10},
	}
}

// faultBase is a repository with one point of a disk, and the disk as it is now, changed since.
func faultBase(t *testing.T) (*mem.Store, holdfast.Point, []byte, *repotest.Disk) {
	t.Helper()
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(20*chunkSize + 512)
	d.Scribble(newRand(21), 8, 200<<10)
	p := mustBackup(t, r, "vm", d, nil)
	if err := r.Settle(t.Context(), p.Session); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(d.Data)
	d.Scribble(newRand(22), 4, 100<<10)
	return store, p, before, d
}

// backup is a whole run by a process of its own: open, begin, write, publish, settle; closed where it fails.
func backup(ctx context.Context, store blob.Store, parent holdfast.Point, d *repotest.Disk) (id holdfast.PointID, err error) {
	r, err := repo.Open(ctx, store, openOptions())
	if err != nil {
		return "", err
	}
	s, err := r.Begin(ctx, repo.BeginOptions{VM: "vm", Parents: []holdfast.PointID{parent.ID}, Resources: func(id holdfast.SessionID) (any, error) { return id, nil }})
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
	}, map[string]string{"old": "snapshot"})
	if err != nil {
		return "", err
	}
	return published.ID, r.Settle(ctx, s.ID())
}

// tidy does what the next run of a VM does first: it gives up what is open and settles what is not.
func tidy(t *testing.T, r *repo.Repository) {
	t.Helper()
	sessions, err := r.Unsettled("vm")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions {
		if s.Status == repo.SessionOpen {
			if err := r.Abandon(t.Context(), s.ID, "found"); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.Resources) == 0 || (s.Status == repo.SessionPublished) != (s.PublishResources != nil) {
			t.Errorf("session %s: journals %q and %q", s.ID, s.Resources, s.PublishResources)
		}
		if err := r.Settle(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	if sessions, err := r.Unsettled("vm"); err != nil || len(sessions) != 0 {
		t.Fatalf("unsettled after all: %v, %v", sessions, err)
	}
}

// Whatever call of a backup fails, fails after its effect, or is the last of its process: the repository stays sound, the old
// point restores, the new one is there whole or not at all, and running again succeeds.
func TestFaults_Backup(t *testing.T) {
	base, parent, before, d := faultBase(t)
	flow := func(store blob.Store) error {
		_, err := backup(t.Context(), store, parent, d)
		return err
	}
	everyFault(t, base, flow, func(t *testing.T, store *mem.Store, err error) {
		repotest.Verify(t, store)
		r := repotest.Open(t, store)
		points, listErr := r.Points()
		if listErr != nil || len(points) < 1 || len(points) > 2 || err == nil && len(points) != 2 {
			t.Fatalf("%d points, %v", len(points), listErr)
		}
		mustEqual(t, r, parent.ID, before)
		for _, p := range points {
			if p.ID != parent.ID {
				mustEqual(t, r, p.ID, d.Data)
			}
		}
		tidy(t, r)
		again, err := backup(t.Context(), store, parent, d)
		if err != nil {
			t.Fatalf("running again: %v", err)
		}
		mustEqual(t, repotest.Open(t, store), again, d.Data)
		if report, err := repo.Verify(t.Context(), store, repo.VerifyOptions{Level: repo.VerifyStored}); err != nil || !report.OK {
			t.Fatalf("after running again: %+v, %v", report, err)
		}
	})
}

// A session whose call fails once without effect does not publish behind the caller's back: what it returned is what holds.
func TestFaults_BackupFailedMeansUnpublished(t *testing.T) {
	base, parent, _, d := faultBase(t)
	for at := 1; ; at++ {
		store, faults := cloneStore(t, base), wrap.NewFaults(wrap.Fail, at)
		id, err := backup(t.Context(), wrap.Fault(store, faults), parent, d)
		if !faults.Fired() {
			break
		}
		points, listErr := repotest.Open(t, store).Points()
		if listErr != nil {
			t.Fatal(listErr)
		}
		if want := 1; id == "" && err != nil && len(points) != want {
			t.Errorf("call %d: the backup failed (%v), and %d points are visible", at, err, len(points))
		}
	}
}

// Init either made a repository or can be called again.
func TestFaults_Init(t *testing.T) {
	options := repo.InitOptions{Password: repotest.Password, KDF: repotest.FastKDF(), Clock: clock.NewManual(repotest.Start())}
	flow := func(store blob.Store) error {
		_, err := repo.Init(t.Context(), store, options)
		return err
	}
	everyFault(t, newStore(), flow, func(t *testing.T, store *mem.Store, err error) {
		_, openErr := repo.Open(t.Context(), store, openOptions())
		switch {
		case holdfast.IsKind(openErr, holdfast.KindNotFound) && err != nil:
			if _, err := repo.Init(t.Context(), store, options); err != nil {
				t.Fatalf("init again: %v", err)
			}
		case openErr != nil:
			t.Fatalf("open: %v", openErr)
		}
		repotest.Verify(t, store)
	})
}

// Open and reading change nothing and tell what failed.
func TestFaults_Read(t *testing.T) {
	base, parent, before, _ := faultBase(t)
	flow := func(store blob.Store) error {
		r, err := repo.Open(t.Context(), store, openOptions())
		if err != nil {
			return err
		}
		got, err := repotest.Restore(t.Context(), r, parent.ID)
		if err == nil && !bytes.Equal(got, before) {
			return errors.New("what was read is wrong, and no error said so")
		}
		return err
	}
	everyFault(t, base, flow, func(t *testing.T, store *mem.Store, err error) {
		if !holdfast.IsKind(err, holdfast.KindUnavailable) || !strings.Contains(err.Error(), "injected") {
			t.Errorf("error %v", err)
		}
		if strings.Join(store.Adversary().Names(), " ") != strings.Join(base.Adversary().Names(), " ") {
			t.Error("reading changed the store")
		}
	})
}

// RebuildIndex loses nothing, wherever it stops.
func TestFaults_RebuildIndex(t *testing.T) {
	base, parent, before, d := faultBase(t)
	flow := func(store blob.Store) error {
		r, err := repo.Open(t.Context(), store, openOptions())
		if err != nil {
			return err
		}
		_, err = r.RebuildIndex(t.Context(), nil)
		return err
	}
	everyFault(t, base, flow, func(t *testing.T, store *mem.Store, _ error) {
		repotest.Verify(t, store)
		r := repotest.Open(t, store)
		mustEqual(t, r, parent.ID, before)
		if result, err := r.RebuildIndex(t.Context(), nil); err != nil || result.Entries == 0 {
			t.Fatalf("rebuilding again: %+v, %v", result, err)
		}
		if _, err := backup(t.Context(), store, parent, d); err != nil {
			t.Fatal(err)
		}
	})
}

// Verify tells apart what is damaged and what it could not look at.
func TestFaults_Verify(t *testing.T) {
	base, _, _, _ := faultBase(t)
	flow := func(store blob.Store) error {
		r, err := repo.Open(t.Context(), store, openOptions())
		if err != nil {
			return err
		}
		report, err := repo.Verify(t.Context(), store, repo.VerifyOptions{Level: repo.VerifyComplete, Repository: r})
		if err == nil && !report.OK {
			return fmt.Errorf("a store that failed is called damaged: %+v", report)
		}
		return err
	}
	everyFault(t, base, flow, func(t *testing.T, _ *mem.Store, err error) {
		if !holdfast.IsKind(err, holdfast.KindUnavailable) {
			t.Errorf("error %v", err)
		}
	})
}

// failPacks is a store on which data packs cannot be stored.
type failPacks struct {
	blob.Store
	err error
}

func (f failPacks) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	if strings.HasPrefix(name, "data/") {
		return f.err
	}
	return f.Store.Put(ctx, name, data, o)
}

// When a pack cannot be stored, the disk is not read to its end first, and the reason is what the store said.
func TestSession_UploadFailureStopsReading(t *testing.T) {
	store := newStore()
	repotest.Init(t, store)
	full := holdfast.Errorf(holdfast.KindUnavailable, "the disk is full").WithHint("free space and run again")
	r := repotest.Open(t, failPacks{store, full})
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 30
	source := &noise{}
	_, err = s.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: size, Extents: repotest.Seq([]holdfast.Extent{{Length: size}}), Source: source})
	if !errors.Is(err, error(full)) {
		t.Errorf("error %v, want what the store said", err)
	}
	if read := source.read.Load(); read > size/4 {
		t.Errorf("%d bytes were read although nothing could be stored", read)
	}
	if _, err := s.Publish(t.Context(), holdfast.Point{}, nil); !errors.Is(err, error(full)) {
		t.Errorf("publishing after all: %v", err)
	}
	if err := s.Close(t.Context(), "test"); err != nil {
		t.Error(err)
	}
}

// noise is a disk of bytes that do not compress and never repeat.
type noise struct{ read atomic.Int64 }

func (n *noise) ReadAt(_ context.Context, p []byte, offset int64) error {
	x := uint64(offset)*0x9E3779B97F4A7C15 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x)
	}
	n.read.Add(int64(len(p)))
	return nil
}

// A cancelled context ends WriteDisk and Publish wherever they are, leaves no goroutine (see TestMain) and publishes nothing.
func TestSession_Cancel(t *testing.T) {
	for after := range int64(12) {
		store := newStore()
		r := repotest.Init(t, store)
		ctx, cancel := context.WithCancel(t.Context())
		s, err := r.Begin(ctx, repo.BeginOptions{VM: "vm"})
		if err != nil {
			t.Fatal(err)
		}
		source := &cancelling{after: after, cancel: cancel}
		_, err = s.WriteDisk(ctx, repo.DiskInput{LUN: "os", SizeBytes: 64 << 20, Extents: repotest.Seq([]holdfast.Extent{{Length: 64 << 20}}), Source: source})
		if !holdfast.IsKind(err, holdfast.KindCanceled) {
			t.Errorf("cancelled after %d reads: %v", after, err)
		}
		if _, err := s.Publish(ctx, holdfast.Point{}, nil); !holdfast.IsKind(err, holdfast.KindCanceled) {
			t.Errorf("publishing after all: %v", err)
		}
		if err := s.Close(ctx, "cancelled"); err != nil {
			t.Error(err)
		}
		if u, err := repotest.Open(t, store).Unsettled("vm"); err != nil || len(u) != 1 || u[0].Status != repo.SessionAbandoned {
			t.Errorf("left: %+v, %v", u, err)
		}
	}
}

type cancelling struct {
	noise
	after  int64
	calls  atomic.Int64
	cancel func()
}

func (c *cancelling) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if c.calls.Add(1) > c.after {
		c.cancel()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.noise.ReadAt(ctx, p, offset)
}
