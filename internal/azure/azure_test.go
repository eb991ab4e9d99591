package azure_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/azure/diskdata"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/azblob"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func web() estate.VirtualMachine {
	return estate.VirtualMachine{
		Name: "web-1", Zone: "1", Tags: map[string]string{"env": "prod"},
		OSDisk:    estate.Disk{Name: "web-1-os", SizeGiB: 64, SKU: "Premium_LRS", Caching: "ReadWrite"},
		DataDisks: []estate.Disk{{LUN: 4, Name: "web-1-data", SizeGiB: 16, SKU: "StandardSSD_LRS"}},
	}
}

// TestMachine proves what is read of a machine: disks in their places, interfaces, power, and every document raw.
func TestMachine_IsReadWithAllThatBelongsToIt(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(web()), azuretest.Options{})
	vm, err := c.Client(t).Machine(t.Context(), holdfast.ResourceID(strings.ToUpper(string(azuretest.Machine("web-1")))))
	if err != nil {
		t.Fatal(err)
	}
	if vm.Name != "web-1" || vm.Zone != "1" || vm.Size != "Standard_D4s_v5" || vm.OS != "Linux" || vm.Power != "running" || vm.Tags["env"] != "prod" || len(vm.NICs) != 1 {
		t.Errorf("%+v", vm)
	}
	if vm.ID != azuretest.Machine("web-1") {
		t.Errorf("the id is %s, not in Azure's casing", vm.ID)
	}
	data := vm.Disks[1]
	if len(vm.Disks) != 2 || vm.Disks[0].LUN != holdfast.OSDisk || data.LUN != "4" || data.SizeBytes != 16<<30 || data.SKU != "StandardSSD_LRS" || data.UniqueID == "" || data.State != "Attached" {
		t.Errorf("%+v", vm.Disks)
	}
	if len(vm.Documents) != 5 {
		t.Errorf("%d documents", len(vm.Documents))
	}
}

func request(name string) machine.SnapshotRequest {
	return machine.SnapshotRequest{
		ID: azuretest.ID("Microsoft.Compute/snapshots", name), SourceID: azuretest.Disk("web-1-os"), Location: azuretest.Location,
		Tags: map[string]string{"holdfast-session": "1"},
	}
}

// TestCreateSnapshot_UnknownOutcomes proves that a creation whose answer is lost, spoilt or throttled ends with its
// outcome known and a single snapshot, and that deleting is as certain.
func TestCreateSnapshot_UnknownOutcomes_AreFoundOut(t *testing.T) {
	for name, rule := range map[string]fault.Rule{
		"not done":           {Fault: fault.Lost},
		"done and lost":      {Fault: fault.Lost, AfterEffect: true},
		"done and throttled": {Fault: fault.Throttle, RetryAfterMs: 1, AfterEffect: true},
		"done and failed":    {Fault: fault.Error, AfterEffect: true},
	} {
		for _, method := range []string{http.MethodPut, http.MethodDelete} {
			t.Run(name+" "+method, func(t *testing.T) {
				c := azuretest.Start(t, azuretest.Estate(web()), azuretest.Options{})
				client := c.Client(t)
				rule.On, rule.Method, rule.Path, rule.Calls = fault.ARM, method, "*/snapshots/*", []int{1, 2}
				behave := c.Misbehave(t, rule)
				made, err := client.CreateSnapshot(t.Context(), request("a"))
				if err != nil || made.FamilyID == "" || made.UniqueID == "" || !made.Ready || made.Created.IsZero() || len(c.Snapshots(t)) != 1 {
					t.Errorf("%+v, %v; %v exist", made, err, c.Snapshots(t))
				}
				if err := client.DeleteSnapshot(t.Context(), made.ID); err != nil || len(c.Snapshots(t)) != 0 {
					t.Errorf("%v; %v exist", err, c.Snapshots(t))
				}
				behave()
				if err := client.DeleteSnapshot(t.Context(), made.ID); err != nil {
					t.Errorf("deleting what is gone: %v", err)
				}
			})
		}
	}
}

