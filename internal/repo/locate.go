package repo

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// runSet is the live index runs and the condemned packs of the state it was last told. Safe for concurrent use.
type runSet struct {
	r      *Repository
	reader *index.Reader

	condemned *packlist.Condemned

	mu    sync.Mutex   // guards the fields below
	next  uint64       // of the state that index is of
	index *index.Index // nil before the first question
}

func newRunSet(r *Repository, limits index.Limits) *runSet {
	s := &runSet{r: r, condemned: packlist.NewCondemned(listsIn(r.store), r.log)}
	s.reader = index.NewReader(index.ReaderOptions{Store: r.store, Ring: r.ring, Codec: r.codec, Limits: limits, Notice: s.notice, Twice: s.twice})
	return s
}

// notice tells of a run that is missing or damaged. The index is a cache, whose loss costs duplicates and time, never data.
func (s *runSet) notice(ctx context.Context, name string, err error) {
	s.r.log.WarnContext(ctx, "index run cannot be used", "object", name, "error", err)
}

// twice sees through what somebody put over a run.
func (s *runSet) twice(ctx context.Context, name string, read func() error) error {
	return shadow.Twice(ctx, s.r.store, name, read)
}

// live returns the live runs of a state. Only runs of which the log says nothing are opened.
func (s *runSet) live(ctx context.Context, state oplog.State) (*index.Index, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index != nil && s.next == state.Next {
		return s.index, nil
	}
	runs := make([]index.About, len(state.Runs))
	for i, name := range state.Runs {
		runs[i] = aboutRun(name, state.AboutRun(i))
		if runs[i].Entries > 0 {
			continue
		}
		run, err := s.reader.Open(ctx, runs[i])
		if err != nil {
			return nil, err
		}
		if run != nil {
			runs[i].Entries = run.Len()
		}
	}
	s.next, s.index = state.Next, index.New(s.reader, runs)
	return s.index, nil
}

// aboutRun takes the log's word for a run, as far as it makes sense.
func aboutRun(name string, about oplog.RunAbout) index.About {
	prefix, ok := index.ParsePrefix(about.Prefix)
	if !ok || about.Entries < 0 || about.Bytes < 0 {
		return index.About{Name: name}
	}
	return index.About{Name: name, Prefix: prefix, Entries: about.Entries, Bytes: about.Bytes, Clean: about.Clean}
}

// current returns the live runs of the state read last.
func (s *runSet) current(ctx context.Context) (*index.Index, error) {
	s.mu.Lock()
	live := s.index
	known := live != nil && s.next == s.r.oplog.Next()
	s.mu.Unlock()
	if known {
		return live, nil
	}
	return s.live(ctx, s.r.oplog.State())
}

// condemnedPacks returns the packs that a state's condemnation lists name. Where a list is damaged the records of gone packs tell: every
// pack that was ever condemned, as long as any list may lead there, those of this list among them.
func (s *runSet) condemnedPacks(ctx context.Context, state oplog.State) (map[string]bool, error) {
	return s.condemned.Packs(ctx, state.Lists(), func(ctx context.Context) (packlist.Gone, error) { return goneIn(ctx, s.r.store, state) })
}

// finder answers where ids lie under one state of the log.
type finder struct {
	live      *index.Index
	condemned map[string]bool
	damaged   map[string]bool // of a session: packs from which nothing is taken for stored
}

func (r *Repository) finder(ctx context.Context, state oplog.State) (*finder, error) {
	live, err := r.runs.live(ctx, state)
	if err != nil {
		return nil, err
	}
	condemned, err := r.runs.condemnedPacks(ctx, state)
	if err != nil {
		return nil, err
	}
	return &finder{live: live, condemned: condemned}, live.Prepare(ctx)
}

// places returns all places of an id, condemned ones too: what can still be read is as good as any. A damaged block of a run
// hides what it says.
func places(ctx context.Context, live *index.Index, id chunk.ID) (found []*chunk.Place, err error) {
	err = live.Lookup(ctx, id, func(place *chunk.Place) bool {
		found = append(found, place)
		return false
	})
	return found, err
}

// place returns one place of an id, nil if it is not stored.
func (f *finder) place(ctx context.Context, id chunk.ID) (found *chunk.Place, err error) {
	err = f.live.Lookup(ctx, id, func(place *chunk.Place) bool {
		if name := place.Pack.Name(); f.condemned[name] || f.damaged[name] {
			return false
		}
		found = place
		return true
	})
	return found, err
}

// isDamage reports whether an error says that an object is missing or damaged, rather than out of reach.
func isDamage(err error) bool { return stored.IsDamage(err) }

// fetch returns the bytes of an id that pick takes from a frame: from the hinted place, else from wherever the index knows
// it. Bytes that do not have the id are never returned. When no place holds the id the error is KindCorrupt and names the
// packs tried.
func (r *Repository) fetch(ctx context.Context, id chunk.ID, hint *chunk.Place, use func(*chunk.Place) error) error {
	known := r.oplog.Next()
	err := r.fetchOnce(ctx, id, hint, use)
	if !isDamage(err) {
		return err
	}
	if refreshErr := r.Refresh(ctx); refreshErr != nil || r.oplog.Next() == known {
		return err // the log's own trouble is told elsewhere
	}
	return r.fetchOnce(ctx, id, hint, use) // it may have been moved since
}

