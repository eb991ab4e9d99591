package repo

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast"
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
	gone, err := listsIn(store).Gone(ctx, state.Gone)
	if isDamage(err) {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "what collections have moved cannot be told").WithHint("have it told anew by: holdfast repo collect")
	}
	return gone, err
}

// listWriter stores lists of points.
func (r *Repository) listWriter(gone packlist.Gone) packlist.Writer {
	put := func(ctx context.Context, data []byte) (string, error) { return r.put(ctx, layout.List, data) }
	return packlist.Writer{Source: listsIn(r.store), Put: put, Gone: gone}
}

// neededByPoints returns the packs that the lists of all visible points stand for. Lists that many points include are read once. A list
// that is damaged names nothing.
func (r *Repository) neededByPoints(ctx context.Context, state oplog.State) ([]string, error) {
	gone, err := goneIn(ctx, r.store, state)
	if err != nil {
		return nil, err
	}
	var lists, packs []string
	for _, p := range state.Points {
		lists = append(lists, p.List)
	}
	read := map[string]bool{}
	for ; len(lists) > 0; lists = lists[1:] {
		if read[lists[0]] {
			continue
		}
		read[lists[0]] = true
		list, err := listsIn(r.store).Read(ctx, lists[0])
		if isDamage(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		packs = append(packs, list.Packs...)
		for _, in := range list.Includes {
			lists = append(lists, in.Name)
		}
	}
	damage, err := r.damageIn(ctx, state)
	if err != nil {
		return nil, err
	}
	packs = append(packs, damage.Instead(packs)...)
	slices.Sort(packs)
	return gone.Resolve(slices.Compact(packs)), nil
}
