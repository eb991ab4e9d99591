package auth

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// rule says how failures are answered that have something in common: after so many that cost nothing, each one doubles the time
// until the next attempt, up to a longest one.
type rule struct {
	free    int
	longest time.Duration
}

// The rules. A name from one address is held the hardest, which is where guessing comes from; an address for all names, so
// that one password tried on everybody does not pay. A name from everywhere waits a minute at the most: who guesses from many addresses must not be able to
// lock its owner out.
var rules = [...]rule{
	byBoth:    {free: 5, longest: 15 * time.Minute},
	byAddress: {free: 20, longest: 15 * time.Minute},
	byName:    {free: 50, longest: time.Minute},
}

const (
	byBoth = iota
	byAddress
	byName
)

const (
	delayFirst = time.Second

	// forgetAfter is how long a failure counts without another one.
	forgetAfter = time.Hour

	// entriesMax bounds the memory that somebody with many addresses can take; the oldest are forgotten first.
	entriesMax = 10_000
)

// Throttle slows down who guesses. It is kept in memory: a restart forgives, which costs a guesser more than it gives him.
// Unknown names are counted like known ones. Safe for concurrent use.
type Throttle struct {
	mu    sync.Mutex // guards what follows
	known map[subject]failures
}

// subject is what failures have in common.
type subject struct {
	rule    int
	name    string
	address netip.Prefix
}

type failures struct {
	n    int
	last time.Time
}

// NewThrottle returns one that has seen nothing yet.
func NewThrottle() *Throttle { return &Throttle{known: make(map[subject]failures)} }

// Attempt is a sign-in that began. It counts as a failure until it is said to be none, so that many at once are not all the first one.
type Attempt struct {
	throttle *Throttle
	subjects []subject
}

// Begin counts an attempt, or returns an error of KindThrottled that says how long to wait.
func (t *Throttle) Begin(name string, from netip.Addr, now time.Time) (*Attempt, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	subjects := subjectsOf(name, from)
	var wait time.Duration
	for _, s := range subjects {
		wait = max(wait, t.known[s].wait(rules[s.rule], now))
	}
	if wait > 0 {
		return nil, holdfast.Errorf(holdfast.KindThrottled, "too many attempts to sign in failed").WithHint("wait %s", wait.Round(time.Second))
	}
	for _, s := range subjects {
		f := t.known[s]
		if now.Sub(f.last) >= forgetAfter {
			f.n = 0
		}
		t.makeRoom(s)
		t.known[s] = failures{f.n + 1, now}
	}
	return &Attempt{t, subjects}, nil
}

// subjectsOf returns what an attempt is counted under. An IPv6 address counts with its whole network, which one customer has.
func subjectsOf(name string, from netip.Addr) []subject {
	from = from.Unmap().WithZone("")
	bits := from.BitLen()
	if from.Is6() {
		bits = 64
	}
	network, _ := from.Prefix(bits) // the zero value for no address
	return []subject{{byBoth, name, network}, {byAddress, "", network}, {byName, name, netip.Prefix{}}}
}

// wait is how long from now the next attempt is too early.
func (f failures) wait(r rule, now time.Time) time.Duration {
	over := f.n - r.free
	if over < 0 || now.Sub(f.last) >= forgetAfter {
		return 0
	}
	delay := r.longest
	if over < 16 { // beyond that the longest is reached, and shifting would overflow
		delay = min(delay, delayFirst<<over)
	}
	return f.last.Add(delay).Sub(now)
}

// makeRoom forgets what is old when there is no place for one more: the oldest tenth, so that it is not looked for each time.
func (t *Throttle) makeRoom(s subject) {
	if _, known := t.known[s]; known || len(t.known) < entriesMax {
		return
	}
	oldest := slices.SortedFunc(maps.Keys(t.known), func(a, b subject) int { return t.known[a].last.Compare(t.known[b].last) })
	for _, other := range oldest[:entriesMax/10] {
		delete(t.known, other)
	}
}

// Succeeded takes the attempt back, and forgives the failures of this name from this address. Those of the address stay: who has
// one account of his own must not wash away with it what he tries on others.
func (a *Attempt) Succeeded() {
	a.Withdraw()
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	delete(a.throttle.known, a.subjects[byBoth])
}

// Withdraw takes the attempt back: it came to no answer.
func (a *Attempt) Withdraw() {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	for _, s := range a.subjects {
		if f, ok := a.throttle.known[s]; ok && f.n > 1 {
			a.throttle.known[s] = failures{f.n - 1, f.last}
		} else {
			delete(a.throttle.known, s)
		}
	}
}
