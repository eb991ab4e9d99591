package wrap_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/blobtest"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// instant is a clock whose sleeps are over at once and are recorded.
type instant struct {
	clock.System
	mu     sync.Mutex
	sleeps []time.Duration // guarded by mu
	asleep func()          // called during a sleep; may be nil
}

func (i *instant) Sleep(ctx context.Context, d time.Duration) error {
	i.mu.Lock()
	i.sleeps = append(i.sleeps, d)
	i.mu.Unlock()
	if i.asleep != nil {
		i.asleep()
	}
	return ctx.Err()
}

// A decorated store still keeps every rule, and can lock and show versions when the store below can.
func TestStandard_Conforms(t *testing.T) {
	manual := clock.NewManual(time.Unix(1_800_000_000, 0))
	below := mem.New(manual)
	store := wrap.Standard(below, wrap.Options{})
	locks, isLocker := store.(blob.Locker)
	versions, isVersioned := store.(blob.Versioned)
	if !isLocker || !isVersioned {
		t.Fatal("the decorated store has lost its abilities")
	}
	blobtest.Test(t, store, blobtest.Options{
		Remover: below.Remover(), Locker: locks, Versioned: versions, Prefix: "check", Clock: manual, ListCount: 200, LargeBytes: 1 << 20,
		Wait: func(_ context.Context, d time.Duration) error { manual.Advance(d); return nil },
		Overwrite: func(_ context.Context, name string, data []byte) error {
			below.Adversary().Overwrite(name, data)
			return nil
		},
	}, "lock-refused")
}

// A store without locks does not gain any by being decorated.
func TestDecorate_KeepsAbilities(t *testing.T) {
	plain, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	store := wrap.Standard(plain, wrap.Options{})
	if _, ok := store.(blob.Locker); ok {
		t.Error("a folder has become a locker")
	}
	if _, ok := store.(blob.Versioned); ok {
		t.Error("a folder has become versioned")
	}
	if store.URL() != plain.URL() {
		t.Errorf("URL %q", store.URL())
	}
}

// The order is retry(limit(trace(store))): while a retry sleeps another call can use the only slot, and every try is traced.
func TestStandard_Order(t *testing.T) {
	faults := wrap.NewFaults(wrap.Fail, 1)
	var events []string
	c := &instant{}
	var store blob.Store
	c.asleep = func() {
		c.asleep = nil
		if _, err := store.Stat(t.Context(), "other"); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("call during the sleep: %v", err)
		}
	}
	store = wrap.Standard(wrap.Fault(mem.New(clock.System{}), faults), wrap.Options{
		Clock: c, Concurrency: 1,
		Observe: func(e wrap.Event) { events = append(events, fmt.Sprintf("%s %s %t", e.Op, e.Name, e.Err == nil)) },
	})
	if err := store.Put(t.Context(), "a", []byte("x"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"put a false", "stat other false", "put a true"}; !slices.Equal(events, want) {
		t.Errorf("trace %q, want %q", events, want)
	}
}

// Each call is repeated when it failed in a way that may pass, in both flavours: without effect and after it. What a caller
// sees is the same as without the fault.
func TestRetry_BothFlavours(t *testing.T) {
	for _, mode := range []wrap.Mode{wrap.Fail, wrap.FailAfterEffect} {
		for at := 1; ; at++ {
			faults := wrap.NewFaults(mode, at)
			below := mem.New(clock.System{})
			c := &instant{}
			store := wrap.Retry(wrap.Fault(below, faults), c, 3)
			remover := wrap.RetryRemover(wrap.FaultRemover(below.Remover(), faults), c, 3)
			if err := useStore(t.Context(), store, remover); err != nil {
				t.Errorf("%s at call %d: %v", mode, at, err)
			}
			if !faults.Fired() {
				if at < 10 {
					t.Errorf("only %d calls were spoilt", at-1)
				}
				break
			}
		}
	}
}

