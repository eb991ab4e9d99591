package repo_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// openAt opens a repository by a clock of the test.
func openAt(t *testing.T, store blob.Store, at clock.Clock) *repo.Repository {
	t.Helper()
	r, err := repo.Open(t.Context(), store, repo.OpenOptions{Password: repotest.Password, Clock: at, Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The promise on a real repository: with backups, removals and a share a day, after N days every object has been read in the last N days,
// by what the store saw; the ledger says so too, for the repository and for each point; and the requests that were stated beforehand are those
// that the store counted.
func TestVerifyShare_KeepsThePromise(t *testing.T) {
	const days = 6
	store := newStore()
	repotest.Init(t, store)
	at, random := clock.NewManual(repotest.Start()), newRand(77)
	disk := repotest.NewDisk(60*chunkSize + 512)
	disk.Scribble(random, 10, 400<<10)
	born, read := map[string]time.Time{}, map[string]time.Time{}
	var points []holdfast.Point
	for n := range 3*days + 2 {
		r := openAt(t, store, at)
		var parent *holdfast.Point
		if len(points) > 0 {
			parent = &points[len(points)-1]
		}
		if n%2 == 0 {
			points = append(points, mustBackup(t, r, "vm", disk, parent))
			disk.Scribble(random, 2, 100<<10)
		}
		if len(points) > 4 {
			if err := repo.RemovePoint(t.Context(), r, points[0].ID); err != nil {
				t.Fatal(err)
			}
			points = points[1:]
		}
		for _, name := range store.Adversary().Names() {
			if _, ok := born[name]; !ok {
				born[name] = at.Now()
			}
		}
		plan, err := openAt(t, store, at).VerifyShare(t.Context(), repo.ShareOptions{Within: days * day, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		mustShare(t, store, at, plan, read)
		for _, name := range store.Adversary().Names() {
			last, known := born[name]
			if !known { // written by the share itself
				born[name], last = at.Now(), at.Now()
			}
			if at2, ok := read[name]; ok && at2.After(last) {
				last = at2
			}
			if age := at.Now().Sub(last); n >= days && age > days*day {
				t.Fatalf("day %d: %s was read %v ago", n, name, age)
			}
		}
		at.Advance(day)
	}
	r := openAt(t, store, at)
	if since := r.ProvenSince(); since == nil || at.Now().Sub(*since) > days*day {
		t.Errorf("every byte has been read since %v, it is %v", since, at.Now())
	}
	summaries, err := r.Points()
	if err != nil {
		t.Fatal(err)
	}
	if first := summaries[0]; first.ProvenAt == nil || summaries[len(summaries)-1].ProvenAt != nil && at.Now().Sub(*first.ProvenAt) > days*day {
		t.Errorf("points proven at %v and %v", first.ProvenAt, summaries[len(summaries)-1].ProvenAt)
	}
}

// reads is a store that counts requests and notes what was read whole.
type reads struct {
	blob.Store
	requests atomic.Int64

	mu    sync.Mutex
	whole map[string]bool // guarded by mu
}

func (s *reads) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	s.requests.Add(1)
	n, err := s.Store.Read(ctx, name, offset, p)
	if offset == 0 && n < len(p) && err == nil {
		s.mu.Lock()
		s.whole[name] = true
		s.mu.Unlock()
	}
	return n, err
}

func (s *reads) Stat(ctx context.Context, name string) (blob.Info, error) {
	s.requests.Add(1)
	return s.Store.Stat(ctx, name)
}

func (s *reads) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	s.requests.Add(1) // one page: there are few objects
	return s.Store.List(ctx, prefix)
}

// mustShare does a share as a process of its own, holds its requests against the plan and notes what was read whole.
func mustShare(t *testing.T, store *mem.Store, at clock.Clock, plan repo.Share, read map[string]time.Time) {
	t.Helper()
	r := openAt(t, store, at)
	seen := &reads{Store: store, whole: map[string]bool{}}
	watched := openAt(t, seen, at)
	before := seen.requests.Load()
	share, err := watched.VerifyShare(t.Context(), repo.ShareOptions{Within: 6 * day})
	if err != nil || !share.OK {
		t.Fatalf("%+v, %v", share.Report, err)
	}
	asked := seen.requests.Load() - before
	if want := plan.Plan.Due.Requests + plan.Overhead; asked != want || share.Requests != asked || share.Overhead != plan.Overhead {
		t.Fatalf("the store counted %d requests, %d were stated, %d reported, %d and %d of them beside", asked, want, share.Requests, share.Overhead, plan.Overhead)
	}
	if int64(share.Checked) != plan.Plan.Due.Objects || share.Bytes != plan.Plan.Due.Bytes {
		t.Fatalf("%d objects with %d bytes were read, %+v were stated", share.Checked, share.Bytes, plan.Plan.Due)
	}
	for name := range seen.whole {
		read[name] = at.Now()
	}
	if _, err := r.RecordProof(t.Context(), share.Report); err != nil {
		t.Fatal(err)
	}
}

// Whatever call of a verification that records fails or is the last: nothing that was proven is lost, nothing is proven that was not read, and
// verifying again succeeds.
func TestFaults_RecordingVerify(t *testing.T) {
	a := newAiling(t)
	lost := a.packs("data/")[0]
	base := cloneStore(t, a.store)
	harm(t, base, lost, false)
	found, err := repo.Verify(t.Context(), base, repo.VerifyOptions{Level: repo.VerifyStored, Repository: repotest.Open(t, base)})
	if err != nil {
		t.Fatal(err)
	}
	points, checked := len(found.Points), 0
	flow := func(store blob.Store) error {
		r, err := repo.Open(t.Context(), store, openOptions())
		if err != nil {
			return err
		}
		report, err := r.Verify(t.Context(), repo.VerifyStored)
		if err != nil {
			return err
		}
		_, err = r.RecordProof(t.Context(), report)
		return err
	}
	everyFault(t, base, flow, func(t *testing.T, store *mem.Store, err error) {
		r := repotest.Open(t, store)
		hit, damageErr := r.DamagedPoints(t.Context())
		if damageErr != nil || err == nil && len(hit) != points {
			t.Fatalf("damaged points %v, %v", hit, damageErr)
		}
		if since := r.ProvenSince(); err == nil && since == nil || since != nil && len(hit) != points {
			t.Fatalf("proven since %v with %v damaged", since, hit)
		}
		report := mustVerify(t, store, repo.VerifyStored)
		if len(report.Objects) != 1 || report.Objects[0].Name != lost || len(report.Points) != points {
			t.Fatalf("verifying again: %+v", report)
		}
		if checked++; checked%6 > 0 {
			return
		}
		healed := &ailing{store: store, disk: a.disk, points: slices.Clone(a.points), held: slices.Clone(a.held)}
		healed.backup(t, repotest.Open(t, store))
		healed.mustBeHealed(t, lost)
	})
}

// Damage that has gone with what nothing needed is not told any more, also by a share that reads none of it; what is damaged and lies there
// still, or is needed and missing, is.
func TestVerifyShare_ForgetsWhatWasCollected(t *testing.T) {
	c := newCollectable(t)
	plain := repo.CollectOptions{Rule: repo.CollectRule{MoveBytesMax: 1}}
	plan, err := repo.NewCollector(openLater(t, c.store, 0), nil).Plan(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range plan.Unneeded() {
		harm(t, c.store, name, true)
	}
	if report := mustVerify(t, c.store, repo.VerifyComplete); report.OK || len(report.Points) > 0 {
		t.Fatalf("%+v", report)
	}
	share := func() repo.Share {
		s, err := repotest.Open(t, c.store).VerifyShare(t.Context(), repo.ShareOptions{Within: 3660 * day})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := share(); s.OK {
		t.Error("damage that lies there still is forgotten")
	}
	for range 3 {
		mustCollect(t, c.store, plain)
	}
	if s := share(); !s.OK {
		t.Errorf("%v", s.Objects)
	}
	for _, name := range c.store.Adversary().Names() {
		if strings.HasPrefix(name, "data/") {
			data, err := blob.ReadAll(t.Context(), c.store, name, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			for _, hidden := range []bool{true, false} { // damaged and missed by lists, then missing
				if hidden {
					harm(t, c.store, name, true)
					c.store.Adversary().Hide(name)
				} else {
					c.store.Adversary().Erase(name)
				}
				mustVerify(t, c.store, repo.VerifyComplete)
				if s := share(); s.OK || len(s.Points) == 0 {
					t.Errorf("%s, hidden %v: forgotten", name, hidden)
				}
			}
			c.store.Adversary().Show(name)
			c.store.Adversary().Overwrite(name, data)
			mustVerify(t, c.store, repo.VerifyComplete)
			break
		}
	}
}
