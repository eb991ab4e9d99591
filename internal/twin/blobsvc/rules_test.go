package blobsvc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

func (w *twin) locked(until time.Time, mode blob.ImmutabilityPolicySetting) *blockblob.UploadOptions {
	return &blockblob.UploadOptions{ImmutabilityPolicyMode: &mode, ImmutabilityPolicyExpiryTime: &until}
}

func version(t *testing.T, client *blob.Client, id *string) *blob.Client {
	t.Helper()
	c, err := client.WithVersionID(*id)
	must(t, err)
	return c
}

// A locked version outlives overwriting and deleting of the blob, cannot be deleted before its time, and can after.
func TestImmutability_LockedVersionStays(t *testing.T) {
	w := newTwin(t)
	containerClient := w.container("worm")
	client := containerClient.NewBlobClient("a")
	until := w.clock.Now().Add(time.Hour).Truncate(time.Second)
	first := w.put(containerClient, "a", "first", w.locked(until, blob.ImmutabilityPolicySettingLocked))
	properties, err := client.GetProperties(t.Context(), nil)
	must(t, err)
	if !properties.ImmutabilityPolicyExpiresOn.Equal(until) || *properties.ImmutabilityPolicyMode != "locked" || !*properties.IsCurrentVersion {
		t.Errorf("policy at upload: %v %v", properties.ImmutabilityPolicyExpiresOn, *properties.ImmutabilityPolicyMode)
	}
	_, err = version(t, client, first.VersionID).Delete(t.Context(), nil)
	refused(t, "delete of the current version by its id", err, 403, "OperationNotAllowedOnRootBlob")
	second := w.put(containerClient, "a", "second", nil)
	if *second.VersionID <= *first.VersionID {
		t.Errorf("version ids %s, %s", *first.VersionID, *second.VersionID)
	}
	_, err = client.Delete(t.Context(), nil)
	must(t, err)
	_, err = client.GetProperties(t.Context(), nil)
	refused(t, "blob after its deletion", err, 404, "BlobNotFound")
	old := version(t, client, first.VersionID)
	if got := w.read(old); got != "first" {
		t.Errorf("locked version after overwrite and delete: %q", got)
	}
	w.restart()
	_, err = old.Delete(t.Context(), nil)
	refused(t, "delete of a locked version", err, 409, "BlobImmutableDueToPolicy")
	_, err = version(t, client, second.VersionID).Delete(t.Context(), nil)
	must(t, err)
	_, err = w.account().DeleteContainer(t.Context(), "worm", nil)
	refused(t, "container with a locked version", err, 409, "BlobImmutableDueToPolicy")
	w.clock.Advance(time.Hour)
	_, err = old.Delete(t.Context(), nil)
	must(t, err)
	if names := w.names(containerClient, container.ListBlobsInclude{Versions: true}); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

// Locked policies only grow, unlocked ones can be shortened and removed, and both protect; so do legal holds.
func TestImmutability_Policies(t *testing.T) {
	w := newTwin(t)
	containerClient := w.container("worm")
	client := containerClient.NewBlobClient("a")
	id := w.put(containerClient, "a", "x", nil).VersionID
	w.put(containerClient, "a", "newer", nil)
	old := version(t, client, id)
	set := func(after time.Duration, mode blob.ImmutabilityPolicySetting) error {
		_, err := old.SetImmutabilityPolicy(t.Context(), w.clock.Now().Add(after), &blob.SetImmutabilityPolicyOptions{Mode: &mode})
		return err
	}
	locked, unlocked := blob.ImmutabilityPolicySettingLocked, blob.ImmutabilityPolicySettingUnlocked
	must(t, set(2*time.Hour, unlocked))
	_, err := old.Delete(t.Context(), nil)
	refused(t, "delete under an unlocked policy", err, 409, "BlobImmutableDueToPolicy")
	must(t, set(time.Hour, unlocked))
	_, err = old.DeleteImmutabilityPolicy(t.Context(), nil)
	must(t, err)
	must(t, set(time.Hour, locked))
	refused(t, "shortening a locked policy", set(time.Minute, locked), 409, "BlobImmutableDueToPolicy")
	refused(t, "unlocking a locked policy", set(3*time.Hour, unlocked), 409, "BlobImmutableDueToPolicy")
	must(t, set(2*time.Hour, locked))
	_, err = old.DeleteImmutabilityPolicy(t.Context(), nil)
	refused(t, "removing a locked policy", err, 409, "ImmutabilityPolicyDeleteOnLockedPolicy")
	refused(t, "a policy that ended before", set(-time.Minute, locked), 400, "InvalidHeaderValue")
	_, err = old.SetLegalHold(t.Context(), true, nil)
	must(t, err)
	w.clock.Advance(3 * time.Hour)
	_, err = old.Delete(t.Context(), nil)
	refused(t, "delete under a legal hold", err, 409, "BlobImmutableDueToPolicy")
	_, err = old.SetLegalHold(t.Context(), false, nil)
	must(t, err)
	_, err = old.Delete(t.Context(), nil)
	must(t, err)

	plain := w.container("plain")
	_, err = plain.NewBlockBlobClient("a").Upload(t.Context(), body("x"), w.locked(w.clock.Now().Add(time.Hour), locked))
	refused(t, "policy at upload without version-level immutability", err, 400, "UnsupportedHeader")
	_, err = plain.NewBlockBlobClient("h").Upload(t.Context(), body("x"), &blockblob.UploadOptions{LegalHold: to.Ptr(true)})
	refused(t, "hold at upload without version-level immutability", err, 400, "UnsupportedHeader")
	weak := w.anonymous(w.sas("worm", "rcw", 0))
	_, err = weak.NewBlockBlobClient("b").Upload(t.Context(), body("x"), w.locked(w.clock.Now().Add(time.Hour), locked))
	refused(t, "policy with a SAS that may not set one", err, 403, "AuthorizationPermissionMismatch")
}

// The archive cannot be read; coming out of it takes its time, a higher priority shortens it, and it shows meanwhile.
func TestTier_Rehydration(t *testing.T) {
	w := newTwin(t)
	containerClient := w.container("plain")
	client := containerClient.NewBlobClient("a")
	w.put(containerClient, "a", "cold bytes", &blockblob.UploadOptions{Tier: to.Ptr(blob.AccessTierArchive)})
	_, err := client.DownloadStream(t.Context(), nil)
	refused(t, "read from the archive", err, 409, "BlobArchived")
	_, err = client.SetTier(t.Context(), blob.AccessTierCool, nil)
	must(t, err)
	properties, err := client.GetProperties(t.Context(), nil)
	must(t, err)
	if *properties.AccessTier != "Archive" || *properties.ArchiveStatus != "rehydrate-pending-to-cool" {
		t.Errorf("while rehydrating: %s %s", *properties.AccessTier, *properties.ArchiveStatus)
	}
	_, err = client.SetTier(t.Context(), blob.AccessTierHot, nil)
	refused(t, "another tier while rehydrating", err, 409, "BlobBeingRehydrated")
	w.clock.Advance(2 * time.Hour)
	_, err = client.DownloadStream(t.Context(), nil)
	refused(t, "read while rehydrating", err, 409, "BlobArchived")
	_, err = client.SetTier(t.Context(), blob.AccessTierCool, &blob.SetTierOptions{RehydratePriority: to.Ptr(blob.RehydratePriorityHigh)})
	must(t, err)
	w.clock.Advance(61 * time.Minute)
	if got := w.read(client); got != "cold bytes" {
		t.Errorf("after the rehydration: %q", got)
	}
	properties, err = client.GetProperties(t.Context(), nil)
	must(t, err)
	if *properties.AccessTier != "Cool" || properties.ArchiveStatus != nil {
		t.Errorf("after the rehydration: %s", *properties.AccessTier)
	}
	_, err = client.SetTier(t.Context(), "P4", nil)
	refused(t, "a tier of page blobs", err, 400, "InvalidHeaderValue")
}

// Copies are complete blobs of their own; one from the archive is readable after the rehydration and leaves its source.
func TestCopy(t *testing.T) {
	w := newTwin(t)
	containerClient := w.container("plain")
	source := containerClient.NewBlobClient("a")
	w.put(containerClient, "a", "bytes", &blockblob.UploadOptions{Metadata: map[string]*string{"colour": to.Ptr("red")}})
	_, err := containerClient.NewBlobClient("b").CopyFromURL(t.Context(), source.URL(), nil)
	must(t, err)
	_, err = source.SetTier(t.Context(), blob.AccessTierArchive, nil)
	must(t, err)
	_, err = containerClient.NewBlobClient("c").CopyFromURL(t.Context(), source.URL(), nil)
	refused(t, "copy from the archive at once", err, 409, "BlobArchived")
	hot := containerClient.NewBlobClient("hot")
	started, err := hot.StartCopyFromURL(t.Context(), source.URL(), &blob.StartCopyFromURLOptions{Tier: to.Ptr(blob.AccessTierHot)})
	must(t, err)
	if *started.CopyStatus != blob.CopyStatusTypePending {
		t.Errorf("copy from the archive is %s", *started.CopyStatus)
	}
	_, err = hot.DownloadStream(t.Context(), nil)
	refused(t, "read of a copy in the making", err, 409, "BlobArchived")
	w.clock.Advance(16 * time.Hour)
	properties, err := hot.GetProperties(t.Context(), nil)
	must(t, err)
	if *properties.CopyStatus != blob.CopyStatusTypeSuccess || *properties.AccessTier != "Hot" || *properties.Metadata["Colour"] != "red" {
		t.Errorf("copy afterwards: %s %s %v", *properties.CopyStatus, *properties.AccessTier, properties.Metadata)
	}
	_, err = source.Delete(t.Context(), nil)
	must(t, err)
	if got := w.read(hot) + w.read(containerClient.NewBlobClient("b")); got != "bytesbytes" {
		t.Errorf("copies after their source is gone: %q", got)
	}
	stranger := w.anonymous(w.sas("worm", "rcw", 0)).NewBlobClient("x")
	_, err = stranger.CopyFromURL(t.Context(), hot.URL(), nil)
	refused(t, "copy of a source that the SAS does not open", err, 403, "CannotVerifyCopySource")
	_, err = stranger.CopyFromURL(t.Context(), strings.Replace(w.sas("plain", "r", 0), "/plain?", "/plain/hot?", 1), nil)
	must(t, err)
	_, err = stranger.CopyFromURL(t.Context(), "https://example.com/a/b/c", nil)
	refused(t, "copy from elsewhere", err, 400, "CannotVerifyCopySource")
}

// A lease keeps others from writing, can be renewed, changed, released and broken, and ends by itself.
func TestLease_Blob(t *testing.T) {
	w := newTwin(t)
	containerClient := w.container("plain")
	w.put(containerClient, "a", "x", nil)
	first, second := "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	holder := func(id string) *lease.BlobClient {
		c, err := lease.NewBlobClient(containerClient.NewBlobClient("a"), &lease.BlobClientOptions{LeaseID: &id})
		must(t, err)
		return c
	}
	overwrite := func(id *string) error {
		_, err := containerClient.NewBlockBlobClient("a").Upload(t.Context(), body("y"), &blockblob.UploadOptions{
			AccessConditions: &blob.AccessConditions{LeaseAccessConditions: &blob.LeaseAccessConditions{LeaseID: id}},
		})
		return err
	}
	_, err := holder(first).AcquireLease(t.Context(), 5, nil)
	refused(t, "lease of five seconds", err, 400, "InvalidHeaderValue")
	_, err = holder(first).AcquireLease(t.Context(), 15, nil)
	must(t, err)
	_, err = holder(second).AcquireLease(t.Context(), 15, nil)
	refused(t, "second lease", err, 409, "LeaseAlreadyPresent")
	refused(t, "write without the lease", overwrite(nil), 412, "LeaseIdMissing")
	refused(t, "write with another lease", overwrite(&second), 412, "LeaseIdMismatchWithBlobOperation")
	must(t, overwrite(&first))
	_, err = containerClient.NewBlobClient("a").Delete(t.Context(), nil)
	refused(t, "delete without the lease", err, 412, "LeaseIdMissing")
	w.clock.Advance(14 * time.Second)
	_, err = holder(first).RenewLease(t.Context(), nil)
	must(t, err)
	w.clock.Advance(14 * time.Second)
	refused(t, "write after a renewal", overwrite(nil), 412, "LeaseIdMissing")
	w.clock.Advance(2 * time.Second)
	refused(t, "write with a lease that has ended", overwrite(&first), 412, "LeaseLost")
	must(t, overwrite(nil))
	_, err = holder(first).RenewLease(t.Context(), nil)
	refused(t, "renewal over a change", err, 409, "LeaseNotPresentWithLeaseOperation")

	_, err = holder(first).AcquireLease(t.Context(), -1, nil)
	must(t, err)
	_, err = holder(first).ChangeLease(t.Context(), second, nil)
	must(t, err)
	w.clock.Advance(1000 * time.Hour)
	refused(t, "write under a lease without end", overwrite(&first), 412, "LeaseIdMismatchWithBlobOperation")
	broken, err := holder(second).BreakLease(t.Context(), &lease.BlobBreakOptions{BreakPeriod: to.Ptr(int32(10))})
	must(t, err)
	if *broken.LeaseTime != 10 {
		t.Errorf("%d seconds left", *broken.LeaseTime)
	}
	refused(t, "write while the lease breaks", overwrite(nil), 412, "LeaseIdMissing")
	_, err = holder(second).RenewLease(t.Context(), nil)
	refused(t, "renewal while it breaks", err, 409, "LeaseIsBrokenAndCannotBeRenewed")
	w.clock.Advance(10 * time.Second)
	must(t, overwrite(nil))
	_, err = holder(first).AcquireLease(t.Context(), 60, nil)
	must(t, err)
	_, err = holder(first).ReleaseLease(t.Context(), nil)
	must(t, err)
	must(t, overwrite(nil))
}

