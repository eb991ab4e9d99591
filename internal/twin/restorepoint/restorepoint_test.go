package restorepoint_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
)

// countedBy runs a guest that counts: each number goes to the log disk first and to the table disk after it. It stops
// when the test ends, or when the returned function is called.
func (w *world) countedBy(machine string) (stop func()) {
	volumes := []string{disks + machine + "-log", disks + machine + "-table"}
	ended, quit := sync.WaitGroup{}, make(chan struct{})
	ended.Go(func() {
		for counter := uint64(1); ; counter++ {
			select {
			case <-quit:
				return
			default:
			}
			for _, disk := range volumes {
				id, err := w.compute.DiskVolume(disk)
				if err == nil {
					_, err = w.volumes.WriteAt(id, binary.BigEndian.AppendUint64(nil, counter), 0)
				}
				if err != nil {
					w.t.Error(err)
					return
				}
			}
		}
	})
	return sync.OnceFunc(func() { close(quit); ended.Wait() })
}

// counters reads what a point holds of the counter on its two data disks.
func (w *world) counters(collection, point string) (log, table uint64) {
	w.t.Helper()
	found := must(w.points.Get(w.t.Context(), group, collection, point, nil))(w.t)
	var read [2]uint64
	for i, name := range diskNames(found.RestorePoint)[1:] {
		id := must(w.compute.DiskVolume(*found.ID + "/diskRestorePoints/" + name))(w.t)
		p := make([]byte, 8)
		must(w.volumes.ReadAt(id, p, 0))(w.t)
		read[i] = binary.BigEndian.Uint64(p)
	}
	return read[0], read[1]
}

// TestCrashConsistentPoint_IsOneInstantOfTheGuest proves that a point holds a state through which the guest's disks went.
// The same guest on machines for which the platform guarantees nothing (a disk with read-write caching, a size with Azure
// Boost) gets points that it never was in, which shows that the test can tell.
func TestCrashConsistentPoint_IsOneInstantOfTheGuest(t *testing.T) {
	w := newWorld(t, clock.System{},
		machine("whole", "Standard_D4s_v5", "Premium_LRS", "ReadOnly"), machine("cached", "Standard_D4s_v5", "Premium_LRS", "ReadWrite"),
		machine("boost", "Standard_D4s_v6", "Premium_LRS", "None"), machine("amd", "Standard_D4as_v5", "Premium_LRS", "None"))
	w.provide.SetRate(false)
	torn := func(name string, attempts int) (torn int) {
		w.collect(name)
		stop := w.countedBy(name)
		defer stop()
		for i := range attempts {
			point := fmt.Sprintf("p%d", i)
			must(w.point(name, point, crash()))(t)
			if log, table := w.counters(name, point); log < table || log > table+1 {
				torn++
			}
		}
		return torn
	}
	for _, name := range []string{"whole", "amd"} {
		if n := torn(name, 25); n > 0 {
			t.Errorf("%s: %d of 25 points hold what the guest never wrote", name, n)
		}
	}
	for _, name := range []string{"cached", "boost"} {
		if n := torn(name, 25); n == 0 {
			t.Errorf("%s: all 25 points are consistent although nothing is guaranteed", name)
		}
	}
}

