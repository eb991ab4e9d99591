package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// errDead is what a dead process gets of the world.
var errDead = errors.New("the process is dead")

// callsAtMost is how many requests after its instant a crash happens at the latest: enough to meet every step of a backup.
const callsAtMost = 80

// crashes kill the control plane in the middle of its work: from the instant of a crash on requests are counted, and at one of them, before or
// after it took effect, everything that the process does from then on fails. Points of the store and of the queue are what is left of it.
type crashes struct {
	random *rand.Rand
	due    []time.Time // in order
	after  bool        // the last request takes effect
	die    func()

	mu   sync.Mutex // the discovery reads several machines at once
	left int        // guarded by mu; requests until the death that is due; 0 when none is
	dead bool       // guarded by mu
	died int        // guarded by mu; how often
}

// newCrashes draws the instants of n crashes.
func newCrashes(seed uint64, n int, from, until time.Time) *crashes {
	c := &crashes{random: rand.New(rand.NewPCG(seed, 4)), die: func() {}}
	for range n {
		c.due = append(c.due, from.Add(time.Duration(c.random.Int64N(int64(until.Sub(from))))))
	}
	slices.SortFunc(c.due, time.Time.Compare)
	return c
}

// arm begins to count when the next crash is due.
func (c *crashes) arm(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.due) == 0 || c.due[0].After(now) || c.left > 0 {
		return
	}
	c.due = c.due[1:]
	c.left, c.after = 1+c.random.IntN(callsAtMost), c.random.IntN(2) == 0
}

// fate is what becomes of a request.
type fate string

const (
	passes fate = "passes"
	last   fate = "last"  // the process dies at it
	fails  fate = "fails" // the process is dead
)

// meet counts a request, and says what becomes of it.
func (c *crashes) meet() fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
		return fails
	case c.left == 0:
		return passes
	}
	if c.left--; c.left > 0 {
		return passes
	}
	c.dead = true
	c.died++
	return last
}

// revive reports whether the process is dead, and lets another one live.
func (c *crashes) revive() (dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dead, c.dead = c.dead, false
	return dead
}

// mortal is the way of a process to the world.
type mortal struct {
	crashes *crashes
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (m mortal) RoundTrip(request *http.Request) (*http.Response, error) {
	switch m.crashes.meet() {
	case passes:
		return m.next.RoundTrip(request)
	case last:
		if m.crashes.after {
			if response, err := m.next.RoundTrip(request); err == nil {
				_ = response.Body.Close() // nobody is left to read it
			}
		}
		m.crashes.die()
	case fails:
	}
	return nil, errDead
}

// live does something that the process may die of. When it did, another process takes its place, and again reports that it is to be done again.
func (s *Simulation) live(ctx context.Context, do func(ctx context.Context) error) (again bool, err error) {
	s.crashes.arm(s.clock.Now())
	alive, die := context.WithCancel(ctx)
	defer die()
	s.crashes.die = func() {
		die()
		_ = s.db.Close() // a dead process writes nothing
	}
	err = do(alive)
	if !s.crashes.revive() {
		return false, err
	}
	return true, s.startControlPlane(ctx)
}

// finish does a job, by as many processes as that takes.
func (s *Simulation) finish(ctx context.Context, do func(ctx context.Context) error) error {
	for {
		again, err := s.live(ctx, do)
		if err != nil {
			s.failed = errors.Join(s.failed, err)
		}
		if err != nil || !again {
			return err
		}
	}
}
