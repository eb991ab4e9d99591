package compute_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/storageaccount"
)

// TestSeed_MakesWhatTheEstateDeclares: images plain and packed, locks, special disks, an ephemeral OS disk.
func TestSeed_MakesWhatTheEstateDeclares(t *testing.T) {
	image := bytes.Repeat([]byte("filesystem block"), 1024)
	dir := t.TempDir()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	must(zip.Write(image))(t)
	_ = zip.Close()
	encoder := must(zstd.NewWriter(nil))(t)
	for name, content := range map[string][]byte{"plain.img": image, "packed.img.gz": packed.Bytes(), "packed.img.zst": encoder.EncodeAll(image, nil)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := plainEstate()
	e.VirtualMachines[0].OSDisk.Image = "plain.img"
	e.VirtualMachines[0].DataDisks[0].Image = "packed.img.gz"
	e.VirtualMachines = append(e.VirtualMachines, estate.VirtualMachine{
		Name: "odd-1", ResourceGroup: group, Size: "Standard_D2s_v5", OS: "Windows", Subnet: "shop-net/front",
		OSDisk: estate.Disk{Name: "odd-1-os", SizeGiB: 32, Ephemeral: true, SKU: "Standard_LRS", Caching: "None"},
		DataDisks: []estate.Disk{
			{LUN: 0, Name: "denied", SizeGiB: 4, SKU: "Premium_LRS", Caching: "None", NetworkAccessPolicy: "DenyAll", Image: "packed.img.zst"},
			{LUN: 4, Name: "shared", SizeGiB: 4, SKU: "Premium_LRS", Caching: "None", Shared: true},
		},
	})
	e.Locks = []estate.Lock{{Scope: "shop/web-1", Level: "CanNotDelete"}}
	w := &world{t: t, dir: t.TempDir(), clock: clock.System{}}
	w.open()
	for range 2 { // a state that was seeded is left alone
		if err := w.compute.Seed(t.Context(), e, dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"web-1-os", "web-1-data", "denied"} {
		held := make([]byte, len(image))
		must(w.volumes.ReadAt(must(w.compute.DiskVolume(diskPrefix+name))(t), held, 0))(t)
		if !bytes.Equal(held, image) {
			t.Errorf("%s does not hold its image", name)
		}
	}
	odd := must(w.machines.Get(t.Context(), group, "odd-1", nil))(t)
	if os := odd.Properties.StorageProfile.OSDisk; *os.DiffDiskSettings.Option != "Local" || os.ManagedDisk != nil || *odd.Properties.OSProfile.ComputerName != "odd-1" {
		t.Errorf("ephemeral OS disk %+v", os)
	}
	if disk := must(w.disks.Get(t.Context(), group, "shared", nil))(t); *disk.Properties.MaxShares != 2 {
		t.Errorf("maxShares %d", *disk.Properties.MaxShares)
	}
	if disk := must(w.disks.Get(t.Context(), group, "denied", nil))(t); *disk.Properties.NetworkAccessPolicy != "DenyAll" {
		t.Errorf("policy %s", *disk.Properties.NetworkAccessPolicy)
	}
	_, err := w.machines.BeginDelete(t.Context(), group, "web-1", nil)
	wantCode(t, err, "ScopeLocked")
	if accounts := storageaccount.Accounts(w.state.View()); len(accounts) != 1 || accounts[0].Name != "shopvault" {
		t.Errorf("accounts %v", accounts)
	}
	resources := must(w.compute.Resources())(t)
	if len(resources) != 13 { // group, lock, network, subnet, account, 2 VMs, 2 NICs, 4 disks
		t.Errorf("%d resources, want 13: %v", len(resources), resources)
	}
}

// TestSeed_RefusesAndLeavesNothing: an estate that the platform would refuse makes no half of itself.
func TestSeed_RefusesAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "big.img"), make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*estate.Estate){
		"unknown size":   func(e *estate.Estate) { e.VirtualMachines[0].Size = "Standard_Z9" },
		"unknown region": func(e *estate.Estate) { e.ResourceGroups[0].Location = "atlantis" },
		"missing image":  func(e *estate.Estate) { e.VirtualMachines[0].OSDisk.Image = "none.img" },
		"bad gzip": func(e *estate.Estate) {
			_ = os.WriteFile(filepath.Join(dir, "bad.gz"), []byte("not gzip"), 0o600)
			e.VirtualMachines[0].OSDisk.Image = "bad.gz"
		},
		"lock on nobody": func(e *estate.Estate) { e.Locks = []estate.Lock{{Scope: "shop/none", Level: "ReadOnly"}} },
	} {
		e := plainEstate()
		spoil(&e)
		w := &world{t: t, dir: t.TempDir(), clock: clock.System{}}
		w.open()
		err := w.compute.Seed(t.Context(), e, dir)
		if kind := holdfast.KindOf(err); kind != holdfast.KindInvalid && kind != holdfast.KindNotFound {
			t.Errorf("%s: %v (%s)", name, err, kind)
		}
		if left := must(w.compute.Resources())(t); len(left) != 0 || len(w.volumes.List()) != 0 {
			t.Errorf("%s left %v and %d volumes", name, left, len(w.volumes.List()))
		}
		w.close()
	}
}

