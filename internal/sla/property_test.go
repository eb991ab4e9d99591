package sla_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// tokyo is furthest from New York among the regions of the tests.
const tokyo = "japaneast"

// templates are what the drawn policies ask for: windows in the day, over midnight and around the clock.
func templates() []holdfast.SLATemplate {
	backup, snapshot := holdfast.PointBackup, holdfast.PointSnapshot
	return []holdfast.SLATemplate{
		hourly(),
		weekly(),
		with(weekly(), func(t *holdfast.SLATemplate) { t.BackupWindow, t.Grace = window("00:00-00:00"), 0 }),
		with(asks(hourly(), every(snapshot, holdfast.Minutes(30)), every(backup, holdfast.Hours(12)), weeklyOn(snapshot, time.Monday, time.Thursday), monthlyOn(holdfast.PointArchive, 1)), func(t *holdfast.SLATemplate) {
			t.SnapshotWindow, t.BackupWindow, t.Grace = window("20:00-02:00"), window("03:00-02:30"), 3*time.Hour
		}),
		with(asks(hourly(), weeklyOn(backup, time.Friday), monthlyOn(backup, holdfast.LastDay)), func(t *holdfast.SLATemplate) { t.ProofLevel = 3 }),
		with(hourly(), func(t *holdfast.SLATemplate) {
			t.BackupWindow, t.TargetPercent, t.ProofAge = window("23:00-23:30"), 50, holdfast.Days(2)
		}),
	}
}

// story draws events in order of time: some weeks of two policies with four machines. Most fit; a ledger refuses the rest.
type story struct {
	*rapid.T
	at      time.Time
	version int
	current map[string]holdfast.SLATemplate
	points  []holdfast.PointID
}

func drawStory(t *rapid.T) []sla.Event {
	s := &story{T: t, at: when("02-25 13:00"), current: make(map[string]holdfast.SLATemplate)}
	events := []sla.Event{s.edit("one"), s.edit("two")}
	for range rapid.IntRange(10, 60).Draw(t, "events") {
		if rapid.IntRange(0, 4).Draw(t, "later") > 0 {
			s.at = s.at.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "quarters")) * 15 * time.Minute)
		}
		events = append(events, s.next())
	}
	s.at = s.at.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "days")) * 24 * time.Hour)
	return append(events, sla.TimePassed{At: s.at})
}

func (s *story) next() sla.Event {
	policy := rapid.SampledFrom([]string{"one", "two"}).Draw(s.T, "policy")
	m := machine(fmt.Sprintf("web-%d", rapid.IntRange(1, 4).Draw(s.T, "machine")))
	switch what := rapid.IntRange(0, 29).Draw(s.T, "what"); what {
	case 0:
		return s.edit(policy)
	case 1:
		return sla.PolicyDisabled{At: s.at, Policy: policy}
	case 2:
		return sla.PolicyEnabled{At: s.at, Policy: policy}
	case 3:
		return sla.ServerStopped{At: s.at}
	case 4, 5:
		return sla.ServerStarted{At: s.at}
	case 6:
		return sla.PolicyRemoved{At: s.at, Policy: policy}
	case 7, 8:
		return sla.MachineLeft{At: s.at, Policy: policy, Machine: m}
	case 9, 10, 11, 12, 13, 14:
		return sla.MachineJoined{At: s.at, Policy: policy, Machine: m, Region: rapid.SampledFrom([]string{dublin, newYork, tokyo}).Draw(s.T, "region")}
	case 15, 16:
		return sla.PointProven{At: s.at, Point: s.point(), Level: rapid.IntRange(1, 5).Draw(s.T, "level"), OK: rapid.IntRange(0, 3).Draw(s.T, "ok") > 0}
	case 17:
		return sla.PointRemoved{At: s.at, Point: s.point()}
	default:
		return s.session(policy, m, what)
	}
}

