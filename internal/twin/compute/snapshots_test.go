package compute_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
)

const dataDisk = diskPrefix + "web-1-data"

// accept sends a PUT for a snapshot and completes its operation on a manual clock.
func (w *world) putRaw(manual *clock.Manual, id, body string) (int, string, http.Header) {
	w.t.Helper()
	status, header, answer := w.raw(http.MethodPut, id+diskVersion, body)
	manual.Advance(time.Second)
	if status == http.StatusAccepted {
		if outcome := w.settled(header); outcome.Text("status") != "Succeeded" {
			return status, outcome.Text("error.code"), header
		}
	}
	return status, answer.Text("error.code"), header
}

func snapshotBody(disk, more string) string {
	return `{"location":"westeurope"` + more + `,"properties":{"incremental":true,"creationData":{"createOption":"Copy","sourceResourceId":"` + disk + `"}}}`
}

// TestPutSnapshot_RefusesWhatThePlatformRefuses: every rule about the source has a row.
func TestPutSnapshot_RefusesWhatThePlatformRefuses(t *testing.T) {
	e := plainEstate()
	e.Subscriptions = append(e.Subscriptions, estate.Subscription{ID: "22222222-2222-2222-2222-222222222222", Name: "test"})
	e.ResourceGroups = append(e.ResourceGroups, estate.ResourceGroup{Name: "lab", Subscription: "test", Location: location})
	e.VirtualMachines[0].DataDisks = append(e.VirtualMachines[0].DataDisks,
		estate.Disk{LUN: 1, Name: "both", SizeGiB: 4, SKU: "Premium_LRS", Caching: "None", Shared: true},
		estate.Disk{LUN: 2, Name: "v2", SizeGiB: 4, SKU: "PremiumV2_LRS", Caching: "None"})
	w := newWorld(t, clock.System{}, e)
	lab := "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/lab/providers/Microsoft.Compute/snapshots/s"
	for name, row := range map[string]struct {
		id, body string
		status   int
		code     string
	}{
		"shared disk":           {snapPrefix + "s", snapshotBody(diskPrefix+"both", ""), 409, "OperationNotAllowed"},
		"other subscription":    {lab, snapshotBody(dataDisk, ""), 400, "InvalidParameter"},
		"other location":        {snapPrefix + "s", `{"location":"northeurope","properties":{"incremental":true,"creationData":{"createOption":"Copy","sourceResourceId":"` + dataDisk + `"}}}`, 400, "InvalidParameter"},
		"missing disk":          {snapPrefix + "s", snapshotBody(diskPrefix+"none", ""), 404, "ResourceNotFound"},
		"not a disk":            {snapPrefix + "s", snapshotBody(machineID, ""), 400, "InvalidParameter"},
		"unknown SKU":           {snapPrefix + "s", snapshotBody(dataDisk, `,"sku":{"name":"UltraSSD_LRS"}`), 400, "InvalidParameter"},
		"copy start":            {snapPrefix + "s", `{"location":"westeurope","properties":{"incremental":true,"creationData":{"createOption":"CopyStart","sourceResourceId":"` + dataDisk + `"}}}`, 400, "InvalidParameter"},
		"no source":             {snapPrefix + "s", `{"location":"westeurope","properties":{"creationData":{"createOption":"Copy"}}}`, 400, "InvalidParameter"},
		"full of v2":            {snapPrefix + "s", `{"location":"westeurope","properties":{"creationData":{"createOption":"Copy","sourceResourceId":"` + diskPrefix + `v2"}}}`, 409, "OperationNotAllowed"},
		"instant access of SSD": {snapPrefix + "s", `{"location":"westeurope","properties":{"incremental":true,"creationData":{"createOption":"Copy","instantAccessDurationMinutes":60,"sourceResourceId":"` + dataDisk + `"}}}`, 400, "InvalidParameter"},
		"another size":          {snapPrefix + "s", `{"location":"westeurope","properties":{"incremental":true,"diskSizeGB":1,"creationData":{"createOption":"Copy","sourceResourceId":"` + dataDisk + `"}}}`, 400, "InvalidParameter"},
	} {
		status, _, body := w.raw(http.MethodPut, row.id+diskVersion, row.body)
		if status != row.status || body.Text("error.code") != row.code {
			t.Errorf("%s: %d %v, want %d %s", name, status, body, row.status, row.code)
		}
	}
	w.arm.SetPermissions([]arm.Permission{{Actions: []string{"*"}, NotActions: []string{"Microsoft.Compute/disks/beginGetAccess/action"}}})
	_, err := w.makeSnapshot("s", snapshotOf(dataDisk))
	wantCode(t, err, "LinkedAuthorizationFailed")
}

