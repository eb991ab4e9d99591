package oplog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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

// gapProbes is how many numbers after the first missing one are looked at, to tell the end of the log from a lost entry: a log
// that has lost up to so many entries in a row is still seen to go on.
const gapProbes = 8

// readersMax bounds the entries read at the same time.
const readersMax = 16

// appendTriesMax bounds how often an append may lose the race for the next number. Each loss means that another writer made progress.
const appendTriesMax = 1000

// Log reads and appends entries. Safe for concurrent use.
type Log struct {
	store  blob.Store
	clock  clock.Clock
	writer string

	mu      sync.Mutex // guards the fields below; held across Sync and Append
	state   State
	access  Access    // its Ring is nil until Unlock
	keyRing string    // the ring object that access.Ring holds
	keySets []KeySet  // seen before Unlock, oldest first
	unseen  []parsed  // entries read before Unlock, still to be authenticated
	damage  []Problem // entries that could not be read or do not prove themselves

	entriesUntil     time.Time // how long entries are locked at birth
	checkpointsUntil time.Time // and the states that they name

	unproven error // of an entry met before Unlock that says it is of a newer version
}

// Unproven returns the error of an entry that says it is of a newer version, until Unlock has found out whether that is true.
func (l *Log) Unproven() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unproven
}

// Access is what a log is read and written with.
type Access struct {
	Ring *keys.Ring // of the newest key change
	// Reopen returns the ring of that object name after a key change; Ring then adopts it. nil: key changes are not followed.
	Reopen func(ctx context.Context, keyRing string) (*keys.Ring, error)
	// Installation is whom the writer belongs to, "" for nobody. A repository that another installation owns is not written.
	Installation string
}

// KeySet is what a key change, or the birth, made current.
type KeySet struct {
	Slots   []string
	KeyRing string
}

// KeySets returns the key sets that were met before Unlock, newest first. Without a key nobody can tell whether an entry is
// ours, so one of them may be a stranger's.
func (l *Log) KeySets() []KeySet {
	l.mu.Lock()
	defer l.mu.Unlock()
	sets := slices.Clone(l.keySets)
	slices.Reverse(sets)
	return sets
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

// Unlock authenticates all entries read so far with the ring, and every later one as it is read. When one of them was not
// written with the key, the log is read anew and that entry is damage like any other: somebody who can write to the store
// but has no key can stop writers that way, and not readers. It may be called again with a ring of more generations.
func (l *Log) Unlock(ctx context.Context, a Access) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	strange := l.unproven != nil || l.access.Ring != nil || slices.ContainsFunc(l.unseen, func(p parsed) bool { return p.authenticate(a.Ring) != nil })
	l.access, l.unseen, l.keySets, l.unproven = a, nil, nil, nil
	if strange {
		head := l.state.Next - 1
		l.state, l.damage = State{}, nil
		if err := l.load(ctx, head); err != nil {
			return err
		}
	}
	l.keyRing = l.state.KeyRing
	return nil
}

// State returns the state read last. Later entries do not change it; callers do not change its slices in place either.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.snapshot()
}

// Next returns the number of the entry that would come next in the state read last.
func (l *Log) Next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Next
}

// Sync reads entries that were appended since and returns the new state.
func (l *Log) Sync(ctx context.Context) (State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.sync(ctx); err != nil {
		return State{}, err
	}
	return l.state.snapshot(), nil
}

