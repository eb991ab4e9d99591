package capture_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/azure/diskdata"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// TestRun_Survives proves that a backup gets through troubles of reading without help and without reading twice what
// counts as read.
func TestRun_TroublesOfReading_AreSurvived(t *testing.T) {
	const reads = "*/abcd"
	for name, rule := range map[string]fault.Rule{
		"SAS revoked mid-read":      {On: fault.Disk, Path: reads, Calls: []int{2, 5}, Fault: fault.Revoke},
		"bodies cut":                {On: fault.Disk, Method: "GET", Path: reads, Calls: []int{2, 3, 6}, Fault: fault.Cut},
		"connections lost":          {On: fault.Disk, Path: reads, Calls: []int{1, 4}, Fault: fault.Lost},
		"disk endpoint busy":        {On: fault.Disk, Path: reads, Calls: []int{2, 3, 4}, Fault: fault.Throttle, Status: 503, RetryAfterMs: 1},
		"late lists":                {On: fault.ARM, Fault: fault.StaleList, DelayMs: 60_000},
		"requests to ARM throttled": {On: fault.ARM, Probability: 0.2, Fault: fault.Throttle, RetryAfterMs: 1},
		"answers of ARM lost":       {On: fault.ARM, Probability: 0.05, Fault: fault.Lost, AfterEffect: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pair(), azuretest.Options{})
			w.scribble(0)
			w.backup(capture.Options{})
			w.scribble(1)
			behave := w.Misbehave(t, rule)
			result := w.backup(capture.Options{})
			behave()
			w.check(result)
			for _, d := range result.Disks {
				if d.Full || d.ReadBytes > 5*chunkBytes {
					t.Errorf("disk %s: full %v (%q), %d bytes read", d.Name, d.Full, d.Reason, d.ReadBytes)
				}
			}
		})
	}
}

// TestRun_FragmentedDisk proves that ranges that no single list can hold are found by smaller windows.
func TestRun_FragmentedDisk_IsListedInWindows(t *testing.T) {
	w := newWorld(t, tiny(), azuretest.Options{FragmentLimit: 40})
	for i := range 200 {
		w.Write(t, w.disks[0], noise(uint64(i), 512), int64(i)<<26)
	}
	w.client = w.Client(t, azuretest.Tuned(diskdata.Tuning{WindowFloorBytes: 1 << 20, RangesPerPage: 7}))
	first := w.backup(capture.Options{})
	w.check(first)
	if most := int64(200 * chunkBytes); first.ReadBytes > most {
		t.Errorf("%d bytes were read, the chunks in use are %d", first.ReadBytes, most)
	}
	for i := range 100 {
		w.Write(t, w.disks[0], noise(uint64(i)+1000, 512), int64(i)<<26+1<<25)
	}
	second := w.backup(capture.Options{})
	w.check(second)
	if most := int64(100 * chunkBytes); second.ReadBytes > most || second.Disks[0].Full {
		t.Errorf("%d bytes were read, the changed chunks are %d; full: %v", second.ReadBytes, most, second.Disks[0].Full)
	}
}

// TestRun_DiffRefused proves that a refused comparison leads to a full read with its reason: within the run when it is
// refused at once, and by starting over when it is refused half way. Either way nothing is left.
func TestRun_DiffRefused_IsReadInFull(t *testing.T) {
	for _, page := range []int{1, 3} {
		w := newWorld(t, tiny(), azuretest.Options{})
		w.scribble(0)
		w.client = w.Client(t, azuretest.Tuned(diskdata.Tuning{RangesPerPage: 1}))
		w.backup(capture.Options{})
		for i := range 5 {
			w.Write(t, w.disks[0], noise(uint64(i), 512), int64(i)<<30)
		}
		behave := w.Misbehave(t, fault.Rule{
			On: fault.Disk, Query: "*comp=pagelist*", Calls: []int{page}, Fault: fault.Error, Status: 409, Code: "PreviousSnapshotOperationNotSupported",
		})
		result := w.backup(capture.Options{})
		behave()
		if d := result.Disks[0]; !d.Full || d.Reason != holdfast.FullDiffRefused {
			t.Errorf("refused at page %d: full %v, reason %q", page, d.Full, d.Reason)
		}
		w.check(result)
	}
}

