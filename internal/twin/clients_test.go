package twin_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v4"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin"
)

// wantRefusal fails unless the SDK reports that status and code.
func wantRefusal(t *testing.T, what string, err error, status int, code string) {
	t.Helper()
	var refusal *azcore.ResponseError
	if !errors.As(err, &refusal) || refusal.StatusCode != status || refusal.ErrorCode != code {
		t.Errorf("%s: %v, want %d %s", what, err, status, code)
	}
}

// TestClients_BlobsOfAnySize: the convenience client of azblob sends and fetches streams and files in blocks, over a token and
// over a user delegation SAS on plain HTTP.
func TestClients_BlobsOfAnySize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	running := startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	c := newCustomer(t, dir)
	content := make([]byte, 41<<20+123)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(content) // never fails
	path := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	vault := c.config.Endpoints.BlobURL("shopvault")
	client, err := azblob.NewClient(vault, c.credential, &azblob.ClientOptions{ClientOptions: c.options})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.UploadStream(t.Context(), "backups", "stream", bytes.NewReader(content), &azblob.UploadStreamOptions{BlockSize: 4 << 20, Concurrency: 4}); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := client.UploadFile(t.Context(), "locked", "file", file, &azblob.UploadFileOptions{BlockSize: 8 << 20, Concurrency: 3, AccessTier: to.Ptr(blob.AccessTierCool)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UploadStream(t.Context(), "backups", "empty", strings.NewReader(""), nil); err != nil {
		t.Fatal(err)
	}

	now := clock.System{}.Now()
	info := service.KeyInfo{Start: to.Ptr(now.Add(-time.Hour).UTC().Format(sas.TimeFormat)), Expiry: to.Ptr(now.Add(time.Hour).UTC().Format(sas.TimeFormat))}
	key, err := client.ServiceClient().GetUserDelegationCredential(t.Context(), info, nil)
	if err != nil {
		t.Fatal(err)
	}
	query, err := sas.BlobSignatureValues{ContainerName: "locked", Permissions: "r", ExpiryTime: now.Add(time.Hour)}.SignWithUserDelegation(key)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := azblob.NewClientWithNoCredential(running.Endpoints().DataPlain+"/shopvault?"+query.Encode(), &azblob.ClientOptions{ClientOptions: c.options})
	if err != nil {
		t.Fatal(err)
	}
	for name, fetch := range map[string]func(*os.File) (int64, error){
		"stream, by token": func(f *os.File) (int64, error) {
			return client.DownloadFile(t.Context(), "backups", "stream", f, &azblob.DownloadFileOptions{BlockSize: 3 << 20, Concurrency: 4})
		},
		"file, by SAS": func(f *os.File) (int64, error) {
			return bare.DownloadFile(t.Context(), "locked", "file", f, &azblob.DownloadFileOptions{BlockSize: 5 << 20})
		},
	} {
		target, err := os.Create(filepath.Join(t.TempDir(), "target"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = fetch(target); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := os.ReadFile(target.Name())
		if err = errors.Join(err, target.Close()); err != nil || sha256.Sum256(got) != sha256.Sum256(content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestClients_BlobLeasesAndWhatIsMissing: leases by their own client hold off others; blobs of other types, snapshots, tags
// and batches are refused so that a client can tell.
func TestClients_BlobLeasesAndWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	vault := newCustomer(t, dir).container(t, "backups")
	kept := vault.NewBlockBlobClient("kept")
	content := func() io.ReadSeekCloser { return streaming.NopCloser(strings.NewReader("kept")) }
	if _, err := kept.Upload(t.Context(), content(), nil); err != nil {
		t.Fatal(err)
	}
	holder, err := lease.NewBlobClient(kept, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.AcquireLease(t.Context(), 30, nil); err != nil {
		t.Fatal(err)
	}
	_, err = kept.Upload(t.Context(), content(), nil)
	wantRefusal(t, "writing without the lease", err, 412, "LeaseIdMissing")
	if _, err := holder.RenewLease(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := holder.BreakLease(t.Context(), &lease.BlobBreakOptions{BreakPeriod: to.Ptr[int32](0)}); err != nil {
		t.Error(err)
	}
	if _, err := kept.Upload(t.Context(), content(), nil); err != nil {
		t.Errorf("writing when the lease is broken: %v", err)
	}

	_, err = vault.NewAppendBlobClient("a").Create(t.Context(), nil)
	wantRefusal(t, "an append blob", err, 501, "NotImplemented")
	_, err = vault.NewPageBlobClient("p").Create(t.Context(), 512, nil)
	wantRefusal(t, "a page blob", err, 501, "NotImplemented")
	_, err = kept.CreateSnapshot(t.Context(), nil)
	wantRefusal(t, "a snapshot", err, 501, "NotImplemented")
	_, err = kept.SetTags(t.Context(), map[string]string{"a": "b"}, nil)
	wantRefusal(t, "tags", err, 501, "NotImplemented")
	batch, err := vault.NewBatchBuilder()
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.Delete("kept", nil); err != nil {
		t.Fatal(err)
	}
	_, err = vault.SubmitBatch(t.Context(), batch, &container.SubmitBatchOptions{})
	wantRefusal(t, "a batch", err, 501, "NotImplemented")
	if _, err := kept.GetProperties(t.Context(), nil); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// TestClients_APollerGoesOnInAnotherProcess: a resume token taken while the operation is under way completes it elsewhere, even
// when the twin was started anew between.
func TestClients_APollerGoesOnInAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	running := startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText), Options: twin.Options{OperationTime: 200 * time.Millisecond}})
	c := newCustomer(t, dir)
	disks := c.compute(t).NewDisksClient()
	creating, err := disks.BeginCreateOrUpdate(t.Context(), "shop", "slow", armcompute.Disk{Location: to.Ptr("westeurope"), Properties: &armcompute.DiskProperties{
		DiskSizeGB: to.Ptr[int32](4), CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionEmpty)},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := creating.ResumeToken()
	if err != nil {
		t.Fatal(err)
	}
	closeTwin(t, running)
	startWatched(t, twin.Config{Dir: dir})
	resumed, err := c.compute(t).NewDisksClient().BeginCreateOrUpdate(t.Context(), "", "", armcompute.Disk{}, &armcompute.DisksClientBeginCreateOrUpdateOptions{ResumeToken: token})
	if err != nil {
		t.Fatal(err)
	}
	made, err := resumed.PollUntilDone(t.Context(), nil)
	if err != nil || *made.Name != "slow" || *made.Properties.ProvisioningState != "Succeeded" {
		t.Fatalf("%+v, %v", made.Disk, err)
	}
}

// TestClients_ApiVersionsOfManyYears: clients of every age are served, and lists page with each.
func TestClients_ApiVersionsOfManyYears(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText), Options: twin.Options{PageSize: 1}})
	s := newCustomer(t, dir).stranger(t)
	for path, versions := range map[string][]string{
		group + "/disks":           {"2019-07-01", "2020-12-01", "2022-03-02", "2023-04-02", "2024-03-02", "2025-01-02", "2026-03-02"},
		group + "/snapshots":       {"2019-07-01", "2020-12-01", "2022-03-02", "2023-04-02", "2024-03-02", "2025-01-02", "2026-03-02"},
		group + "/virtualMachines": {"2019-07-01", "2020-06-01", "2021-11-01", "2022-11-01", "2023-09-01", "2024-07-01", "2025-04-01", "2026-04-01"},
		"/subscriptions/" + subscription + "/providers/Microsoft.Compute/skus": {"2019-04-01", "2021-07-01"},
		"/subscriptions/" + subscription + "/resources":                        {"2019-10-01", "2021-04-01", "2025-04-01"},
		"/subscriptions/" + subscription + "/resourcegroups":                   {"2019-07-01", "2021-04-01", "2025-04-01"},
		"/subscriptions":                                  {"2016-06-01", "2019-11-01", "2022-12-01"},
		network + "/networkInterfaces":                    {"2018-11-01", "2020-11-01", "2023-09-01", "2025-05-01"},
		shop + "/providers/Microsoft.Authorization/locks": {"2016-09-01", "2020-05-01"},
	} {
		for _, version := range versions {
			if status, answer := s.send(http.MethodGet, path+"?api-version="+version, nil, nil); status != http.StatusOK || !bytes.Contains(answer, []byte(`"value":[`)) {
				t.Errorf("%s in %s: %d %.200s", path, version, status, answer)
			}
		}
	}
	names := []string{}
	generic, err := armresources.NewClient(subscription, s.credential, &arm.ClientOptions{ClientOptions: s.options})
	if err != nil {
		t.Fatal(err)
	}
	filter := "resourceType eq 'Microsoft.Compute/disks' and location eq 'West Europe' or name eq 'shop-net'"
	for pager := generic.NewListByResourceGroupPager("SHOP", &armresources.ClientListByResourceGroupOptions{Filter: &filter}); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range page.Value {
			names = append(names, *resource.Name)
		}
	}
	slices.Sort(names)
	if want := []string{"shop-net", "web-1-data", "web-1-os"}; !slices.Equal(names, want) {
		t.Errorf("filtered: %v, want %v", names, want)
	}
}