// A lease on a container guards its deletion, not its blobs.
func TestLease_Container(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain")
	holder, err := lease.NewContainerClient(client, nil)
	must(t, err)
	_, err = holder.AcquireLease(t.Context(), -1, nil)
	must(t, err)
	w.put(client, "a", "x", nil)
	_, err = client.Delete(t.Context(), nil)
	refused(t, "delete of a leased container", err, 412, "LeaseIdMissing")
	_, err = client.Delete(t.Context(), &container.DeleteOptions{AccessConditions: &container.AccessConditions{LeaseAccessConditions: &container.LeaseAccessConditions{LeaseID: holder.LeaseID()}}})
	must(t, err)
	_, err = client.GetProperties(t.Context(), nil)
	refused(t, "container after its deletion", err, 404, "ContainerNotFound")
}

// Lists: folders by delimiter over several pages, metadata, a start in the middle, and the fault that misses what is new.
func TestList(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain")
	for _, name := range []string{"a", "b/1", "b/2", "b/c/3", "c", "d/4", "odd & <name>"} {
		w.put(client, name, "x", &blockblob.UploadOptions{Metadata: map[string]*string{"name": to.Ptr(name)}})
	}
	var found []string
	pages := 0
	pager := client.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{MaxResults: to.Ptr(int32(2)), Include: container.ListBlobsInclude{Metadata: true}})
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		must(t, err)
		pages++
		for _, prefix := range page.Segment.BlobPrefixes {
			found = append(found, *prefix.Name)
		}
		for _, item := range page.Segment.BlobItems {
			found = append(found, *item.Name)
			if *item.Metadata["name"] != *item.Name {
				t.Errorf("metadata of %s: %s", *item.Name, *item.Metadata["name"])
			}
		}
	}
	if got := strings.Join(found, "|"); got != "b/|a|d/|c|odd & <name>" || pages != 3 {
		t.Errorf("%d pages: %s", pages, got)
	}
	if names := w.names(client, container.ListBlobsInclude{}); strings.Join(names, "|") != "a|b/1|b/2|b/c/3|c|d/4|odd & <name>" {
		t.Errorf("flat list: %v", names)
	}
	w.clock.Advance(time.Hour)
	w.put(client, "new", "x", nil)
	w.decision = fault.Decision{Kind: fault.StaleList}
	if names := w.names(client, container.ListBlobsInclude{}); len(names) != 7 || names[6] == "new" {
		t.Errorf("a list that is late: %v", names)
	}
	if _, err := client.NewBlobClient("new").GetProperties(t.Context(), nil); err != nil {
		t.Errorf("what a late list misses can still be read: %v", err)
	}
	w.decision = fault.Decision{}
	if names := w.names(client, container.ListBlobsInclude{}); len(names) != 8 {
		t.Errorf("the list afterwards: %v", names)
	}
}

