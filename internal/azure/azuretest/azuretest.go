// Package azuretest gives tests a cloud of their own: the twin's services over real HTTP on loopback, the product's client
// beside it, and the means to look at it from outside: what guests write, what disks hold, what exists.
//
// It promises that the client under test is configured as in production (endpoints, trust file, client secret) and only
// waits less. It is for tests alone.
package azuretest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/diskdata"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute"
	"github.com/holdfast-backup/holdfast/internal/twin/entra"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/guest"
	"github.com/holdfast-backup/holdfast/internal/twin/network"
	"github.com/holdfast-backup/holdfast/internal/twin/restorepoint"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// What every cloud here has.
const (
	Subscription = "11111111-1111-1111-1111-111111111111"
	Group        = "shop"
	Location     = "westeurope"
	Subnet       = "/subscriptions/" + Subscription + "/resourceGroups/shop/providers/Microsoft.Network/virtualNetworks/shop-net/subnets/front"
	tenant       = "22222222-2222-2222-2222-222222222222"
	clientID     = "33333333-3333-3333-3333-333333333333"
	secret       = "a secret of the tests"
)

// Cloud is a running twin.
type Cloud struct {
	Config  azureconfig.Config // what the product is given
	Faults  *fault.Engine
	Compute *compute.Provider
	Exports *export.Service
	ARM     *arm.Server
	Guests  *guest.Service
	Points  *restorepoint.Provider

	volumes *vdisk.Store
	data    *httptest.Server
	token   string // of the administrator

	directory *entra.Service
}

// Options change what the twin does; the zero value is a fast and well-behaved one.
type Options struct {
	FragmentLimit int
	Pacing        export.Pacing
	CopyTime      time.Duration // of Ultra and Premium v2 snapshots
	Permissions   []arm.Permission
	PageSize      int
}

// ID makes an ARM id in the cloud's group.
func ID(resourceType, name string) holdfast.ResourceID {
	return holdfast.NewResourceID(Subscription, Group, resourceType, name)
}

// Machine returns the id of a virtual machine.
func Machine(name string) holdfast.ResourceID { return ID("Microsoft.Compute/virtualMachines", name) }

// Disk returns the id of a disk.
func Disk(name string) holdfast.ResourceID { return ID("Microsoft.Compute/disks", name) }

// Estate declares a group and a network around the given machines.
func Estate(machines ...estate.VirtualMachine) estate.Estate {
	e := estate.Estate{
		Subscriptions:  []estate.Subscription{{ID: Subscription, Name: "production"}},
		ResourceGroups: []estate.ResourceGroup{{Name: Group, Subscription: "production", Location: Location}, {Name: "lab", Subscription: "production", Location: Location}},
		Networks: []estate.Network{{
			Name: "shop-net", ResourceGroup: Group, AddressPrefix: "10.1.0.0/16", Subnets: []estate.Subnet{{Name: "front", AddressPrefix: "10.1.1.0/24"}},
		}},
	}
	for _, vm := range machines {
		if vm.ResourceGroup == "" {
			vm.ResourceGroup, vm.Subnet = Group, "shop-net/front"
		}
		if vm.Size == "" {
			vm.Size, vm.OS = "Standard_D4s_v5", "Linux"
		}
		e.VirtualMachines = append(e.VirtualMachines, vm)
	}
	return e
}