func (s *story) edit(policy string) sla.Event {
	s.version++
	t := rapid.SampledFrom(templates()).Draw(s.T, "template")
	t.Name = fmt.Sprintf("t%d", s.version)
	s.current[policy] = t
	regions := rapid.SampledFrom([][]string{{dublin}, {newYork, dublin}, {tokyo, dublin, newYork}}).Draw(s.T, "regions")
	return sla.PolicyInForce{At: s.at, Policy: policy, Terms: sla.Terms{Version: s.version, TemplateVersion: s.version, Enabled: rapid.IntRange(0, 4).Draw(s.T, "enabled") > 0, Regions: regions, Template: t}}
}

func (s *story) point() holdfast.PointID {
	if len(s.points) == 0 {
		return "none"
	}
	return rapid.SampledFrom(s.points).Draw(s.T, "point")
}

// session draws something about one of the slots of the last day.
func (s *story) session(policy string, m holdfast.ResourceID, what int) sla.Event {
	zone := zoneOf(rapid.SampledFrom([]string{dublin, newYork, tokyo}).Draw(s.T, "zone"))
	slots := slices.Collect(schedule.Slots(s.current[policy], zone, s.at.Add(-26*time.Hour), s.at.Add(time.Minute)))
	if len(slots) == 0 {
		return sla.TimePassed{At: s.at}
	}
	slot := slots[len(slots)-1-min(len(slots)-1, rapid.IntRange(0, 6).Draw(s.T, "back"))]
	w := sla.Work{Policy: policy, Machine: m, Kind: slot.Kind, Slot: slot.At}
	switch what {
	case 18:
		return sla.SessionStarted{At: s.at, Work: w}
	case 19:
		return sla.SessionFailed{At: s.at, Work: w}
	case 20:
		return sla.SessionSkipped{At: s.at, Work: w}
	}
	id := holdfast.PointID(fmt.Sprintf("point %d", len(s.points)))
	s.points = append(s.points, id)
	return sla.PointDurable{At: s.at, Work: w, Point: id}
}

func zoneOf(region string) *time.Location {
	name, _ := schedule.RegionZone(region)
	zone, err := civil.Zone(name)
	if err != nil {
		panic(err)
	}
	return zone
}

// bookOf feeds a ledger and keeps what it told. The events that were refused are left out of what it returns.
func bookOf(t *testing.T, events []sla.Event) (*world, []sla.Event) {
	t.Helper()
	w := newWorld(t)
	var accepted []sla.Event
	for _, e := range events {
		if w.ledger.Apply(e, w) == nil {
			accepted = append(accepted, e)
		}
	}
	return w, accepted
}

// A ledger that is written and read again after any of its events goes on as one that was not: it tells the same in the same
// order, and ends in the same state. A snapshot is a value: what happens later does not change it.
func TestProperty_PiecesAreTheWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		whole, events := bookOf(t, drawStory(rt))
		pieces := newWorld(t)
		for i, e := range events {
			if rapid.IntRange(0, 9).Draw(rt, "store") == 0 {
				snapshot := pieces.ledger.Snapshot()
				stored := encode(t, snapshot)
				var loaded sla.Snapshot
				if err := json.Unmarshal(stored, &loaded); err != nil {
					rt.Fatal(err)
				}
				restored, err := sla.Restore(loaded)
				if err != nil {
					rt.Fatalf("before event %d: %v", i, err)
				}
				if again := encode(t, restored.Snapshot()); string(again) != string(stored) {
					rt.Fatalf("before event %d: stored\n%s\nand restored\n%s", i, stored, again)
				}
				pieces.ledger = restored
				defer func() {
					if string(encode(t, snapshot)) != string(stored) {
						rt.Errorf("the snapshot before event %d has changed", i)
					}
				}()
			}
			if err := pieces.ledger.Apply(e, pieces); err != nil {
				rt.Fatalf("event %d %#v: %v", i, e, err)
			}
		}
		if a, b := encode(t, whole.told), encode(t, pieces.told); string(a) != string(b) {
			rt.Fatalf("whole:\n%s\npieces:\n%s", a, b)
		}
		if a, b := encode(t, whole.ledger.Snapshot()), encode(t, pieces.ledger.Snapshot()); string(a) != string(b) {
			rt.Fatalf("whole:\n%s\npieces:\n%s", a, b)
		}
	})
}