// TestPoint_RefusesWhatThePlatformRefuses has a row for each rule of the support matrix.
func TestPoint_RefusesWhatThePlatformRefuses(t *testing.T) {
	shared := machine("shared", "Standard_D4s_v5", "Premium_LRS", "None")
	shared.DataDisks[0].Shared = true
	ephemeral := machine("ephemeral", "Standard_D4s_v5", "Premium_LRS", "None")
	ephemeral.OSDisk = estate.Disk{Name: "ephemeral-os", SizeGiB: 4, SKU: "Standard_LRS", Ephemeral: true}
	ultra := machine("ultra", "Standard_D4s_v5", "Premium_LRS", "None")
	ultra.DataDisks[1] = estate.Disk{LUN: 1, Name: "ultra-table", SizeGiB: 4, SKU: "PremiumV2_LRS", Caching: "None"}
	plain := machine("plain", "Standard_D4_v5", "Standard_LRS", "None")
	plain.OSDisk.SKU = "Standard_LRS"
	w := newWorld(t, clock.System{}, machine("web", "Standard_D4s_v5", "Premium_LRS", "None"), plain, shared, ephemeral, ultra)
	for _, name := range []string{"web", "plain", "shared", "ephemeral", "ultra"} {
		w.collect(name)
	}
	mode := func(m armcompute.ConsistencyModeTypes) armcompute.RestorePoint {
		return armcompute.RestorePoint{Properties: &armcompute.RestorePointProperties{ConsistencyMode: to.Ptr(m)}}
	}
	for name, row := range map[string]struct {
		collection string
		point      armcompute.RestorePoint
		code       string // "" for success
	}{
		"crash":                               {"web", crash(), ""},
		"crash without premium storage":       {"plain", crash(), "OperationNotAllowed"},
		"application without premium":         {"plain", application(), ""},
		"shared":                              {"shared", crash(), "OperationNotAllowed"},
		"shared, application":                 {"shared", application(), "OperationNotAllowed"},
		"shared, excluded":                    {"shared", crash("shared-log"), ""},
		"ephemeral":                           {"ephemeral", crash(), "OperationNotAllowed"},
		"Premium SSD v2, crash":               {"ultra", crash(), "OperationNotAllowed"},
		"Premium SSD v2, excluded":            {"ultra", crash("ultra-table"), ""},
		"Premium SSD v2, application":         {"ultra", application(), ""},
		"excluding another machine's disk":    {"web", crash("plain-os"), "InvalidParameter"},
		"excluding all":                       {"web", crash("web-os", "web-log", "web-table"), "InvalidParameter"},
		"application consistency by name":     {"web", mode(armcompute.ConsistencyModeTypesApplicationConsistent), "InvalidParameter"},
		"consistency of filesystems by name":  {"web", mode(armcompute.ConsistencyModeTypesFileSystemConsistent), "InvalidParameter"},
		"an unknown mode":                     {"web", mode("Perfect"), "InvalidParameter"},
		"a copy of a point of another region": {"web", armcompute.RestorePoint{Properties: &armcompute.RestorePointProperties{SourceRestorePoint: &armcompute.APIEntityReference{ID: to.Ptr("x")}}}, "InvalidParameter"},
		"instant access":                      {"web", armcompute.RestorePoint{Properties: &armcompute.RestorePointProperties{InstantAccessDurationMinutes: to.Ptr[int32](60)}}, "InvalidParameter"},
		"a collection that is not there":      {"none", crash(), "ParentResourceNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			point, err := w.point(row.collection, "p-"+fmt.Sprint(len(name)), row.point)
			if row.code != "" {
				wantCode(t, err, row.code)
				return
			}
			if err != nil || len(diskNames(point)) != 3-len(row.point.Properties.ExcludeDisks) {
				t.Errorf("%v, %+v", err, point.Properties)
			}
		})
	}
}

// TestCollection_FollowsItsMachine has the rules of collections.
func TestCollection_FollowsItsMachine(t *testing.T) {
	w := newWorld(t, clock.System{}, machine("web", "Standard_D4s_v5", "Premium_LRS", "None"), machine("db", "Standard_D4s_v5", "Premium_LRS", "None"))
	elsewhere := collectionOf(machines + "web")
	elsewhere.Location = to.Ptr("northeurope")
	for code, body := range map[string]armcompute.RestorePointCollection{
		"InvalidParameter": elsewhere, "ResourceNotFound": collectionOf(machines + "none"),
	} {
		_, err := w.collections.CreateOrUpdate(t.Context(), group, "c", body, nil)
		wantCode(t, err, code)
	}
	_, err := w.collections.CreateOrUpdate(t.Context(), group, "c", collectionOf(disks+"web-os"), nil)
	wantCode(t, err, "InvalidParameter")

	w.collect("web")
	_, err = w.collections.CreateOrUpdate(t.Context(), group, "web", collectionOf(machines+"db"), nil)
	wantCode(t, err, "PropertyChangeNotAllowed")
	must(w.point("web", "first", crash()))(t)
	if _, err := w.point("web", "first", crash()); err == nil {
		t.Error("a point was made twice")
	} else {
		wantCode(t, err, "OperationNotAllowed")
	}
	expanded := must(w.collections.Get(t.Context(), group, "web", &armcompute.RestorePointCollectionsClientGetOptions{Expand: to.Ptr(armcompute.RestorePointCollectionExpandOptionsRestorePoints)}))(t)
	plain := must(w.collections.Get(t.Context(), group, "web", nil))(t)
	if len(expanded.Properties.RestorePoints) != 1 || plain.Properties.RestorePoints != nil || *plain.Tags["owner"] != "us" || *plain.Properties.Source.ID != machines+"web" {
		t.Errorf("%+v, %+v", expanded.Properties, plain.Properties)
	}
	listed := must(w.collections.NewListPager(group, nil).NextPage(t.Context()))(t)
	if len(listed.Value) != 1 {
		t.Errorf("%d collections are listed", len(listed.Value))
	}
	_, err = w.diskPoints.NewListByRestorePointPager(group, "web", "none", nil).NextPage(t.Context())
	wantCode(t, err, "ParentResourceNotFound")
}

