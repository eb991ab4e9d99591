package preview

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/scope"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// Input is the world that a preview begins with.
type Input struct {
	Documents   holdfast.Documents
	Inventory   holdfast.Inventory
	Points      []retention.Point // that exist already
	Prices      *cost.Prices
	Assumptions cost.Assumptions
}

// Preview is a world on a virtual clock. It is not for several goroutines at once.
type Preview struct {
	now        time.Time // everything before has happened
	resolution scope.Resolution
	leftOut    []LeftOut
	estate     plan.Estate
	state      plan.State
	ledger     *sla.Ledger
	tallies    tallies
	groups     []*group
	standing   map[string]*group // by the key of the machine that stands for it
	changes    []clockChange     // the next one of each zone
	account    *account
	batch      []Event // of the instant under way
}

// New makes a preview that begins at an instant. The documents are checked ones.
func New(in Input, from time.Time) (*Preview, error) {
	p := &Preview{now: from, ledger: sla.New(), tallies: tallies{}, standing: map[string]*group{}}
	p.resolution = scope.New(in.Documents).Resolve(in.Inventory)
	points := byMachine(in.Points)
	p.leftOut = leftOutOf(p.resolution, points)
	p.groups = groupsOf(p.resolution, points)
	for _, g := range p.groups {
		p.standing[g.ids[0].Key()] = g
	}
	var err error
	if p.estate, err = plan.New(in.Documents, p.machinesOf); err != nil {
		return nil, err
	}
	p.state = plan.Begin(p.estate, from)
	if err := p.setRules(in.Documents); err != nil {
		return nil, err
	}
	if err := p.openLedger(in.Documents); err != nil {
		return nil, err
	}
	p.changes = p.clockChanges()
	meter, err := cost.NewMeter(cost.Setting{
		Prices: in.Prices, Assumptions: in.Assumptions, Repositories: repositoriesOf(in.Documents), Zonal: in.Inventory.Zonal,
	}, from)
	if err != nil {
		return nil, err
	}
	p.account = newAccount(p, in, meter)
	return p, nil
}

func byMachine(points []retention.Point) map[string][]retention.Point {
	all := map[string][]retention.Point{}
	for _, point := range points {
		all[point.VM.Key()] = append(all[point.VM.Key()], point)
	}
	return all
}

// LeftOut is a machine that has points and that the inventory does not hold. A preview knows neither its disks nor its region, so
// that nothing of it is shown.
type LeftOut struct {
	VM     holdfast.ResourceID `json:"vm"`
	Policy string              `json:"policy"` // that made its newest point; "" where a person did
	Points int                 `json:"points"`
}

// leftOutOf returns the machines with points that are not in the inventory, by id.
func leftOutOf(resolution scope.Resolution, points map[string][]retention.Point) []LeftOut {
	known := map[string]bool{}
	for _, m := range resolution.Machines {
		known[m.VM.ID.Key()] = true
	}
	all := []LeftOut{}
	for _, key := range slices.Sorted(maps.Keys(points)) {
		if own := points[key]; !known[key] {
			all = append(all, LeftOut{VM: own[0].VM, Policy: retention.Latest(own).Policy, Points: len(own)})
		}
	}
	return all
}

// machinesOf are the machines that stand for the groups of a policy.
func (p *Preview) machinesOf(policy string) []plan.Machine {
	var machines []plan.Machine
	for _, g := range p.groups {
		if g.policy == policy {
			machines = append(machines, g.machine())
		}
	}
	return machines
}

// Run yields what happens from where the preview stands up to but not at an instant. It may be called again to go on. Whoever
// leaves the loop early cannot: a part of an instant is lost then.
func (p *Preview) Run(until time.Time) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for p.now.Before(until) {
			next := p.next()
			if !next.Before(until) {
				next = until
			}
			if err := p.step(next, until); err != nil {
				yield(Event{}, err)
				return
			}
			for _, e := range p.batch {
				p.account.saw(e)
				if !yield(e, nil) {
					return
				}
			}
			p.batch = p.batch[:0]
		}
	}
}

// next is the next instant at which anything is to be decided.
func (p *Preview) next() time.Time {
	next := p.state.Due()
	for _, c := range p.changes {
		if !c.at.IsZero() && c.at.Before(next) {
			next = c.at
		}
	}
	return next
}

// step lets time pass up to an instant, and does what is to be done then, unless that is the end.
func (p *Preview) step(now, until time.Time) error {
	if !now.Before(until) {
		p.now = until
		return p.ledger.Advance(until.Add(-1), p)
	}
	if err := p.ledger.Advance(now, p); err != nil {
		return err
	}
	p.changeClocks(now)
	decision := plan.Decide(now, p.estate, p.state)
	p.state = decision.After
	for _, intent := range decision.Intents {
		if err := p.carryOut(intent, now); err != nil {
			return err
		}
	}
	p.now = now.Add(1)
	return nil
}

// carryOut does what an intent wants, as if it succeeded at once.
func (p *Preview) carryOut(i plan.Intent, now time.Time) error {
	switch i.Verb {
	case plan.Start, plan.Retry:
		return p.session(i, now)
	case plan.Check:
		p.emit(Event{At: now, Policy: i.Policy, Name: Check, Slot: i.Slot, Reason: i.InRegion("all points")})
	case plan.Retain:
		for _, g := range p.groups {
			p.retain(g, retention.DailyPass, now)
		}
	case plan.Skip: // a preview is never late, and its machines are never in work
		for _, m := range i.Machines {
			p.emit(Event{At: now, Policy: i.Policy, Name: Skipped, Slot: i.Slot, Reason: string(i.Reason), Machines: p.standing[m.Key()].ids})
		}
	}
	return nil
}

