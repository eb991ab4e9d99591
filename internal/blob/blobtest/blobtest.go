// Package blobtest is the conformance suite of object stores: what a store must do before a repository may rest on it.
//
// Run needs no *testing.T, so that `holdfast storage check` can run it against a user's store; Test is the adapter for
// tests of our own stores. Everything is created below Options.Prefix, which must be unused, and removed again at the end
// when a Remover is given. Run never touches anything else. Checks that lock wait until the lock has run out; only a run
// that is cancelled meanwhile leaves a locked object, for at most one and a half times Options.LockFor.
package blobtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Defaults of Options.
const (
	defaultListCount  = 5001     // one more than the largest page of Azure
	defaultLargeBytes = 64 << 20 // the largest pack
	defaultLockFor    = 20 * time.Second
	cleanUpTime       = 5 * time.Minute // for removing what is left after a cancelled run
	parallelPuts      = 16
)

// Options say what to check and how.
type Options struct {
	Remover   blob.Remover   // nil: removal is not checked, and what the run creates stays
	Locker    blob.Locker    // nil: locks are not checked, apart from being refused
	Versioned blob.Versioned // nil: versions are not checked
	// Overwrite does what somebody else would do: it replaces an object without asking. Versions are checked with it;
	// nil: they are not.
	Overwrite func(ctx context.Context, name string, data []byte) error

	Prefix     string        // folder for the run, such as "storage-check-20260102"; required
	ListCount  int           // objects of the paging check; 0 means 5,001
	LargeBytes int           // size of the largest object; 0 means 64 MiB
	LockFor    time.Duration // how long locks last; 0 means 20 s

	Clock clock.Clock                                      // the store's time; nil means the system's
	Wait  func(ctx context.Context, d time.Duration) error // waits for d by the store's time; nil means Clock.Sleep
	Done  func(Check)                                      // called after every check, on Run's goroutine; may be nil
}

// Outcome is how a check ended.
type Outcome string

// The outcomes. A check is skipped when the options or the store give it nothing to work with; Detail says what.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Check is one rule of the port and how the store kept it.
type Check struct {
	Name    string // stable, for machines
	Rule    string // what was proven, for people
	Outcome Outcome
	Detail  string // what went wrong, or why it was skipped
	Took    time.Duration
}

// Run checks the store and returns one Check per rule, in a fixed order. It returns an error only when the options are
// unusable or ctx ends; a store that breaks a rule is reported by its Checks. The last check is the cleaning up.
func Run(ctx context.Context, store blob.Store, opts Options) ([]Check, error) {
	r, err := newRun(store, opts)
	if err != nil {
		return nil, err
	}
	var checks []Check
	for _, rule := range rules() {
		checks = append(checks, r.check(ctx, rule))
		if ctx.Err() != nil {
			break
		}
	}
	cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	checks = append(checks, r.check(cleanCtx, rule{"clean-up", "everything the check created can be removed again", (*run).cleanUp}))
	return checks, ctx.Err()
}

// Broken returns the failed checks of a run as one error, nil when there are none.
func Broken(checks []Check) error {
	var broken []string
	for _, c := range checks {
		if c.Outcome == Failed {
			broken = append(broken, c.Name+": "+c.Detail)
		}
	}
	if len(broken) == 0 {
		return nil
	}
	return holdfast.Errorf(holdfast.KindInvalid, "the store breaks %d rule(s): %s", len(broken), strings.Join(broken, "; ")).
		WithHint("do not keep a repository on this store")
}

type rule struct {
	name  string
	text  string
	prove func(*run, context.Context) error
}

// run is the state of one Run.
type run struct {
	Options
	store   blob.Store
	created []string // owned by Run's goroutine: names to remove at the end
}

// skip is the error of a check that has nothing to work with.
type skip struct{ reason string }

func (s skip) Error() string { return s.reason }

func newRun(store blob.Store, opts Options) (*run, error) {
	opts.Prefix = strings.TrimSuffix(opts.Prefix, "/")
	if err := blob.CheckName(opts.Prefix); err != nil {
		return nil, err
	}
	if opts.ListCount == 0 {
		opts.ListCount = defaultListCount
	}
	if opts.LargeBytes == 0 {
		opts.LargeBytes = defaultLargeBytes
	}
	if opts.LockFor == 0 {
		opts.LockFor = defaultLockFor
	}
	if opts.Clock == nil {
		opts.Clock = clock.System{}
	}
	if opts.Wait == nil {
		opts.Wait = opts.Clock.Sleep
	}
	return &run{Options: opts, store: store}, nil
}

func (r *run) check(ctx context.Context, rule rule) Check {
	start := r.Clock.Now()
	err := rule.prove(r, ctx)
	c := Check{Name: rule.name, Rule: rule.text, Outcome: Passed, Took: r.Clock.Now().Sub(start)}
	var skipped skip
	switch {
	case errors.As(err, &skipped):
		c.Outcome, c.Detail = Skipped, skipped.reason
	case err != nil:
		c.Outcome, c.Detail = Failed, err.Error()
	}
	if r.Done != nil {
		r.Done(c)
	}
	return c
}

// name returns a name below the run's folder and remembers it for cleaning up.
func (r *run) name(format string, args ...any) string {
	name := r.Prefix + "/" + fmt.Sprintf(format, args...)
	r.created = append(r.created, name)
	return name
}

// cleanUp removes everything the run created, and proves that removing twice is no error.
func (r *run) cleanUp(ctx context.Context) error {
	if r.Remover == nil {
		return skip{fmt.Sprintf("no right to remove: %d objects stay below %s", len(r.created), r.Prefix)}
	}
	return parallel(ctx, len(r.created), func(ctx context.Context, i int) error {
		return r.Remover.Remove(ctx, r.created[i])
	})
}
