package estate_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
)

// contract is the example of the contract, with the additions of its last section.
const contract = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope, tags: {team: web}}
networks:
  - {name: shop-net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}
storageAccounts:
  - {name: shopvault, resourceGroup: shop, containers: [{name: backups}, {name: locked, versionImmutability: true}]}
virtualMachines:
  - name: web-1
    resourceGroup: shop
    size: Standard_D4s_v5
    zone: "1"
    os: Linux                      # or Windows
    tags: {env: prod}
    subnet: shop-net/front
    osDisk: {name: web-1-os, sizeGiB: 32, sku: Premium_LRS, image: web.img}
    dataDisks: [{lun: 0, name: web-1-data, sizeGiB: 1024, sku: StandardSSD_LRS, caching: ReadOnly}]
locks:
  - {scope: shop/web-1, level: CanNotDelete}
quotas: [{location: westeurope, cores: 10}]
`

func parse(t *testing.T, text string) (estate.Estate, error) {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "web.img"), []byte("raw"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "estate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return estate.Read(file)
}

func TestRead_TheContractsExample(t *testing.T) {
	e, err := parse(t, contract)
	if err != nil {
		t.Fatal(err)
	}
	vm := e.VirtualMachines[0]
	if vm.Zone != "1" || vm.OSDisk.Image != "web.img" || vm.OSDisk.Caching != "None" || vm.OSDisk.NetworkAccessPolicy != "AllowAll" ||
		vm.DataDisks[0].SizeGiB != 1024 || vm.DataDisks[0].Caching != "ReadOnly" || e.ResourceGroups[0].Tags["team"] != "web" {
		t.Fatalf("got %+v", e)
	}
	if !e.StorageAccounts[0].Containers[1].VersionImmutability || e.Locks[0].Level != "CanNotDelete" || e.Quotas[0].Cores != 10 {
		t.Fatalf("got %+v", e)
	}
	group, found := e.Group("SHOP")
	if !found || e.SubscriptionID(group) != "11111111-1111-1111-1111-111111111111" {
		t.Fatalf("group %+v of subscription %q", group, e.SubscriptionID(group))
	}
	if _, subnet, found := e.SubnetOf("Shop-Net/Front"); !found || subnet.AddressPrefix != "10.1.1.0/24" {
		t.Fatalf("subnet %+v", subnet)
	}
}

func TestRead_FillsInTheDocumentedDefaults(t *testing.T) {
	e, err := parse(t, `
subscriptions: [{id: 11111111-1111-1111-1111-111111111111, name: production}]
resourceGroups: [{name: shop, subscription: 11111111-1111-1111-1111-111111111111, location: westeurope}]
virtualMachines:
  - {name: a, resourceGroup: shop, size: Standard_B1ms, os: Linux, osDisk: {name: a-os, sizeGiB: 1}}
  - {name: b, resourceGroup: shop, size: Standard_B1ms, os: Linux, osDisk: {name: b-os, sizeGiB: 1}}
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Networks) != 1 || e.Networks[0].Name != "shop-vnet" || e.VirtualMachines[0].Subnet != "shop-vnet/default" || e.VirtualMachines[1].Subnet != "shop-vnet/default" {
		t.Fatalf("networks %+v", e.Networks)
	}
	if disk := e.VirtualMachines[0].OSDisk; disk.SKU != "Standard_LRS" || disk.Caching != "None" || disk.NetworkAccessPolicy != "AllowAll" {
		t.Fatalf("disk %+v", disk)
	}
}

func TestRead_AcceptsEveryDeclarableProperty(t *testing.T) {
	for _, disk := range []string{
		"{lun: 63, name: d, sizeGiB: 65536, sku: UltraSSD_LRS, logicalSectorBytes: 512}",
		"{lun: 1, name: d, sizeGiB: 4, sku: PremiumV2_LRS, logicalSectorBytes: 4096}",
		"{lun: 1, name: d, sizeGiB: 32767, sku: Premium_ZRS, shared: true, caching: None}",
		"{lun: 1, name: d, sizeGiB: 4, sku: Standard_LRS, networkAccessPolicy: DenyAll, image: web.img}",
	} {
		if _, err := parse(t, strings.Replace(contract, "{lun: 0, name: web-1-data, sizeGiB: 1024, sku: StandardSSD_LRS, caching: ReadOnly}", disk, 1)); err != nil {
			t.Errorf("%s: %v", disk, err)
		}
	}
	if _, err := parse(t, strings.Replace(contract, "sku: Premium_LRS, image: web.img", "ephemeral: true, caching: ReadOnly", 1)); err != nil {
		t.Errorf("ephemeral OS disk: %v", err)
	}
}

