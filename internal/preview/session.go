package preview

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// session makes the points that an intent asks for, of every group in it.
func (p *Preview) session(i plan.Intent, now time.Time) error {
	p.emit(Event{At: now, Policy: i.Policy, Name: Run, Slot: i.Slot, Flags: i.Flags(), Reason: p.announce(i)})
	for _, m := range i.Machines {
		g := p.standing[m.Key()]
		if err := p.sessionOf(g, i, now); err != nil {
			return err
		}
	}
	if i.CheckAfter {
		p.emit(Event{At: now, Policy: i.Policy, Name: Check, Slot: i.Slot, Reason: i.InRegion("all points, after the day's last session")})
	}
	return nil
}

// announce says what a session makes and of how many machines.
func (p *Preview) announce(i plan.Intent) string {
	machines := 0
	for _, m := range i.Machines {
		machines += len(p.standing[m.Key()].ids)
	}
	return i.Summary(machines)
}

// sessionOf makes the points of one group, and closes its session.
func (p *Preview) sessionOf(g *group, i plan.Intent, now time.Time) error {
	if g.refused == "" {
		if work := g.workOf(i); work != "" {
			p.account.works(g, work, now)
		}
	}
	for _, m := range i.Makes {
		if err := p.began(g, m.Kind, i.Slot, now); err != nil {
			return err
		}
		refused, made, before := g.refused, retention.Point{}, len(g.points)
		if refused == "" {
			made, refused = g.make(m, i, now)
		}
		for _, point := range g.points[before:] {
			p.account.made(g, point)
		}
		if refused != "" {
			p.emit(Event{At: now, Policy: i.Policy, Name: Refused, Slot: i.Slot, Flags: m.Flags, Reason: fmt.Sprintf("no %s: %s", m.Kind, refused), Machines: g.ids})
			if err := p.failed(g, m.Kind, i.Slot, now); err != nil {
				return err
			}
			continue
		}
		if !made.Temporary {
			p.emit(Event{At: now, Policy: i.Policy, Name: Name(m.Kind), Slot: i.Slot, Point: made.ID, Flags: made.Flags, Reason: MadeReason(made.Kind, made.Repository), Machines: g.ids})
		}
		if err := p.durable(g, made, i.Slot, now); err != nil {
			return err
		}
	}
	if g.counted || i.MakesA(holdfast.PointBackup) {
		p.retain(g, retention.Closing, now)
	}
	return nil
}

// workOf is what a session does with Azure, as costs see it; "" when it only copies archives.
func (g *group) workOf(i plan.Intent) cost.Work {
	switch {
	case i.MakesA(holdfast.PointBackup) && len(g.bases) == 0:
		return cost.WorkFirstBackup
	case i.MakesA(holdfast.PointBackup):
		return cost.WorkBackup
	case i.MakesA(holdfast.PointSnapshot):
		return cost.WorkSnapshot
	}
	return ""
}

// make makes one point, or says why it cannot be made.
func (g *group) make(m plan.Making, i plan.Intent, now time.Time) (made retention.Point, refused string) {
	made = retention.Point{
		ID: pointID(i.Slot, m), VM: g.ids[0], Kind: m.Kind, Policy: g.policy, Slot: i.Slot, Created: now, Flags: m.Flags | g.due(m),
		Repository: m.Repository, Region: g.region, Good: true,
	}
	switch m.Kind {
	case holdfast.PointBackup:
		g.rebase(m, i, now)
	case holdfast.PointArchive:
		newest := g.newestBackup().Created
		if newest.IsZero() {
			return made, "there is no backup to copy"
		}
		if last := g.archived[m.Repository]; !newest.After(last) {
			return made, "no backup is newer than what was archived last"
		}
		g.archived[m.Repository] = newest
	case holdfast.PointSnapshot:
		made.Temporary = made.Flags == 0 && !i.Manual // it only feeds the backup
	}
	made = g.rules.Stamp(made)
	g.points = append(g.points, made)
	return made, ""
}

// due are the flags that the first point of a window takes.
func (g *group) due(m plan.Making) holdfast.Flags {
	var flags holdfast.Flags
	for _, f := range holdfast.AllFlags() {
		key := owed{m.Kind, f}
		if !m.Owed.Has(f) || g.borne[key].Equal(m.Opens) {
			continue
		}
		g.borne[key] = m.Opens
		if !g.bears(m, f) {
			flags = flags.With(f)
		}
	}
	return flags
}

// bears reports whether a point that was made in the window before the preview began has taken its flag.
func (g *group) bears(m plan.Making, f holdfast.Flag) bool {
	return slices.ContainsFunc(g.points, func(p retention.Point) bool {
		return p.Kind == m.Kind && p.Policy == g.policy && p.Good && p.Flags.Has(f) && !p.Created.Before(m.Opens)
	})
}

// rebase makes the session's snapshot the one that the next backup is compared with. Sessions of SLA policies make one for the
// purpose; those of schedule-based ones have made it.
func (g *group) rebase(m plan.Making, i plan.Intent, now time.Time) {
	id := pointID(i.Slot, plan.Making{Kind: holdfast.PointSnapshot})
	if g.kind == holdfast.PolicySLA {
		id = pointID(i.Slot, plan.Making{Kind: "base", Repository: m.Repository})
		g.points = append(g.points, g.rules.Stamp(retention.Point{
			ID: id, VM: g.ids[0], Kind: holdfast.PointSnapshot, Policy: g.policy, Slot: i.Slot, Created: now, Region: g.region, Good: true, Temporary: true,
		}))
	}
	delete(g.bases, "") // held since before the preview began, for no repository in particular
	if g.ranged {
		g.bases[m.Repository] = id
	}
	held := map[holdfast.PointID]bool{}
	for _, base := range g.bases {
		held[base] = true
	}
	for n := range g.points {
		g.points[n].Base = held[g.points[n].ID]
	}
}

// newestBackup is the newest good one; the zero value when there is none.
func (g *group) newestBackup() retention.Point {
	var newest retention.Point
	for _, point := range g.points {
		if point.Kind == holdfast.PointBackup && point.Good && point.Created.After(newest.Created) {
			newest = point
		}
	}
	return newest
}

// pointID is the name of a point that does not exist yet: when, what and where.
func pointID(slot time.Time, m plan.Making) holdfast.PointID {
	id := slot.UTC().Format("20060102-150405") + "-" + string(m.Kind)
	if m.Repository != "" {
		id += "-" + m.Repository
	}
	return holdfast.PointID(id)
}

// MadeReason says what a point is made of, and where to.
func MadeReason(kind holdfast.PointKind, repository string) string {
	switch kind {
	case holdfast.PointBackup:
		return "to " + repository
	case holdfast.PointArchive:
		return "to " + repository + ", of the newest backup"
	case holdfast.PointSnapshot:
	}
	return ""
}

// work names the share of a group in a session for the ledger.
func (g *group) work(kind holdfast.PointKind, slot time.Time) sla.Work {
	return sla.Work{Policy: g.policy, Machine: g.ids[0], Kind: kind, Slot: slot}
}
