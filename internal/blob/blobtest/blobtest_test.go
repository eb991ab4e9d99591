package blobtest_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/blobtest"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// broken is the memory store with single rules broken.
type broken struct {
	*mem.Store
	clock *clock.Manual

	put      func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error
	read     func(b *broken, ctx context.Context, name string, offset int64, p []byte) (int, error)
	stat     func(b *broken, ctx context.Context, name string) (blob.Info, error)
	list     func(b *broken, ctx context.Context, prefix string) iter.Seq2[blob.Info, error]
	remove   func(b *broken, ctx context.Context, name string) error
	extend   func(b *broken, ctx context.Context, name string, until time.Time) error
	versions func(b *broken, ctx context.Context, name string) iter.Seq2[blob.Version, error]

	mu   sync.Mutex
	kept map[string][]byte // guarded by mu: for stores that keep the caller's buffer
}

func (b *broken) Put(ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
	if b.put != nil {
		return b.put(b, ctx, name, data, opts)
	}
	return b.Store.Put(ctx, name, data, opts)
}

func (b *broken) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	if b.read != nil {
		return b.read(b, ctx, name, offset, p)
	}
	return b.Store.Read(ctx, name, offset, p)
}

func (b *broken) Stat(ctx context.Context, name string) (blob.Info, error) {
	if b.stat != nil {
		return b.stat(b, ctx, name)
	}
	return b.Store.Stat(ctx, name)
}

func (b *broken) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	if b.list != nil {
		return b.list(b, ctx, prefix)
	}
	return b.Store.List(ctx, prefix)
}

func (b *broken) Remove(ctx context.Context, name string) error {
	if b.remove != nil {
		return b.remove(b, ctx, name)
	}
	return b.Store.Remover().Remove(ctx, name)
}

func (b *broken) Extend(ctx context.Context, name string, until time.Time) error {
	if b.extend != nil {
		return b.extend(b, ctx, name, until)
	}
	return b.Store.Extend(ctx, name, until)
}

func (b *broken) Versions(ctx context.Context, name string) iter.Seq2[blob.Version, error] {
	if b.versions != nil {
		return b.versions(b, ctx, name)
	}
	return b.Store.Versions(ctx, name)
}