// TestCreateSnapshot_TakenName proves that a snapshot of our name without our tags is not taken for ours when the outcome
// of our request is unknown.
func TestCreateSnapshot_TakenName_IsRefused(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(web()), azuretest.Options{})
	client, others := c.Client(t), request("a")
	others.Tags = map[string]string{"owner": "somebody"}
	if _, err := client.CreateSnapshot(t.Context(), others); err != nil {
		t.Fatal(err)
	}
	behave := c.Misbehave(t, fault.Rule{On: fault.ARM, Method: "PUT", Calls: []int{1}, Fault: fault.Lost})
	_, err := client.CreateSnapshot(t.Context(), request("a"))
	behave()
	if !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("%v", err)
	}
}

// patience is a clock on which waiting takes no time and is remembered.
type patience struct {
	mu     sync.Mutex
	now    time.Time
	waited []time.Duration
}

func (p *patience) Now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *patience) Sleep(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
	p.waited = append(p.waited, d)
	return ctx.Err()
}

// TestCreateSnapshot_LongRetryAfter proves that a wait longer than a minute is kept before the outcome is looked up.
func TestCreateSnapshot_LongRetryAfter_IsWaitedFor(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(web()), azuretest.Options{})
	clk := &patience{now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	client := c.Client(t, func(o *azure.Options) { o.Clock, o.Retry.DelayMax = clk, 15*time.Minute })
	behave := c.Misbehave(t, fault.Rule{On: fault.ARM, Method: "PUT", Calls: []int{1}, Fault: fault.Throttle, RetryAfterSeconds: 303})
	_, err := client.CreateSnapshot(t.Context(), request("a"))
	behave()
	if err != nil || !slices.Contains(clk.waited, 303*time.Second) {
		t.Errorf("%v; waited %v", err, clk.waited)
	}
}

// TestContent proves that reading renews a revoked SAS, goes on after broken bodies, and slows down for a busy endpoint,
// and that no error or log shows a signature.
func TestContent_TroublesAreSurvived_AndSignaturesStayHidden(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(web()), azuretest.Options{})
	client := c.Client(t, azuretest.Tuned(diskdata.Tuning{RangesPerPage: 3}))
	for i := range 10 {
		c.Write(t, azuretest.Disk("web-1-os"), []byte(fmt.Sprintf("content %d", i)), int64(i)<<32)
	}
	snapshot, err := client.CreateSnapshot(t.Context(), request("a"))
	if err != nil {
		t.Fatal(err)
	}
	content, err := client.OpenSnapshot(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []fault.Rule{
		{Fault: fault.Revoke, Calls: []int{1, 4}},
		{Fault: fault.Lost, Calls: []int{2, 5}},
		{Fault: fault.Error, Calls: []int{1, 2, 7}},
		{Fault: fault.Throttle, Status: 503, Code: "ServerBusy", RetryAfterMs: 1, Calls: []int{1, 2, 3}},
		{Fault: fault.Cut, Calls: []int{6}},
	} {
		rule.On = fault.Disk
		behave := c.Misbehave(t, rule)
		read := azuretest.Collect(t, content.SizeBytes(), content.Extents(t.Context()), func(p []byte, offset int64) error {
			return content.ReadAt(t.Context(), p, offset)
		})
		behave()
		if !read.Equal(c.Content(t, azuretest.Disk("web-1-os"))) {
			t.Errorf("%s: %d blocks, or others", rule.Fault, len(read.Blocks))
		}
	}
	if err := c.Faults.Set(fault.Plan{Rules: []fault.Rule{{On: fault.Disk, Fault: fault.Lost}}}); err != nil {
		t.Fatal(err)
	}
	err = content.ReadAt(t.Context(), make([]byte, 512), 0)
	if !holdfast.IsKind(err, holdfast.KindUnavailable) || strings.Contains(err.Error(), "sig") {
		t.Errorf("%v", err)
	}
	if err := content.Close(t.Context()); err != nil || c.ActiveSAS(t) != 0 {
		t.Errorf("%v; %d SAS are active", err, c.ActiveSAS(t))
	}
}

