package repo

import (
	"context"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
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
	state, err := r.oplog.Sync(ctx)
	if err != nil {
		return Rebuilt{}, err
	}
	packs, err := r.neededByPoints(ctx, state)
	if err != nil {
		return Rebuilt{}, err
	}
	result := Rebuilt{Packs: len(packs), Dropped: len(state.Runs), Damaged: []string{}}
	var contents index.Contents
	var added []string
	flush := func() error {
		if len(contents.Entries) == 0 {
			return nil
		}
		run, err := r.writeRun(ctx, holdfast.SessionID{}, contents)
		if err != nil {
			return err
		}
		added, contents = append(added, run.Name()), index.Contents{}
		result.Entries += run.Len()
		return nil
	}
	for i, name := range packs {
		err := r.addDirectory(ctx, name, &contents)
		if isDamage(err) {
			result.Damaged = append(result.Damaged, name)
		} else if err != nil {
			return Rebuilt{}, err
		}
		if len(contents.Entries) >= index.EntriesMax-packItemsMax {
			if err := flush(); err != nil {
				return Rebuilt{}, err
			}
		}
		if progress != nil {
			progress(i+1, len(packs))
		}
	}
	if err := flush(); err != nil {
		return Rebuilt{}, err
	}
	result.Runs = len(added)
	_, err = r.oplog.Append(ctx, func(oplog.State) (oplog.Entry, error) {
		return oplog.Entry{Kind: oplog.Index, Added: added, Dropped: state.Runs}, nil
	})
	return result, err
}

func (r *Repository) neededByPoints(ctx context.Context, state oplog.State) ([]string, error) {
	var all []string
	for _, p := range state.Points {
		packs, _, err := expandPackList(ctx, r.store, p.List)
		if err != nil && !isDamage(err) {
			return nil, err
		}
		all = append(all, packs...)
	}
	return sortedUnique(all), nil
}

// addDirectory adds what a pack's directory says.
func (r *Repository) addDirectory(ctx context.Context, name string, c *index.Contents) error {
	object, err := seal.OpenObject(ctx, r.store, name, r.ring, r.codec, layout.ObjectBytesMax)
	if err != nil {
		return err
	}
	number := uint32(len(c.Packs))
	c.Packs = append(c.Packs, name)
	for _, f := range object.Frames {
		for slot := range f.Items {
			c.Entries = append(c.Entries, index.Entry{
				ID: chunk.ID(f.Data[slot*32:]), Pack: number, Offset: uint32(f.Offset), Stored: uint32(f.Stored), Slot: uint16(slot),
			})
		}
	}
	return nil
}
