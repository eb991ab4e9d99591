// Package wrap decorates object stores: retry, limits, tracing, counting, faults. A decorator adds one concern and nothing
// else; Standard fixes the order in which the product puts them together.
//
// A decorated store can do what the store below can: it is a blob.Locker or blob.Versioned exactly when that one is. The
// right to remove is decorated separately, because only the collector holds it.
package wrap

import (
	"context"
	"iter"
	"time"

	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Op names a method of the port.
type Op string

// The operations.
const (
	OpPut         Op = "put"
	OpRead        Op = "read"
	OpStat        Op = "stat"
	OpList        Op = "list"
	OpRemove      Op = "remove"
	OpNow         Op = "now"
	OpExtend      Op = "extend" // of the current version or of another
	OpVersions    Op = "versions"
	OpReadVersion Op = "read-version"
	// OpListVersions is a list of versions of many objects.
	OpListVersions Op = "list-versions"
)

// Call is one call of a store.
type Call struct {
	Op    Op
	Name  string // the object, or the prefix of a list
	Bytes int    // of a put, or of the buffer of a read
}

// decorator is one concern.
type decorator interface {
	// around runs do, which makes the call on the store below. It may run it again, or not at all.
	around(ctx context.Context, call Call, do func(ctx context.Context) error) error
	// aroundList is around for the calls that yield. list may be ranged over again; it starts anew each time.
	aroundList(ctx context.Context, call Call, list func(yield func(item any, err error) bool), yield func(item any, err error) bool)
}

// Options of Standard.
type Options struct {
	Clock       clock.Clock // nil means the system's
	Concurrency int         // calls at a time; 0 means 16
	// Attempts bounds the tries of a call; 0 means 5. Stores whose client retries by itself, such as azblob's, take 1.
	Attempts int
	Observe  func(Event) // called after every try, on the caller's goroutine; may be nil
}

// Defaults of Options.
const (
	defaultConcurrency = 16
	defaultAttempts    = 5
)

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Concurrency == 0 {
		o.Concurrency = defaultConcurrency
	}
	if o.Attempts == 0 {
		o.Attempts = defaultAttempts
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	return o
}

// Standard is how the product decorates a store: retry(limit(trace(store))). A retry that sleeps holds no slot, and every
// try is traced.
func Standard(store blob.Store, opts Options) blob.Store {
	opts = opts.withDefaults()
	return Retry(Limit(Trace(store, opts.Clock, opts.Observe), opts.Concurrency), opts.Clock, opts.Attempts)
}

// decorate returns a store whose calls go through d, with the abilities of the store below.
func decorate(store blob.Store, d decorator) blob.Store {
	all := base{store, d}
	locks, isLocker := store.(blob.Locker)
	versions, isVersioned := store.(blob.Versioned)
	switch {
	case isLocker && isVersioned:
		return struct {
			base
			locker
			versioned
		}{all, locker{locks, d}, versioned{versions, d}}
	case isLocker:
		return struct {
			base
			locker
		}{all, locker{locks, d}}
	case isVersioned:
		return struct {
			base
			versioned
		}{all, versioned{versions, d}}
	}
	return all
}

type base struct {
	store     blob.Store
	decorator decorator
}

func (b base) Put(ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
	call := Call{OpPut, name, len(data)}
	tries := 0
	return b.decorator.around(ctx, call, func(ctx context.Context) error {
		tries++
		err := b.store.Put(ctx, name, data, opts)
		if tries > 1 {
			return b.settle(ctx, name, data, err)
		}
		return err
	})
}

func (b base) Read(ctx context.Context, name string, offset int64, p []byte) (n int, err error) {
	err = b.decorator.around(ctx, Call{OpRead, name, len(p)}, func(ctx context.Context) (err error) {
		n, err = b.store.Read(ctx, name, offset, p)
		return err
	})
	return n, err
}

func (b base) Stat(ctx context.Context, name string) (info blob.Info, err error) {
	err = b.decorator.around(ctx, Call{Op: OpStat, Name: name}, func(ctx context.Context) (err error) {
		info, err = b.store.Stat(ctx, name)
		return err
	})
	return info, err
}

func (b base) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return sequence(ctx, b.decorator, Call{Op: OpList, Name: prefix}, func() iter.Seq2[blob.Info, error] { return b.store.List(ctx, prefix) })
}

func (b base) URL() string { return b.store.URL() }

type locker struct {
	locks     blob.Locker
	decorator decorator
}

func (l locker) Now(ctx context.Context) (now time.Time, err error) {
	err = l.decorator.around(ctx, Call{Op: OpNow}, func(ctx context.Context) (err error) {
		now, err = l.locks.Now(ctx)
		return err
	})
	return now, err
}

func (l locker) ExtendVersion(ctx context.Context, name, version string, until time.Time) error {
	return l.decorator.around(ctx, Call{Op: OpExtend, Name: name}, func(ctx context.Context) error {
		return l.locks.ExtendVersion(ctx, name, version, until)
	})
}

func (l locker) Extend(ctx context.Context, name string, until time.Time) error {
	return l.decorator.around(ctx, Call{Op: OpExtend, Name: name}, func(ctx context.Context) error {
		return l.locks.Extend(ctx, name, until)
	})
}

type versioned struct {
	versions  blob.Versioned
	decorator decorator
}

func (v versioned) Versions(ctx context.Context, name string) iter.Seq2[blob.Version, error] {
	return sequence(ctx, v.decorator, Call{Op: OpVersions, Name: name}, func() iter.Seq2[blob.Version, error] { return v.versions.Versions(ctx, name) })
}

func (v versioned) ListVersions(ctx context.Context, prefix string) iter.Seq2[blob.Version, error] {
	call := Call{Op: OpListVersions, Name: prefix}
	return sequence(ctx, v.decorator, call, func() iter.Seq2[blob.Version, error] { return v.versions.ListVersions(ctx, prefix) })
}

func (v versioned) ReadVersion(ctx context.Context, name, version string, offset int64, p []byte) (n int, err error) {
	err = v.decorator.around(ctx, Call{OpReadVersion, name, len(p)}, func(ctx context.Context) (err error) {
		n, err = v.versions.ReadVersion(ctx, name, version, offset, p)
		return err
	})
	return n, err
}

// decorateRemover returns the right to remove with its calls going through d.
func decorateRemover(r blob.Remover, d decorator) blob.Remover { return remover{r, d} }

type remover struct {
	remover   blob.Remover
	decorator decorator
}

func (r remover) Remove(ctx context.Context, name string) error {
	return r.decorator.around(ctx, Call{Op: OpRemove, Name: name}, func(ctx context.Context) error {
		return r.remover.Remove(ctx, name)
	})
}

// sequence leads a sequence of any type through a decorator.
func sequence[T any](ctx context.Context, d decorator, call Call, start func() iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		below := func(yield func(item any, err error) bool) {
			for item, err := range start() {
				if !yield(item, err) {
					return
				}
			}
		}
		d.aroundList(ctx, call, below, func(item any, err error) bool {
			typed, _ := item.(T) // nil, which a decorator yields with an error, is the zero value
			return yield(typed, err)
		})
	}
}
