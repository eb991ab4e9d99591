// Package inventory reads the file that --inventory takes: what exists in the cloud, as `holdfast inventory --json` printed
// it or as somebody wrote it.
//
// It promises that nothing in a file is silently ignored or bent: an unknown field, a field given twice, a machine listed
// twice, an id of something else and a region in another spelling are errors of KindInvalid whose message begins with
// FILE:LINE:COLUMN and whose Field is the path of the field, such as vms[3].disks[0].lun. The machines that it returns are
// sorted by id. It must never panic, whatever the bytes.
package inventory

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// sizeMax bounds a file. 100,000 machines take about 60 MB.
const sizeMax = 1 << 30

// lunMax: the largest VM sizes take 64 data disks.
const lunMax = 63

var regionForm = regexp.MustCompile(`^[a-z][a-z0-9]*$`)

// Read reads a file.
func Read(path string) (holdfast.Inventory, error) {
	if stat, err := os.Stat(path); err == nil && stat.Size() > sizeMax {
		return holdfast.Inventory{}, holdfast.Errorf(holdfast.KindInvalid, "%s: the file has %d bytes; at most %d are accepted", path, stat.Size(), sizeMax)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return holdfast.Inventory{}, holdfast.Wrap(holdfast.KindInvalid, err, "the inventory %s cannot be read", path).WithField("inventory").
			WithHint("write one with: holdfast inventory --azure FILE --json > %s", path)
	}
	return Parse(path, data)
}

// Parse reads data, which came from the file called name.
func Parse(name string, data []byte) (holdfast.Inventory, error) {
	r := newReader(name, data)
	inventory := holdfast.Inventory{Zonal: []string{}, VMs: []holdfast.InventoryVM{}}
	p := parser{reader: r, seen: map[string]string{}}
	err := r.object("", fields{
		"at":    func(path string) error { return p.time(path, &inventory.At) },
		"zonal": func(path string) error { return p.regions(path, &inventory.Zonal) },
		"vms":   func(path string) error { return p.machines(path, &inventory.VMs) },
	}, "vms")
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return holdfast.Inventory{}, err
	}
	slices.SortFunc(inventory.VMs, func(a, b holdfast.InventoryVM) int { return strings.Compare(a.ID.Key(), b.ID.Key()) })
	return inventory, nil
}

// parser knows what the values mean.
type parser struct {
	*reader

	seen map[string]string // the path of each machine, by the key of its id
}

func (p *parser) time(path string, into *time.Time) error {
	var text string
	if err := p.text(path, &text); err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return p.wrong(path, "%q is not a time", text).WithHint("write it as 2026-03-01T12:00:00Z")
	}
	*into = at.UTC()
	return nil
}

func (p *parser) regions(path string, into *[]string) error {
	err := p.list(path, func(path string) error {
		var region string
		if err := p.region(path, &region); err != nil {
			return err
		}
		*into = append(*into, region)
		return nil
	})
	slices.Sort(*into)
	return err
}

// region reads a region in the one spelling in which regions are compared.
func (p *parser) region(path string, into *string) error {
	if err := p.text(path, into); err != nil {
		return err
	}
	if !regionForm.MatchString(*into) {
		return p.wrong(path, "%q is not the name of a region", *into).WithHint("write Azure's short name in lower case, such as westeurope")
	}
	return nil
}

func (p *parser) machines(path string, into *[]holdfast.InventoryVM) error {
	return p.list(path, func(path string) error {
		vm := holdfast.InventoryVM{Disks: []holdfast.InventoryDisk{}}
		err := p.object(path, fields{
			"id":     func(at string) error { return p.id(at, path, &vm.ID) },
			"name":   func(path string) error { return p.text(path, &vm.Name) },
			"region": func(path string) error { return p.region(path, &vm.Region) },
			"zone":   func(path string) error { return p.text(path, &vm.Zone) },
			"size":   func(path string) error { return p.text(path, &vm.Size) },
			"os":     func(path string) error { return p.text(path, &vm.OS) },
			"power":  func(path string) error { return p.text(path, &vm.Power) },
			"tags":   func(path string) error { return p.tags(path, &vm.Tags) },
			"disks":  func(path string) error { return p.disks(path, &vm.Disks) },
		}, "id", "region")
		vm.Name = cmp.Or(vm.Name, vm.ID.Name())
		*into = append(*into, vm)
		return err
	})
}

// id reads the id of the machine at path machine, which no other one may have.
func (p *parser) id(path, machine string, into *holdfast.ResourceID) error {
	var text string
	if err := p.text(path, &text); err != nil {
		return err
	}
	id, err := holdfast.ParseResourceID(text)
	if err != nil || !strings.EqualFold(id.Type(), "Microsoft.Compute/virtualMachines") {
		return p.wrong(path, "%q is not the id of a virtual machine", text).
			WithHint("write it as /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.Compute/virtualMachines/<name>")
	}
	if other, ok := p.seen[id.Key()]; ok {
		return p.wrong(path, "the machine %s is %s already", id.Name(), other)
	}
	p.seen[id.Key()] = machine
	*into = id
	return nil
}

// tags reads tags. Azure compares their names without regard to case.
func (p *parser) tags(path string, into *map[string]string) error {
	given := map[string]bool{}
	*into = map[string]string{}
	return p.pairs(path, func(path, name string) error {
		if given[strings.ToLower(name)] {
			return p.wrong(path, "the tag %s is given twice; the case of its letters makes no difference", name)
		}
		given[strings.ToLower(name)] = true
		var value string
		err := p.text(path, &value)
		(*into)[name] = value
		return err
	})
}

func (p *parser) disks(path string, into *[]holdfast.InventoryDisk) error {
	taken := map[holdfast.LUN]bool{}
	return p.list(path, func(path string) error {
		var d holdfast.InventoryDisk
		err := p.object(path, fields{
			"lun": func(path string) error {
				err := p.lun(path, &d.LUN)
				if err == nil && taken[d.LUN] {
					return p.wrong(path, "the machine has two disks with the LUN %s", d.LUN)
				}
				taken[d.LUN] = true
				return err
			},
			"name":      func(path string) error { return p.text(path, &d.Name) },
			"sizeBytes": func(path string) error { return p.whole(path, &d.SizeBytes) },
			"sku":       func(path string) error { return p.text(path, &d.SKU) },
			"refused":   func(path string) error { return p.text(path, &d.Refused) },
		}, "lun", "sizeBytes")
		*into = append(*into, d)
		return err
	})
}

func (p *parser) lun(path string, into *holdfast.LUN) error {
	var text string
	if err := p.text(path, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if text != string(holdfast.OSDisk) && (err != nil || n < 0 || n > lunMax || strconv.Itoa(n) != text) {
		return p.wrong(path, "%q is not the place of a disk", text).WithHint(`write "os", or the number of a data disk in quotation marks, "0" to "%d"`, lunMax)
	}
	*into = holdfast.LUN(text)
	return nil
}
