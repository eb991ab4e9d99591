package compute_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/network"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/storageaccount"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	group        = "shop"
	location     = "westeurope"
	machineID    = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1"
	diskPrefix   = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Compute/disks/"
	snapPrefix   = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Compute/snapshots/"
	nicPrefix    = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Network/networkInterfaces/"
	subnetID     = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Network/virtualNetworks/shop-net/subnets/front"
)

// world is a twin without its wiring: ARM, compute, network over real volumes and exports.
type world struct {
	t        *testing.T
	dir      string
	clock    clock.Clock
	state    *state.Store
	volumes  *vdisk.Store
	exports  *export.Service
	arm      *arm.Server
	compute  *compute.Provider
	server   *httptest.Server
	data     *httptest.Server
	decision func(*http.Request) fault.Decision

	disks     *armcompute.DisksClient
	snapshots *armcompute.SnapshotsClient
	machines  *armcompute.VirtualMachinesClient
	options   *azarm.ClientOptions
}

func plainEstate() estate.Estate {
	return estate.Estate{
		Subscriptions:   []estate.Subscription{{ID: subscription, Name: "production"}},
		ResourceGroups:  []estate.ResourceGroup{{Name: group, Subscription: "production", Location: location, Tags: map[string]string{"team": "web"}}},
		Networks:        []estate.Network{{Name: "shop-net", ResourceGroup: group, AddressPrefix: "10.1.0.0/16", Subnets: []estate.Subnet{{Name: "front", AddressPrefix: "10.1.1.0/24"}}}},
		StorageAccounts: []estate.StorageAccount{{Name: "shopvault", ResourceGroup: group}},
		VirtualMachines: []estate.VirtualMachine{{
			Name: "web-1", ResourceGroup: group, Size: "Standard_D4s_v5", Zone: "1", OS: "Linux", Subnet: "shop-net/front", Tags: map[string]string{"env": "prod"},
			OSDisk:    estate.Disk{Name: "web-1-os", SizeGiB: 32, SKU: "Premium_LRS", Caching: "ReadWrite"},
			DataDisks: []estate.Disk{{LUN: 0, Name: "web-1-data", SizeGiB: 64, SKU: "StandardSSD_LRS", Caching: "ReadOnly"}},
		}},
	}
}

func newWorld(t *testing.T, clk clock.Clock, e estate.Estate) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: clk}
	w.open()
	if err := w.compute.Seed(t.Context(), e, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return w
}

// open starts the twin's parts on w.dir.
func (w *world) open() {
	t := w.t
	t.Helper()
	w.state = must(state.Open(w.dir + "/state"))(t)
	w.volumes = must(vdisk.Open(w.dir + "/volumes"))(t)
	w.exports = must(export.Open(export.Config{Dir: w.dir + "/grants", Volumes: w.volumes, Clock: w.clock, BaseURL: func() string { return w.data.URL }}))(t)
	w.data = httptest.NewServer(w.exports.Handler())
	w.arm = must(arm.New(arm.Config{State: w.state, Clock: w.clock, TenantID: "tenant", Limits: arm.Limits{Off: true}, OperationTime: time.Millisecond, PollAfter: time.Millisecond}))(t)
	network.Register(w.arm)
	storageaccount.Register(w.arm, storageaccount.Config{BlobEndpoint: func(name string) string { return "https://127.0.0.1/" + name + "/" }})
	w.compute = must(compute.New(compute.Config{ARM: w.arm, State: w.state, Clock: w.clock, Volumes: w.volumes, Exports: w.exports}))(t)
	w.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.decision != nil {
			r = r.WithContext(fault.With(r.Context(), w.decision(r)))
		}
		w.arm.Handler().ServeHTTP(rw, r)
	}))
	w.options = &azarm.ClientOptions{DisableRPRegistration: true, ClientOptions: policy.ClientOptions{
		Transport: w.server.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: w.server.URL, Audience: "https://management.azure.com/"}}},
	}}
	credential := &azfake.TokenCredential{}
	w.disks = must(armcompute.NewDisksClient(subscription, credential, w.options))(t)
	w.snapshots = must(armcompute.NewSnapshotsClient(subscription, credential, w.options))(t)
	w.machines = must(armcompute.NewVirtualMachinesClient(subscription, credential, w.options))(t)
	t.Cleanup(w.close)
}