// useStore makes every call of the port once or more and checks the results.
func useStore(ctx context.Context, store blob.Store, remover blob.Remover) error {
	for _, name := range []string{"a", "b", "c"} {
		if err := store.Put(ctx, name, []byte(name+"-bytes"), blob.PutOptions{}); err != nil {
			return fmt.Errorf("put %s: %w", name, err)
		}
	}
	if err := store.Put(ctx, "a", []byte("others"), blob.PutOptions{}); !errors.Is(err, blob.ErrExists) {
		return fmt.Errorf("second put: %w", err)
	}
	p := make([]byte, 10)
	if n, err := store.Read(ctx, "a", 2, p); err != nil || string(p[:n]) != "bytes" {
		return fmt.Errorf("read %q: %w", p[:n], err)
	}
	if info, err := store.Stat(ctx, "b"); err != nil || info.Size != 7 {
		return fmt.Errorf("stat %+v: %w", info, err)
	}
	if err := store.(blob.Locker).Extend(ctx, "b", time.Unix(1, 0)); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	var names, ids []string
	for info, err := range store.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		names = append(names, info.Name)
	}
	for v, err := range store.(blob.Versioned).Versions(ctx, "a") {
		if err != nil {
			return fmt.Errorf("versions: %w", err)
		}
		ids = append(ids, v.ID)
	}
	if strings.Join(names, "") != "abc" || len(ids) != 1 {
		return fmt.Errorf("list yields %v, versions %v", names, ids)
	}
	if n, err := store.(blob.Versioned).ReadVersion(ctx, "a", ids[0], 0, p); err != nil || n != 7 {
		return fmt.Errorf("read of a version: %d, %w", n, err)
	}
	return errors.Join(remover.Remove(ctx, "a"), remover.Remove(ctx, "a"))
}

// A list that breaks off goes on behind the last item, also when objects came and went meanwhile.
func TestRetry_ListBreaksOff(t *testing.T) {
	below := mem.New(clock.System{})
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := below.Put(t.Context(), name, nil, blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	broken := &breakingList{Store: below, after: 2}
	c := &instant{}
	c.asleep = func() {
		c.asleep = nil
		below.Adversary().Erase("a")
		below.Adversary().Overwrite("bb", nil)
	}
	var names []string
	for info, err := range wrap.Retry(broken, c, 2).List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	if strings.Join(names, " ") != "a b bb c d" {
		t.Errorf("list yields %v", names)
	}
}

// breakingList fails its first list after a number of items.
type breakingList struct {
	blob.Store
	after int
}

func (b *breakingList) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		n := 0
		for info, err := range b.Store.List(ctx, prefix) {
			if n == b.after {
				b.after = -1
				yield(blob.Info{}, holdfast.Errorf(holdfast.KindUnavailable, "connection cut"))
				return
			}
			n++
			if !yield(info, err) {
				return
			}
		}
	}
}

