package cost

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// WarningKind is one of a closed list. Each has one rule, which stands in doc/policies.md and beside the code that judges it.
type WarningKind string

// The warnings.
const (
	RetentionTooShortForCoolStorage       WarningKind = "retentionTooShortForCoolStorage"
	BackupToDifferentRegion               WarningKind = "backupToDifferentRegion"
	StorageCouldBeCheaper                 WarningKind = "storageCouldBeCheaper"
	PriceIsApproximate                    WarningKind = "priceIsApproximate"
	VMHasNoDisks                          WarningKind = "vmHasNoDisks"
	SnapshotsRetentionAffectsCosts        WarningKind = "snapshotsRetentionAffectsCosts"
	SnapshotsRetentionAffectsTrafficCosts WarningKind = "snapshotsRetentionAffectsTrafficCosts"
	SimulationShortened                   WarningKind = "simulationShortened"
)

// Warning is something about the costs of a policy that a person should think about.
type Warning struct {
	Kind       WarningKind           `json:"kind"`
	Policy     string                `json:"policy"`
	Repository string                `json:"repository,omitempty"`
	Region     string                `json:"region,omitempty"` // that something leaves, or that has no price of its own
	Rows       []Row                 `json:"rows,omitempty"`   // of the policy, that are meant
	VMs        []holdfast.ResourceID `json:"vms"`              // that are concerned, by id
	Message    string                `json:"message"`
	Hint       string                `json:"hint"`
}

// Thresholds of warnings.
const (
	// incrementsShare is what part of a machine's costs older snapshots must make to be worth a thought.
	incrementsShare = 0.25
	// cheaperShare and cheaperLeast are what another tier must save a month: less is lost again in what a model leaves out.
	cheaperShare      = 0.10
	cheaperLeast      = unit
	daysOfMonth       = 30
	daysOfYear        = 365
	incrementsPercent = 100 * incrementsShare
)

// warnings judges what a report says.
func (m *Meter) warnings(r Report) []Warning {
	c := collector{index: map[warningKey]int{}}
	typical := r.Typical()
	for _, v := range m.machines {
		v.judgeRows(&c)
		v.judgePlaces(&c)
		v.judgeCosts(&c, v.costs(typical, r.To.Unix()))
		v.judgeSpan(&c, r.To.Sub(r.From))
	}
	m.judgeTiers(&c, typical)
	for i := range c.warnings {
		slices.SortFunc(c.warnings[i].VMs, func(a, b holdfast.ResourceID) int { return cmp.Compare(a.Key(), b.Key()) })
	}
	slices.SortStableFunc(c.warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Region, b.Region))
	})
	return append([]Warning{}, c.warnings...)
}

// collector gathers warnings: one for each kind, policy, repository and region.
type collector struct {
	warnings []Warning
	index    map[warningKey]int
}

type warningKey struct {
	kind                       WarningKind
	policy, repository, region string
}

// add notes a warning about a machine. Of warnings that are one the first message stands.
func (c *collector) add(v *Machine, w Warning) {
	w.Policy = v.protection.Policy
	k := warningKey{w.Kind, w.Policy, w.Repository, w.Region}
	i, known := c.index[k]
	if !known {
		i = len(c.warnings)
		c.index[k] = i
		c.warnings = append(c.warnings, w)
	}
	have := &c.warnings[i]
	for _, row := range w.Rows {
		if !slices.Contains(have.Rows, row) {
			have.Rows = append(have.Rows, row)
		}
	}
	if !slices.Contains(have.VMs, v.vm.ID) {
		have.VMs = append(have.VMs, v.vm.ID)
	}
}

// judgeRows looks at what the policy says of the machine.
func (v *Machine) judgeRows(c *collector) {
	if len(v.vm.Disks) == 0 {
		c.add(v, Warning{Kind: VMHasNoDisks, Message: "a machine has no disks, so nothing of it is protected", Hint: "exclude it, or look whether its disks can be seen"})
	}
	for _, row := range v.protection.Rows {
		r := v.meter.repository(row.Repository)
		least := minimumDays(r.Tier)
		if row.Kind != holdfast.PointSnapshot && least > 0 && !row.KeepFor.IsZero() && days(row.KeepFor) < least {
			c.add(v, Warning{
				Kind: RetentionTooShortForCoolStorage, Repository: r.Name, Rows: []Row{row},
				Message: fmt.Sprintf("points go to the %s tier of %s and are kept for %s; storage there is paid for %d days at least", r.Tier, r.Name, row.KeepFor, least),
				Hint:    fmt.Sprintf("keep them for %d days or longer, or send them to a repository of a warmer tier", least),
			})
		}
		if row.Kind == holdfast.PointBackup && r.Region != "" && r.Region != v.vm.Region {
			c.add(v, elsewhere(r, v.vm.Region, []Row{row}))
		}
	}
}

