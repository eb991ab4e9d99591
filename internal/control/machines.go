package control

import (
	"context"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// MachineFilter says which machines are wanted. The zero value wants all that are there.
type MachineFilter struct {
	Policy      string
	Region      string
	Search      string // a part of the id, without regard to case
	Unprotected bool
	Gone        bool // those that were deleted as well
}

func (f MachineFilter) wants(m store.Machine) bool {
	return (f.Policy == "" || m.Policy == f.Policy) && (f.Region == "" || strings.EqualFold(m.Region, f.Region)) &&
		(f.Search == "" || strings.Contains(m.ID.Key(), strings.ToLower(f.Search))) && (!f.Unprotected || m.Policy == "")
}

// Machines returns a page of machines with who protects them, by id.
func (c *Control) Machines(ctx context.Context, p auth.Principal, f MachineFilter, limit int, after string) (l view.List[view.Machine], err error) {
	part := page(limit, after)
	err = c.read(ctx, p, auth.SeeMachines, func(ctx context.Context, q store.Query) error {
		which := store.ThereAlone
		if f.Gone {
			which = store.AllEver
		}
		rows, err := store.Machines(ctx, q, which)
		if err != nil {
			return err
		}
		counts, err := store.PointCounts(ctx, q)
		if err != nil {
			return err
		}
		all := []view.Machine{}
		for _, m := range rows {
			if !f.wants(m) || m.ID.Key() <= strings.ToLower(after) {
				continue
			}
			if all = append(all, machineView(m, counts[m.ID.Key()])); len(all) > part.Limit {
				break
			}
		}
		l = listOf(all, part, func(m view.Machine) string { return m.ID.Key() })
		return nil
	})
	return l, err
}

func machineView(m store.Machine, points store.PointCount) view.Machine {
	v := view.Machine{
		InventoryVM: m.InventoryVM, Policy: m.Policy, PolicyKind: m.Kind, Why: m.Why, Refused: m.Refusal(), FirstSeen: m.FirstSeen, LastSeen: m.LastSeen, Gone: m.Gone,
		Points: points.Points, Newest: points.Newest,
	}
	if v.Policy == "" && v.Why == "" {
		v.Why = "no policy asks for it"
	}
	if v.Policy == "" && v.Points > 0 {
		v.Why = "no longer protected: " + v.Why
	}
	return v
}

// Discover looks at the cloud now.
func (c *Control) Discover(ctx context.Context, p auth.Principal) error {
	if err := p.Require(auth.SeeMachines); err != nil {
		return err
	}
	return c.config.Discovery.Discover(ctx)
}

// machineNamed finds a machine that was ever seen by its id, or by a name that only one machine has.
func machineNamed(ctx context.Context, q store.Query, vm string) (store.Machine, error) {
	all, err := store.Machines(ctx, q, store.AllEver)
	if err != nil {
		return store.Machine{}, err
	}
	if strings.HasPrefix(vm, "/") {
		i := slices.IndexFunc(all, func(m store.Machine) bool { return m.ID.Key() == holdfast.ResourceID(vm).Key() })
		if i >= 0 {
			return all[i], nil
		}
	}
	var found []store.Machine
	for _, m := range all {
		if strings.EqualFold(m.Name, vm) && m.Gone.IsZero() {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return store.Machine{}, holdfast.Errorf(holdfast.KindNotFound, "there is no machine %q in what this installation sees", vm).WithField("vm").
			WithHint("see which there are with holdfast vm list; one that was made just now is seen after holdfast vm list --refresh, and one outside of the subscriptions of the account never")
	}
	return store.Machine{}, holdfast.Errorf(holdfast.KindInvalid, "%d machines have the name %q", len(found), vm).WithField("vm").WithHint("name it by its id, such as %s", found[0].ID)
}

// Snapshot begins a session that makes a snapshot of a machine by hand. No retention touches it.
func (c *Control) Snapshot(ctx context.Context, p auth.Principal, vm string) (v view.Session, err error) {
	err = c.write(ctx, p, auth.RunPolicies, func(ctx context.Context, tx database.Tx) error {
		m, err := machineNamed(ctx, tx, vm)
		if err != nil {
			return err
		}
		if !m.Gone.IsZero() {
			return holdfast.Errorf(holdfast.KindNotFound, "the machine %s was deleted", m.ID).WithField("vm")
		}
		if why := m.Refusal(); why != "" {
			return holdfast.Errorf(holdfast.KindRefused, "no snapshot can be made of %s: %s", m.Name, why).WithField("vm")
		}
		s := c.newSession(holdfast.SessionSnapshot, p)
		items := []store.NewItem{{VM: m.ID, Region: m.Region, Makes: []plan.Making{{Kind: holdfast.PointSnapshot}}}}
		if err := c.begin(ctx, tx, s, items); err != nil {
			return err
		}
		if err := c.enqueueItem(ctx, tx, work.Item{Session: s.ID, VM: m.ID}, m.Region); err != nil {
			return err
		}
		v, err = c.session(ctx, tx, s.ID)
		return err
	})
	return v, err
}