// TestRun_DiffRefusedForOneOfTwo proves that the other disk, whose writing fails with the session, is not blamed: after
// starting over exactly one disk is read in full.
func TestRun_DiffRefusedForOneOfTwo_BlamesThatOne(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	w.scribble(0)
	w.client = w.Client(t, azuretest.Tuned(diskdata.Tuning{RangesPerPage: 1}))
	w.backup(capture.Options{})
	for call := 1; call <= 8; call++ {
		for i := range 6 {
			w.Write(t, w.disks[0], noise(uint64(10*call+i), 512), int64(i)<<30)
			w.Write(t, w.disks[1], noise(uint64(10*call+i), 512), int64(i)<<30)
		}
		behave := w.Misbehave(t, fault.Rule{
			On: fault.Disk, Query: "*comp=pagelist*", Calls: []int{call}, Fault: fault.Error, Status: 409, Code: "PreviousSnapshotOperationNotSupported",
		})
		result := w.backup(capture.Options{})
		behave()
		full := 0
		for _, d := range result.Disks {
			if d.Full {
				full++
			}
		}
		if full != 1 {
			t.Errorf("refused at call %d: %d disks were read in full", call, full)
		}
		w.check(result)
	}
}

// TestRun_PacedEndpoint proves that a backup slows down for an endpoint that admits few requests.
func TestRun_PacedEndpoint_IsReadAtItsPace(t *testing.T) {
	w := newWorld(t, tiny(), azuretest.Options{Pacing: export.Pacing{RequestsPerSecond: 200}})
	for i := range 60 {
		w.Write(t, w.disks[0], noise(uint64(i), 4096), int64(i)<<24)
	}
	w.check(w.backup(capture.Options{}))
}

// TestRun_FailedOperations proves that an operation that fails after it was accepted ends the run without leftovers, or
// was not needed.
func TestRun_FailedOperations_LeaveNothing(t *testing.T) {
	for name, rule := range map[string]fault.Rule{
		"snapshot": {On: fault.ARM, Method: "PUT", Path: "*/snapshots/*", Calls: []int{2}, Fault: fault.FailOperation},
		"grant":    {On: fault.ARM, Method: "POST", Path: "*/begingetaccess", Calls: []int{1}, Fault: fault.FailOperation},
		"revoke":   {On: fault.ARM, Method: "POST", Path: "*/endgetaccess", Calls: []int{1}, Fault: fault.FailOperation},
		"delete":   {On: fault.ARM, Method: "DELETE", Path: "*/snapshots/*", Calls: []int{1}, Fault: fault.FailOperation},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pair(), azuretest.Options{})
			w.scribble(0)
			w.backup(capture.Options{})
			w.scribble(1)
			behave := w.Misbehave(t, rule)
			result, err := w.process(t.Context(), nil, capture.Options{})
			behave()
			switch {
			case err == nil && len(result.Warnings) < 2:
				t.Errorf("no word about the operation that failed: %q", result.Warnings)
			case err != nil && len(w.Snapshots(t)) != 2:
				t.Errorf("%v, and %v exist", err, w.Snapshots(t))
			}
			w.check(w.backup(capture.Options{}))
		})
	}
}

