package restorepoint_test

import (
	"context"
	"errors"
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
	"github.com/holdfast-backup/holdfast/internal/twin/network"
	"github.com/holdfast-backup/holdfast/internal/twin/restorepoint"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	group        = "shop"
	machines     = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/"
	disks        = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Compute/disks/"
)

// world is a twin without its wiring; what guests say of being quiesced is the test's choice.
type world struct {
	t       *testing.T
	dir     string
	clock   clock.Clock
	state   *state.Store
	volumes *vdisk.Store
	exports *export.Service
	arm     *arm.Server
	compute *compute.Provider
	provide *restorepoint.Provider
	server  *httptest.Server
	data    *httptest.Server

	quiesced armcompute.ConsistencyModeTypes
	refusal  *arm.Error

	collections *armcompute.RestorePointCollectionsClient
	points      *armcompute.RestorePointsClient
	diskPoints  *armcompute.DiskRestorePointClient
	disks       *armcompute.DisksClient
	machines    *armcompute.VirtualMachinesClient
}

// machine declares a machine with an OS disk and two data disks of the same sort.
func machine(name, size, sku, caching string) estate.VirtualMachine {
	disk := func(suffix string, lun int) estate.Disk {
		return estate.Disk{LUN: lun, Name: name + suffix, SizeGiB: 4, SKU: sku, Caching: caching}
	}
	return estate.VirtualMachine{
		Name: name, ResourceGroup: group, Size: size, OS: "Linux", Subnet: "shop-net/front",
		OSDisk: estate.Disk{Name: name + "-os", SizeGiB: 4, SKU: "Premium_LRS", Caching: "None"}, DataDisks: []estate.Disk{disk("-log", 0), disk("-table", 1)},
	}
}

func newWorld(t *testing.T, clk clock.Clock, virtualMachines ...estate.VirtualMachine) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: clk, quiesced: armcompute.ConsistencyModeTypesFileSystemConsistent}
	w.open()
	e := estate.Estate{
		Subscriptions:   []estate.Subscription{{ID: subscription, Name: "production"}},
		ResourceGroups:  []estate.ResourceGroup{{Name: group, Subscription: "production", Location: "westeurope"}},
		Networks:        []estate.Network{{Name: "shop-net", ResourceGroup: group, AddressPrefix: "10.1.0.0/16", Subnets: []estate.Subnet{{Name: "front", AddressPrefix: "10.1.1.0/24"}}}},
		VirtualMachines: virtualMachines,
	}
	if err := w.compute.Seed(t.Context(), e, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) open() {
	t := w.t
	t.Helper()
	w.state = must(state.Open(w.dir + "/state"))(t)
	w.volumes = must(vdisk.Open(w.dir + "/volumes"))(t)
	w.exports = must(export.Open(export.Config{Dir: w.dir + "/grants", Volumes: w.volumes, Clock: w.clock, BaseURL: func() string { return w.data.URL }, MaxVersion: "2026-12-06"}))(t)
	w.data = httptest.NewServer(w.exports.Handler())
	w.arm = must(arm.New(arm.Config{State: w.state, Clock: w.clock, TenantID: "tenant", Limits: arm.Limits{Off: true}, OperationTime: time.Millisecond, PollAfter: time.Millisecond}))(t)
	network.Register(w.arm)
	w.compute = must(compute.New(compute.Config{ARM: w.arm, State: w.state, Clock: w.clock, Volumes: w.volumes, Exports: w.exports}))(t)
	w.provide = must(restorepoint.Register(restorepoint.Config{
		ARM: w.arm, Disks: w.compute, Volumes: w.volumes,
		Quiesce: func(*state.Tx, *state.Document, time.Time) (armcompute.ConsistencyModeTypes, *arm.Error) {
			return w.quiesced, w.refusal
		},
	}))(t)
	w.server = httptest.NewTLSServer(w.arm.Handler())
	options := &azarm.ClientOptions{DisableRPRegistration: true, ClientOptions: policy.ClientOptions{
		Transport: w.server.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: w.server.URL, Audience: "https://management.azure.com/"}}},
	}}
	factory := must(armcompute.NewClientFactory(subscription, &azfake.TokenCredential{}, options))(t)
	w.collections, w.points, w.diskPoints = factory.NewRestorePointCollectionsClient(), factory.NewRestorePointsClient(), factory.NewDiskRestorePointClient()
	w.disks, w.machines = factory.NewDisksClient(), factory.NewVirtualMachinesClient()
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

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func finish[T any](t testing.TB, poller *runtime.Poller[T], err error) (T, error) {
	t.Helper()
	if err != nil {
		var none T
		return none, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	return poller.PollUntilDone(ctx, nil)
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.ErrorCode != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

// collect makes a collection of a machine, under the machine's name.
func (w *world) collect(name string) {
	w.t.Helper()
	must(w.collections.CreateOrUpdate(w.t.Context(), group, name, collectionOf(machines+name), nil))(w.t)
}

func collectionOf(source string) armcompute.RestorePointCollection {
	return armcompute.RestorePointCollection{
		Location: to.Ptr("westeurope"), Tags: map[string]*string{"owner": to.Ptr("us")},
		Properties: &armcompute.RestorePointCollectionProperties{Source: &armcompute.RestorePointCollectionSourceProperties{ID: to.Ptr(source)}},
	}
}

func crash(excluded ...string) armcompute.RestorePoint {
	point := armcompute.RestorePoint{Properties: &armcompute.RestorePointProperties{ConsistencyMode: to.Ptr(armcompute.ConsistencyModeTypesCrashConsistent)}}
	for _, disk := range excluded {
		point.Properties.ExcludeDisks = append(point.Properties.ExcludeDisks, &armcompute.APIEntityReference{ID: to.Ptr(disks + disk)})
	}
	return point
}

func application() armcompute.RestorePoint {
	return armcompute.RestorePoint{Properties: &armcompute.RestorePointProperties{}}
}

func (w *world) point(collection, name string, point armcompute.RestorePoint) (armcompute.RestorePoint, error) {
	w.t.Helper()
	poller, err := w.points.BeginCreate(w.t.Context(), group, collection, name, point, nil)
	result, err := finish(w.t, poller, err)
	return result.RestorePoint, err
}

// diskNames returns the names of a point's disk restore points: of the OS disk, then by LUN.
func diskNames(point armcompute.RestorePoint) []string {
	profile := point.Properties.SourceMetadata.StorageProfile
	var names []string
	last := func(a *armcompute.DiskRestorePointAttributes) string {
		return (*a.ID)[strings.LastIndex(*a.ID, "/")+1:]
	}
	if profile.OSDisk != nil {
		names = append(names, last(profile.OSDisk.DiskRestorePoint))
	}
	for _, d := range profile.DataDisks {
		names = append(names, last(d.DiskRestorePoint))
	}
	return names
}

func (w *world) grant(collection, point, disk string) (string, error) {
	w.t.Helper()
	poller, err := w.diskPoints.BeginGrantAccess(w.t.Context(), group, collection, point, disk,
		armcompute.GrantAccessData{Access: to.Ptr(armcompute.AccessLevelRead), DurationInSeconds: to.Ptr[int32](3600)}, nil)
	result, err := finish(w.t, poller, err)
	if err != nil {
		return "", err
	}
	return *result.AccessSAS, nil
}

func (w *world) write(disk string, data []byte, offset int64) {
	w.t.Helper()
	id := must(w.compute.DiskVolume(disks + disk))(w.t)
	must(w.volumes.WriteAt(id, data, offset))(w.t)
}
