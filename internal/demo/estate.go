package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/demo/images"
)

const (
	subscription  = "11111111-1111-1111-1111-111111111111"
	resourceGroup = "shop"
)

// RestoredFrom is the machine that the demo restores.
const RestoredFrom = "web-1"

// Machine is one machine of the demo's estate.
type Machine struct {
	Name  string
	OS    string
	Disks []Disk // the OS disk first
}

// Disk is one disk with a real filesystem.
type Disk struct {
	Name    string
	Image   string // of package images
	SKU     string
	SizeGiB int
}

// Machines returns the demo's machines. web-2 is a twin brother of web-1, so that there is something to deduplicate.
func Machines() []Machine {
	return []Machine{
		{"web-1", "Linux", []Disk{{"web-1-os", "web", "Premium_LRS", 4}, {"web-1-data", "orders", "StandardSSD_LRS", 8}}},
		{"web-2", "Linux", []Disk{{"web-2-os", "web", "Premium_LRS", 4}}},
		{"office-1", "Windows", []Disk{{"office-1-os", "office", "StandardSSD_LRS", 4}}},
	}
}

// ID returns the machine's ARM id.
func (m Machine) ID() holdfast.ResourceID {
	return holdfast.NewResourceID(subscription, resourceGroup, "Microsoft.Compute/virtualMachines", m.Name)
}

// ID returns the disk's ARM id.
func (d Disk) ID() holdfast.ResourceID {
	return holdfast.NewResourceID(subscription, resourceGroup, "Microsoft.Compute/disks", d.Name)
}

// EstateFile is the name of the estate file that WriteEstate makes.
const EstateFile = "estate.yaml"

// WriteEstate unpacks the images and writes an estate file into a folder, unless they are there already. It returns the
// file's path.
func WriteEstate(ctx context.Context, folder string) (string, error) {
	for _, i := range images.All() {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if err := unpack(i, filepath.Join(folder, i.Name+".img")); err != nil {
			return "", err
		}
	}
	path := filepath.Join(folder, EstateFile)
	return path, os.WriteFile(path, []byte(estate()), 0o600)
}

func unpack(i images.Image, path string) error {
	if info, err := os.Stat(path); err == nil && info.Size() == i.RawBytes {
		return nil
	}
	content, err := images.Open(i.Name)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return errors.Join(err, content.Close())
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close(), content.Close())
}

func estate() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# The estate of the demo: what exists in the twin when it starts.
subscriptions:
  - {id: %s, name: demo}
resourceGroups:
  - {name: %s, subscription: demo, location: westeurope, tags: {team: web}}
networks:
  - {name: shop-net, resourceGroup: %[2]s, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}
storageAccounts:
  - {name: shopvault, resourceGroup: %[2]s, containers: [{name: backups}, {name: locked, versionImmutability: true}]}
virtualMachines:
`, subscription, resourceGroup)
	for _, m := range Machines() {
		fmt.Fprintf(&b, "  - name: %s\n    resourceGroup: %s\n    size: Standard_D2s_v5\n    zone: \"1\"\n    os: %s\n    tags: {env: demo}\n    subnet: shop-net/front\n", m.Name, resourceGroup, m.OS)
		for i, d := range m.Disks {
			lead := "    osDisk: {"
			if i == 1 {
				b.WriteString("    dataDisks:\n")
			}
			if i > 0 {
				lead = fmt.Sprintf("      - {lun: %d, ", i-1)
			}
			fmt.Fprintf(&b, "%sname: %s, sizeGiB: %d, sku: %s, image: %s.img}\n", lead, d.Name, d.SizeGiB, d.SKU, d.Image)
		}
	}
	return b.String()
}
