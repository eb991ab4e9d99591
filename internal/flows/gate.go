package flows

import (
	"context"
	"sync"
)

// gates let so many through to each repository at a time. The zero value is ready.
type gates struct {
	mu   sync.Mutex
	open map[gate]chan struct{} // guarded by mu
}

// gate is one of so many places; when their number changes, another gate takes its place.
type gate struct {
	repository string
	places     int
}

// enter waits for a place and returns how to give it back. No limit never waits.
func (g *gates) enter(ctx context.Context, repository string, places int) (leave func(), err error) {
	if places <= 0 {
		return func() {}, nil
	}
	g.mu.Lock()
	if g.open == nil {
		g.open = map[gate]chan struct{}{}
	}
	key := gate{repository, places}
	if g.open[key] == nil {
		g.open[key] = make(chan struct{}, places)
	}
	taken := g.open[key]
	g.mu.Unlock()
	select {
	case taken <- struct{}{}:
		return func() { <-taken }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
