package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
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
	left   int         // requests until the death that is due; 0 when none is
	after  bool        // the last request takes effect
	dead   bool
	die    func()
	Died   int
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
	if len(c.due) == 0 || c.due[0].After(now) || c.left > 0 {
		return
	}
	c.due = c.due[1:]
	c.left, c.after = 1+c.random.IntN(callsAtMost), c.random.IntN(2) == 0
}

// meet counts a request, and says whether it is the one at which the process dies.
func (c *crashes) meet() (last bool) {
	if c.left == 0 {
		return false
	}
	c.left--
	return c.left == 0
}

// mortal is the way of a process to the world.
type mortal struct {
	crashes *crashes
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (m mortal) RoundTrip(request *http.Request) (*http.Response, error) {
	if m.crashes.dead {
		return nil, errDead
	}
	if !m.crashes.meet() {
		return m.next.RoundTrip(request)
	}
	if m.crashes.after {
		if response, err := m.next.RoundTrip(request); err == nil {
			_ = response.Body.Close() // nobody is left to read it
		}
	}
	m.crashes.dead = true
	m.crashes.Died++
	m.crashes.die()
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
	if !s.crashes.dead {
		return false, err
	}
	s.crashes.dead = false
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
