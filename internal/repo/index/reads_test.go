package index_test

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/blob/mem"
)

// countReads counts the reads of a store; it is used by one goroutine.
type countReads struct {
	*mem.Store
	n int
}

func (c *countReads) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	c.n++
	return c.Store.Read(ctx, name, offset, p)
}