func check(t *testing.T, b *broken) []blobtest.Check {
	t.Helper()
	b.clock = clock.NewManual(time.Unix(1_800_000_000, 0))
	b.Store, b.kept = mem.New(b.clock), map[string][]byte{}
	checks, err := blobtest.Run(t.Context(), b, blobtest.Options{
		Remover: b, Locker: b, Versioned: b, Prefix: "check", ListCount: 50, LargeBytes: 1 << 20, Clock: b.clock,
		Wait: func(_ context.Context, d time.Duration) error { b.clock.Advance(d); return nil },
		Overwrite: func(_ context.Context, name string, data []byte) error {
			b.Adversary().Overwrite(name, data)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

func failed(checks []blobtest.Check) []string {
	var names []string
	for _, c := range checks {
		if c.Outcome == blobtest.Failed {
			names = append(names, c.Name)
		}
	}
	return names
}

// Every rule of the suite is found broken by a store that breaks it: no check is unable to fail.
func TestRun_FindsBrokenStores(t *testing.T) {
	found := map[string]bool{}
	for name, c := range brokenStores() {
		t.Run(name, func(t *testing.T) {
			names := failed(check(t, c.store))
			if !slices.Contains(names, c.rule) {
				t.Errorf("rule %q is not found broken; failed: %v", c.rule, names)
			}
			found[c.rule] = true
		})
	}
	for _, c := range check(t, &broken{}) {
		if !found[c.Name] && c.Name != "lock-refused" { // that one is for stores without locks: see below
			t.Errorf("no store breaks rule %q", c.Name)
		}
	}
}

type brokenCase struct {
	rule  string
	store *broken
}

func brokenStores() map[string]brokenCase {
	overwrite := func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
		_ = b.Store.Remover().Remove(ctx, name)
		return b.Store.Put(ctx, name, data, opts)
	}
	return map[string]brokenCase{
		"stat is late": {"read-back", &broken{stat: func(*broken, context.Context, string) (blob.Info, error) { return blob.Info{}, blob.ErrNotFound }}},
		"missing reads as empty": {"missing", &broken{read: func(b *broken, ctx context.Context, name string, offset int64, p []byte) (int, error) {
			n, err := b.Store.Read(ctx, name, offset, p)
			if errors.Is(err, blob.ErrNotFound) {
				err = nil
			}
			return n, err
		}}},
		"missing is any error": {"missing", &broken{stat: func(b *broken, ctx context.Context, name string) (blob.Info, error) {
			info, err := b.Store.Stat(ctx, name)
			if err != nil {
				err = errors.New("404")
			}
			return info, err
		}}},
		"put overwrites": {"exists", &broken{put: overwrite}},
		"put of equal bytes is ok": {"exists", &broken{put: func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
			err := b.Store.Put(ctx, name, data, opts)
			present := make([]byte, len(data)+1)
			if n, _ := b.Store.Read(ctx, name, 0, present); errors.Is(err, blob.ErrExists) && bytes.Equal(present[:n], data) {
				return nil
			}
			return err
		}}},
		"all win a race": {"race", &broken{put: func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
			err := b.Store.Put(ctx, name, data, opts)
			if strings.Contains(name, "race") {
				return nil
			}
			return err
		}}},
		"the last of a race stays": {"race", &broken{put: func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
			err := b.Store.Put(ctx, name, data, opts)
			if errors.Is(err, blob.ErrExists) && strings.Contains(name, "race") {
				b.Adversary().Overwrite(name, data)
			}
			return err
		}}},
		"offset is ignored": {"ranges", &broken{read: func(b *broken, ctx context.Context, name string, _ int64, p []byte) (int, error) {
			return b.Store.Read(ctx, name, 0, p)
		}}},
		"end is an error": {"ranges", &broken{read: func(b *broken, ctx context.Context, name string, offset int64, p []byte) (int, error) {
			n, err := b.Store.Read(ctx, name, offset, p)
			if err == nil && n < len(p) && offset > 0 {
				err = errors.New("range not satisfiable")
			}
			return n, err
		}}},
		"empty is refused": {"empty", &broken{put: func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
			if len(data) == 0 {
				return errors.New("empty")
			}
			return b.Store.Put(ctx, name, data, opts)
		}}},
		"large is cut": {"large", &broken{put: func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
			return b.Store.Put(ctx, name, data[:min(len(data), 200_000)], opts)
		}}},
		"dots are lost": {"names", &broken{list: func(b *broken, ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
			return renamed(b.Store.List(ctx, prefix), func(name string) string { return strings.ReplaceAll(name, ".", "_") })
		}}},
		"buffer is kept": {"not-kept", &broken{
			put: func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
				b.mu.Lock()
				b.kept[name] = data
				b.mu.Unlock()
				return b.Store.Put(ctx, name, data, opts)
			},
			read: func(b *broken, ctx context.Context, name string, offset int64, p []byte) (int, error) {
				b.mu.Lock()
				defer b.mu.Unlock()
				if strings.Contains(name, "not-kept") {
					return copy(p, b.kept[name][offset:]), nil
				}
				return b.Store.Read(ctx, name, offset, p)
			},
		}},
		"readers share a buffer": {"concurrent-readers", &broken{read: func(b *broken, ctx context.Context, name string, offset int64, p []byte) (int, error) {
			n, err := b.Store.Read(ctx, name, offset, p)
			if n == 20_000 {
				clear(p[:n])
			}
			return n, err
		}}},
		"cancelled put is partial": {"cancelled", &broken{put: func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
			if strings.Contains(name, "cancelled") {
				_ = b.Store.Put(context.WithoutCancel(ctx), name, data[:len(data)/2], opts)
				return context.Canceled
			}
			return b.Store.Put(ctx, name, data, opts)
		}}},
		"cancelled put is lost but succeeds": {"cancelled", &broken{put: func(b *broken, ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
			if strings.Contains(name, "cancelled") {
				return nil
			}
			return b.Store.Put(ctx, name, data, opts)
		}}},
		"list has one page": {"list", &broken{list: func(b *broken, ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
			return func(yield func(blob.Info, error) bool) {
				n := 0
				for info, err := range b.Store.List(ctx, prefix) {
					if n++; n > 40 || !yield(info, err) {
						return
					}
				}
			}
		}}},
		"list is backwards": {"list", &broken{list: func(b *broken, ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
			return func(yield func(blob.Info, error) bool) {
				var all []blob.Info
				for info := range b.Store.List(ctx, prefix) {
					all = append(all, info)
				}
				for _, info := range slices.Backward(all) {
					if !yield(info, nil) {
						return
					}
				}
			}
		}}},
		"removing twice is an error": {"remove", &broken{remove: func(b *broken, ctx context.Context, name string) error {
			if _, err := b.Store.Stat(ctx, name); err != nil {
				return err
			}
			return b.Store.Remover().Remove(ctx, name)
		}}},
		"remove does nothing": {"remove", &broken{remove: func(*broken, context.Context, string) error { return nil }}},
		"lock at birth is ignored": {"lock-at-birth", &broken{put: func(b *broken, ctx context.Context, name string, data []byte, _ blob.PutOptions) error {
			return b.Store.Put(ctx, name, data, blob.PutOptions{})
		}}},
		"lock is shown and not kept": {"lock-at-birth", &broken{remove: func(b *broken, _ context.Context, name string) error {
			b.Adversary().Erase(name)
			return nil
		}}},
		"lock outlives its time": {"lock-at-birth", &broken{remove: func(b *broken, ctx context.Context, name string) error {
			if info, err := b.Store.Stat(ctx, name); err == nil && !info.LockedUntil.IsZero() {
				return blob.ErrLocked
			}
			return b.Store.Remover().Remove(ctx, name)
		}}},
		"extend does nothing": {"lock-extend", &broken{extend: func(b *broken, ctx context.Context, name string, _ time.Time) error {
			_, err := b.Store.Stat(ctx, name)
			return err
		}}},
		"extend shortens": {"lock-extend", &broken{
			extend: func(b *broken, ctx context.Context, name string, until time.Time) error {
				data := make([]byte, 1000)
				n, err := b.Store.Read(ctx, name, 0, data)
				if err != nil {
					return err
				}
				b.Adversary().Erase(name)
				return b.Store.Put(ctx, name, data[:n], blob.PutOptions{LockUntil: until})
			},
		}},
		"no versions": {"versions", &broken{versions: func(*broken, context.Context, string) iter.Seq2[blob.Version, error] {
			return func(func(blob.Version, error) bool) {}
		}}},
		"versions are oldest first": {"versions", &broken{versions: func(b *broken, ctx context.Context, name string) iter.Seq2[blob.Version, error] {
			return func(yield func(blob.Version, error) bool) {
				var all []blob.Version
				for v := range b.Store.Versions(ctx, name) {
					all = append(all, v)
				}
				for _, v := range slices.Backward(all) {
					if !yield(v, nil) {
						return
					}
				}
			}
		}}},
		"nothing can be removed": {"clean-up", &broken{remove: func(*broken, context.Context, string) error { return errors.New("denied") }}},
	}
}