// TestRestart_KeepsResourcesGrantsAndOperations: nothing that was answered is lost, an operation under way ends, and a
// volume without a document goes.
func TestRestart_KeepsResourcesGrantsAndOperations(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	must(w.makeSnapshot("s", snapshotOf(dataDisk)))(t)
	sas := must(w.grantSnapshot("s"))(t)
	status, header, _ := w.raw(http.MethodPut, snapPrefix+"under-way"+diskVersion, snapshotBody(dataDisk, ""))
	if status != http.StatusAccepted {
		t.Fatal(status)
	}
	stray := must(w.volumes.Create(1 << 20))(t)
	path := header.Get("Azure-AsyncOperation")[len(w.server.URL):]
	w.restart()
	header.Set("Azure-AsyncOperation", w.server.URL+path)
	if outcome := w.settled(header); outcome.Text("status") != "Succeeded" {
		t.Fatalf("the operation ended as %v", outcome)
	}
	if _, err := w.volumes.Stat(stray.ID); err == nil {
		t.Error("a stray volume survived")
	}
	snapshot := must(w.snapshots.Get(t.Context(), group, "s", nil))(t)
	if *snapshot.Properties.DiskState != armcompute.DiskStateActiveSAS {
		t.Errorf("the grant was lost: %s", *snapshot.Properties.DiskState)
	}
	address := w.data.URL + sas[strings.Index(sas, "/md-"):]
	response := must(http.Head(address))(t)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the SAS answers %d", response.StatusCode)
	}
}

