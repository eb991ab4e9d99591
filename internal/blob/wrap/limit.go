package wrap

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Limit lets at most n calls run at a time; the others wait. A list holds a slot only while the store below works for it,
// never while its consumer does, so that a consumer may make calls of its own.
func Limit(store blob.Store, n int) blob.Store { return decorate(store, limit{make(chan struct{}, n)}) }

type limit struct{ slots chan struct{} }

func (l limit) around(ctx context.Context, _ Call, do func(ctx context.Context) error) error {
	if err := l.enter(ctx); err != nil {
		return err
	}
	defer l.leave()
	return do(ctx)
}

func (l limit) aroundList(ctx context.Context, _ Call, list func(func(any, error) bool), yield func(any, error) bool) {
	if err := l.enter(ctx); err != nil {
		yield(nil, err)
		return
	}
	held := true
	defer func() {
		if held {
			l.leave()
		}
	}()
	for item, err := range list {
		l.leave()
		held = false
		if !yield(item, err) {
			return
		}
		if err := l.enter(ctx); err != nil {
			yield(nil, err)
			return
		}
		held = true
	}
}

func (l limit) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l limit) leave() { <-l.slots }
