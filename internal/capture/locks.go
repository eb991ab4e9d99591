package capture

import (
	"context"
	"log/slog"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// locks are the management locks that may stand in the way of a run.
type locks []machine.Lock

// readLocks reads the management locks of the subscriptions that hold resources. Who may not read them finds out about a lock from
// the request that it refuses.
func readLocks(ctx context.Context, source SnapshotSource, log *slog.Logger, resources []holdfast.ResourceID) (locks, error) {
	var all locks
	seen := map[string]bool{}
	for _, id := range resources {
		subscription := strings.ToLower(id.Subscription())
		if seen[subscription] {
			continue
		}
		seen[subscription] = true
		found, err := source.Locks(ctx, id.Subscription())
		if holdfast.IsKind(err, holdfast.KindRefused) {
			log.InfoContext(ctx, "management locks cannot be read", "subscription", subscription, "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// against refuses when a lock covers id. Either level is in the way: ReadOnly forbids making a snapshot, CanNotDelete
// removing it, and what cannot be removed would pile up.
func (l locks) against(id holdfast.ResourceID, what string) error {
	for _, lock := range l {
		if lock.Covers(id) {
			return stands(lock, what)
		}
	}
	return nil
}

// againstReading refuses when a lock forbids that access to id is opened: that is a change, too.
func (l locks) againstReading(id holdfast.ResourceID, what string) error {
	for _, lock := range l {
		if lock.Covers(id) && lock.ReadOnly() {
			return stands(lock, what)
		}
	}
	return nil
}

func stands(lock machine.Lock, what string) error {
	return holdfast.Errorf(holdfast.KindRefused, "the lock %s (%s) on %s stands in the way of %s", lock.Name, lock.Level, lock.Scope, what).
		WithHint("remove the lock, or set it on the machine and its disks instead of on what holds their snapshots")
}
