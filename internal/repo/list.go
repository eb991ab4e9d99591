package repo

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
)

// listsIn reads the lists of a store. It needs no key.
func listsIn(store blob.Reader) packlist.Source {
	return func(ctx context.Context, name string) ([]byte, error) {
		return readNamed(ctx, store, name, layout.ListBytesMax)
	}
}

// goneIn returns what became of condemned packs that lists may still name. It needs no key.
func goneIn(ctx context.Context, store blob.Reader, state oplog.State) (packlist.Gone, error) {
	return listsIn(store).Gone(ctx, state.Gone)
}

// listWriter stores lists of points.
func (r *Repository) listWriter(gone packlist.Gone) packlist.Writer {
	put := func(ctx context.Context, data []byte) (string, error) { return r.put(ctx, layout.List, data) }
	return packlist.Writer{Source: listsIn(r.store), Put: put, Gone: gone}
}

// neededByPoints returns the packs that the lists of all visible points stand for.
func (r *Repository) neededByPoints(ctx context.Context, state oplog.State) ([]string, error) {
	gone, err := goneIn(ctx, r.store, state)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, p := range state.Points {
		packs, _, err := listsIn(r.store).Expand(ctx, p.List)
		if err != nil && !isDamage(err) {
			return nil, err
		}
		all = append(all, packs...)
	}
	slices.Sort(all)
	return gone.Resolve(slices.Compact(all)), nil
}
