package capture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

const chunkBytes = 128 << 10

// web is a machine with disks of every kind that can be backed up.
func web() estate.VirtualMachine {
	return estate.VirtualMachine{
		Name: "web-1", Zone: "1", Tags: map[string]string{"env": "prod"},
		OSDisk: estate.Disk{Name: "web-1-os", SizeGiB: 64, SKU: "Premium_LRS", Caching: "ReadWrite"},
		DataDisks: []estate.Disk{
			{LUN: 0, Name: "web-1-ssd", SizeGiB: 64, SKU: "StandardSSD_LRS"},
			{LUN: 1, Name: "web-1-hdd", SizeGiB: 64, SKU: "Standard_LRS"},
			{LUN: 2, Name: "web-1-ultra", SizeGiB: 64, SKU: "UltraSSD_LRS", LogicalSectorBytes: 512},
			{LUN: 3, Name: "web-1-v2", SizeGiB: 64, SKU: "PremiumV2_LRS", LogicalSectorBytes: 512},
		},
	}
}

// tiny is the smallest machine, for loops over every call.
func tiny() estate.VirtualMachine {
	return estate.VirtualMachine{Name: "tiny", OSDisk: estate.Disk{Name: "tiny-os", SizeGiB: 32, SKU: "Premium_LRS"}}
}

// pair has two disks, so that one may fail while the other goes on.
func pair() estate.VirtualMachine {
	vm := tiny()
	vm.DataDisks = []estate.Disk{{LUN: 7, Name: "tiny-data", SizeGiB: 16, SKU: "StandardSSD_LRS"}}
	return vm
}

// world is a cloud, a repository, and the flow between them.
type world struct {
	*azuretest.Cloud
	t      *testing.T
	store  *mem.Store
	client *azure.Client // of backup
	vm     holdfast.ResourceID
	disks  []holdfast.ResourceID
}

func newWorld(t *testing.T, vm estate.VirtualMachine, o azuretest.Options) *world {
	t.Helper()
	return newWorldOf(t, azuretest.Estate(vm), vm, o)
}

// newWorldOf is newWorld for a machine of a larger estate.
func newWorldOf(t *testing.T, e estate.Estate, vm estate.VirtualMachine, o azuretest.Options) *world {
	t.Helper()
	w := &world{Cloud: azuretest.Start(t, e, o), t: t, vm: azuretest.Machine(vm.Name)}
	w.disks = append(w.disks, azuretest.Disk(vm.OSDisk.Name))
	for _, d := range vm.DataDisks {
		w.disks = append(w.disks, azuretest.Disk(d.Name))
	}
	w.newRepository()
	return w
}

