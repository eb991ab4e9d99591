package scope_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/scope"
)

// reach is what a policy gets, in words.
func reach(r scope.Reach) []string {
	lines := []string{fmt.Sprintf("%s: %d machines, %d disks, %d bytes", r.Policy.Name, len(r.VMs), r.Disks, r.Bytes)}
	for _, vm := range r.VMs {
		lines = append(lines, "has "+vm.Name)
	}
	for _, l := range r.Lost {
		lines = append(lines, "lost "+l.VM.Name+" to "+l.To.Name)
	}
	for _, m := range r.Missing {
		lines = append(lines, fmt.Sprintf("missing %s %s exclusion %t elsewhere %t", m.Type, m.Name, m.Exclusion, m.ElsewhereOnly))
	}
	for _, u := range r.Unfit {
		disk := "no disks"
		if u.Disk != nil {
			disk = u.Disk.Name
		}
		lines = append(lines, "unfit "+u.VM.Name+" "+disk)
	}
	for _, w := range r.Warnings {
		lines = append(lines, "warns of "+string(w.Code))
	}
	return lines
}

// TestResolve tells both ways round: machines sorted by id with their decisions, and policies with what they get, what they
// lose to others, what they name in vain and what is worth a warning (reference §1 and §6.2, "deleted items").
func TestResolve(t *testing.T) {
	db := machine("data", "db-1", "env", "prod")
	db.Disks = append(db.Disks, holdfast.InventoryDisk{LUN: "0", Name: "shared", SizeBytes: 2 << 30, Refused: "is a shared disk"}, holdfast.InventoryDisk{LUN: "1", Name: "x", Refused: "is another one"})
	bare := machine("data", "bare-1", "env", "prod")
	bare.Disks = nil
	inventory := holdfast.Inventory{VMs: []holdfast.InventoryVM{
		machine("shop", "web-2"), db, machine("shop", "web-1", "env", "prod"), bare, in("westus", machine("far", "far-1", "env", "prod", "only", "far")),
	}}
	gold := policy("gold", 1, holdfast.Sources{
		Include: []holdfast.Selector{
			{Tag: tag("env", "prod")},
			{Tag: tag("env", "stage")},
			{Tag: tag("only", "far")},
			{VM: machine("shop", "gone").ID},
			{ResourceGroup: group("empty")},
			{Subscription: other},
		},
		Conditions: []holdfast.Condition{{Name: "never", Tags: []holdfast.Tag{{Name: "env", Value: "prod"}, {Name: "tier", Value: "1"}}}},
		Exclude:    []holdfast.Selector{{VM: machine("shop", "typo").ID}},
	})
	silver := policy("silver", 1, holdfast.Sources{Include: []holdfast.Selector{{ResourceGroup: group("shop")}}, Exclude: []holdfast.Selector{{VM: machine("shop", "web-2").ID}}})
	off := policy("off", 2, holdfast.Sources{Include: []holdfast.Selector{{ResourceGroup: group("shop")}}, Exclude: []holdfast.Selector{{VM: machine("shop", "web-2").ID}}})
	off.Enabled = false
	got := scope.New(slas(schedules(silver, off), gold)).Resolve(inventory)

	want := [][]string{
		{
			"gold: 3 machines, 4 disks, 4294967296 bytes", "has bare-1", "has db-1", "has web-1",
			"missing vm " + string(machine("shop", "typo").ID) + " exclusion true elsewhere false",
			"missing vm " + string(machine("shop", "gone").ID) + " exclusion false elsewhere false",
			"missing condition never exclusion false elsewhere false",
			"missing tag env=stage exclusion false elsewhere false", "missing tag only=far exclusion false elsewhere true",
			"missing resourceGroup " + string(group("empty")) + " exclusion false elsewhere false", "missing subscription " + other + " exclusion false elsewhere false",
			"unfit bare-1 no disks", "unfit db-1 shared", "unfit db-1 x", "warns of unfitDisk", "warns of missing",
		},
		{"silver: 0 machines, 0 disks, 0 bytes", "lost web-1 to gold", "warns of nothing"},
		{"off: 0 machines, 0 disks, 0 bytes", "lost web-1 to gold", "warns of nothing"},
	}
	for i, r := range got.Policies {
		if lines := reach(r); !slices.Equal(lines, want[i]) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want[i], "\n"))
		}
	}
	var order, alone []string
	for _, m := range got.Machines {
		order = append(order, m.VM.Name)
	}
	for _, m := range got.Unprotected() {
		alone = append(alone, strings.Join(told(m.Decision), "; "))
	}
	if want := []string{"bare-1", "db-1", "far-1", "web-1", "web-2"}; !slices.Equal(order, want) {
		t.Errorf("machines %q, want %q", order, want)
	}
	if want := []string{
		"nobody; gold: tag env=prod, but westus is none of its regions",
		"nobody; silver: resource group shop, but it excludes machine web-2; off: resource group shop, but it excludes machine web-2",
	}; !slices.Equal(alone, want) {
		t.Errorf("unprotected %q, want %q", alone, want)
	}
	for i := range inventory.VMs {
		if !slices.ContainsFunc(got.Machines, func(m scope.Machine) bool { return m.VM == &inventory.VMs[i] }) {
			t.Errorf("%s is told as a copy", inventory.VMs[i].Name)
		}
	}
}

// TestResolve_Warnings: 500 machines for a policy are advised (reference §1), and a disabled policy that holds machines is told.
func TestResolve_Warnings(t *testing.T) {
	for _, c := range []struct {
		name     string
		machines int
		enabled  bool
		want     string
	}{
		{"none", 0, true, "it protects no machine"},
		{"none, disabled", 0, false, "it protects no machine"},
		{"as many as advised", 500, true, ""},
		{"one more", 501, true, "it protects 501 machines; more than 500 are better split among several policies"},
		{"disabled", 1, false, "it is disabled: nothing new is made for its machines, and no other policy takes them"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var inventory holdfast.Inventory
			for i := range c.machines {
				inventory.VMs = append(inventory.VMs, machine("shop", fmt.Sprintf("web-%d", i)))
			}
			p := policy("p", 1, holdfast.Sources{All: true})
			p.Enabled = c.enabled
			var said []string
			for _, w := range scope.New(schedules(p)).Resolve(inventory).Policies[0].Warnings {
				said = append(said, w.Text)
			}
			if got := strings.Join(said, "; "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
