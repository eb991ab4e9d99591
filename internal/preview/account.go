package preview

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// Summary is what a preview comes to, as far as it was run.
type Summary struct {
	From        time.Time       `json:"from"`
	To          time.Time       `json:"to"`
	Machines    int             `json:"machines"`    // of the inventory
	Unprotected int             `json:"unprotected"` // of these, those that no policy protects
	LeftOut     []LeftOut       `json:"leftOut"`     // machines with points that are not in the inventory, by id
	Policies    []PolicySummary `json:"policies"`    // in the order in which they go
	Cost        cost.Report     `json:"cost"`
	Calls       cost.CallReport `json:"calls"`
}

// PolicySummary is what one policy does.
type PolicySummary struct {
	Name     string                     `json:"name"`
	Kind     holdfast.PolicyKind        `json:"kind"`
	Enabled  bool                       `json:"enabled"`
	Machines int                        `json:"machines"`
	Zone     string                     `json:"zone"` // of the days below: that of the policy, or of the region with most of its machines
	Counts   map[Name]int               `json:"counts"`
	Kept     map[holdfast.PointKind]int `json:"kept"` // points of all its machines at the end
	Days     []Day                      `json:"days"` // on which something happens, of the machines that are most alike
}

// Day is what happens to each machine of the largest group of a policy on one date.
type Day struct {
	Date      civil.Date     `json:"date"`
	Snapshots int            `json:"snapshots"`
	Backups   int            `json:"backups"`
	Archives  int            `json:"archives"`
	Removed   int            `json:"removed"`
	Refused   int            `json:"refused"`
	Flags     holdfast.Flags `json:"flags"`   // of rarer schedules
	Shifted   bool           `json:"shifted"` // the clocks are changed
}

// account keeps what a summary is made of. Owned by the preview.
type account struct {
	from     time.Time
	meter    *cost.Meter
	machines map[*group][]*cost.Machine
	calls    *cost.Calls
	callers  map[*group][]*cost.Caller
	policies []*PolicySummary
	byName   map[string]*PolicySummary
	shown    map[string]*group // by policy: the group whose days are shown
}

// newAccount begins the account of a preview, with what exists already.
func newAccount(p *Preview, in Input, meter *cost.Meter) *account {
	a := &account{
		from: p.now, meter: meter, machines: map[*group][]*cost.Machine{}, calls: cost.NewCalls(), callers: map[*group][]*cost.Caller{},
		byName: map[string]*PolicySummary{}, shown: map[string]*group{},
	}
	for _, reach := range p.resolution.Policies {
		s := &PolicySummary{
			Name: reach.Policy.Name, Kind: reach.Policy.Kind, Enabled: reach.Policy.Enabled, Machines: len(reach.VMs),
			Counts: map[Name]int{}, Kept: map[holdfast.PointKind]int{}, Days: []Day{},
		}
		a.policies, a.byName[s.Name] = append(a.policies, s), s
	}
	for _, g := range p.groups {
		if shown := a.shown[g.policy]; g.policy != "" && (shown == nil || len(g.ids) > len(shown.ids)) {
			a.shown[g.policy] = g
			a.byName[g.policy].Zone = g.zone.String()
		}
		protection := protectionOf(in.Documents, g)
		for _, vm := range g.machines {
			a.machines[g] = append(a.machines[g], meter.Machine(*vm, protection))
			a.callers[g] = append(a.callers[g], a.calls.Machine(*vm))
		}
		for _, point := range g.points {
			a.made(g, point)
		}
	}
	return a
}

// protectionOf says by what the machines of a group are protected.
func protectionOf(d holdfast.Documents, g *group) cost.Protection {
	protection := cost.Protection{Policy: g.policy}
	for _, p := range d.SchedulePolicies {
		if p.Name == g.policy {
			protection.Rows = cost.ScheduleRows(p)
		}
	}
	for _, p := range d.SLAPolicies {
		if p.Name == g.policy {
			template, _ := d.SLATemplate(p.Template)
			storage, _ := d.StorageTemplate(p.Storage)
			protection.Rows = cost.SLARows(template, storage, g.region)
		}
	}
	return protection
}

// repositoriesOf are the repositories as costs see them: what SLA policies want proven is read as often as their templates say.
func repositoriesOf(d holdfast.Documents) []cost.Repository {
	every := map[string]time.Duration{}
	for _, p := range d.SLAPolicies {
		template, _ := d.SLATemplate(p.Template)
		storage, _ := d.StorageTemplate(p.Storage)
		age := time.Duration(template.ProofAge.N) * 24 * time.Hour
		for _, name := range append(slices.Collect(maps.Values(storage.Backups.Regions)), storage.Backups.Default) {
			if known := every[name]; age > 0 && (known == 0 || age < known) {
				every[name] = age
			}
		}
	}
	repositories := cost.Repositories(d.Repositories)
	for i := range repositories {
		repositories[i].ReadEvery = every[repositories[i].Name]
	}
	return repositories
}

// made takes note of a point that was made, or that was there already. Archives are copied from the newest backup.
func (a *account) made(g *group, point retention.Point) {
	made := meterPoint(point)
	if point.Kind == holdfast.PointArchive {
		made.Source = g.newestBackup().Repository
	}
	for _, m := range a.machines[g] {
		m.Made(made)
	}
}

