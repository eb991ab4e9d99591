package control

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// SLAReport says how an SLA policy did.
func (c *Control) SLAReport(ctx context.Context, p auth.Principal, ask report.Ask) (r report.Report, err error) {
	err = c.read(ctx, p, auth.SeePolicies, func(ctx context.Context, q store.Query) error {
		s, err := c.state(ctx, q)
		if err != nil {
			return err
		}
		r, err = report.Of(ctx, q, s, c.now(), ask)
		return err
	})
	return r, err
}

// TestNotifications sends a trial message, and says what became of it.
func (c *Control) TestNotifications(ctx context.Context, p auth.Principal, to string) (view.Delivered, error) {
	if err := p.Require(auth.ChangeSettings); err != nil {
		return view.Delivered{}, err
	}
	all, err := c.config.Notifier.Test(ctx, to, p.User)
	return view.Delivered{Deliveries: all}, err
}
