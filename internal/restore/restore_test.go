package restore_test

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/holdfast-backup/holdfast/internal/restore"
	"github.com/holdfast-backup/holdfast/internal/twin/compute"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// web is a machine with disks of every kind.
func web() estate.VirtualMachine {
	return estate.VirtualMachine{
		Name: "web-1", Zone: "1", Tags: map[string]string{"env": "prod"},
		OSDisk: estate.Disk{Name: "web-1-os", SizeGiB: 64, SKU: "Premium_LRS", Caching: "ReadWrite"},
		DataDisks: []estate.Disk{
			{LUN: 0, Name: "web-1-ssd", SizeGiB: 64, SKU: "StandardSSD_LRS", Caching: "ReadOnly"},
			{LUN: 5, Name: "web-1-ultra", SizeGiB: 64, SKU: "UltraSSD_LRS", LogicalSectorBytes: 512},
			{LUN: 6, Name: "web-1-v2", SizeGiB: 64, SKU: "PremiumV2_LRS", LogicalSectorBytes: 512},
		},
	}
}

func tiny() estate.VirtualMachine {
	return estate.VirtualMachine{Name: "tiny", OSDisk: estate.Disk{Name: "tiny-os", SizeGiB: 32, SKU: "Premium_LRS"}}
}

// world is a cloud with a machine that was backed up.
type world struct {
	*azuretest.Cloud
	t      *testing.T
	client *azure.Client
	store  *mem.Store
	vm     holdfast.ResourceID
	disks  []holdfast.ResourceID
	was    []azuretest.Content // of the disks when they were backed up
	point  holdfast.PointID
	before []string // every resource that existed before a restore
}

