package wrap

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// How long a retry waits: doubling from the first to the longest, each between half and all of it.
const (
	retryFirst   = 200 * time.Millisecond
	retryLongest = 30 * time.Second
)

// Retry repeats calls that failed in a way that may pass: unavailable and throttled. A put whose earlier try may have taken
// effect and that then finds the name taken compares the bytes: equal ones are its own. A list goes on behind the last
// item that it yielded. attempts counts the first try too.
func Retry(store blob.Store, c clock.Clock, attempts int) blob.Store {
	return decorate(store, retry{c, attempts})
}

// RetryRemover is Retry for the right to remove.
func RetryRemover(r blob.Remover, c clock.Clock, attempts int) blob.Remover {
	return decorateRemover(r, retry{c, attempts})
}

type retry struct {
	clock    clock.Clock
	attempts int
}

func (r retry) around(ctx context.Context, _ Call, do func(ctx context.Context) error) error {
	for try := 1; ; try++ {
		err := do(ctx)
		if err == nil || try >= r.attempts || !mayPass(err) {
			return err
		}
		if r.wait(ctx, try) != nil {
			return err
		}
	}
}

func (r retry) aroundList(ctx context.Context, _ Call, list func(func(any, error) bool), yield func(any, error) bool) {
	yielded := 0
	last := ""
	for try := 1; ; try++ {
		var failure error
		position := 0
		for item, err := range list {
			if err != nil {
				failure = err
				break
			}
			position++
			if done(item, last, position, yielded) {
				continue
			}
			yielded, last = position, nameOf(item)
			if !yield(item, nil) {
				return
			}
		}
		if failure == nil {
			return
		}
		if try >= r.attempts || !mayPass(failure) || r.wait(ctx, try) != nil {
			yield(nil, failure)
			return
		}
	}
}

// done reports whether a repeated list has yielded the item before: objects are ordered by name, so that ones that came or
// went meanwhile do no harm; versions have no order of their own and are counted.
func done(item any, last string, position, yielded int) bool {
	if name := nameOf(item); name != "" {
		return name <= last
	}
	return position <= yielded
}

func nameOf(item any) string {
	info, _ := item.(blob.Info)
	return info.Name
}

func (r retry) wait(ctx context.Context, try int) error {
	longest := min(retryFirst<<min(try-1, 20), retryLongest)
	return r.clock.Sleep(ctx, longest/2+rand.N(longest/2+1))
}

func mayPass(err error) bool {
	return holdfast.IsKind(err, holdfast.KindUnavailable) || holdfast.IsKind(err, holdfast.KindThrottled)
}

// settle judges a later try of a put: "exists" may be the work of an earlier one.
func (b base) settle(ctx context.Context, name string, data []byte, err error) error {
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	present := make([]byte, len(data)+1)
	n, readErr := b.store.Read(ctx, name, 0, present)
	if readErr != nil {
		return readErr
	}
	if bytes.Equal(present[:n], data) {
		return nil
	}
	return err
}