// TestErrors proves what an operator is told when the configuration is wrong or the endpoint away.
func TestErrors_OfConfigurationAndNetwork_SayWhatToDo(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(web()), azuretest.Options{})
	empty := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		change func(*azureconfig.Config)
		kind   holdfast.Kind
		hint   string
	}{
		"wrong secret":         {func(k *azureconfig.Config) { k.ClientSecret = "guess" }, holdfast.KindRefused, "clientId"},
		"unknown client":       {func(k *azureconfig.Config) { k.ClientID = "44444444-4444-4444-4444-444444444444" }, holdfast.KindRefused, "clientId"},
		"untrusted":            {func(k *azureconfig.Config) { k.CAFile = "" }, holdfast.KindUnavailable, ""},
		"no certificate":       {func(k *azureconfig.Config) { k.CAFile = empty }, holdfast.KindInvalid, "PEM"},
		"endpoint away":        {func(k *azureconfig.Config) { k.Endpoints.ResourceManager = "https://127.0.0.1:1" }, holdfast.KindUnavailable, "endpoints"},
		"sign-in away":         {func(k *azureconfig.Config) { k.Endpoints.ActiveDirectory = "https://127.0.0.1:1" }, holdfast.KindUnavailable, "activeDirectory"},
		"unknown subscription": {func(*azureconfig.Config) {}, holdfast.KindNotFound, "vm list"},
	} {
		t.Run(name, func(t *testing.T) {
			config := c.Config
			endpoints := *c.Config.Endpoints
			config.Endpoints = &endpoints
			try.change(&config)
			client, err := azure.New(config, azuretest.ClientOptions())
			if err == nil {
				defer client.CloseIdleConnections()
				id := azuretest.Machine("web-1")
				if name == "unknown subscription" {
					id = holdfast.NewResourceID("55555555-5555-5555-5555-555555555555", "shop", "Microsoft.Compute/virtualMachines", "web-1")
				}
				_, err = client.Machine(t.Context(), id)
			}
			var e *holdfast.Error
			if !errors.As(err, &e) || e.Kind != try.kind || !strings.Contains(e.Hint, try.hint) {
				t.Errorf("%v (kind %s, hint %q)", err, holdfast.KindOf(err), e.Hint)
			}
			if strings.Contains(fmt.Sprint(err), "a secret of the tests") {
				t.Errorf("%v shows the secret", err)
			}
		})
	}
}

// TestCertificate proves that the identity may prove itself with a certificate, and that one nobody registered is refused.
func TestCertificate_SignsIn(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(web()), azuretest.Options{})
	registered, file := newCertificate(t)
	_, other := newCertificate(t)
	c.Register(registered)
	for file, kind := range map[string]holdfast.Kind{file: "", other: holdfast.KindRefused} {
		config := c.Config
		config.Credential, config.ClientSecret, config.Certificate = azureconfig.CredentialCertificate, "", file
		client, err := azure.New(config, azuretest.ClientOptions())
		if err != nil {
			t.Fatal(err)
		}
		defer client.CloseIdleConnections()
		if _, err := client.Machine(t.Context(), azuretest.Machine("web-1")); holdfast.KindOf(err) != kind {
			t.Errorf("%v, want kind %q", err, kind)
		}
	}
}

// newCertificate makes a certificate and a PEM file with it and its key.
func newCertificate(t *testing.T) (*x509.Certificate, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	file := filepath.Join(t.TempDir(), "identity.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return certificate, file
}

const estateText = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
  - {id: 22222222-1111-1111-1111-111111111111, name: lab}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope}
  - {name: bench, subscription: lab, location: northeurope}
networks:
  - {name: shop-net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}
  - {name: lab-net, resourceGroup: bench, addressPrefix: 10.2.0.0/16, subnets: [{name: front, addressPrefix: 10.2.1.0/24}]}
storageAccounts:
  - {name: shopvault, resourceGroup: shop, containers: [{name: backups}]}
