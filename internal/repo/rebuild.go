package repo

import (
	"context"
	"errors"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
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
// writers may go on meanwhile. progress, optional, is called after each pack. A collection that condemns what the new index names
// makes it fail with KindConflict.
func (r *Repository) RebuildIndex(ctx context.Context, progress func(done, total int)) (Rebuilt, error) {
	b := rebuild{r: r, session: holdfast.SessionID(keys.Random(16)), result: Rebuilt{Damaged: []string{}}}
	_, err := r.oplog.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
		b.state = s
		return oplog.Entry{Kind: oplog.Begin, Session: &b.session}, nil
	})
	if err != nil {
		return Rebuilt{}, err
	}
	if err = b.run(ctx, progress); err != nil {
		after := context.WithoutCancel(ctx)
		if r.Abandon(after, b.session, err.Error()) == nil {
			err = errors.Join(err, r.Settle(after, b.session)) // nothing lies outside the repository
		}
		return Rebuilt{}, err
	}
	return b.result, nil
}

// rebuild is one run of RebuildIndex. It is a session, so that no collection takes its runs for leftovers.
type rebuild struct {
	r         *Repository
	session   holdfast.SessionID
	state     oplog.State // before the session
	condemned map[string]bool
	contents  index.Contents
	named     map[string]bool // packs in the new index
	added     []string
	result    Rebuilt
}

func (b *rebuild) run(ctx context.Context, progress func(done, total int)) (err error) {
	if b.condemned, err = b.r.runs.condemnedPacks(ctx, b.state); err != nil {
		return err
	}
	packs, err := b.r.neededByPoints(ctx, b.state)
	if err != nil {
		return err
	}
	packs = slices.DeleteFunc(packs, func(name string) bool { return b.condemned[name] })
	b.named = map[string]bool{}
	for i, name := range packs {
		if err := b.add(ctx, name); err != nil {
			return err
		}
		if progress != nil {
			progress(i+1, len(packs))
		}
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	b.result.Packs, b.result.Runs, b.result.Dropped = len(packs), len(b.added), len(b.state.Runs)
	_, err = b.r.oplog.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
		condemned, err := b.r.runs.condemnedPacks(ctx, s)
		if err != nil {
			return oplog.Entry{}, err
		}
		for name := range condemned {
			if b.named[name] {
				return oplog.Entry{}, holdfast.Errorf(holdfast.KindConflict, "the collection has condemned %s meanwhile", name).WithHint("run again")
			}
		}
		return oplog.Entry{Kind: oplog.Index, Session: &b.session, Added: b.added, Dropped: b.state.Runs}, nil
	})
	return err
}

// add takes up what one pack holds.
func (b *rebuild) add(ctx context.Context, name string) error {
	err := b.r.addDirectory(ctx, name, &b.contents)
	if isDamage(err) {
		b.result.Damaged = append(b.result.Damaged, name)
		return nil
	}
	if err != nil {
		return err
	}
	b.named[name] = true
	if len(b.contents.Entries) < index.EntriesMax-packItemsMax {
		return nil
	}
	return b.flush(ctx)
}

func (b *rebuild) flush(ctx context.Context) error {
	if len(b.contents.Entries) == 0 {
		return nil
	}
	run, err := b.r.writeRun(ctx, b.session, b.contents)
	if err != nil {
		return err
	}
	b.added, b.contents = append(b.added, run.Name()), index.Contents{}
	b.result.Entries += run.Len()
	return nil
}

// addDirectory adds what a pack's directory says.
func (r *Repository) addDirectory(ctx context.Context, name string, c *index.Contents) error {
	var object *seal.Object
	err := twice(ctx, r.store, name, func() (err error) {
		object, err = seal.OpenObject(ctx, r.store, name, r.ring, r.codec, layout.ObjectBytesMax)
		return err
	})
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
