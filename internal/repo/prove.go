package repo

import (
	"context"
	"iter"

	"github.com/holdfast-backup/holdfast"
)

// RootOf computes the root that content with the disk's size has, to compare it with Root.
func (d *DiskReader) RootOf(ctx context.Context, extents iter.Seq2[holdfast.Extent, error], source Source) (holdfast.Root, error) {
	return d.r.RootOf(ctx, RootInput{SizeBytes: d.disk.SizeBytes, Extents: extents, Source: source})
}

// Verify is the function Verify for an open repository.
func (r *Repository) Verify(ctx context.Context, level VerifyLevel) (Report, error) {
	return Verify(ctx, r.store.Store, VerifyOptions{Level: level, Repository: r, Clock: r.clock})
}