func TestRead_RefusesAndNamesPlaceAndField(t *testing.T) {
	const data = "{lun: 0, name: web-1-data, sizeGiB: 1024, sku: StandardSSD_LRS, caching: ReadOnly}"
	for _, c := range []struct{ old, new, place, field, says string }{
		{"name: production}", "name: production, owner: me}", ":3:", "subscriptions[0].owner", "unknown field"},
		{"{id: 11111111-1111-1111-1111-111111111111", "{id: 1111", ":3:6:", "subscriptions[0].id", "a GUID"},
		{"subscription: production", "subscription: test", ":5:", "resourceGroups[0].subscription", "accepted: production"},
		{"location: westeurope, tags", "location: West Europe, tags", ":5:", "resourceGroups[0].location", "westeurope"},
		{"resourceGroup: shop, addressPrefix", "resourceGroup: shed, addressPrefix", ":7:", "networks[0].resourceGroup", "accepted: shop"},
		{"10.1.0.0/16", "10.1.0.1/16", ":7:", "networks[0].addressPrefix", "IPv4 prefix"},
		{"10.1.1.0/24", "10.2.1.0/24", ":7:", "networks[0].subnets[0].addressPrefix", "inside 10.1.0.0/16"},
		{"name: shopvault", "name: Shop-Vault", ":9:", "storageAccounts[0].name", "lower-case"},
		{"{name: backups}", "{name: locked}", ":9:", "storageAccounts[0].containers[1].name", "already"},
		{"name: web-1\n", "name: web_1\n", ":11:", "virtualMachines[0].name", "letters"},
		{"    resourceGroup: shop\n", "    resourceGroup: hop\n", ":12:", "virtualMachines[0].resourceGroup", "accepted: shop"},
		{"size: Standard_D4s_v5", "size: large", ":13:", "virtualMachines[0].size", "Standard_D4s_v5"},
		{`zone: "1"`, `zone: "4"`, ":14:", "virtualMachines[0].zone", `"3"`},
		{"os: Linux", "os: linux", ":15:", "virtualMachines[0].os", "Linux or Windows"},
		{"subnet: shop-net/front", "subnet: shop-net/back", ":17:", "virtualMachines[0].subnet", "shop-net/front"},
		{"sizeGiB: 32,", "", ":18:", "virtualMachines[0].osDisk.sizeGiB", "1 to 32767"},
		{"sizeGiB: 32,", "sizeGiB: 4096,", ":18:", "virtualMachines[0].osDisk.sizeGiB", "1 to 4095"},
		{"sku: Premium_LRS", "sku: UltraSSD_LRS", ":18:", "virtualMachines[0].osDisk.sku", "data disks"},
		{"sku: Premium_LRS", "sku: Fast", ":18:", "virtualMachines[0].osDisk.sku", "Premium_LRS"},
		{"image: web.img", "image: none.img", ":18:", "virtualMachines[0].osDisk.image", "no image file"},
		{"image: web.img", "image: web.vhdx", ":18:", "virtualMachines[0].osDisk.image", "raw image"},
		{"image: web.img", "lun: 0", ":18:", "virtualMachines[0].osDisk.lun", "no LUN"},
		{"image: web.img", "shared: true", ":18:", "virtualMachines[0].osDisk.shared", "cannot be shared"},
		{"image: web.img", "image: web.img, ephemeral: true", ":18:", "virtualMachines[0].osDisk.image", "ephemeral"},
		{"lun: 0", "lun: 64", ":19:", "virtualMachines[0].dataDisks[0].lun", "0 to 63"},
		{data, data + ", {lun: 0, name: other, sizeGiB: 1}", ":19:", "virtualMachines[0].dataDisks[1].lun", "taken by the disk web-1-data"},
		{data, data + ", {lun: 1, name: WEB-1-OS, sizeGiB: 1}", ":19:", "virtualMachines[0].dataDisks[1].name", "already"},
		{"caching: ReadOnly", "caching: Both", ":19:", "virtualMachines[0].dataDisks[0].caching", "ReadWrite"},
		{"sizeGiB: 1024", "sizeGiB: 4096", ":19:", "virtualMachines[0].dataDisks[0].caching", "4,096"},
		{"caching: ReadOnly", "ephemeral: true", ":19:", "virtualMachines[0].dataDisks[0].ephemeral", "only an OS disk"},
		{"caching: ReadOnly", "logicalSectorBytes: 512", ":19:", "virtualMachines[0].dataDisks[0].logicalSectorBytes", "Ultra"},
		{data, "{name: x, sizeGiB: 1, sku: UltraSSD_LRS, logicalSectorBytes: 1024}", ":19:", "virtualMachines[0].dataDisks[0].logicalSectorBytes", "512 or 4096"},
		{"caching: ReadOnly", "networkAccessPolicy: Deny", ":19:", "virtualMachines[0].dataDisks[0].networkAccessPolicy", "DenyAll"},
		{"caching: ReadOnly", "caching: ReadOnly, shared: true", ":19:", "virtualMachines[0].dataDisks[0].caching", "shared"},
		{"shop/web-1,", "shop/web-2,", ":21:", "locks[0].scope", "GROUP"},
		{"level: CanNotDelete", "level: Never", ":21:", "locks[0].level", "ReadOnly"},
		{"cores: 10", "cores: -1", ":22:", "quotas[0].cores", "0 to"},
		{", cores: 10", "", ":22:", "quotas[0].cores", "missing"},
	} {
		changed := strings.Replace(contract, c.old, c.new, 1)
		if changed == contract {
			t.Fatalf("the replacement of %q changes nothing", c.old)
		}
		_, err := parse(t, changed)
		var problem *holdfast.Error
		if !errors.As(err, &problem) || problem.Kind != holdfast.KindInvalid {
			t.Errorf("%s -> %s: got %v", c.old, c.new, err)
			continue
		}
		if !strings.HasPrefix(problem.Message, "estate.yaml"+c.place) || problem.Field != c.field || !strings.Contains(problem.Message+problem.Hint, c.says) {
			t.Errorf("%s -> %s: got %q (field %s), want it at %s, field %s, saying %q", c.old, c.new, problem.Message, problem.Field, c.place, c.field, c.says)
		}
	}
}

