package repo

import (
	"context"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
)

// movedPacks are packs that collections have moved things out of, so that nobody looks there again. They are learned when one is missed for the
// first time: most readers never need them. Safe for concurrent use.
type movedPacks struct {
	mu      sync.Mutex
	records []string // that they come from; guarded by mu, like the next
	gone    packlist.Gone
}

func (m *movedPacks) has(pack string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, gone := m.gone[pack]
	return gone
}

// learnMoved reads what became of packs that hints may still lead to, in the state read last.
func (r *Repository) learnMoved(ctx context.Context) {
	state := r.oplog.State()
	r.moved.mu.Lock()
	defer r.moved.mu.Unlock()
	if slices.Equal(r.moved.records, state.Gone) {
		return
	}
	gone, err := goneIn(ctx, r.store, state)
	if err != nil {
		// best effort: without it, each hint is tried.
		r.log.WarnContext(ctx, "what collections have moved is not known", "error", err)
	}
	r.moved.records, r.moved.gone = state.Gone, gone
}

// whereNow returns where a chunk lies whose hint leads to a pack that is known to be gone, and the hint else. Chunks that were moved together
// lie together, so that who reads many of them goes by frames again.
func (r *Repository) whereNow(ctx context.Context, id chunk.ID, hint *chunk.Place) (*chunk.Place, error) {
	if hint == nil || !r.moved.has(hint.Pack.Name()) {
		return hint, nil
	}
	all, err := r.places(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, place := range all {
		if !r.moved.has(place.Pack.Name()) {
			return place, nil
		}
	}
	return hint, nil
}
