package estate

// Estate declares what exists in the twin when it starts: an estate file, read strictly.
type Estate struct {
	Subscriptions   []Subscription   `yaml:"subscriptions"`
	ResourceGroups  []ResourceGroup  `yaml:"resourceGroups"`
	Networks        []Network        `yaml:"networks"`
	StorageAccounts []StorageAccount `yaml:"storageAccounts"`
	KeyVaults       []KeyVault       `yaml:"keyVaults"`
	VirtualMachines []VirtualMachine `yaml:"virtualMachines"`
	Locks           []Lock           `yaml:"locks"`
	Quotas          []Quota          `yaml:"quotas"`
}

// Subscription is an Azure subscription.
type Subscription struct {
	ID   string `yaml:"id"` // a GUID
	Name string `yaml:"name"`
}

// ResourceGroup belongs to a subscription, named by its name or id.
type ResourceGroup struct {
	Name         string            `yaml:"name"`
	Subscription string            `yaml:"subscription"`
	Location     string            `yaml:"location"`
	Tags         map[string]string `yaml:"tags"`
}

// Network is a virtual network.
type Network struct {
	Name          string   `yaml:"name"`
	ResourceGroup string   `yaml:"resourceGroup"`
	AddressPrefix string   `yaml:"addressPrefix"`
	Subnets       []Subnet `yaml:"subnets"`
}

// Subnet is part of a Network.
type Subnet struct {
	Name          string `yaml:"name"`
	AddressPrefix string `yaml:"addressPrefix"`
}

// StorageAccount is a general-purpose v2 account.
type StorageAccount struct {
	Name          string      `yaml:"name"`
	ResourceGroup string      `yaml:"resourceGroup"`
	Containers    []Container `yaml:"containers"`
}

// Container is a blob container; VersionImmutability turns on versions and version-level immutability.
type Container struct {
	Name                string `yaml:"name"`
	VersionImmutability bool   `yaml:"versionImmutability"`
}

// KeyVault is a vault of RSA keys.
type KeyVault struct {
	Name          string     `yaml:"name"`
	ResourceGroup string     `yaml:"resourceGroup"`
	Permissions   []string   `yaml:"permissions"` // of the twin's application; left out: all
	Keys          []VaultKey `yaml:"keys"`
}

// VaultKey is an RSA key in a vault.
type VaultKey struct {
	Name string `yaml:"name"`
	Bits int    `yaml:"bits"` // 2048, 3072 or 4096; left out: 2048
}

// VirtualMachine declares a VM with its disks and one network interface called NAME-nic.
type VirtualMachine struct {
	Name          string            `yaml:"name"`
	ResourceGroup string            `yaml:"resourceGroup"`
	Size          string            `yaml:"size"`
	Zone          string            `yaml:"zone"`
	OS            string            `yaml:"os"` // Linux or Windows
	Tags          map[string]string `yaml:"tags"`
	Subnet        string            `yaml:"subnet"` // NETWORK/SUBNET
	OSDisk        Disk              `yaml:"osDisk"`
	DataDisks     []Disk            `yaml:"dataDisks"`
	Guest         Guest             `yaml:"guest"`
}

// Guest declares what runs in a VM, as far as a backup can tell. Left out, it has an agent, whose VSS works on Windows, and
// no script files.
type Guest struct {
	NoAgent         bool          `yaml:"noAgent"`         // no command runs in it, and no application is asked
	VSS             string        `yaml:"vss"`             // Windows: working or failing
	SnapshotScripts bool          `yaml:"snapshotScripts"` // Linux: scripts make its restore points consistent for applications
	Mounts          []GuestMount  `yaml:"mounts"`          // Linux: left out, a data disk is mounted at /disks/NAME
	Scripts         []GuestScript `yaml:"scripts"`
}

// The states of VSS.
const (
	VSSWorking = "working"
	VSSFailing = "failing"
)

// GuestMount says where a data disk is mounted.
type GuestMount struct {
	Disk string `yaml:"disk"`
	Path string `yaml:"path"`
}

// GuestScript is a program in a guest, and what it does when it is run.
type GuestScript struct {
	Path          string      `yaml:"path"`
	ExitCode      int         `yaml:"exitCode"`
	DurationMs    int         `yaml:"durationMs"`
	Output        string      `yaml:"output"`
	OutputBytes   int         `yaml:"outputBytes"`   // the output is filled up to so many bytes
	Errors        string      `yaml:"errors"`        // what it says on its other stream
	EchoArguments bool        `yaml:"echoArguments"` // it says its arguments, one a line
	Effect        GuestEffect `yaml:"effect"`        // left out: none
}

// GuestEffect is a text that a script writes to a disk.
type GuestEffect struct {
	Disk   string `yaml:"disk"`
	Offset int64  `yaml:"offset"`
	Text   string `yaml:"text"`
}

// Disk declares a managed disk.
type Disk struct {
	LUN                 int    `yaml:"lun"` // data disks only
	Name                string `yaml:"name"`
	SizeGiB             int64  `yaml:"sizeGiB"`
	SKU                 string `yaml:"sku"`
	Caching             string `yaml:"caching"`
	Image               string `yaml:"image"` // a raw image, path relative to the estate file; may end in .gz or .zst
	Ephemeral           bool   `yaml:"ephemeral"`
	NetworkAccessPolicy string `yaml:"networkAccessPolicy"` // AllowAll, AllowPrivate, DenyAll
	LogicalSectorBytes  int    `yaml:"logicalSectorBytes"`  // 512 or 4096; Ultra and Premium v2 only
	Shared              bool   `yaml:"shared"`
}

// Lock is a management lock; Scope is GROUP or GROUP/RESOURCE.
type Lock struct {
	Scope string `yaml:"scope"`
	Level string `yaml:"level"` // CanNotDelete or ReadOnly
}

// Quota limits the vCPUs of a location.
type Quota struct {
	Location string `yaml:"location"`
	Cores    int    `yaml:"cores"`
}
