package azuretest

import (
	"context"
	"iter"
	"net/http"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Life counts what a process does to the outside, and ends at a chosen call: that call still takes effect, its answer does
// not arrive, and nothing that comes later happens. It is what kill -9 looks like from outside. Safe for concurrent use.
type Life struct {
	mu    sync.Mutex
	calls int
	last  int // 0: never ends
}

// NewLife makes a life that ends at the given call, counted from 1; 0 means that it does not end.
func NewLife(last int) *Life { return &Life{last: last} }

// Calls returns how many calls were begun.
func (l *Life) Calls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

// Ended reports whether the end was reached.
func (l *Life) Ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last > 0 && l.calls >= l.last
}

// next says whether this call happens, and whether its answer arrives.
func (l *Life) next() (happens, arrives bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last > 0 && l.calls >= l.last {
		return false, false
	}
	l.calls++
	return true, l.last == 0 || l.calls < l.last
}

// dead is what a call of an ended life returns. It asks the SDK not to try again.
type dead struct{}

func (dead) Error() string { return "the process has ended" }

// NonRetriable keeps the SDK from repeating the call.
func (dead) NonRetriable() {}

// Transport puts the life in front of a transport.
func (l *Life) Transport(next http.RoundTripper) http.RoundTripper { return &transport{l, next} }

type transport struct {
	life *Life
	next http.RoundTripper
}

func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	happens, arrives := t.life.next()
	if !happens {
		return nil, dead{}
	}
	response, err := t.next.RoundTrip(request)
	if arrives || err != nil {
		return response, err
	}
	_ = response.Body.Close()
	return nil, dead{}
}

// Store puts the life in front of a store.
func (l *Life) Store(next blob.Store) blob.Store { return &store{next, l} }

type store struct {
	blob.Store
	life *Life
}

func (s *store) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	happens, arrives := s.life.next()
	if !happens {
		return dead{}
	}
	err := s.Store.Put(ctx, name, data, o)
	if !arrives {
		return dead{}
	}
	return err
}

func (s *store) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	if s.life.Ended() {
		return 0, dead{}
	}
	return s.Store.Read(ctx, name, offset, p)
}

func (s *store) Stat(ctx context.Context, name string) (blob.Info, error) {
	if s.life.Ended() {
		return blob.Info{}, dead{}
	}
	return s.Store.Stat(ctx, name)
}

func (s *store) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	if s.life.Ended() {
		return func(yield func(blob.Info, error) bool) { yield(blob.Info{}, dead{}) }
	}
	return s.Store.List(ctx, prefix)
}