// TestSnapshot_SKUAndFamily: the region chooses the first SKU, later ones repeat it, and a family is one disk incarnation.
func TestSnapshot_SKUAndFamily(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	lrs := snapshotOf(dataDisk)
	lrs.SKU = &armcompute.SnapshotSKU{Name: to.Ptr(armcompute.SnapshotStorageAccountTypesStandardLRS)}
	first := must(w.makeSnapshot("s1", lrs))(t)
	second := must(w.makeSnapshot("s2", snapshotOf(dataDisk)))(t)
	if *second.SKU.Name != "Standard_LRS" {
		t.Fatalf("the second snapshot has SKU %s, not the family's", *second.SKU.Name)
	}
	zrs := snapshotOf(dataDisk)
	zrs.SKU = &armcompute.SnapshotSKU{Name: to.Ptr(armcompute.SnapshotStorageAccountTypesStandardZRS)}
	_, err := w.makeSnapshot("s3", zrs)
	wantCode(t, err, "OperationNotAllowed")
	disk := must(w.disks.Get(t.Context(), group, "web-1-data", nil))(t)
	if *first.Properties.IncrementalSnapshotFamilyID != *second.Properties.IncrementalSnapshotFamilyID ||
		*first.Properties.CreationData.SourceUniqueID != *disk.Properties.UniqueID || *first.Properties.UniqueID == *second.Properties.UniqueID {
		t.Fatalf("families %+v %+v", first.Properties, second.Properties)
	}
	other := must(w.makeSnapshot("s4", snapshotOf(diskPrefix+"web-1-os")))(t)
	if *other.Properties.IncrementalSnapshotFamilyID == *first.Properties.IncrementalSnapshotFamilyID || *other.SKU.Name != "Standard_ZRS" {
		t.Fatalf("another disk's snapshot: %s %s", *other.Properties.IncrementalSnapshotFamilyID, *other.SKU.Name)
	}
}

// TestSnapshot_RegionWithoutZonesGivesLRS.
func TestSnapshot_RegionWithoutZonesGivesLRS(t *testing.T) {
	e := plainEstate()
	e.ResourceGroups[0].Location = "westus"
	e.VirtualMachines[0].Zone = ""
	w := newWorld(t, clock.System{}, e)
	snapshot := snapshotOf(dataDisk)
	snapshot.Location = to.Ptr("West US")
	if made := must(w.makeSnapshot("s", snapshot))(t); *made.SKU.Name != "Standard_LRS" {
		t.Fatalf("SKU %s", *made.SKU.Name)
	}
	snapshot.SKU = &armcompute.SnapshotSKU{Name: to.Ptr(armcompute.SnapshotStorageAccountTypesStandardZRS)}
	_, err := w.makeSnapshot("z", snapshot)
	wantCode(t, err, "SkuNotAvailable")
}

// TestSnapshot_PutAgain: the same source is an update that keeps the moment, another source is refused.
func TestSnapshot_PutAgain(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	first := must(w.makeSnapshot("s", snapshotOf(dataDisk)))(t)
	again := snapshotOf(dataDisk)
	again.Tags = map[string]*string{"run": to.Ptr("2")}
	second := must(w.makeSnapshot("s", again))(t)
	if *second.Properties.UniqueID != *first.Properties.UniqueID || !second.Properties.TimeCreated.Equal(*first.Properties.TimeCreated) || *second.Tags["run"] != "2" {
		t.Fatalf("the second PUT made %+v", second.Properties)
	}
	_, err := w.makeSnapshot("s", snapshotOf(diskPrefix+"web-1-os"))
	wantCode(t, err, "PropertyChangeNotAllowed")
	if n := len(w.volumes.List()); n != 3 {
		t.Fatalf("%d volumes", n)
	}
}