// TestApplicationConsistency_IsWhatTheGuestGives: the mode of the point is the guest's, a stopped machine is refused at
// once, and an agent that does not answer fails the creation and leaves a failed point.
func TestApplicationConsistency_IsWhatTheGuestGives(t *testing.T) {
	w := newWorld(t, clock.System{}, machine("web", "Standard_D4s_v5", "Premium_LRS", "None"))
	w.collect("web")
	for i, mode := range []armcompute.ConsistencyModeTypes{armcompute.ConsistencyModeTypesFileSystemConsistent, armcompute.ConsistencyModeTypesApplicationConsistent} {
		w.quiesced = mode
		if point := must(w.point("web", fmt.Sprint("p", i), application()))(t); *point.Properties.ConsistencyMode != mode {
			t.Errorf("%s, want %s", *point.Properties.ConsistencyMode, mode)
		}
	}
	w.refusal = arm.Errorf(http.StatusConflict, "VMAgentStatusCommunicationError", "no agent")
	_, err := w.point("web", "refused", application())
	wantCode(t, err, "VMAgentStatusCommunicationError")
	failed := must(w.points.Get(t.Context(), group, "web", "refused", nil))(t)
	if *failed.Properties.ProvisioningState != "Failed" || failed.Properties.ConsistencyMode != nil {
		t.Errorf("%+v", failed.Properties)
	}
	must(w.point("web", "crash", crash()))(t) // the machine is free again, and crash consistency needs no agent

	poller, err := w.machines.BeginDeallocate(t.Context(), group, "web", nil)
	must(finish(t, poller, err))(t)
	_, err = w.point("web", "stopped", application())
	wantCode(t, err, "OperationNotAllowed")
	must(w.point("web", "stopped", crash()))(t)
}

// TestLimits: three points an hour and mode, one at a time, and a machine that is being changed is left alone.
func TestLimits(t *testing.T) {
	manual := clock.NewManual(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, manual, machine("web", "Standard_D4s_v5", "Premium_LRS", "None"))
	w.collect("web")
	begin := func(name string, point armcompute.RestorePoint) error {
		_, err := w.points.BeginCreate(t.Context(), group, "web", name, point, nil)
		return err
	}
	if err := begin("a", crash()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, begin("b", crash()), "OperationNotAllowed") // one at a time
	manual.Advance(time.Second)
	for _, name := range []string{"b", "c"} {
		if err := begin(name, crash()); err != nil {
			t.Fatal(err)
		}
		manual.Advance(time.Second)
	}
	wantCode(t, begin("d", crash()), "TooManyRequests")
	if err := begin("d", application()); err != nil { // the other mode has a limit of its own
		t.Fatal(err)
	}
	manual.Advance(time.Hour)
	if err := begin("e", crash()); err != nil {
		t.Fatal(err)
	}
	manual.Advance(time.Hour)
	if _, err := w.machines.BeginDeallocate(t.Context(), group, "web", nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, begin("f", crash()), "OperationNotAllowed")
}