// Entry reads the entry of that number, which must be one that the log's state has taken in. One that does not prove itself is
// KindCorrupt.
func (l *Log) Entry(ctx context.Context, n uint64) (Entry, error) {
	data, err := readEntry(ctx, l.store, n)
	if err != nil {
		return Entry{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.parse(data, n)
	return p.Entry, err
}

// Append adds one entry. build makes it from the state that holds when it is appended; it may be called again, each time
// with a newer state, and its error ends the append. When Append returns nil the entry is durable. After an error the
// entry is in the log or not; a caller that must know calls Sync and looks.
//
// In a repository that another installation owns nothing is built and nothing appended: KindRefused.
func (l *Log) Append(ctx context.Context, build func(State) (Entry, error)) (Entry, error) {
	return l.append(ctx, func(s State) (Entry, error) {
		if s.Owner != "" && s.Owner != l.access.Installation {
			return Entry{}, s.ownedByAnother()
		}
		return build(s)
	})
}

// MayWrite reads the log and returns an error of KindRefused when another installation owns the repository. It is for work that
// changes the store before it appends anything; Append asks by itself.
func (l *Log) MayWrite(ctx context.Context) error {
	state, err := l.Sync(ctx)
	if err == nil && state.Owner != "" && state.Owner != l.access.Installation {
		err = state.ownedByAnother()
	}
	return err
}

// TakeOver is Append for the one kind of entry that a writer appends who is not the owner.
func (l *Log) TakeOver(ctx context.Context, build func(State) (Entry, error)) (Entry, error) {
	return l.append(ctx, func(s State) (Entry, error) {
		e, err := build(s)
		holdfast.Invariant(err != nil || e.Kind == Owner, "a take-over appends an owner entry")
		return e, err
	})
}

func (l *Log) append(ctx context.Context, build func(State) (Entry, error)) (Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	holdfast.Invariant(l.access.Ring != nil, "the log is appended to without a key")
	for range appendTriesMax {
		if err := l.sync(ctx); err != nil {
			return Entry{}, err
		}
		if len(l.damage) > 0 {
			return Entry{}, holdfast.Errorf(holdfast.KindCorrupt, "%s is damaged, so the repository cannot be written: %s", l.damage[0].Object, l.damage[0].Text).
				WithHint("restoring works; see what is damaged with: holdfast repo verify --repo %s", l.store.URL())
		}
		e, err := build(l.state.snapshot())
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
	e.Time, e.Writer, e.Generation, e.Checkpoint = l.clock.Now().UTC(), l.writer, l.access.Ring.Current(), l.state.Checkpoint
	if e.Kind == Begin && l.state.Owner != "" { // a session of the owner's
		e.Owner, e.Epoch = l.state.Owner, l.state.Epoch
	}
	if err := l.state.Allowed(*e); err != nil {
		return false, err
	}
	data, err := l.seal(e)
	if err != nil {
		return false, err
	}
	if len(data) > layout.EntryBytesMax { // nobody could read it
		return false, holdfast.Errorf(holdfast.KindInvalid, "the log entry (%s) would have %d bytes, more than the %d that it may have", e.Kind, len(data), layout.EntryBytesMax)
	}
	putErr := l.store.Put(ctx, layout.EntryName(e.N), data, l.lockFor(e.LockUntil, l.entriesUntil))
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

// seal returns the stored bytes of the entry, its private part sealed with the entry's generation.
func (l *Log) seal(e *Entry) ([]byte, error) {
	if e.Private != nil {
		sealed, err := l.access.Ring.SealEntryPart(e.Generation, e.Private, e.sealContext())
		if err != nil {
			return nil, err
		}
		e.Sealed = sealed
	}
	return encode(*e, l.access.Ring)
}

// BornLocked has what this log puts from now on locked from birth: entries until the one date, checkpoints until the other. It
// spares later points the requests to lock them; what a point promises is Entry.LockUntil. Earlier dates than before are
// no change.
func (l *Log) BornLocked(entries, checkpoints time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entriesUntil, l.checkpointsUntil = latest(l.entriesUntil, entries), latest(l.checkpointsUntil, checkpoints)
}

// lockFor returns how an object is born: with the lock that it must have, or the longer one that it may have as long as that
// date has not passed.
func (l *Log) lockFor(must, may time.Time) blob.PutOptions {
	if may.After(l.clock.Now()) {
		must = latest(must, may)
	}
	return blob.PutOptions{LockUntil: must}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
		if err := l.store.Put(ctx, name, data, l.lockFor(time.Time{}, l.checkpointsUntil)); err != nil && !errors.Is(err, blob.ErrExists) {
			return Entry{}, err
		}
		return Entry{Kind: Checkpoint, State: name}, nil
	})
	return err
}

// findHead returns the number of the newest entry by direct reads: steps that double, then halves, then a look at the numbers
// that follow, since a lost entry must not pass for the end.
func (l *Log) findHead(ctx context.Context) (uint64, error) {
	if ok, err := l.exists(ctx, 0); err != nil {
		return 0, err
	} else if !ok {
		return 0, holdfast.Errorf(holdfast.KindNotFound, "there is no repository at %s", l.store.URL()).
			WithHint("check the address, or make one with: holdfast repo init --repo %s", l.store.URL())
	}
	head := uint64(0)
	for {
		var err error
		if head, err = l.climb(ctx, head); err != nil {
			return 0, err
		}
		beyond, err := l.beyondGap(ctx, head)
		if err != nil || beyond == 0 {
			return head, err
		}
		head = beyond
	}
}

// climb returns the last entry before one that is missing, starting from one that exists.
func (l *Log) climb(ctx context.Context, present uint64) (uint64, error) {
	step := uint64(1)
	for {
		ok, err := l.exists(ctx, present+step)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		present, step = present+step, 2*step
	}
	for missing := present + step; present+1 < missing; {
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

// beyondGap returns the number of an entry shortly after the missing one that follows head, 0 when there is none.
func (l *Log) beyondGap(ctx context.Context, head uint64) (uint64, error) {
	var found [gapProbes]bool
	g, gctx := errgroup.WithContext(ctx)
	for i := range found {
		g.Go(func() (err error) {
			found[i], err = l.exists(gctx, head+2+uint64(i))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	for i, ok := range slices.Backward(found[:]) {
		if ok {
			return head + 2 + uint64(i), nil
		}
	}
	return 0, nil
}

func (l *Log) exists(ctx context.Context, n uint64) (bool, error) {
	_, err := l.store.Stat(ctx, layout.EntryName(n))
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	if holdfast.IsKind(err, holdfast.KindCorrupt) {
		return true, nil // something is there, and it is no entry
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
			l.state, l.unseen, l.keySets = state, []parsed{p}, []KeySet{{state.Slots, state.KeyRing}}
			l.state.apply(p.Entry, p.hash)
			return l.foldUpTo(ctx, head)
		}
		if !l.canGoOn(err) {
			return err
		}
		if p.N != checkpoint || p.Checkpoint >= checkpoint { // the entry itself cannot be read, or is a stranger's: only the beginning is left
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
			if p, err = l.parse(data, n); err == nil {
				if p.Kind == Checkpoint {
					return n, nil
				}
				return p.Checkpoint, nil
			}
		}
		if !l.canGoOn(err) {
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
	p, err := l.parse(data, n)
	if err != nil {
		return parsed{}, State{}, err
	}
	if p.Kind != Checkpoint {
		return parsed{}, State{}, holdfast.Errorf(holdfast.KindCorrupt, "log entry %d is not a checkpoint", n)
	}
	state, err := readCheckpoint(ctx, l.store, p)
	return p, state, err
}

// parse reads an entry and, where there is a key, authenticates it.
func (l *Log) parse(data []byte, n uint64) (parsed, error) { return parseWith(l.access.Ring, data, n) }

// canGoOn reports whether reading goes on after an entry that could not be used: it is damaged, missing, or says that it is of
// a newer version while there is no key to tell whether that is true.
func (l *Log) canGoOn(err error) bool {
	unproven := holdfast.IsKind(err, holdfast.KindInvalid) && l.access.Ring == nil
	return holdfast.IsKind(err, holdfast.KindCorrupt) || errors.Is(err, blob.ErrNotFound) || unproven
}

// readCheckpoint reads the state that a checkpoint entry names. One that does not prove itself is KindCorrupt.
func readCheckpoint(ctx context.Context, store blob.Reader, p parsed) (State, error) {
	object, err := blob.ReadAll(ctx, store, p.State, layout.StateBytesMax)
	if err != nil {
		return State{}, err
	}
	if layout.Name(layout.State, layout.Sum(object)) != p.State {
		return State{}, holdfast.Errorf(holdfast.KindCorrupt, "the checkpoint %s does not match its name", p.State)
	}
	state, err := DecodeState(object)
	if err == nil && (state.Next != p.N || state.Head != p.Previous || state.Repository != p.Repository) {
		err = holdfast.Errorf(holdfast.KindCorrupt, "the checkpoint %s belongs to another place of the log", p.State)
	}
	return state, err
}

// sync reads entries from state.Next on until one is missing and none follows it.
func (l *Log) sync(ctx context.Context) error {
	for {
		if err := l.followKeys(ctx); err != nil {
			return err
		}
		data, err := readEntry(ctx, l.store, l.state.Next)
		if errors.Is(err, blob.ErrNotFound) {
			lost, err := l.lostNext(ctx)
			if err != nil || !lost {
				return err
			}
			data = nil
		} else if holdfast.IsKind(err, holdfast.KindCorrupt) {
			data = nil // too large for an entry, say: whoever wrote that stops writers, not readers
		} else if err != nil {
			return err
		}
		if err := l.foldOrMark(data, l.state.Next); err != nil {
			return err
		}
	}
}

// followKeys reads the ring anew when a key change named another one: the entries that follow are written with it.
func (l *Log) followKeys(ctx context.Context) error {
	if l.access.Reopen == nil || l.keyRing == l.state.KeyRing {
		return nil
	}
	newer, err := l.access.Reopen(ctx, l.state.KeyRing)
	if err != nil {
		return err
	}
	if err := l.access.Ring.Adopt(newer); err != nil {
		return err
	}
	l.keyRing = l.state.KeyRing
	return nil
}

// lostNext reports whether the next entry, which was just found missing, has one after it and is missing still: it was lost
// rather than never written. To append in its place would give the log two histories.
func (l *Log) lostNext(ctx context.Context) (bool, error) {
	follows, err := l.exists(ctx, l.state.Next+1)
	if err != nil || !follows {
		return false, err
	}
	written, err := l.exists(ctx, l.state.Next)
	return !written, err
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
				if errors.Is(err, blob.ErrNotFound) || holdfast.IsKind(err, holdfast.KindCorrupt) {
					batch[i] = nil // an empty entry is damaged
					return nil
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
	if err == nil || !l.canGoOn(err) || n == 0 {
		return err
	}
	if holdfast.IsKind(err, holdfast.KindInvalid) {
		l.unproven = err
	}
	l.damage = append(l.damage, Problem{layout.EntryName(n), err.Error()})
	l.state.lose(n)
	return nil
}

// fold checks one entry and applies it. An entry that the rules do not allow changes nothing (doc/format.md §6.4).
func (l *Log) fold(data []byte, n uint64) error {
	p, err := l.parse(data, n)
	if err != nil {
		return err
	}
	if err := l.state.follows(p); err != nil {
		return err
	}
	if l.access.Ring == nil {
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
	if l.access.Ring == nil && (p.Kind == Genesis || p.Kind == Keys) {
		l.keySets = append(l.keySets, KeySet{p.Slots, p.KeyRing})
	}
	return nil
}

// follows checks the chain: an entry names the hash of the one before, unless that one could not be read, and the repository.
func (s *State) follows(p parsed) error {
	chained := p.Previous == s.Head || s.Head == "" // "" comes after a damaged entry
	ours := p.Repository == s.Repository || s.Repository == keys.RepositoryID{}
	if p.N == 0 {
		chained = p.Kind == Genesis && p.Previous == layout.Hash{}.String()
	}
	if !chained || !ours {
		return holdfast.Errorf(holdfast.KindCorrupt, "log entry %d does not follow the one before", p.N)
	}
	return nil
}

// StateNamed returns the name of the state that checkpoint entry n names, "" for n = 0 and for an entry that cannot be read.
func StateNamed(ctx context.Context, store blob.Reader, n uint64) (string, error) {
	if n == 0 {
		return "", nil
	}
	data, err := readEntry(ctx, store, n)
	if errors.Is(err, blob.ErrNotFound) || holdfast.IsKind(err, holdfast.KindCorrupt) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	p, err := parse(data, n)
	if err != nil {
		return "", nil //nolint:nilerr // the log's own reading tells of a damaged entry
	}
	return p.State, nil
}

func readEntry(ctx context.Context, store blob.Reader, n uint64) ([]byte, error) {
	return blob.ReadAll(ctx, store, layout.EntryName(n), layout.EntryBytesMax)
}
