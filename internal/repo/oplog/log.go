package oplog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Checkpoint policy (doc/format.md §6.5): entries since the last one before a new one is worth writing.
const (
	checkpointEntriesMin  = 64
	checkpointPointsShare = 4
)

// readersMax bounds the entries read at the same time.
const readersMax = 16

// appendTriesMax bounds how often an append may lose the race for the next number. Each loss means that another writer made progress.
const appendTriesMax = 1000

// Log reads and appends entries. Safe for concurrent use.
type Log struct {
	store  blob.Store
	clock  clock.Clock
	writer string

	mu     sync.Mutex // guards the fields below; held across Sync and Append
	state  State
	ring   *keys.Ring // nil until Unlock
	unseen []parsed   // entries read before Unlock, still to be authenticated
	damage []Problem  // entries that could not be read or do not prove themselves
}

// Damage returns the entries met so far that are missing or do not prove themselves. What they said is unknown, so a log with
// damage is read but not written.
func (l *Log) Damage() []Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.damage)
}

// Create writes the genesis entry. An existing repository is KindConflict. After another error the repository may or may
// not exist; Create may be called again and then says which.
func Create(ctx context.Context, store blob.Store, clk clock.Clock, ring *keys.Ring, genesis Entry) error {
	genesis.Holdfast, genesis.Kind, genesis.N = entryVersion, Genesis, 0
	genesis.Previous, genesis.Generation = layout.Hash{}.String(), ring.Current()
	genesis.Time, genesis.Writer = clk.Now().UTC(), newWriter()
	data, err := encode(genesis, ring)
	if err != nil {
		return err
	}
	err = store.Put(ctx, layout.EntryName(0), data, blob.PutOptions{})
	if err == nil {
		return nil
	}
	present, readErr := readEntry(ctx, store, 0)
	switch {
	case readErr == nil && bytes.Equal(present, data):
		return nil
	case readErr == nil || errors.Is(err, blob.ErrExists):
		return holdfast.Errorf(holdfast.KindConflict, "there is a repository at %s already", store.URL()).
			WithHint("use it as it is, or choose an empty folder")
	}
	return err
}

// Open reads the log to its head, from the newest sound checkpoint. Without a key it checks checksums and the chain;
// Unlock then authenticates what was read. No repository there is KindNotFound.
func Open(ctx context.Context, store blob.Store, clk clock.Clock) (*Log, error) {
	l := &Log{store: store, clock: clk, writer: newWriter()}
	head, err := l.findHead(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.load(ctx, head); err != nil {
		return nil, err
	}
	return l, nil
}

func newWriter() string { return fmt.Sprintf("%x", keys.Random(16)) }

// Unlock authenticates all entries read so far with the ring, and every later one as it is read.
func (l *Log) Unlock(ring *keys.Ring) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.unseen {
		if err := p.authenticate(ring); err != nil {
			return err
		}
	}
	l.ring, l.unseen = ring, nil
	return nil
}

// State returns a copy of the state read last.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.clone()
}

// Sync reads entries that were appended since and returns the new state.
func (l *Log) Sync(ctx context.Context) (State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.sync(ctx); err != nil {
		return State{}, err
	}
	return l.state.clone(), nil
}

// Append adds one entry. build makes it from the state that holds when it is appended; it may be called again, each time
// with a newer state, and its error ends the append. When Append returns nil the entry is durable. After an error the
// entry is in the log or not; a caller that must know calls Sync and looks.
func (l *Log) Append(ctx context.Context, build func(State) (Entry, error)) (Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	holdfast.Invariant(l.ring != nil, "the log is appended to without a key")
	for range appendTriesMax {
		if err := l.sync(ctx); err != nil {
			return Entry{}, err
		}
		if len(l.damage) > 0 {
			return Entry{}, holdfast.Errorf(holdfast.KindCorrupt, "%s is damaged, so the repository cannot be written", l.damage[0].Object).
				WithHint("restoring works; see what is damaged with: holdfast repo verify --repo %s", l.store.URL())
		}
		e, err := build(l.state.clone())
		if err != nil {
			return Entry{}, err
		}
		done, err := l.tryAppend(ctx, &e)
		if err != nil || done {
			return e, err
		}
	}
	return Entry{}, holdfast.Errorf(holdfast.KindUnavailable, "the log of %s is too busy", l.store.URL()).WithHint("run again")
}

// tryAppend puts the entry under the next number. It reports false when another writer was faster.
func (l *Log) tryAppend(ctx context.Context, e *Entry) (bool, error) {
	e.Holdfast, e.N, e.Repository, e.Previous = entryVersion, l.state.Next, l.state.Repository, l.state.Head
	e.Time, e.Writer, e.Generation, e.Checkpoint = l.clock.Now().UTC(), l.writer, l.ring.Current(), l.state.Checkpoint
	if err := l.state.Allowed(*e); err != nil {
		return false, err
	}
	data, err := encode(*e, l.ring)
	if err != nil {
		return false, err
	}
	putErr := l.store.Put(ctx, layout.EntryName(e.N), data, blob.PutOptions{})
	if putErr != nil {
		// The outcome is unknown, or somebody has that number: what stands there decides.
		present, err := readEntry(ctx, l.store, e.N)
		if errors.Is(err, blob.ErrNotFound) {
			return false, putErr
		}
		if err != nil {
			return false, errors.Join(putErr, err)
		}
		if !bytes.Equal(present, data) {
			return false, nil
		}
	}
	l.state.apply(*e, layout.Sum(data).String())
	return true, nil
}

