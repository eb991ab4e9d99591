package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/test/programtest"
)

const contractEstate = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope, tags: {team: web}}
  - {name: spare, subscription: production, location: westeurope}
networks:
  - {name: shop-net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}, {name: back, addressPrefix: 10.1.2.0/24}]}
storageAccounts:
  - {name: shopvault, resourceGroup: shop, containers: [{name: backups}, {name: locked, versionImmutability: true}]}
virtualMachines:
  - name: web-1
    resourceGroup: shop
    size: Standard_D2s_v5
    zone: "1"
    os: Linux
    tags: {env: prod}
    subnet: shop-net/front
    osDisk: {name: web-1-os, sizeGiB: 4, sku: Premium_LRS}
    dataDisks: [{lun: 0, name: web-1-data, sizeGiB: 8, sku: StandardSSD_LRS, caching: ReadOnly}]
  - name: small-1
    resourceGroup: shop
    size: Standard_D2s_v5
    os: Windows
    subnet: shop-net/front
    osDisk: {name: small-1-os, sizeGiB: 4, sku: Standard_LRS}
`

// Every command of the contract does what scripts rely on: its flags, the shape of its JSON, its exit code, and its effect.
func TestContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contractEstate)
	for i, disk := range []string{"web-1-os", "web-1-data", "small-1-os"} {
		w.write(disk, int64(i)<<20, noise(uint64(i), 700<<10))
	}
	locked := w.begin("storage", "check", "--repo", "azblob://shopvault/locked/check", "--json") // it waits for locks to end
	t.Run("twin disk", func(t *testing.T) { contractTwinDisk(w.in(t)) })                         // writes to a disk whose changes others count
	t.Run("commands", func(t *testing.T) { contractCommands(w, t) })
	mustPassCheck(t, <-locked, "azblob://shopvault/locked/check")
}

// begin starts a command and returns at once.
func (w *world) begin(args ...string) <-chan answer {
	ended := make(chan answer, 1)
	go func() { ended <- w.run(args...) }()
	return ended
}

func contractCommands(w *world, t *testing.T) {
	for name, test := range map[string]func(*world){
		"vm list": contractInventory, "backup and points": contractBackup, "restore": contractRestore, "export": contractExport,
		"image backup": contractImage, "storage check": contractStorage, "places": contractPlaces, "verify": contractVerify,
		"flags": contractFlags,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(w.in(t))
		})
	}
}

// noise makes bytes that do not compress.
func noise(seed uint64, length int) []byte {
	content := make([]byte, length)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 7}).Read(content) // it never fails
	return content
}

func contractInventory(w *world) {
	t := w.t
	rows, _ := w.value("vm", "list").([]any)
	seen := map[any]map[string]any{}
	for _, row := range rows {
		vm := mustHave(t, "vm list", row, "id string name string resourceGroup string location string zone string size string os string powerState string tags object disks list")
		seen[vm["name"]] = vm
	}
	web := seen["web-1"]
	if web == nil || !holdfast.ResourceID(web["id"].(string)).Equal(holdfast.ResourceID(vmID("web-1"))) || web["zone"] != "1" || web["os"] != "Linux" || web["size"] != "Standard_D2s_v5" {
		t.Fatalf("web-1 is told as %v", web)
	}
	if tags := web["tags"].(map[string]any); tags["env"] != "prod" {
		t.Errorf("the tags of web-1 are %v", tags)
	}
	disks := listOf(t, web, "disks", 2)
	for i, want := range []string{"os web-1-os", "0 web-1-data"} {
		disk := mustHave(t, "a disk of vm list", disks[i], "lun string name string id string")
		if got := fmt.Sprint(disk["lun"], " ", disk["name"]); got != want {
			t.Errorf("disk %d is %q, not %q", i, got, want)
		}
	}
	if text := string(w.run("vm", "list").out); !strings.Contains(text, "web-1") || !strings.Contains(text, "NAME") || strings.Contains(text, "{") {
		t.Errorf("people read:\n%s", text)
	}
}

const (
	backupFields     = "point string vm string time string consistency string parent string readBytes number healedBytes number auditedBytes number storedBytes number disks list warnings list"
	backupDiskFields = "lun string name string sizeBytes number root string readBytes number full bool reason string snapshotSku string baseSnapshot string newBytes number duplicateBytes number healedBytes number auditedBytes number"
)

func contractBackup(w *world) {
	t := w.t
	w.initRepository()
	disk := "web-1-data"
	var points []map[string]any
	for round, id := range []string{vmID("web-1"), strings.ToLower(vmID("web-1")), strings.ToUpper(vmID("web-1"))} {
		before := storedBytes(t, w.repo)
		if round > 0 { // 3 bytes over the border of two chunks
			w.write(disk, int64(100*round)<<20+chunkBytes-2, []byte("new"))
		}
		result := mustHave(t, "backup", w.value("backup", "--repo", w.repo, "--vm", id), backupFields)
		if parent := result["parent"]; round == 0 && parent != "" || round > 0 && parent != points[round-1]["point"] {
			t.Errorf("round %d: the parent is %v", round, parent)
		}
		points = append(points, result)
		if !strings.EqualFold(result["vm"].(string), vmID("web-1")) {
			t.Errorf("%s was backed up as %s", id, result["vm"])
		}
		if grown := storedBytes(t, w.repo) - before; result["storedBytes"] != float64(grown) {
			t.Errorf("round %d: storedBytes is %v, the store grew by %d", round, result["storedBytes"], grown)
		}
		var read float64
		for i, d := range listOf(t, result, "disks", 2) {
			d := mustHave(t, "a disk of backup", d, backupDiskFields)
			read += d["readBytes"].(float64)
			if int64(d["readBytes"].(float64))%chunkBytes != 0 || d["full"] != (round == 0) || d["reason"] != map[bool]string{true: "first"}[round == 0] || d["snapshotSku"] != "Standard_ZRS" || (d["baseSnapshot"] == "") != (round == 0) {
				t.Errorf("round %d, disk %d: %v", round, i, d)
			}
		}
		if read != result["readBytes"] || round > 0 && read != 2*chunkBytes {
			t.Errorf("round %d: %v bytes read in all, %v by disk", round, result["readBytes"], read)
		}
	}
	mustListPoints(w, points)
	if text := string(w.run("backup", "--repo", w.repo, "--vm", vmID("web-1"), "--full").out); !strings.Contains(text, "full: requested") || !strings.Contains(text, "Restore point") {
		t.Errorf("people read:\n%s", text)
	}
}

// mustListPoints holds what `repo points` lists against what the backups said, oldest first.
func mustListPoints(w *world, backups []map[string]any) {
	t := w.t
	t.Helper()
	listed, _ := w.value("repo", "points", "--repo", w.repo).([]any)
	if len(listed) != len(backups) {
		t.Fatalf("%d points are listed after %d backups", len(listed), len(backups))
	}
	for i, row := range listed {
		point := mustHave(t, "repo points", row, "id string vm string name string time string kind string consistency string storedBytes number disks list …")
		if point["id"] != backups[i]["point"] || point["vm"] != backups[i]["vm"] || point["time"] != backups[i]["time"] || point["kind"] != "backup" {
			t.Errorf("point %d is listed as %v, the backup said %v", i, point, backups[i])
		}
		disks := listOf(t, point, "disks", 2)
		for j, told := range listOf(t, backups[i], "disks", 2) {
			disk := mustHave(t, "a disk of repo points", disks[j], "lun string name string sizeBytes number root string readBytes number full bool reason string snapshotSku string …")
			for _, field := range []string{"lun", "name", "sizeBytes", "root", "readBytes", "full", "reason", "snapshotSku"} {
				if disk[field] != told.(map[string]any)[field] {
					t.Errorf("point %d, disk %d: %s is listed as %v, the backup said %v", i, j, field, disk[field], told.(map[string]any)[field])
				}
			}
		}
	}
	for _, vm := range []string{"WEB-1", strings.ToUpper(vmID("web-1"))} {
		if some, _ := w.value("repo", "points", "--repo", w.repo, "--vm", vm).([]any); len(some) != len(backups) {
			t.Errorf("%d points are listed of %s", len(some), vm)
		}
	}
	if none, ok := w.value("repo", "points", "--repo", w.repo, "--vm", "nobody").([]any); !ok || len(none) != 0 {
		t.Errorf("points of nobody are %v", none)
	}
}

func contractRestore(w *world) {
	t := w.t
	w.initRepository()
	point := w.backup("small-1").Point
	want := w.snapshot("small-1-os")
	spare := "/subscriptions/" + subscription + "/resourceGroups/spare"
	back := string(holdfast.NewResourceID(subscription, "shop", "Microsoft.Network/virtualNetworks", "shop-net")) + "/subnets/back"
	for name, more := range map[string][]string{
		"by-name":  {"--resource-group", "spare"},
		"by-id":    {"--resource-group", spare},
		"upper":    {"--resource-group", strings.ToUpper(spare), "--subnet", strings.ToUpper(back), "--size", "STANDARD_D4S_V5"},
		"elsewhat": {"--resource-group", "Shop", "--subnet", back, "--size", "Standard_D4s_v5"},
	} {
		result := mustHave(t, "restore", w.value(append([]string{"restore", "vm", "--repo", w.repo, "--point", point, "--name", name}, more...)...), "vm string disks list notes list")
		group := map[bool]string{true: "shop", false: "spare"}[name == "elsewhat"]
		id := holdfast.NewResourceID(subscription, group, "Microsoft.Compute/virtualMachines", name)
		if !id.Equal(holdfast.ResourceID(result["vm"].(string))) {
			t.Errorf("%s is %s", name, result["vm"])
		}
		disk := mustHave(t, "a disk of restore", listOf(t, result, "disks", 1)[0], "id string lun string bytes number equal bool")
		if !id.Sibling("Microsoft.Compute/disks", name+"-os").Equal(holdfast.ResourceID(disk["id"].(string))) || disk["lun"] != "os" || disk["equal"] != true || disk["bytes"] == 0.0 {
			t.Errorf("the disk of %s is %v", name, disk)
		}
		got := filepath.Join(t.TempDir(), "got.img")
		_, err := w.guests.ReadFile(t.Context(), disk["id"].(string), got)
		must(t, err)
		programtest.MustBeEqual(t, got, want)
		subnet, size := "front", "Standard_D2s_v5"
		if len(more) > 2 {
			subnet, size = "back", "Standard_D4s_v5"
		}
		w.mustStand(id, subnet, size)
	}
	dry := w.object("restore", "vm", "--repo", w.repo, "--point", point, "--name", "dry", "--resource-group", "spare", "--dry-run")
	if w.run("vm", "list"); len(listOf(t, dry, "disks", 1)) != 1 || strings.Contains(string(w.run("vm", "list").out), "dry") {
		t.Error("a dry run made a machine, or planned none")
	}
}

// mustStand checks the size of a machine and the subnet of its interface, and that its address is its own.
func (w *world) mustStand(id holdfast.ResourceID, subnet, size string) {
	w.t.Helper()
	client := w.client()
	vm, err := client.Resource(w.t.Context(), id)
	must(w.t, err)
	if !strings.Contains(strings.ToLower(string(vm.Document.Body)), `"vmsize":"`+strings.ToLower(size)+`"`) {
		w.t.Errorf("%s does not have the size %s", id.Name(), size)
	}
	nic, err := client.Resource(w.t.Context(), id.Sibling("Microsoft.Network/networkInterfaces", id.Name()+"-nic"))
	must(w.t, err)
	source, err := client.Resource(w.t.Context(), holdfast.NewResourceID(subscription, "shop", "Microsoft.Network/networkInterfaces", "small-1-nic"))
	must(w.t, err)
	gotSubnet, address := addressOf(w.t, nic.Document.Body)
	if _, taken := addressOf(w.t, source.Document.Body); !strings.HasSuffix(strings.ToLower(gotSubnet), "/"+subnet) || address == taken || address == "" {
		w.t.Errorf("%s is in %s at %q; expected %s, and not %s", id.Name(), gotSubnet, address, subnet, taken)
	}
}

func addressOf(t *testing.T, nic json.RawMessage) (subnet, address string) {
	t.Helper()
	var body struct {
		Properties struct {
			IPConfigurations []struct {
				Properties struct {
					PrivateIPAddress string              `json:"privateIPAddress"`
					Subnet           struct{ ID string } `json:"subnet"`
				} `json:"properties"`
			} `json:"ipConfigurations"`
		} `json:"properties"`
	}
	must(t, json.Unmarshal(nic, &body))
	if len(body.Properties.IPConfigurations) != 1 {
		t.Fatalf("the interface has %d addresses", len(body.Properties.IPConfigurations))
	}
	p := body.Properties.IPConfigurations[0].Properties
	return p.Subnet.ID, p.PrivateIPAddress
}

const exportFields = "point string disk string file string format string sizeBytes number writtenBytes number root string"

func contractExport(w *world) {
	t := w.t
	w.initRepository()
	backup := w.backup("web-1")
	for _, d := range backup.Disks {
		raw, fixed := filepath.Join(t.TempDir(), "disk.img"), filepath.Join(t.TempDir(), "disk.vhd")
		result := mustHave(t, "repo export", w.value("repo", "export", "--repo", w.repo, "--point", backup.Point, "--disk", strings.ToUpper(d.LUN), "--out", raw), exportFields)
		if result["sizeBytes"] != float64(d.SizeBytes) || result["root"] != d.Root || result["disk"] != d.LUN || result["format"] != "raw" {
			t.Errorf("disk %s was exported as %v", d.LUN, result)
		}
		programtest.MustBeEqual(t, raw, w.snapshot(map[string]string{"os": "web-1-os", "0": "web-1-data"}[d.LUN]))
		mustBeSparse(t, raw, d.SizeBytes)
		mustHave(t, "repo export", w.value("repo", "export", "--repo", w.repo, "--point", backup.Point[:len(backup.Point)-2], "--disk", d.LUN, "--out", fixed, "--format", "vhd"), exportFields)
		mustBeSparse(t, fixed, d.SizeBytes+512)
		mustBeReadByQEMU(t, fixed, raw)
	}
}

// mustBeSparse checks that a file has exactly that size and takes far less room.
func mustBeSparse(t *testing.T, file string, size int64) {
	t.Helper()
	info, err := os.Stat(file)
	must(t, err)
	taken := info.Sys().(*syscall.Stat_t).Blocks * 512
	if info.Size() != size || taken > size/100+4<<20 {
		t.Errorf("%s has %d bytes and takes %d; expected %d, sparse", filepath.Base(file), info.Size(), taken, size)
	}
}

// mustBeReadByQEMU lets qemu-img compare a fixed VHD with a raw file, and convert it.
func mustBeReadByQEMU(t *testing.T, fixed, raw string) {
	t.Helper()
	tool(t, "qemu-img")
	converted := filepath.Join(t.TempDir(), "converted.img")
	for _, args := range [][]string{
		{"compare", "-f", "vpc", "-F", "raw", fixed, raw},
		{"convert", "-f", "vpc", "-O", "raw", fixed, converted},
	} {
		if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
			t.Errorf("qemu-img %v: %v\n%s", args, err, out)
			return
		}
	}
	programtest.MustBeEqual(t, converted, raw)
}

// An image may have any size, be sparse, shrink and grow. A second backup stores only what changed.
func contractImage(w *world) {
	t := w.t
	w.initRepository()
	file := filepath.Join(t.TempDir(), "router.img")
	resize := func(size int64) func(*os.File) error { return func(f *os.File) error { return f.Truncate(size) } }
	write := func(offset int64, content []byte) func(*os.File) error {
		return func(f *os.File) error {
			_, err := f.WriteAt(content, offset)
			return err
		}
	}
	size := int64(40*chunkBytes + 777) // neither whole chunks nor whole sectors
	for _, step := range []struct {
		what      string
		change    func(*os.File) error
		newChunks float64
	}{
		{"first", write(size-1, []byte{1}), 1},
		{"filled", write(3, noise(1, 20*chunkBytes)), 21},
		{"nothing changed", resize(size), 0},
		{"a byte changed", write(5*chunkBytes+9, []byte("x")), 1},
		{"shrunk within a chunk", resize(10*chunkBytes + 1), 1},
		{"grown", resize(1<<30 + 3), 1}, // the rest of the last chunk is zeros now
		{"written at the end", write(1<<30, []byte("end")), 1},
	} {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		must(t, step.change(f))
		must(t, f.Close())
		before := storedBytes(t, w.repo)
		result := mustHave(t, "image backup", w.value("image", "backup", "--repo", w.repo, "--name", "router", file), backupFields)
		disk := mustHave(t, "the disk of image backup", listOf(t, result, "disks", 1)[0], backupDiskFields)
		info, err := os.Stat(file)
		must(t, err)
		if result["vm"] != "image:router" || disk["lun"] != "os" || disk["sizeBytes"] != float64(info.Size()) {
			t.Errorf("%s: %v", step.what, result)
		}
		if fresh := disk["newBytes"].(float64); fresh > step.newChunks*chunkBytes || (fresh == 0) != (step.newChunks == 0) {
			t.Errorf("%s: %v new bytes, %v chunks changed", step.what, fresh, step.newChunks)
		}
		if grown := storedBytes(t, w.repo) - before; result["storedBytes"] != float64(grown) || float64(grown) > step.newChunks*chunkBytes+16<<10 {
			t.Errorf("%s: %d bytes stored for %v chunks, told as %v", step.what, grown, step.newChunks, result["storedBytes"])
		}
		out := filepath.Join(t.TempDir(), "out.img")
		w.do(nil, "repo", "export", "--repo", w.repo, "--point", result["point"].(string), "--disk", "os", "--out", out)
		programtest.MustBeEqual(t, out, file)
	}
	fixed := filepath.Join(t.TempDir(), "odd.vhd")
	points, _ := w.value("repo", "points", "--repo", w.repo, "--vm", "router").([]any)
	first := points[0].(map[string]any)["id"].(string)
	w.do(nil, "repo", "export", "--repo", w.repo, "--point", first, "--disk", "os", "--out", fixed, "--format", "vhd")
	if info, err := os.Stat(fixed); err != nil || info.Size() != (size+511)/512*512+512 {
		t.Errorf("the VHD of %d bytes is not rounded up to sectors: %v %v", size, info, err)
	}
}

func contractStorage(w *world) {
	t := w.t
	for _, repo := range []string{filepath.Join(t.TempDir(), "store"), "azblob://shopvault/backups/check"} {
		mustPassCheck(t, w.run("storage", "check", "--repo", repo, "--json"), repo)
		if left := files(t, repo); len(left) > 0 {
			t.Errorf("the check left %v", left)
		}
		if entries, err := os.ReadDir(repo); err == nil && len(entries) > 0 {
			t.Errorf("the check left the folder %v", entries)
		}
	}
}

func mustPassCheck(t *testing.T, a answer, repo string) {
	t.Helper()
	result := mustHave(t, "storage check", oneValue(t, a), "ok bool url string checks list")
	if a.code != 0 || result["ok"] != true {
		t.Errorf("%s: exit %d, %v", repo, a.code, result)
	}
	outcomes := map[any]any{}
	for _, c := range listOf(t, result, "checks", 10) {
		check := mustHave(t, "a check", c, "name string rule string outcome string …")
		outcomes[check["name"]] = check["outcome"]
	}
	lock := map[bool]string{true: "passed", false: "skipped"}[strings.Contains(repo, "locked")]
	for name, want := range map[string]string{"exists": "passed", "race": "passed", "clean-up": "passed", "lock-at-birth": lock} {
		if outcomes[name] != want {
			t.Errorf("%s: %s is %v, not %s", repo, name, outcomes[name], want)
		}
	}
}

// A repository can lie in all the places that the contract names, under all the names they have.
func contractPlaces(w *world) {
	t := w.t
	folder := filepath.Join(t.TempDir(), "a folder")
	file := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(file, noise(3, 300<<10), 0o600))
	for _, place := range []struct{ repo, same string }{
		{"file://" + strings.ReplaceAll(folder, " ", "%20"), folder},
		{"azblob://shopvault/backups/deep/er", "azblob://shopvault/backups/deep/er/"},
		{"azblob://shopvault/locked/safe", "azblob://shopvault/locked/safe"},
	} {
		info := mustHave(t, "repo init", w.value("repo", "init", "--repo", place.repo), infoFields)
		point := w.object("image", "backup", "--repo", place.same, "--name", "disk", file)["point"].(string)
		again := mustHave(t, "repo info", w.value("repo", "info", "--repo", place.same), infoFields)
		if again["id"] != info["id"] || again["points"] != 1.0 || again["vms"] != 1.0 || info["points"] != 0.0 {
			t.Errorf("%s: made as %v, found as %v", place.repo, info, again)
		}
		w.mustExport(point, "os", file, place.repo)
		if report := w.object("repo", "verify", "--repo", place.repo); report["ok"] != true || report["level"] != 2.0 {
			t.Errorf("%s: %v", place.repo, report)
		}
	}
}

const (
	infoFields   = "id string url string format number encrypted bool chunkSize number frameSize number fanOut number owner string vms number points number storedBytes number indexRuns number logEntries number …"
	verifyFields = "ok bool level number objects list points list vms list checkedObjects number checkedBytes number orphanObjects number shadowedObjects list healed list proof object"
)

func contractVerify(w *world) {
	t := w.t
	w.initRepository()
	point := w.backup("small-1").Point
	report := mustHave(t, "repo verify", w.value("repo", "verify", "--repo", w.repo), verifyFields)
	if report["ok"] != true || report["level"] != 2.0 || len(report["objects"].([]any)) != 0 {
		t.Errorf("a sound repository is %v", report)
	}
	if a := w.runWith([]string{"HOLDFAST_REPO_PASSWORD="}, "repo", "verify", "--repo", w.repo, "--json"); a.code != 0 || mustHave(t, "repo verify", oneValue(t, a), verifyFields)["level"] != 1.0 {
		t.Errorf("without a password: exit %d, %s", a.code, a.out)
	}
	rebuilt := mustHave(t, "repo rebuild-index", w.value("repo", "rebuild-index", "--repo", w.repo), "packs number entries number runs number dropped number damaged list")
	if rebuilt["packs"] == 0.0 || rebuilt["entries"] == 0.0 {
		t.Errorf("the index was rebuilt as %v", rebuilt)
	}
	w.mustExport(point, "os", w.snapshot("small-1-os"))

	damaged := flipOne(t, filepath.Join(w.repo, "data"))
	a := w.run("repo", "verify", "--repo", w.repo, "--json")
	report = mustHave(t, "repo verify", oneValue(t, a), verifyFields)
	found := false
	for _, o := range listOf(t, report, "objects", 1) {
		object := mustHave(t, "an object of repo verify", o, "name string problem string")
		found = found || strings.HasSuffix(damaged, object["name"].(string))
	}
	points, vms := listOf(t, report, "points", 1), listOf(t, report, "vms", 1)
	if a.code != 4 || report["ok"] != false || !found || points[0] != point || !strings.EqualFold(vms[0].(string), vmID("small-1")) {
		t.Errorf("damage of %s: exit %d, %s", damaged, a.code, a.out)
	}
	if people := w.run("repo", "verify", "--repo", w.repo); people.code != 4 || !strings.Contains(string(people.out), "damaged") || !strings.Contains(string(people.out), point) {
		t.Errorf("damage is told as: exit %d\n%s", people.code, people.out)
	}
}

// flipOne flips one bit in the middle of the first file below a folder and returns the file's name.
func flipOne(t *testing.T, folder string) string {
	t.Helper()
	all := files(t, folder)
	if len(all) == 0 {
		t.Fatalf("there is nothing in %s", folder)
	}
	name := all[0][:strings.LastIndexByte(all[0], ' ')]
	content, err := os.ReadFile(name)
	must(t, err)
	content[len(content)/2] ^= 4
	must(t, os.Remove(name))
	must(t, os.WriteFile(name, content, 0o600))
	return name
}

// Every command on a repository takes --azure and --password-file in place of the environment, and they outrank it.
func contractFlags(w *world) {
	t := w.t
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte(password+"\r\nsecond line\n"), 0o600))
	azureFile := w.twin.Endpoints().AzureFile
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, noise(9, 4096), 0o600))
	repo := "azblob://shopvault/backups/flags"
	for _, environment := range [][]string{{"HOLDFAST_AZURE=", "HOLDFAST_REPO_PASSWORD="}, {"HOLDFAST_AZURE=/nowhere", "HOLDFAST_REPO_PASSWORD=wrong"}} {
		with := func(args ...string) {
			t.Helper()
			args = append(args, "--repo", repo, "--azure", azureFile, "--password-file", secret, "--json")
			if a := w.runWith(environment, args...); a.code != 0 {
				t.Errorf("holdfast %v with %v: exit %d\n%s\n%s", args, environment, a.code, a.out, a.errors)
			}
		}
		if environment[0] == "HOLDFAST_AZURE=" {
			with("repo", "init")
		}
		with("image", "backup", "--name", "disk", image)
		for _, verb := range []string{"info", "points", "verify", "rebuild-index"} {
			with("repo", verb)
		}
		with("backup", "--vm", vmID("small-1"))
	}
	if a := w.run("--version"); a.code != 0 || !bytes.HasPrefix(a.out, []byte("holdfast version ")) {
		t.Errorf("--version: exit %d, %s", a.code, a.out)
	}
	for _, command := range []string{
		"", "demo", "backup", "restore vm", "repo init", "repo info", "repo points", "repo verify", "repo rebuild-index", "repo export", "image backup", "storage check", "vm list",
		"twin serve", "twin disk write", "twin disk read", "twin resources",
	} {
		a := w.run(append(strings.Fields(command), "--help")...)
		if a.code != 0 || !bytes.Contains(a.out, []byte("Usage:")) || a.errors != "" {
			t.Errorf("help of %q: exit %d\n%s%s", command, a.code, a.out, a.errors)
		}
		if command != "" && !bytes.Contains(a.out, []byte("Examples:")) {
			t.Errorf("the help of %q shows no example", command)
		}
	}
}

func contractTwinDisk(w *world) {
	t := w.t
	dir := filepath.Join(w.dir, "twin")
	block := filepath.Join(t.TempDir(), "block")
	must(t, os.WriteFile(block, noise(5, 5000), 0o600))
	mustHave(t, "twin disk write", w.value("twin", "disk", "write", "--dir", dir, "--disk", strings.ToUpper(diskID("web-1-os")), "--offset", "12345678", "--file", block), "disk string offset number bytes number")
	out := filepath.Join(t.TempDir(), "disk.img")
	read := mustHave(t, "twin disk read", w.value("twin", "disk", "read", "--dir", dir, "--disk", diskID("web-1-os"), "--out", out), "disk string file string sizeBytes number")
	mustBeSparse(t, out, 4<<30)
	f, err := os.Open(out)
	must(t, err)
	defer f.Close()
	got := make([]byte, 5000)
	_, err = f.ReadAt(got, 12345678)
	must(t, err)
	if !bytes.Equal(got, noise(5, 5000)) || read["sizeBytes"] != float64(4<<30) {
		t.Errorf("what was written is not read: %v", read)
	}
	rows, _ := w.value("twin", "resources", "--dir", dir).([]any)
	found := false
	for _, row := range rows {
		resource := mustHave(t, "twin resources", row, "id string type string tags object sku string location string activeSas number")
		found = found || holdfast.ResourceID(resource["id"].(string)).Equal(holdfast.ResourceID(diskID("web-1-os"))) && resource["sku"] == "Premium_LRS" && resource["location"] == "westeurope"
	}
	if !found {
		t.Error("the disk is not among the resources")
	}
}

// A twin says "ready" on standard output when it serves, keeps its ports and its state in DIR, takes the same estate again and
// no other, and ends with 0 when it is asked to.
func TestContract_TwinServe(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	estate, other, dir := filepath.Join(work, "estate.yaml"), filepath.Join(work, "other.yaml"), filepath.Join(work, "twin")
	must(t, os.WriteFile(estate, []byte(killEstate), 0o600))
	must(t, os.WriteFile(other, []byte(contractEstate), 0o600))
	var files [2][]byte
	for i, args := range [][]string{{"--estate", estate}, {"--estate", estate, "--json"}} {
		s := serve(t, append([]string{"--dir", dir}, args...)...)
		if i == 1 {
			mustHave(t, "twin serve", oneValue(t, answer{out: []byte(s.first)}), "ready bool azureFile string")
		} else if s.first != "ready\n" {
			t.Errorf("the twin began with %q", s.first)
		}
		var err error
		files[i], err = os.ReadFile(filepath.Join(dir, "azure.yaml"))
		must(t, err)
		if out, err := exec.Command(program, "vm", "list", "--azure", filepath.Join(dir, "azure.yaml")).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("web-1")) {
			t.Errorf("round %d: %v\n%s", i, err, out)
		}
		s.end(syscall.SIGTERM)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Errorf("azure.yaml changed:\n%s\n%s", files[0], files[1])
	}
	w := &world{t: t, dir: work}
	w.mustRefuseAlone(refusal{code: 5, kind: "conflict", field: "estate", words: []string{"another estate", "--dir"}}, "twin", "serve", "--dir", dir, "--estate", other)
	s := serve(t, "--dir", dir)
	w.mustRefuseAlone(refusal{code: 5, kind: "conflict", words: []string{"another twin", "--dir"}}, "twin", "serve", "--dir", dir)
	s.end(os.Interrupt)
	w.mustRefuseAlone(refusal{code: 1, kind: "unavailable", words: []string{"no twin", "twin serve"}}, "twin", "resources", "--dir", dir)
}

// mustRefuseAlone is mustRefuse for a command that needs no running twin of the test's own.
func (w *world) mustRefuseAlone(want refusal, args ...string) {
	w.t.Helper()
	cmd := exec.Command(program, append(args, "--json")...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &out, &errs
	_ = cmd.Run() // the exit code is checked
	checkRefusal(w.t, answer{code: cmd.ProcessState.ExitCode(), out: out.Bytes(), errors: errs.String()}, want, strings.Join(args, " "))
}

// served is a running `twin serve`.
type served struct {
	t     *testing.T
	cmd   *exec.Cmd
	first string // its first line
	ended chan error
}

func serve(t *testing.T, args ...string) *served {
	t.Helper()
	s := &served{t: t, cmd: exec.Command(program, append([]string{"twin", "serve"}, args...)...), ended: make(chan error, 1)}
	out, err := s.cmd.StdoutPipe()
	must(t, err)
	s.cmd.Stderr = os.Stderr
	if !testing.Verbose() {
		s.cmd.Stderr = nil
	}
	must(t, s.cmd.Start())
	lines := make(chan string, 1)
	go func() {
		buffer := make([]byte, 4096)
		n, _ := out.Read(buffer) // what is missing shows in the line
		lines <- string(buffer[:n])
		s.ended <- s.cmd.Wait()
	}()
	t.Cleanup(func() { _ = s.cmd.Process.Kill() }) // it has ended, unless the test failed
	eventually(t, "the first line of the twin", func() bool {
		select {
		case s.first = <-lines:
			return true
		default:
			return false
		}
	})
	return s
}

// end asks the twin to end, which it does with 0.
func (s *served) end(signal os.Signal) {
	s.t.Helper()
	must(s.t, s.cmd.Process.Signal(signal))
	if err := <-s.ended; err != nil {
		s.t.Errorf("after %v the twin ended with %v", signal, err)
	}
}

const demoFields = "ok bool backups list restore object verify object cloud object savedBytes number storedBytes number diskBytes number tookSeconds number restoredPoint string week object"

// The demo tells a true story, in JSON for machines; with a twin that misbehaves in every way, too.
func TestContract_Demo(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]string{"well": "", "with faults": demoFaults} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, dir: t.TempDir()}
			args := []string{"demo", "--once", "--json", "--dir", filepath.Join(w.dir, "demo")}
			if faults != "" {
				must(t, os.WriteFile(filepath.Join(w.dir, "faults.yaml"), []byte(faults), 0o600))
				args = append(args, "--faults", "faults.yaml")
			}
			var out, errs bytes.Buffer
			cmd := exec.CommandContext(t.Context(), program, args...)
			cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &out, &errs
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out.String(), errs.String())
			}
			report := mustHave(t, "demo", oneValue(t, answer{out: out.Bytes(), errors: errs.String()}), demoFields)
			restored := mustHave(t, "restore of demo", report["restore"], "vm string disks list notes list attempts number comparedBytes number equal bool tookSeconds number")
			cloud := mustHave(t, "cloud of demo", report["cloud"], "snapshots number activeSas number expectedSnapshots number")
			if report["ok"] != true || restored["equal"] != true || restored["comparedBytes"] == 0.0 || cloud["activeSas"] != 0.0 || cloud["snapshots"] != cloud["expectedSnapshots"] {
				t.Errorf("the demo says %s", out.String())
			}
			for i, b := range listOf(t, report, "backups", 6) {
				backup := mustHave(t, "a backup of demo", b, backupFields+" round string attempts number tookSeconds number")
				if again := i >= 3; backup["round"] != map[bool]string{true: "again", false: "first"}[again] {
					t.Errorf("backup %d is of round %v", i, backup["round"])
				}
			}
			if !strings.Contains(errs.String(), "Restoring web-1") {
				t.Errorf("people are not told what goes on: %s", errs.String())
			}
		})
	}
}

// demoFaults lets every kind of fault happen, some after the work was done, with waits that a test can afford.
const demoFaults = `
seed: 7
rules:
  - {on: entra, calls: [1], fault: throttle, retryAfterMs: 20}
  - {on: arm, path: "*/snapshots/*", method: PUT, calls: [2], fault: throttle, retryAfterMs: 20, afterEffect: true}
  - {on: arm, path: "*/snapshots/*", method: PUT, calls: [5], fault: fail-operation}
  - {on: arm, path: "*/disks/*", method: PUT, calls: [1], fault: lost, afterEffect: true}
  - {on: arm, path: "*/snapshots/*", method: DELETE, calls: [1], fault: throttle, retryAfterMs: 20, afterEffect: true}
  - {on: arm, method: GET, probability: 0.02, fault: throttle, retryAfterMs: 20}
  - {on: arm, path: "*/snapshots", method: GET, probability: 0.5, fault: stale-list, delayMs: 1000}
  - {on: disk, calls: [7], fault: cut}
  - {on: disk, calls: [11], fault: revoke}
  - {on: disk, probability: 0.05, fault: slow, delayMs: 20}
  - {on: disk, method: PUT, calls: [3], fault: throttle, retryAfterMs: 20, afterEffect: true}
