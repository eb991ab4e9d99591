package wrap

import (
	"context"
	"maps"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Counter counts calls and bytes. The zero value is ready. Safe for concurrent use.
type Counter struct {
	mu    sync.Mutex
	calls map[Op]int // guarded by mu
	bytes map[Op]int64
}

// Count counts the store's calls. Bytes are those of puts that succeeded and of the buffers that reads filled or could have.
func Count(store blob.Store, counter *Counter) blob.Store { return decorate(store, counter) }

// CountRemover is Count for the right to remove.
func CountRemover(r blob.Remover, counter *Counter) blob.Remover { return decorateRemover(r, counter) }

// Calls returns how often each operation was called.
func (c *Counter) Calls() map[Op]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.calls)
}

// Bytes returns how many bytes the successful calls of an operation moved.
func (c *Counter) Bytes(op Op) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes[op]
}

func (c *Counter) around(ctx context.Context, call Call, do func(ctx context.Context) error) error {
	err := do(ctx)
	c.add(call, err == nil)
	return err
}

func (c *Counter) aroundList(_ context.Context, call Call, list func(func(any, error) bool), yield func(any, error) bool) {
	c.add(call, true)
	list(yield)
}

func (c *Counter) add(call Call, succeeded bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls, c.bytes = map[Op]int{}, map[Op]int64{}
	}
	c.calls[call.Op]++
	if succeeded {
		c.bytes[call.Op] += int64(call.Bytes)
	}
}