// newRepository starts over with an empty repository.
func (w *world) newRepository() {
	w.t.Helper()
	w.store = mem.New(clock.System{})
	_, err := repo.Init(w.t.Context(), w.store, repo.InitOptions{
		Password: repotest.Password, KDF: repotest.FastKDF(), Clock: clock.System{}, Tool: "holdfast test",
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// process runs a backup as a new process would: it opens the repository, signs in, and ends with life, if one is given.
func (w *world) process(ctx context.Context, life *azuretest.Life, o capture.Options) (capture.Result, error) {
	w.t.Helper()
	var store blob.Store = w.store
	var options []func(*azure.Options)
	if life != nil {
		store = life.Store(store)
		options = append(options, azuretest.Wrapped(life.Transport))
	}
	client := w.Client(w.t, options...)
	defer client.CloseIdleConnections()
	return w.with(ctx, client, store, o)
}

// with runs a backup with the given means.
func (w *world) with(ctx context.Context, client *azure.Client, store blob.Store, o capture.Options) (capture.Result, error) {
	w.t.Helper()
	r, err := repo.Open(w.t.Context(), store, repo.OpenOptions{Password: repotest.Password, Clock: clock.System{}, Tool: "holdfast test"})
	if err != nil {
		return capture.Result{}, err
	}
	flow, err := capture.New(capture.Config{Source: client, Repository: r, PollEvery: time.Millisecond, Readers: 2})
	if err != nil {
		return capture.Result{}, err
	}
	return flow.Run(ctx, w.vm, o)
}

// backup runs and must succeed.
func (w *world) backup(o capture.Options) capture.Result {
	w.t.Helper()
	if w.client == nil {
		w.client = w.Client(w.t)
	}
	result, err := w.with(w.t.Context(), w.client, w.store, o)
	if err != nil {
		w.t.Fatalf("%v\nhint: %s", err, hint(err))
	}
	return result
}

// check fails unless the point is equal to what the disks hold now, and nothing but one base per disk is left.
func (w *world) check(result capture.Result) {
	w.t.Helper()
	w.checkNoLeak(w.checkContent(result))
}

// checkContent fails unless the point is equal to what the disks hold now.
func (w *world) checkContent(result capture.Result) holdfast.Point {
	w.t.Helper()
	return w.checkHeld(result, w.held())
}

// held is what the disks hold now.
func (w *world) held() (held []azuretest.Content) {
	w.t.Helper()
	for _, d := range w.disks {
		held = append(held, w.Content(w.t, d))
	}
	return held
}

// checkHeld fails unless the point is equal to what the disks held at a moment.
func (w *world) checkHeld(result capture.Result, held []azuretest.Content) holdfast.Point {
	w.t.Helper()
	r := repotest.Open(w.t, w.store)
	point, err := r.OpenPoint(w.t.Context(), result.Point)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, d := range point.Point().Disks {
		reader, err := point.Disk(d.LUN)
		if err != nil {
			w.t.Fatal(err)
		}
		stored := azuretest.Collect(w.t, reader.SizeBytes(), reader.Extents(w.t.Context()), func(p []byte, offset int64) error {
			_, err := reader.ReadAt(w.t.Context(), p, offset)
			return err
		})
		if !stored.Equal(held[i]) {
			w.t.Errorf("disk %s of %s: %d blocks stored, %d held, or different ones", d.LUN, result.Point, len(stored.Blocks), len(held[i].Blocks))
		}
	}
	return point.Point()
}

// checkNoLeak fails unless exactly the bases of the point exist, without any SAS, and no session waits to be settled.
func (w *world) checkNoLeak(point holdfast.Point) {
	w.t.Helper()
	var bases []string
	for _, d := range point.Disks {
		bases = append(bases, d.Snapshot.ID.Key())
	}
	slices.Sort(bases)
	if found := w.Snapshots(w.t); !slices.Equal(found, bases) {
		w.t.Errorf("snapshots %v exist, the bases are %v", found, bases)
	}
	w.checkQuiet()
}

func (w *world) checkQuiet() {
	w.t.Helper()
	if n := w.ActiveSAS(w.t); n != 0 {
		w.t.Errorf("%d SAS are active", n)
	}
	sessions, err := repotest.Open(w.t, w.store).Unsettled(w.vm)
	if err != nil || len(sessions) > 0 {
		w.t.Errorf("%d sessions are not settled, %v", len(sessions), err)
	}
}

func noise(seed uint64, size int) []byte {
	p := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = source.Read(p) // it cannot fail
	return p
}

func hint(err error) string {
	var e *holdfast.Error
	if ok := asError(err, &e); ok {
		return e.Hint
	}
	return ""
}

// TestRun_DisksOfEveryKind_RoundTrip proves that full and incremental points equal the disks at their moment, that an
// increment reads no more than the changed chunks, and that nothing but the bases is left in the cloud.
func TestRun_DisksOfEveryKind_RoundTrip(t *testing.T) {
	w := newWorld(t, web(), azuretest.Options{CopyTime: 20 * time.Millisecond})
	for i, d := range w.disks {
		w.Write(t, d, noise(uint64(i), 1<<20), int64(i)<<30)
		w.Write(t, d, noise(uint64(i)+100, 5000), 63<<30+int64(i)*512)
	}
	first := w.backup(capture.Options{})
	w.check(first)
	if len(first.Disks) != 5 || first.Consistency != holdfast.ConsistencyEachDisk || len(first.Warnings) != 1 {
		t.Fatalf("%+v", first)
	}
	for _, d := range first.Disks {
		if !d.Full || d.Reason != holdfast.FullFirst || d.SnapshotSKU != "Standard_ZRS" {
			t.Errorf("first backup of %s: full %v, reason %q, snapshot %s", d.Name, d.Full, d.Reason, d.SnapshotSKU)
		}
	}

	for i, d := range w.disks {
		w.Write(t, d, noise(uint64(i)+200, 700), int64(i)<<30+300_000) // inside one chunk
		w.Zero(t, d, int64(i)<<30+600*1024, 4096)
		w.Write(t, d, noise(uint64(i)+300, 300_000), 40<<30)
	}
	second := w.backup(capture.Options{})
	w.check(second)
	for i, d := range second.Disks {
		if d.Full || d.Reason != "" {
			t.Errorf("second backup of %s is full: %q", d.Name, d.Reason)
		}
		// The write inside a chunk, the partly cleared chunk, and three chunks at 40 GiB.
		if most := int64(5 * chunkBytes); d.ReadBytes > most || d.ReadBytes == 0 {
			t.Errorf("disk %d: %d bytes were read, the changed chunks are %d", i, d.ReadBytes, most)
		}
	}

	third := w.backup(capture.Options{})
	w.check(third)
	if third.ReadBytes != 0 {
		t.Errorf("%d bytes were read though nothing changed", third.ReadBytes)
	}
	repotest.Verify(t, w.store)
}

// TestRun_Documents proves that the configuration is kept as Azure sent it.
func TestRun_Documents_AreKeptRaw(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	result := w.backup(capture.Options{})
	point, err := repotest.Open(t, w.store).OpenPoint(t.Context(), result.Point)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, d := range point.Point().Documents {
		if d.APIVersion == "" || !bytes.HasPrefix(d.Body, []byte("{")) {
			t.Errorf("document %s: version %q, body %.20s", d.ID, d.APIVersion, d.Body)
		}
		kinds = append(kinds, d.ID.Type())
	}
	want := []string{"Microsoft.Compute/virtualMachines", "", "Microsoft.Compute/disks", "Microsoft.Compute/disks", "Microsoft.Network/networkInterfaces"}
	if !slices.Equal(kinds[:1], want[:1]) || len(kinds) != len(want) || !slices.Equal(kinds[2:], want[2:]) {
		t.Errorf("documents of %q", kinds)
	}
	if !strings.HasSuffix(string(point.Point().Documents[1].ID), "/instanceView") {
		t.Errorf("the second document is %s", point.Point().Documents[1].ID)
	}
}

// TestRun_FullReasons provokes every reason for a full read but diff-refused and suspect, which have tests of their own.
func TestRun_FullReasons_AreRecorded(t *testing.T) {
	w := newWorld(t, pair(), azuretest.Options{})
	disk := w.disks[1]
	w.Write(t, disk, noise(1, 300_000), 0)
	expect := func(reason holdfast.FullReason, o capture.Options) {
		t.Helper()
		w.Write(t, disk, noise(2, 100_000), 1<<30)
		result := w.backup(o)
		if got := result.Disks[1]; got.Reason != reason || got.Full != (reason != "") {
			t.Errorf("full %v, reason %q, want %q", got.Full, got.Reason, reason)
		}
		w.check(result)
	}
	expect(holdfast.FullFirst, capture.Options{})
	expect("", capture.Options{})
	expect(holdfast.FullRequested, capture.Options{Full: true})
	expect("", capture.Options{})

	for _, snapshot := range w.Snapshots(t) {
		if err := w.Compute.DeleteResource(snapshot); err != nil {
			t.Fatal(err)
		}
	}
	expect(holdfast.FullBaseMissing, capture.Options{})

	if err := w.Compute.ResizeDisk(string(disk), 128); err != nil {
		t.Fatal(err)
	}
	expect("", capture.Options{})
	if err := w.Compute.ResizeDisk(string(disk), 5<<10); err != nil {
		t.Fatal(err)
	}
	expect(holdfast.FullResized4TiB, capture.Options{})
	expect("", capture.Options{})

	w.recreate(disk, 16)
	expect(holdfast.FullFamilyChanged, capture.Options{})
	expect("", capture.Options{})
	repotest.Verify(t, w.store)
}

// recreate replaces a data disk by an empty one of the same name.
func (w *world) recreate(disk holdfast.ResourceID, sizeGiB int) {
	w.t.Helper()
	client, ctx := w.Client(w.t), w.t.Context()
	attached := w.machineBody()
	detached := w.machineBody()
	detached["properties"].(map[string]any)["storageProfile"].(map[string]any)["dataDisks"] = []any{}
	created := map[string]any{
		"location": azuretest.Location, "sku": map[string]any{"name": "StandardSSD_LRS"},
		"properties": map[string]any{"diskSizeGB": sizeGiB, "creationData": map[string]any{"createOption": "Empty"}},
	}
	for _, step := range []func() error{
		func() error { return client.Put(ctx, w.vm, encode(detached)) },
		func() error { return client.Delete(ctx, disk) },
		func() error { return client.Put(ctx, disk, encode(created)) },
		func() error { return client.Put(ctx, w.vm, encode(attached)) },
	} {
		if err := step(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// machineBody is the VM as Azure describes it, fit to be sent back.
func (w *world) machineBody() map[string]any {
	w.t.Helper()
	resource, err := w.Client(w.t).Resource(w.t.Context(), w.vm)
	if err != nil {
		w.t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(resource.Document.Body, &body); err != nil {
		w.t.Fatal(err)
	}
	return body
}

func encode(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // a map of plain values
	}
	return raw
}

// TestRun_EveryCallFailsOnce proves, for every call of a good run and several ways of failing, that the next run makes a
// right point and leaves nothing behind.
func TestRun_EveryCallFailsOnce_NextRunIsRightAndLeavesNothing(t *testing.T) {
	for _, way := range []struct {
		name string
		vm   estate.VirtualMachine
		rule fault.Rule
	}{
		{"error", tiny(), fault.Rule{Fault: fault.Error}},
		{"lost after effect", pair(), fault.Rule{Fault: fault.Lost, AfterEffect: true}},
		{"throttled after effect", tiny(), fault.Rule{Fault: fault.Throttle, RetryAfterMs: 1, AfterEffect: true}},
		{"refused", tiny(), fault.Rule{Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, way.vm, azuretest.Options{})
			w.scribble(0)
			w.backup(capture.Options{})
			for k := 1; ; k += stride() {
				w.scribble(k)
				way.rule.Calls = []int{k}
				if err := w.Faults.Set(fault.Plan{Rules: []fault.Rule{way.rule}}); err != nil {
					t.Fatal(err)
				}
				_, err := w.process(t.Context(), nil, capture.Options{})
				if w.Faults.Counts()[0].Fired == 0 {
					t.Logf("call %d was not made any more", k)
					break
				}
				w.check(w.backup(capture.Options{}))
				if t.Failed() {
					t.Fatalf("call %d: %v", k, err)
				}
			}
			repotest.Verify(t, w.store)
		})
	}
}

// stride is 1, so that every call has its turn, and more where only the flavour of a run is wanted (go test -short).
func stride() int {
	if testing.Short() {
		return 7
	}
	return 1
}

// scribble changes both disks of a pair, always in the same places, so that every run makes as many calls.
func (w *world) scribble(round int) {
	w.t.Helper()
	for i, d := range w.disks {
		w.Write(w.t, d, noise(uint64(2*round+i), 300_000), 1<<20)
		w.Write(w.t, d, noise(uint64(round), 1000), 5<<30)
	}
}

// TestRun_DeathAtEveryCall proves that a process that dies at any call leaves nothing that the next run does not put right.
func TestRun_DeathAtEveryCall_NextRunIsRightAndLeavesNothing(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("first backup %v", first), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pair(), azuretest.Options{})
			if !first {
				w.scribble(0)
				w.backup(capture.Options{})
			}
			for last := 1; ; last += stride() {
				if first {
					w.forget()
				}
				w.scribble(last)
				life := azuretest.NewLife(last)
				_, _ = w.process(t.Context(), life, capture.Options{}) // whatever it says, nobody hears it
				w.check(w.backup(capture.Options{}))
				if t.Failed() {
					t.Fatalf("death at call %d", last)
				}
				if !life.Ended() {
					t.Logf("%d calls", life.Calls())
					break
				}
			}
			repotest.Verify(t, w.store)
		})
	}
}

// forget starts over with an empty repository and no snapshots.
func (w *world) forget() {
	w.t.Helper()
	for _, snapshot := range w.Snapshots(w.t) {
		if err := w.Compute.DeleteResource(snapshot); err != nil {
			w.t.Fatal(err)
		}
	}
	w.newRepository()
}
