package sim_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/sim"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// quarterFrom is the first of 91 days in which New York's clock changes on 8 March, Europe's on 29 March and Melbourne's on 5 April.
const quarterFrom = "2026-01-20"

// large returns a scenario of the large world: all machines and as many days as HOLDFAST_QUARTER says, as make sim-quarter sets it; else some
// days of some machines. Nothing comes or goes in the cloud, so it is looked at four times a day.
func large(t testing.TB, machines, days int, from string) scenario {
	t.Helper()
	if n, _ := strconv.Atoi(os.Getenv("HOLDFAST_QUARTER")); n > 0 {
		machines, days, from = worldMachines, n, quarterFrom
	}
	begin := instant(from).Add(5 * time.Minute) // after the slots of midnight: the first look at the cloud may take some seconds
	return scenario{
		estate: worldEstate(machines), documents: worldDocumentsRead(t), from: begin, until: begin.AddDate(0, 0, days), seed: 1, lookEvery: 6 * time.Hour, machines: machines,
	}
}

// promised is what a preview says of the large world.
func (s scenario) promised(t testing.TB) []store.Event {
	t.Helper()
	return promised(t, s.documents, worldInventory(s.machines), s.from, s.until)
}

// latest is how much later than promised something may happen where nothing goes wrong: many machines at one instant are throttled by the
// cloud, and wait.
const latest = 5 * time.Minute

// A quarter of many machines in six regions, under policies of both kinds that overlap, is what a preview says, event by event.
func TestWorld_IsAsPreviewed(t *testing.T) {
	t.Parallel()
	s := large(t, 10, 3, "2026-03-27")
	began := time.Now()
	got := s.run(t)
	t.Logf("%d machines, %v: %d events in %v, %+v", s.machines, s.until.Sub(s.from), len(got.events), time.Since(began), got.proof)
	compareLines(t, withoutInstants(got.lines), withoutInstants(lines(s.promised(t))))
	for _, e := range got.events {
		if late := e.At.Sub(e.Slot); !e.Slot.IsZero() && isPoint(e.Name) && late > latest {
			t.Errorf("%v late: %s", late, line(e.At, e.VM, e))
		}
	}
}

// With faults and crashes every line that differs from what was promised is explained by one on record: nothing is skipped in silence.
func TestWorld_EveryDifferenceIsExplained(t *testing.T) {
	t.Parallel()
	s := large(t, 12, 4, "2026-03-27")
	s.faults, s.crashes = worldFaults, 4*int(s.until.Sub(s.from).Hours()/24)
	if s.machines < worldMachines {
		s.faults = standsStillEarly(s.faults)
	}
	count := s.explained(t)
	if count["refused"] == 0 || count["skipped"] == 0 || count["missed"] == 0 {
		t.Error("too little went wrong to prove anything")
	}
}

// standsStillEarly lets a small world stand still as well, and not at its end.
func standsStillEarly(faults string) string {
	return strings.Replace(faults, "calls: [120, 121,", "calls: [15, 16,", 1)
}

// Many short histories, each with faults, crashes, machines and days of its own, are explained likewise.
func TestWorld_ManySeeds(t *testing.T) {
	if os.Getenv("HOLDFAST_QUARTER") != "" {
		t.Skip("the quarter is one history")
	}
	t.Parallel()
	for seed := range uint64(seeds(t)) {
		s := large(t, 6+int(seed%7), 2, "2026-03-27")
		s.from = s.from.AddDate(0, 0, int(seed%31))
		s.until = s.until.AddDate(0, 0, int(seed%31))
		s.seed, s.crashes = seed, 6
		s.faults = strings.NewReplacer("seed: 20", fmt.Sprint("seed: ", seed), "calls: [120, 121,", "calls: [6,", "retryAfterSeconds: 72000", "retryAfterSeconds: 14400").Replace(worldFaults)
		s.explained(t)
	}
}

// explained runs a history in which things go wrong, and tells what no line explains. It returns how often what happened.
func (s scenario) explained(t *testing.T) map[string]int {
	t.Helper()
	began := time.Now()
	got := s.run(t)
	differences := sim.Explain(s.promised(t), got.events)
	count := map[string]int{}
	for _, e := range got.events {
		count[e.Name]++
	}
	t.Logf("seed %d, %d machines, %v: %d events in %v, it died %d times; %d refused, %d skipped, %d missed; %d differences; %+v",
		s.seed, s.machines, s.until.Sub(s.from), len(got.events), time.Since(began), got.died, count["refused"], count["skipped"], count["missed"], len(differences), got.proof)
	for _, d := range differences {
		if d.Cause == nil {
			t.Errorf("seed %d: %v", s.seed, d)
		}
	}
	if got.died == 0 || count["refused"] == 0 {
		t.Errorf("seed %d: nothing went wrong", s.seed)
	}
	return count
}

// One seed makes one history of the large world too, whatever goes wrong.
func TestWorld_OneSeedOneHistory(t *testing.T) {
	if os.Getenv("HOLDFAST_QUARTER") != "" {
		t.Skip("the quarter is run once")
	}
	t.Parallel()
	s := large(t, 8, 2, "2026-03-07")
	s.faults, s.crashes = standsStillEarly(worldFaults), 6
	first, second := s.run(t), s.run(t)
	if !slices.Equal(first.lines, second.lines) {
		compareLines(t, second.lines, first.lines)
		t.Error("one seed made two histories")
	}
}