// TestDiskRestorePoint_IsReadAndCompared: a SAS opens the content of that moment; two points of one disk can be compared,
// two disks cannot; a SAS keeps its point, and the collection, from being deleted.
func TestDiskRestorePoint_IsReadAndCompared(t *testing.T) {
	w := newWorld(t, clock.System{}, machine("web", "Standard_D4s_v5", "Premium_LRS", "None"))
	w.collect("web")
	first, second := bytes.Repeat([]byte("1"), 4096), bytes.Repeat([]byte("2"), 4096)
	w.write("web-log", first, 0)
	older := diskNames(must(w.point("web", "older", crash()))(t))
	w.write("web-log", second, 1<<20)
	newer := diskNames(must(w.point("web", "newer", crash()))(t))
	open := func(point, disk string) (string, *pageblob.Client) {
		sas := must(w.grant("web", point, disk))(t)
		return sas, must(pageblob.NewClientWithNoCredential(sas, nil))(t)
	}
	oldURL, old := open("older", older[1])
	_, now := open("newer", newer[1])
	otherURL, _ := open("older", older[2])
	for at, want := range map[int64][]byte{0: first, 1 << 20: make([]byte, 4096)} {
		p := make([]byte, 4096)
		if _, err := old.DownloadBuffer(t.Context(), p, &blob.DownloadBufferOptions{Range: blob.HTTPRange{Offset: at, Count: 4096}}); err != nil || !bytes.Equal(p, want) {
			t.Errorf("at %d: %v, or other bytes", at, err)
		}
	}
	diff := func(base string) ([]*pageblob.PageRange, error) {
		page, err := now.NewGetPageRangesDiffPager(&pageblob.GetPageRangesDiffOptions{PrevSnapshotURL: &base}).NextPage(t.Context())
		return page.PageRange, err
	}
	changed, err := diff(oldURL)
	if err != nil || len(changed) != 1 || *changed[0].Start != 1<<20 || *changed[0].End != 1<<20+4095 {
		t.Errorf("%v, %v", changed, err)
	}
	if _, err := diff(otherURL); err == nil {
		t.Error("two disks were compared")
	}

	remove := func(name string) error {
		poller, err := w.points.BeginDelete(t.Context(), group, "web", name, nil)
		_, err = finish(t, poller, err)
		return err
	}
	wantCode(t, remove("older"), "DiskRestorePointUsedByCustomer")
	poller, err := w.collections.BeginDelete(t.Context(), group, "web", nil)
	_, err = finish(t, poller, err)
	wantCode(t, err, "DiskRestorePointUsedByCustomer")
	for point, disk := range map[string][]string{"older": {older[1], older[2]}, "newer": {newer[1]}} {
		for _, name := range disk {
			ended, err := w.diskPoints.BeginRevokeAccess(t.Context(), group, "web", point, name, nil)
			must(finish(t, ended, err))(t)
		}
	}
	if err := remove("older"); err != nil {
		t.Fatal(err)
	}
	before := len(w.volumes.List())
	gone, err := w.collections.BeginDelete(t.Context(), group, "web", nil)
	must(finish(t, gone, err))(t)
	if after := len(w.volumes.List()); after != before-3 {
		t.Errorf("%d volumes are left of %d", after, before)
	}
}

// TestRestore makes a disk of a disk restore point: by Restore alone, with its content.
func TestRestore_MakesADisk(t *testing.T) {
	w := newWorld(t, clock.System{}, machine("web", "Standard_D4s_v5", "Premium_LRS", "None"))
	w.collect("web")
	w.write("web-table", []byte("the table"), 512)
	names := diskNames(must(w.point("web", "p", crash()))(t))
	w.write("web-table", []byte("scrambled"), 512)
	source := machines[:len(machines)-len("virtualMachines/")] + "restorePointCollections/web/restorePoints/p/diskRestorePoints/" + names[2]
	restore := func(option armcompute.DiskCreateOption) error {
		poller, err := w.disks.BeginCreateOrUpdate(t.Context(), group, "again", armcompute.Disk{
			Location: to.Ptr("westeurope"), SKU: &armcompute.DiskSKU{Name: to.Ptr(armcompute.DiskStorageAccountTypesPremiumLRS)},
			Properties: &armcompute.DiskProperties{CreationData: &armcompute.CreationData{CreateOption: &option, SourceResourceID: &source}},
		}, nil)
		_, err = finish(t, poller, err)
		return err
	}
	wantCode(t, restore(armcompute.DiskCreateOptionCopy), "InvalidParameter")
	if err := restore(armcompute.DiskCreateOptionRestore); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 9)
	must(w.volumes.ReadAt(must(w.compute.DiskVolume(disks+"again"))(t), p, 512))(t)
	if string(p) != "the table" {
		t.Errorf("%q", p)
	}
}

// TestPoints_SurviveARestart: points and their volumes are there again, and no stray volume is left or lost.
func TestPoints_SurviveARestart(t *testing.T) {
	w := newWorld(t, clock.System{}, machine("web", "Standard_D4s_v5", "Premium_LRS", "None"))
	w.collect("web")
	must(w.point("web", "p", crash()))(t)
	before := w.volumes.List()
	w.close()
	w.open()
	if after := w.volumes.List(); !slices.Equal(before, after) {
		t.Errorf("%v, before %v", after, before)
	}
	if point := must(w.points.Get(t.Context(), group, "web", "p", nil))(t); len(diskNames(point.RestorePoint)) != 3 {
		t.Errorf("%+v", point.Properties)
	}
}
