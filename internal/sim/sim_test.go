package sim_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/sim"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// estate has three machines in two regions, one of them with two disks.
const estate = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope}
  - {name: bank, subscription: production, location: eastus}
networks:
  - {name: shop-net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}
  - {name: bank-net, resourceGroup: bank, addressPrefix: 10.2.0.0/16, subnets: [{name: front, addressPrefix: 10.2.1.0/24}]}
virtualMachines:
  - {name: web-1, resourceGroup: shop, size: Standard_D4s_v5, os: Linux, subnet: shop-net/front, osDisk: {name: web-1-os, sizeGiB: 32, sku: Premium_LRS}}
  - name: db-1
    resourceGroup: shop
    size: Standard_D4s_v5
    os: Linux
    tags: {tier: gold}
    subnet: shop-net/front
    osDisk: {name: db-1-os, sizeGiB: 32, sku: Premium_LRS}
    dataDisks: [{lun: 0, name: db-1-data, sizeGiB: 64, sku: Premium_LRS}]
  - {name: db-2, resourceGroup: bank, size: Standard_D4s_v5, os: Linux, tags: {tier: gold}, subnet: bank-net/front, osDisk: {name: db-2-os, sizeGiB: 32, sku: Premium_LRS}}
`

const policies = `
kind: Repository
name: hot
url: /backups/hot
encrypted: false
---
kind: Repository
name: vault
url: azblob://shopvault/backups/vault
region: westeurope
tier: archive
encrypted: false
---
kind: SchedulePolicy
name: office
zone: Europe/Brussels
sources: {regions: [westeurope], all: true}
retries: 2
daily:
  snapshots: {hours: [7, 12], keep: 3}
  backups: {hours: [7], keep: 3 days, repository: hot}
weekly:
  at: "07:00"
  snapshots: {days: [monday], keep: 2}
  backups: {days: [monday], keep: 14 days, repository: hot}
monthly:
  at: "07:00"
  on: first monday
  archives: {months: [every], keep: 12 months, repository: vault}
---
kind: SLATemplate
name: gold
target: 97
snapshots:
  daily: {every: 4 hours, keep: 1 day}
backups:
  window: {from: "20:00", to: "06:00"}
  daily: {every: 4 hours, keep: 2 days}
  monthly: {months: [every], on: last day, keep: 1 month}
