package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/test/programtest"
)

const badEstate = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope}
  - {name: vault, subscription: production, location: westeurope}
  - {name: sealed, subscription: production, location: westeurope}
networks:
  - {name: shop-net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}
storageAccounts:
  - {name: shopvault, resourceGroup: shop, containers: [{name: backups}]}
virtualMachines:
  - {name: web-1, resourceGroup: shop, size: Standard_D2s_v5, zone: "1", os: Linux, subnet: shop-net/front, osDisk: {name: web-1-os, sizeGiB: 4, sku: Premium_LRS}}
  - {name: vault-1, resourceGroup: vault, size: Standard_D2s_v5, os: Linux, subnet: shop-net/front, osDisk: {name: vault-1-os, sizeGiB: 4, sku: Premium_LRS}}
  - {name: sealed-1, resourceGroup: sealed, size: Standard_D2s_v5, os: Linux, subnet: shop-net/front, osDisk: {name: sealed-1-os, sizeGiB: 4, sku: Premium_LRS}}
  - {name: ephemeral-1, resourceGroup: shop, size: Standard_D4s_v5, os: Linux, subnet: shop-net/front, osDisk: {name: ephemeral-1-os, sizeGiB: 4, sku: Standard_LRS, ephemeral: true}}
  - {name: deny-1, resourceGroup: shop, size: Standard_D2s_v5, os: Linux, subnet: shop-net/front, osDisk: {name: deny-1-os, sizeGiB: 4, sku: Premium_LRS, networkAccessPolicy: DenyAll}}
  - name: shared-1
    resourceGroup: shop
    size: Standard_D2s_v5
    os: Linux
    subnet: shop-net/front
    osDisk: {name: shared-1-os, sizeGiB: 4, sku: Premium_LRS}
    dataDisks: [{lun: 0, name: shared-1-data, sizeGiB: 256, sku: Premium_LRS, shared: true}]
  - name: ultra-1
    resourceGroup: shop
    size: Standard_D2s_v5
    zone: "1"
    os: Linux
    subnet: shop-net/front
    osDisk: {name: ultra-1-os, sizeGiB: 4, sku: Premium_LRS}
    dataDisks: [{lun: 0, name: ultra-1-data, sizeGiB: 4, sku: UltraSSD_LRS, logicalSectorBytes: 4096}]
locks:
  - {scope: vault, level: CanNotDelete}
  - {scope: sealed, level: ReadOnly}
quotas:
  - {location: westeurope, cores: 20}
