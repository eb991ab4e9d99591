package repo

import (
	"context"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// writtenEntriesMax bounds the index entries that a session keeps in memory, about 250 bytes each with what finds them; more go to
// runs of its own.
const writtenEntriesMax = 96 << 10

// written is where the chunks and nodes lie that a session has stored. Safe for concurrent use.
type written struct {
	merger *index.Merger
	most   int                         // entries in memory
	forget func(entries []index.Entry) // called when lookup finds them in runs from now on; may be nil

	spilling sync.Mutex    // one at a time; guards change; taken before mu
	change   *index.Change // the session's own runs

	mu      sync.Mutex // guards the fields below
	total   int
	entries []index.Entry
	runs    *index.Index // of change
}

func newWritten(merger *index.Merger, most int, forget func([]index.Entry)) *written {
	return &written{merger: merger, most: most, forget: forget, change: index.NewChange(nil), runs: index.New(merger.Reader, nil)}
}

// add takes the entries of a stored pack. When there are many they go to runs, which are merged among themselves, so that their number
// stays small however much the session writes. Whoever comes meanwhile waits only if there are many again.
func (w *written) add(ctx context.Context, entries []index.Entry) error {
	w.mu.Lock()
	w.entries, w.total = append(w.entries, entries...), w.total+len(entries)
	many := len(w.entries) >= w.most
	w.mu.Unlock()
	if !many {
		return nil
	}
	w.spilling.Lock()
	defer w.spilling.Unlock()
	w.mu.Lock()
	taken := w.entries
	if len(taken) < w.most { // another one was faster
		w.mu.Unlock()
		return nil
	}
	w.entries = nil
	w.mu.Unlock()
	return w.spill(ctx, taken)
}

// count returns the number of entries that were added.
func (w *written) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

// spill writes entries to runs. The caller holds spilling.
func (w *written) spill(ctx context.Context, taken []index.Entry) error {
	if err := w.change.Add(ctx, w.merger, taken); err != nil {
		return err
	}
	if err := w.change.Tend(ctx, w.merger, mergedPerEntry*len(taken)); err != nil {
		return err
	}
	w.mu.Lock()
	w.runs = index.New(w.merger.Reader, w.change.Runs())
	w.mu.Unlock()
	if w.forget != nil {
		w.forget(taken)
	}
	return nil
}

// lookup returns a place that runs of the session know, nil for none.
func (w *written) lookup(ctx context.Context, id chunk.ID) (found *chunk.Place, err error) {
	w.mu.Lock()
	runs := w.runs
	w.mu.Unlock()
	err = runs.Lookup(ctx, id, func(place *chunk.Place) bool {
		found = place
		return true
	})
	return found, err
}

// finish stores what is still in memory, merged with small live runs, and returns what the entry that ends the session has to say. It
// may be called again after an error, also one that came later.
func (w *written) finish(ctx context.Context, live *index.Index) (runChange, error) {
	w.spilling.Lock()
	defer w.spilling.Unlock()
	w.mu.Lock()
	entries := slices.Clone(w.entries)
	w.mu.Unlock()
	change := index.NewChange(live.Runs())
	change.Adopt(w.change.Added)
	if len(entries) > 0 {
		if err := change.Add(ctx, w.merger, entries); err != nil {
			return runChange{}, err
		}
	}
	return changeOf(change), nil
}

// merger returns what makes index runs in the name of a session, under a state whose condemned packs are given.
func (r *Repository) merger(session holdfast.SessionID, condemned map[string]bool, state oplog.State) (*index.Merger, error) {
	packs := map[index.Pack]bool{}
	for name := range condemned {
		if kind, _ := layout.Parse(name); kind != layout.DataPack && kind != layout.TreePack {
			continue
		}
		pack, err := index.PackOf(name)
		if err != nil {
			return nil, err
		}
		packs[pack] = true
	}
	m := &index.Merger{
		Reader: r.runs.reader, Clean: state.Next,
		Header: func() seal.Header { return seal.NewHeader(seal.KindIndex, r.ring, r.id, session) },
		Put:    func(ctx context.Context, data []byte) (string, error) { return r.put(ctx, layout.IndexRun, data) },
		Buffer: r.runBuffer,
	}
	if len(packs) > 0 {
		m.Without = func(pack index.Pack) bool { return packs[pack] }
	}
	return m, nil
}

// smallRunBytes is up to which size memory of a run's own is better than that of a pack.
const smallRunBytes = 1 << 20

// runBuffer returns memory for a run: that of a pack where it fits, since fresh memory of that size takes long to get.
func (r *Repository) runBuffer(size int) (buffer []byte, release func()) {
	if size <= smallRunBytes || size > r.packBuffers.Size() {
		return make([]byte, 0, size), func() {}
	}
	buffer = r.packBuffers.Get()
	return buffer, func() { r.packBuffers.Put(buffer) }
}
