package diskdata

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
)

// TestPace_Busy proves that the bound is halved by a busy endpoint, never below one, and grows again by successes, never
// above its most.
func TestPace_BusyAndGood_HalvesAndGrows(t *testing.T) {
	p := newPace(8, 16)
	step := func(busy bool) {
		if err := p.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.release(busy)
	}
	for i, want := range []int{4, 2, 1, 1} {
		if step(true); p.limit != want {
			t.Fatalf("after %d busy answers the bound is %d, want %d", i+1, p.limit, want)
		}
	}
	for range 1000 {
		step(false)
	}
	if p.limit != 16 {
		t.Errorf("after many successes the bound is %d, want 16", p.limit)
	}
}

// TestPace_Bound proves that never more requests are in flight than the bound allows, and that all come to their turn.
func TestPace_ManyAtOnce_StayWithinTheBound(t *testing.T) {
	p := newPace(3, 3)
	var inFlight, most atomic.Int64
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			if err := p.acquire(t.Context()); err != nil {
				t.Error(err)
				return
			}
			now := inFlight.Add(1)
			for {
				seen := most.Load()
				if now <= seen || most.CompareAndSwap(seen, now) {
					break
				}
			}
			inFlight.Add(-1)
			p.release(false)
		})
	}
	group.Wait()
	if most.Load() > 3 || p.inFlight != 0 || len(p.waiting) != 0 {
		t.Errorf("%d at once; %d in flight and %d waiting at the end", most.Load(), p.inFlight, len(p.waiting))
	}
}

// TestPace_Canceled proves that who stops waiting takes no place with it.
func TestPace_CanceledWaiter_LeavesItsPlaceToOthers(t *testing.T) {
	p := newPace(1, 1)
	if err := p.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.acquire(ctx); err == nil {
		t.Fatal("a canceled waiter got a place")
	}
	p.release(false)
	if err := p.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
}