func (w *world) close() {
	if w.server == nil {
		return
	}
	w.server.Close()
	w.data.Close()
	_ = w.volumes.Close()
	_ = w.state.Close()
	w.server = nil
}

// restart closes the parts and opens them again.
func (w *world) restart() {
	w.close()
	w.open()
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// finish polls an operation to its end.
func finish[T any](t testing.TB, poller *runtime.Poller[T], err error) (T, error) {
	t.Helper()
	if err != nil {
		var none T
		return none, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return poller.PollUntilDone(ctx, nil)
}

// done is finish for operations that must succeed.
func done[T any](t testing.TB, poller *runtime.Poller[T], err error) T {
	t.Helper()
	result, err := finish(t, poller, err)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// wantCode fails unless err is the platform's refusal with that code.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.ErrorCode != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

// raw sends a request as any client would and returns status, headers and decoded body.
func (w *world) raw(method, path, body string) (int, http.Header, state.Object) {
	w.t.Helper()
	request := must(http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, strings.NewReader(body)))(w.t)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response := must(w.server.Client().Do(request))(w.t)
	defer func() { _ = response.Body.Close() }()
	raw := must(io.ReadAll(response.Body))(w.t)
	decoded := state.Object{}
	if len(raw) > 0 {
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&decoded); err != nil {
			w.t.Fatalf("%s %s answered %q", method, path, raw)
		}
	}
	return response.StatusCode, response.Header, decoded
}

func emptyDisk(sizeGB int32, sku string) armcompute.Disk {
	return armcompute.Disk{
		Location: to.Ptr(location), SKU: &armcompute.DiskSKU{Name: to.Ptr(armcompute.DiskStorageAccountTypes(sku))},
		Properties: &armcompute.DiskProperties{DiskSizeGB: to.Ptr(sizeGB), CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionEmpty)}},
	}
}

func (w *world) makeDisk(name string, disk armcompute.Disk) (armcompute.Disk, error) {
	w.t.Helper()
	poller, err := w.disks.BeginCreateOrUpdate(w.t.Context(), group, name, disk, nil)
	result, err := finish(w.t, poller, err)
	return result.Disk, err
}

func snapshotOf(diskID string) armcompute.Snapshot {
	return armcompute.Snapshot{Location: to.Ptr(location), Properties: &armcompute.SnapshotProperties{
		Incremental:  to.Ptr(true),
		CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionCopy), SourceResourceID: to.Ptr(diskID)},
	}}
}

func (w *world) makeSnapshot(name string, snapshot armcompute.Snapshot) (armcompute.Snapshot, error) {
	w.t.Helper()
	poller, err := w.snapshots.BeginCreateOrUpdate(w.t.Context(), group, name, snapshot, nil)
	result, err := finish(w.t, poller, err)
	return result.Snapshot, err
}

func (w *world) grantSnapshot(name string) (string, error) {
	w.t.Helper()
	poller, err := w.snapshots.BeginGrantAccess(w.t.Context(), group, name, armcompute.GrantAccessData{Access: to.Ptr(armcompute.AccessLevelRead), DurationInSeconds: to.Ptr[int32](3600)}, nil)
	result, err := finish(w.t, poller, err)
	if err != nil {
		return "", err
	}
	return *result.AccessSAS, nil
}

func (w *world) revokeSnapshot(name string) {
	w.t.Helper()
	poller, err := w.snapshots.BeginRevokeAccess(w.t.Context(), group, name, nil)
	done(w.t, poller, err)
}

func (w *world) grantDisk(name string, access armcompute.AccessLevel) (string, error) {
	w.t.Helper()
	poller, err := w.disks.BeginGrantAccess(w.t.Context(), group, name, armcompute.GrantAccessData{Access: to.Ptr(access), DurationInSeconds: to.Ptr[int32](3600)}, nil)
	result, err := finish(w.t, poller, err)
	if err != nil {
		return "", err
	}
	return *result.AccessSAS, nil
}
