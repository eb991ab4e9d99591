package wrap

import (
	"context"
	"sync"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Mode is how a call is spoilt.
type Mode string

// The modes.
const (
	Healthy         Mode = ""                  // count only
	Fail            Mode = "fail"              // the call fails without effect
	FailAfterEffect Mode = "fail-after-effect" // the call takes effect, and fails
	Die             Mode = "die"               // the call and all later ones fail without effect, as if the process had ended before it
	DieAfterEffect  Mode = "die-after-effect"  // the call takes effect; it and all later ones fail
)

// Faults spoils one call of a run and counts them all, over a store and its remover together. For loops that fail at every
// step: count a good run, then run again for every k. Safe for concurrent use.
type Faults struct {
	mode Mode
	at   int
	kind holdfast.Kind

	mu    sync.Mutex
	calls int
	fired bool
}

// NewFaults spoils call number at, counted from 1, in the given mode. The error is unavailable; use WithKind for another.
func NewFaults(mode Mode, at int) *Faults {
	return &Faults{mode: mode, at: at, kind: holdfast.KindUnavailable}
}

// WithKind sets the kind of the error and returns f. Call it before the first use.
func (f *Faults) WithKind(kind holdfast.Kind) *Faults {
	f.kind = kind
	return f
}

// Calls returns how many calls were made.
func (f *Faults) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Fired reports whether the fault was met: a test whose fault never fired proves nothing.
func (f *Faults) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// Fault leads the store's calls through f. A list is one call, spoilt before its first item; after effect means after its
// last one.
func Fault(store blob.Store, f *Faults) blob.Store { return decorate(store, f) }

// FaultRemover is Fault for the right to remove.
func FaultRemover(r blob.Remover, f *Faults) blob.Remover { return decorateRemover(r, f) }

func (f *Faults) around(ctx context.Context, call Call, do func(ctx context.Context) error) error {
	before, after := f.next(call)
	if before != nil {
		return before
	}
	err := do(ctx)
	if after != nil {
		return after
	}
	return err
}

func (f *Faults) aroundList(_ context.Context, call Call, list func(func(any, error) bool), yield func(any, error) bool) {
	before, after := f.next(call)
	if before != nil {
		yield(nil, before)
		return
	}
	for item, err := range list {
		if !yield(item, err) {
			return
		}
	}
	if after != nil {
		yield(nil, after)
	}
}

// next counts a call and returns the errors that it is to meet before and after its effect.
func (f *Faults) next(call Call) (before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	hit := f.calls == f.at && f.mode != Healthy
	dead := f.calls > f.at && (f.mode == Die || f.mode == DieAfterEffect) && f.at > 0
	f.fired = f.fired || hit
	if !hit && !dead {
		return nil, nil
	}
	err := holdfast.Errorf(f.kind, "injected fault (%s) at call %d: %s %s", f.mode, f.calls, call.Op, call.Name)
	if hit && (f.mode == FailAfterEffect || f.mode == DieAfterEffect) {
		return nil, err
	}
	return err, nil
}