// fetchOnce is fetch by what is known of the log.
func (r *Repository) fetchOnce(ctx context.Context, id chunk.ID, hint *chunk.Place, use func(*chunk.Place) error) error {
	var first error
	try := func(place *chunk.Place) (done bool, err error) {
		if err = use(place); err == nil || !isDamage(err) {
			return true, err
		}
		r.suspects.add(place.Pack.Name())
		first = cmp.Or(first, err)
		return false, nil
	}
	moved := hint != nil && r.moved.has(hint.Pack.Name())
	if hint != nil && !moved {
		if done, err := try(hint); done {
			return err
		}
		if errors.Is(first, blob.ErrNotFound) {
			r.learnMoved(ctx)
		}
	}
	live, err := r.runs.current(ctx)
	if err != nil {
		return err
	}
	places, err := places(ctx, live, id)
	if err != nil {
		return err
	}
	if moved {
		places = append(places, hint) // it may have come back with a copy of the storage
	}
	for _, place := range places {
		if hint != nil && !moved && place.Pack.Name() == hint.Pack.Name() && place.Offset == hint.Offset {
			continue
		}
		if done, err := try(place); done {
			return err
		}
	}
	if first == nil {
		return holdfast.Errorf(holdfast.KindCorrupt, "no pack holds %s any more", id)
	}
	return holdfast.Wrap(holdfast.KindCorrupt, first, "a part of the restore point is damaged").
		WithHint("see what is hit with: holdfast repo verify --repo %s; the next backup writes lost parts again", r.store.URL())
}

// opener returns what opens the frames of a pack.
func (r *Repository) opener(ctx context.Context, pack string) (*seal.Opener, error) {
	return r.openers.Get(ctx, pack, func() (*seal.Opener, error) {
		_, opener, err := seal.ReadHeader(ctx, r.store, pack, r.ring, r.codec)
		return opener, err
	})
}

// readFrame reads and opens a frame into target's memory, using stored's memory on the way. Both may be nil. What somebody put
// over the pack is seen through.
func (r *Repository) readFrame(ctx context.Context, place *chunk.Place, target, stored []byte) (plain, scratch []byte, err error) {
	pack, scratch := place.Pack.Name(), stored
	err = shadow.Twice(ctx, r.store, pack, func() (err error) {
		plain, scratch, err = r.openFrame(ctx, place, target, scratch)
		if isDamage(err) {
			r.openers.Drop(pack)
		}
		return err
	})
	return plain, scratch, err
}

func (r *Repository) openFrame(ctx context.Context, place *chunk.Place, target, stored []byte) (plain, scratch []byte, err error) {
	pack := place.Pack.Name()
	if place.Stored < seal.Overhead || place.Stored > layout.FrameBytesMax+seal.Overhead || place.Offset < seal.HeaderSize {
		return nil, stored, seal.Damaged(pack, holdfast.Errorf(holdfast.KindCorrupt, "a frame is said to have %d bytes at %d", place.Stored, place.Offset))
	}
	opener, err := r.opener(ctx, pack)
	if err != nil {
		return nil, stored, err
	}
	if cap(stored) < place.Stored {
		stored = make([]byte, place.Stored)
	}
	stored = stored[:place.Stored]
	if n, err := r.store.Read(ctx, pack, place.Offset, stored); err != nil || n < len(stored) {
		return nil, stored, seal.ShortRead(pack, place.Offset, err)
	}
	plain, err = opener.Open(target, stored, place.Offset, layout.FrameBytesMax)
	if err != nil {
		return nil, stored, seal.Damaged(pack, err)
	}
	return plain, stored, nil
}

// Load implements tree.Source.
func (r *Repository) Load(ctx context.Context, child tree.Child, level int) (*tree.Node, error) {
	return r.nodes.Get(ctx, child.ID, func() (node *tree.Node, err error) {
		err = r.fetch(ctx, child.ID, child.Place, func(place *chunk.Place) error {
			node, err = r.loadNode(ctx, child.ID, place, level)
			return err
		})
		return node, err
	})
}

func (r *Repository) loadNode(ctx context.Context, id chunk.ID, place *chunk.Place, level int) (*tree.Node, error) {
	plain, _, err := r.readFrame(ctx, place, nil, nil)
	if err != nil {
		return nil, err
	}
	node, err := tree.Decode(plain, level, r.params.FanOut, place.Pack)
	if err != nil {
		return nil, seal.Damaged(place.Pack.Name(), err)
	}
	if node.ID(r.hasher) != id {
		return nil, seal.Damaged(place.Pack.Name(), holdfast.Errorf(holdfast.KindCorrupt, "a tree node does not have the id it should have"))
	}
	return node, nil
}