// TestFailOperation: without effect nothing happened, with it the work is done although the operation says Failed.
func TestFailOperation_BothFlavours(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	volumes := len(w.volumes.List())
	failing := func(afterEffect bool, code string) func(*http.Request) fault.Decision {
		return func(r *http.Request) fault.Decision {
			if r.Method == http.MethodGet {
				return fault.Decision{}
			}
			return fault.Decision{Kind: fault.FailOperation, AfterEffect: afterEffect, Code: code}
		}
	}
	w.decision = failing(false, "AllocationFailed")
	_, err := w.makeSnapshot("s", snapshotOf(dataDisk))
	wantCode(t, err, "AllocationFailed")
	if status, _, _ := w.raw(http.MethodGet, snapPrefix+"s"+diskVersion, ""); status != http.StatusNotFound || len(w.volumes.List()) != volumes {
		t.Errorf("a failed PUT took effect: %d, %d volumes", status, len(w.volumes.List()))
	}
	w.decision = failing(true, "")
	_, err = w.makeSnapshot("s", snapshotOf(dataDisk))
	wantCode(t, err, "InternalExecutionError")
	w.decision = nil
	if snapshot := must(w.snapshots.Get(t.Context(), group, "s", nil))(t); *snapshot.Properties.ProvisioningState != "Succeeded" {
		t.Errorf("after effect the snapshot is %s", *snapshot.Properties.ProvisioningState)
	}

	w.decision = failing(false, "")
	_, err = w.grantSnapshot("s")
	wantCode(t, err, "InternalExecutionError")
	if n := w.exports.ActiveCount(snapPrefix + "s"); n != 0 {
		t.Errorf("a failed beginGetAccess gave %d SAS", n)
	}
	w.decision = failing(true, "")
	_, err = w.grantSnapshot("s")
	wantCode(t, err, "InternalExecutionError")
	if n := w.exports.ActiveCount(snapPrefix + "s"); n != 1 {
		t.Errorf("a beginGetAccess that failed after its effect gave %d SAS", n)
	}
	w.decision = nil
	w.revokeSnapshot("s")
	w.decision = failing(false, "")
	poller, err := w.snapshots.BeginDelete(t.Context(), group, "s", nil)
	_, err = finish(t, poller, err)
	wantCode(t, err, "InternalExecutionError")
	if status, _, _ := w.raw(http.MethodGet, snapPrefix+"s"+diskVersion, ""); status != http.StatusOK {
		t.Errorf("a failed deletion took effect: %d", status)
	}
	w.decision = failing(true, "")
	poller, err = w.snapshots.BeginDelete(t.Context(), group, "s", nil)
	_, err = finish(t, poller, err)
	wantCode(t, err, "InternalExecutionError")
	if status, _, _ := w.raw(http.MethodGet, snapPrefix+"s"+diskVersion, ""); status != http.StatusNotFound {
		t.Errorf("a deletion that failed after its effect: %d", status)
	}
}

// TestDeleteResource_AsAnAdministrator removes what the rules allow, whatever is locked.
func TestDeleteResource_AsAnAdministrator(t *testing.T) {
	e := plainEstate()
	e.Locks = []estate.Lock{{Scope: "shop", Level: "CanNotDelete"}}
	w := newWorld(t, clock.System{}, e)
	if err := w.compute.DeleteResource(dataDisk); holdfast.KindOf(err) != holdfast.KindConflict {
		t.Errorf("an attached disk: %v", err)
	}
	if err := w.compute.DeleteResource(diskPrefix + "none"); holdfast.KindOf(err) != holdfast.KindNotFound {
		t.Errorf("nothing: %v", err)
	}
	for _, id := range []string{machineID, dataDisk, diskPrefix + "web-1-os", nicPrefix + "web-1-nic"} {
		if err := w.compute.DeleteResource(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if n := len(w.volumes.List()); n != 0 {
		t.Errorf("%d volumes left", n)
	}
	if _, err := w.compute.DiskVolume(dataDisk); holdfast.KindOf(err) != holdfast.KindNotFound {
		t.Errorf("the volume of a deleted disk: %v", err)
	}
}

// TestDeleteGroup_TakesEverythingOrNothing.
func TestDeleteGroup_TakesEverythingOrNothing(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	groupPath := "/subscriptions/" + subscription + "/resourcegroups/SHOP?api-version=2025-04-01"
	must(w.makeSnapshot("s", snapshotOf(dataDisk)))(t)
	must(w.grantSnapshot("s"))(t)
	remove := func() string {
		status, header, body := w.raw(http.MethodDelete, groupPath, "")
		if status != http.StatusAccepted {
			t.Fatalf("%d %v", status, body)
		}
		outcome := w.settled(header)
		return outcome.Text("status") + outcome.Text("error.code")
	}
	if outcome := remove(); outcome != "FailedResourceGroupDeletionBlocked" {
		t.Fatalf("with an active SAS: %s", outcome)
	}
	must(w.machines.Get(t.Context(), group, "web-1", nil))(t)
	w.revokeSnapshot("s")
	if outcome := remove(); outcome != "Succeeded" {
		t.Fatalf("the deletion: %s", outcome)
	}
	if left := must(w.compute.Resources())(t); len(left) != 0 || len(w.volumes.List()) != 0 {
		t.Fatalf("left %v, %d volumes", left, len(w.volumes.List()))
	}
	if status, _, _ := w.raw(http.MethodGet, groupPath, ""); status != http.StatusNotFound {
		t.Fatalf("the group answers %d", status)
	}
}
