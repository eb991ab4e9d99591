package capture

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// Limits in time.
const (
	// cleanupTimeout bounds what is done after a failure or a stop.
	cleanupTimeout = 5 * time.Minute
	// lingerTimeout is how long a request that creates something may go on after a stop, so that its outcome is known.
	lingerTimeout = 20 * time.Second
	// copyTimeout bounds the wait for a snapshot of an Ultra or Premium v2 disk; Azure gives no number, a day is a lot.
	copyTimeout = 24 * time.Hour
)

// cleanup returns a context for what has to be done although the run failed or was stopped.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}

// linger returns a context that ends some time after ctx does, so that a request that was sent can be waited for.
func linger(ctx context.Context, c clock.Clock) (context.Context, context.CancelFunc) {
	child, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		_ = c.Sleep(child, lingerTimeout) // it ends early only because child has ended
		cancel()
	})
	return child, func() { stop(); cancel() }
}

// copying waits for the background copy of the snapshot of an Ultra or Premium v2 disk. The point in time is that of the request.
type copying struct {
	source SnapshotSource
	clock  clock.Clock
	every  time.Duration
	told   func() // called before each wait
}

// await returns the snapshot once it can be read.
func (c copying) await(ctx context.Context, s machine.Snapshot, id holdfast.ResourceID, disk string) (machine.Snapshot, error) {
	deadline := c.clock.Now().Add(copyTimeout)
	for wait := c.every / 16; !s.Ready; wait = min(2*wait, c.every) {
		switch {
		case s.Failed:
			return s, holdfast.Errorf(holdfast.KindUnavailable, "azure could not copy the snapshot of the disk %s", disk).
				WithHint("run the backup again")
		case c.clock.Now().After(deadline):
			return s, holdfast.Errorf(holdfast.KindUnavailable, "the snapshot of the disk %s could not be read after %s", disk, copyTimeout).
				WithHint("run the backup again")
		}
		c.told()
		if err := c.clock.Sleep(ctx, wait); err != nil {
			return s, err
		}
		var err error
		if s, err = c.source.Snapshot(ctx, id); err != nil {
			return s, err
		}
	}
	return s, nil
}

// outcomeUnknown reports whether a request that failed so may have taken effect, or may do so yet.
func outcomeUnknown(err error) bool {
	switch holdfast.KindOf(err) {
	case holdfast.KindUnavailable, holdfast.KindThrottled, holdfast.KindCanceled:
		return true
	}
	return false
}
