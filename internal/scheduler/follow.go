package scheduler

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// followIntentions takes in what people changed since the tick before: policies, and who is protected by which.
func (t *tick) followIntentions(ctx context.Context) error {
	if t.scheduler.known == t.state {
		return nil
	}
	at := t.changeAt()
	if err := t.followPolicies(ctx, at); err != nil {
		return err
	}
	if err := t.followMachines(ctx, at); err != nil {
		return err
	}
	t.after = t.after.Follow(t.state.Estate, t.now)
	return nil
}

// changeAt is the instant of a change: now, or right after the slots of now if they have fallen due already.
func (t *tick) changeAt() time.Time {
	if last := t.scheduler.ledger.Ledger.Now(); !last.Before(t.now) {
		return last.Add(time.Millisecond)
	}
	return t.now
}

// followPolicies tells the ledger which SLA policies are in force, in which versions.
func (t *tick) followPolicies(ctx context.Context, at time.Time) error {
	ledger := t.scheduler.ledger.Ledger
	for _, p := range t.state.Documents.SLAPolicies {
		terms := t.terms(p)
		if known, inForce := ledger.InForce(p.Name); inForce && known.Version == terms.Version && known.TemplateVersion == terms.TemplateVersion {
			continue
		}
		if err := t.add(ctx, sla.PolicyInForce{At: at, Policy: p.Name, Terms: terms}); err != nil {
			return err
		}
	}
	for _, name := range slices.Collect(ledger.Policies()) {
		if _, inForce := ledger.InForce(name); !inForce {
			continue
		}
		if _, kind, known := t.state.Policy(name); known && kind == holdfast.PolicySLA {
			continue
		}
		if err := t.add(ctx, sla.PolicyRemoved{At: at, Policy: name}); err != nil {
			return err
		}
	}
	return nil
}

// terms are what an SLA policy asks for now.
func (t *tick) terms(p holdfast.SLAPolicy) sla.Terms {
	_, template, known := t.state.SLA(p.Name)
	holdfast.Invariant(known, "the template of the policy %q was there a moment ago", p.Name)
	var regions []string
	for _, m := range t.state.Resolution.Machines {
		if m.Policy != nil && m.Policy.Name == p.Name {
			regions = append(regions, m.VM.Region)
		}
	}
	slices.Sort(regions)
	return sla.Terms{
		Version: t.state.Version(document.KindSLAPolicy, p.Name), Enabled: p.Enabled, Regions: slices.Compact(regions),
		Template: template, TemplateVersion: t.state.Version(document.KindSLATemplate, p.Template),
	}
}

// followMachines writes down who is protected by what, and tells the ledger who joined and left.
func (t *tick) followMachines(ctx context.Context, at time.Time) error {
	rows, err := store.Machines(ctx, t.tx, store.AllEver)
	if err != nil {
		return err
	}
	var joined []store.Machine
	for _, m := range rows {
		decision := t.state.Decision(m.ID)
		policy, kind := "", holdfast.PolicyKind("")
		if decision.Policy != nil {
			policy, kind = decision.Policy.Name, decision.Policy.Kind
		}
		changed := policy != m.Policy || kind != m.Kind
		if !changed && decision.Why == m.Why {
			continue
		}
		if changed {
			if err := t.leave(ctx, m, at); err != nil {
				return err
			}
		}
		m.Policy, m.Kind, m.Why = policy, kind, decision.Why
		if err := store.PutMachine(ctx, t.tx, m); err != nil {
			return err
		}
		if changed && kind == holdfast.PolicySLA {
			joined = append(joined, m)
		}
	}
	for _, m := range joined {
		if err := t.add(ctx, sla.MachineJoined{At: at, Policy: m.Policy, Machine: m.ID, Region: m.Region}); err != nil {
			return err
		}
	}
	return nil
}

// leave ends the protection of a machine by the policy it had: its points keep the last rules that this policy had for them.
func (t *tick) leave(ctx context.Context, m store.Machine, at time.Time) error {
	if m.Policy == "" {
		return nil
	}
	if known := t.scheduler.known; known != nil {
		if err := t.stamp(ctx, known, m); err != nil {
			return err
		}
	}
	if m.Kind != holdfast.PolicySLA {
		return nil
	}
	if _, inForce := t.scheduler.ledger.Ledger.InForce(m.Policy); !inForce {
		return nil // the policy was removed, and all machines left with it
	}
	return t.add(ctx, sla.MachineLeft{At: at, Policy: m.Policy, Machine: m.ID})
}

// stamp stores in the points of a machine the rules that held for them up to now.
func (t *tick) stamp(ctx context.Context, known *protection.State, m store.Machine) error {
	rules, err := known.Rules(m.ID)
	if err != nil || !rules.Protected {
		return err
	}
	points, err := store.Points(ctx, t.tx, store.PointFilter{VM: m.ID, Temporary: true}, store.Page{})
	if err != nil {
		return err
	}
	for _, p := range points {
		before := p
		p.Point = rules.Stamp(p.Point)
		if store.Same(before, p) {
			continue
		}
		if err := store.PutPoint(ctx, t.tx, p); err != nil {
			return err
		}
	}
	return nil
}
