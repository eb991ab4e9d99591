package protect_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// estate has policies of both kinds over machines in two regions.
const estate = `
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
  weekly: {days: [wednesday], keep: 7 days}
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

func day(text string) time.Time {
	at, err := time.Parse("2006-01-02", text)
	if err != nil {
		panic(err)
	}
	return at
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	shown := 0
	for _, line := range got {
		if !slices.Contains(want, line) && shown < 12 {
			t.Errorf("happened alone: %s", line)
			shown++
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) && shown < 24 {
			t.Errorf("was to happen:  %s", line)
			shown++
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d events, and %d were to happen", len(got), len(want))
	}
}

// TestWorld_HappensAsPreviewed lets three weeks pass over a change of the clocks, and compares all that happened with what a preview said.
func TestWorld_HappensAsPreviewed(t *testing.T) {
	from, until := day("2026-03-20"), day("2026-04-10")
	machines := []holdfast.InventoryVM{vm("web-1", "westeurope"), vm("web-2", "westeurope"), vm("db-1", "westeurope", "tier=gold"), vm("db-2", "eastus", "tier=gold")}
	w := newWorld(t, from, estate, machines...)
	w.through(until)
	same(t, w.record(), previewed(t, estate, from, until, machines...))
	w.checkEnds()
	gone := w.points(store.PointRemoving, store.PointRemoved)
	passes := 0
	for _, p := range gone {
		of := slices.IndexFunc(w.ended, func(s holdfast.Session) bool { return s.ID == p.LetGoIn })
		if of < 0 {
			t.Fatalf("nobody knows in which session %s went", p.ID)
		}
		if w.ended[of].Type == holdfast.SessionRetention {
			passes++
		}
	}
	if passes == 0 || passes == len(gone) {
		t.Errorf("%d of %d points went in daily passes", passes, len(gone))
	}
}

// Slots that were missed raise their alarm once, whatever restarts and however long nobody was there, in one call for each tick;
// so does each entry that closes, with its machines as they stood.
func TestTick_TellsOnce(t *testing.T) {
	from := day("2026-03-20")
	w := newWorld(t, from, estate, vm("db-1", "westeurope", "tier=gold"), vm("db-2", "eastus", "tier=gold"))
	w.flows.fails = func(what string, vm holdfast.ResourceID) error {
		if what == "snapshot" && vm.Name() == "db-2" {
			return holdfast.Errorf(holdfast.KindRefused, "no permission")
		}
		return nil
	}
	w.through(from.Add(30 * time.Hour))
	w.restart()
	w.clock.Advance(20 * time.Hour) // nobody is there
	w.restart()
	w.through(from.Add(100 * time.Hour))

	var missed []sla.Expectation
	w.read(func(ctx context.Context, q store.Query) (err error) {
		missed, err = store.Expectations(ctx, q, store.ExpectationFilter{States: []sla.State{sla.Missed}})
		return err
	})
	told, most := map[string]int{}, 0
	for _, call := range w.missed {
		most = max(most, len(call))
		for _, e := range call {
			told[nameOf(e)]++
		}
	}
	reasons := map[sla.Reason]bool{}
	for _, e := range missed {
		reasons[e.Reason] = true
		if n := told[nameOf(e)]; n != 1 {
			t.Errorf("%s at %v was told %d times", e.Machine, e.Slot, n)
		}
	}
	if len(told) != len(missed) || most < 3 || !reasons[sla.Failed] || len(reasons) < 2 {
		t.Errorf("%d were missed for %v, %d were told, %d at once", len(missed), reasons, len(told), most)
	}
	closed := slices.DeleteFunc(w.record(), func(line string) bool { return !strings.Contains(line, " "+string(preview.Period)+" ") })
	if len(w.periods) != len(closed) || len(closed) == 0 {
		t.Errorf("%d entries closed, %d were told", len(closed), len(w.periods))
	}
	for _, p := range w.periods {
		if len(p.machines) != p.period.Machines.Total || p.period.Closed.IsZero() {
			t.Errorf("%+v with %d machines", p.period, len(p.machines))
		}
	}
}

// nameOf names an expectation with its end.
func nameOf(e sla.Expectation) string {
	return lineOf(e.Ended, e.Machine, e.Policy, preview.Missed, e.Slot, holdfast.Flags(0).With(e.Flag), string(e.Kind)+" "+string(e.Reason))
}

// A backup slot that falls due while the backups before it still run is skipped for each of these machines, and missed by each at once, reason overlap;
// snapshots are made all the same.
func TestScheduler_Overlap_IsToldOfEachMachine(t *testing.T) {
	machines := []holdfast.InventoryVM{vm("a-1", "westeurope", "tier=gold"), vm("a-2", "westeurope", "tier=gold")}
	w := newWorld(t, day("2026-03-10"), estate, machines...)
	tick := func(at time.Time) {
		t.Helper()
		w.clock.Advance(at.Sub(w.clock.Now()))
		if _, err := w.scheduler.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first, second := day("2026-03-10").Add(19*time.Hour), day("2026-03-10").Add(23*time.Hour) // of the window's slots
	w.through(first)
	w.missed = nil
	tick(first) // and nobody does the work
	tick(second)
	tick(second.Add(time.Second))
	skipped, missed := 0, 0
	for _, l := range w.record() {
		if strings.Contains(l, " skipped gold a-") && strings.Contains(l, second.Format(time.RFC3339)) && strings.HasSuffix(l, string(plan.Overlap)) {
			skipped++
		}
	}
	for _, e := range slices.Concat(w.missed...) {
		if e.Kind == holdfast.PointBackup && e.Slot.Equal(second) && e.Reason == sla.Overlap {
			missed++
		}
	}
	if skipped != 2 || missed != 2 {
		t.Errorf("%d machines were skipped, %d slots missed:\n%s", skipped, missed, strings.Join(w.record(), "\n"))
	}
}
