package repo

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
)

// Rebuilt is what RebuildIndex did.
type Rebuilt struct {
	Packs   int      `json:"packs"`   // whose directories were read
	Entries int      `json:"entries"` // in the new index
	Runs    int      `json:"runs"`
	Dropped int      `json:"dropped"` // runs of the old index
	Damaged []string `json:"damaged"` // packs that could not be read
}

// RebuildIndex makes the index anew from the directories of the packs that visible points name; no listing is used. Readers and
// writers may go on meanwhile. progress, optional, is called after each pack.
func (r *Repository) RebuildIndex(ctx context.Context, progress func(done, total int)) (Rebuilt, error) {
	var result Rebuilt
	err := r.indexSession(ctx, func(ctx context.Context, session holdfast.SessionID, state oplog.State) (runChange, error) {
		b := rebuild{r: r, result: Rebuilt{Damaged: []string{}, Dropped: len(state.Runs)}}
		change, err := b.run(ctx, session, state, progress)
		result = b.result
		return change, err
	})
	if err != nil {
		return Rebuilt{}, err
	}
	return result, nil
}

// rebuild is one run of RebuildIndex.
type rebuild struct {
	r      *Repository
	fresh  *index.Fresh
	result Rebuilt
}

func (b *rebuild) run(ctx context.Context, session holdfast.SessionID, state oplog.State, progress func(done, total int)) (runChange, error) {
	condemned, err := b.r.runs.condemnedPacks(ctx, state)
	if err != nil {
		return runChange{}, err
	}
	merger, err := b.r.merger(session, condemned, state)
	if err != nil {
		return runChange{}, err
	}
	b.fresh = index.NewFresh(merger, b.r.freshMax, nil)
	packs, err := b.r.neededByPoints(ctx, state)
	if err != nil {
		return runChange{}, err
	}
	packs = slices.DeleteFunc(packs, func(name string) bool { return condemned[name] })
	for i, name := range packs {
		if err := b.add(ctx, name); err != nil {
			return runChange{}, err
		}
		if progress != nil {
			progress(i+1, len(packs))
		}
	}
	made, err := b.fresh.Finish(ctx, index.New(merger.Reader, nil))
	if err != nil {
		return runChange{}, err
	}
	change := changeOf(made)
	change.dropped = state.Runs
	b.result.Packs, b.result.Runs = len(packs), len(change.added)
	for _, about := range change.about {
		b.result.Entries += about.Entries
	}
	return change, nil
}

// add takes up what one pack holds.
func (b *rebuild) add(ctx context.Context, name string) error {
	entries, err := b.r.directory(ctx, name)
	if isDamage(err) {
		b.result.Damaged = append(b.result.Damaged, name)
		return nil
	}
	if err != nil {
		return err
	}
	return b.fresh.Add(ctx, entries)
}

// directory returns what a pack's directory says.
func (r *Repository) directory(ctx context.Context, name string) ([]index.Entry, error) {
	pack, err := index.PackOf(name)
	if err != nil {
		return nil, err
	}
	var object *seal.Object
	err = shadow.Twice(ctx, r.store, name, func() (err error) {
		object, err = seal.OpenObject(ctx, r.store, name, r.ring, r.codec, layout.ObjectBytesMax)
		return err
	})
	if err != nil {
		return nil, err
	}
	var entries []index.Entry
	for _, f := range object.Frames {
		for slot := range f.Items {
			entries = append(entries, index.Entry{
				ID: chunk.ID(f.Data[slot*32:]), Pack: pack, Offset: uint32(f.Offset), Stored: uint32(f.Stored), Slot: uint16(slot),
			})
		}
	}
	return entries, nil
}
