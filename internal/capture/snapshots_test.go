package capture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// pointID makes the id of the n-th snapshot point of a test.
func pointID(n int) holdfast.PointID {
	return holdfast.NewPointID(repotest.Start(), [4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// snapshots makes the maker of snapshot points.
func (w *world) snapshots(client *azure.Client) *capture.Snapshots {
	w.t.Helper()
	s, err := capture.NewSnapshots(capture.SnapshotConfig{Source: client, PollEvery: time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// prepare must choose a set for the n-th point.
func (w *world) prepare(n int) holdfast.SnapshotSet {
	w.t.Helper()
	if w.client == nil {
		w.client = w.Client(w.t)
	}
	set, err := w.snapshots(w.client).Prepare(w.t.Context(), w.vm, capture.SnapshotOptions{Point: pointID(n), Policy: "gold", Session: "run", Read: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return written(w.t, set)
}

// written takes a set through its form in a journal.
func written(t *testing.T, set holdfast.SnapshotSet) holdfast.SnapshotSet {
	t.Helper()
	var read holdfast.SnapshotSet
	if err := json.Unmarshal(encode(set), &read); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(read, set) {
		t.Errorf("%+v is read as %+v", set, read)
	}
	return read
}

// make must make a set, by a process of its own.
func (w *world) make(set holdfast.SnapshotSet) holdfast.SnapshotSet {
	w.t.Helper()
	made, err := w.snapshots(w.client).Make(w.t.Context(), set)
	if err != nil {
		w.t.Fatalf("%v\nhint: %s", err, hint(err))
	}
	return written(w.t, made)
}

// point must make the n-th snapshot point.
func (w *world) point(n int) holdfast.SnapshotSet { return w.make(w.prepare(n)) }

// checkExist fails unless exactly these snapshots exist.
func (w *world) checkExist(sets ...holdfast.SnapshotSet) {
	w.t.Helper()
	var want []string
	for _, set := range sets {
		for _, id := range set.Snapshots() {
			want = append(want, id.Key())
		}
	}
	slices.Sort(want)
	if found := w.Snapshots(w.t); !slices.Equal(found, want) {
		w.t.Errorf("snapshots %v exist, want %v", found, want)
	}
}

// TestSnapshots_MakeAndRemove proves that a set of disks of every kind is made as it was prepared, is whole, can be made again
// without effect, and goes without a trace.
func TestSnapshots_MakeAndRemove(t *testing.T) {
	w := newWorld(t, web(), azuretest.Options{CopyTime: 20 * time.Millisecond})
	set := w.prepare(1)
	if set.Made() || len(w.Snapshots(t)) != 0 || set.Time != (time.Time{}) {
		t.Fatalf("something was made: %+v", set)
	}
	made := w.make(set)
	if !made.Made() || made.Time.IsZero() || made.Consistency != holdfast.ConsistencyEachDisk || len(made.Disks) != 5 || len(made.Documents) == 0 {
		t.Errorf("%+v", made)
	}
	for i, d := range made.Disks {
		if d.Snapshot.ID != set.Disks[i].Snapshot.ID || d.Snapshot.FamilyID == "" || d.Snapshot.SKU == "" || d.Snapshot.Created.Before(made.Time) || d.SizeBytes != 64<<30 || d.SKU == "" {
			t.Errorf("%+v", d)
		}
	}
	w.checkExist(made)
	if state, err := w.snapshots(w.client).State(t.Context(), made); err != nil || !state.Whole() {
		t.Errorf("%+v, %v", state, err)
	}
	if again := w.make(set); !reflect.DeepEqual(again, made) {
		t.Errorf("made again as %+v", again)
	}
	for range 2 {
		if remain, err := w.snapshots(w.client).Remove(t.Context(), made); err != nil || len(remain) > 0 {
			t.Errorf("%v, %v remain", err, remain)
		}
		w.checkExist()
	}
	if state, err := w.snapshots(w.client).State(t.Context(), made); err != nil || !state.Lost() || len(state.Gone) != 5 {
		t.Errorf("%+v, %v", state, err)
	}
}

// TestSnapshots_Partial proves that a set that is there in part is made anew, so that its disks lie together in time.
func TestSnapshots_Partial_IsMadeAnew(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	set := w.point(1)
	if err := w.Compute.DeleteResource(set.Disks[1].Snapshot.ID.Key()); err != nil {
		t.Fatal(err)
	}
	if state, err := w.snapshots(w.client).State(t.Context(), set); err != nil || !state.Lost() || len(state.Gone) != 1 {
		t.Errorf("%+v, %v", state, err)
	}
	again := w.make(set)
	for i := range set.Disks {
		if again.Disks[i].Snapshot.UniqueID == set.Disks[i].Snapshot.UniqueID {
			t.Errorf("the snapshot %s is the old one", set.Disks[i].Snapshot.ID)
		}
	}
	if state, err := w.snapshots(w.client).State(t.Context(), set); err != nil || len(state.Foreign) != 2 {
		t.Errorf("the old set is %+v, %v", state, err)
	}
	w.checkExist(again)
}

// TestSnapshots_NamesOfOthers proves that what bears a name of the set and not its tag is neither taken for ours nor removed.
func TestSnapshots_NamesOfOthers_AreLeftAlone(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	set := w.prepare(1)
	_, err := w.client.CreateSnapshot(t.Context(), machine.SnapshotRequest{
		ID: set.Disks[1].Snapshot.ID, SourceID: set.Disks[1].ID, Location: azuretest.Location, Tags: map[string]string{"holdfast-point": string(pointID(2))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.snapshots(w.client).Make(t.Context(), set); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("%v", err)
	}
	if remain, err := w.snapshots(w.client).Remove(t.Context(), set); err != nil || len(remain) > 0 {
		t.Errorf("%v, %v remain", err, remain)
	}
	if found := w.Snapshots(t); !slices.Equal(found, []string{set.Disks[1].Snapshot.ID.Key()}) {
		t.Errorf("%v exist", found)
	}
}

// TestSnapshots_EveryCallFailsOnce proves, for every call of a Make and several ways of failing, that afterwards either the set is
// whole, or nothing of it is left, or the error says that something may be; and that making it again, and removing it, works then.
func TestSnapshots_EveryCallFailsOnce(t *testing.T) {
	for name, rule := range map[string]fault.Rule{
		"error":                  {Fault: fault.Error},
		"refused":                {Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"},
		"lost after effect":      {Fault: fault.Lost, AfterEffect: true},
		"throttled after effect": {Fault: fault.Throttle, RetryAfterMs: 1, AfterEffect: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pair(), azuretest.Options{})
			w.prepare(0)
			for k := 1; ; k += stride() {
				set := w.prepare(k)
				rule.Calls = []int{k}
				if err := w.Faults.Set(fault.Plan{Rules: []fault.Rule{rule}}); err != nil {
					t.Fatal(err)
				}
				made, err := w.snapshots(w.client).Make(t.Context(), set)
				fired := w.Faults.Counts()[0].Fired > 0
				if err := w.Faults.Set(fault.Plan{}); err != nil {
					t.Fatal(err)
				}
				w.checkMade(made, err)
				w.checkExist(w.make(set))
				if remain, err := w.snapshots(w.client).Remove(t.Context(), set); err != nil || len(remain) > 0 {
					t.Errorf("%v, %v remain", err, remain)
				}
				w.checkExist()
				if t.Failed() {
					t.Fatalf("call %d: %v", k, err)
				}
				if !fired {
					t.Logf("%d calls", k-1)
					break
				}
			}
		})
	}
}

// checkMade holds what a Make said against what exists.
func (w *world) checkMade(made holdfast.SnapshotSet, err error) {
	w.t.Helper()
	var left *capture.LeftBehind
	switch {
	case err == nil:
		w.checkExist(made)
	case errors.As(err, &left):
		for _, id := range w.Snapshots(w.t) {
			if !slices.ContainsFunc(left.Snapshots, func(named holdfast.ResourceID) bool { return named.Key() == id }) {
				w.t.Errorf("%s is left, the error names %v", id, left.Snapshots)
			}
		}
		if !strings.Contains(hint(err), string(left.Snapshots[0])) {
			w.t.Errorf("no word about %s: %q", left.Snapshots[0], hint(err))
		}
	default:
		w.checkExist()
	}
}

// TestSnapshots_Death proves that after a death at any call of a Make another process makes the set whole, or removes it without
// a trace, from what was written down.
func TestSnapshots_DeathAtEveryCall(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	w.prepare(0)
	for last := 1; ; last += stride() {
		set := w.prepare(last)
		life := azuretest.NewLife(last)
		client := w.Client(t, azuretest.Wrapped(life.Transport))
		_, _ = w.snapshots(client).Make(t.Context(), set)
		if last%2 == 0 {
			w.checkExist(w.make(set))
		}
		if remain, err := w.snapshots(w.client).Remove(t.Context(), set); err != nil || len(remain) > 0 {
			t.Errorf("%v, %v remain", err, remain)
		}
		w.checkExist()
		if t.Failed() {
			t.Fatalf("death at call %d", last)
		}
		if !life.Ended() {
			t.Logf("%d calls", life.Calls())
			return
		}
	}
}

// TestSnapshots_Guard proves that a Make that failed removes nothing when it may not, and says so.
func TestSnapshots_MayRemove_IsAsked(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	set := w.prepare(1)
	guarded, err := capture.NewSnapshots(capture.SnapshotConfig{Source: w.client, PollEvery: time.Millisecond, MayRemove: func(context.Context, holdfast.SnapshotSet) error {
		return holdfast.Errorf(holdfast.KindConflict, "the claim is lost")
	}})
	if err != nil {
		t.Fatal(err)
	}
	behave := w.Misbehave(t, fault.Rule{On: fault.ARM, Method: "PUT", Path: "*-7", Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"})
	_, err = guarded.Make(t.Context(), set)
	behave()
	var left *capture.LeftBehind
	if !errors.As(err, &left) || len(left.Snapshots) != 2 || !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("%v", err)
	}
	if found := w.Snapshots(t); len(found) != 1 {
		t.Errorf("%v exist", found)
	}
}

// TestSnapshots_Refusals proves that what cannot be carried through is refused before anything is made, and that a machine whose
// content may not leave it can have snapshots that nobody reads.
func TestSnapshots_Refusals(t *testing.T) {
	closed := tiny()
	closed.OSDisk.NetworkAccessPolicy = "DenyAll"
	w := newWorld(t, closed, azuretest.Options{})
	w.client = w.Client(t)
	prepare := func(o capture.SnapshotOptions) error {
		_, err := w.snapshots(w.client).Prepare(t.Context(), w.vm, o)
		return err
	}
	tags := func(names ...string) (tags []holdfast.Tag) {
		for _, name := range names {
			tags = append(tags, holdfast.Tag{Name: name, Value: "x"})
		}
		return tags
	}
	for name, c := range map[string]struct {
		options capture.SnapshotOptions
		want    holdfast.Kind
	}{
		"plain":           {capture.SnapshotOptions{Point: pointID(1)}, ""},
		"to be read":      {capture.SnapshotOptions{Point: pointID(1), Read: true}, holdfast.KindRefused},
		"no point":        {capture.SnapshotOptions{}, holdfast.KindInternal},
		"a long policy":   {capture.SnapshotOptions{Point: pointID(1), Policy: strings.Repeat("x", 257)}, holdfast.KindInvalid},
		"six tags":        {capture.SnapshotOptions{Point: pointID(1), Tags: tags("a", "b", "c", "d", "e", "f")}, holdfast.KindInvalid},
		"a tag of ours":   {capture.SnapshotOptions{Point: pointID(1), Tags: tags("Holdfast-Point")}, holdfast.KindInvalid},
		"a tag twice":     {capture.SnapshotOptions{Point: pointID(1), Tags: tags("a", "A")}, holdfast.KindInvalid},
		"a tag unnamed":   {capture.SnapshotOptions{Point: pointID(1), Tags: tags("")}, holdfast.KindInvalid},
		"a tag of length": {capture.SnapshotOptions{Point: pointID(1), Tags: []holdfast.Tag{{Name: "a", Value: strings.Repeat("x", 257)}}}, holdfast.KindInvalid},
	} {
		if err := prepare(c.options); holdfast.KindOf(err) != c.want {
			t.Errorf("%s: %v, want kind %q", name, err, c.want)
		}
	}
	lock := w.Lock(t, holdfast.ResourceID("/subscriptions/"+azuretest.Subscription+"/resourceGroups/lab"), "CanNotDelete")
	if err := prepare(capture.SnapshotOptions{Point: pointID(1), ResourceGroup: "lab"}); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("under a lock: %v", err)
	}
	if err := prepare(capture.SnapshotOptions{Point: pointID(1)}); err != nil {
		t.Errorf("beside the lock: %v", err)
	}
	w.Unlock(t, lock)
	if n := len(w.Snapshots(t)); n > 0 {
		t.Errorf("%d snapshots were made", n)
	}
}

// TestSnapshots_TagsAndGroup proves that snapshots bear our tags, those of the policy and those of the disk in this order of
// precedence, within Azure's limits, and lie in the group that was asked for.
func TestSnapshots_TagsAndGroup(t *testing.T) {
	w := newWorld(t, tiny(), azuretest.Options{})
	w.client = w.Client(t)
	theirs := map[string]string{"HOLDFAST-point": "forged", "holdfast-policy": "forged", "Env": "of the disk", "holdfast-restore": "x"}
	for i := range 46 {
		theirs[fmt.Sprintf("tag%02d", i)] = "y"
	}
	if err := w.client.SetTags(t.Context(), w.disks[0], theirs); err != nil {
		t.Fatal(err)
	}
	slot := time.Date(2026, 3, 4, 5, 0, 0, 0, time.FixedZone("", 3600))
	set, err := w.snapshots(w.client).Prepare(t.Context(), w.vm, capture.SnapshotOptions{
		Point: pointID(1), Policy: "gold", Session: "run", Slot: slot, Flags: holdfast.Flags(holdfast.Daily | holdfast.Weekly), CopyTags: true, ResourceGroup: "lab",
		Tags: []holdfast.Tag{{Name: "env", Value: "of the policy"}, {Name: "team", Value: "a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	made := w.make(set)
	id := made.Disks[0].Snapshot.ID
	if id.ResourceGroup() != "lab" {
		t.Errorf("made as %s", id)
	}
	found, err := w.client.Snapshot(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"holdfast-point": string(pointID(1)), "holdfast-policy": "gold", "holdfast-session": "run", "holdfast-vm": string(set.VM), "holdfast-kind": "snapshot",
		"holdfast-flags": "DW", "holdfast-slot": "2026-03-04T04:00:00Z", "holdfast-lun": "os", "holdfast-disks": "1", "env": "of the policy", "team": "a",
	}
	for i := range 50 - len(want) {
		want[fmt.Sprintf("tag%02d", i)] = "y"
	}
	if !maps.Equal(found.Tags, want) {
		t.Errorf("tags %v, want %v", found.Tags, want)
	}
}

// TestRun_FromSet proves that backups from sets equal the disks at the moment of the set, are compared with the set before, leave
// sets alone, and that a plain backup between them works and rotates its own snapshots only.
func TestRun_FromSet_RoundTrip(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	var sets []holdfast.SnapshotSet
	var before holdfast.PointID
	for n := range 3 {
		w.scribble(n)
		set := w.point(n)
		sets = append(sets, set)
		result := w.backup(capture.Options{From: &set})
		w.checkContent(result)
		w.checkExist(sets...)
		w.checkQuiet()
		if result.Parent != before || result.Existing || !result.Time.Equal(set.Time) || len(result.Warnings) > 0 {
			t.Errorf("%+v", result)
		}
		for i, d := range result.Disks {
			if want := map[bool]holdfast.FullReason{true: holdfast.FullFirst}[n == 0]; d.Reason != want {
				t.Errorf("round %d: reason %q", n, d.Reason)
			}
			if n > 0 && d.BaseSnapshot != sets[n-1].Disks[i].Snapshot.ID {
				t.Errorf("round %d: compared with %s", n, d.BaseSnapshot)
			}
		}
		before = result.Point
	}
	for n := 3; n < 5; n++ {
		w.scribble(n)
		result := w.backup(capture.Options{})
		w.checkContent(result)
		w.checkQuiet()
		if result.Parent != before || result.Disks[0].Full || len(w.Snapshots(t)) != 8 {
			t.Errorf("%+v; %v exist", result, w.Snapshots(t))
		}
		before = result.Point
	}
	w.scribble(5)
	sets = append(sets, w.point(5))
	result := w.backup(capture.Options{From: &sets[3]})
	w.checkContent(result)
	w.checkExist(sets...) // the snapshots that the plain backups made are superseded
	if result.Parent != before || result.Disks[0].Full {
		t.Errorf("%+v", result)
	}
	for _, set := range sets {
		if remain, err := w.snapshots(w.client).Remove(t.Context(), set); err != nil || len(remain) > 0 {
			t.Errorf("%v, %v remain", err, remain)
		}
	}
	w.checkExist()
	repotest.Verify(t, w.store)
}

// TestRun_SetReadAgain proves that who asks again for a set that was read is told of the point that there is, reading nothing, and
// that a full read is made when it is asked for.
func TestRun_SetReadAgain_MakesNoSecondPoint(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	w.scribble(0)
	set := w.point(0)
	first := w.backup(capture.Options{From: &set})
	again := w.backup(capture.Options{From: &set})
	if again.Point != first.Point || !again.Existing || again.ReadBytes != first.ReadBytes || len(again.Disks) != 2 || again.Disks[0].Root != first.Disks[0].Root {
		t.Errorf("%+v, first %+v", again, first)
	}
	full := w.backup(capture.Options{From: &set, Full: true})
	if full.Point == first.Point || full.Existing || full.Disks[0].Root != first.Disks[0].Root || full.Disks[0].NewBytes != 0 {
		t.Errorf("%+v", full)
	}
	w.checkExist(set)
	w.checkQuiet()
}

// TestRun_OldSet proves that a set that is older than the newest point is compared with what came before it, and that the newest
// point keeps its bases.
func TestRun_OldSet_LeavesTheNewestBase(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	w.scribble(0)
	first := w.point(0)
	parent := w.backup(capture.Options{From: &first})
	w.scribble(1)
	old := w.point(1)
	held := w.held()
	w.scribble(2)
	newest := w.backup(capture.Options{})
	result := w.backup(capture.Options{From: &old})
	if result.Parent != parent.Point || result.Disks[0].Full {
		t.Errorf("%+v", result)
	}
	w.checkHeld(result, held)
	w.checkQuiet()
	w.scribble(3)
	next := w.backup(capture.Options{})
	if next.Parent != newest.Point || next.Disks[0].Full {
		t.Errorf("%+v", next)
	}
	w.checkContent(next)
	repotest.Verify(t, w.store)
}

// TestRun_SetIsNotWhole proves that a set of which something is gone, or was never made, or belongs to another machine, is refused
// before anything is begun.
func TestRun_SetNotWhole_IsRefused(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	unmade := w.prepare(0)
	run := func(set holdfast.SnapshotSet) error {
		_, err := w.with(t.Context(), w.client, w.store, capture.Options{From: &set})
		return err
	}
	if err := run(unmade); !holdfast.IsKind(err, holdfast.KindInternal) {
		t.Errorf("never made: %v", err)
	}
	set := w.point(1)
	other := set
	other.VM = azuretest.Machine("another")
	if err := run(other); !holdfast.IsKind(err, holdfast.KindInternal) {
		t.Errorf("of another machine: %v", err)
	}
	if err := w.Compute.DeleteResource(set.Disks[1].Snapshot.ID.Key()); err != nil {
		t.Fatal(err)
	}
	if err := run(set); !holdfast.IsKind(err, holdfast.KindNotFound) || !strings.Contains(err.Error(), string(set.Point)) {
		t.Errorf("gone: %v", err)
	}
	w.make(set)
	if err := run(set); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("made anew: %v", err)
	}
	w.checkQuiet()
}

// TestRun_FromSet_Locks proves that a lock on what holds a set's snapshots does not stop a backup that only reads them, and that one
// that forbids reading does.
func TestRun_FromSet_Locks(t *testing.T) {
	w := newWorld(t, tiny(), azuretest.Options{})
	w.scribble(0)
	sets := []holdfast.SnapshotSet{w.point(0)}
	w.backup(capture.Options{From: &sets[0]})
	w.scribble(1)
	sets = append(sets, w.point(1))
	lock := w.Lock(t, sets[0].Disks[0].Snapshot.ID, "CanNotDelete")
	w.checkContent(w.backup(capture.Options{From: &sets[1]}))
	w.checkExist(sets...)
	w.Unlock(t, lock)
	w.scribble(2)
	sets = append(sets, w.point(2))
	lock = w.Lock(t, sets[2].Disks[0].Snapshot.ID, "ReadOnly")
	if _, err := w.with(t.Context(), w.client, w.store, capture.Options{From: &sets[2]}); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("%v", err)
	}
	w.Unlock(t, lock)
	w.checkContent(w.backup(capture.Options{From: &sets[2]}))
}

// TestRun_FromSet_EveryCallFailsOnce proves, for every call of a backup from a set, that the next run makes a right point, and that
// nothing but the sets is left.
func TestRun_FromSet_EveryCallFailsOnce(t *testing.T) {
	for name, rule := range map[string]fault.Rule{
		"refused":           {Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"},
		"lost after effect": {Fault: fault.Lost, AfterEffect: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tiny(), azuretest.Options{})
			before := w.firstOfSets()
			for k := 1; ; k += stride() {
				set := w.nextSet(k)
				rule.Calls = []int{k}
				if err := w.Faults.Set(fault.Plan{Rules: []fault.Rule{rule}}); err != nil {
					t.Fatal(err)
				}
				_, err := w.process(t.Context(), nil, capture.Options{From: &set})
				if w.Faults.Counts()[0].Fired == 0 {
					t.Logf("call %d was not made any more", k)
					break
				}
				w.secondTry(&before, set, k)
				if t.Failed() {
					t.Fatalf("call %d: %v", k, err)
				}
			}
			repotest.Verify(t, w.store)
		})
	}
}

// TestRun_FromSet_Death proves the same for a process that dies at any call.
func TestRun_FromSet_DeathAtEveryCall(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	before := w.firstOfSets()
	for last := 1; ; last += stride() {
		set := w.nextSet(last)
		life := azuretest.NewLife(last)
		_, _ = w.process(t.Context(), life, capture.Options{From: &set})
		w.secondTry(&before, set, last)
		if t.Failed() {
			t.Fatalf("death at call %d", last)
		}
		if !life.Ended() {
			t.Logf("%d calls", life.Calls())
			break
		}
	}
	repotest.Verify(t, w.store)
}

// firstOfSets makes the set and the backup before those of a loop.
func (w *world) firstOfSets() holdfast.SnapshotSet {
	w.t.Helper()
	w.scribble(0)
	set := w.point(0)
	w.backup(capture.Options{From: &set})
	return set
}

func (w *world) nextSet(round int) holdfast.SnapshotSet {
	w.t.Helper()
	w.scribble(round)
	return w.point(round)
}

// secondTry backs up after a failed run, by turns from the same set, as a handler does that is run again, from a new one, and with
// snapshots of its own. Then all but the newest set goes.
func (w *world) secondTry(before *holdfast.SnapshotSet, set holdfast.SnapshotSet, round int) {
	w.t.Helper()
	old := []holdfast.SnapshotSet{*before}
	switch round % 3 {
	case 0:
		old = append(old, set)
		w.checkLeaks(w.backup(capture.Options{}), *before, set)
		set = w.point(1_000_000 + round)
		fallthrough
	default:
		result := w.backup(capture.Options{From: &set})
		w.checkContent(result)
		w.checkExist(append(old, set)...)
		w.checkQuiet()
		if result.Disks[0].Full && !result.Existing {
			w.t.Errorf("disks were read in full: %+v", result)
		}
	}
	for _, gone := range old {
		if remain, err := w.snapshots(w.client).Remove(w.t.Context(), gone); err != nil || len(remain) > 0 {
			w.t.Errorf("%v, %v remain", err, remain)
		}
	}
	*before = set
}

// checkLeaks fails unless the bases of a plain backup and the sets exist, and nothing else.
func (w *world) checkLeaks(result capture.Result, sets ...holdfast.SnapshotSet) {
	w.t.Helper()
	w.checkContent(result)
	w.checkQuiet()
	want := len(w.disks)
	for _, set := range sets {
		want += len(set.Disks)
	}
	if found := w.Snapshots(w.t); len(found) != want {
		w.t.Errorf("%v exist, want %d", found, want)
	}
}