`

// On a terminal there are bars, and the command ends: a bar that waits for a total which never comes would hold it up for good.
func TestContract_Terminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contractEstate)
	w.initRepository()
	w.write("web-1-data", 1<<20, noise(1, 3<<20))
	out := filepath.Join(t.TempDir(), "disk.img")
	for _, step := range []struct {
		args []string
		see  []string
	}{
		{[]string{"backup", "--vm", vmID("web-1")}, []string{"web-1-data", "100 %", "8.0 GiB", "Restore point"}},
		{[]string{"repo", "export", "--point", "2", "--disk", "0", "--out", out}, []string{"export", "MiB", "root"}},
		{[]string{"repo", "verify"}, []string{"verify", "sound"}},
		{[]string{"restore", "vm", "--point", "2", "--name", "web-9", "--resource-group", "spare"}, []string{"web-9-lun0 write", "web-9-lun0 prove", "equal"}},
		{[]string{"repo", "export", "--point", "2", "--disk", "0", "--out", out}, []string{"Error", "--force"}},
	} {
		text, code := w.onTerminal(append(step.args, "--repo", w.repo)...)
		for _, word := range step.see {
			if !strings.Contains(text, word) {
				t.Errorf("%v: a person does not see %q:\n%s", step.args, word, text)
			}
		}
		if (code != 0) != (step.see[0] == "Error") {
			t.Errorf("%v: exit %d\n%s", step.args, code, text)
		}
	}
	if text, code := w.onTerminal("demo", "--once"); code != 0 || !strings.Contains(text, "All is well") {
		t.Errorf("the demo: exit %d\n%s", code, text)
	}
}

// onTerminal runs a command whose standard error is a terminal and returns what a person saw.
func (w *world) onTerminal(args ...string) (string, int) {
	w.t.Helper()
	control, screen := openTerminal(w.t)
	ctx, cancel := context.WithTimeout(w.t.Context(), terminalPatience)
	defer cancel()
	made := w.command(args...)
	cmd := exec.CommandContext(ctx, made.Path, made.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = made.Dir, made.Env, screen, screen
	must(w.t, cmd.Start())
	must(w.t, screen.Close())
	var seen bytes.Buffer
	_, _ = seen.ReadFrom(control) // ends with an error when the last process has closed the terminal
	_ = cmd.Wait()                // the exit code is returned
	if ctx.Err() != nil {
		w.t.Errorf("holdfast %v did not end", args)
	}
	return seen.String(), cmd.ProcessState.ExitCode()
}
