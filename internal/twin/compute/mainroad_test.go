package compute_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

// TestMainRoad walks what a backup and a restore do, through the real SDK: snapshot, SAS, read, upload, new VM.
func TestMainRoad_SnapshotReadUploadAttach(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	vm := must(w.machines.Get(t.Context(), group, "WEB-1", nil))(t)
	if *vm.Properties.StorageProfile.OSDisk.ManagedDisk.ID != diskPrefix+"web-1-os" || len(vm.Properties.StorageProfile.DataDisks) != 1 {
		t.Fatalf("storage profile %+v", vm.Properties.StorageProfile)
	}
	content := bytes.Repeat([]byte("guest data 1234!"), 4096)
	volume := must(w.compute.DiskVolume(diskPrefix + "web-1-data"))(t)
	must(w.volumes.WriteAt(volume, content, 1<<20))(t)

	snapshot := must(w.makeSnapshot("snap-1", snapshotOf(diskPrefix+"web-1-data")))(t)
	if *snapshot.Properties.CompletionPercent != 100 || *snapshot.SKU.Name != "Standard_ZRS" || *snapshot.Properties.IncrementalSnapshotFamilyID == "" {
		t.Fatalf("snapshot %+v", snapshot.Properties)
	}
	must(w.volumes.WriteAt(volume, make([]byte, len(content)), 1<<20))(t)
	sas := must(w.grantSnapshot("snap-1"))(t)
	page := must(pageblob.NewClientWithNoCredential(sas, pinned()))(t)
	stream := must(page.DownloadStream(t.Context(), &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: 1 << 20, Count: int64(len(content))}}))(t)
	if read := must(io.ReadAll(stream.Body))(t); !bytes.Equal(read, content) {
		t.Fatal("the snapshot does not hold what the disk held when it was taken")
	}
	w.revokeSnapshot("snap-1")
	poller, err := w.snapshots.BeginDelete(t.Context(), group, "snap-1", nil)
	done(t, poller, err)

	const size = 64 << 20
	disk := must(w.makeDisk("restored-os", uploadDisk(size+512, "Premium_LRS", true)))(t)
	if *disk.Properties.DiskState != armcompute.DiskStateReadyToUpload {
		t.Fatalf("a new upload disk is %s", *disk.Properties.DiskState)
	}
	upload(t, w, "restored-os", content, size)
	nic := must(w.makeNIC("web-2-nic", ""))(t)
	created := must(w.makeMachine("web-2", machine("Standard_D2s_v5", diskPrefix+"restored-os", nic)))(t)
	if *created.Properties.ProvisioningState != "Succeeded" || *created.Properties.VMID == "" {
		t.Fatalf("VM %+v", created.Properties)
	}
	attached := must(w.disks.Get(t.Context(), group, "restored-os", nil))(t)
	if *attached.Properties.DiskState != armcompute.DiskStateAttached || *attached.ManagedBy != *created.ID {
		t.Fatalf("the disk is %s by %v", *attached.Properties.DiskState, attached.ManagedBy)
	}
}

func uploadDisk(length int64, sku string, system bool) armcompute.Disk {
	disk := armcompute.Disk{
		Location: to.Ptr(location), Zones: []*string{to.Ptr("1")}, SKU: &armcompute.DiskSKU{Name: to.Ptr(armcompute.DiskStorageAccountTypes(sku))},
		Properties: &armcompute.DiskProperties{CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionUpload), UploadSizeBytes: to.Ptr(length)}},
	}
	if system {
		disk.Properties.OSType = to.Ptr(armcompute.OperatingSystemTypesLinux)
		disk.Properties.HyperVGeneration = to.Ptr(armcompute.HyperVGenerationV2)
	}
	return disk
}

// upload writes content at the beginning of an upload disk and completes it with its footer.
func upload(t *testing.T, w *world, name string, content []byte, size int64) {
	t.Helper()
	sas := must(w.grantDisk(name, armcompute.AccessLevelWrite))(t)
	page := must(pageblob.NewClientWithNoCredential(sas, pinned()))(t)
	put := func(data []byte, offset int64) {
		t.Helper()
		body := readSeekCloser{bytes.NewReader(data)}
		must(page.UploadPages(t.Context(), body, blob.HTTPRange{Offset: offset, Count: int64(len(data))}, nil))(t)
	}
	put(content, 0)
	footer := vhd.Footer(size, [16]byte{1}, time.Unix(1_700_000_000, 0))
	put(footer[:], size)
	poller, err := w.disks.BeginRevokeAccess(t.Context(), group, name, nil)
	done(t, poller, err)
	disk := must(w.disks.Get(t.Context(), group, name, nil))(t)
	if *disk.Properties.DiskState != armcompute.DiskStateUnattached {
		t.Fatalf("after the upload the disk is %s", *disk.Properties.DiskState)
	}
}

// pinned sends a service version that managed-disk endpoints accept (azure.md §2.3).
func pinned() *pageblob.ClientOptions {
	options := &pageblob.ClientOptions{}
	options.PerCallPolicies = []policy.Policy{pinVersion{}}
	return options
}

type pinVersion struct{}

// Do implements policy.Policy.
func (pinVersion) Do(request *policy.Request) (*http.Response, error) {
	request.Raw().Header.Set("X-Ms-Version", "2020-10-02")
	return request.Next()
}

type readSeekCloser struct{ *bytes.Reader }

// Close implements io.Closer.
func (readSeekCloser) Close() error { return nil }

func machine(size, osDisk, nic string, data ...*armcompute.DataDisk) armcompute.VirtualMachine {
	return armcompute.VirtualMachine{
		Location: to.Ptr(location), Zones: []*string{to.Ptr("1")},
		Properties: &armcompute.VirtualMachineProperties{
			HardwareProfile: &armcompute.HardwareProfile{VMSize: to.Ptr(armcompute.VirtualMachineSizeTypes(size))},
			StorageProfile: &armcompute.StorageProfile{
				OSDisk: &armcompute.OSDisk{
					CreateOption: to.Ptr(armcompute.DiskCreateOptionTypesAttach), OSType: to.Ptr(armcompute.OperatingSystemTypesLinux),
					ManagedDisk: &armcompute.ManagedDiskParameters{ID: to.Ptr(osDisk)},
				},
				DataDisks: data,
			},
			NetworkProfile: &armcompute.NetworkProfile{NetworkInterfaces: []*armcompute.NetworkInterfaceReference{{ID: to.Ptr(nic)}}},
		},
	}
}

func (w *world) makeMachine(name string, vm armcompute.VirtualMachine) (armcompute.VirtualMachine, error) {
	w.t.Helper()
	poller, err := w.machines.BeginCreateOrUpdate(w.t.Context(), group, name, vm, nil)
	result, err := finish(w.t, poller, err)
	return result.VirtualMachine, err
}
