package cost

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Report is what a simulation costs.
type Report struct {
	Currency    string      `json:"currency"`
	PricesFrom  string      `json:"pricesFrom"` // the date of the oldest price
	From        time.Time   `json:"from"`
	To          time.Time   `json:"to"`
	Assumptions Assumptions `json:"assumptions"`
	AssumedLRS  []string    `json:"assumedLRS"` // repositories in Azure of which nobody said the redundancy; never nil
	Months      []Month     `json:"months"`
	Warnings    []Warning   `json:"warnings"` // never nil
}

// Month is a calendar month in UTC, or the part of it that was simulated.
type Month struct {
	Start    time.Time     `json:"start"`
	End      time.Time     `json:"end"`
	Whole    bool          `json:"whole"` // all of the month was simulated
	Costs    Costs         `json:"costs"`
	Policies []PolicyCosts `json:"policies"` // by name
}

// PolicyCosts is what the machines of a policy cost.
type PolicyCosts struct {
	Policy string `json:"policy"`
	VMs    int    `json:"vms"`
	Costs  Costs  `json:"costs"`
}

// MachineCosts is what one machine costs.
type MachineCosts struct {
	VM     holdfast.ResourceID `json:"vm"`
	Name   string              `json:"name"`
	Policy string              `json:"policy"`
	Costs  Costs               `json:"costs"`
}

// Costs are amounts by what they are for. Total is the sum of the five, and each of them the sum of its lines.
type Costs struct {
	Snapshots    Money  `json:"snapshots"`
	Backups      Money  `json:"backups"`
	Archives     Money  `json:"archives"`
	Traffic      Money  `json:"traffic"`
	Transactions Money  `json:"transactions"`
	Total        Money  `json:"total"`
	Lines        []Line `json:"lines"`
}

// Stored is how much was kept, in GB-months: 2³⁰ bytes for the length of a month. Only snapshots, backups and archives are.
func (c Costs) Stored(part Part) float64 {
	sum := 0.0
	for _, l := range c.Lines {
		if l.Part == part && l.Unit == UnitGBMonth {
			sum += l.Quantity
		}
	}
	return sum
}

// Part is one of the five that costs are divided into.
type Part string

// The parts.
const (
	PartSnapshots    Part = "snapshots"
	PartBackups      Part = "backups"
	PartArchives     Part = "archives"
	PartTraffic      Part = "traffic"
	PartTransactions Part = "transactions" // requests, and the bytes that are read from tiers that charge for it
)

// Meter names of lines: what a quantity is of.
const (
	meterBase      = "newest point" // what the newest point alone holds
	meterChange    = "older points" // what older ones hold besides
	meterEarly     = "early deletion"
	meterWrites    = "write requests"
	meterReads     = "read requests"
	meterLists     = "list requests"
	meterOthers    = "other requests"
	meterRetrieval = "data read"
	meterTraffic   = "data moved"
)

// Line is a quantity and what it costs. Lines that differ in quantity and cost alone are one.
type Line struct {
	Part       Part          `json:"part"`
	Meter      string        `json:"meter"`
	Repository string        `json:"repository,omitempty"`
	Region     string        `json:"region,omitempty"`
	ToRegion   string        `json:"toRegion,omitempty"` // of traffic
	Tier       holdfast.Tier `json:"tier,omitempty"`
	Redundancy Redundancy    `json:"redundancy,omitempty"`
	Unit       PriceUnit     `json:"unit"`
	UnitPrice  Money         `json:"unitPrice"`
	Price      PriceKind     `json:"price"`
	Quantity   float64       `json:"quantity"`
	Cost       Money         `json:"cost"`
}

// key is the line without what is added up.
func (l Line) key() Line {
	l.Quantity, l.Cost = 0, 0
	return l
}

func (l Line) compare(o Line) int {
	return cmp.Or(cmp.Compare(l.Part.order(), o.Part.order()), cmp.Compare(l.Repository, o.Repository), cmp.Compare(l.Meter, o.Meter),
		cmp.Compare(l.Region, o.Region), cmp.Compare(l.ToRegion, o.ToRegion), cmp.Compare(l.Tier, o.Tier), cmp.Compare(l.UnitPrice, o.UnitPrice))
}

