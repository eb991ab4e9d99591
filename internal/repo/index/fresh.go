package index

import (
	"context"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
)

// Fresh is where the chunks and nodes lie that a session has stored. Safe for concurrent use.
type Fresh struct {
	merger *Merger
	most   int                   // entries in memory
	forget func(entries []Entry) // called when Lookup finds them in runs from now on; nil for nobody

	spilling sync.Mutex // one at a time; guards change; taken before mu
	change   *Change    // the session's own runs

	mu      sync.Mutex // guards the fields below
	total   int
	entries []Entry
	runs    *Index // of change
}

// NewFresh returns one without entries. Up to most entries are kept in memory; forget, optional, is called with those that Lookup finds
// from now on.
func NewFresh(merger *Merger, most int, forget func([]Entry)) *Fresh {
	return &Fresh{merger: merger, most: most, forget: forget, change: NewChange(nil), runs: New(merger.Reader, nil)}
}

// Add takes the entries of a stored pack. When there are many they go to runs, which are merged among themselves, so that their number
// stays small however much the session writes. Whoever comes meanwhile waits only if there are many again.
func (f *Fresh) Add(ctx context.Context, entries []Entry) error {
	f.mu.Lock()
	f.entries, f.total = append(f.entries, entries...), f.total+len(entries)
	many := len(f.entries) >= f.most
	f.mu.Unlock()
	if !many {
		return nil
	}
	f.spilling.Lock()
	defer f.spilling.Unlock()
	f.mu.Lock()
	taken := f.entries
	if len(taken) < f.most { // another one was faster
		f.mu.Unlock()
		return nil
	}
	f.entries = nil
	f.mu.Unlock()
	return f.spill(ctx, taken)
}

// Count returns the number of entries that were added.
func (f *Fresh) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// Waiting returns the number of entries that are in memory.
func (f *Fresh) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.entries)
}

// MergedPerEntry is how many entries merges may read for each one that is added: what keeps pace with any growth is some 25.
const MergedPerEntry = 64

// spill writes entries to runs. The caller holds spilling.
func (f *Fresh) spill(ctx context.Context, taken []Entry) error {
	if err := f.change.Add(ctx, f.merger, taken); err != nil {
		return err
	}
	if err := f.change.Tend(ctx, f.merger, MergedPerEntry*len(taken)); err != nil {
		return err
	}
	f.mu.Lock()
	f.runs = New(f.merger.Reader, f.change.Runs())
	f.mu.Unlock()
	if f.forget != nil {
		f.forget(taken)
	}
	return nil
}

// Lookup returns a place that runs of the session know, nil for none.
func (f *Fresh) Lookup(ctx context.Context, id chunk.ID) (found *chunk.Place, err error) {
	f.mu.Lock()
	runs := f.runs
	f.mu.Unlock()
	err = runs.Lookup(ctx, id, func(place *chunk.Place) bool {
		found = place
		return true
	})
	return found, err
}

// Finish stores what is still in memory, merged with small live runs, and returns what becomes of them. It
// may be called again after an error, also one that came later.
func (f *Fresh) Finish(ctx context.Context, live *Index) (*Change, error) {
	f.spilling.Lock()
	defer f.spilling.Unlock()
	f.mu.Lock()
	entries := slices.Clone(f.entries)
	f.mu.Unlock()
	change := NewChange(live.Runs())
	change.Adopt(f.change.Added)
	if len(entries) > 0 {
		if err := change.Add(ctx, f.merger, entries); err != nil {
			return nil, err
		}
	}
	return change, nil
}