func (p *Preview) emit(e Event) { p.batch = append(p.batch, e) }

// retain carries out what retention says of the points of a group.
func (p *Preview) retain(g *group, occasion retention.Occasion, now time.Time) {
	if len(g.points) == 0 {
		return
	}
	verdicts := retention.Explain(now, occasion, g.rules, g.points)
	for _, v := range verdicts {
		switch {
		case !v.Keep:
			p.account.removed(g, v.Point, now)
			if v.Point.Temporary {
				continue
			}
			p.emit(Event{
				At: now, Policy: v.Point.Policy, Name: Remove, Slot: v.Point.Slot, Point: v.Point.ID, Flags: v.Point.Flags | v.Lost, Reason: Why(v.Reasons), Machines: g.ids,
			})
		case v.Lost != 0:
			p.emit(Event{
				At: now, Policy: v.Point.Policy, Name: Unflag, Slot: v.Point.Slot, Point: v.Point.ID, Flags: v.Lost, Reason: "stays: " + Why(v.Reasons), Machines: g.ids,
			})
		}
	}
	g.points = retention.Kept(verdicts)
}

// Why says in words why a point stays, or why it goes.
func Why(reasons []retention.Reason) string {
	var texts []string
	for _, r := range reasons {
		texts = append(texts, r.Text())
	}
	return strings.Join(texts, "; ")
}

// setRules gives each group the rules of retention that hold for its machines.
func (p *Preview) setRules(d holdfast.Documents) error {
	settings, err := retention.SettingsOf(d.Installation)
	if err != nil {
		return err
	}
	for _, g := range p.groups {
		g.rules, g.zone = retention.Unprotected(settings), settings.Zone
	}
	for _, s := range d.SchedulePolicies {
		zone, err := plan.ZoneOf(s, settings.Zone)
		if err != nil {
			return err
		}
		for _, g := range p.groupsUnder(s.Name) {
			g.kind, g.zone, g.ranged = holdfast.PolicySchedule, zone, true
			g.rules = retention.RulesOf(s, zone, settings)
		}
	}
	for _, s := range d.SLAPolicies {
		template, _ := d.SLATemplate(s.Template)
		for _, g := range p.groupsUnder(s.Name) {
			zone, err := plan.ZoneOfRegion(g.region)
			if err != nil {
				return err
			}
			g.kind, g.zone, g.ranged = holdfast.PolicySLA, zone, template.ChangedRanges
			g.rules = retention.RulesOfTemplate(template, zone, settings)
		}
	}
	for _, g := range p.groups {
		// Points that exist may have a limit of a policy before this one, or a lock that ends.
		g.counted = len(g.points) > 0 || slices.ContainsFunc(g.rules.Rows, func(r retention.Row) bool { return r.Keep.Counted })
		g.adopt()
	}
	return nil
}

func (p *Preview) groupsUnder(policy string) []*group {
	var under []*group
	for _, g := range p.groups {
		if g.policy == policy {
			under = append(under, g)
		}
	}
	return under
}

// adopt takes the snapshots that are held already for the base of whatever repository is written to next, and what was archived
// already for copies of the newest backup of their time.
func (g *group) adopt() {
	for _, point := range g.points {
		if point.Base {
			g.bases[point.Repository] = point.ID
		}
		if point.Kind == holdfast.PointArchive && point.Good && point.Created.After(g.archived[point.Repository]) {
			g.archived[point.Repository] = point.Created
		}
	}
}

// zones are those in which policies are evaluated, in a fixed order.
func (p *Preview) zones() []*time.Location {
	byName := map[string]*time.Location{}
	for _, g := range p.groups {
		if g.policy != "" {
			byName[g.zone.String()] = g.zone
		}
	}
	var zones []*time.Location
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		zones = append(zones, byName[name])
	}
	return zones
}

// clockChange is the next change of the clocks of a zone.
type clockChange struct {
	zone *time.Location
	at   time.Time // zero: none is known
}

func (p *Preview) clockChanges() []clockChange {
	var changes []clockChange
	for _, zone := range p.zones() {
		changes = append(changes, clockChange{zone, changeAfter(zone, p.now.Add(-1))})
	}
	return changes
}

// changeAfter finds the first instant after t at which the clocks of a zone are moved; zero when none is known.
func changeAfter(zone *time.Location, t time.Time) time.Time {
	for {
		_, end := t.In(zone).ZoneBounds()
		if end.IsZero() {
			return end
		}
		_, before := end.Add(-1).In(zone).Zone()
		if _, after := end.In(zone).Zone(); after != before {
			return end.UTC()
		}
		t = end // another name for the same time
	}
}

// changeClocks tells of the clocks that are changed at an instant.
func (p *Preview) changeClocks(now time.Time) {
	for i, c := range p.changes {
		if c.at.IsZero() || c.at.After(now) {
			continue
		}
		_, before := c.at.Add(-1).In(c.zone).Zone()
		_, after := c.at.In(c.zone).Zone()
		from := c.at.Add(time.Duration(before) * time.Second).UTC().Format("15:04")
		what := "forward"
		if after < before {
			what = "back"
		}
		p.emit(Event{At: c.at, Name: Clock, Reason: fmt.Sprintf("%s: the clocks go %s from %s to %s", c.zone, what, from, c.at.In(c.zone).Format("15:04"))})
		p.changes[i].at = changeAfter(c.zone, c.at)
	}
}
