package cost

import (
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast"
)

// judgeTiers looks for repositories that another tier would make cheaper: for all machines of a policy together, in the typical
// month, with what deleting early and reading would have cost there.
func (m *Meter) judgeTiers(c *collector, month int) {
	type group struct {
		policy     string
		repository *Repository
	}
	users := map[group][]*Machine{}
	var order []group
	for _, v := range m.machines {
		for _, p := range v.places {
			g := group{v.protection.Policy, p.repository}
			if p.kind != holdfast.PointBackup || p.repository.Region == "" || p.repository.Tier == holdfast.TierArchive {
				continue
			}
			if users[g] == nil {
				order = append(order, g)
			}
			users[g] = append(users[g], v)
		}
	}
	for _, g := range order {
		if w, ok := cheaper(users[g], g.repository, month); ok {
			for _, v := range users[g] {
				c.add(v, w)
			}
		}
	}
}

// cheaper compares the tiers in which points can be kept that are read at once.
func cheaper(machines []*Machine, r *Repository, month int) (Warning, bool) {
	costs := map[holdfast.Tier]Money{}
	for _, tier := range []holdfast.Tier{holdfast.TierHot, holdfast.TierCool, holdfast.TierCold} {
		if tier == r.Tier || keptLongEnough(machines, r, minimumDays(tier)) {
			costs[tier] = costIn(machines, r, tier, month)
		}
	}
	now, known := costs[r.Tier]
	if !known { // what the tier is, is left to the storage account
		now = costIn(machines, r, r.Tier, month)
	}
	best := r.Tier
	for _, tier := range slices.Sorted(maps.Keys(costs)) {
		if least, ok := costs[best]; costs[tier] < least || !ok && costs[tier] < now {
			best = tier
		}
	}
	saved := now - costs[best]
	if best == r.Tier || saved < cheaperLeast || saved.Float() < cheaperShare*now.Float() {
		return Warning{}, false
	}
	return Warning{
		Kind: StorageCouldBeCheaper, Repository: r.Name,
		Message: fmt.Sprintf("what lies in %s costs %s a month in the %s tier, and would cost %s in the %s tier", r.Name, now, r.Tier, costs[best], best),
		Hint:    fmt.Sprintf("send these points to a repository of the %s tier", best),
	}, true
}

// keptLongEnough reports whether every row that goes to a repository keeps its points for so many days.
func keptLongEnough(machines []*Machine, r *Repository, least int) bool {
	for _, v := range machines {
		for _, row := range v.protection.Rows {
			if row.Repository == r.Name && days(row.KeepFor) < least {
				return false
			}
		}
	}
	return true
}

// costIn returns what a month of a repository would cost in a tier, for some machines.
func costIn(machines []*Machine, r *Repository, tier holdfast.Tier, month int) Money {
	other := *r
	other.Tier = tier
	var costs Costs
	for _, v := range machines {
		b := biller{costs: &costs, prices: v.meter.setting.Prices, month: v.meter.bound(month) - v.meter.monthStart(month)}
		for _, p := range v.places {
			if month >= len(p.months) {
				continue
			}
			u := &p.months[month]
			if p.kind == holdfast.PointArchive && p.source == r {
				b.copied(&other, u)
			}
			if p.kind == holdfast.PointBackup && p.repository == r {
				moved := *p
				moved.repository = &other
				b.stored(&moved, u)
				b.requests(&moved, u)
				b.proofs(&other, u)
			}
		}
	}
	return costs.Total
}
