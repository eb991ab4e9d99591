package sla

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// policy is the ledger of one policy.
type policy struct {
	name      string
	stretches []stretch // in order of time; what is over for long is forgotten
	regions   []*region // by name
	members   map[string]*member
	joins     int // how often a machine joined
	books     []*book

	isNext bool // what is due next is due here; owned by Ledger.settle
}

// stretch is a span of time with one version in force.
type stretch struct {
	from, to time.Time // to is zero in the one that lasts
	terms    *Terms
	enabled  bool
}

// covers returns the part of [from, to) in which the stretch was in force; empty when from is not before to.
func (s stretch) covers(from, to time.Time) (time.Time, time.Time) {
	if s.from.After(from) {
		from = s.from
	}
	if !s.to.IsZero() && s.to.Before(to) {
		to = s.to
	}
	return from, to
}

// member is a machine that the policy protects or protected.
type member struct {
	id     holdfast.ResourceID
	key    string
	region *region
	join   int       // the number of its joining; those of a region are in this order
	in     bool      // protected now
	left   time.Time // when it last was until; zero: it never left
}

// memory is how long a version that is out of force and a machine that left are remembered: longer than the entry in which
// they were, which a machine that joins may look back to. A month, and the windows and zones at both of its ends.
const memory = 40 * 24 * time.Hour

// inForce returns the stretch that lasts, nil when there is none.
func (p *policy) inForce() *stretch {
	if k := len(p.stretches) - 1; k >= 0 && p.stretches[k].to.IsZero() {
		return &p.stretches[k]
	}
	return nil
}

// begin puts terms in force from an instant on, and forgets versions that nothing can look back to.
func (p *policy) begin(at time.Time, terms *Terms, enabled bool) {
	p.end(at)
	p.stretches = append(p.stretches, stretch{from: at, terms: terms, enabled: enabled})
	p.stretches = slices.DeleteFunc(p.stretches, func(s stretch) bool { return !s.to.IsZero() && s.to.Before(at.Add(-memory)) })
}

// end puts out of force what is in force.
func (p *policy) end(at time.Time) {
	if s := p.inForce(); s != nil {
		s.to = at
	}
}

func (e PolicyInForce) check(l *Ledger) error {
	if e.Policy == "" {
		return holdfast.Errorf(holdfast.KindInvalid, "the policy has no name").WithField("policy").WithHint("write the name of the policy")
	}
	p := l.policy(e.Policy)
	if p == nil || p.inForce() == nil {
		return nil
	}
	old := p.inForce().terms
	sameTemplate := old.Template.Name == e.Terms.Template.Name
	if e.Terms.Version < old.Version || sameTemplate && e.Terms.TemplateVersion < old.TemplateVersion {
		return holdfast.Errorf(holdfast.KindConflict, "policy %s is in force with version %d and version %d of template %s", e.Policy, old.Version, old.TemplateVersion, old.Template.Name).
			WithField("version").WithHint("every edit is a new version; give it a greater number")
	}
	return nil
}

func (e PolicyInForce) apply(l *Ledger) {
	k, found := l.search(e.Policy)
	if !found {
		l.policies = slices.Insert(l.policies, k, &policy{name: e.Policy, members: make(map[string]*member)})
	}
	p := l.policies[k]
	terms := e.Terms
	terms.Regions = slices.Clone(terms.Regions)
	terms.Template.Rows = slices.Clone(terms.Template.Rows)
	p.begin(l.now, &terms, terms.Enabled)
	p.relist(l.now)
}

// relist follows the regions of the version in force. Slots from now on are its own.
func (p *policy) relist(now time.Time) {
	names := p.inForce().terms.Regions
	for _, name := range names {
		p.region(name)
	}
	for _, r := range p.regions {
		r.listed = slices.Contains(names, r.name)
		r.restart(now)
	}
	p.reconsider()
}

// reconsider forgets regions that do not count any more; nothing is open there. When entries close may change with that.
func (p *policy) reconsider() {
	p.regions = slices.DeleteFunc(p.regions, func(r *region) bool { return !r.active() })
	p.reckon()
}

// zoneOf returns the zone whose wall clock a region's windows follow.
func zoneOf(regionName string) *time.Location {
	name, _ := schedule.RegionZone(regionName)
	zone, err := civil.Zone(name)
	holdfast.Invariant(err == nil, "region %s has no zone: %v", regionName, err)
	return zone
}

