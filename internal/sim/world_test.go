package sim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
)

// worldRegion is a region of the large world: some have zones and some have none, and the clocks of four of them change in this quarter, on three days.
type worldRegion struct {
	name  string
	zones bool
}

var worldRegions = []worldRegion{{"westeurope", true}, {"eastus", true}, {"japaneast", true}, {"westus", false}, {"ukwest", false}, {"australiasoutheast", false}}

const (
	worldSubscription = "11111111-1111-1111-1111-111111111111"
	worldMachines     = 60
)

// worldTags say which policies ask for a machine: by the last digit of its number one, several, or the one that takes whatever is left.
var worldTags = [][]string{
	{"tier: gold", "team: office"},
	{"tier: gold", "copies: silver"},
	{"copies: silver"},
	{"copies: silver", "books: kept"},
	{"copies: silver"},
	{"team: office"},
	{"team: office"},
	{"team: office", "books: kept"},
	{"books: kept"},
	nil,
}

// worldEstate writes the estate of so many machines, spread over the regions; every fifth has two disks.
func worldEstate(machines int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %d machines in %d regions: written by TestWorld_FilesAreAsGenerated, and not by hand.\nsubscriptions:\n  - {id: %s, name: production}\nresourceGroups:\n", machines, len(worldRegions), worldSubscription)
	for _, r := range worldRegions {
		fmt.Fprintf(&b, "  - {name: shop-%s, subscription: production, location: %s}\n", r.name, r.name)
	}
	b.WriteString("networks:\n")
	for i, r := range worldRegions {
		fmt.Fprintf(&b, "  - {name: net-%s, resourceGroup: shop-%s, addressPrefix: 10.%d.0.0/16, subnets: [{name: front, addressPrefix: 10.%d.1.0/24}]}\n", r.name, r.name, i+1, i+1)
	}
	b.WriteString("virtualMachines:\n")
	for i := range machines {
		r := worldRegions[i%len(worldRegions)]
		name := worldName(i)
		fmt.Fprintf(&b, "  - name: %s\n    resourceGroup: shop-%s\n    size: Standard_D4s_v5\n    os: Linux\n    subnet: net-%s/front\n", name, r.name, r.name)
		if r.zones && i%4 == 0 {
			b.WriteString("    zone: \"1\"\n")
		}
		if tags := worldTagsOf(i); len(tags) > 0 {
			fmt.Fprintf(&b, "    tags: {%s}\n", strings.Join(tags, ", "))
		}
		fmt.Fprintf(&b, "    osDisk: {name: %s-os, sizeGiB: 32, sku: Premium_LRS}\n", name)
		if worldDisks(i) > 1 {
			fmt.Fprintf(&b, "    dataDisks: [{lun: 0, name: %s-data, sizeGiB: 64, sku: StandardSSD_LRS}]\n", name)
		}
	}
	return b.String()
}

func worldName(i int) string { return fmt.Sprintf("vm-%02d", i) }

func worldDisks(i int) int {
	if i%5 == 2 {
		return 2
	}
	return 1
}

func worldTagsOf(i int) []string {
	tags := slices.Clone(worldTags[i%len(worldTags)])
	if i%20 == 19 {
		tags = append(tags, "team: lab")
	}
	return tags
}

// worldInventory is what a discovery finds of the estate.
func worldInventory(machines int) holdfast.Inventory {
	var all holdfast.Inventory
	for i := range machines {
		r := worldRegions[i%len(worldRegions)]
		vm := holdfast.InventoryVM{
			ID: holdfast.NewResourceID(worldSubscription, "shop-"+r.name, "Microsoft.Compute/virtualMachines", worldName(i)), Name: worldName(i), Region: r.name, Tags: map[string]string{},
		}
		for _, tag := range worldTagsOf(i) {
			name, value, _ := strings.Cut(tag, ": ")
			vm.Tags[name] = value
		}
		vm.Disks = append(vm.Disks, holdfast.InventoryDisk{LUN: holdfast.OSDisk, Name: "os", SizeBytes: 32 << 30})
		if worldDisks(i) > 1 {
			vm.Disks = append(vm.Disks, holdfast.InventoryDisk{LUN: "0", Name: "data", SizeBytes: 64 << 30})
		}
		all.VMs = append(all.VMs, vm)
	}
	return all
}

// worldPolicies writes the documents of the large world.
func worldPolicies() string {
	names := make([]string, 0, len(worldRegions))
	for _, r := range worldRegions {
		names = append(names, r.name)
	}
	return strings.ReplaceAll(worldDocuments, "REGIONS", strings.Join(names, ", "))
}