func newWorld(t *testing.T, vm estate.VirtualMachine, e func(*estate.Estate)) *world {
	t.Helper()
	declared := azuretest.Estate(vm)
	if e != nil {
		e(&declared)
	}
	w := &world{Cloud: azuretest.Start(t, declared, azuretest.Options{}), t: t, vm: azuretest.Machine(vm.Name), store: mem.New(clock.System{})}
	w.client = w.Client(t)
	w.disks = append(w.disks, azuretest.Disk(vm.OSDisk.Name))
	for _, d := range vm.DataDisks {
		w.disks = append(w.disks, azuretest.Disk(d.Name))
	}
	for i, d := range w.disks {
		w.Write(t, d, noise(uint64(i), 700_000), int64(i+1)<<30)
		w.Write(t, d, noise(uint64(i)+50, 512), 16<<30-512)
		w.was = append(w.was, w.Content(t, d))
	}
	_, err := repo.Init(t.Context(), w.store, repo.InitOptions{Password: repotest.Password, KDF: repotest.FastKDF(), Clock: clock.System{}, Tool: "holdfast test"})
	if err != nil {
		t.Fatal(err)
	}
	flow, err := capture.New(capture.Config{Source: w.client, Repository: w.open(w.store), PollEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	result, err := flow.Run(t.Context(), w.vm, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.point = result.Point
	w.before = w.everything()
	return w
}

func (w *world) open(store blob.Store) *repo.Repository {
	w.t.Helper()
	r, err := repo.Open(w.t.Context(), store, repo.OpenOptions{Password: repotest.Password, Clock: clock.System{}, Tool: "holdfast test"})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// everything lists all resources that exist.
func (w *world) everything() []string {
	w.t.Helper()
	resources, err := w.Compute.Resources()
	if err != nil {
		w.t.Fatal(err)
	}
	var ids []string
	for _, r := range resources {
		ids = append(ids, strings.ToLower(r.ID))
	}
	return ids
}

func noise(seed uint64, size int) []byte {
	p := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p) // it cannot fail
	return p
}

func (w *world) request() restore.Request {
	return restore.Request{Point: w.point, Name: "copy", ResourceGroup: "lab"}
}

func (w *world) flow(client *azure.Client, store blob.Store) (*restore.Flow, error) {
	r, err := repo.Open(w.t.Context(), store, repo.OpenOptions{Password: repotest.Password, Clock: clock.System{}, Tool: "holdfast test"})
	if err != nil {
		return nil, err
	}
	return restore.New(restore.Config{Cloud: client, Repository: r})
}

// with plans and restores with the given means.
func (w *world) with(ctx context.Context, client *azure.Client, store blob.Store, request restore.Request) (restore.Result, error) {
	flow, err := w.flow(client, store)
	if err != nil {
		return restore.Result{}, err
	}
	plan, err := flow.Plan(ctx, request)
	if err != nil {
		return restore.Result{}, err
	}
	return flow.Run(ctx, plan)
}

// process restores as a new process would.
func (w *world) process(life *azuretest.Life, request restore.Request) (restore.Result, error) {
	client, store := w.Client(w.t), blob.Store(w.store)
	if life != nil {
		client, store = w.Client(w.t, azuretest.Wrapped(life.Transport)), life.Store(w.store)
	}
	defer client.CloseIdleConnections()
	return w.with(w.t.Context(), client, store, request)
}

// restore restores and must succeed.
func (w *world) restore(request restore.Request) restore.Result {
	w.t.Helper()
	result, err := w.with(w.t.Context(), w.client, w.store, request)
	if err != nil {
		var e *holdfast.Error
		if errors.As(err, &e) {
			w.t.Logf("hint: %s", e.Hint)
		}
		w.t.Fatal(err)
	}
	return result
}

// check fails unless the machine stands, its disks equal those that were backed up, and nothing else was made.
func (w *world) check(result restore.Result) {
	w.t.Helper()
	var made []string
	for i, d := range result.Disks {
		if !d.Equal {
			w.t.Errorf("disk %s is not said to be equal", d.LUN)
		}
		if !w.Content(w.t, d.ID).Equal(w.was[i]) {
			w.t.Errorf("disk %s is not what was backed up", d.LUN)
		}
		made = append(made, d.ID.Key())
	}
	if result.VM != "" {
		made = append(made, result.VM.Key(), result.VM.Sibling("Microsoft.Network/networkInterfaces", result.VM.Name()+"-nic").Key())
		if _, err := w.client.Machine(w.t.Context(), result.VM); err != nil {
			w.t.Error(err)
		}
	}
	w.checkOnly(made)
	for _, id := range made {
		r, err := w.client.Resource(w.t.Context(), holdfast.ResourceID(id))
		if err != nil || r.Tags["holdfast-restore"] != string(w.point) {
			w.t.Errorf("%s: tag %q, %v", id, r.Tags["holdfast-restore"], err)
		}
	}
}

// checkOnly fails unless exactly made exists besides what existed before, without any SAS.
func (w *world) checkOnly(made []string) {
	w.t.Helper()
	want := slices.Concat(w.before, made)
	slices.Sort(want)
	found := w.everything()
	slices.Sort(found)
	if !slices.Equal(found, want) {
		w.t.Errorf("exists: %v\nwanted: %v", minus(found, want), minus(want, found))
	}
	if n := w.ActiveSAS(w.t); n > 0 {
		w.t.Errorf("%d SAS are active", n)
	}
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// remove deletes what a restore made, so that the next can be tried.
func (w *world) remove(result restore.Result) {
	w.t.Helper()
	ids := []holdfast.ResourceID{result.VM, result.VM.Sibling("Microsoft.Network/networkInterfaces", result.VM.Name()+"-nic")}
	for _, d := range result.Disks {
		ids = append(ids, d.ID)
	}
	for _, id := range ids {
		if err := w.client.Delete(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestRun_RoundTrip proves that a machine with disks of every kind comes back under a new name with every byte, its
// places, sizes, tags and zone, and that the plan says so beforehand.
func TestRun_DisksOfEveryKind_ComeBackEqual(t *testing.T) {
	w := newWorld(t, web(), nil)
	result := w.restore(w.request())
	w.check(result)
	vm, err := w.client.Machine(t.Context(), result.VM)
	if err != nil {
		t.Fatal(err)
	}
	if vm.Name != "copy" || vm.Zone != "1" || vm.Size != "Standard_D4s_v5" || vm.Tags["env"] != "prod" || !strings.EqualFold(vm.ID.ResourceGroup(), "lab") {
		t.Errorf("%+v", vm)
	}
	var names []string
	for i, d := range vm.Disks {
		names = append(names, d.Name)
		if was := web(); i > 0 && (d.SKU != was.DataDisks[i-1].SKU || d.Caching != cachingOf(was.DataDisks[i-1])) {
			t.Errorf("disk %s: %s, caching %q", d.Name, d.SKU, d.Caching)
		}
	}
	if want := []string{"copy-os", "copy-lun0", "copy-lun5", "copy-lun6"}; !slices.Equal(names, want) {
		t.Errorf("disks %v, want %v", names, want)
	}
	raw, err := json.Marshal(result)
	if err != nil || !strings.Contains(string(raw), `"lun":"os","bytes":`) {
		t.Errorf("%s, %v", raw, err)
	}
}

func cachingOf(d estate.Disk) string {
	if d.Caching == "" {
		return "None"
	}
	return d.Caching
}

// TestPlan_ChangesNothing proves that planning makes nothing, and that a plan says what it will make.
func TestPlan_ShowsWhatRunWillDo_AndChangesNothing(t *testing.T) {
	w := newWorld(t, web(), nil)
	flow, err := w.flow(w.client, w.store)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := flow.Plan(t.Context(), restore.Request{Point: w.point, Name: "copy", Size: "Standard_D8s_v5"})
	if err != nil {
		t.Fatal(err)
	}
	w.checkOnly(nil)
	lines := strings.Join(plan.Lines(), "\n")
	for _, want := range []string{"copy-os", "copy-lun5", "UltraSSD_LRS", "copy-nic", "virtual machine copy"} {
		if !strings.Contains(lines, want) {
			t.Errorf("%q is not in\n%s", want, lines)
		}
	}
	if !strings.Contains(string(plan.VM.Body), "Standard_D8s_v5") || !strings.EqualFold(plan.VM.ID.ResourceGroup(), "shop") {
		t.Errorf("%s: %s", plan.VM.ID, plan.VM.Body)
	}
}

// TestRunDisks proves that disks can be restored without a machine.
func TestRun_DisksAlone_ComeBackEqual(t *testing.T) {
	w := newWorld(t, web(), nil)
	flow, err := w.flow(w.client, w.store)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := flow.PlanDisks(t.Context(), restore.DiskRequest{Point: w.point, Name: "found", LUNs: []holdfast.LUN{"os"}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := flow.Run(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	if result.VM != "" || len(result.Disks) != 1 || result.Disks[0].ID.Name() != "found-os" {
		t.Fatalf("%+v", result)
	}
	w.check(result)
}

// TestRun_EveryCallFailsOnce proves, for every call of a good restore, that after it fails the same restore runs to its end
// and nothing else is left, and that a restore that fails by itself leaves nothing.
func TestRun_EveryCallFailsOnce_NextRunIsRightAndLeavesNothing(t *testing.T) {
	for _, way := range []struct {
		name string
		rule fault.Rule
	}{
		{"error", fault.Rule{Fault: fault.Error}},
		{"lost after effect", fault.Rule{Fault: fault.Lost, AfterEffect: true}},
		{"throttled after effect", fault.Rule{Fault: fault.Throttle, RetryAfterMs: 1, AfterEffect: true}},
		{"refused", fault.Rule{Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tiny(), nil)
			for k := 1; ; k += stride() {
				way.rule.Calls = []int{k}
				if err := w.Faults.Set(fault.Plan{Rules: []fault.Rule{way.rule}}); err != nil {
					t.Fatal(err)
				}
				result, err := w.process(nil, w.request())
				fired := w.Faults.Counts()[0].Fired > 0
				if err := w.Faults.Set(fault.Plan{}); err != nil {
					t.Fatal(err)
				}
				if err != nil {
					w.checkSoon(k)
				}
				if err != nil || w.unfinished() {
					result = w.restore(w.request())
				}
				w.check(result)
				if t.Failed() {
					t.Fatalf("call %d: %v", k, err)
				}
				w.remove(result)
				if !fired {
					t.Logf("call %d was not made any more", k)
					break
				}
			}
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

// unfinished reports whether anything bears the mark of an unfinished restore.
func (w *world) unfinished() bool {
	w.t.Helper()
	resources, err := w.Compute.Resources()
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.ContainsFunc(resources, func(r compute.Resource) bool { return strings.Contains(r.Tags["holdfast-restore"], "/") })
}

// checkSoon fails if a run that one failing call brought down left anything behind: its undoing had no trouble.
func (w *world) checkSoon(k int) {
	w.t.Helper()
	if left := minus(w.everything(), w.before); len(left) > 0 {
		w.t.Errorf("call %d: %v is left", k, left)
	}
	if n := w.ActiveSAS(w.t); n > 0 {
		w.t.Errorf("call %d: %d SAS are active", k, n)
	}
}

// TestRun_DeathAtEveryCall proves that after a process died at any call, the same restore runs to its end, and nothing else
// is left.
func TestRun_DeathAtEveryCall_NextRunIsRightAndLeavesNothing(t *testing.T) {
	w := newWorld(t, tiny(), nil)
	finishedLater := 0
	for last := 1; ; last += stride() {
		life := azuretest.NewLife(last)
		_, _ = w.process(life, w.request()) // whatever it says, nobody hears it
		if life.Ended() && !w.unfinished() && len(w.everything()) > len(w.before) {
			// Only the answer to the last call is missing: the machine is finished, and its name is taken.
			if _, err := w.process(nil, w.request()); !holdfast.IsKind(err, holdfast.KindRefused) {
				t.Fatalf("death at call %d: the name of a finished machine gives %v", last, err)
			}
			finishedLater++
			w.remove(restore.Result{VM: holdfast.NewResourceID(azuretest.Subscription, "lab", "Microsoft.Compute/virtualMachines", "copy"), Disks: []restore.DiskResult{
				{ID: holdfast.NewResourceID(azuretest.Subscription, "lab", "Microsoft.Compute/disks", "copy-os")},
			}})
			continue
		}
		if !life.Ended() {
			t.Logf("%d calls", life.Calls())
			break
		}
		result := w.restore(w.request())
		w.check(result)
		if t.Failed() {
			t.Fatalf("death at call %d", last)
		}
		w.remove(result)
	}
	if finishedLater == 0 && !testing.Short() {
		t.Error("no death came after the end of the work: the loop ended too early")
	}
}

// TestRun_TakenNames proves that a resource of somebody else under one of the names is refused and left alone.
func TestRun_TakenNames_AreRefused(t *testing.T) {
	w := newWorld(t, tiny(), nil)
	for _, name := range []holdfast.ResourceID{
		holdfast.NewResourceID(azuretest.Subscription, "lab", "Microsoft.Compute/disks", "copy-os"),
		holdfast.NewResourceID(azuretest.Subscription, "lab", "Microsoft.Network/networkInterfaces", "copy-nic"),
	} {
		body := `{"location":"westeurope","sku":{"name":"Premium_LRS"},"properties":{"diskSizeGB":4,"creationData":{"createOption":"Empty"}}}`
		if strings.Contains(string(name), "networkInterfaces") {
			body = `{"location":"westeurope","properties":{"ipConfigurations":[{"name":"a","properties":{"subnet":{"id":"` + azuretest.Subnet + `"}}}]}}`
		}
		if err := w.client.Put(t.Context(), name, json.RawMessage(body)); err != nil {
			t.Fatal(err)
		}
		w.refused(w.request(), holdfast.KindRefused, "name", name.Name())
		w.checkOnly([]string{name.Key()})
		if err := w.client.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

// refused runs a restore that must be refused with the kind, the field, and a message that names what is at fault.
func (w *world) refused(request restore.Request, kind holdfast.Kind, field, names string) {
	w.t.Helper()
	_, err := w.process(nil, request)
	var e *holdfast.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Field != field || !strings.Contains(e.Message, names) || e.Hint == "" {
		w.t.Errorf("%v (kind %s), want %s about %s with a hint", err, holdfast.KindOf(err), kind, names)
	}
}

// TestRun_BadRequests proves that what cannot be restored is refused before anything is made.
func TestRun_BadRequests_AreRefusedBeforeAnythingIsMade(t *testing.T) {
	w := newWorld(t, web(), func(e *estate.Estate) {
		e.ResourceGroups = append(e.ResourceGroups, estate.ResourceGroup{Name: "sealed", Subscription: "production", Location: azuretest.Location})
		e.Locks = append(e.Locks, estate.Lock{Scope: "sealed", Level: "ReadOnly"})
		e.Quotas = append(e.Quotas, estate.Quota{Location: azuretest.Location, Cores: 6})
	})
	for name, c := range map[string]struct {
		change func(*restore.Request)
		kind   holdfast.Kind
		field  string
		names  string
	}{
		"unknown point":  {func(r *restore.Request) { r.Point = "20200101-000000-00000000" }, holdfast.KindNotFound, "point", "20200101"},
		"bad name":       {func(r *restore.Request) { r.Name = "a/b" }, holdfast.KindInvalid, "name", "a/b"},
		"unknown group":  {func(r *restore.Request) { r.ResourceGroup = "nowhere" }, holdfast.KindNotFound, "resourceGroup", "nowhere"},
		"bad group":      {func(r *restore.Request) { r.ResourceGroup = "/subscriptions/x" }, holdfast.KindInvalid, "resourceGroup", "/subscriptions/x"},
		"unknown subnet": {func(r *restore.Request) { r.Subnet = azuretest.Subnet + "s" }, holdfast.KindNotFound, "subnet", "fronts"},
		"bad subnet":     {func(r *restore.Request) { r.Subnet = "front" }, holdfast.KindInvalid, "subnet", "front"},
		"unknown size":   {func(r *restore.Request) { r.Size = "Standard_Nothing" }, holdfast.KindNotFound, "size", "Standard_Nothing"},
		"quota":          {func(*restore.Request) {}, holdfast.KindRefused, "size", "quota"},
		"locked group":   {func(r *restore.Request) { r.ResourceGroup, r.Size = "sealed", "Standard_D2s_v5" }, holdfast.KindRefused, "resourceGroup", "lock"},
	} {
		t.Run(name, func(t *testing.T) {
			request := w.request()
			c.change(&request)
			w.refused(request, c.kind, c.field, c.names)
			w.checkOnly(nil)
		})
	}
	request := w.request()
	request.Size = "Standard_D2s_v5" // two cores are left
	w.check(w.restore(request))
}

// TestRun_Troubles proves that a restore gets through troubles of the endpoints, or leaves nothing behind.
func TestRun_Troubles_AreSurvivedOrLeaveNothing(t *testing.T) {
	for name, c := range map[string]struct {
		rule  fault.Rule
		fails bool
	}{
		"writes cut":             {fault.Rule{On: fault.Disk, Method: "PUT", Calls: []int{1, 3}, Fault: fault.Cut}, false},
		"writes lost":            {fault.Rule{On: fault.Disk, Method: "PUT", Calls: []int{2, 3}, Fault: fault.Lost, AfterEffect: true}, false},
		"disk endpoint busy":     {fault.Rule{On: fault.Disk, Probability: 0.3, Fault: fault.Throttle, Status: 503, RetryAfterMs: 1}, false},
		"read SAS revoked":       {fault.Rule{On: fault.Disk, Method: "GET", Calls: []int{2}, Fault: fault.Revoke}, false},
		"upload SAS revoked":     {fault.Rule{On: fault.Disk, Method: "PUT", Calls: []int{2}, Fault: fault.Revoke}, false},
		"disk creation fails":    {fault.Rule{On: fault.ARM, Method: "PUT", Path: "*/disks/*", Calls: []int{2}, Fault: fault.FailOperation}, true},
		"machine creation fails": {fault.Rule{On: fault.ARM, Method: "PUT", Path: "*/virtualmachines/*", Calls: []int{1}, Fault: fault.FailOperation, AfterEffect: true}, true},
		"upload does not end":    {fault.Rule{On: fault.ARM, Method: "POST", Path: "*/endgetaccess", Calls: []int{1}, Fault: fault.FailOperation}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, web(), nil)
			behave := w.Misbehave(t, c.rule)
			result, err := w.process(nil, w.request())
			behave()
			if failed := err != nil; failed != c.fails {
				t.Fatalf("%v", err)
			}
			if err != nil {
				w.checkSoon(0)
				result = w.restore(w.request())
			}
			w.check(result)
		})
	}
}

// crossing is a cloud in which the creation of one disk is under way when that of another fails, and takes effect whether its caller waits
// for it or not.
type crossing struct {
	*azure.Client
	failed chan struct{}
	late   func() error // what a caller who did not wait left to happen
}

func (c *crossing) Put(ctx context.Context, id holdfast.ResourceID, body json.RawMessage) error {
	switch id.Name() {
	case "copy-lun0":
		close(c.failed)
		return holdfast.Errorf(holdfast.KindRefused, "no more disks")
	case "copy-os":
		<-c.failed
		create := func() error { return c.Client.Put(context.WithoutCancel(ctx), id, body) }
		select {
		case <-ctx.Done():
			c.late = create
			return ctx.Err()
		case <-time.After(100 * time.Millisecond): // who does not wait is gone by now
			return create()
		}
	}
	return c.Client.Put(ctx, id, body)
}

// TestRun_FailsWhileAnotherDiskIsMade proves that the creation of a disk that was asked for is waited for when another disk fails: made
// after everything was looked for, it would stay.
func TestRun_FailsWhileAnotherDiskIsMade_LeavesNothing(t *testing.T) {
	w := newWorld(t, web(), nil)
	cloud := &crossing{Client: w.client, failed: make(chan struct{})}
	flow, err := restore.New(restore.Config{Cloud: cloud, Repository: w.open(w.store)})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := flow.Plan(t.Context(), w.request())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flow.Run(t.Context(), plan); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("%v", err)
	}
	if cloud.late != nil {
		if err := cloud.late(); err != nil {
			t.Fatal(err)
		}
	}
	w.checkSoon(0)
}

// TestRun_Damage proves that a restore of a damaged point fails, and that a disk that does not compare equal never becomes
// part of a machine.
func TestRun_DiskThatDiffers_IsNotAttached(t *testing.T) {
	w := newWorld(t, tiny(), nil)
	flow, err := w.flow(w.client, w.store)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := flow.Plan(t.Context(), w.request())
	if err != nil {
		t.Fatal(err)
	}
	plan.Disks[0].Root[5] ^= 1 // stands for a byte that went wrong on the way
	if _, err := flow.Run(t.Context(), plan); !holdfast.IsKind(err, holdfast.KindCorrupt) || !strings.Contains(err.Error(), "copy-os") {
		t.Errorf("%v", err)
	}
	w.checkSoon(0)
}

// TestRun_Stopped proves that a restore that is stopped at any stage leaves nothing behind.
func TestRun_Stopped_LeavesNothing(t *testing.T) {
	for _, stage := range []restore.Stage{restore.StageCreate, restore.StageWrite, restore.StageProve, restore.StageMachine} {
		t.Run(string(stage), func(t *testing.T) {
			w := newWorld(t, web(), nil)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			flow, err := restore.New(restore.Config{Cloud: w.client, Repository: w.open(w.store), Progress: func(p restore.Progress) {
				if p.Stage == stage {
					stop()
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			plan, err := flow.Plan(ctx, w.request())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := flow.Run(ctx, plan); !holdfast.IsKind(err, holdfast.KindCanceled) {
				t.Errorf("%v (%s)", err, holdfast.KindOf(err))
			}
			w.checkSoon(0)
		})
	}
}
