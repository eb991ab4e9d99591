package server

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/outbox"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// notifier sends trial messages for package control.
type notifier struct{ outbox *outbox.Outbox }

// Test implements control.Notifier.
func (n notifier) Test(ctx context.Context, to, by string) ([]view.Delivery, error) {
	tested, err := n.outbox.Test(ctx, to, by)
	if err != nil {
		return nil, err
	}
	all := make([]view.Delivery, 0, len(tested))
	for _, t := range tested {
		d := view.Delivery{To: t.Address, OK: t.Err == nil}
		if t.Err != nil {
			d.Problem = t.Err.Error()
			var e *holdfast.Error
			if errors.As(t.Err, &e) {
				d.Problem, d.Hint = e.Message, e.Hint
			}
		}
		all = append(all, d)
	}
	return all, nil
}