// Metadata and headers are replaced as a whole; where versions are kept, new metadata makes a new version of equal bytes.
func TestProperties(t *testing.T) {
	w := newTwin(t)
	for _, name := range []string{"plain", "worm"} {
		client := w.container(name).NewBlobClient("a")
		before := w.put(w.container(name), "a", "bytes", &blockblob.UploadOptions{
			Metadata: map[string]*string{"old": to.Ptr("1")}, HTTPHeaders: &blob.HTTPHeaders{BlobContentType: to.Ptr("text/plain")},
		})
		_, err := client.SetMetadata(t.Context(), map[string]*string{"new": to.Ptr("2")}, nil)
		must(t, err)
		_, err = client.SetHTTPHeaders(t.Context(), blob.HTTPHeaders{BlobCacheControl: to.Ptr("no-store")}, nil)
		must(t, err)
		after, err := client.GetProperties(t.Context(), nil)
		must(t, err)
		if after.Metadata["Old"] != nil || *after.Metadata["New"] != "2" || *after.CacheControl != "no-store" || *after.ETag == *before.ETag || w.read(client) != "bytes" {
			t.Errorf("%s: %v %v", name, after.Metadata, after.CacheControl)
		}
		versions := w.names(w.container(name), container.ListBlobsInclude{Versions: true})
		if want := map[string]int{"plain": 1, "worm": 2}[name]; len(versions) != want {
			t.Errorf("%s: %d versions, want %d", name, len(versions), want)
		}
	}
	client := w.container("plain")
	_, err := client.SetMetadata(t.Context(), &container.SetMetadataOptions{Metadata: map[string]*string{"a": to.Ptr("b")}})
	must(t, err)
	properties, err := client.GetProperties(t.Context(), nil)
	must(t, err)
	if *properties.Metadata["A"] != "b" || *properties.IsImmutableStorageWithVersioningEnabled {
		t.Errorf("container: %v", properties.Metadata)
	}
	pager := w.account().NewListContainersPager(&service.ListContainersOptions{Include: service.ListContainersInclude{Metadata: true}, Prefix: to.Ptr("pl")})
	page, err := pager.NextPage(t.Context())
	if err != nil || len(page.ContainerItems) != 1 || *page.ContainerItems[0].Metadata["a"] != "b" {
		t.Errorf("listed container: %v, %v", page.ContainerItems, err)
	}
}