// worldDocuments have policies of both kinds that overlap: by tags, by priority, and with what takes the rest.
const worldDocuments = `# Four schedule-based and two SLA policies for the estate beside this file: written by TestWorld_FilesAreAsGenerated, and not by hand.
kind: Installation
zone: Europe/Brussels
retentionAt: "00:15"
---
kind: Repository
name: hot
url: /backups/hot
encrypted: false
---
kind: Repository
name: shelf
url: /backups/shelf
encrypted: false
---
kind: Repository
name: vault
url: azblob://shopvault/backups/vault
region: westeurope
tier: archive
encrypted: false
---
# Backups of the evening, on the clock of New York, which changes three weeks before Europe's.
kind: SchedulePolicy
name: books
priority: 1
zone: America/New_York
sources: {regions: [REGIONS], include: [{tag: {name: books, value: kept}}]}
retries: 2
daily:
  days: [weekdays]
  snapshots: {hours: [18], keep: 4}
  backups: {hours: [18], keep: 6 days, repository: hot}
weekly:
  at: "18:00"
  backups: {days: [saturday], keep: 5 months, repository: hot}
monthly:
  at: "18:00"
  on: last day
  archives: {months: [every], keep: 12 months, repository: vault}
healthCheck: {on: last friday}
---
kind: SchedulePolicy
name: office
priority: 2
zone: Europe/Brussels
sources: {regions: [REGIONS], include: [{tag: {name: team, value: office}}]}
retries: 3
daily:
  days: [weekdays]
  snapshots: {hours: [7], keep: 3}
  backups: {hours: [7], keep: 4 days, repository: hot}
weekly:
  at: "07:00"
  snapshots: {days: [monday], keep: 2}
  backups: {days: [monday], keep: 30 days, repository: shelf}
monthly:
  at: "07:00"
  on: first monday
  archives: {months: [every], keep: 12 months, repository: vault}
healthCheck: {days: [friday], months: [every]}
---
# At a time that one Sunday in March does not have.
kind: SchedulePolicy
name: lab
priority: 3
zone: Europe/Brussels
sources: {regions: [REGIONS], include: [{tag: {name: team, value: lab}}]}
weekly:
  at: "02:30"
  snapshots: {days: [sunday, wednesday], keep: 3}
  backups: {days: [sunday], keep: 21 days, repository: shelf}
---
kind: SchedulePolicy
name: rest
priority: 4
sources: {regions: [REGIONS], all: true}
retries: 1
daily:
  snapshots: {hours: [22], keep: 2}
  backups: {hours: [22], keep: 3 days, repository: hot}
monthly:
  at: "22:00"
  on: last day
  backups: {months: [every], keep: 2 months, repository: shelf}
---
kind: SLATemplate
name: gold
target: 97
snapshots:
  window: {from: "08:00", to: "20:00"}
  daily: {every: 12 hours, keep: 2 days}
  weekly: {days: [friday], keep: 1 month}
  monthly: {months: [every], on: last friday, keep: 2 months}
backups:
  window: {from: "20:00", to: "06:00"}
  daily: {every: 12 hours, keep: 2 days}
  weekly: {days: [sunday], keep: 1 month}
  monthly: {months: [every], on: last day, keep: 2 months}
archives: {on: last day, months: [every], keep: 1 year}
healthCheck: {on: first sunday, months: [every]}
---
kind: SLATemplate
name: silver
target: 90
snapshots:
  daily: {every: 24 hours, keep: 1 day}
backups:
  window: {from: "22:00", to: "04:00"}
  daily: {every: 12 hours, keep: 3 days}
  weekly: {days: [saturday], keep: 1 month}
---
kind: StorageTemplate
name: near
backups: {default: hot, regions: {eastus: shelf}}
archives: {default: vault}
---
kind: SLAPolicy
name: gold
priority: 1
slaTemplate: gold
storageTemplate: near
sources: {regions: [REGIONS], include: [{tag: {name: tier, value: gold}}]}
retries: 3
---
kind: SLAPolicy
name: silver
priority: 2
slaTemplate: silver
storageTemplate: near
sources: {regions: [REGIONS], include: [{tag: {name: copies, value: silver}}]}
retries: 3
`

// worldFaults are what goes wrong in the large world: throttling, failing operations, answers that get lost, storage that is busy, and a disk service that
// is down for some hours.
const worldFaults = `# What goes wrong in a quarter: written by TestWorld_FilesAreAsGenerated, and not by hand.
seed: 20
rules:
  # Forty hours in which nothing moves, now and then: sessions that are late, slots that are skipped aloud.
  - {on: arm, path: "*/snapshots/*", method: PUT, calls: [120, 121, 800, 801, 2000, 2001, 4000, 4001], fault: throttle, retryAfterSeconds: 72000}
  # A region in which every second snapshot fails.
  - {on: arm, path: "*shop-ukwest/*/snapshots/*", method: PUT, probability: 0.5, fault: fail-operation}
  - {on: arm, path: "*/snapshots/*", method: PUT, probability: 0.03, fault: throttle, retryAfterSeconds: 7, afterEffect: true}
  - {on: arm, path: "*/snapshots/*", method: PUT, probability: 0.02, fault: fail-operation}
  - {on: arm, path: "*/snapshots/*", method: PUT, probability: 0.02, fault: fail-operation, afterEffect: true}
  - {on: arm, path: "*/snapshots/*", method: DELETE, probability: 0.04, fault: lost, afterEffect: true}
  - {on: arm, method: GET, probability: 0.003, fault: throttle, retryAfterSeconds: 2}
  - {on: arm, path: "*beginGetAccess", probability: 0.05, fault: error, status: 503, code: ServerBusy}
  - {on: disk, query: "*comp=pagelist*", probability: 0.02, fault: error, status: 503, code: ServerBusy}
  - {on: disk, probability: 0.005, fault: cut}
  - {on: disk, calls: [90, 4000, 9000], fault: revoke}
`

func worldDocumentsRead(t testing.TB) holdfast.Documents {
	t.Helper()
	d, _, err := document.Read(document.File{Name: "policies.yaml", Folder: "/", Data: []byte(worldPolicies())})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The files of the large world, with which holdfast sim runs it, are what the generator writes.
func TestWorld_FilesAreAsGenerated(t *testing.T) {
	for name, want := range map[string]string{"estate.yaml": worldEstate(worldMachines), "policies.yaml": worldPolicies(), "faults.yaml": worldFaults} {
		path := filepath.Join("testdata", "quarter", name)
		if got, err := os.ReadFile(path); err == nil && string(got) == want {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s was not what the generator writes; it is now", path)
	}
}