// Start runs a twin until the test ends.
func Start(t testing.TB, e estate.Estate, o Options) *Cloud {
	t.Helper()
	dir, system := t.TempDir(), clock.System{}
	c := &Cloud{token: rand.Text()}
	states := must(state.Open(filepath.Join(dir, "state")))(t)
	c.volumes = must(vdisk.Open(filepath.Join(dir, "volumes")))(t)
	c.Faults = must(fault.New(fault.Plan{}, system))(t)
	c.Exports = must(export.Open(export.Config{
		Dir: filepath.Join(dir, "grants"), Volumes: c.volumes, Clock: system, BaseURL: func() string { return c.data.URL },
		FragmentLimit: o.FragmentLimit, Pacing: o.Pacing,
	}))(t)
	c.data = httptest.NewServer(c.Faults.Middleware(fault.Disk, c.Exports.Handler()))
	var server *httptest.Server
	directory := must(entra.New(entra.Config{
		KeyFile: filepath.Join(dir, "key.pem"), Clock: system, Tenant: tenant, BaseURL: func() string { return server.URL },
	}))(t)
	c.directory = directory
	directory.Register(entra.Application{ClientID: clientID, Secret: secret})
	c.ARM = must(arm.New(arm.Config{
		State: states, Clock: system, TenantID: tenant, Limits: arm.Limits{Off: true}, OperationTime: time.Millisecond, PollAfter: time.Millisecond,
		PageSize: o.PageSize, Permissions: o.Permissions,
		Authenticate: func(r *http.Request) (string, error) {
			if r.Header.Get("Authorization") == "Bearer "+c.token {
				return "administrator", nil
			}
			claims, err := directory.Verify(r, entra.AudienceARM)
			return claims.Principal, err
		},
	}))(t)
	network.Register(c.ARM)
	c.Compute = must(compute.New(compute.Config{
		ARM: c.ARM, State: states, Clock: system, Volumes: c.volumes, Exports: c.Exports, CopyTime: o.CopyTime,
	}))(t)
	c.Compute.SetSnapshotRate(false)
	c.Guests = must(guest.Register(guest.Config{ARM: c.ARM, State: states, Clock: system, Volumes: c.volumes}))(t)
	c.Points = must(restorepoint.Register(restorepoint.Config{ARM: c.ARM, Disks: c.Compute, Volumes: c.volumes, Quiesce: c.Guests.Quiesce}))(t)
	c.Points.SetRate(false)
	server = httptest.NewUnstartedServer(c.front(directory))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // handshakes that a dying client breaks off are no news
	server.StartTLS()
	t.Cleanup(func() {
		server.Close()
		c.data.Close()
		if err := errors.Join(c.volumes.Close(), states.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := c.Compute.Seed(t.Context(), e, dir); err != nil {
		t.Fatal(err)
	}
	if err := c.Guests.Seed(e); err != nil {
		t.Fatal(err)
	}
	c.Config = configFor(t, dir, server)
	return c
}

func (c *Cloud) front(directory *entra.Service) http.Handler {
	tokens := c.Faults.Middleware(fault.Entra, directory.Handler())
	resources := c.Faults.Middleware(fault.ARM, c.ARM.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if entra.Owns(r.URL.Path) {
			tokens.ServeHTTP(w, r)
			return
		}
		resources.ServeHTTP(w, r)
	})
}

func configFor(t testing.TB, dir string, server *httptest.Server) azureconfig.Config {
	t.Helper()
	caFile := filepath.Join(dir, "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(caFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return azureconfig.Config{
		TenantID: tenant, ClientID: clientID, Credential: azureconfig.CredentialSecret, ClientSecret: secret, CAFile: caFile,
		Endpoints: &azureconfig.Endpoints{ResourceManager: server.URL, ActiveDirectory: server.URL, Blob: server.URL + "/{account}"},
	}
}

// Register lets the product's application sign in with a certificate instead of its secret.
func (c *Cloud) Register(certificate *x509.Certificate) {
	c.directory.Register(entra.Application{ClientID: clientID, Certificates: []*x509.Certificate{certificate}})
}

// ClientOptions are the options of the product's client, but for the waiting.
func ClientOptions() azure.Options {
	return azure.Options{
		PollEvery: 2 * time.Millisecond,
		Retry:     azure.Retry{Attempts: 4, Delay: time.Millisecond, DelayMax: 2 * time.Second},
	}
}

// Client makes the product's client, changed by each of change.
func (c *Cloud) Client(t testing.TB, change ...func(*azure.Options)) *azure.Client {
	t.Helper()
	options := ClientOptions()
	for _, f := range change {
		f(&options)
	}
	client := must(azure.New(c.Config, options))(t)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// Tuned sets limits of reading disks.
func Tuned(tuning diskdata.Tuning) func(*azure.Options) {
	return func(o *azure.Options) { o.DiskTuning = tuning }
}

// Wrapped puts a round tripper around the transport.
func Wrapped(wrap func(http.RoundTripper) http.RoundTripper) func(*azure.Options) {
	return func(o *azure.Options) { o.Wrap = wrap }
}

// Write writes into a disk as its guest would.
func (c *Cloud) Write(t testing.TB, disk holdfast.ResourceID, data []byte, offset int64) {
	t.Helper()
	if err := c.TryWrite(disk, data, offset); err != nil {
		t.Fatal(err)
	}
}

// TryWrite is Write for any goroutine, and for guests that may be frozen: then it fails with KindConflict.
func (c *Cloud) TryWrite(disk holdfast.ResourceID, data []byte, offset int64) error {
	volume, err := c.Compute.DiskVolume(string(disk))
	if err != nil {
		return err
	}
	return c.Guests.Write(string(disk), func() error {
		_, err := c.volumes.WriteAt(volume, data, offset)
		return err
	})
}

// Zero clears a range of a disk, as a guest's trim does.
func (c *Cloud) Zero(t testing.TB, disk holdfast.ResourceID, offset, length int64) {
	t.Helper()
	volume := must(c.Compute.DiskVolume(string(disk)))(t)
	if err := c.volumes.Zero(volume, offset, length); err != nil {
		t.Fatal(err)
	}
}

// Content is what a disk holds: its size, and its blocks of 64 KiB that are not zero, by offset.
type Content struct {
	SizeBytes int64
	Blocks    map[int64]string
}

const blockBytes = 64 << 10

// Content reads a disk or snapshot from outside.
func (c *Cloud) Content(t testing.TB, disk holdfast.ResourceID) Content {
	t.Helper()
	id := must(c.Compute.DiskVolume(string(disk)))(t)
	volume := must(c.volumes.Stat(id))(t)
	return Collect(t, volume.Size, func(yield func(holdfast.Extent, error) bool) {
		c.volumes.Allocated(id, holdfast.Extent{Length: volume.Size})(yield)
	}, func(p []byte, offset int64) error {
		_, err := c.volumes.ReadAt(id, p, offset)
		return err
	})
}

// Collect gathers the content of anything that can name what it holds and read it.
func Collect(t testing.TB, size int64, extents func(func(holdfast.Extent, error) bool), read func(p []byte, offset int64) error) Content {
	t.Helper()
	content := Content{SizeBytes: size, Blocks: map[int64]string{}}
	zeros := make([]byte, blockBytes)
	extents(func(e holdfast.Extent, err error) bool {
		if err != nil {
			t.Fatal(err)
		}
		for offset := e.Offset / blockBytes * blockBytes; offset < e.End(); offset += blockBytes {
			if _, seen := content.Blocks[offset]; seen || e.Zero {
				continue
			}
			block := make([]byte, min(blockBytes, size-offset))
			if err := read(block, offset); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(block, zeros[:len(block)]) {
				content.Blocks[offset] = string(block)
			}
		}
		return true
	})
	return content
}

// Equal reports whether two disks are the same, byte for byte.
func (c Content) Equal(other Content) bool {
	return c.SizeBytes == other.SizeBytes && maps.Equal(c.Blocks, other.Blocks)
}

// Resources returns the ids of all resources of a type that exist, in lower case, in order.
func (c *Cloud) Resources(t testing.TB, resourceType string) []string {
	t.Helper()
	var ids []string
	for _, r := range must(c.Compute.Resources())(t) {
		if strings.EqualFold(r.Type, resourceType) {
			ids = append(ids, strings.ToLower(r.ID))
		}
	}
	slices.Sort(ids)
	return ids
}

// Snapshots returns all snapshots that exist.
func (c *Cloud) Snapshots(t testing.TB) []string {
	return c.Resources(t, "Microsoft.Compute/snapshots")
}

// ActiveSAS counts the SAS that are active on any resource.
func (c *Cloud) ActiveSAS(t testing.TB) int {
	t.Helper()
	count := 0
	for _, r := range must(c.Compute.Resources())(t) {
		count += r.ActiveSAS
	}
	return count
}

// Lock sets a management lock and returns its id.
func (c *Cloud) Lock(t testing.TB, scope holdfast.ResourceID, level string) string {
	t.Helper()
	lock := string(scope) + "/providers/Microsoft.Authorization/locks/hold"
	c.send(t, http.MethodPut, lock, `{"properties":{"level":"`+level+`"}}`)
	return lock
}

// Unlock removes a lock.
func (c *Cloud) Unlock(t testing.TB, lock string) {
	t.Helper()
	c.send(t, http.MethodDelete, lock, "")
}

// Restart restarts a machine and waits until it runs again.
func (c *Cloud) Restart(t testing.TB, vm holdfast.ResourceID) {
	t.Helper()
	boot := must(c.Guests.Boot(string(vm)))(t)
	c.send(t, http.MethodPost, string(vm)+"/restart", "")
	for must(c.Guests.Boot(string(vm)))(t) == boot && t.Context().Err() == nil {
		runtime.Gosched()
	}
}

// send makes one plain request to ARM behind its front door, as an administrator's tool would.
func (c *Cloud) send(t testing.TB, method, path, body string) {
	t.Helper()
	request := httptest.NewRequest(method, path+"?api-version=2020-05-01", strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	c.ARM.Handler().ServeHTTP(recorder, request)
	if recorder.Code >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, recorder.Code, recorder.Body)
	}
}

// Calls counts the requests that f makes, on all surfaces.
func (c *Cloud) Calls(f func()) int {
	mark := c.Faults.Mark()
	f()
	return int(c.Faults.Mark() - mark)
}

// Misbehave sets the rules in force until the returned function is called, which fails the test when a rule never fired.
func (c *Cloud) Misbehave(t testing.TB, rules ...fault.Rule) (behave func()) {
	t.Helper()
	if err := c.Faults.Set(fault.Plan{Seed: 1, Rules: rules}); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		for i, count := range c.Faults.Counts() {
			if count.Fired == 0 {
				t.Errorf("the fault %+v never happened", rules[i])
			}
		}
		if err := c.Faults.Set(fault.Plan{}); err != nil {
			t.Fatal(err)
		}
	}
}

// Cleanup returns a context for what a test does after its own has ended.
func Cleanup(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