// TestSnapshot_SevenPerFiveMinutes: the eighth within the window waits, and the window slides; the limit can be switched off.
func TestSnapshot_SevenPerFiveMinutes(t *testing.T) {
	manual := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, manual, plainEstate())
	for i := range 7 {
		if status, code, _ := w.putRaw(manual, fmt.Sprintf("%ss%d", snapPrefix, i), snapshotBody(dataDisk, "")); status != http.StatusAccepted || code != "" {
			t.Fatalf("snapshot %d: %d %s", i, status, code)
		}
		manual.Advance(9 * time.Second)
	}
	status, code, header := w.putRaw(manual, snapPrefix+"s7", snapshotBody(dataDisk, ""))
	if status != http.StatusTooManyRequests || code != "TooManyRequests" || header.Get("Retry-After") != "230" {
		t.Fatalf("the eighth: %d %s after %s", status, code, header.Get("Retry-After"))
	}
	manual.Advance(229 * time.Second) // with the second that putRaw advances: the first one is five minutes old
	if status, code, _ = w.putRaw(manual, snapPrefix+"s7", snapshotBody(dataDisk, "")); status != http.StatusAccepted {
		t.Fatalf("after the wait: %d %s", status, code)
	}
	if status, _, _ = w.putRaw(manual, snapPrefix+"s8", snapshotBody(dataDisk, "")); status != http.StatusTooManyRequests {
		t.Fatalf("the next one at once: %d", status)
	}
	w.compute.SetSnapshotRate(false)
	if status, _, _ = w.putRaw(manual, snapPrefix+"s8", snapshotBody(dataDisk, "")); status != http.StatusAccepted {
		t.Fatalf("with the limit off: %d", status)
	}
}

// TestSnapshot_FiveHundredPerDisk: the 501st is refused until one is deleted.
func TestSnapshot_FiveHundredPerDisk(t *testing.T) {
	manual := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, manual, plainEstate())
	w.compute.SetSnapshotRate(false)
	for i := range 500 {
		status, _, body := w.raw(http.MethodPut, fmt.Sprintf("%sn%d%s", snapPrefix, i, diskVersion), snapshotBody(dataDisk, ""))
		if status != http.StatusAccepted {
			t.Fatalf("snapshot %d: %d %v", i, status, body)
		}
	}
	manual.Advance(time.Second)
	if status, code, _ := w.putRaw(manual, snapPrefix+"over", snapshotBody(dataDisk, "")); status != http.StatusConflict || code != "OperationNotAllowed" {
		t.Fatalf("the 501st: %d %s", status, code)
	}
	_, header, _ := w.raw(http.MethodDelete, snapPrefix+"n250"+diskVersion, "")
	manual.Advance(time.Second)
	w.settled(header)
	if status, code, _ := w.putRaw(manual, snapPrefix+"over", snapshotBody(dataDisk, "")); status != http.StatusAccepted {
		t.Fatalf("after a deletion: %d %s", status, code)
	}
}

func ultraEstate() estate.Estate {
	e := plainEstate()
	e.VirtualMachines[0].DataDisks = append(e.VirtualMachines[0].DataDisks, estate.Disk{LUN: 1, Name: "fast", SizeGiB: 16, SKU: "UltraSSD_LRS", Caching: "None"})
	return e
}

// TestSnapshot_BackgroundCopy: an Ultra snapshot cannot be read or copied before it is complete, at most three are under
// way, and a resize in between breaks it.
func TestSnapshot_BackgroundCopy(t *testing.T) {
	manual := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, manual, ultraEstate())
	w.compute.SetCopyTime(100 * time.Second)
	fast := diskPrefix + "fast"
	for i := range 3 {
		if status, code, _ := w.putRaw(manual, fmt.Sprintf("%sf%d", snapPrefix, i), snapshotBody(fast, "")); status != http.StatusAccepted {
			t.Fatalf("snapshot %d: %d %s", i, status, code)
		}
	}
	if status, code, _ := w.putRaw(manual, snapPrefix+"f3", snapshotBody(fast, "")); status != http.StatusConflict || code != "OperationNotAllowed" {
		t.Fatalf("a fourth pending copy: %d %s", status, code)
	}
	_, _, pending := w.raw(http.MethodGet, snapPrefix+"f0"+diskVersion, "")
	if percent := pending.Int("properties.completionPercent"); percent != 4 || pending.Text("properties.snapshotAccessState") != "Pending" {
		t.Fatalf("pending snapshot %v", pending)
	}
	access := `{"access":"Read","durationInSeconds":60}`
	if status, _, body := w.raw(http.MethodPost, snapPrefix+"f0/beginGetAccess"+diskVersion, access); status != http.StatusConflict {
		t.Fatalf("reading a pending snapshot: %d %v", status, body)
	}
	copyBody := `{"location":"westeurope","properties":{"creationData":{"createOption":"Copy","sourceResourceId":"` + snapPrefix + `f0"}}}`
	if status, _, body := w.raw(http.MethodPut, diskPrefix+"copy"+diskVersion, copyBody); status != http.StatusConflict {
		t.Fatalf("copying a pending snapshot: %d %v", status, body)
	}
	manual.Advance(97 * time.Second) // f0 is complete, f1 and f2 are not
	if status, header, body := w.raw(http.MethodPost, snapPrefix+"f0/beginGetAccess"+diskVersion, access); status != http.StatusAccepted {
		t.Fatalf("reading a complete snapshot: %d %v %v", status, header, body)
	}
	if err := w.compute.ResizeDisk(fast, 32); err != nil {
		t.Fatal(err)
	}
	manual.Advance(time.Hour)
	_, _, broken := w.raw(http.MethodGet, snapPrefix+"f2"+diskVersion, "")
	if broken.Text("properties.provisioningState") != "Failed" || broken.Int("properties.completionPercent") == 100 {
		t.Fatalf("a pending snapshot survived the resize: %v", broken)
	}
	_, _, whole := w.raw(http.MethodGet, snapPrefix+"f0"+diskVersion, "")
	if whole.Int("properties.completionPercent") != 100 || whole.Text("properties.snapshotAccessState") != "Available" {
		t.Fatalf("a complete snapshot broke: %v", whole)
	}
}

