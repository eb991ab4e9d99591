package cache_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast/internal/repo/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCache(limit int64) *cache.Cache[int, int64] {
	return cache.New[int](limit, func(v int64) int64 { return v })
}

// get asks for a key whose value is its cost, and reports whether it was fetched.
func get(t *testing.T, c *cache.Cache[int, int64], key int, cost int64) bool {
	t.Helper()
	fetched := false
	v, err := c.Get(t.Context(), key, func() (int64, error) { fetched = true; return cost, nil })
	if err != nil || v != cost {
		t.Fatalf("get %d: %d, %v", key, v, err)
	}
	return fetched
}

// What was used last stays, up to the limit; a value larger than the limit is kept alone until the next one.
func TestCache_KeepsTheNewestUpToItsLimit(t *testing.T) {
	c := newCache(10)
	for _, step := range []struct {
		key     int
		cost    int64
		fetched bool
	}{
		{1, 4, true}, {2, 4, true}, {1, 4, false}, // 2 is older now
		{3, 4, true}, {1, 4, false}, {2, 4, true}, // 2 had to go, then 3
		{3, 4, true}, {4, 50, true}, {4, 50, false}, {5, 1, true}, {4, 50, true},
	} {
		if got := get(t, c, step.key, step.cost); got != step.fetched {
			t.Errorf("get %d fetched: %v", step.key, got)
		}
	}
}

// Callers at the same time share one fetch.
func TestCache_SingleFlight(t *testing.T) {
	c := newCache(10)
	var fetches atomic.Int32
	started, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	ask := func() {
		_, err := c.Get(t.Context(), 1, func() (int64, error) {
			fetches.Add(1)
			close(started)
			<-release
			return 1, nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	wg.Go(ask)
	<-started
	for range 7 {
		wg.Go(ask)
	}
	close(release)
	wg.Wait()
	if fetches.Load() != 1 {
		t.Errorf("%d fetches", fetches.Load())
	}
}

// An error goes to those who waited for it and is not kept. When the one who fetches gives up, another takes over; a waiter who
// gives up does not wait on.
func TestCache_ErrorsAndCancellation(t *testing.T) {
	c, boom := newCache(10), errors.New("boom")
	if _, err := c.Get(t.Context(), 1, func() (int64, error) { return 0, boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
	if !get(t, c, 1, 1) {
		t.Error("an error was kept")
	}
	started, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Get(t.Context(), 2, func() (int64, error) { close(started); <-release; return 0, context.Canceled })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
	})
	<-started
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(gone, 2, func() (int64, error) { return 2, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a waiter who gave up got %v", err)
	}
	wg.Go(func() {
		if v, err := c.Get(t.Context(), 2, func() (int64, error) { return 2, nil }); v != 2 || err != nil {
			t.Errorf("who went on got %d, %v", v, err)
		}
	})
	close(release)
	wg.Wait()
}
