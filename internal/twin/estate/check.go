package estate

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

const (
	osDiskMaxGiB  = 4095 // OS disks end at 4 TiB
	cachingMaxGiB = 4095 // host caching is for disks below 4,096 GiB
	lunMax        = 63   // the largest VM sizes take 64 data disks
	tagsMax       = 50
	tagNameMax    = 512 // characters
	tagValueMax   = 256 // characters
	coresMax      = 1_000_000
	subnetMaskMax = 29 // Azure keeps five addresses of each subnet, so that /29 is the smallest one
)

// Name rules of Azure ("Naming rules and restrictions for Azure resources", 2026), compiled once.
var (
	resourceName  = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_])?$`)
	groupName     = regexp.MustCompile(`^[A-Za-z0-9._()-]{0,89}[A-Za-z0-9_()-]$`)
	machineName   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?$`)
	accountName   = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	containerName = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)
	vaultName     = regexp.MustCompile(`^[A-Za-z](-?[A-Za-z0-9]){2,23}$`)
	vaultKeyName  = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
	locationName  = regexp.MustCompile(`^[a-z]+[0-9]*[a-z]*$`)
	sizeName      = regexp.MustCompile(`^(Standard|Basic)_[A-Za-z0-9_-]+$`)
)

// checker holds an estate against the rules; it stops at the first mistake.
type checker struct {
	estate      *Estate
	document    *strictyaml.Document
	imageFolder string
	taken       map[string]bool // lower-cased "what in where name"
	scopes      map[string]bool // lower-cased GROUP and GROUP/RESOURCE, for locks
}

