package oplog

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Problem is something that is wrong with the log.
type Problem struct {
	Object string
	Text   string
}

// Audited is a log as Audit found it.
type Audited struct {
	State       State
	Checkpoints []string // checkpoint objects that entries name, oldest first; those before the last two may have been collected
	Problems    []Problem
}

// Audit reads every entry from 0 to the head without trusting any checkpoint: entries that are missing, do not prove
// themselves, break the chain or the rules, or were not written with the key (ring may be nil), and checkpoints that differ
// from the fold, are problems. After an entry that cannot be read, a sound checkpoint tells what it said, so that the state
// is as complete as the log allows. An entry is known to be missing when a later one exists; newest, which may come from a
// listing, is the greatest number seen, and only makes the audit look further.
func Audit(ctx context.Context, store blob.Store, ring *keys.Ring, newest uint64) (Audited, error) {
	l := &Log{store: store, access: Access{Ring: ring}}
	head, err := l.findHead(ctx)
	if err != nil && (!holdfast.IsKind(err, holdfast.KindNotFound) || newest == 0) {
		return Audited{}, err
	}
	a := auditor{store: store, ring: ring, found: Audited{}}
	for n := range max(head, newest) + 1 {
		data, err := readEntry(ctx, store, n)
		if err != nil && !errors.Is(err, blob.ErrNotFound) && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			return Audited{}, err
		}
		if err := a.entry(ctx, n, data, err); err != nil {
			return Audited{}, err
		}
	}
	return a.found, nil
}

type auditor struct {
	store blob.Reader
	ring  *keys.Ring
	found Audited
}

func (a *auditor) problem(object, text string) {
	a.found.Problems = append(a.found.Problems, Problem{object, text})
}

// entry folds entry n, or notes what is wrong with it. It fails only when it could not check.
func (a *auditor) entry(ctx context.Context, n uint64, data []byte, readErr error) error {
	state := &a.found.State
	p, err := a.read(n, data, readErr)
	if holdfast.IsKind(err, holdfast.KindInvalid) {
		return err // a newer version
	}
	if err != nil {
		a.problem(layout.EntryName(n), err.Error())
		state.lose(n)
		return nil
	}
	if state.incomplete && n > 0 && state.Repository == (keys.RepositoryID{}) { // the genesis entry is lost
		state.Repository = p.Repository
	}
	if p.Kind == Checkpoint {
		if err := a.checkpoint(ctx, p); err != nil {
			return err
		}
	}
	if err := state.Allowed(p.Entry); err != nil {
		a.problem(layout.EntryName(n), "the log entry breaks the rules: "+err.Error())
		state.skip(n, p.hash)
		return nil
	}
	state.apply(p.Entry, p.hash)
	return nil
}

func (a *auditor) read(n uint64, data []byte, readErr error) (parsed, error) {
	if readErr != nil {
		return parsed{}, holdfast.Errorf(holdfast.KindCorrupt, "the log entry is missing or cannot be read")
	}
	p, err := parseWith(a.ring, data, n)
	if err != nil {
		return parsed{}, err
	}
	return p, a.found.State.follows(p)
}

// checkpoint compares a checkpoint with the log that it sums up, or, after a loss, takes its word.
func (a *auditor) checkpoint(ctx context.Context, p parsed) error {
	state := &a.found.State
	a.found.Checkpoints = append(a.found.Checkpoints, p.State)
	if !state.incomplete {
		want, err := state.Encode()
		if err != nil {
			return err
		}
		if layout.Name(layout.State, layout.Sum(want)) != p.State {
			a.problem(p.State, "the checkpoint differs from the log it sums up")
		}
		return nil
	}
	sound, err := readCheckpoint(ctx, a.store, p)
	switch {
	case err == nil:
		*state = sound
	case !errors.Is(err, blob.ErrNotFound) && !holdfast.IsKind(err, holdfast.KindCorrupt):
		return err
	}
	return nil
}