`

func idIn(group, name string) string {
	return string(holdfast.NewResourceID(subscription, group, "Microsoft.Compute/virtualMachines", name))
}

// What cannot be backed up or restored is refused by name, before anything is made in the cloud or in the repository.
func TestBadInput_Cloud(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	w.initRepository()
	w.write("web-1-os", 1<<20, noise(1, 300<<10))
	point := w.backup("web-1").Point
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, noise(2, 5000), 0o600))
	imagePoint := w.object("image", "backup", "--repo", w.repo, "--name", "disk", image)["point"].(string)

	backup := func(want refusal, id string) {
		t.Helper()
		w.mustNotChange(func() { w.mustRefuse(want, "backup", "--repo", w.repo, "--vm", id) })
	}
	backup(refusal{3, "notFound", "", []string{"no virtual machine", "nobody", "vm list"}}, vmID("nobody"))
	backup(refusal{3, "notFound", "", []string{"no virtual machine", "vm list"}}, strings.Replace(vmID("web-1"), "shop", "nowhere", 1))
	backup(refusal{3, "notFound", "", []string{"no virtual machine", "vm list"}}, strings.Replace(vmID("web-1"), "1111-1111", "1111-2222", 1))
	backup(refusal{2, "invalid", "vm", []string{"web-1", "ARM id", "vm list"}}, "web-1")
	backup(refusal{2, "invalid", "vm", []string{"web-1-os", "not a virtual machine", "Microsoft.Compute/virtualMachines"}}, diskID("web-1-os"))
	backup(refusal{2, "invalid", "", []string{"ephemeral-1-os", "ephemeral", "managed"}}, vmID("ephemeral-1"))
	backup(refusal{5, "refused", "", []string{"deny-1-os", "DenyAll", "AllowAll"}}, vmID("deny-1"))
	backup(refusal{2, "invalid", "", []string{"shared-1-data", "shared", "maxShares"}}, vmID("shared-1"))
	backup(refusal{2, "invalid", "", []string{"ultra-1-data", "4096", "512"}}, vmID("ultra-1"))
	backup(refusal{5, "refused", "", []string{"lock", "CanNotDelete", "vault-1-os", "remove the lock"}}, idIn("vault", "vault-1"))
	backup(refusal{5, "refused", "", []string{"lock", "ReadOnly", "sealed-1-os", "remove the lock"}}, idIn("sealed", "sealed-1"))

	restore := func(want refusal, point string, more ...string) {
		t.Helper()
		args := append([]string{"restore", "vm", "--repo", w.repo, "--point", point}, more...)
		if !slices.Contains(more, "--name") {
			args = append(args, "--name", "new-1")
		}
		if !slices.Contains(more, "--resource-group") {
			args = append(args, "--resource-group", "shop")
		}
		w.mustNotChange(func() { w.mustRefuse(want, args...) })
	}
	subnet := string(holdfast.NewResourceID(subscription, "shop", "Microsoft.Network/virtualNetworks", "shop-net")) + "/subnets/nowhere"
	restore(refusal{5, "refused", "name", []string{"web-1", "exists", "--name"}}, point, "--name", "web-1")
	restore(refusal{2, "invalid", "name", []string{"web 1!", "letters"}}, point, "--name", "web 1!")
	restore(refusal{3, "notFound", "resource-group", []string{"no resource group nowhere", "create it"}}, point, "--resource-group", "nowhere")
	restore(refusal{2, "invalid", "resource-group", []string{"a/b", "resource group", "--help"}}, point, "--resource-group", "a/b")
	restore(refusal{2, "invalid", "resource-group", []string{"resource group", "/subscriptions/"}}, point, "--resource-group", "/subscriptions/x")
	restore(refusal{5, "refused", "resource-group", []string{"lock", "read-only", "remove the lock"}}, point, "--resource-group", "sealed")
	restore(refusal{3, "notFound", "size", []string{"Standard_Nope", "westeurope", "--size"}}, point, "--size", "Standard_Nope")
	restore(refusal{5, "refused", "size", []string{"quota", "20", "32", "--size"}}, point, "--size", "Standard_D32s_v5")
	restore(refusal{3, "notFound", "subnet", []string{"no subnet", "nowhere", "--subnet"}}, point, "--subnet", subnet)
	restore(refusal{2, "invalid", "subnet", []string{"shop-net/front", "/subnets/"}}, point, "--subnet", "shop-net/front")
	restore(refusal{3, "notFound", "point", []string{"no restore point", "19990101", "repo points"}}, "19990101")
	restore(refusal{2, "invalid", "point", []string{"beginning of 2", point, imagePoint}}, point[:6])
	restore(refusal{2, "invalid", "point", []string{imagePoint, "virtual machine", "repo export"}}, imagePoint)
}

// A wrong or unreachable Azure, and every mistake in the file after --azure, is told with the place of the mistake.
func TestBadInput_Azure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	w.initRepository()
	good, err := os.ReadFile(w.twin.Endpoints().AzureFile)
	must(t, err)
	change := func(pattern, by string) string {
		t.Helper()
		text := regexp.MustCompile(`(?m)`+pattern).ReplaceAllString(string(good), by)
		if text == string(good) {
			t.Fatalf("%s matches nothing", pattern)
		}
		file := filepath.Join(filepath.Dir(w.twin.Endpoints().AzureFile), fmt.Sprintf("azure-%x.yaml", sha256.Sum256([]byte(text)))) // beside ca.pem
		must(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	// These wait half a minute for an answer.
	deaf := "https://127.0.0.1:1"
	noEntra := w.begin("backup", "--repo", w.repo, "--vm", vmID("web-1"), "--json", "--azure", change(`^(  activeDirectory:).*`, "$1 "+deaf))
	noARM := w.begin("vm", "list", "--json", "--azure", change(`^(  resourceManager:).*`, "$1 "+deaf))
	secret := regexp.MustCompile(`clientSecret: *"?([^"\n]+)`).FindStringSubmatch(string(good))[1]
	for _, row := range []struct {
		file string
		want refusal
	}{
		{change(`^clientSecret:.*`, "clientSecret: wrong"), refusal{5, "refused", "", []string{"AADSTS7000215", "secret", "clientId", "--azure"}}},
		{change(`^clientId:.*`, "clientId: 99999999-9999-9999-9999-999999999999"), refusal{5, "refused", "", []string{"AADSTS700016", "clientId"}}},
		{change(`^tenantId:.*`, "tenantId: 99999999-9999-9999-9999-999999999999"), refusal{5, "refused", "", []string{"AADSTS90002", "tenantId"}}},
		{change(`^caFile:.*`, "caFile: nowhere.pem"), refusal{2, "invalid", "caFile", []string{"nowhere.pem", "caFile", ":10:"}}},
		{change(`^caFile:.*`, "caFile: ca.pem\ncolour: red"), refusal{2, "invalid", "colour", []string{"colour", "unknown", ":11:", "tenantId"}}},
		{change(`^clientSecret:.*`, ""), refusal{2, "invalid", "clientSecret", []string{"no credential", "managedIdentity"}}},
		{change(`^clientSecret: (.*)`, "clientSecret: $1\nmanagedIdentity: true"), refusal{2, "invalid", "managedIdentity", []string{"clientSecret", "managedIdentity", ":5:"}}},
		{change(`^(  resourceManager:) https`, "$1 http"), refusal{2, "invalid", "endpoints.resourceManager", []string{"https", ":6:"}}},
		{filepath.Join(t.TempDir(), "nowhere.yaml"), refusal{3, "notFound", "", []string{"nowhere.yaml", "azure.yaml"}}},
		{"", refusal{2, "invalid", "azure", []string{"--azure", "azure.yaml"}}},
	} {
		for _, args := range [][]string{{"vm", "list"}, {"backup", "--repo", w.repo, "--vm", vmID("web-1")}} {
			w.mustNotChange(func() { w.mustRefuseWith([]string{"HOLDFAST_AZURE=" + row.file}, row.want, args...) })
		}
		if a := w.runWith([]string{"HOLDFAST_AZURE=" + row.file, "HOLDFAST_LOG=debug"}, "vm", "list"); strings.Contains(a.errors, secret) {
			t.Errorf("the secret is shown: %s", a.errors)
		}
	}
	w.mustNotChange(func() {
		checkRefusal(t, <-noEntra, refusal{1, "unavailable", "", []string{"web-1", "activeDirectory", "network"}}, "backup without Entra")
		checkRefusal(t, <-noARM, refusal{1, "unavailable", "", []string{"list the virtual machines", "127.0.0.1:1"}}, "vm list without ARM")
	})
	for repo, words := range map[string][]string{
		"azblob://nowhere/backups/x":   {"nowhere", "account"},
		"azblob://shopvault/nowhere/x": {"nowhere", "container"},
	} {
		w.mustRefuse(refusal{3, "notFound", "", words}, "repo", "init", "--repo", repo)
	}
}

// A repository that cannot be opened, and an address that names none, is told as such; nothing is written.
func TestBadInput_Repository(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	w.initRepository()
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, noise(2, 300<<10), 0o600))
	point := w.object("image", "backup", "--repo", w.repo, "--name", "disk", image)["point"].(string)
	empty, foreign := filepath.Join(t.TempDir(), "empty"), t.TempDir()
	must(t, os.WriteFile(filepath.Join(foreign, "notes.txt"), []byte("mine"), 0o600))
	newer := newerRepository(t, w.repo)

	for _, args := range [][]string{{"repo", "info"}, {"repo", "points"}, {"repo", "verify", "--level", "2"}, {"repo", "rebuild-index"}, {"image", "backup", "--name", "disk", image}} {
		at := func(repo string) []string { return append(slices.Clone(args), "--repo", repo) }
		w.mustNotChange(func() {
			w.mustRefuseWith([]string{"HOLDFAST_REPO_PASSWORD=wrong"}, refusal{6, "wrongKey", "password-file", []string{"password", "--password-file", "HOLDFAST_REPO_PASSWORD"}}, at(w.repo)...)
			w.mustRefuseWith([]string{"HOLDFAST_REPO_PASSWORD="}, refusal{6, "wrongKey", "", []string{"no password", "--password-file", "HOLDFAST_REPO_PASSWORD"}}, at(w.repo)...)
		})
		w.mustRefuse(refusal{3, "notFound", "", []string{"no repository", "empty", "repo init"}}, at(empty)...)
		w.mustRefuse(refusal{3, "notFound", "", []string{"no repository", foreign}}, at(foreign)...)
		w.mustRefuse(refusal{2, "invalid", "", []string{"newer version", "format 1"}}, at(newer)...)
		w.mustRefuse(refusal{2, "invalid", "repo", []string{"s3://bucket", "azblob://"}}, at("s3://bucket")...)
	}
	for _, address := range []string{"azblob://", "azblob://account", "file://relative/folder", "file:///%zz"} {
		w.mustRefuse(refusal{2, "invalid", "repo", []string{address, "file:///FOLDER"}}, "repo", "points", "--repo", address)
	}
	w.mustNotChange(func() {
		w.mustRefuse(refusal{5, "conflict", "", []string{"a repository", "already", "empty folder"}}, "repo", "init", "--repo", w.repo)
	})
	w.mustRefuse(refusal{2, "invalid", "repo", []string{"not empty", "notes.txt"}}, "repo", "init", "--repo", foreign)
	w.mustRefuseWith([]string{"HOLDFAST_REPO_PASSWORD="}, refusal{2, "invalid", "password-file", []string{"--password-file", "--unencrypted"}}, "repo", "init", "--repo", empty)
	w.mustRefuse(refusal{2, "invalid", "password-file", []string{"nowhere", "first line"}}, "repo", "init", "--repo", empty, "--password-file", "nowhere")
	w.mustRefuse(refusal{2, "invalid", "chunk-size", []string{"chunk", "1000", "64 KiB"}}, "repo", "init", "--repo", empty, "--chunk-size", "1000")
	if left := files(t, empty); len(left) > 0 || len(files(t, foreign)) != 1 {
		t.Errorf("refused commands left %v", left)
	}

	export := func(want refusal, more ...string) {
		t.Helper()
		w.mustRefuse(want, append([]string{"repo", "export", "--repo", w.repo}, more...)...)
	}
	out := filepath.Join(t.TempDir(), "out.img")
	export(refusal{3, "notFound", "disk", []string{"no disk", "7", "os"}}, "--point", point, "--disk", "7", "--out", out)
	export(refusal{3, "notFound", "point", []string{"no restore point", "repo points"}}, "--point", "1999", "--disk", "os", "--out", out)
	export(refusal{2, "invalid", "format", []string{"qcow2", "raw", "vhd"}}, "--point", point, "--disk", "os", "--out", out, "--format", "qcow2")
	export(refusal{2, "invalid", "out", []string{"disk.img", "exists", "--force"}}, "--point", point, "--disk", "os", "--out", image)
	export(refusal{2, "invalid", "out", []string{"folder", "make"}}, "--point", point, "--disk", "os", "--out", filepath.Join(out, "deep.img"))
	if _, err := os.Stat(out); err == nil {
		t.Error("a refused export left its file")
	}

	backup := func(want refusal, name string, file ...string) {
		t.Helper()
		w.mustNotChange(func() {
			w.mustRefuse(want, append([]string{"image", "backup", "--repo", w.repo, "--name", name}, file...)...)
		})
	}
	hollow := filepath.Join(t.TempDir(), "hollow.img")
	must(t, os.WriteFile(hollow, nil, 0o600))
	backup(refusal{3, "notFound", "file", []string{"nowhere.img", "raw disk image"}}, "disk", "nowhere.img")
	backup(refusal{2, "invalid", "file", []string{"hollow.img", "empty"}}, "disk", hollow)
	backup(refusal{2, "invalid", "file", []string{"neither a file nor a block device"}}, "disk", t.TempDir())
	backup(refusal{2, "invalid", "file", []string{"neither a file nor a block device"}}, "disk", "/dev/zero")
	backup(refusal{2, "invalid", "name", []string{"a/../b", "letters"}}, "a/../b", image)
	backup(refusal{2, "invalid", "file", []string{"one image", "FILE"}}, "disk")
	backup(refusal{2, "invalid", "file", []string{"one image", "2"}}, "disk", image, image)
	backup(refusal{2, "invalid", "compression", []string{"zip", "better"}}, "disk", image, "--compression", "zip")
	backup(refusal{2, "invalid", "changes", []string{"--since"}}, "disk", image, "--changes", image)
	backup(refusal{3, "notFound", "point", []string{"1999", "repo points"}}, "disk", image, "--changes", image, "--since", "1999")
}

// newerRepository copies a repository and writes its first entry as a later version would: with format 2 and a sum that fits.
func newerRepository(t *testing.T, repo string) string {
	t.Helper()
	newer := filepath.Join(t.TempDir(), "newer")
	must(t, os.CopyFS(newer, os.DirFS(repo)))
	entry := filepath.Join(newer, "log", "00000000000000000000")
	content, err := os.ReadFile(entry)
	must(t, err)
	text, _, ok := strings.Cut(string(content), "sum ")
	if !ok || !strings.Contains(text, `"format":1`) {
		t.Fatalf("the first entry is %s", content)
	}
	text = strings.Replace(text, `"format":1`, `"format":2`, 1)
	must(t, os.Remove(entry))
	must(t, os.WriteFile(entry, fmt.Appendf(nil, "%ssum %x\n", text, sha256.Sum256([]byte(text))), 0o600))
	return newer
}

// One flipped bit in an object of any kind: verify names the object, and the points that it hurts, with exit 4; what is not hurt
// restores; nobody restores wrong bytes; and a backup fails where the log or the keys are hit, and works again elsewhere.
func TestBadInput_DamagedObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	w.initRepository()
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, noise(4, 300<<10), 0o600))
	w.do(nil, "image", "backup", "--repo", w.repo, "--name", "disk", image)
	sound := w.repo
	for _, kind := range []string{"log", "keys", "points", "lists", "tree", "data", "index"} {
		t.Run(kind, func(t *testing.T) {
			w := w.in(t)
			must(t, os.CopyFS(w.repo, os.DirFS(sound)))
			name, err := filepath.Rel(w.repo, flipOne(t, filepath.Join(w.repo, kind)))
			must(t, err)
			for _, variables := range [][]string{nil, {"HOLDFAST_REPO_PASSWORD="}} {
				a := w.runWith(variables, "repo", "verify", "--repo", w.repo, "--json")
				report := mustHave(t, "repo verify", oneValue(t, a), verifyFields)
				if a.code != 4 || report["ok"] != false || !strings.Contains(string(a.out), `"`+name+`"`) {
					t.Errorf("damage of %s: exit %d, %s", name, a.code, a.out)
				}
				if hurt := len(report["points"].([]any)); hurt == 0 && kind != "index" && kind != "log" {
					t.Errorf("damage of %s: no point is named: %s", name, a.out)
				}
			}
			out := filepath.Join(t.TempDir(), "out.img")
			export := w.run("repo", "export", "--repo", w.repo, "--point", "2", "--disk", "os", "--out", out, "--json")
			switch _, err := os.Stat(out); {
			case export.code == 0:
				programtest.MustBeEqual(t, out, image)
			case export.code != 4 && export.code != 3: // a point whose manifest is lost is not there
				t.Errorf("export of a damaged point: exit %d, %s", export.code, export.out)
			case err == nil:
				t.Error("a failed export left its file")
			}
			w.mustHeal(image, kind, name)
		})
	}
}

// mustHeal does what the report of verify says: it backs up again, which writes the lost parts anew, and the point restores.
func (w *world) mustHeal(image, kind, name string) {
	w.t.Helper()
	if kind == "log" || kind == "keys" {
		a := w.run("image", "backup", "--repo", w.repo, "--name", "disk", image, "--json")
		checkRefusal(w.t, a, refusal{4, "corrupt", "", []string{kind, "repo verify"}}, "backup with damage of "+kind)
		return
	}
	if kind == "data" || kind == "tree" {
		if people := w.run("repo", "verify", "--repo", w.repo); !strings.Contains(string(people.out), "The next backup of each machine") {
			w.t.Errorf("damage of %s: a person is not told what to do:\n%s", kind, people.out)
		}
	}
	point := w.object("image", "backup", "--repo", w.repo, "--name", "disk", image)["point"].(string)
	w.mustExport(point, "os", image)
}

// When the place of the repository is full or may not be written, a backup says so, leaves nothing in the cloud, harms nothing that
// is stored, and works again once there is room.
func TestBadInput_Place(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		needs(t, "only root can mount a small file system")
	}
	place := t.TempDir()
	if err := unix.Mount("tmpfs", place, "tmpfs", 0, "size=1m"); err != nil {
		needs(t, "no tmpfs can be mounted: "+err.Error())
	}
	t.Cleanup(func() { must(t, unix.Unmount(place, unix.MNT_DETACH)) })
	w := newWorld(t, badEstate)
	w.repo = filepath.Join(place, "repository")
	w.initRepository()
	cloud := w.resources()
	w.write("web-1-os", 0, noise(1, 3<<20))
	backup := []string{"backup", "--repo", w.repo, "--vm", vmID("web-1")}
	w.mustRefuse(refusal{1, "unavailable", "", []string{"no space left", "free space"}}, backup...)
	if after := w.resources(); !slices.Equal(cloud, after) {
		t.Errorf("a full disk left in the cloud:\n%s", difference(cloud, after))
	}
	w.do(nil, "repo", "verify", "--repo", w.repo)
	must(t, unix.Mount("tmpfs", place, "tmpfs", unix.MS_REMOUNT, "size=64m"))
	point := w.backup("web-1").Point
	w.mustExport(point, "os", w.snapshot("web-1-os"))

	must(t, unix.Mount("tmpfs", place, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	readOnly := refusal{5, "refused", "", []string{"read-only", "another folder"}}
	w.mustNotChange(func() {
		w.mustRefuse(readOnly, backup...)
		w.mustRefuse(readOnly, "repo", "rebuild-index", "--repo", w.repo)
		w.mustRefuse(readOnly, "repo", "init", "--repo", filepath.Join(place, "another"))
		w.mustRefuse(refusal{5, "refused", "out", []string{"read-only", "may write"}}, "repo", "export", "--repo", w.repo, "--point", point, "--disk", "os", "--out", filepath.Join(place, "out.img"))
		w.mustExport(point, "os", w.snapshot("web-1-os")) // reading goes on
		w.do(nil, "repo", "verify", "--repo", w.repo)
	})
}

// Mistakes in estate and fault files are told with file, line, column and field, and nothing is begun.
func TestBadInput_Files(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	write := func(name, text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
	}
	lines := strings.Split(strings.TrimPrefix(killEstate, "\n"), "\n")
	place := func(word string) string { // line and column of a word in the estate
		for i, line := range lines {
			if strings.Contains(line, word) {
				return fmt.Sprintf("estate.yaml:%d:", i+1)
			}
		}
		t.Fatalf("no %q", word)
		return ""
	}
	for _, row := range []struct{ old, new, field, word string }{
		{"sizeGiB: 8", "sizeGiB: eight", "virtualMachines[0].dataDisks[0].sizeGiB", "whole number"},
		{"sizeGiB: 4", "sizeGiB: 4, colour: red", "virtualMachines[0].osDisk.colour", "unknown"},
		{"subscription: production", "subscription: producton", "resourceGroups[0].subscription", "production"},
		{"subnet: shop-net/front", "subnet: shop-net/back", "virtualMachines[0].subnet", "shop-net/back"},
		{"sku: StandardSSD_LRS", "sku: Standard_SSD", "virtualMachines[0].dataDisks[0].sku", "Premium_LRS"},
		{"os: Linux", "os: Plan9", "virtualMachines[0].os", "Windows"},
		{"sku: Premium_LRS", "sku: Premium_LRS, image: nowhere.img", "virtualMachines[0].osDisk.image", "nowhere.img"},
		{"addressPrefix: 10.1.1.0/24", "addressPrefix: ten", "networks[0].subnets[0].addressPrefix", "ten"},
	} {
		text := strings.Join(lines, "\n")
		write("estate.yaml", strings.Replace(text, row.old, row.new, 1))
		w.mustRefuseFile(refusal{2, "invalid", row.field, []string{place(row.old), row.field, row.word}}, "twin", "serve", "--dir", "t", "--estate", "estate.yaml")
	}
	for _, row := range []struct{ text, field, word string }{
		{"rules:\n  - {on: arm, fault: throtle}\n", "rules[0].fault", "throttle"},
		{"rules:\n  - {on: mars, fault: cut}\n", "rules[0].on", "entra"},
		{"rules:\n  - {on: arm, fault: cut, when: now}\n", "rules[0].when", "unknown"},
		{"rules:\n  - {on: arm, fault: slow}\n", "rules[0].delayMs", "slow"},
		{"rules:\n  - {on: arm, fault: cut, probability: 7}\n", "rules[0].probability", "0 to 1"},
	} {
		write("faults.yaml", row.text)
		want := refusal{2, "invalid", row.field, []string{"faults.yaml:2:", row.field, row.word}}
		w.mustRefuseFile(want, "twin", "serve", "--dir", "t", "--faults", "faults.yaml")
		w.mustRefuseFile(want, "demo", "--once", "--dir", "d", "--faults", "faults.yaml")
	}
	for dir, address := range map[string]string{"a": "0.0.0.0:0", "b": "192.0.2.1:7"} {
		w.mustRefuseFile(refusal{2, "invalid", "arm", []string{address, "loopback", "127.0.0.1"}}, "twin", "serve", "--dir", dir, "--arm", address)
	}
}

// mustRefuseFile is mustRefuseAlone for a mistake whose message names what is accepted, so that there is no hint.
func (w *world) mustRefuseFile(want refusal, args ...string) {
	w.t.Helper()
	cmd := exec.Command(program, append(args, "--json")...)
	cmd.Dir = w.dir
	out, _ := cmd.Output() // the exit code is checked
	failure, _ := oneValue(w.t, answer{out: out}).(map[string]any)["error"].(map[string]any)
	message := fmt.Sprint(failure["message"], " ", failure["hint"])
	if cmd.ProcessState.ExitCode() != want.code || failure["kind"] != want.kind || failure["field"] != want.field {
		w.t.Errorf("holdfast %v: exit %d, %v; expected %+v", args, cmd.ProcessState.ExitCode(), failure, want)
	}
	for _, word := range want.words {
		if !strings.Contains(message, word) {
			w.t.Errorf("holdfast %v: %q does not mention %q", args, message, word)
		}
	}
}

// Mistakes on the command line name the word at fault and what there is instead.
func TestBadInput_CommandLine(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	for line, want := range map[string]refusal{
		"frob":                                   {2, "invalid", "", []string{"frob", "backup", "restore"}},
		"repo frob":                              {2, "invalid", "", []string{"frob", "points", "verify"}},
		"repo":                                   {2, "invalid", "", []string{"needs a command", "points"}},
		"restore":                                {2, "invalid", "", []string{"needs a command", "vm"}},
		"twin disk frob":                         {2, "invalid", "", []string{"frob", "read", "write"}},
		"backup --bogus":                         {2, "invalid", "bogus", []string{"--bogus", "--help"}},
		"backup extra --repo x --vm y":           {2, "invalid", "", []string{"extra", "--help"}},
		"backup --repo x":                        {2, "invalid", "vm", []string{"--vm", "missing", "--help"}},
		"backup --vm x":                          {2, "invalid", "repo", []string{"--repo", "azblob://"}},
		"restore vm --repo x --point y --name z": {2, "invalid", "resource-group", []string{"--resource-group", "--help"}},
		"repo export --repo x --point y --out z": {2, "invalid", "disk", []string{"--disk", "LUN"}},
		"repo verify --repo x --level 3":         {2, "invalid", "level", []string{"3", "--level 1"}},
		"repo verify --repo x --level many":      {2, "invalid", "level", []string{"many", "--help"}},
		"image backup --repo x disk.img":         {2, "invalid", "name", []string{"--name"}},
		"twin serve":                             {2, "invalid", "dir", []string{"--dir"}},
		"twin disk write --dir x --disk y --offset 1":   {2, "invalid", "file", []string{"--file"}},
		"twin disk write --dir x --disk y --offset one": {2, "invalid", "offset", []string{"one", "--help"}},
	} {
		w.mustRefuseAlone(want, strings.Fields(line)...)
	}
}