func TestRead_RefusesSubnetOfAnotherLocation(t *testing.T) {
	_, err := parse(t, strings.Replace(strings.Replace(contract, "networks:", "  - {name: far, subscription: production, location: eastus}\nnetworks:", 1),
		"    resourceGroup: shop\n", "    resourceGroup: far\n", 1))
	if err == nil || !strings.Contains(err.Error(), "own subscription and location") {
		t.Fatalf("got %v", err)
	}
}

// What the pages tell people to start the twin with can be read.
func TestRead_Examples(t *testing.T) {
	files, err := filepath.Glob("../../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		if e, err := estate.Read(file); err != nil || len(e.VirtualMachines) == 0 {
			t.Errorf("%s: %v, %d virtual machines", file, err, len(e.VirtualMachines))
		}
	}
}

func TestRead_MissingFileIsNotFound(t *testing.T) {
	if _, err := estate.Read(filepath.Join(t.TempDir(), "none.yaml")); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Fatalf("got %v", err)
	}
}

// TestParse_AnyDamageToAFileIsAnErrorNotAPanic mutates the example: whatever comes out is an estate or KindInvalid.
func TestParse_AnyDamageToAFileIsAnErrorNotAPanic(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "web.img"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pieces := []string{"{", "}", "[", "]", "-", ":", "null", "0", "-1", "1e9", "9999999999999999999", "&a", "*a", "\n", "  ", "\"", "!!int", "lun", "~", "#", "\t", "\xff"}
	outcomes := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(contract)
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			from := rapid.IntRange(0, len(text)).Draw(t, "from")
			to := min(len(text), from+rapid.IntRange(0, 12).Draw(t, "length"))
			piece := rapid.SampledFrom(pieces).Draw(t, "piece")
			text = append(append(append([]byte{}, text[:from]...), piece...), text[to:]...)
		}
		_, err := estate.Parse("estate.yaml", text, folder)
		if err != nil && !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Fatalf("kind %s of %v", holdfast.KindOf(err), err)
		}
		outcomes[err == nil]++
	})
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Fatalf("the damage is not varied: %d read, %d refused", outcomes[true], outcomes[false])
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(contract))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := estate.Parse("estate.yaml", data, "/nonexistent"); err != nil && !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Fatalf("kind %s of %v", holdfast.KindOf(err), err)
		}
	})
}

// Key vaults: names, groups, permissions and sizes of keys are checked like everything else.
func TestParse_KeyVaults(t *testing.T) {
	const base = `
subscriptions: [{id: 11111111-1111-1111-1111-111111111111, name: s}]
resourceGroups: [{name: g, subscription: s, location: westeurope}]
keyVaults: `
	e, err := estate.Parse("estate.yaml", []byte(base+`[{name: shop-keys, resourceGroup: g, permissions: [get], keys: [{name: backup, bits: 3072}]}]`), "")
	if err != nil || len(e.KeyVaults) != 1 || e.KeyVaults[0].Keys[0].Bits != 3072 || e.KeyVaults[0].Permissions[0] != "get" {
		t.Errorf("%+v, %v", e.KeyVaults, err)
	}
	for bad, field := range map[string]string{
		`[{name: 1shop, resourceGroup: g}]`:                                      "keyVaults[0].name",
		`[{name: shop, resourceGroup: h}]`:                                       "keyVaults[0].resourceGroup",
		`[{name: shop, resourceGroup: g}, {name: SHOP, resourceGroup: g}]`:       "keyVaults[1].name",
		`[{name: shop, resourceGroup: g, permissions: [sign]}]`:                  "keyVaults[0].permissions[0]",
		`[{name: shop, resourceGroup: g, keys: [{name: a_b}]}]`:                  "keyVaults[0].keys[0].name",
		`[{name: shop, resourceGroup: g, keys: [{name: a, bits: 1024}]}]`:        "keyVaults[0].keys[0].bits",
		`[{name: shop, resourceGroup: g, keys: [{name: a}, {name: A}]}]`:         "keyVaults[0].keys[1].name",
		`[{name: shop, resourceGroup: g, keys: [{name: a}], softDelete: false}]`: "keyVaults[0].softDelete",
	} {
		_, err := estate.Parse("estate.yaml", []byte(base+bad), "")
		var told *holdfast.Error
		if !errors.As(err, &told) || told.Field != field {
			t.Errorf("%s: want field %s, have %v", bad, field, err)
		}
	}
}
