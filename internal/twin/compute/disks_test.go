package compute_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

const diskVersion = "?api-version=2026-03-02"

// settled waits for the operation that a raw answer announced and returns its status document.
func (w *world) settled(header http.Header) state.Object {
	w.t.Helper()
	path := strings.TrimPrefix(header.Get("Azure-AsyncOperation"), w.server.URL)
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		status, _, body := w.raw(http.MethodGet, path, "")
		if status != http.StatusOK {
			w.t.Fatalf("polling answered %d %v", status, body)
		}
		if body.Text("status") != "InProgress" {
			return body
		}
	}
	w.t.Fatal("the operation does not end")
	return nil
}

// TestPutDisk_RefusesWhatThePlatformRefuses: every rule for new disks has a row.
func TestPutDisk_RefusesWhatThePlatformRefuses(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	empty := `"creationData":{"createOption":"Empty"}`
	manyTags := make([]string, 51)
	for i := range manyTags {
		manyTags[i] = fmt.Sprintf(`"t%d":"v"`, i)
	}
	for name, row := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"no location":              {`{"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "LocationRequired"},
		"unknown location":         {`{"location":"atlantis","properties":{"diskSizeGB":4,` + empty + `}}`, 400, "LocationNotAvailableForResourceType"},
		"no creation data":         {`{"location":"westeurope","properties":{"diskSizeGB":4}}`, 400, "InvalidParameter"},
		"no size":                  {`{"location":"westeurope","properties":{` + empty + `}}`, 400, "InvalidParameter"},
		"size as text":             {`{"location":"westeurope","properties":{"diskSizeGB":"4",` + empty + `}}`, 400, "InvalidRequestContent"},
		"not JSON":                 {`{"location":`, 400, "InvalidRequestContent"},
		"zero size":                {`{"location":"westeurope","properties":{"diskSizeGB":0,` + empty + `}}`, 400, "InvalidParameter"},
		"too large":                {`{"location":"westeurope","properties":{"diskSizeGB":32768,` + empty + `}}`, 400, "InvalidParameter"},
		"large OS disk":            {`{"location":"westeurope","properties":{"diskSizeGB":4096,"osType":"Linux",` + empty + `}}`, 400, "InvalidParameter"},
		"unknown SKU":              {`{"location":"westeurope","sku":{"name":"Gold_LRS"},"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "InvalidParameter"},
		"two zones":                {`{"location":"westeurope","zones":["1","2"],"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "InvalidParameter"},
		"unknown zone":             {`{"location":"westeurope","zones":["9"],"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "InvalidAvailabilityZone"},
		"zone without zones":       {`{"location":"westus","zones":["1"],"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "LocationNotSupportAvailabilityZones"},
		"ZRS in a zone":            {`{"location":"westeurope","zones":["1"],"sku":{"name":"Premium_ZRS"},"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "InvalidParameter"},
		"ZRS without zones":        {`{"location":"westus","sku":{"name":"Premium_ZRS"},"properties":{"diskSizeGB":4,` + empty + `}}`, 409, "SkuNotAvailable"},
		"sector size of Premium":   {`{"location":"westeurope","sku":{"name":"Premium_LRS"},"properties":{"diskSizeGB":4,"creationData":{"createOption":"Empty","logicalSectorSize":512}}}`, 400, "InvalidParameter"},
		"odd sector size":          {`{"location":"westeurope","sku":{"name":"UltraSSD_LRS"},"properties":{"diskSizeGB":4,"creationData":{"createOption":"Empty","logicalSectorSize":1024}}}`, 400, "InvalidParameter"},
		"shared HDD":               {`{"location":"westeurope","sku":{"name":"Standard_LRS"},"properties":{"diskSizeGB":4,"maxShares":2,` + empty + `}}`, 400, "InvalidParameter"},
		"unknown network policy":   {`{"location":"westeurope","properties":{"diskSizeGB":4,"networkAccessPolicy":"AllowSome",` + empty + `}}`, 400, "InvalidParameter"},
		"private without access":   {`{"location":"westeurope","properties":{"diskSizeGB":4,"networkAccessPolicy":"AllowPrivate",` + empty + `}}`, 400, "InvalidParameter"},
		"from an image":            {`{"location":"westeurope","properties":{"creationData":{"createOption":"FromImage"}}}`, 404, "PlatformImageNotFound"},
		"import":                   {`{"location":"westeurope","properties":{"creationData":{"createOption":"Import"}}}`, 400, "InvalidParameter"},
		"copy of nothing":          {`{"location":"westeurope","properties":{"creationData":{"createOption":"Copy"}}}`, 400, "InvalidParameter"},
		"copy of a missing one":    {`{"location":"westeurope","properties":{"creationData":{"createOption":"Copy","sourceResourceId":"` + diskPrefix + `none"}}}`, 404, "ResourceNotFound"},
		"copy to another location": {`{"location":"northeurope","properties":{"creationData":{"createOption":"Copy","sourceResourceId":"` + diskPrefix + `web-1-os"}}}`, 400, "InvalidParameter"},
		"copy made smaller":        {`{"location":"westeurope","properties":{"diskSizeGB":8,"creationData":{"createOption":"Copy","sourceResourceId":"` + diskPrefix + `web-1-os"}}}`, 400, "InvalidParameter"},
		"upload without size":      {`{"location":"westeurope","properties":{"creationData":{"createOption":"Upload"}}}`, 400, "InvalidParameter"},
		"upload too small":         {`{"location":"westeurope","properties":{"creationData":{"createOption":"Upload","uploadSizeBytes":20972031}}}`, 400, "InvalidParameter"},
		"upload too large":         {`{"location":"westeurope","properties":{"creationData":{"createOption":"Upload","uploadSizeBytes":35183298347521}}}`, 400, "InvalidParameter"},
		"upload without footer":    {`{"location":"westeurope","properties":{"creationData":{"createOption":"Upload","uploadSizeBytes":33554432}}}`, 400, "InvalidParameter"},
		"upload with a size":       {`{"location":"westeurope","properties":{"diskSizeGB":1,"creationData":{"createOption":"Upload","uploadSizeBytes":20972032}}}`, 400, "InvalidParameter"},
		"51 tags":                  {`{"location":"westeurope","tags":{` + strings.Join(manyTags, ",") + `},"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "InvalidTags"},
		"long tag":                 {`{"location":"westeurope","tags":{"a":"` + strings.Repeat("x", 257) + `"},"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "InvalidTagNameOrValue"},
		"tag of a number":          {`{"location":"westeurope","tags":{"a":1},"properties":{"diskSizeGB":4,` + empty + `}}`, 400, "InvalidRequestContent"},
	} {
		status, _, body := w.raw(http.MethodPut, diskPrefix+"refused"+diskVersion, row.body)
		if status != row.status || body.Text("error.code") != row.code || body.Text("error.message") == "" {
			t.Errorf("%s: %d %v, want %d %s", name, status, body, row.status, row.code)
		}
	}
	if status, _, _ := w.raw(http.MethodGet, diskPrefix+"refused"+diskVersion, ""); status != http.StatusNotFound {
		t.Errorf("a refused disk exists (%d)", status)
	}
	if n := len(w.volumes.List()); n != 2 {
		t.Errorf("refusals left volumes behind: %d, want the estate's 2", n)
	}
}

// TestPutDisk_AcceptsTheBoundsOfUploads: the smallest and the largest size, and 50 tags, pass.
func TestPutDisk_AcceptsTheBoundsOfUploads(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	for name, length := range map[string]int64{"least": 20_972_032, "most": 35_183_298_347_520 - (35_183_298_347_520-512)%(1<<20)} {
		disk := must(w.makeDisk(name, uploadDisk(length, "Standard_LRS", false)))(t)
		if *disk.Properties.DiskSizeBytes != length-512 || *disk.Properties.CreationData.UploadSizeBytes != length {
			t.Errorf("%s: %d bytes", name, *disk.Properties.DiskSizeBytes)
		}
	}
	tagged := emptyDisk(4, "Standard_LRS")
	tagged.Tags = map[string]*string{}
	for i := range 50 {
		tagged.Tags[fmt.Sprintf("tag.%d", i)] = to.Ptr("value")
	}
	if disk := must(w.makeDisk("tagged", tagged))(t); len(disk.Tags) != 50 {
		t.Errorf("%d tags", len(disk.Tags))
	}
}

// TestPutDisk_KeepsUnknownMembers: backup stores raw JSON, so what the SDK of today does not know must come back.
func TestPutDisk_KeepsUnknownMembers(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	_, header, _ := w.raw(http.MethodPut, diskPrefix+"odd"+diskVersion, `{"location":"West Europe","properties":{"diskSizeGB":4,"future":{"big":9007199254740993},"creationData":{"createOption":"Empty"}}}`)
	w.settled(header)
	_, _, body := w.raw(http.MethodGet, strings.ToUpper(diskPrefix)+"ODD"+diskVersion, "")
	if fmt.Sprint(body.At("properties.future.big")) != "9007199254740993" || body.Text("id") != diskPrefix+"odd" || body.Text("location") != "westeurope" || body.Text("type") != "Microsoft.Compute/disks" {
		t.Fatalf("got %v", body)
	}
}

// TestDisk_ReCreatedHasANewUniqueID: name and id stay, the identity does not.
func TestDisk_ReCreatedHasANewUniqueID(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	first := must(w.makeDisk("again", emptyDisk(4, "Premium_LRS")))(t)
	poller, err := w.disks.BeginDelete(t.Context(), group, "again", nil)
	done(t, poller, err)
	second := must(w.makeDisk("again", emptyDisk(4, "Premium_LRS")))(t)
	if *first.ID != *second.ID || *first.Properties.UniqueID == *second.Properties.UniqueID || second.Properties.TimeCreated == nil {
		t.Fatalf("unique ids %s and %s", *first.Properties.UniqueID, *second.Properties.UniqueID)
	}
	if n := len(w.volumes.List()); n != 3 {
		t.Fatalf("%d volumes, want 3", n)
	}
}

// TestPutDisk_CannotChangeItsCreation: a PUT on an existing disk updates it, but never where it came from.
func TestPutDisk_CannotChangeItsCreation(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	before := must(w.makeDisk("fixed", emptyDisk(4, "Premium_LRS")))(t)
	_, err := w.makeDisk("fixed", uploadDisk(20_972_032, "Premium_LRS", false))
	wantCode(t, err, "PropertyChangeNotAllowed")
	zoned := emptyDisk(4, "Premium_LRS")
	zoned.Zones = []*string{to.Ptr("2")}
	_, err = w.makeDisk("fixed", zoned)
	wantCode(t, err, "PropertyChangeNotAllowed")
	moved := emptyDisk(4, "Premium_LRS")
	moved.Location = to.Ptr("northeurope")
	_, err = w.makeDisk("fixed", moved)
	wantCode(t, err, "InvalidResourceLocation")
	after := must(w.makeDisk("fixed", emptyDisk(8, "Premium_LRS")))(t)
	if *after.Properties.UniqueID != *before.Properties.UniqueID || *after.Properties.DiskSizeGB != 8 {
		t.Fatalf("after the update %+v", after.Properties)
	}
}

func (w *world) patchDisk(name string, update armcompute.DiskUpdate) (armcompute.Disk, error) {
	w.t.Helper()
	poller, err := w.disks.BeginUpdate(w.t.Context(), group, name, update, nil)
	result, err := finish(w.t, poller, err)
	return result.Disk, err
}

func sizeUpdate(sizeGB int32) armcompute.DiskUpdate {
	return armcompute.DiskUpdate{Properties: &armcompute.DiskUpdateProperties{DiskSizeGB: to.Ptr(sizeGB)}}
}

// TestPatchDisk_TagsSizeAndSKU: tags replace, sizes only grow, SKUs change within their redundancy.
func TestPatchDisk_TagsSizeAndSKU(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	made := emptyDisk(8, "Premium_LRS")
	made.Tags = map[string]*string{"old": to.Ptr("1")}
	must(w.makeDisk("d", made))(t)
	disk := must(w.patchDisk("d", armcompute.DiskUpdate{Tags: map[string]*string{"new": to.Ptr("2")}, SKU: &armcompute.DiskSKU{Name: to.Ptr(armcompute.DiskStorageAccountTypesStandardSSDLRS)}}))(t)
	if len(disk.Tags) != 1 || *disk.Tags["new"] != "2" || *disk.SKU.Name != "StandardSSD_LRS" {
		t.Fatalf("after PATCH %v %v", disk.Tags, disk.SKU)
	}
	disk = must(w.patchDisk("d", sizeUpdate(16)))(t)
	volume := must(w.compute.DiskVolume(diskPrefix + "d"))(t)
	if *disk.Properties.DiskSizeBytes != 16<<30 || must(w.volumes.Stat(volume))(t).Size != 16<<30 {
		t.Fatalf("size %d", *disk.Properties.DiskSizeBytes)
	}
	_, err := w.patchDisk("d", sizeUpdate(15))
	wantCode(t, err, "InvalidParameter")
	for _, sku := range []armcompute.DiskStorageAccountTypes{"Premium_ZRS", "UltraSSD_LRS"} {
		_, err = w.patchDisk("d", armcompute.DiskUpdate{SKU: &armcompute.DiskSKU{Name: to.Ptr(sku)}})
		wantCode(t, err, "OperationNotAllowed")
	}
	_, err = w.patchDisk("web-1-os", sizeUpdate(64))
	wantCode(t, err, "OperationNotAllowed")
	_, err = w.patchDisk("web-1-data", armcompute.DiskUpdate{SKU: &armcompute.DiskSKU{Name: to.Ptr(armcompute.DiskStorageAccountTypesPremiumLRS)}})
	wantCode(t, err, "OperationNotAllowed")
	if grown := must(w.patchDisk("web-1-data", sizeUpdate(128)))(t); *grown.Properties.DiskState != armcompute.DiskStateAttached {
		t.Fatalf("a data disk grown under its VM is %s", *grown.Properties.DiskState)
	}
}

// TestDisk_ActiveSASBlocks: a SAS in force blocks resize, deletion and attaching; ending it frees the disk.
func TestDisk_ActiveSASBlocks(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	zoned := emptyDisk(8, "Premium_LRS")
	zoned.Zones = []*string{to.Ptr("1")}
	zoned.Properties.OSType = to.Ptr(armcompute.OperatingSystemTypesLinux)
	must(w.makeDisk("d", zoned))(t)
	must(w.grantDisk("d", armcompute.AccessLevelRead))(t)
	if disk := must(w.disks.Get(t.Context(), group, "d", nil))(t); *disk.Properties.DiskState != armcompute.DiskStateActiveSAS {
		t.Fatalf("state %s", *disk.Properties.DiskState)
	}
	_, err := w.patchDisk("d", sizeUpdate(16))
	wantCode(t, err, "ChangeDiskSizeWhileActiveSasNotAllowed")
	_, err = w.disks.BeginDelete(t.Context(), group, "d", nil)
	wantCode(t, err, "OperationNotAllowed")
	nic := must(w.makeNIC("d-nic", ""))(t)
	_, err = w.makeMachine("d-vm", machine("Standard_D2s_v5", diskPrefix+"d", nic))
	wantCode(t, err, "OperationNotAllowed")
	if err := w.compute.ResizeDisk(diskPrefix+"d", 16); err == nil {
		t.Fatal("an administrator resized under a SAS")
	}
	for range 2 { // ending access is idempotent
		poller, err := w.disks.BeginRevokeAccess(t.Context(), group, "d", nil)
		done(t, poller, err)
	}
	must(w.patchDisk("d", sizeUpdate(16)))(t)
	poller, err := w.disks.BeginDelete(t.Context(), group, "d", nil)
	done(t, poller, err)
}

// TestDisk_AttachedCannotBeDeletedOrRead: the state machine of attached and reserved disks.
func TestDisk_AttachedCannotBeDeletedOrRead(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	_, err := w.disks.BeginDelete(t.Context(), group, "web-1-data", nil)
	wantCode(t, err, "OperationNotAllowed")
	_, err = w.grantDisk("web-1-data", armcompute.AccessLevelRead)
	wantCode(t, err, "OperationNotAllowed")
	poller, err := w.machines.BeginDeallocate(t.Context(), group, "web-1", nil)
	done(t, poller, err)
	disk := must(w.disks.Get(t.Context(), group, "web-1-data", nil))(t)
	if *disk.Properties.DiskState != armcompute.DiskStateReserved || *disk.ManagedBy != machineID {
		t.Fatalf("state %s by %v", *disk.Properties.DiskState, disk.ManagedBy)
	}
	must(w.grantDisk("web-1-data", armcompute.AccessLevelRead))(t)
	_, err = w.machines.BeginStart(t.Context(), group, "web-1", nil)
	wantCode(t, err, "OperationNotAllowed")
	revoke, err := w.disks.BeginRevokeAccess(t.Context(), group, "web-1-data", nil)
	done(t, revoke, err)
	start, err := w.machines.BeginStart(t.Context(), group, "web-1", nil)
	done(t, start, err)
	_, err = w.disks.BeginDelete(t.Context(), group, "web-1-data", nil)
	wantCode(t, err, "OperationNotAllowed")
}

// TestUpload_StatesAndFooter: what a disk for upload can and cannot do until a right footer ends it.
func TestUpload_StatesAndFooter(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	const size = 32 << 20
	must(w.makeDisk("up", uploadDisk(size+512, "Premium_LRS", false)))(t)
	must(w.makeDisk("plain", emptyDisk(4, "Premium_LRS")))(t)
	_, err := w.grantDisk("plain", armcompute.AccessLevelWrite)
	wantCode(t, err, "OperationNotAllowed")
	_, err = w.grantDisk("up", armcompute.AccessLevelRead)
	wantCode(t, err, "OperationNotAllowed")
	_, err = w.makeSnapshot("of-up", snapshotOf(diskPrefix+"up"))
	wantCode(t, err, "OperationNotAllowed")
	_, err = w.patchDisk("up", sizeUpdate(8))
	wantCode(t, err, "OperationNotAllowed")

	sas := must(w.grantDisk("up", armcompute.AccessLevelWrite))(t)
	state := func() armcompute.DiskState {
		return *must(w.disks.Get(t.Context(), group, "up", nil))(t).Properties.DiskState
	}
	if state() != armcompute.DiskStateActiveUpload {
		t.Fatalf("state %s", state())
	}
	end := func() error {
		poller, err := w.disks.BeginRevokeAccess(t.Context(), group, "up", nil)
		_, err = finish(t, poller, err)
		return err
	}
	wantCode(t, end(), "InvalidVhd")
	page := must(pageblob.NewClientWithNoCredential(sas, pinned()))(t)
	put := func(footer [512]byte) {
		body := readSeekCloser{bytes.NewReader(footer[:])}
		must(page.UploadPages(t.Context(), body, blob.HTTPRange{Offset: size, Count: 512}, nil))(t)
	}
	damaged := vhd.Footer(size, [16]byte{1}, time.Unix(1_700_000_000, 0))
	damaged[64] ^= 1
	put(damaged)
	wantCode(t, end(), "InvalidVhd")
	put(vhd.Footer(size/2, [16]byte{1}, time.Unix(1_700_000_000, 0)))
	wantCode(t, end(), "InvalidVhd")
	if state() != armcompute.DiskStateActiveUpload {
		t.Fatalf("after bad footers the disk is %s", state())
	}
	put(vhd.Footer(size, [16]byte{1}, time.Unix(1_700_000_000, 0)))
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if state() != armcompute.DiskStateUnattached {
		t.Fatalf("after a good footer the disk is %s", state())
	}
	_, err = w.grantDisk("up", armcompute.AccessLevelWrite)
	wantCode(t, err, "OperationNotAllowed")
}

// TestCopyDisk_FromSnapshotAndDisk: the copy holds the source's bytes at that moment and is independent of it.
func TestCopyDisk_FromSnapshotAndDisk(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	source := must(w.compute.DiskVolume(diskPrefix + "web-1-data"))(t)
	must(w.volumes.WriteAt(source, []byte("before"), 4096))(t)
	must(w.makeSnapshot("s", snapshotOf(diskPrefix+"web-1-data")))(t)
	copyOf := func(name, id string, sizeGB *int32) armcompute.Disk {
		return must(w.makeDisk(name, armcompute.Disk{Location: to.Ptr(location), Properties: &armcompute.DiskProperties{
			DiskSizeGB: sizeGB, CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionCopy), SourceResourceID: to.Ptr(id)},
		}}))(t)
	}
	fromSnapshot := copyOf("from-snapshot", snapPrefix+"s", nil)
	fromDisk := copyOf("from-disk", diskPrefix+"web-1-data", to.Ptr[int32](100))
	must(w.volumes.WriteAt(source, []byte("after!"), 4096))(t)
	for _, disk := range []armcompute.Disk{fromSnapshot, fromDisk} {
		held := make([]byte, 6)
		must(w.volumes.ReadAt(must(w.compute.DiskVolume(*disk.ID))(t), held, 4096))(t)
		if string(held) != "before" {
			t.Errorf("%s holds %q", *disk.Name, held)
		}
	}
	if *fromSnapshot.Properties.DiskSizeGB != 64 || *fromDisk.Properties.DiskSizeGB != 100 || *fromSnapshot.Properties.CreationData.SourceUniqueID == "" {
		t.Errorf("sizes %d and %d", *fromSnapshot.Properties.DiskSizeGB, *fromDisk.Properties.DiskSizeGB)
	}
	if n := len(w.volumes.List()); n != 5 {
		t.Errorf("%d volumes, want 5: the moment taken of the disk must not stay", n)
	}
}
