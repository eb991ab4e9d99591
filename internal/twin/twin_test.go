package twin_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resourcegraph/armresourcegraph"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"
	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	group        = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Compute"
	osDisk       = group + "/disks/web-1-os"
)

const estateText = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope, tags: {team: web}}
networks:
  - {name: shop-net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}
storageAccounts:
  - {name: shopvault, resourceGroup: shop, containers: [{name: backups}, {name: locked, versionImmutability: true}]}
virtualMachines:
  - name: web-1
    resourceGroup: shop
    size: Standard_D4s_v5
    zone: "1"
    os: Linux
    tags: {env: prod}
    subnet: shop-net/front
    osDisk: {name: web-1-os, sizeGiB: 32, sku: Premium_LRS, image: web.img}
    dataDisks: [{lun: 0, name: web-1-data, sizeGiB: 1024, sku: StandardSSD_LRS, caching: ReadOnly}]
`

// childFolder and childEstate make this test binary serve a twin until it is killed.
const childFolder, childEstate = "HOLDFAST_TEST_TWIN_FOLDER", "HOLDFAST_TEST_TWIN_ESTATE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if _, err := twin.Start(context.Background(), twin.Config{Dir: dir, EstateFile: os.Getenv(childEstate)}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// image is the content of the OS disk's first MiB.
func image() []byte { return bytes.Repeat([]byte("0123456789abcdef"), 1<<16) }

func writeEstate(t *testing.T, text string) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string][]byte{"web.img": image(), "estate.yaml": []byte(text)} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "estate.yaml")
}

// start starts a twin that is closed with the test, if the test has not closed it before.
func start(t *testing.T, config twin.Config) *twin.Twin {
	t.Helper()
	config.Options.RateLimitsOff = true
	started, err := twin.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeTwin(t, started) })
	return started
}

func closeTwin(t *testing.T, running *twin.Twin) {
	t.Helper()
	if err := running.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// customer is what a user of the twin has: the file that --azure takes, and Microsoft's SDK.
type customer struct {
	config     azureconfig.Config
	credential azcore.TokenCredential
	options    azcore.ClientOptions
	http       *http.Client
	control    *control.Client
}

func newCustomer(t *testing.T, dir string) *customer {
	t.Helper()
	c := &customer{}
	var err error
	if c.config, err = azureconfig.Read(filepath.Join(dir, twin.AzureFile)); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(c.config.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no CA")
	}
	c.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	c.options = azcore.ClientOptions{Transport: c.http, Retry: policy.RetryOptions{MaxRetries: -1}, Cloud: cloud.Configuration{
		ActiveDirectoryAuthorityHost: c.config.Endpoints.ActiveDirectory,
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: c.config.Endpoints.ResourceManager, Audience: "https://management.azure.com"},
		},
	}}
	c.credential, err = azidentity.NewClientSecretCredential(c.config.TenantID, c.config.ClientID, c.config.ClientSecret.Reveal(),
		&azidentity.ClientSecretCredentialOptions{ClientOptions: c.options, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	if c.control, err = control.Dial(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		c.control.Close()
	})
	return c
}

func (c *customer) compute(t *testing.T) *armcompute.ClientFactory {
	t.Helper()
	factory, err := armcompute.NewClientFactory(subscription, c.credential, &arm.ClientOptions{ClientOptions: c.options})
	if err != nil {
		t.Fatal(err)
	}
	return factory
}

// snapshot makes an incremental snapshot of the OS disk and returns a SAS for it.
func (c *customer) snapshot(t *testing.T, name string) string {
	t.Helper()
	client := c.compute(t).NewSnapshotsClient()
	creating, err := client.BeginCreateOrUpdate(t.Context(), "shop", name, armcompute.Snapshot{
		Location: to.Ptr("westeurope"), Properties: &armcompute.SnapshotProperties{
			Incremental: to.Ptr(true), CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionCopy), SourceResourceID: to.Ptr(osDisk)},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := creating.PollUntilDone(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	granting, err := client.BeginGrantAccess(t.Context(), "shop", name, armcompute.GrantAccessData{Access: to.Ptr(armcompute.AccessLevelRead), DurationInSeconds: to.Ptr[int32](3600)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	granted, err := granting.PollUntilDone(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return *granted.AccessSAS
}

func (c *customer) read(t *testing.T, sas string, offset, count int64) ([]byte, error) {
	t.Helper()
	client, err := pageblob.NewClientWithNoCredential(sas, &pageblob.ClientOptions{ClientOptions: c.options})
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.DownloadStream(t.Context(), &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset, Count: count}})
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

func TestTwin_ThroughMicrosoftsSDK(t *testing.T) {
	dir := t.TempDir()
	running := start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	c := newCustomer(t, dir)

	var machines []string
	for pager := c.compute(t).NewVirtualMachinesClient().NewListAllPager(nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, machine := range page.Value {
			machines = append(machines, *machine.Name)
		}
	}
	if !slices.Equal(machines, []string{"web-1"}) {
		t.Fatalf("machines %v", machines)
	}

	sas := c.snapshot(t, "first")
	if !strings.HasPrefix(sas, running.Endpoints().DataPlain+"/md-") {
		t.Fatalf("the SAS URL %s is not plain HTTP on the data port", sas)
	}
	content, err := c.read(t, sas, 0, 1<<20)
	if err != nil || !bytes.Equal(content, image()) {
		t.Fatalf("%d bytes, %v", len(content), err)
	}

	resources, err := c.control.Resources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	active := map[string]int{}
	for _, resource := range resources {
		active[strings.ToLower(resource.Type)+" "+resource.ID[strings.LastIndex(resource.ID, "/")+1:]] = resource.ActiveSAS
	}
	for name, want := range map[string]int{
		"microsoft.compute/snapshots first": 1, "microsoft.compute/disks web-1-os": 0, "microsoft.compute/disks web-1-data": 0,
		"microsoft.compute/virtualmachines web-1": 0, "microsoft.network/virtualnetworks shop-net": 0, "microsoft.storage/storageaccounts shopvault": 0,
	} {
		if got, found := active[name]; !found || got != want {
			t.Errorf("%s: active SAS %d, found %v; all: %v", name, got, found, active)
		}
	}
}

func TestTwin_ResourceGraphSeesTheEstate(t *testing.T) {
	dir := t.TempDir()
	start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	c := newCustomer(t, dir)
	client, err := armresourcegraph.NewClient(c.credential, &arm.ClientOptions{ClientOptions: c.options})
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"resources | where type =~ 'microsoft.compute/virtualmachines' and tags.env == 'prod' | project name, resourceGroup, properties.hardwareProfile.vmSize":     "[map[name:web-1 properties_hardwareProfile_vmSize:Standard_D4s_v5 resourceGroup:shop]]",
		"resources | where type == 'microsoft.compute/disks' and properties.diskSizeGB > 100 | project name, sku.name, disk = tolower(managedBy) endswith '/web-1'": "[map[disk:true name:web-1-data sku_name:StandardSSD_LRS]]",
		"resources | where type has 'subnets' or type has 'locks' | count":                                                                                          "[map[Count:0]]",
		"resourcecontainers | where type endswith '/resourcegroups' | project name, tags.team":                                                                      "[map[name:shop tags_team:web]]",
		"resourcecontainers | where type == 'microsoft.resources/subscriptions' | project name":                                                                     "[map[name:production]]",
	} {
		answer, err := client.Resources(t.Context(), armresourcegraph.QueryRequest{Query: &query}, nil)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := fmt.Sprint(answer.Data); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}

func TestTwin_StateOutlivesARestartAtTheSamePorts(t *testing.T) {
	dir, file := t.TempDir(), writeEstate(t, estateText)
	first := start(t, twin.Config{Dir: dir, EstateFile: file})
	c := newCustomer(t, dir)
	sas := c.snapshot(t, "kept")
	if err := c.control.Write(t.Context(), osDisk, 20<<30, strings.NewReader("after the snapshot"), 18); err != nil {
		t.Fatal(err)
	}
	vault := c.container(t, "backups")
	if _, err := vault.NewBlockBlobClient("point").UploadBuffer(t.Context(), []byte("kept"), nil); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, twin.AzureFile))
	if err != nil {
		t.Fatal(err)
	}
	closeTwin(t, first)
	if _, err := control.Dial(dir); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Fatalf("a closed twin is still announced: %v", err)
	}

	second := start(t, twin.Config{Dir: dir}) // the estate is in the folder now
	if second.Endpoints() != first.Endpoints() {
		t.Fatalf("endpoints %+v, before %+v", second.Endpoints(), first.Endpoints())
	}
	after, err := os.ReadFile(filepath.Join(dir, twin.AzureFile))
	if err != nil || !bytes.Equal(before, after) {
		t.Fatalf("azure.yaml changed: %v", err)
	}
	// The same client, token and SAS go on: nothing was told to it.
	content, err := c.read(t, sas, 0, 1<<20)
	if err != nil || !bytes.Equal(content, image()) {
		t.Fatalf("the snapshot: %d bytes, %v", len(content), err)
	}
	if content, err = c.read(t, sas, 20<<30, 18); err != nil || !bytes.Equal(content, make([]byte, 18)) {
		t.Fatalf("the snapshot shows a later write: %q, %v", content, err)
	}
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if _, err := newCustomer(t, dir).control.ReadFile(t.Context(), osDisk, raw); err != nil {
		t.Fatal(err)
	}
	disk, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	written := make([]byte, 18)
	if _, err := disk.ReadAt(written, 20<<30); err != nil || string(written) != "after the snapshot" {
		t.Fatalf("the disk: %q, %v", written, err)
	}
	kept := make([]byte, 4)
	if _, err := vault.NewBlobClient("point").DownloadBuffer(t.Context(), kept, nil); err != nil || string(kept) != "kept" {
		t.Fatalf("the blob: %q, %v", kept, err)
	}
	closeTwin(t, second)
	start(t, twin.Config{Dir: dir, EstateFile: file}) // the same estate again is fine
}

func TestTwin_AKilledTwinHasLostNothingThatItAnswered(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childFolder+"="+dir, childEstate+"="+writeEstate(t, estateText))
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	c := newCustomer(t, dir)
	sas := c.snapshot(t, "kept")
	if err := c.control.Write(t.Context(), osDisk, 0, strings.NewReader("written at the last moment"), 26); err != nil {
		t.Fatal(err)
	}
	if _, err := c.container(t, "backups").NewBlockBlobClient("point").UploadBuffer(t.Context(), []byte("kept"), nil); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed, so that it fails
	if _, err := c.control.Resources(t.Context()); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Fatalf("a killed twin answers: %v", err)
	}

	start(t, twin.Config{Dir: dir})
	if content, err := c.read(t, sas, 0, 1<<20); err != nil || !bytes.Equal(content, image()) {
		t.Fatalf("the snapshot: %d bytes, %v", len(content), err)
	}
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if _, err := c.control.ReadFile(t.Context(), osDisk, raw); err != nil {
		t.Fatal(err)
	}
	disk, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	head := make([]byte, 26)
	if _, err := disk.ReadAt(head, 0); err != nil || string(head) != "written at the last moment" {
		t.Fatalf("the disk: %q, %v", head, err)
	}
	kept := make([]byte, 4)
	if _, err := c.container(t, "backups").NewBlobClient("point").DownloadBuffer(t.Context(), kept, nil); err != nil || string(kept) != "kept" {
		t.Fatalf("the blob: %q, %v", kept, err)
	}
}

func TestTwin_SpeaksHTTP2AtARMAndHTTP1AtStorage(t *testing.T) {
	dir := t.TempDir()
	running := start(t, twin.Config{Dir: dir})
	c := newCustomer(t, dir)
	for url, want := range map[string]int{running.Endpoints().ResourceManager: 2, running.Endpoints().Data: 1, running.Endpoints().DataPlain: 1} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := c.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.ProtoMajor != want {
			t.Errorf("%s speaks %s", url, response.Proto)
		}
	}
}

func (c *customer) container(t *testing.T, name string) *container.Client {
	t.Helper()
	client, err := container.NewClient(c.config.Endpoints.BlobURL("shopvault")+"/"+name, c.credential, &container.ClientOptions{ClientOptions: c.options})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestTwin_TokensAreForTLSAndTheirAudience(t *testing.T) {
	dir := t.TempDir()
	running := start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	c := newCustomer(t, dir)
	token := func(audience string) string {
		token, err := c.credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token.Token
	}
	management, storage := token("https://management.azure.com"), token("https://storage.azure.com")
	list := running.Endpoints().ResourceManager + "/subscriptions?api-version=2022-12-01"
	blobs := strings.Replace(running.Endpoints().Blob, "{account}", "shopvault", 1) + "/backups?restype=container&comp=list"
	plain := running.Endpoints().DataPlain + "/shopvault/backups?restype=container&comp=list"
	for _, call := range []struct {
		name, url, authorization string
		accepted                 bool
	}{
		{"ARM's token at ARM", list, management, true},
		{"storage's token at ARM", list, storage, false},
		{"no token at ARM", list, "", false},
		{"a forged token at ARM", list, management + "x", false},
		{"storage's token at blobs", blobs, storage, true},
		{"ARM's token at blobs", blobs, management, false},
		{"storage's token over plain HTTP", plain, storage, false},
		{"the control API without its token", running.Endpoints().ResourceManager + "/_twin/resources", management, false},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, call.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("x-ms-version", "2024-08-04")
		if call.authorization != "" {
			request.Header.Set("Authorization", call.authorization)
		}
		response, err := c.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if (response.StatusCode == http.StatusOK) != call.accepted || response.StatusCode >= 500 {
			t.Errorf("%s: %d %s", call.name, response.StatusCode, body)
		}
	}
}

func TestTwin_DiskDataOverTLSByTheFlag(t *testing.T) {
	dir := t.TempDir()
	running := start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText), DataTLS: true})
	c := newCustomer(t, dir)
	sas := c.snapshot(t, "over-tls")
	if !strings.HasPrefix(sas, running.Endpoints().Data+"/md-") {
		t.Fatalf("the SAS URL is %s", sas)
	}
	if content, err := c.read(t, sas, 0, 512); err != nil || !bytes.Equal(content, image()[:512]) {
		t.Fatalf("%q, %v", content, err)
	}
}

func TestTwin_AStrictDiskEndpointRefusesNewerVersions(t *testing.T) {
	dir := t.TempDir()
	start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText), Options: twin.Options{DiskVersion: "2023-11-03"}})
	c := newCustomer(t, dir)
	if _, err := c.read(t, c.snapshot(t, "strict"), 0, 512); err == nil || !strings.Contains(err.Error(), "InvalidHeaderValue") {
		t.Fatalf("got %v", err)
	}
}

func TestTwin_FaultsReachEverySurface(t *testing.T) {
	dir := t.TempDir()
	faults := filepath.Join(t.TempDir(), "faults.yaml")
	if err := os.WriteFile(faults, []byte("rules: [{on: entra, calls: [1], fault: error}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	running := start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText), FaultFile: faults})
	c := newCustomer(t, dir)
	if _, err := c.credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}}); err == nil {
		t.Fatal("the fault file was not heeded")
	}
	sas := c.snapshot(t, "spoilt")
	plan := fault.Plan{Rules: []fault.Rule{
		{On: fault.ARM, Method: "GET", Path: "*/virtualMachines", Fault: fault.Throttle, RetryAfterMs: 10},
		{On: fault.Disk, Fault: fault.Cut},
		{On: fault.Blob, Fault: fault.Error, Status: 503},
	}}
	if err := c.control.SetFaults(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	mark, err := c.control.Calls(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.compute(t).NewVirtualMachinesClient().NewListAllPager(nil).NextPage(t.Context()); err == nil || !strings.Contains(err.Error(), "TooManyRequests") {
		t.Errorf("ARM: %v", err)
	}
	if content, err := c.read(t, sas, 0, 1<<20); err == nil || len(content) >= 1<<20 {
		t.Errorf("disk: %d bytes, %v", len(content), err)
	}
	if _, err := c.container(t, "backups").GetProperties(t.Context(), nil); err == nil {
		t.Error("blob: no fault")
	}
	for i, count := range running.Faults().Counts() {
		if count.Fired == 0 {
			t.Errorf("rule %d never fired", i)
		}
	}
	transcript, err := c.control.Calls(t.Context(), mark.Mark)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[fault.Surface]fault.Kind{}
	for _, call := range transcript.Calls {
		seen[call.Surface] = call.Fault
		if strings.Contains(call.Query, "sig=") && !strings.Contains(call.Query, "sig=REDACTED") {
			t.Errorf("a signature in the transcript: %s", call.Query)
		}
	}
	if seen[fault.ARM] != fault.Throttle || seen[fault.Disk] != fault.Cut || seen[fault.Blob] != fault.Error {
		t.Errorf("transcript: %+v", transcript.Calls)
	}
}

func TestTwin_SettingsChangeTheTokensLife(t *testing.T) {
	dir := t.TempDir()
	start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	c := newCustomer(t, dir)
	if err := c.control.Apply(t.Context(), control.Settings{
		TokenLifeMs: to.Ptr[int64](90_000), Limits: to.Ptr(true), SnapshotRate: to.Ptr(false), LatenessMs: to.Ptr[int64](1), CopyMs: to.Ptr[int64](1),
	}); err != nil {
		t.Fatal(err)
	}
	token, err := c.credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}})
	if err != nil || time.Until(token.ExpiresOn) > 2*time.Minute {
		t.Fatalf("expires %s, %v", token.ExpiresOn, err)
	}
	for i := range 8 { // one more than the platform takes in five minutes
		c.snapshot(t, fmt.Sprintf("s%d", i))
		snapshots := c.compute(t).NewSnapshotsClient()
		revoking, err := snapshots.BeginRevokeAccess(t.Context(), "shop", fmt.Sprintf("s%d", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := revoking.PollUntilDone(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStart_RefusesASecondServerForTheFolder(t *testing.T) {
	dir := t.TempDir()
	start(t, twin.Config{Dir: dir})
	if _, err := twin.Start(t.Context(), twin.Config{Dir: dir}); !holdfast.IsKind(err, holdfast.KindConflict) || !strings.Contains(err.Error(), "another twin serves") {
		t.Fatalf("got %v", err)
	}
	newCustomer(t, dir) // the first one is unharmed
}

func TestStart_RefusesAnotherEstate(t *testing.T) {
	dir := t.TempDir()
	closeTwin(t, start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)}))
	other := writeEstate(t, strings.Replace(estateText, "env: prod", "env: test", 1))
	if _, err := twin.Start(t.Context(), twin.Config{Dir: dir, EstateFile: other}); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Fatalf("another estate: %v", err)
	}
	empty := t.TempDir()
	closeTwin(t, start(t, twin.Config{Dir: empty}))
	if _, err := twin.Start(t.Context(), twin.Config{Dir: empty, EstateFile: other}); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Fatalf("an estate for a folder that has begun without: %v", err)
	}
}

func TestStart_AnEstateThatCannotBeMadeLeavesTheFolderFree(t *testing.T) {
	dir := t.TempDir()
	bad := writeEstate(t, strings.Replace(estateText, "Standard_D4s_v5", "Standard_D4000s_v5", 1))
	if _, err := twin.Start(t.Context(), twin.Config{Dir: dir, EstateFile: bad}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, twin.AzureFile)); err == nil {
		t.Fatal("azure.yaml was written although nothing serves")
	}
	start(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	if resources, err := newCustomer(t, dir).control.Resources(t.Context()); err != nil || len(resources) == 0 {
		t.Fatalf("resources %v, %v", resources, err)
	}
}

func TestStart_RefusesAddressesBeyondLoopback(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:0", "[::]:0", "127.0.0.1"} {
		for field, config := range map[string]twin.Config{"arm": {ARMAddr: address}, "data": {DataAddr: address}} {
			config.Dir = t.TempDir()
			_, err := twin.Start(t.Context(), config)
			if !holdfast.IsKind(err, holdfast.KindInvalid) {
				t.Errorf("--%s %s: %v", field, address, err)
			}
		}
	}
}

func TestStart_NamesThePortThatIsTaken(t *testing.T) {
	first := start(t, twin.Config{Dir: t.TempDir()})
	taken := strings.TrimPrefix(first.Endpoints().ResourceManager, "https://")
	_, err := twin.Start(t.Context(), twin.Config{Dir: t.TempDir(), ARMAddr: taken})
	if !holdfast.IsKind(err, holdfast.KindConflict) || !strings.Contains(err.Error(), taken) {
		t.Fatalf("got %v", err)
	}
}

func TestStart_KeepsSecretsFromOthers(t *testing.T) {
	dir := t.TempDir()
	start(t, twin.Config{Dir: dir})
	for _, name := range []string{twin.AzureFile, control.AccessFile, "twin.json", "ca-key.pem", "entra-key.pem"} {
		found, err := os.Stat(filepath.Join(dir, name))
		if err != nil || found.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}

func TestClose_CutsWhatDoesNotFinishAndMayBeCalledAgain(t *testing.T) {
	running := start(t, twin.Config{Dir: t.TempDir()})
	silent, err := net.Dial("tcp", strings.TrimPrefix(running.Endpoints().DataPlain, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := running.Close(ended); err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Fatal("a silent connection outlives the twin")
	}
	closeTwin(t, running)
}