// Checkpoint appends a checkpoint if one is due. It is an economy for those who open the log later: callers may go on when
// it fails.
func (l *Log) Checkpoint(ctx context.Context) error {
	s := l.State()
	since := s.Next - s.Checkpoint
	if since < checkpointEntriesMin || since < uint64(len(s.Points)/checkpointPointsShare) {
		return nil
	}
	_, err := l.Append(ctx, func(s State) (Entry, error) {
		data, err := s.Encode()
		if err != nil {
			return Entry{}, err
		}
		name := layout.Name(layout.State, layout.Sum(data))
		if err := l.store.Put(ctx, name, data, blob.PutOptions{}); err != nil && !errors.Is(err, blob.ErrExists) {
			return Entry{}, err
		}
		return Entry{Kind: Checkpoint, State: name}, nil
	})
	return err
}

// findHead returns the number of the newest entry by direct reads: doubling, then halving.
func (l *Log) findHead(ctx context.Context) (uint64, error) {
	if ok, err := l.exists(ctx, 0); err != nil {
		return 0, err
	} else if !ok {
		return 0, holdfast.Errorf(holdfast.KindNotFound, "there is no repository at %s", l.store.URL()).
			WithHint("check the address, or make one with: holdfast repo init --repo %s", l.store.URL())
	}
	present, missing := uint64(0), uint64(1)
	for {
		ok, err := l.exists(ctx, missing)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		present, missing = missing, missing*2
	}
	for present+1 < missing {
		middle := present + (missing-present)/2
		ok, err := l.exists(ctx, middle)
		if err != nil {
			return 0, err
		}
		if ok {
			present = middle
		} else {
			missing = middle
		}
	}
	return present, nil
}

