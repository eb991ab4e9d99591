package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/test/programtest"
)

const roundsEstate = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope}
networks:
  - {name: shop-net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}
virtualMachines:
  - name: web-1
    resourceGroup: shop
    size: Standard_D4s_v5
    zone: "1"
    os: Linux
    subnet: shop-net/front
    osDisk: {name: web-1-os, sizeGiB: 64, sku: Premium_LRS}
    dataDisks: [{lun: 0, name: web-1-data, sizeGiB: 64, sku: StandardSSD_LRS}, {lun: 3, name: web-1-logs, sizeGiB: 64, sku: Standard_LRS}]
  - name: db-1
    resourceGroup: shop
    size: Standard_D4s_v5
    zone: "1"
    os: Linux
    subnet: shop-net/front
    osDisk: {name: db-1-os, sizeGiB: 64, sku: Premium_LRS}
    dataDisks:
      - {lun: 0, name: db-1-data, sizeGiB: 64, sku: PremiumV2_LRS, logicalSectorBytes: 512}
      - {lun: 1, name: db-1-wal, sizeGiB: 64, sku: UltraSSD_LRS, logicalSectorBytes: 512}
  - name: win-1
    resourceGroup: shop
    size: Standard_D2s_v5
    os: Windows
    subnet: shop-net/front
    osDisk: {name: win-1-os, sizeGiB: 64, sku: StandardSSD_LRS}
