package diskdata

import (
	"context"
	"sync"
)

// pace bounds the requests in flight on one SAS. Azure throttles a single blob with 503; the bound is halved then and
// grows by one for every full round of successes (additive increase, multiplicative decrease).
type pace struct {
	mu       sync.Mutex // guards the following
	limit    int
	most     int
	inFlight int
	good     int // successes since the limit last changed
	waiting  []chan struct{}
}

func newPace(limit, most int) *pace { return &pace{limit: limit, most: most} }

// acquire waits for a place. After a nil error the caller calls release.
func (p *pace) acquire(ctx context.Context) error {
	p.mu.Lock()
	if p.inFlight < p.limit && len(p.waiting) == 0 {
		p.inFlight++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		p.leave(turn)
		return ctx.Err()
	}
}

// leave gives up waiting. When the turn came at the same moment, it is handed on.
func (p *pace) leave(turn chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.waiting {
		if other == turn {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return
		}
	}
	p.inFlight--
	p.admit()
}

// release gives the place back and says whether the endpoint was too busy.
func (p *pace) release(busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	switch {
	case busy:
		p.limit, p.good = max(1, p.limit/2), 0
	case p.limit < p.most:
		p.good++
		if p.good >= p.limit {
			p.limit, p.good = p.limit+1, 0
		}
	}
	p.admit()
}

// admit wakes those for whom there is a place. mu is held.
func (p *pace) admit() {
	for len(p.waiting) > 0 && p.inFlight < p.limit {
		p.inFlight++
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
	}
}