func (p Part) order() int {
	return slices.Index([]Part{PartSnapshots, PartBackups, PartArchives, PartTraffic, PartTransactions}, p)
}

// add books a line.
func (c *Costs) add(l Line) {
	switch l.Part {
	case PartSnapshots:
		c.Snapshots += l.Cost
	case PartBackups:
		c.Backups += l.Cost
	case PartArchives:
		c.Archives += l.Cost
	case PartTraffic:
		c.Traffic += l.Cost
	case PartTransactions:
		c.Transactions += l.Cost
	}
	c.Total += l.Cost
	c.Lines = append(c.Lines, l)
}

// join makes one line of those that are alike, and puts lines into order.
func (c *Costs) join() {
	joined := map[Line]Line{}
	for _, l := range c.Lines {
		k := l.key()
		have, ok := joined[k]
		if !ok {
			have = k
		}
		have.Quantity += l.Quantity
		have.Cost += l.Cost
		joined[k] = have
	}
	c.Lines = slices.SortedFunc(maps.Values(joined), Line.compare)
}

// addAll books the lines of others.
func (c *Costs) addAll(o Costs) {
	for _, l := range o.Lines {
		c.add(l)
	}
}

// Report says what was used until an instant, and what that costs. More points may be told of afterwards.
func (m *Meter) Report(to time.Time) Report {
	r := Report{
		Currency: m.setting.Prices.Currency(), PricesFrom: m.setting.Prices.Date(), Assumptions: m.setting.Assumptions,
		From: time.Unix(m.from, 0).UTC(), To: to.UTC(),
	}
	for i := 0; i == 0 || m.bound(i-1) < to.Unix(); i++ {
		r.Months = append(r.Months, m.monthOf(i, to.Unix()))
	}
	r.AssumedLRS = []string{}
	for _, repository := range m.setting.Repositories {
		if repository.Region != "" && repository.Redundancy == "" {
			r.AssumedLRS = append(r.AssumedLRS, repository.Name)
		}
	}
	r.Warnings = m.warnings(r)
	return r
}

// Typical returns the month that tells best what a policy costs when it has run for a while: the last whole one of a report,
// else the last one.
func (r Report) Typical() int {
	for i, month := range slices.Backward(r.Months) {
		if month.Whole {
			return i
		}
	}
	return len(r.Months) - 1
}

// Machines returns what each machine cost in a month of a report, by id and policy.
func (m *Meter) Machines(r Report, month int) []MachineCosts {
	var list []MachineCosts
	for _, v := range m.machines {
		list = append(list, MachineCosts{VM: v.vm.ID, Name: v.vm.Name, Policy: v.protection.Policy, Costs: v.costs(month, r.To.Unix())})
	}
	slices.SortStableFunc(list, func(a, b MachineCosts) int {
		return cmp.Or(cmp.Compare(a.VM.Key(), b.VM.Key()), cmp.Compare(a.Policy, b.Policy))
	})
	return list
}

// monthStart returns when the calendar month began that is the i-th of the simulation.
func (m *Meter) monthStart(i int) int64 {
	year, month, _ := time.Unix(m.bound(i)-1, 0).UTC().Date()
	return time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).Unix()
}

func (m *Meter) monthOf(i int, to int64) Month {
	start, end := max(m.from, m.monthStart(i)), min(to, m.bound(i))
	month := Month{
		Start: time.Unix(start, 0).UTC(), End: time.Unix(end, 0).UTC(), Whole: start == m.monthStart(i) && end == m.bound(i),
	}
	policies := map[string]*PolicyCosts{}
	for _, v := range m.machines {
		p := policies[v.protection.Policy]
		if p == nil {
			p = &PolicyCosts{Policy: v.protection.Policy}
			policies[p.Policy] = p
		}
		p.VMs++
		p.Costs.addAll(v.costs(i, to))
	}
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		p := policies[name]
		p.Costs.join()
		month.Costs.addAll(p.Costs)
		month.Policies = append(month.Policies, *p)
	}
	month.Costs.join()
	return month
}

// costs returns what a machine cost in a month.
func (v *Machine) costs(month int, to int64) Costs {
	var c Costs
	for _, p := range v.places {
		p.accrue(to)
		if month < len(p.months) {
			v.bill(&c, p, month)
		}
	}
	c.join()
	return c
}