// region returns a region by its name, a new one if need be.
func (p *policy) region(name string) *region {
	k, found := slices.BinarySearchFunc(p.regions, name, func(r *region, name string) int { return strings.Compare(r.name, name) })
	if !found {
		p.regions = slices.Insert(p.regions, k, newRegion(name, zoneOf(name)))
	}
	return p.regions[k]
}

func (e PolicyEnabled) check(l *Ledger) error  { return l.checkInForce(e.Policy) }
func (e PolicyDisabled) check(l *Ledger) error { return l.checkInForce(e.Policy) }
func (e PolicyRemoved) check(l *Ledger) error  { return l.checkInForce(e.Policy) }

func (e PolicyEnabled) apply(l *Ledger)  { l.policy(e.Policy).enable(l.now, true) }
func (e PolicyDisabled) apply(l *Ledger) { l.policy(e.Policy).enable(l.now, false) }

// checkInForce refuses a policy that no version is in force of.
func (l *Ledger) checkInForce(name string) error {
	if p := l.policy(name); p == nil || p.inForce() == nil {
		return holdfast.Errorf(holdfast.KindNotFound, "no version of policy %q is in force", name).WithField("policy").
			WithHint("put an event policyInForce before it")
	}
	return nil
}

func (p *policy) enable(at time.Time, enabled bool) {
	if s := p.inForce(); s.enabled != enabled {
		p.begin(at, s.terms, enabled)
	}
}

func (e PolicyRemoved) apply(l *Ledger) {
	p := l.policy(e.Policy)
	for _, r := range p.regions {
		for _, m := range slices.Collect(r.machines()) { // leaving clears seats away
			p.leave(l, m)
		}
	}
	p.end(l.now)
	for _, r := range p.regions {
		r.restart(l.now)
	}
	p.reconsider()
}

// withRow returns a template that asks for one of its rows alone.
func withRow(t holdfast.SLATemplate, row holdfast.SLARow) holdfast.SLATemplate {
	t.Rows = []holdfast.SLARow{row}
	return t
}

// next returns the earliest instant up to to at which something is due.
func (p *policy) next(now, to time.Time, slots bool) (time.Time, bool) {
	var earliest time.Time
	some := false
	take := func(at time.Time) {
		if !at.After(to) && (!some || at.Before(earliest)) {
			earliest, some = at, true
		}
	}
	for _, r := range p.regions {
		for _, d := range r.due {
			take(d.slot.Deadline)
		}
		if at, ok := p.nextSlot(r, to); ok && (slots || at.Before(to)) {
			take(at)
		}
	}
	for _, b := range p.books {
		if at, ok := p.nextChange(b); ok {
			take(at)
		}
	}
	if some && earliest.Before(now) {
		earliest = now // an edit made an entry close earlier than it would have
	}
	return earliest, some
}

// pass lets an instant come: deadlines pass, then entries close, then figures freeze.
func (p *policy) pass(l *Ledger) {
	for _, r := range p.regions {
		p.expire(l, r)
	}
	for _, b := range p.books {
		p.close(l, b)
	}
	for _, b := range p.books {
		p.freeze(l, b)
	}
}

// rowsOfDay reports for which rows a day has slots in a region, by the versions that were or are in force at them.
func (p *policy) rowsOfDay(r *region, kind holdfast.PointKind, day civil.Date) []Row {
	from := civil.Begin(day, r.zone)
	to := from.Add(longestDay)
	var rows []Row
	for _, s := range p.stretches {
		for _, asked := range s.terms.Template.Rows {
			row := Row{asked.Kind, asked.Flag}
			if asked.Kind != kind || slices.Contains(rows, row) {
				continue
			}
			begin, end := s.covers(from, to)
			for slot := range schedule.Slots(withRow(s.terms.Template, asked), r.zone, begin, end) {
				if slot.Day == day {
					rows = append(rows, row)
					break
				}
			}
		}
	}
	return rows
}

// longestDay is longer than it can take from the first instant of a date to the close of a window that opens on it: two
// dates, of which one may have been skipped and another have 25 hours.
const longestDay = 74 * time.Hour