func elsewhere(r *Repository, from string, rows []Row) Warning {
	return Warning{
		Kind: BackupToDifferentRegion, Repository: r.Name, Region: from, Rows: rows,
		Message: fmt.Sprintf("what is written to %s leaves the region %s for %s, which is charged by the GB", r.Name, from, r.Region),
		Hint:    "use a repository in the same region, unless a copy elsewhere is what you want",
	}
}

// days returns about how many days a period has: months count as 30, years as 365.
func days(p holdfast.Period) int {
	switch p.Unit {
	case holdfast.UnitDay:
		return p.N
	case holdfast.UnitMonth:
		return p.N * daysOfMonth
	case holdfast.UnitYear:
		return p.N * daysOfYear
	case holdfast.UnitMinute, holdfast.UnitHour:
	}
	length, _ := p.Duration()
	return int(length / (24 * time.Hour))
}

// judgePlaces looks at where things went from and to.
func (v *Machine) judgePlaces(c *collector) {
	reader := v.meter.setting.Reader
	for _, p := range v.places {
		r := p.repository
		if p.kind == holdfast.PointArchive && r.Region != "" && p.source.Region != "" && p.source.Region != r.Region {
			c.add(v, elsewhere(r, p.source.Region, v.rowsInto(p)))
		}
		if p.wholeAgain && reader != "" && reader != v.vm.Region {
			c.add(v, Warning{
				Kind: SnapshotsRetentionAffectsTrafficCosts, Repository: r.Name, Region: v.vm.Region, Rows: v.rowsInto(p),
				Message: fmt.Sprintf("disks are read whole for each backup and leave the region %s for %s, since no snapshot is kept to compare with", v.vm.Region, reader),
				Hint:    "let changed ranges be read, for which one snapshot of each disk is kept",
			})
		}
	}
}

// rowsInto returns the rows of the policy that make what lies in a place.
func (v *Machine) rowsInto(p *place) []Row {
	var rows []Row
	for _, row := range v.protection.Rows {
		if row.Kind == p.kind && row.Repository == p.repository.Name {
			rows = append(rows, row)
		}
	}
	return rows
}

// judgeCosts looks at what the machine costs in the typical month.
func (v *Machine) judgeCosts(c *collector, costs Costs) {
	var increments Money
	for _, l := range costs.Lines {
		if l.Part == PartSnapshots && l.Meter == meterChange {
			increments += l.Cost
		}
		if l.Price == PriceApproximate || l.Price == PriceUnknown {
			c.add(v, Warning{
				Kind: PriceIsApproximate, Region: l.Region,
				Message: fmt.Sprintf("the price table lacks prices of %s; those of another region, redundancy or tier stand for them", l.Region),
				Hint:    "give a price file that has them",
			})
		}
	}
	if increments > 0 && increments.Float() >= incrementsShare*costs.Total.Float() {
		c.add(v, Warning{
			Kind: SnapshotsRetentionAffectsCosts, Rows: v.snapshotRows(),
			Message: fmt.Sprintf("what older snapshots hold besides the newest one makes %.0f %% or more of what a machine costs", incrementsPercent),
			Hint:    "keep fewer snapshots or make them less often; a backup of the same point is stored compressed",
		})
	}
}

func (v *Machine) snapshotRows() []Row {
	var rows []Row
	for _, row := range v.protection.Rows {
		if row.Kind == holdfast.PointSnapshot {
			rows = append(rows, row)
		}
	}
	return rows
}

// judgeSpan tells when points are kept for longer than was simulated: then what is stored would still have grown.
func (v *Machine) judgeSpan(c *collector, simulated time.Duration) {
	var rows []Row
	for _, row := range v.protection.Rows {
		if time.Duration(days(row.KeepFor))*24*time.Hour > simulated {
			rows = append(rows, row)
		}
	}
	if len(rows) > 0 {
		c.add(v, Warning{
			Kind: SimulationShortened, Rows: rows,
			Message: fmt.Sprintf("points are kept for longer than the %d days that were simulated, so what is stored would still have grown", int(simulated.Hours()/24)),
			Hint:    "simulate a longer time to see what the policy costs in the end",
		})
	}
}