---
kind: StorageTemplate
name: near
backups: {default: hot}
---
kind: SLAPolicy
name: gold
slaTemplate: gold
storageTemplate: near
sources: {regions: [westeurope, eastus], include: [{tag: {name: tier, value: gold}}]}
`

func instant(text string) time.Time {
	at, err := time.Parse("2006-01-02", text)
	if err != nil {
		panic(err)
	}
	return at
}

func documents(t testing.TB) holdfast.Documents {
	t.Helper()
	d, _, err := document.Read(document.File{Name: "policies.yaml", Folder: "/", Data: []byte(policies)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// line is what two histories are compared by. Points are left out: a preview names them in its own way.
func line(at time.Time, vm holdfast.ResourceID, e store.Event) string {
	return fmt.Sprintf("%s %s %s %s for %s %s %s", at.UTC().Format(time.RFC3339Nano), e.Name, e.Policy, vm.Name(), e.Slot.UTC().Format(time.RFC3339), cmp.Or(e.Flags.String(), "-"), e.Reason)
}

type history struct {
	events []store.Event
	lines  []string
	proof  sim.Proof
	died   int
}

func sum(numbers []int) (all int) {
	for _, n := range numbers {
		all += n
	}
	return all
}

// scenario is a simulation to be run.
type scenario struct {
	estate      string
	documents   holdfast.Documents
	from, until time.Time
	seed        uint64
	faults      string
	crashes     int
	lookEvery   time.Duration
	machines    int // of the estate, where it is the large world's
}

func run(t testing.TB, from, until time.Time, seed uint64, faults string, crashes ...int) history {
	t.Helper()
	return scenario{estate: estate, documents: documents(t), from: from, until: until, seed: seed, faults: faults, crashes: sum(crashes), lookEvery: time.Hour}.run(t)
}

// run simulates, and proves what is there in the end.
func (s scenario) run(t testing.TB) history {
	t.Helper()
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := sim.Config{
		Folder: filepath.Join(folder, "world"), EstateFile: write("estate.yaml", s.estate), Documents: s.documents, From: s.from, Until: s.until, Seed: s.seed, Crashes: s.crashes, LookEvery: s.lookEvery,
	}
	if s.faults != "" {
		config.FaultFile = write("faults.yaml", s.faults)
	}
	world, err := sim.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := world.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	var h history
	err = world.Run(t.Context(), func(e store.Event) error {
		h.events = append(h.events, e)
		h.lines = append(h.lines, line(e.At, e.VM, e))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.proof, err = world.Prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.died = world.Died()
	for _, wrong := range h.proof.Wrong {
		t.Error(wrong)
	}
	return h
}

func previewed(t testing.TB, from, until time.Time) []string {
	t.Helper()
	var inventory holdfast.Inventory
	for _, m := range []struct{ name, group, region, tier string }{{"web-1", "shop", "westeurope", ""}, {"db-1", "shop", "westeurope", "gold"}, {"db-2", "bank", "eastus", "gold"}} {
		vm := holdfast.InventoryVM{
			ID: holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", m.group, "Microsoft.Compute/virtualMachines", m.name), Name: m.name, Region: m.region,
			Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: "os", SizeBytes: 1 << 30}}, Tags: map[string]string{"tier": m.tier},
		}
		inventory.VMs = append(inventory.VMs, vm)
	}
	return lines(promised(t, documents(t), inventory, from, until))
}

func lines(events []store.Event) []string {
	all := make([]string, len(events))
	for i, e := range events {
		all[i] = line(e.At, e.VM, e)
	}
	return all
}

// isPoint reports whether an event tells of a point that was made.
func isPoint(name string) bool {
	return name == string(preview.Snapshot) || name == string(preview.Backup) || name == string(preview.Archive)
}

// promised are the events of a preview, one for each machine of an event.
func promised(t testing.TB, d holdfast.Documents, inventory holdfast.Inventory, from, until time.Time) []store.Event {
	t.Helper()
	prices, err := cost.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	p, err := preview.New(preview.Input{Documents: d, Inventory: inventory, Prices: prices, Assumptions: cost.DefaultAssumptions()}, from)
	if err != nil {
		t.Fatal(err)
	}
	var all []store.Event
	for e, err := range p.Run(until) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sim.Promised(e)...)
	}
	return all
}

// Without faults, what the control plane and the twin do together is what a preview says, event by event, and every point holds what its
// disks held.
func TestSimulation_IsAsPreviewed(t *testing.T) {
	t.Parallel()
	from, until := instant("2026-03-27"), instant("2026-04-07") // over a change of the clocks, and with an archive
	got, want := run(t, from, until, 1, ""), previewed(t, from, until)
	compareLines(t, got.lines, want)
	t.Logf("%d events, %+v", len(got.lines), got.proof)
}

// compareLines tells the first lines that only one of two histories has.
func compareLines(t *testing.T, got, want []string) {
	t.Helper()
	const shownAtMost = 10
	alone := func(of, other []string, what string) {
		left := map[string]int{}
		for _, l := range other {
			left[l]++
		}
		shown := 0
		for _, l := range of {
			if left[l]--; left[l] < 0 && shown < shownAtMost {
				t.Errorf("%s: %s", what, l)
				shown++
			}
		}
	}
	alone(got, want, "happened alone")
	alone(want, got, "was to happen")
	if len(got) != len(want) {
		t.Errorf("%d events, and %d were to happen", len(got), len(want))
	}
}

// The same seed makes the same history twice; another one writes other bytes and makes the same points.
func TestSimulation_OneSeedOneHistory(t *testing.T) {
	t.Parallel()
	from, until := instant("2026-03-30"), instant("2026-04-01")
	first, second := run(t, from, until, 7, faults), run(t, from, until, 7, faults)
	if !slices.Equal(first.lines, second.lines) || fmt.Sprint(first.proof) != fmt.Sprint(second.proof) {
		t.Errorf("two histories of one seed:\n%d events, %+v\n%d events, %+v", len(first.lines), first.proof, len(second.lines), second.proof)
		for i := range min(len(first.lines), len(second.lines)) {
			if first.lines[i] != second.lines[i] {
				t.Fatalf("the first difference:\n%s\n%s", first.lines[i], second.lines[i])
			}
		}
	}
}

// faults let calls be throttled, fail, get lost, and take effect without an answer; and operations fail that make snapshots.
const faults = `
seed: 3
rules:
  - {on: arm, path: "*/snapshots/*", method: PUT, probability: 0.05, fault: throttle, retryAfterSeconds: 7, afterEffect: true}
  - {on: arm, path: "*/snapshots/*", method: PUT, probability: 0.1, fault: fail-operation}
  - {on: arm, path: "*/snapshots/*", method: DELETE, probability: 0.1, fault: lost, afterEffect: true}
  - {on: arm, method: GET, probability: 0.01, fault: throttle, retryAfterSeconds: 2}
  - {on: arm, path: "*beginGetAccess", probability: 0.1, fault: error, status: 503, code: ServerBusy}
  - {on: disk, query: "*comp=pagelist*", probability: 0.05, fault: error, status: 503, code: ServerBusy}
  - {on: disk, probability: 0.01, fault: cut}
  - {on: disk, calls: [90], fault: revoke}