// removed takes note of a point that went.
func (a *account) removed(g *group, point retention.Point, now time.Time) {
	for _, m := range a.machines[g] {
		m.Removed(meterPoint(point), now)
	}
	if point.Kind == holdfast.PointSnapshot {
		a.works(g, cost.WorkRemove, now)
	}
}

// works takes note of what is done with the machines of a group.
func (a *account) works(g *group, w cost.Work, now time.Time) {
	for _, c := range a.callers[g] {
		c.Do(now, w)
	}
}

func meterPoint(p retention.Point) cost.Point {
	repository := p.Repository
	if p.Kind == holdfast.PointSnapshot {
		repository = ""
	}
	return cost.Point{Kind: p.Kind, Repository: repository, Created: p.Created}
}

// saw counts an event.
func (a *account) saw(e Event) {
	s := a.byName[e.Policy]
	if s == nil {
		a.sawClock(e)
		return
	}
	s.Counts[e.Name] += max(1, len(e.Machines))
	shown := a.shown[e.Policy]
	if shown == nil || len(e.Machines) == 0 || e.Machines[0] != shown.ids[0] {
		return
	}
	day := s.day(civil.DateOf(e.At, shown.zone))
	switch e.Name {
	case Snapshot:
		day.Snapshots++
	case Backup:
		day.Backups++
	case Archive:
		day.Archives++
	case Remove:
		day.Removed++
		return
	case Refused:
		day.Refused++
		return
	default:
		return
	}
	day.Flags |= e.Flags.Without(holdfast.Daily)
}

// sawClock marks the day on which the clocks of a policy's zone are changed.
func (a *account) sawClock(e Event) {
	for _, s := range a.policies {
		if g := a.shown[s.Name]; g != nil && e.Name == Clock && strings.HasPrefix(e.Reason, g.zone.String()+": ") {
			s.day(civil.DateOf(e.At, g.zone)).Shifted = true
		}
	}
}

// day returns the day of a date, which is the newest so far or one that comes after it.
func (s *PolicySummary) day(date civil.Date) *Day {
	i, found := slices.BinarySearchFunc(s.Days, date, func(d Day, date civil.Date) int { return d.Date.Compare(date) })
	if !found {
		s.Days = slices.Insert(s.Days, i, Day{Date: date})
	}
	return &s.Days[i]
}

// Summary returns what the preview comes to so far.
func (p *Preview) Summary() Summary {
	s := Summary{
		From: p.account.from, To: p.now, Machines: len(p.resolution.Machines), Unprotected: len(p.resolution.Unprotected()), LeftOut: p.leftOut,
		Cost: p.account.meter.Report(p.now), Calls: p.account.calls.Report(),
	}
	for _, policy := range p.account.policies {
		policy.Kept = map[holdfast.PointKind]int{}
		for _, g := range p.groupsUnder(policy.Name) {
			for _, point := range g.points {
				if !point.Temporary {
					policy.Kept[point.Kind] += len(g.ids)
				}
			}
		}
		s.Policies = append(s.Policies, *policy)
	}
	return s
}

// Conclusions are what a preview says at its end: limits of Azure that would be passed, what each month costs, and what is
// worth a thought. All of them are events of the instant up to which it was run.
func (s Summary) Conclusions() []Event {
	var all []Event
	for _, f := range s.Calls.Findings {
		e := Event{At: s.To, Name: Limit, Reason: fmt.Sprintf("%s: %s; first at %s, %d times", f.Kind, f.Message, f.First.UTC().Format(time.RFC3339), f.Times)}
		if f.VM != "" {
			e.Machines = []holdfast.ResourceID{f.VM}
		}
		all = append(all, e)
	}
	for _, m := range s.Cost.Months {
		for _, policy := range m.Policies {
			c := policy.Costs
			all = append(all, Event{At: s.To, Policy: policy.Policy, Name: Cost, Reason: fmt.Sprintf(
				"%s: %s %s: snapshots %s, backups %s, archives %s, traffic %s, transactions %s; stored, in GB-months: snapshots %.1f, backups %.1f, archives %.1f",
				m.Start.Format("2006-01"), c.Total, s.Cost.Currency, c.Snapshots, c.Backups, c.Archives, c.Traffic, c.Transactions,
				c.Stored(cost.PartSnapshots), c.Stored(cost.PartBackups), c.Stored(cost.PartArchives),
			)})
		}
	}
	for _, l := range s.LeftOut {
		all = append(all, Event{At: s.To, Policy: l.Policy, Name: Warning, Machines: []holdfast.ResourceID{l.VM}, Reason: fmt.Sprintf(
			"leftOut: the inventory does not hold this machine, so that its points, %d in number, are no part of the preview", l.Points,
		)})
	}
	if names := s.Cost.AssumedLRS; len(names) > 0 {
		all = append(all, Event{At: s.To, Name: Warning, Reason: "redundancyAssumed: priced as LRS, since their documents name no redundancy: " + strings.Join(names, ", ")})
	}
	for _, w := range s.Cost.Warnings {
		all = append(all, Event{At: s.To, Policy: w.Policy, Name: Warning, Reason: fmt.Sprintf("%s: %s", w.Kind, w.Message), Machines: w.VMs})
	}
	return all
}
