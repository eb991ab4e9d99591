package control

import (
	"context"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// Policies returns all policies with how they are doing, in the order in which they go.
func (c *Control) Policies(ctx context.Context, p auth.Principal) (all []view.Policy, err error) {
	err = c.read(ctx, p, auth.SeePolicies, func(ctx context.Context, q store.Query) error {
		all, err = c.policies(ctx, q)
		return err
	})
	return all, err
}

func (c *Control) policies(ctx context.Context, q store.Query) ([]view.Policy, error) {
	s, err := c.state(ctx, q)
	if err != nil {
		return nil, err
	}
	decided, _, err := store.PlanState(ctx, q)
	if err != nil {
		return nil, err
	}
	all := []view.Policy{}
	for _, p := range s.Documents.SLAPolicies {
		one := policyView(s, p.PolicyCommon, holdfast.PolicySLA, decided)
		one.Template, one.Storage, one.Version = p.Template, p.Storage, s.Version(document.KindSLAPolicy, p.Name)
		all = append(all, one)
	}
	for _, p := range s.Documents.SchedulePolicies {
		one := policyView(s, p.PolicyCommon, holdfast.PolicySchedule, decided)
		one.Version = s.Version(document.KindSchedulePolicy, p.Name)
		all = append(all, one)
	}
	for i := range all {
		if err := c.addSessions(ctx, q, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func policyView(s *protection.State, p holdfast.PolicyCommon, kind holdfast.PolicyKind, decided plan.State) view.Policy {
	one := view.Policy{Name: p.Name, Kind: kind, Description: p.Description, Enabled: p.Enabled, Priority: p.Priority, Running: []holdfast.RunID{}}
	for _, m := range s.Resolution.Machines {
		if m.Policy != nil && m.Policy.Name == p.Name {
			one.Machines++
		}
	}
	if !p.Enabled || one.Machines == 0 {
		return one
	}
	for key, track := range decided.Tracks {
		if key.Policy == p.Name && !track.Next.IsZero() && (one.Next.IsZero() || track.Next.Before(one.Next)) {
			one.Next = track.Next
		}
	}
	return one
}

// addSessions adds which sessions of a policy run, and how its last one went.
func (c *Control) addSessions(ctx context.Context, q store.Query, p *view.Policy) error {
	open, err := store.Sessions(ctx, q, store.Filter{Policy: p.Name, States: []holdfast.State{holdfast.StateQueued, holdfast.StateRunning}}, store.Page{})
	if err != nil {
		return err
	}
	for _, s := range open {
		p.Running = append(p.Running, s.ID)
	}
	last, err := store.Sessions(ctx, q, store.Filter{
		Policy: p.Name, States: []holdfast.State{holdfast.StateDone}, Types: []holdfast.SessionType{holdfast.SessionPolicy},
	}, store.Page{Limit: 1})
	if len(last) > 0 {
		p.Last = &last[0]
	}
	return err
}

// Policy returns one policy with its document.
func (c *Control) Policy(ctx context.Context, p auth.Principal, name string) (one view.Policy, err error) {
	err = c.read(ctx, p, auth.SeePolicies, func(ctx context.Context, q store.Query) error {
		all, err := c.policies(ctx, q)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(p view.Policy) bool { return p.Name == name })
		if i < 0 {
			return errNoPolicy(name)
		}
		one = all[i]
		rows, err := store.Documents(ctx, q)
		for _, d := range rows {
			if d.Name == name && (d.Kind == document.KindSchedulePolicy || d.Kind == document.KindSLAPolicy) {
				one.YAML = d.YAML
			}
		}
		return err
	})
	return one, err
}

func errNoPolicy(name string) error {
	return holdfast.Errorf(holdfast.KindNotFound, "there is no policy %q", name).WithField("name").WithHint("see which there are with: holdfast policy list")
}

// common finds what both kinds of policy have in documents that may be changed.
func common(d *holdfast.Documents, name string) (*holdfast.PolicyCommon, error) {
	for i := range d.SLAPolicies {
		if d.SLAPolicies[i].Name == name {
			return &d.SLAPolicies[i].PolicyCommon, nil
		}
	}
	for i := range d.SchedulePolicies {
		if d.SchedulePolicies[i].Name == name {
			return &d.SchedulePolicies[i].PolicyCommon, nil
		}
	}
	return nil, errNoPolicy(name)
}

// PatchPolicy enables, disables or moves a policy. A disabled one begins no session; those that run, and retention, go on.
func (c *Control) PatchPolicy(ctx context.Context, p auth.Principal, name string, patch view.PolicyPatch) (view.Policy, error) {
	err := c.edit(ctx, p, func(d *holdfast.Documents) error {
		one, err := common(d, name)
		if err != nil {
			return err
		}
		if patch.Enabled != nil {
			one.Enabled = *patch.Enabled
		}
		if patch.Priority == nil {
			return nil
		}
		if slices.ContainsFunc(d.SLAPolicies, func(p holdfast.SLAPolicy) bool { return p.Name == name }) {
			move(d.SLAPolicies, func(p *holdfast.SLAPolicy) *holdfast.PolicyCommon { return &p.PolicyCommon }, name, *patch.Priority)
		} else {
			move(d.SchedulePolicies, func(p *holdfast.SchedulePolicy) *holdfast.PolicyCommon { return &p.PolicyCommon }, name, *patch.Priority)
		}
		return nil
	})
	if err != nil {
		return view.Policy{}, err
	}
	return c.Policy(ctx, p, name)
}

// move gives a policy a priority; those from there on that stand in its way move down by one.
func move[T any](all []T, common func(*T) *holdfast.PolicyCommon, name string, priority int) {
	next := priority
	for i := range all { // by priority
		one := common(&all[i])
		switch {
		case one.Name == name:
			one.Priority = priority
		case one.Priority == next:
			next++
			one.Priority = next
		}
	}
}

// ClonePolicy copies a policy under another name, last in the order and disabled, so that it takes no machine from anybody unseen.
func (c *Control) ClonePolicy(ctx context.Context, p auth.Principal, name, as string) (view.Policy, error) {
	err := c.edit(ctx, p, func(d *holdfast.Documents) error {
		if _, err := common(d, as); err == nil {
			return holdfast.Errorf(holdfast.KindConflict, "there is a policy %q already", as).WithField("name").WithHint("choose another name")
		}
		if _, err := common(d, name); err != nil {
			return err
		}
		for _, one := range d.SLAPolicies {
			if one.Name == name {
				one.Name, one.Enabled, one.Priority = as, false, d.SLAPolicies[len(d.SLAPolicies)-1].Priority+1
				d.SLAPolicies = append(d.SLAPolicies, one)
				return nil
			}
		}
		for _, one := range d.SchedulePolicies {
			if one.Name == name {
				one.Name, one.Enabled, one.Priority = as, false, d.SchedulePolicies[len(d.SchedulePolicies)-1].Priority+1
				d.SchedulePolicies = append(d.SchedulePolicies, one)
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return view.Policy{}, err
	}
	return c.Policy(ctx, p, as)
}

// RemovePolicy removes a policy. Its points stay, and age by what it said last.
func (c *Control) RemovePolicy(ctx context.Context, p auth.Principal, name string) error {
	return c.edit(ctx, p, func(d *holdfast.Documents) error {
		if _, err := common(d, name); err != nil {
			return err
		}
		d.SLAPolicies = slices.DeleteFunc(d.SLAPolicies, func(p holdfast.SLAPolicy) bool { return p.Name == name })
		d.SchedulePolicies = slices.DeleteFunc(d.SchedulePolicies, func(p holdfast.SchedulePolicy) bool { return p.Name == name })
		return nil
	})
}

// startTimeout bounds the wait for the scheduler, which takes a request within a second or two.
const (
	startTimeout = 15 * time.Second
	startPoll    = 100 * time.Millisecond
)

// RunPolicy starts a policy now, whether it is enabled or not, and answers with its sessions once the scheduler has begun them.
func (c *Control) RunPolicy(ctx context.Context, p auth.Principal, name string) (view.Started, error) {
	if err := p.Require(auth.RunPolicies); err != nil {
		return view.Started{}, err
	}
	if err := c.config.Discovery.Refresh(ctx); err != nil {
		c.config.Log.WarnContext(ctx, "a policy is started with an inventory that may be old", "policy", name, "error", err)
	}
	at := c.now()
	err := c.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		s, err := c.state(ctx, tx)
		if err != nil {
			return err
		}
		if _, _, known := s.Policy(name); !known {
			return errNoPolicy(name)
		}
		tx.OnCommit(c.config.Nudge)
		return store.PutRequest(ctx, tx, uuid.NewString(), name, p.User, at)
	})
	if err != nil {
		return view.Started{}, err
	}
	return c.started(ctx, name, at)
}

// started waits until the scheduler has taken a request.
func (c *Control) started(ctx context.Context, name string, at time.Time) (view.Started, error) {
	deadline := c.config.Clock.Now().Add(startTimeout)
	for {
		started := view.Started{Sessions: []holdfast.Session{}}
		taken := false
		err := c.config.Database.Read(ctx, func(ctx context.Context, q store.Query) error {
			author, err := store.RequestAuthor(ctx, q, name, at)
			if err != nil || author != "" {
				return err
			}
			taken = true
			all, err := store.Sessions(ctx, q, store.Filter{Policy: name, From: at, Types: []holdfast.SessionType{holdfast.SessionPolicy}}, store.Page{})
			for _, s := range all {
				if s.Manual && s.Slot.Equal(at) {
					started.Sessions = append(started.Sessions, s)
				}
			}
			return err
		})
		switch {
		case err != nil:
			return started, err
		case taken && len(started.Sessions) == 0:
			started.Note = "nothing was begun: the policy protects no machine, or all of its machines are in work already"
			return started, nil
		case taken:
			return started, nil
		case c.config.Clock.Now().After(deadline):
			started.Note = "the request is written down and the scheduler has not taken it yet; look at holdfast session list"
			return started, nil
		}
		if err := c.config.Clock.Sleep(ctx, startPoll); err != nil {
			return started, err
		}
	}
}

// StopPolicy asks the sessions of a policy that have not ended to stop.
func (c *Control) StopPolicy(ctx context.Context, p auth.Principal, name string) (view.Stopped, error) {
	stopped := view.Stopped{Sessions: []holdfast.RunID{}}
	err := c.write(ctx, p, auth.StopSessions, func(ctx context.Context, tx database.Tx) error {
		stopped.Sessions = stopped.Sessions[:0]
		open, err := store.Sessions(ctx, tx, store.Filter{Policy: name, States: []holdfast.State{holdfast.StateQueued, holdfast.StateRunning}}, store.Page{})
		if err != nil {
			return err
		}
		if len(open) == 0 {
			s, err := c.state(ctx, tx)
			if err != nil {
				return err
			}
			if _, _, known := s.Policy(name); !known {
				return errNoPolicy(name)
			}
		}
		for _, s := range open {
			if s.Stopping {
				continue
			}
			if err := c.stop(ctx, tx, s.ID); err != nil {
				return err
			}
			stopped.Sessions = append(stopped.Sessions, s.ID)
		}
		return nil
	})
	return stopped, err
}

// previewDaysMax bounds a preview: ten years.
const previewDaysMax = 3_660

// preview makes the world of a preview of what is in force.
func (c *Control) preview(ctx context.Context, p auth.Principal, name string, days int) (made *preview.Preview, until time.Time, err error) {
	if days < 1 || days > previewDaysMax {
		return nil, until, holdfast.Errorf(holdfast.KindInvalid, "%d days cannot be shown", days).WithField("days").WithHint("write a number from 1 to %d", previewDaysMax)
	}
	var in preview.Input
	err = c.read(ctx, p, auth.SeePolicies, func(ctx context.Context, q store.Query) error {
		s, err := c.state(ctx, q)
		if err != nil {
			return err
		}
		if _, _, known := s.Policy(name); !known {
			return errNoPolicy(name)
		}
		in, err = c.world(ctx, q, s)
		return err
	})
	if err != nil {
		return nil, until, err
	}
	from := c.now().Truncate(time.Second)
	made, err = preview.New(in, from)
	return made, from.AddDate(0, 0, days), err
}

// Preview says what a policy will do in the days to come, beside all others that are in force.
func (c *Control) Preview(ctx context.Context, p auth.Principal, name string, days int) (preview.Summary, error) {
	made, until, err := c.preview(ctx, p, name, days)
	if err != nil {
		return preview.Summary{}, err
	}
	for _, err := range made.Run(until) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return preview.Summary{}, err
		}
	}
	summary := made.Summary()
	summary.Policies = slices.DeleteFunc(summary.Policies, func(p preview.PolicySummary) bool { return p.Name != name })
	return summary, nil
}

// PreviewEvents yields what a policy will do, event by event.
func (c *Control) PreviewEvents(ctx context.Context, p auth.Principal, name string, days int) (iter.Seq2[preview.Event, error], error) {
	made, until, err := c.preview(ctx, p, name, days)
	if err != nil {
		return nil, err
	}
	return func(yield func(preview.Event, error) bool) {
		for e, err := range made.Run(until) {
			if err == nil && e.Policy != name {
				err = ctx.Err()
				if err == nil {
					continue
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}, nil
}

// Events returns lines of the record after a number, the oldest first.
func (c *Control) Events(ctx context.Context, p auth.Principal, after int64, limit int) (l view.List[view.Event], err error) {
	part := page(limit, "")
	err = c.read(ctx, p, auth.SeeSessions, func(ctx context.Context, q store.Query) error {
		rows, err := store.EventsAfter(ctx, q, after, part.Limit+1)
		all := make([]view.Event, 0, len(rows))
		for _, e := range rows {
			all = append(all, view.Event{Number: e.Number, At: e.At, VM: e.VM, Policy: e.Policy, Name: e.Name, Slot: e.Slot, Point: e.Point, Flags: e.Flags, Reason: e.Reason})
		}
		l = listOf(all, part, func(e view.Event) string { return strconv.FormatInt(e.Number, 10) })
		return err
	})
	return l, err
}
