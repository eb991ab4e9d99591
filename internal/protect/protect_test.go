package protect_test

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
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
}