// Time may pass in steps of any length between events: the ledger is the same.
func TestProperty_TimeInSteps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		whole, events := bookOf(t, drawStory(rt))
		steps := newWorld(t)
		for _, e := range events {
			for at := steps.ledger.Now().Add(7 * time.Minute); rapid.Bool().Draw(rt, "step") && !at.IsZero(); at = at.Add(7 * time.Hour) {
				if fork, err := sla.Restore(steps.ledger.Snapshot()); err != nil || at.Before(when("02-25 13:00")) || fork.Advance(at, nil) != nil || fork.Apply(e, nil) != nil {
					break // the event is earlier, or of this instant
				}
				if err := steps.ledger.Advance(at, steps); err != nil {
					rt.Fatal(err)
				}
			}
			if err := steps.ledger.Apply(e, steps); err != nil {
				rt.Fatal(err)
			}
		}
		if a, b := encode(t, whole.told), encode(t, steps.told); string(a) != string(b) {
			rt.Fatalf("at once:\n%s\nin steps:\n%s", a, b)
		}
	})
}

// Whatever is reported about it later, a closed entry keeps every count and its ratio of created points, and a frozen one its
// ratio of proven points as well; an expectation that has ended is never told again (world sees to that).
func TestProperty_ClosedEntriesNeverChange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		machines := make(map[string]string)
		for _, e := range drawStory(rt) {
			if w.ledger.Apply(e, w) != nil {
				continue
			}
			for name, told := range w.periods {
				first, last := told[0], told[len(told)-1]
				now, shown := w.ledger.Entry(last.Policy, last.Row, last.Entry)
				if !shown {
					continue // no chart shows it any more
				}
				if last.Frozen.IsZero() { // the share of proven points may still move
					for _, c := range []*sla.Compliance{&first, &now} {
						c.Proven, c.ProvenRatio, c.ProvenStatus = 0, nil, ""
					}
				} else {
					first = last
				}
				if a, b := encode(t, first), encode(t, now); string(a) != string(b) {
					rt.Fatalf("%s: closed as\n%s\nand is\n%s\nafter %#v", name, a, b, e)
				}
				if last.Frozen.IsZero() {
					continue
				}
				rows := string(encode(t, w.ledger.Machines(last.Policy, last.Row, last.Entry)))
				if before, known := machines[name]; known && before != rows {
					rt.Fatalf("%s: frozen as\n%s\nand is\n%s\nafter %#v", name, before, rows, e)
				}
				machines[name] = rows
			}
		}
	})
}

