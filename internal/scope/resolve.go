package scope

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// MachinesAdvised is the number of machines up to which one policy is advised. More are protected as well; they share one
// session, which gets long, and one place in the order.
const MachinesAdvised = 500

// Resolution says for an inventory who protects what, both ways round.
type Resolution struct {
	Machines []Machine // all of the inventory, by id
	Policies []Reach   // all of the documents, in the order in which they go
}

// Machine is a machine of the inventory with the decision about it.
type Machine struct {
	VM *holdfast.InventoryVM // in the inventory that was given
	Decision
}

// Unprotected returns the machines that no policy protects.
func (r Resolution) Unprotected() []Machine {
	var all []Machine
	for _, m := range r.Machines {
		if m.Policy == nil {
			all = append(all, m)
		}
	}
	return all
}

// Reach is what a policy gets of an inventory.
type Reach struct {
	Policy   *Policy
	VMs      []*holdfast.InventoryVM // that it protects, by id
	Disks    int                     // of these machines
	Bytes    int64                   // of these disks
	Lost     []Lost                  // machines that it would have but for another policy, by id
	Missing  []Missing               // what its sources name and the inventory does not show
	Unfit    []Unfit                 // disks of its machines that cannot be backed up
	Warnings []Warning
}

// Lost is a machine that a policy would protect if another one did not go first.
type Lost struct {
	VM *holdfast.InventoryVM
	To *Policy
}

// ItemType is what an item of a policy's sources is.
type ItemType string

// The types of items.
const (
	ItemVM            ItemType = "vm"
	ItemTag           ItemType = "tag"
	ItemResourceGroup ItemType = "resourceGroup"
	ItemSubscription  ItemType = "subscription"
	ItemCondition     ItemType = "condition"
)

// Item is a part of a policy's sources that somebody named.
type Item struct {
	Type      ItemType
	Name      string // an id, NAME=VALUE of a tag, or the name of a condition, as it is written in the policy
	Exclusion bool
}

// Missing is an item that has no effect.
type Missing struct {
	Item
	// ElsewhereOnly: machines match it, and all of them are outside of the policy's regions. Otherwise none does.
	ElsewhereOnly bool
}

// Unfit is a disk that cannot be backed up.
type Unfit struct {
	VM   *holdfast.InventoryVM
	Disk *holdfast.InventoryDisk // nil when the machine has no disks at all
}

// Why says in words, going on from the disk's name, or from the machine's when there is no disk.
func (u Unfit) Why() string {
	if u.Disk == nil {
		return "has no disks"
	}
	return u.Disk.Refused
}

// WarningCode says what a warning is about.
type WarningCode string

// The warnings.
const (
	WarnNothing   WarningCode = "nothing"   // the policy protects no machine
	WarnMany      WarningCode = "many"      // it protects more than MachinesAdvised
	WarnDisabled  WarningCode = "disabled"  // it is disabled and holds machines
	WarnUnfitDisk WarningCode = "unfitDisk" // machines of it have disks that cannot be backed up
	WarnMissing   WarningCode = "missing"   // it names what has no effect
)

// Warning is something about a policy that somebody should know.
type Warning struct {
	Code WarningCode
	Text string
}

// Resolve decides about all machines of an inventory.
func (r *Resolver) Resolve(inventory holdfast.Inventory) Resolution {
	seen := tally{found: make([]int, len(r.claims)), inRegion: make([]int, len(r.claims))}
	result := Resolution{Machines: make([]Machine, len(inventory.VMs)), Policies: make([]Reach, len(r.policies))}
	for i := range r.policies {
		result.Policies[i].Policy = &r.policies[i].Policy
	}
	var hits []int
	for i, k := range sortedByID(inventory.VMs) {
		t := traitsOf(k.vm, k.key)
		hits = r.collect(t, hits)
		r.count(t, hits, seen)
		result.Machines[i] = Machine{VM: k.vm, Decision: r.decide(t, hits)}
		result.file(result.Machines[i])
	}
	for i, c := range r.claims {
		if c.item.Type != "" && seen.inRegion[i] == 0 {
			reach := &result.Policies[c.policy]
			reach.Missing = append(reach.Missing, Missing{Item: c.item, ElsewhereOnly: seen.found[i] > 0})
		}
	}
	for i := range result.Policies {
		result.Policies[i].warn()
	}
	return result
}

// file tells the policies what they got and lost.
func (r Resolution) file(m Machine) {
	if m.Policy != nil {
		r.Policies[m.Policy.at].take(m.VM)
	}
	for _, o := range m.Others {
		if o.first != nil {
			reach := &r.Policies[o.Policy.at]
			reach.Lost = append(reach.Lost, Lost{VM: m.VM, To: o.first})
		}
	}
}

// keyed is a machine with the key of its id.
type keyed struct {
	key string
	vm  *holdfast.InventoryVM
}

// sortedByID returns the machines in the order of their ids.
func sortedByID(vms []holdfast.InventoryVM) []keyed {
	all := make([]keyed, len(vms))
	for i := range vms {
		all[i] = keyed{vms[i].ID.Key(), &vms[i]}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	return all
}

// tally counts, for each claim, the machines that match it.
type tally struct{ found, inRegion []int }

func (r *Resolver) count(t traits, hits []int, seen tally) {
	for _, i := range hits {
		seen.found[i]++
		if r.policies[r.claims[i].policy].regions[t.region] {
			seen.inRegion[i]++
		}
	}
}

// take adds a machine that the policy protects.
func (p *Reach) take(vm *holdfast.InventoryVM) {
	p.VMs = append(p.VMs, vm)
	p.Disks += len(vm.Disks)
	p.Bytes += vm.Bytes()
	if len(vm.Disks) == 0 {
		p.Unfit = append(p.Unfit, Unfit{VM: vm})
	}
	for i := range vm.Disks {
		if vm.Disks[i].Refused != "" {
			p.Unfit = append(p.Unfit, Unfit{VM: vm, Disk: &vm.Disks[i]})
		}
	}
}

// warn says what is worth knowing about what the policy got.
func (p *Reach) warn() {
	add := func(code WarningCode, format string, args ...any) {
		p.Warnings = append(p.Warnings, Warning{Code: code, Text: fmt.Sprintf(format, args...)})
	}
	switch n := len(p.VMs); {
	case n == 0:
		add(WarnNothing, "it protects no machine")
	case n > MachinesAdvised:
		add(WarnMany, "it protects %d machines; more than %d are better split among several policies", n, MachinesAdvised)
	}
	if !p.Policy.Enabled && len(p.VMs) > 0 {
		add(WarnDisabled, "it is disabled: nothing new is made for its machines, and no other policy takes them")
	}
	if n := p.unfitMachines(); n > 0 {
		add(WarnUnfitDisk, "%s cannot be backed up, because of disks", count(n, "machine"))
	}
	if n := len(p.Missing); n > 0 {
		add(WarnMissing, "%s without effect: no machine in its regions matches", count(n, "item"))
	}
}

// unfitMachines counts the machines with disks that cannot be backed up. Disks of one machine follow one another.
func (p *Reach) unfitMachines() int {
	n := 0
	for i, u := range p.Unfit {
		if i == 0 || p.Unfit[i-1].VM != u.VM {
			n++
		}
	}
	return n
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