`

const chunkBytes = 128 << 10

type protected struct {
	vm    string
	disks map[string]string // LUN to disk
}

// kept is a point and what its disks held when it was made.
type kept struct {
	point string
	files map[string]string // LUN to file
	sizes map[string]int64
}

// Three machines with disks of 64 GiB, ten rounds of guest writes, a resize and a re-created disk among them: every point
// restores equal to what the disk held at that moment, an increment reads no more than the changed ranges rounded to
// chunks, and nothing is left in the cloud.
func TestBackup_TenRoundsOfThreeMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, roundsEstate)
	w.initRepository()
	machines := []protected{
		{"web-1", map[string]string{"os": "web-1-os", "0": "web-1-data", "3": "web-1-logs"}},
		{"db-1", map[string]string{"os": "db-1-os", "0": "db-1-data", "1": "db-1-wal"}},
		{"win-1", map[string]string{"os": "win-1-os"}},
	}
	rnd := rand.New(rand.NewPCG(20261122, 7))
	var points []kept
	var disks []string
	for round := range 10 {
		for _, m := range machines {
			full := map[string]string{} // LUN to the reason that is expected
			if round == 0 {
				for lun := range m.disks {
					full[lun] = "first"
					disks = append(disks, m.disks[lun])
				}
			}
			if round == 4 && m.vm == "web-1" {
				must(t, w.guests.Resize(t.Context(), diskID("web-1-data"), 96))
			}
			if round == 6 && m.vm == "web-1" {
				w.recreateDisk(t.Context(), "web-1", "web-1-logs", "Standard_LRS", 64)
				full["3"] = "family-changed"
			}
			changed := map[string]int64{}
			for lun, disk := range m.disks {
				changed[lun] = w.guestWrites(rnd, disk)
			}
			points = append(points, w.backUpAndKeep(m, changed, full))
		}
	}
	for _, k := range points {
		for lun, file := range k.files {
			w.mustExport(k.point, lun, file)
		}
	}
	w.mustNotLeak(disks...)
	w.restoreAndCompare(points[len(points)-3], "web-1", machines[0])
	w.restoreAndCompare(points[4], "db-1", machines[1])
	w.mustNotLeak(disks...)
	var report struct {
		OK bool `json:"ok"`
	}
	w.do(&report, "repo", "verify", "--repo", w.repo)
	if !report.OK {
		t.Error("the repository is damaged")
	}
}

// guestWrites writes a few places of a disk and returns how many bytes of chunks they touch.
func (w *world) guestWrites(rnd *rand.Rand, disk string) int64 {
	chunks := map[int64]bool{}
	for range 1 + rnd.IntN(4) {
		length := int64(512 * (1 + rnd.IntN(600)))
		offset := int64(512 * rnd.Int64N((8<<30)/512))
		content := make([]byte, length)
		for i := range content {
			content[i] = byte(rnd.Uint32() >> (rnd.IntN(2) * 6))
		}
		if rnd.IntN(6) == 0 {
			must(w.t, w.guests.Zero(w.t.Context(), diskID(disk), offset, length))
		} else {
			w.write(disk, offset, content)
		}
		for c := offset / chunkBytes; c*chunkBytes < offset+length; c++ {
			chunks[c] = true
		}
	}
	return int64(len(chunks)) * chunkBytes
}

// backUpAndKeep backs a machine up, checks what was said of it, and keeps what its disks held.
func (w *world) backUpAndKeep(m protected, changed map[string]int64, full map[string]string) kept {
	w.t.Helper()
	k := kept{files: map[string]string{}, sizes: map[string]int64{}}
	for lun, disk := range m.disks {
		k.files[lun] = w.snapshot(disk)
	}
	result := w.backup(m.vm)
	k.point = result.Point
	var read int64
	for _, d := range result.Disks {
		k.sizes[d.LUN] = d.SizeBytes
		read += d.ReadBytes
		if d.Full != (full[d.LUN] != "") || d.Reason != full[d.LUN] {
			w.t.Errorf("%s %s: full %v, reason %q; expected %q", m.vm, d.LUN, d.Full, d.Reason, full[d.LUN])
		}
		if !d.Full && d.ReadBytes > changed[d.LUN] {
			w.t.Errorf("%s %s: read %d bytes, %d bytes of chunks changed", m.vm, d.LUN, d.ReadBytes, changed[d.LUN])
		}
	}
	if read != result.ReadBytes || len(result.Disks) != len(m.disks) {
		w.t.Errorf("%s: %d disks, %d bytes read in all, %d by disk", m.vm, len(result.Disks), result.ReadBytes, read)
	}
	return k
}

// recreateDisk detaches a data disk, deletes it, makes a new one of the same name and attaches that, as an administrator would.
func (w *world) recreateDisk(ctx context.Context, vm, disk, sku string, sizeGiB int) {
	w.t.Helper()
	config, err := azureconfig.Read(w.twin.Endpoints().AzureFile)
	must(w.t, err)
	client, err := azure.New(config, azure.Options{})
	must(w.t, err)
	defer client.CloseIdleConnections()
	machine := holdfast.ResourceID(vmID(vm))
	before, err := client.Resource(ctx, machine)
	must(w.t, err)
	without, with := bodies(w.t, before.Document.Body, disk)
	must(w.t, client.Put(ctx, machine, without))
	must(w.t, client.Delete(ctx, holdfast.ResourceID(diskID(disk))))
	body := fmt.Sprintf(`{"location":"westeurope","zones":["1"],"sku":{"name":%q},"properties":{"creationData":{"createOption":"Empty"},"diskSizeGB":%d}}`, sku, sizeGiB)
	must(w.t, client.Put(ctx, holdfast.ResourceID(diskID(disk)), json.RawMessage(body)))
	must(w.t, client.Put(ctx, machine, with))
}

// bodies returns the machine's body without a data disk, and with it attached by id.
func bodies(t *testing.T, raw json.RawMessage, disk string) (without, with json.RawMessage) {
	t.Helper()
	var vm map[string]any
	must(t, json.Unmarshal(raw, &vm))
	for _, readOnly := range []string{"etag", "resources", "systemData"} {
		delete(vm, readOnly)
	}
	storage := vm["properties"].(map[string]any)["storageProfile"].(map[string]any)
	all := storage["dataDisks"].([]any)
	var rest []any
	for _, d := range all {
		if d.(map[string]any)["name"] != disk {
			rest = append(rest, d)
		}
	}
	storage["dataDisks"] = rest
	without, err := json.Marshal(vm)
	must(t, err)
	for _, d := range all {
		m := d.(map[string]any)
		m["createOption"] = "Attach"
	}
	storage["dataDisks"] = all
	with, err = json.Marshal(vm)
	must(t, err)
	return without, with
}

// restoreAndCompare restores a machine under a new name and compares its disks with what the point's disks held.
func (w *world) restoreAndCompare(k kept, vm string, m protected) {
	w.t.Helper()
	var result struct {
		VM    string `json:"vm"`
		Disks []struct {
			ID    string `json:"id"`
			LUN   string `json:"lun"`
			Bytes int64  `json:"bytes"`
			Equal bool   `json:"equal"`
		} `json:"disks"`
	}
	name := vm + "-restored"
	w.do(&result, "restore", "vm", "--repo", w.repo, "--point", k.point, "--name", name, "--resource-group", "shop")
	if len(result.Disks) != len(m.disks) {
		w.t.Fatalf("%d disks restored of %d", len(result.Disks), len(m.disks))
	}
	for _, d := range result.Disks {
		want := name + "-os"
		if d.LUN != "os" {
			want = name + "-lun" + d.LUN
		}
		if !d.Equal || holdfast.ResourceID(d.ID).Name() != want {
			w.t.Errorf("disk %s of %s: equal %v", d.ID, vm, d.Equal)
		}
		programtest.MustBeEqual(w.t, w.snapshot(want), k.files[d.LUN])
	}
	if !bytes.Contains(w.run("vm", "list").out, []byte(name)) {
		w.t.Errorf("%s is not among the machines", name)
	}
}
