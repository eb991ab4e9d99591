package preview

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// openLedger puts the SLA policies in force, and lets the groups join them.
func (p *Preview) openLedger(d holdfast.Documents) error {
	for _, s := range d.SLAPolicies {
		template, known := d.SLATemplate(s.Template)
		holdfast.Invariant(known, "the template %q was there a moment ago", s.Template)
		var regions []string
		for _, g := range p.groupsUnder(s.Name) {
			regions = append(regions, g.region)
		}
		slices.Sort(regions)
		terms := sla.Terms{Version: 1, Enabled: s.Enabled, Regions: slices.Compact(regions), Template: template, TemplateVersion: 1}
		if err := p.ledger.Apply(sla.PolicyInForce{At: p.now, Policy: s.Name, Terms: terms}, p); err != nil {
			return err
		}
		for _, g := range p.groupsUnder(s.Name) {
			if err := p.ledger.Apply(sla.MachineJoined{At: p.now, Policy: s.Name, Machine: g.ids[0], Region: g.region}, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// began, failed and durable tell the ledger what became of a session. Only SLA policies are judged.
func (p *Preview) began(g *group, kind holdfast.PointKind, slot, now time.Time) error {
	if g.kind != holdfast.PolicySLA {
		return nil
	}
	return p.ledger.Apply(sla.SessionStarted{At: now, Work: g.work(kind, slot)}, p)
}

func (p *Preview) failed(g *group, kind holdfast.PointKind, slot, now time.Time) error {
	if g.kind != holdfast.PolicySLA {
		return nil
	}
	return p.ledger.Apply(sla.SessionFailed{At: now, Work: g.work(kind, slot)}, p)
}

func (p *Preview) durable(g *group, made retention.Point, slot, now time.Time) error {
	if g.kind != holdfast.PolicySLA {
		return nil
	}
	return p.ledger.Apply(sla.PointDurable{At: now, Work: g.work(made.Kind, slot), Point: g.ledgerID(made.ID)}, p)
}

// ledgerID tells the points of different groups apart, whose names say when they were made and not of what.
func (g *group) ledgerID(id holdfast.PointID) holdfast.PointID {
	return id + holdfast.PointID(fmt.Sprintf("#%d", g.number))
}

// Expectation implements sla.Recorder.
func (p *Preview) Expectation(e sla.Expectation) {
	name, ended := EndName(e.State)
	if !ended {
		return
	}
	g := p.standing[e.Machine.Key()]
	p.tallies.add(e, g)
	point, _, _ := strings.Cut(string(e.Point), "#")
	p.emit(Event{
		At: e.Ended, Policy: e.Policy, Name: name, Slot: e.Slot, Point: holdfast.PointID(point), Flags: holdfast.Flags(0).With(e.Flag),
		Reason: EndReason(e), Machines: g.ids,
	})
}

// Period implements sla.Recorder.
func (p *Preview) Period(c sla.Compliance) {
	if !c.Frozen.IsZero() {
		return // nothing is proven in a preview
	}
	key := tallyKey{c.Policy, c.Row, c.Entry}
	ratio, rated := p.tallies.percent(key)
	delete(p.tallies, key)
	p.emit(Event{At: c.Closed, Policy: c.Policy, Name: Period, Flags: holdfast.Flags(0).With(c.Flag), Reason: PeriodReason(c, ratio, rated)})
}

// PeriodReason says what an entry of a chart came to that has closed. rated is false where no machine has a ratio.
func PeriodReason(c sla.Compliance, ratio float64, rated bool) string {
	text := fmt.Sprintf("%s %ss of %s: ", c.Flag, c.Kind, c.Entry)
	switch {
	case !rated:
		return text + "nothing was expected"
	case ratio >= c.TargetPercent:
		return text + fmt.Sprintf("%.1f %%, the target of %g %% is met", ratio, c.TargetPercent)
	default:
		return text + fmt.Sprintf("%.1f %%, the target of %g %% is missed", ratio, c.TargetPercent)
	}
}

// EndReason says of which kind an expectation was that has ended, and why it ended as it did.
func EndReason(e sla.Expectation) string {
	return strings.TrimSuffix(fmt.Sprintf("%s: %s", e.Kind, e.Reason), ": ")
}

// EndName is the name of the event that an expectation has ended; false while it is open.
func EndName(s sla.State) (Name, bool) {
	name, ended := map[sla.State]Name{sla.Met: Met, sla.Missed: Missed, sla.Excused: Excused}[s]
	return name, ended
}

// Note implements sla.Recorder.
func (p *Preview) Note(n sla.Note) {
	holdfast.Invariant(false, "the ledger did not expect what the preview did: %+v", n)
}

// tallies count what became of the expectations of periods that are open, by group: the mean over machines weighs each group
// by its size, which the ledger, that knows one machine of each, cannot.
type tallies map[tallyKey]map[*group]*tally

type tallyKey struct {
	policy string
	row    sla.Row
	entry  civil.Date
}

type tally struct{ met, missed int }

func (t tallies) add(e sla.Expectation, g *group) {
	key := tallyKey{e.Policy, e.Row, e.Entry}
	if t[key] == nil {
		t[key] = map[*group]*tally{}
	}
	if t[key][g] == nil {
		t[key][g] = &tally{}
	}
	switch e.State {
	case sla.Met:
		t[key][g].met++
	case sla.Missed:
		t[key][g].missed++
	case sla.Open, sla.Excused:
	}
}

// percent is the mean over the machines that have a ratio; false when none has. Groups are gone through in a fixed order, so
// that the figure is the same each time, to the last digit.
func (t tallies) percent(key tallyKey) (float64, bool) {
	groups := slices.SortedFunc(maps.Keys(t[key]), func(a, b *group) int { return a.number - b.number })
	sum, machines := 0.0, 0
	for _, g := range groups {
		if c := t[key][g]; c.met+c.missed > 0 {
			sum += float64(len(g.ids)) * float64(c.met) / float64(c.met+c.missed)
			machines += len(g.ids)
		}
	}
	return 100 * sum / float64(max(1, machines)), machines > 0
}