`

// With faults every point that a preview promised is there, or a recorded refusal or skipped slot says why not; what is there holds what the
// disks held, and nothing is left in the twin.
func TestSimulation_WithFaults_NothingIsSilent(t *testing.T) {
	t.Parallel()
	from, until := instant("2026-03-27"), instant("2026-04-01")
	for seed := range uint64(seeds(t)) {
		got := run(t, from, until, seed, strings.Replace(faults, "seed: 3", fmt.Sprint("seed: ", seed), 1))
		refused := 0
		for _, promised := range previewed(t, from, until) {
			p := parse(promised)
			if p.name != "snapshot" && p.name != "backup" && p.name != "archive" {
				continue
			}
			explained := slices.ContainsFunc(got.lines, func(l string) bool {
				e := parse(l)
				same := e.policy == p.policy && e.vm == p.vm && e.slot == p.slot
				return same && (e.name == p.name || e.name == "skipped" || e.name == "refused" && strings.Contains(l, "no "+p.name+":"))
			})
			if !explained {
				t.Errorf("seed %d: nothing on record says what became of: %s", seed, promised)
			}
		}
		for _, l := range got.lines {
			if parse(l).name == "refused" {
				refused++
			}
		}
		if refused == 0 {
			t.Errorf("seed %d: nothing went wrong at all", seed)
		}
		t.Logf("seed %d: %d events, %d refusals, %+v", seed, len(got.lines), refused, got.proof)
	}
}

// A control plane that dies in the middle of its work again and again leaves what a preview promised: whoever takes over finishes it, and nothing is
// made twice, lost or left in the twin.
func TestSimulation_Crashes(t *testing.T) {
	t.Parallel()
	from, until := instant("2026-03-27"), instant("2026-03-31")
	want := withoutInstants(previewed(t, from, until))
	for seed := range uint64(seeds(t)) {
		h := run(t, from, until, seed, "", 12)
		if h.died < 8 {
			t.Errorf("seed %d: it died %d times", seed, h.died)
		}
		got := withoutInstants(h.lines)
		for _, l := range want {
			if !slices.Contains(got, l) {
				t.Errorf("seed %d: did not happen: %s", seed, l)
			}
		}
		for _, l := range got {
			if !slices.Contains(want, l) {
				t.Errorf("seed %d: happened alone: %s", seed, l)
			}
		}
		if len(got) != len(want) {
			t.Errorf("seed %d: %d events, %d were to happen", seed, len(got), len(want))
		}
		t.Logf("seed %d: died %d times, %d events, %+v", seed, h.died, len(got), h.proof)
	}
}

// withoutInstants leaves out when things happened, and sorts: what a process did not finish, the next one does some seconds later.
func withoutInstants(lines []string) []string {
	var all []string
	for _, l := range lines {
		_, rest, _ := strings.Cut(l, " ")
		all = append(all, rest)
	}
	slices.Sort(all)
	return all
}

// seeds is how many histories a test runs: HOLDFAST_SIM says so, as make sim does; by default enough for a first impression.
func seeds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("HOLDFAST_SIM")
	if text == "" {
		return 2
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("HOLDFAST_SIM=%q is no number of histories", text)
	}
	return n
}

// parsed is what a line says of an event.
type parsed struct{ name, policy, vm, slot string }

func parse(line string) parsed {
	words := strings.SplitN(line, " ", 7)
	return parsed{words[1], words[2], words[3], words[5]}
}
