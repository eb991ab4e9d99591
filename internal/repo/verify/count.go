package verify

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// namesPerPage is how many names a page of a listing has: what Azure Blob answers at most, and charges as one request.
const namesPerPage = 5000

// counting counts the requests that reach the store.
type counting struct {
	blob.Store
	requests atomic.Int64
}

// Read implements blob.Reader.
func (c *counting) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	c.requests.Add(1)
	return c.Store.Read(ctx, name, offset, p)
}

// Stat implements blob.Reader.
func (c *counting) Stat(ctx context.Context, name string) (blob.Info, error) {
	c.requests.Add(1)
	return c.Store.Stat(ctx, name)
}

// List implements blob.Reader.
func (c *counting) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		c.requests.Add(1)
		names := 0
		for info, err := range c.Store.List(ctx, prefix) {
			if names++; names > namesPerPage {
				c.requests.Add(1)
				names = 1
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