// TestRun_Stopped proves that a run that is stopped at any stage leaves nothing behind, without a next run.
func TestRun_Stopped_LeavesNothing(t *testing.T) {
	for _, stage := range []capture.Stage{capture.StageSnapshot, capture.StageCopy, capture.StageRead, capture.StagePublish} {
		t.Run(string(stage), func(t *testing.T) {
			w := newWorld(t, web(), azuretest.Options{CopyTime: 300 * time.Millisecond})
			for i, d := range w.disks {
				w.Write(t, d, noise(uint64(i), 3<<20), 1<<30)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			flow := w.flow(w.Client(t), w.store, func(p capture.Progress) {
				if p.Stage == stage {
					stop()
				}
			})
			_, err := flow.Run(ctx, w.vm, capture.Options{})
			if !holdfast.IsKind(err, holdfast.KindCanceled) {
				t.Fatalf("%v (%s), want canceled", err, holdfast.KindOf(err))
			}
			if left := w.Snapshots(t); len(left) > 0 {
				t.Errorf("%v are left", left)
			}
			if n := w.ActiveSAS(t); n > 0 {
				t.Errorf("%d SAS are left", n)
			}
			w.check(w.backup(capture.Options{}))
		})
	}
}

// TestRun_DeletionRefused proves that what cannot be removed is named, after a failure in the error and after a success in
// the warnings, and that the next run removes it.
func TestRun_DeletionRefused_IsToldAndDoneByTheNextRun(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	w.scribble(0)
	w.backup(capture.Options{})
	deletion := fault.Rule{On: fault.ARM, Method: "DELETE", Path: "*/snapshots/*", Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"}
	reading := fault.Rule{On: fault.Disk, Fault: fault.Error, Status: 404, Code: "BlobNotFound"}

	w.scribble(1)
	behave := w.Misbehave(t, deletion, reading)
	_, err := w.process(t.Context(), nil, capture.Options{})
	behave()
	if err == nil || strings.Count(hint(err), "/snapshots/hf-") != 2 {
		t.Errorf("%v\nhint: %s", err, hint(err))
	}
	w.check(w.backup(capture.Options{}))

	w.scribble(2)
	behave = w.Misbehave(t, deletion)
	result, err := w.process(t.Context(), nil, capture.Options{})
	behave()
	if err != nil || strings.Count(strings.Join(result.Warnings, " "), "/snapshots/hf-") != 2 || len(w.Snapshots(t)) != 4 {
		t.Errorf("%v, %q; %v exist", err, result.Warnings, w.Snapshots(t))
	}
	w.check(w.backup(capture.Options{}))
}

// TestRun_DamagedParent proves that a point whose manifest is damaged is not built upon: the disks are read in full, the
// reason is suspect, and its bases go.
func TestRun_DamagedParent_IsNotBuiltUpon(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	w.scribble(0)
	w.backup(capture.Options{})
	adversary := w.store.Adversary()
	for _, name := range adversary.Names() {
		if strings.HasPrefix(name, "points/") {
			adversary.Damage(name, func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
		}
	}
	result := w.backup(capture.Options{})
	for _, d := range result.Disks {
		if !d.Full || d.Reason != holdfast.FullSuspect {
			t.Errorf("disk %s: full %v, reason %q", d.Name, d.Full, d.Reason)
		}
	}
	w.check(result)
}

// TestRun_AnotherRun proves that of two runs for one machine the later one wins, and the earlier one publishes nothing and
// cleans up after itself.
func TestRun_AnotherRunInBetween_OnlyTheLaterOnePublishes(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	w.scribble(0)
	var later capture.Result
	flow := w.flow(w.Client(t), w.store, func(p capture.Progress) {
		if p.Stage == capture.StagePublish { // told once, by the goroutine of Run
			later = w.backup(capture.Options{})
		}
	})
	if _, err := flow.Run(t.Context(), w.vm, capture.Options{}); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("the earlier run ended with %v", err)
	}
	w.check(later)
	points, err := repotest.Open(t, w.store).Points()
	if err != nil || len(points) != 1 {
		t.Errorf("%d points, %v", len(points), err)
	}
}

// TestRun_LostPublication proves that a publication whose answer got lost counts as what it is.
func TestRun_LostPublication_IsFoundOut(t *testing.T) {
	w := newWorld(t, tiny(), azuretest.Options{})
	w.scribble(0)
	store := &deafStore{Store: w.store}
	flow := w.flow(w.Client(t), store, func(p capture.Progress) {
		store.deaf.Store(p.Stage == capture.StagePublish)
	})
	result, err := flow.Run(t.Context(), w.vm, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.check(result)
}

// deafStore loses the answers to puts of log entries while it is deaf.
type deafStore struct {
	blob.Store
	deaf atomic.Bool
}

func (s *deafStore) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	err := s.Store.Put(ctx, name, data, o)
	if s.deaf.Load() && strings.HasPrefix(name, "log/") {
		return holdfast.Errorf(holdfast.KindUnavailable, "the answer got lost")
	}
	return err
}

// flow makes a flow with the given means.
func (w *world) flow(client *azure.Client, store blob.Store, progress func(capture.Progress)) *capture.Flow {
	w.t.Helper()
	r, err := repo.Open(w.t.Context(), store, repo.OpenOptions{Password: repotest.Password, Clock: clock.System{}, Tool: "holdfast test"})
	if err != nil {
		w.t.Fatal(err)
	}
	flow, err := capture.New(capture.Config{Source: client, Repository: r, PollEvery: time.Millisecond, Readers: 2, Progress: progress})
	if err != nil {
		w.t.Fatal(err)
	}
	return flow
}