virtualMachines:
  - {name: web-1, resourceGroup: shop, size: Standard_D4s_v5, zone: "1", os: Linux, tags: {env: prod}, subnet: shop-net/front, osDisk: {name: web-1-os, sizeGiB: 32, sku: Premium_LRS}}
  - {name: web-2, resourceGroup: shop, size: Standard_D2s_v5, os: Windows, subnet: shop-net/front, osDisk: {name: web-2-os, sizeGiB: 32, sku: Premium_LRS}}
  - {name: test-1, resourceGroup: bench, size: Standard_B2s, os: Linux, subnet: lab-net/front, osDisk: {name: test-1-os, sizeGiB: 32, sku: Standard_LRS}, dataDisks: [{lun: 2, name: test-1-data, sizeGiB: 8, sku: Standard_LRS}]}
`

// startTwin runs the whole twin, as the command does, and a client configured from the file that it writes.
func startTwin(t *testing.T) (*twin.Twin, *azure.Client) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "estate.yaml")
	if err := os.WriteFile(file, []byte(estateText), 0o600); err != nil {
		t.Fatal(err)
	}
	running, err := twin.Start(t.Context(), twin.Config{
		Dir: filepath.Join(dir, "twin"), EstateFile: file, Options: twin.Options{PollAfter: time.Millisecond, OperationTime: time.Millisecond, PageSize: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	config, err := azureconfig.Read(running.Endpoints().AzureFile)
	if err != nil {
		t.Fatal(err)
	}
	client, err := azure.New(config, azuretest.ClientOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return running, client
}

// TestMachines proves that the machines of all subscriptions are listed in order with their states, through pages; that
// one which the graph still shows though it is gone is left out; and that the list is complete without the graph.
func TestMachines_ListsAllAndConfirmsEach(t *testing.T) {
	running, client := startTwin(t)
	list := func() (names []string) {
		t.Helper()
		machines, err := client.Machines(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, vm := range machines {
			names = append(names, fmt.Sprintf("%s %s %s %s %s%s %s %d", vm.Name, vm.ID.ResourceGroup(), vm.Location, vm.Size, vm.OS, vm.Zone, vm.Power, len(vm.Disks)))
		}
		return names
	}
	want := []string{
		"web-1 shop westeurope Standard_D4s_v5 Linux1 running 1", "web-2 shop westeurope Standard_D2s_v5 Windows running 1",
		"test-1 bench northeurope Standard_B2s Linux running 2",
	}
	if got := list(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	set := func(rules ...fault.Rule) {
		t.Helper()
		if err := running.Faults().Set(fault.Plan{Rules: rules}); err != nil {
			t.Fatal(err)
		}
	}
	set(fault.Rule{On: fault.ARM, Path: "*/Microsoft.ResourceGraph/*", Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"})
	if got := list(); !slices.Equal(got, want) || running.Faults().Counts()[0].Fired == 0 {
		t.Errorf("without the graph: %q, want %q", got, want)
	}
	set(fault.Rule{On: fault.ARM, Path: "*/virtualMachines/web-2", Fault: fault.Error, Status: 404, Code: "ResourceNotFound"})
	if got := list(); !slices.Equal(got, []string{want[0], want[2]}) {
		t.Errorf("with a machine that is gone: %q", got)
	}
}

// TestContainerClient proves that a repository on Blob storage can be used with the same identity.
func TestContainerClient_SignsInAndStores(t *testing.T) {
	_, client := startTwin(t)
	container, err := client.ContainerClient("shopvault", "backups", azblob.ClientOptions)
	if err != nil {
		t.Fatal(err)
	}
	store, err := azblob.New(container, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "data/x", []byte("content"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 16)
	if n, err := store.Read(t.Context(), "data/x", 0, p); err != nil || string(p[:n]) != "content" {
		t.Errorf("%q, %v", p[:n], err)
	}
	if _, err := client.ContainerClient("a/b", "c", azblob.ClientOptions); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("%v", err)
	}
}