func (c *checker) check() error {
	c.taken, c.scopes = map[string]bool{}, map[string]bool{}
	for _, step := range []func() error{
		c.checkSubscriptions, c.checkGroups, c.checkNetworks, c.checkAccounts, c.checkVaults, c.checkMachines, c.checkLocks, c.checkQuotas,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkSubscriptions() error {
	for i, s := range c.estate.Subscriptions {
		path := at("subscriptions", i)
		if _, err := uuid.Parse(s.ID); err != nil || len(s.ID) != 36 {
			return c.wrong(path+".id", s.ID, "a GUID such as 11111111-1111-1111-1111-111111111111")
		}
		if s.Name == "" || len(s.Name) > 64 {
			return c.wrong(path+".name", s.Name, "1 to 64 characters")
		}
		if err := c.claim("subscription id", "", s.ID, path+".id"); err != nil {
			return err
		}
		if err := c.claim("subscription", "", s.Name, path+".name"); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkGroups() error {
	for i, g := range c.estate.ResourceGroups {
		path := at("resourceGroups", i)
		if !groupName.MatchString(g.Name) {
			return c.wrong(path+".name", g.Name, "1 to 90 letters, digits, '.', '_', '-', '(' and ')', not ending in '.'")
		}
		if err := c.claim("resource group", "", g.Name, path+".name"); err != nil {
			return err
		}
		if c.estate.SubscriptionID(g) == "" {
			return c.unknown(path+".subscription", g.Subscription, "subscription", c.names(c.estate.subscriptionNames()))
		}
		if !locationName.MatchString(g.Location) {
			return c.wrong(path+".location", g.Location, "a location's short name such as westeurope")
		}
		if err := c.checkTags(path+".tags", g.Tags); err != nil {
			return err
		}
		c.scopes[fold(g.Name)] = true
	}
	return nil
}

func (c *checker) checkNetworks() error {
	for i, n := range c.estate.Networks {
		path := at("networks", i)
		if !resourceName.MatchString(n.Name) {
			return c.wrong(path+".name", n.Name, "1 to 80 letters, digits, '.', '_' and '-'")
		}
		// VMs name a network without its group, so its name is unique in the whole estate.
		if err := c.claim("network", "", n.Name, path+".name"); err != nil {
			return err
		}
		if err := c.checkGroupReference(path, n.ResourceGroup, n.Name); err != nil {
			return err
		}
		prefix, err := netip.ParsePrefix(n.AddressPrefix)
		if err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked() || prefix.Bits() > subnetMaskMax {
			return c.wrong(path+".addressPrefix", n.AddressPrefix, "an IPv4 prefix such as 10.1.0.0/16, /29 at the smallest")
		}
		if err := c.checkSubnets(path, n, prefix); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkSubnets(path string, n Network, within netip.Prefix) error {
	var before []netip.Prefix
	for i, s := range n.Subnets {
		path := path + "." + at("subnets", i)
		if !resourceName.MatchString(s.Name) {
			return c.wrong(path+".name", s.Name, "1 to 80 letters, digits, '.', '_' and '-'")
		}
		if err := c.claim("subnet", n.Name, s.Name, path+".name"); err != nil {
			return err
		}
		prefix, err := netip.ParsePrefix(s.AddressPrefix)
		inside := err == nil && prefix == prefix.Masked() && within.Contains(prefix.Addr()) &&
			prefix.Bits() >= within.Bits() && prefix.Bits() <= subnetMaskMax
		if !inside {
			return c.wrong(path+".addressPrefix", s.AddressPrefix, "an IPv4 prefix inside "+within.String()+", /29 at the smallest")
		}
		if slices.ContainsFunc(before, prefix.Overlaps) {
			return c.wrong(path+".addressPrefix", s.AddressPrefix, "a prefix that overlaps no other subnet of the network")
		}
		before = append(before, prefix)
	}
	return nil
}

func (c *checker) checkAccounts() error {
	for i, a := range c.estate.StorageAccounts {
		path := at("storageAccounts", i)
		if !accountName.MatchString(a.Name) {
			return c.wrong(path+".name", a.Name, "3 to 24 lower-case letters and digits")
		}
		if err := c.claim("storage account", "", a.Name, path+".name"); err != nil {
			return err
		}
		if err := c.checkGroupReference(path, a.ResourceGroup, a.Name); err != nil {
			return err
		}
		for j, container := range a.Containers {
			path := path + "." + at("containers", j) + ".name"
			if !containerName.MatchString(container.Name) || len(container.Name) > 63 {
				return c.wrong(path, container.Name, "3 to 63 lower-case letters, digits and single '-'")
			}
			if err := c.claim("container", a.Name, container.Name, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// vaultPermissions are what may be granted on the keys of a vault.
func vaultPermissions() []string {
	return []string{"get", "list", "create", "update", "delete", "recover", "purge", "wrapKey", "unwrapKey"}
}

func (c *checker) checkVaults() error {
	for i, v := range c.estate.KeyVaults {
		path := at("keyVaults", i)
		if !vaultName.MatchString(v.Name) || len(v.Name) > 24 {
			return c.wrong(path+".name", v.Name, "3 to 24 letters, digits and single '-', beginning with a letter")
		}
		if err := c.claim("key vault", "", v.Name, path+".name"); err != nil {
			return err
		}
		if err := c.checkGroupReference(path, v.ResourceGroup, v.Name); err != nil {
			return err
		}
		for j, permission := range v.Permissions {
			if !slices.Contains(vaultPermissions(), permission) {
				return c.wrong(path+"."+at("permissions", j), permission, strings.Join(vaultPermissions(), ", "))
			}
		}
		for j, key := range v.Keys {
			path := path + "." + at("keys", j)
			if !vaultKeyName.MatchString(key.Name) {
				return c.wrong(path+".name", key.Name, "1 to 127 letters, digits and '-'")
			}
			if err := c.claim("key", v.Name, key.Name, path+".name"); err != nil {
				return err
			}
			if !slices.Contains([]int{0, 2048, 3072, 4096}, key.Bits) {
				return c.document.Errorf(path+".bits", "%d is not accepted; accepted: 2048, 3072, 4096", key.Bits)
			}
		}
	}
	return nil
}

func (c *checker) checkMachines() error {
	for i, vm := range c.estate.VirtualMachines {
		path := at("virtualMachines", i)
		if !machineName.MatchString(vm.Name) {
			return c.wrong(path+".name", vm.Name, "1 to 64 letters, digits and '-'")
		}
		if err := c.claim("virtual machine", vm.ResourceGroup, vm.Name, path+".name"); err != nil {
			return err
		}
		if err := c.checkGroupReference(path, vm.ResourceGroup, vm.Name); err != nil {
			return err
		}
		c.scopes[fold(vm.ResourceGroup+"/"+vm.Name+"-nic")] = true
		if err := c.checkMachineFields(path, vm); err != nil {
			return err
		}
		if err := c.checkDisks(path, vm); err != nil {
			return err
		}
		if err := c.checkGuest(path+".guest", vm); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkMachineFields(path string, vm VirtualMachine) error {
	switch {
	case !sizeName.MatchString(vm.Size):
		return c.wrong(path+".size", vm.Size, "the name of a VM size such as Standard_D4s_v5")
	case !slices.Contains([]string{"", "1", "2", "3"}, vm.Zone):
		return c.wrong(path+".zone", vm.Zone, `"1", "2", "3", or left out`)
	case vm.OS != "Linux" && vm.OS != "Windows":
		return c.wrong(path+".os", vm.OS, "Linux or Windows")
	}
	if vm.Subnet != "" {
		if _, _, found := c.estate.SubnetOf(vm.Subnet); !found {
			return c.unknown(path+".subnet", vm.Subnet, "subnet (written NETWORK/SUBNET)", c.names(c.estate.subnetNames()))
		}
		if err := c.checkNetworkPlace(path, vm); err != nil {
			return err
		}
	} else if err := c.checkDefaultNetwork(path, vm); err != nil {
		return err
	}
	return c.checkTags(path+".tags", vm.Tags)
}

// checkNetworkPlace: a network interface lies in its network's subscription and location.
func (c *checker) checkNetworkPlace(path string, vm VirtualMachine) error {
	network, _, _ := c.estate.SubnetOf(vm.Subnet)
	own, _ := c.estate.Group(vm.ResourceGroup)
	other, _ := c.estate.Group(network.ResourceGroup)
	if c.estate.SubscriptionID(own) != c.estate.SubscriptionID(other) || own.Location != other.Location {
		return c.wrong(path+".subnet", vm.Subnet, "a subnet of the VM's own subscription and location")
	}
	return nil
}

// checkDefaultNetwork refuses the default network where the file uses its name for something else.
func (c *checker) checkDefaultNetwork(path string, vm VirtualMachine) error {
	name := defaultNetworkName(vm.ResourceGroup)
	if c.taken[claimKey("network", "", name)] {
		return c.document.Errorf(path+".subnet", "missing, and the network %s that would be made for it is declared already", name).
			WithHint("name a subnet, for instance one of %s", c.names(c.estate.subnetNames()))
	}
	return nil
}

func (c *checker) checkDisks(path string, vm VirtualMachine) error {
	if err := c.checkDisk(path+".osDisk", vm, vm.OSDisk); err != nil {
		return err
	}
	if err := c.checkOSDisk(path+".osDisk", vm.OSDisk); err != nil {
		return err
	}
	for i, disk := range vm.DataDisks {
		path := path + "." + at("dataDisks", i)
		if err := c.checkDisk(path, vm, disk); err != nil {
			return err
		}
		if disk.LUN < 0 || disk.LUN > lunMax {
			return c.document.Errorf(path+".lun", "%d is out of range; accepted: 0 to %d", disk.LUN, lunMax)
		}
		if disk.Ephemeral {
			return c.document.Errorf(path+".ephemeral", "only an OS disk can be ephemeral")
		}
		for _, other := range vm.DataDisks[:i] {
			if other.LUN == disk.LUN {
				return c.document.Errorf(path+".lun", "LUN %d is taken by the disk %s of the same VM", disk.LUN, other.Name)
			}
		}
	}
	return nil
}

func (c *checker) checkOSDisk(path string, d Disk) error {
	kind := diskKinds()[orDefault(d.SKU)]
	switch {
	case d.LUN != 0 || c.document.Has(path+".lun"):
		return c.document.Errorf(path+".lun", "an OS disk has no LUN")
	case !kind.osDisk:
		return c.wrong(path+".sku", d.SKU, "a SKU for OS disks; Ultra and Premium v2 are for data disks")
	case d.SizeGiB > osDiskMaxGiB:
		return c.document.Errorf(path+".sizeGiB", "%d GiB is too large; an OS disk has 1 to %d", d.SizeGiB, osDiskMaxGiB)
	case d.Shared:
		return c.document.Errorf(path+".shared", "an OS disk cannot be shared")
	case d.Ephemeral && d.Image != "":
		return c.document.Errorf(path+".image", "an ephemeral disk is no resource of its own, so that it can have no content here")
	case d.Ephemeral && d.Caching != "" && d.Caching != "ReadOnly":
		return c.wrong(path+".caching", d.Caching, "ReadOnly for an ephemeral disk, or left out")
	}
	return nil
}

func (c *checker) checkDisk(path string, vm VirtualMachine, d Disk) error {
	if !resourceName.MatchString(d.Name) {
		return c.wrong(path+".name", d.Name, "1 to 80 letters, digits, '.', '_' and '-'")
	}
	if err := c.claim("disk", vm.ResourceGroup, d.Name, path+".name"); err != nil {
		return err
	}
	c.scopes[fold(vm.ResourceGroup+"/"+d.Name)] = true
	kind, known := diskKinds()[orDefault(d.SKU)]
	switch {
	case !known:
		return c.wrong(path+".sku", d.SKU, strings.Join(skuNames(), ", "))
	case d.SizeGiB < 1 || d.SizeGiB > kind.sizeMaxGiB:
		return c.document.Errorf(path+".sizeGiB", "%d is out of range; accepted for %s: 1 to %d", d.SizeGiB, orDefault(d.SKU), kind.sizeMaxGiB)
	case !slices.Contains([]string{"", "None", "ReadOnly", "ReadWrite"}, d.Caching):
		return c.wrong(path+".caching", d.Caching, "None, ReadOnly or ReadWrite")
	case d.cached() && (kind.sectorChoice || d.SizeGiB > cachingMaxGiB):
		return c.wrong(path+".caching", d.Caching, "None: Ultra, Premium v2 and disks of 4,096 GiB and more have no host caching")
	case !slices.Contains([]string{"", "AllowAll", "AllowPrivate", "DenyAll"}, d.NetworkAccessPolicy):
		return c.wrong(path+".networkAccessPolicy", d.NetworkAccessPolicy, "AllowAll, AllowPrivate or DenyAll")
	case d.LogicalSectorBytes != 0 && !kind.sectorChoice:
		return c.document.Errorf(path+".logicalSectorBytes", "only Ultra and Premium v2 disks have a choice")
	case !slices.Contains([]int{0, 512, 4096}, d.LogicalSectorBytes):
		return c.document.Errorf(path+".logicalSectorBytes", "%d is not a sector size; accepted: 512 or 4096", d.LogicalSectorBytes)
	case d.Shared && !kind.shared:
		return c.document.Errorf(path+".shared", "disks of SKU %s cannot be shared", orDefault(d.SKU))
	case d.Shared && d.cached():
		return c.wrong(path+".caching", d.Caching, "None: a shared disk has no host caching")
	}
	return c.checkImage(path+".image", d.Image)
}

func (d Disk) cached() bool { return d.Caching != "" && d.Caching != "None" }

func orDefault(sku string) string {
	if sku == "" {
		return "Standard_LRS"
	}
	return sku
}

func (c *checker) checkImage(path, image string) error {
	if image == "" {
		return nil
	}
	for _, container := range []string{".vhd", ".vhdx", ".qcow2", ".vmdk", ".vdi"} {
		if strings.HasSuffix(fold(image), container) {
			return c.wrong(path, image, "a raw image, which may be compressed as .gz or .zst").
				WithHint("convert it with: qemu-img convert -O raw %s %s", image, strings.TrimSuffix(image, filepath.Ext(image))+".img")
		}
	}
	file := image
	if !filepath.IsAbs(file) {
		file = filepath.Join(c.imageFolder, file)
	}
	found, err := os.Stat(file)
	if err != nil || !found.Mode().IsRegular() {
		return c.document.Errorf(path, "there is no image file %s", file).WithHint("paths are relative to the estate file")
	}
	return nil
}

func (c *checker) checkLocks() error {
	for i, lock := range c.estate.Locks {
		path := at("locks", i)
		if !c.scopes[fold(lock.Scope)] {
			return c.unknown(path+".scope", lock.Scope, "resource group or resource", "GROUP, or GROUP/NAME of a VM, disk, network or storage account")
		}
		if lock.Level != "CanNotDelete" && lock.Level != "ReadOnly" {
			return c.wrong(path+".level", lock.Level, "CanNotDelete or ReadOnly")
		}
	}
	return nil
}

func (c *checker) checkQuotas() error {
	for i, quota := range c.estate.Quotas {
		path := at("quotas", i)
		if !locationName.MatchString(quota.Location) {
			return c.wrong(path+".location", quota.Location, "a location's short name such as westeurope")
		}
		if err := c.claim("quota", "", quota.Location, path+".location"); err != nil {
			return err
		}
		if quota.Cores < 0 || quota.Cores > coresMax || !c.document.Has(path+".cores") {
			return c.document.Errorf(path+".cores", "missing or out of range; accepted: 0 to %d", coresMax)
		}
	}
	return nil
}

// checkGroupReference checks that the group is declared, and makes the resource known to locks.
func (c *checker) checkGroupReference(path, group, resource string) error {
	if _, found := c.estate.Group(group); !found {
		return c.unknown(path+".resourceGroup", group, "resource group", c.names(c.estate.groupNames()))
	}
	c.scopes[fold(group+"/"+resource)] = true
	return nil
}

func (c *checker) checkTags(path string, tags map[string]string) error {
	if len(tags) > tagsMax {
		return c.document.Errorf(path, "%d tags; a resource has at most %d", len(tags), tagsMax)
	}
	lower := map[string]bool{}
	for name, value := range tags {
		if name == "" || len(name) > tagNameMax || len(value) > tagValueMax || strings.ContainsAny(name, `<>%&\?/`) {
			return c.wrong(path, name+": "+value, `names of 1 to 512 characters without <>%&\?/, values of up to 256`)
		}
		if lower[fold(name)] {
			return c.document.Errorf(path, "the tag %q is set twice; names of tags ignore case", name)
		}
		lower[fold(name)] = true
	}
	return nil
}

// claim takes a name that must be unique among the things of one kind in one place.
func (c *checker) claim(what, where, name, path string) error {
	key := claimKey(what, where, name)
	if c.taken[key] {
		return c.document.Errorf(path, "there is a %s %q already", what, name)
	}
	c.taken[key] = true
	return nil
}

func claimKey(what, where, name string) string { return fold(what + "\x00" + where + "\x00" + name) }
