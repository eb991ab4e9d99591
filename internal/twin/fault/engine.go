// Package fault makes the twin misbehave on purpose, as the platform does: throttling, failures, cut and lost answers,
// late lists, revoked access, failed operations.
//
// A Plan is a list of rules; the Engine holds every request against it and carries out what a rule decides. It promises
// that the k-th call matching a rule is decided by seed, rule and k alone, however requests of other rules interleave; that
// everything it did is counted, so that a test can insist that each rule fired; and that an after-effect fault lets the
// request take full effect before the answer is spoilt. It must never touch a request that no rule names.
//
// The contract of the fault file is in the project's documentation of the twin.
package fault

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// transcriptMax is how many calls the transcript remembers; older ones are forgotten. A backup of a VM takes a few
// hundred calls to ARM, and one call for every 4 MiB read.
const transcriptMax = 100_000

// Engine decides about requests. Safe for concurrent use.
type Engine struct {
	clock clock.Clock

	mu     sync.Mutex // guards everything below
	plan   Plan
	counts []Count
	calls  []Call // the last ones; calls[0] has number forgotten+1
	passed int64  // number of the last call
}

// Count says how often a rule was matched and how often it fired since the plan was set.
type Count struct {
	Matched int `json:"matched"`
	Fired   int `json:"fired"`
	// Shadowed counts the calls for which the rule would have fired, had not an earlier rule fired already.
	Shadowed int `json:"shadowed"`
}

// Call is a line of the transcript.
type Call struct {
	Number  int64   `json:"number"` // counted from 1 over all surfaces
	Surface Surface `json:"surface"`
	Method  string  `json:"method"`
	Path    string  `json:"path"`
	Query   string  `json:"query,omitempty"` // without signatures
	Fault   Kind    `json:"fault,omitempty"` // what was done to it
}

// New returns an engine that carries out plan. The error has KindInvalid and names the field at fault.
func New(plan Plan, clk clock.Clock) (*Engine, error) {
	e := &Engine{clock: clk}
	if err := e.Set(plan); err != nil {
		return nil, err
	}
	return e, nil
}

// Middleware returns next with the engine in front of it. Requests that no rule names go through untouched.
func (e *Engine) Middleware(on Surface, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		decision := e.decide(on, r)
		if decision.Kind == "" {
			next.ServeHTTP(w, r)
			return
		}
		execution{engine: e, surface: on, decision: decision, next: next}.run(w, r)
	})
}

// Set replaces the plan; all counts begin anew, the transcript goes on. After an error the old plan stays.
func (e *Engine) Set(plan Plan) error {
	if field, problem := plan.check(); problem != "" {
		return holdfast.Errorf(holdfast.KindInvalid, "fault plan: %s: %s", field, problem).WithField(field)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plan = Plan{Seed: plan.Seed, Rules: slices.Clone(plan.Rules)}
	e.counts = make([]Count, len(plan.Rules))
	return nil
}

// Plan returns the plan in force.
func (e *Engine) Plan() Plan {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Plan{Seed: e.plan.Seed, Rules: slices.Clone(e.plan.Rules)}
}

// Counts returns one Count for each rule of the plan in force.
func (e *Engine) Counts() []Count {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.counts)
}

// Mark returns the number of the latest call, for Calls.
func (e *Engine) Mark() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.passed
}

// Calls returns the calls that came after mark, oldest first; those no longer remembered are missing at the front.
func (e *Engine) Calls(mark int64) []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	forgotten := e.passed - int64(len(e.calls))
	start := min(max(0, mark-forgotten), int64(len(e.calls)))
	return slices.Clone(e.calls[start:])
}

// decide counts the request, finds the first rule that fires and writes the transcript.
func (e *Engine) decide(on Surface, r *http.Request) Decision {
	e.mu.Lock()
	defer e.mu.Unlock()
	var decision Decision
	for i, rule := range e.plan.Rules {
		if !rule.matches(on, r) {
			continue
		}
		count := &e.counts[i]
		count.Matched++
		if !rule.fires(e.plan.Seed, i, *count) {
			continue
		}
		if decision.Kind != "" {
			count.Shadowed++
			continue
		}
		count.Fired++
		decision = rule.decision(i)
	}
	e.record(on, r, decision.Kind)
	return decision
}

func (e *Engine) record(on Surface, r *http.Request, kind Kind) {
	e.passed++
	if len(e.calls) >= 2*transcriptMax {
		e.calls = slices.Clone(e.calls[transcriptMax:])
	}
	e.calls = append(e.calls, Call{
		Number: e.passed, Surface: on, Method: r.Method, Path: r.URL.Path, Query: withoutSignature(r.URL.RawQuery), Fault: kind,
	})
}

// withoutSignature blanks the signature of a SAS, which would be a key to the data for whoever reads the transcript.
func withoutSignature(rawQuery string) string {
	if !strings.Contains(strings.ToLower(rawQuery), "sig=") {
		return rawQuery
	}
	parts := strings.Split(rawQuery, "&")
	for i, part := range parts {
		if len(part) > 4 && strings.EqualFold(part[:4], "sig=") {
			parts[i] = part[:4] + "REDACTED"
		}
	}
	return strings.Join(parts, "&")
}

func (r Rule) matches(on Surface, request *http.Request) bool {
	return (r.On == "" || r.On == on) &&
		(r.Method == "" || glob(r.Method, request.Method)) &&
		(r.Path == "" || glob(r.Path, request.URL.Path)) &&
		(r.Query == "" || glob(r.Query, request.URL.RawQuery))
}

// fires decides about the call that count.Matched has just counted.
func (r Rule) fires(seed int64, index int, count Count) bool {
	if r.Limit > 0 && count.Fired >= r.Limit {
		return false
	}
	if len(r.Calls) == 0 && r.Probability == 0 {
		return true
	}
	return slices.Contains(r.Calls, count.Matched) || chance(seed, index, count.Matched) < r.Probability
}

// chance returns a number in [0, 1) that depends on its arguments alone: the finaliser of SplitMix64 over their mix.
func chance(seed int64, rule, call int) float64 {
	x := uint64(seed)
	for _, part := range [...]uint64{uint64(rule), uint64(call)} {
		x += 0x9e3779b97f4a7c15 * (part + 1)
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return float64(x>>11) / (1 << 53)
}

// glob reports whether text matches pattern, in which * stands for any run of bytes and ? for one. ASCII case is ignored.
func glob(pattern, text string) bool {
	p, t := 0, 0
	star, resume := -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || lower(pattern[p]) == lower(text[t])):
			p++
			t++
		case star >= 0: // let the last star take one byte more
			resume++
			p, t = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
