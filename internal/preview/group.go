package preview

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/scope"
)

// group is a set of machines to which the same happens at the same instants: under one policy, in one region, refused for
// one reason or none, and without points of their own at the beginning. The first machine stands for all of them wherever
// an engine asks for one.
type group struct {
	number   int
	policy   string // "" when no policy protects the machines
	kind     holdfast.PolicyKind
	region   string
	refused  string // why no point can be made of them; "" when one can
	machines []*holdfast.InventoryVM
	ids      []holdfast.ResourceID
	rules    retention.Rules
	zone     *time.Location // in which days are counted for people
	ranged   bool           // changed ranges are used: a snapshot is held as the base of the next backup
	counted  bool           // retention has something to do at the close of sessions that make no backup

	points   []retention.Point
	bases    map[string]holdfast.PointID // by repository: the snapshot that its next backup is compared with
	borne    map[owed]time.Time          // flags of windows that have been given to a point: the opening of the window
	archived map[string]time.Time        // by archive repository: backups up to and at this instant are archived
}

// owed is a flag of a window, of one kind of point.
type owed struct {
	kind holdfast.PointKind
	flag holdfast.Flag
}

// machine is the one that stands for the group.
func (g *group) machine() plan.Machine { return plan.Machine{ID: g.ids[0], Region: g.region} }

// groupKey is what machines must have in common. A machine with points has itself alone in common.
type groupKey struct {
	policy, region, refused string
	vm                      holdfast.ResourceID
}

// groupsOf parts an inventory into groups, in a fixed order. Machines that nobody protects and that have no points are left
// out: nothing happens to them.
func groupsOf(resolution scope.Resolution, points map[string][]retention.Point) []*group {
	byKey := map[groupKey]*group{}
	var groups []*group
	for _, m := range resolution.Machines {
		own := points[m.VM.ID.Key()]
		if m.Policy == nil && len(own) == 0 {
			continue
		}
		key := groupKey{region: m.VM.Region, refused: m.VM.Refusal()}
		if m.Policy != nil {
			key.policy = m.Policy.Name
		}
		if len(own) > 0 {
			key.vm = m.VM.ID
		}
		g, known := byKey[key]
		if !known {
			g = &group{
				policy: key.policy, region: key.region, refused: key.refused, points: slices.Clone(own),
				bases: map[string]holdfast.PointID{}, borne: map[owed]time.Time{}, archived: map[string]time.Time{},
			}
			byKey[key] = g
			groups = append(groups, g)
		}
		g.machines, g.ids = append(g.machines, m.VM), append(g.ids, m.VM.ID)
	}
	slices.SortStableFunc(groups, func(a, b *group) int {
		return cmp.Or(strings.Compare(a.policy, b.policy), strings.Compare(a.ids[0].Key(), b.ids[0].Key()))
	})
	for i, g := range groups {
		g.number = i
	}
	return groups
}