func renamed(list iter.Seq2[blob.Info, error], change func(string) string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info, err := range list {
			info.Name = change(info.Name)
			if !yield(info, err) {
				return
			}
		}
	}
}

// A store that takes a lock and has no Locker pretends, and is found.
func TestRun_FindsPretendedLock(t *testing.T) {
	store := mem.New(clock.System{})
	checks, err := blobtest.Run(t.Context(), store, blobtest.Options{Prefix: "check", ListCount: 10, LargeBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if names := failed(checks); !slices.Equal(names, []string{"lock-refused"}) {
		t.Errorf("failed: %v", names)
	}
	if err := blobtest.Broken(checks); !holdfast.IsKind(err, holdfast.KindInvalid) || !strings.Contains(err.Error(), "lock-refused") {
		t.Errorf("error for people: %v", err)
	}
}

// A good store passes, every check is reported as it ends, and a run without a prefix is refused before anything is done.
func TestRun_Reports(t *testing.T) {
	store := mem.New(clock.System{})
	var reported []string
	checks, err := blobtest.Run(t.Context(), store, blobtest.Options{
		Remover: store.Remover(), Locker: store, LockFor: time.Nanosecond, Prefix: "check/one", ListCount: 10, LargeBytes: 1000,
		Wait: func(context.Context, time.Duration) error { return nil }, Done: func(c blobtest.Check) { reported = append(reported, c.Name) },
	})
	if err != nil || len(reported) != len(checks) || len(checks) < 15 {
		t.Errorf("%d checks, %d reported, %v", len(checks), len(reported), err)
	}
	if _, err := blobtest.Run(t.Context(), store, blobtest.Options{}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("run without a prefix: %v", err)
	}
}

// A run that is cancelled stops and still removes what it made.
func TestRun_CancelledCleansUp(t *testing.T) {
	store := mem.New(clock.System{})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := blobtest.Run(ctx, store, blobtest.Options{
		Remover: store.Remover(), Prefix: "check", ListCount: 10, LargeBytes: 1000,
		Done: func(c blobtest.Check) {
			if c.Name == "exists" {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled run: %v", err)
	}
	if names := store.Adversary().Names(); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}