// TestSnapshot_InstantAccess: the state says what may be done, and it is still not readable before completion.
func TestSnapshot_InstantAccess(t *testing.T) {
	manual := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, manual, ultraEstate())
	w.compute.SetCopyTime(time.Minute)
	body := `{"location":"westeurope","properties":{"incremental":true,"creationData":{"createOption":"Copy","instantAccessDurationMinutes":60,"sourceResourceId":"` + diskPrefix + `fast"}}}`
	w.putRaw(manual, snapPrefix+"i", body)
	for _, step := range []struct {
		advance time.Duration
		state   string
	}{{0, "InstantAccess"}, {2 * time.Minute, "AvailableWithInstantAccess"}, {time.Hour, "Available"}} {
		manual.Advance(step.advance)
		_, _, have := w.raw(http.MethodGet, snapPrefix+"i"+diskVersion, "")
		if have.Text("properties.snapshotAccessState") != step.state {
			t.Errorf("after %s: %s, want %s", step.advance, have.Text("properties.snapshotAccessState"), step.state)
		}
	}
}

// TestSnapshot_FourTiBLineBeginsANewFamily: growth below or above keeps the family, crossing does not.
func TestSnapshot_FourTiBLineBeginsANewFamily(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	family := func(name string) string {
		return *must(w.makeSnapshot(name, snapshotOf(dataDisk)))(t).Properties.IncrementalSnapshotFamilyID
	}
	var families []string
	for i, size := range []int64{64, 4096, 4097, 8192} {
		if i > 0 {
			if err := w.compute.ResizeDisk(dataDisk, size); err != nil {
				t.Fatal(err)
			}
		}
		families = append(families, family(fmt.Sprintf("s%d", i)))
	}
	if families[0] != families[1] || families[1] == families[2] || families[2] != families[3] {
		t.Fatalf("families %v", families)
	}
	if err := w.compute.ResizeDisk(dataDisk, 100); err == nil {
		t.Fatal("a disk was made smaller")
	}
	if err := w.compute.ResizeDisk(dataDisk, 32768); err == nil {
		t.Fatal("a disk grew beyond 32,767 GiB")
	}
}

// TestSnapshot_OfLiveDiskHoldsTheMomentOfAcceptance: what is written after the PUT was accepted, and before it ends, is not in it.
func TestSnapshot_HoldsTheMomentOfAcceptance(t *testing.T) {
	manual := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, manual, plainEstate())
	source := must(w.compute.DiskVolume(dataDisk))(t)
	must(w.volumes.WriteAt(source, []byte("then"), 0))(t)
	_, header, _ := w.raw(http.MethodPut, snapPrefix+"s"+diskVersion, snapshotBody(dataDisk, ""))
	must(w.volumes.WriteAt(source, []byte("late"), 0))(t)
	manual.Advance(time.Second)
	w.settled(header)
	held := make([]byte, 4)
	must(w.volumes.ReadAt(must(w.compute.DiskVolume(snapPrefix+"s"))(t), held, 0))(t)
	if string(held) != "then" {
		t.Fatalf("the snapshot holds %q", held)
	}
}