// Everything that fell due for a machine is a line, and each line is counted once: planned is met, missed, excused and open.
func TestProperty_EveryLineIsCounted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, _ := bookOf(t, drawStory(rt))
		counted := make(map[string]sla.Count)
		for _, line := range w.sortedLines() {
			key := fmt.Sprintf("%s %s %s %s", line.Policy, line.Row, line.Entry, line.Machine)
			c := counted[key]
			c.Planned++
			switch line.State {
			case sla.Met:
				c.Met++
			case sla.Missed:
				c.Missed++
			case sla.Excused:
				c.Excused++
			case sla.Open:
				c.Open++
			}
			counted[key] = c
		}
		seen := make(map[string]bool)
		for _, line := range w.sortedLines() {
			group := fmt.Sprintf("%s %s %s", line.Policy, line.Row, line.Entry)
			if seen[group] {
				continue
			}
			seen[group] = true
			for _, m := range w.ledger.Machines(line.Policy, line.Row, line.Entry) {
				c := m.Count
				c.Proven = 0
				if want := counted[group+" "+string(m.Machine)]; c != want {
					rt.Fatalf("%s %s: counted %+v, and the lines are %+v", group, m.Machine.Name(), c, want)
				}
				if m.Planned != m.Met+m.Missed+m.Excused+m.Open || m.Proven > m.Met {
					rt.Fatalf("%s: %+v", group, m)
				}
			}
		}
		open := 0
		for _, policy := range []string{"one", "two"} {
			for line := range w.ledger.Open(policy) {
				open++
				if w.lines[nameOf(line)] != line {
					rt.Fatalf("open is %+v, told was %+v", line, w.lines[nameOf(line)])
				}
			}
		}
		for _, line := range w.lines {
			if line.State == sla.Open {
				open--
			}
		}
		if open != 0 {
			rt.Fatalf("%d expectations too many are open", open)
		}
	})
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// spell is a time in which a machine was protected, by one version of a policy.
type spell struct {
	policy, region string
	machine        holdfast.ResourceID
	from, to       time.Time
	terms          sla.Terms
}

// spells tells from the events alone who was protected when and by what.
func spells(events []sla.Event, end time.Time) []spell {
	type who struct {
		policy  string
		machine holdfast.ResourceID
	}
	open, terms := make(map[who]spell), make(map[string]sla.Terms)
	var done []spell
	stop := func(w who, at time.Time) {
		if s, in := open[w]; in {
			s.to = at
			done = append(done, s)
			delete(open, w)
		}
	}
	for _, e := range events {
		switch e := e.(type) {
		case sla.PolicyInForce:
			terms[e.Policy] = e.Terms
			for w, s := range open {
				if w.policy == e.Policy {
					stop(w, e.At)
					open[w] = spell{e.Policy, s.region, w.machine, e.At, time.Time{}, e.Terms}
				}
			}
		case sla.PolicyRemoved:
			for w := range open {
				if w.policy == e.Policy {
					stop(w, e.At)
				}
			}
		case sla.MachineJoined:
			open[who{e.Policy, e.Machine}] = spell{e.Policy, e.Region, e.Machine, e.At, time.Time{}, terms[e.Policy]}
		case sla.MachineLeft:
			stop(who{e.Policy, e.Machine}, e.At)
		}
	}
	for w := range open {
		stop(w, end.Add(1))
	}
	return done
}

// What is expected is told by the schedule, and by who was protected: every slot of such a time in an entry that had not
// closed, no other, and each as the version asks for it that was in force at the slot. Only late joiners have excused lines beside them.
func TestProperty_SlotsAreExpected(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, events := bookOf(t, drawStory(rt))
		want := make(map[string]bool)
		for _, s := range spells(events, w.ledger.Now()) {
			for slot := range schedule.Slots(s.terms.Template, zoneOf(s.region), s.from, s.to) {
				line := sla.Expectation{Policy: s.policy, Machine: s.machine, Row: row(slot.Kind, slot.Flag), Slot: slot.At}
				period := w.periods[periodOf(sla.Compliance{Policy: s.policy, Row: line.Row, Entry: slot.Entry().First})]
				if len(period) > 0 && !slot.At.Before(period[0].Closed) {
					continue
				}
				name := nameOf(line)
				want[name] = true
				got, told := w.lines[name]
				if !told {
					rt.Fatalf("%s was due, and is not expected", name)
				}
				if got.TemplateVersion != s.terms.TemplateVersion || !got.Deadline.Equal(slot.Deadline) || got.Entry != slot.Entry().First || got.Region != s.region {
					rt.Fatalf("%s: %+v is not %+v of version %d", name, got, slot, s.terms.Version)
				}
			}
		}
		for name, line := range w.lines {
			if late := line.Reason == sla.JoinedLate; late == want[name] {
				rt.Fatalf("%s: due is %t, and the line is %+v", name, want[name], line)
			}
		}
	})
}