// What cannot pass is not repeated, tries are bounded, waits grow, and a caller that gives up ends the waiting.
func TestRetry_Bounds(t *testing.T) {
	c := &instant{}
	never := wrap.NewFaults(wrap.Die, 1)
	if _, err := wrap.Retry(wrap.Fault(mem.New(c), never), c, 4).Stat(t.Context(), "a"); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Errorf("call that never succeeds: %v", err)
	}
	if never.Calls() != 4 || len(c.sleeps) != 3 || c.sleeps[2] <= c.sleeps[0]/2 {
		t.Errorf("%d calls, sleeps %v", never.Calls(), c.sleeps)
	}
	for _, kind := range []holdfast.Kind{holdfast.KindInvalid, holdfast.KindRefused, holdfast.KindConflict, holdfast.KindNotFound, holdfast.KindCorrupt} {
		final := wrap.NewFaults(wrap.Fail, 1).WithKind(kind)
		if _, err := wrap.Retry(wrap.Fault(mem.New(c), final), c, 4).Stat(t.Context(), "a"); !holdfast.IsKind(err, kind) || final.Calls() != 1 {
			t.Errorf("%s: %d calls, %v", kind, final.Calls(), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.asleep = cancel
	given := wrap.NewFaults(wrap.Die, 1)
	if _, err := wrap.Retry(wrap.Fault(mem.New(c), given), c, 4).Stat(ctx, "a"); err == nil || given.Calls() != 1 {
		t.Errorf("caller that gave up: %d calls, %v", given.Calls(), err)
	}
}

// No more calls run at a time than permitted, a waiting call ends with its context, and the consumer of a list may make
// calls although there is one slot.
func TestLimit(t *testing.T) {
	below := &gate{Store: mem.New(clock.System{}), entered: make(chan struct{}, 10), open: make(chan struct{})}
	store := wrap.Limit(below, 2)
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			if _, err := store.Stat(t.Context(), "a"); !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("stat: %v", err)
			}
		})
	}
	<-below.entered
	<-below.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Stat(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting with a cancelled context: %v", err)
	}
	if n := len(below.entered); n != 0 {
		t.Errorf("%d calls more than permitted run", n)
	}
	close(below.open)
	group.Wait()

	single := wrap.Limit(mem.New(clock.System{}), 1)
	for _, name := range []string{"a", "b"} {
		if err := single.Put(t.Context(), name, nil, blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for info := range single.List(t.Context(), "") {
		if _, err := single.Stat(t.Context(), info.Name); err != nil {
			t.Error(err)
		}
		break
	}
	if _, err := single.Stat(t.Context(), "a"); err != nil {
		t.Errorf("after a list that was left early: %v", err)
	}
}

// gate holds calls of Stat until it is opened.
type gate struct {
	blob.Store
	entered, open chan struct{}
}

func (g *gate) Stat(ctx context.Context, name string) (blob.Info, error) {
	g.entered <- struct{}{}
	<-g.open
	return g.Store.Stat(ctx, name)
}

// A fault hits the call it is meant for, with or without effect; after a death nothing works any more.
func TestFault_Modes(t *testing.T) {
	for _, c := range []struct {
		mode            wrap.Mode
		effect, goesOn  bool
		failsAfterwards bool
	}{
		{wrap.Fail, false, true, false},
		{wrap.FailAfterEffect, true, true, false},
		{wrap.Die, false, false, true},
		{wrap.DieAfterEffect, true, false, true},
	} {
		below := mem.New(clock.System{})
		faults := wrap.NewFaults(c.mode, 2)
		store, remover := wrap.Fault(below, faults), wrap.FaultRemover(below.Remover(), faults)
		if err := store.Put(t.Context(), "a", nil, blob.PutOptions{}); err != nil {
			t.Errorf("%s: call before the fault: %v", c.mode, err)
		}
		if err := store.Put(t.Context(), "b", nil, blob.PutOptions{}); !holdfast.IsKind(err, holdfast.KindUnavailable) {
			t.Errorf("%s: spoilt call: %v", c.mode, err)
		}
		if _, err := below.Stat(t.Context(), "b"); (err == nil) != c.effect {
			t.Errorf("%s: effect %v, want %v", c.mode, err == nil, c.effect)
		}
		if err := remover.Remove(t.Context(), "a"); (err != nil) != c.failsAfterwards {
			t.Errorf("%s: call after the fault: %v", c.mode, err)
		}
		if faults.Calls() != 3 || !faults.Fired() {
			t.Errorf("%s: %d calls, fired %v", c.mode, faults.Calls(), faults.Fired())
		}
	}
}

// Calls and bytes are counted by operation; bytes only when they moved.
func TestCount(t *testing.T) {
	var counter wrap.Counter
	below := mem.New(clock.System{})
	store, remover := wrap.Count(below, &counter), wrap.CountRemover(below.Remover(), &counter)
	for range 2 {
		if err := store.Put(t.Context(), "a", make([]byte, 100), blob.PutOptions{}); err != nil && !errors.Is(err, blob.ErrExists) {
			t.Fatal(err)
		}
	}
	for range store.List(t.Context(), "") {
		break
	}
	if err := remover.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	calls := counter.Calls()
	if calls[wrap.OpPut] != 2 || calls[wrap.OpList] != 1 || calls[wrap.OpRemove] != 1 || counter.Bytes(wrap.OpPut) != 100 {
		t.Errorf("calls %v, bytes %d", calls, counter.Bytes(wrap.OpPut))
	}
}

// A trace tells what a list yielded and how it ended.
func TestTrace_List(t *testing.T) {
	below := mem.New(clock.System{})
	for _, name := range []string{"a", "b", "c"} {
		if err := below.Put(t.Context(), name, nil, blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var events []wrap.Event
	store := wrap.Trace(&breakingList{Store: below, after: 2}, clock.System{}, func(e wrap.Event) { events = append(events, e) })
	for range store.List(t.Context(), "") {
	}
	if len(events) != 1 || events[0].Items != 2 || !holdfast.IsKind(events[0].Err, holdfast.KindUnavailable) {
		t.Errorf("events %+v", events)
	}
}