func (l *Log) exists(ctx context.Context, n uint64) (bool, error) {
	_, err := l.store.Stat(ctx, layout.EntryName(n))
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// load folds the log up to head, starting from the newest checkpoint that proves itself.
func (l *Log) load(ctx context.Context, head uint64) error {
	checkpoint, err := l.newestCheckpoint(ctx, head)
	if err != nil {
		return err
	}
	for checkpoint > 0 {
		p, state, err := l.loadCheckpoint(ctx, checkpoint)
		if err == nil {
			l.state, l.unseen = state, []parsed{p}
			l.state.apply(p.Entry, p.hash)
			return l.foldUpTo(ctx, head)
		}
		if !holdfast.IsKind(err, holdfast.KindCorrupt) && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
		if p.N != checkpoint { // the entry itself cannot be read: only the beginning is left
			break
		}
		checkpoint = p.Checkpoint
	}
	return l.foldUpTo(ctx, head)
}

// newestCheckpoint returns the number of the checkpoint that the newest readable entry points to, 0 for none.
func (l *Log) newestCheckpoint(ctx context.Context, head uint64) (uint64, error) {
	for n := head; ; n-- {
		data, err := readEntry(ctx, l.store, n)
		if err == nil {
			var p parsed
			if p, err = parse(data, n); err == nil {
				if p.Kind == Checkpoint {
					return n, nil
				}
				return p.Checkpoint, nil
			}
		}
		if !holdfast.IsKind(err, holdfast.KindCorrupt) && !errors.Is(err, blob.ErrNotFound) {
			return 0, err
		}
		if n == 0 {
			return 0, err
		}
	}
}

func (l *Log) loadCheckpoint(ctx context.Context, n uint64) (parsed, State, error) {
	data, err := readEntry(ctx, l.store, n)
	if err != nil {
		return parsed{}, State{}, err
	}
	p, err := parse(data, n)
	if err != nil {
		return parsed{}, State{}, err
	}
	if p.Kind != Checkpoint {
		return parsed{}, State{}, holdfast.Errorf(holdfast.KindCorrupt, "log entry %d is not a checkpoint", n)
	}
	object, err := blob.ReadAll(ctx, l.store, p.State, layout.StateBytesMax)
	if err != nil {
		return p, State{}, err
	}
	if layout.Name(layout.State, layout.Sum(object)) != p.State {
		return p, State{}, holdfast.Errorf(holdfast.KindCorrupt, "the checkpoint %s does not match its name", p.State)
	}
	state, err := DecodeState(object)
	if err == nil && (state.Next != n || state.Head != p.Previous) {
		err = holdfast.Errorf(holdfast.KindCorrupt, "the checkpoint %s belongs to another place of the log", p.State)
	}
	return p, state, err
}

// sync reads entries from state.Next on until one is missing.
func (l *Log) sync(ctx context.Context) error {
	for {
		data, err := readEntry(ctx, l.store, l.state.Next)
		if errors.Is(err, blob.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.foldOrMark(data, l.state.Next); err != nil {
			return err
		}
	}
}

// foldUpTo reads the entries from state.Next to head, several at a time, and folds them in order.
func (l *Log) foldUpTo(ctx context.Context, head uint64) error {
	for l.state.Next <= head {
		first := l.state.Next
		batch := make([][]byte, min(head-first+1, 4*readersMax))
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(readersMax)
		for i := range batch {
			g.Go(func() (err error) {
				batch[i], err = readEntry(gctx, l.store, first+uint64(i))
				if errors.Is(err, blob.ErrNotFound) {
					return nil // an empty entry is damaged
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i, data := range batch {
			if err := l.foldOrMark(data, first+uint64(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// foldOrMark folds an entry, or notes it as damaged and goes on: what later entries say can still be read.
func (l *Log) foldOrMark(data []byte, n uint64) error {
	err := l.fold(data, n)
	if err == nil || !holdfast.IsKind(err, holdfast.KindCorrupt) || n == 0 {
		return err
	}
	l.damage = append(l.damage, Problem{layout.EntryName(n), err.Error()})
	l.state.skip(n, "")
	return nil
}

// fold checks one entry and applies it. An entry that the rules do not allow changes nothing (doc/format.md §6.4).
func (l *Log) fold(data []byte, n uint64) error {
	p, err := parse(data, n)
	if err != nil {
		return err
	}
	follows := p.Previous == l.state.Head || l.state.Head == "" // "" comes after a damaged entry
	if n > 0 && (!follows || p.Repository != l.state.Repository) {
		return holdfast.Errorf(holdfast.KindCorrupt, "log entry %d does not follow entry %d", n, n-1)
	}
	if l.ring != nil {
		if err := p.authenticate(l.ring); err != nil {
			return err
		}
	} else {
		l.unseen = append(l.unseen, p)
	}
	if err := l.state.Allowed(p.Entry); err != nil {
		if holdfast.IsKind(err, holdfast.KindInvalid) {
			return err
		}
		l.state.skip(n, p.hash)
		return nil
	}
	l.state.apply(p.Entry, p.hash)
	return nil
}

func readEntry(ctx context.Context, store blob.Reader, n uint64) ([]byte, error) {
	return blob.ReadAll(ctx, store, layout.EntryName(n), layout.EntryBytesMax)
}

// Problem is something that is wrong with the log.
type Problem struct {
	Object string
	Text   string
}

// Audit reads every entry from 0 to the head without trusting any checkpoint and returns what is wrong: entries that do not
// prove themselves, break the chain or the rules, were not written with the key (ring may be nil), and checkpoints that
// differ from the fold. checkpoints are the names of the checkpoint objects that entries name.
func Audit(ctx context.Context, store blob.Store, ring *keys.Ring) (state State, checkpoints map[string]bool, problems []Problem, err error) {
	l := &Log{store: store}
	checkpoints = map[string]bool{}
	head, err := l.findHead(ctx)
	if err != nil {
		return State{}, nil, nil, err
	}
	broken := false // after an unreadable entry the chain cannot be checked for the next one
	for n := uint64(0); n <= head; n++ {
		data, err := readEntry(ctx, store, n)
		if err != nil && !errors.Is(err, blob.ErrNotFound) && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			return State{}, nil, nil, err
		}
		p, text := auditEntry(&l.state, data, err, n, ring, broken)
		if text != "" {
			problems = append(problems, Problem{layout.EntryName(n), text})
		}
		broken = p == nil
		if broken {
			l.state.Next = n + 1
			continue
		}
		if p.Kind == Checkpoint {
			checkpoints[p.State] = true
			if want, err := l.state.Encode(); err == nil && len(problems) == 0 && layout.Name(layout.State, layout.Sum(want)) != p.State {
				problems = append(problems, Problem{p.State, "the checkpoint differs from the log it sums up"})
			}
		}
		if l.state.Allowed(p.Entry) == nil {
			l.state.apply(p.Entry, p.hash)
		} else {
			l.state.skip(n, p.hash)
		}
	}
	return l.state, checkpoints, problems, nil
}

// auditEntry checks one entry against the state before it. It returns nil for an entry that cannot be read.
func auditEntry(state *State, data []byte, readErr error, n uint64, ring *keys.Ring, broken bool) (*parsed, string) {
	if readErr != nil {
		return nil, "the log entry is missing or cannot be read"
	}
	p, err := parse(data, n)
	if err != nil {
		return nil, err.Error()
	}
	if n > 0 && !broken && (p.Previous != state.Head || p.Repository != state.Repository) {
		return &p, "the log entry does not follow the one before"
	}
	if ring != nil {
		if err := p.authenticate(ring); err != nil {
			return &p, err.Error()
		}
	}
	if err := state.Allowed(p.Entry); err != nil && !broken {
		return &p, "the log entry breaks the rules: " + strings.TrimSpace(err.Error())
	}
	return &p, ""
}
