package fault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// service is a handler behind an engine on a real server; it counts the requests that took effect.
type service struct {
	url     string
	engine  *fault.Engine
	effects atomic.Int64
	seen    atomic.Value // the fault.Decision of the last request that reached the handler
	client  *http.Client
}

func serve(t *testing.T, on fault.Surface, clk clock.Clock, plan string, body http.HandlerFunc) *service {
	t.Helper()
	parsed, err := fault.Parse("plan.yaml", []byte(plan))
	if err != nil {
		t.Fatal(err)
	}
	s := &service{}
	if s.engine, err = fault.New(parsed, clk); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.engine.Middleware(on, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		s.effects.Add(1)
		s.seen.Store(fault.From(r.Context()))
		body(w, r)
	})))
	t.Cleanup(server.Close)
	s.url = server.URL
	// A connection for each request: the transport would silently repeat a lost GET on a connection it had used before.
	s.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return s
}

func plain(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error // of the request or of reading the body
}

func (s *service) do(t *testing.T, method, path string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader("payload"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(body), err: err}
}

func TestMiddleware_ThrottleAnswersInTheShapeOfTheSurface(t *testing.T) {
	for _, c := range []struct {
		on           fault.Surface
		code, inBody string
	}{
		{fault.ARM, "", `{"error":{"code":"TooManyRequests"`},
		{fault.Entra, "", `"error":"temporarily_unavailable"`},
		{fault.Disk, "ServerBusy", "<Error><Code>ServerBusy</Code>"},
		{fault.Blob, "ServerBusy", "<Error><Code>ServerBusy</Code>"},
	} {
		s := serve(t, c.on, clock.System{}, "rules: [{fault: throttle, retryAfterMs: 20}]", plain("fine"))
		got := s.do(t, "PUT", "/x")
		if got.status != 429 || got.header.Get("Retry-After") != "1" || got.header.Get("retry-after-ms") != "20" ||
			got.header.Get("x-ms-error-code") != c.code || !strings.Contains(got.body, c.inBody) {
			t.Errorf("%s: got %+v", c.on, got)
		}
		if s.effects.Load() != 0 {
			t.Errorf("%s: a throttled request took effect", c.on)
		}
	}
}

func TestMiddleware_WholeSecondsAreSentAsRetryAfterAlone(t *testing.T) {
	s := serve(t, fault.ARM, clock.System{}, "rules: [{fault: throttle, retryAfterSeconds: 300}]", plain("fine"))
	if got := s.do(t, "GET", "/"); got.header.Get("Retry-After") != "300" || got.header.Get("retry-after-ms") != "" {
		t.Fatalf("got %v", got.header)
	}
}

func TestMiddleware_ErrorTakesStatusAndCodeFromTheRule(t *testing.T) {
	for _, c := range []struct {
		on         fault.Surface
		fields     string
		status     int
		wantInBody string
	}{
		{fault.ARM, "", 500, `"InternalServerError"`},
		{fault.ARM, "status: 503, ", 503, `"ServiceUnavailable"`},
		{fault.ARM, "status: 409, code: AnotherOperationInProgress, ", 409, `"AnotherOperationInProgress"`},
		{fault.Blob, "", 500, "<Code>InternalError</Code>"},
		{fault.Disk, "status: 503, ", 503, "<Code>ServerBusy</Code>"},
	} {
		s := serve(t, c.on, clock.System{}, "rules: [{"+c.fields+"fault: error}]", plain("fine"))
		if got := s.do(t, "GET", "/"); got.status != c.status || !strings.Contains(got.body, c.wantInBody) {
			t.Errorf("%s %s: got %+v", c.on, c.fields, got)
		}
	}
}

func TestMiddleware_AfterEffectDoesTheWorkFirst(t *testing.T) {
	for _, kind := range []string{"throttle", "error", "lost"} {
		s := serve(t, fault.ARM, clock.System{}, "rules: [{fault: "+kind+", afterEffect: true}]", plain("the secret answer"))
		got := s.do(t, "PUT", "/x")
		if s.effects.Load() != 1 {
			t.Errorf("%s: the work was done %d times, want once", kind, s.effects.Load())
		}
		if strings.Contains(got.body, "secret") || (kind == "lost") != (got.err != nil) {
			t.Errorf("%s: got %+v", kind, got)
		}
	}
}

func TestMiddleware_LostBreaksWithoutEffect(t *testing.T) {
	s := serve(t, fault.ARM, clock.System{}, "rules: [{fault: lost}]", plain("fine"))
	if got := s.do(t, "PUT", "/x"); got.err == nil {
		t.Fatalf("got an answer: %+v", got)
	}
	if s.effects.Load() != 0 {
		t.Fatal("a request lost before the work took effect")
	}
}

func TestMiddleware_CutSendsHeadersAndHalfTheBody(t *testing.T) {
	content := strings.Repeat("0123456789", 1000)
	declared := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.WriteHeader(http.StatusPartialContent)
		for part := range slices.Chunk([]byte(content), 999) {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	}
	for name, handler := range map[string]http.HandlerFunc{"declared": declared, "undeclared": plain(content)} {
		s := serve(t, fault.Disk, clock.System{}, "rules: [{fault: cut}]", handler)
		got := s.do(t, "GET", "/x")
		if !errors.Is(got.err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: error %v, want an unexpected end", name, got.err)
		}
		if got.body != content[:5000] || got.header.Get("Content-Length") != "10000" {
			t.Errorf("%s: got %d bytes, Content-Length %s", name, len(got.body), got.header.Get("Content-Length"))
		}
		if name == "declared" && got.status != http.StatusPartialContent {
			t.Errorf("status %d", got.status)
		}
	}
}

func TestMiddleware_CutOfATinyOrEmptyAnswerStillBreaks(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"one byte": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1")
			_, _ = w.Write([]byte("x"))
		},
		"empty": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
	} {
		s := serve(t, fault.ARM, clock.System{}, "rules: [{fault: cut}]", handler)
		if got := s.do(t, "DELETE", "/x"); got.err == nil {
			t.Errorf("%s: got a whole answer %+v", name, got)
		}
		if s.effects.Load() != 1 {
			t.Errorf("%s: a cut answer means that the work was done", name)
		}
	}
}

// sleepers is a clock whose waits tests can see.
type sleepers struct {
	*clock.Manual
	asked chan time.Duration
}

func (s sleepers) Sleep(ctx context.Context, d time.Duration) error {
	if d > 0 {
		s.asked <- d
	}
	return s.Manual.Sleep(ctx, d)
}

func TestMiddleware_SlowWaitsByTheClockThenServes(t *testing.T) {
	clk := sleepers{clock.NewManual(time.Unix(0, 0)), make(chan time.Duration, 1)}
	s := serve(t, fault.ARM, clk, "rules: [{fault: slow, delayMs: 90000}]", plain("late"))
	answers := make(chan answer, 1)
	go func() { answers <- s.do(t, "GET", "/") }()
	if asked := <-clk.asked; asked != 90*time.Second {
		t.Fatalf("waits %s", asked)
	}
	if s.effects.Load() != 0 {
		t.Fatal("served before the wait was over")
	}
	for got := (answer{}); got.body == ""; {
		clk.Advance(90 * time.Second)
		select {
		case got = <-answers:
			if got.body != "late" {
				t.Fatalf("got %+v", got)
			}
		case <-time.After(time.Millisecond): // the sleeper had not yet joined the clock's waiters: advance again
		}
	}
}

func TestMiddleware_HandlerFaultsArriveInTheContext(t *testing.T) {
	for _, c := range []struct {
		rule string
		want fault.Decision
	}{
		{"{fault: revoke}", fault.Decision{Kind: fault.Revoke}},
		{"{fault: stale-list, delayMs: 5000}", fault.Decision{Kind: fault.StaleList, Delay: 5 * time.Second}},
		{"{fault: fail-operation, code: AllocationFailed, afterEffect: true}", fault.Decision{Kind: fault.FailOperation, Code: "AllocationFailed", AfterEffect: true}},
	} {
		s := serve(t, fault.ARM, clock.System{}, "rules: ["+c.rule+"]", plain("fine"))
		if got := s.do(t, "GET", "/"); got.body != "fine" || s.seen.Load() != c.want {
			t.Errorf("%s: answer %+v, decision %+v", c.rule, got, s.seen.Load())
		}
	}
}

func TestMiddleware_UnnamedRequestsAreUntouched(t *testing.T) {
	s := serve(t, fault.Blob, clock.System{}, `
rules:
  - {on: disk, fault: lost}
  - {method: PUT, fault: lost}
  - {path: "/a/*", fault: lost}
  - {query: "*comp=list*", fault: lost}`, plain("fine"))
	if got := s.do(t, "GET", "/b/a/?comp=block"); got.body != "fine" || s.seen.Load() != (fault.Decision{}) {
		t.Fatalf("got %+v", got)
	}
	for _, hit := range []struct{ method, path string }{{"PUT", "/"}, {"GET", "/A/b/c"}, {"GET", "/?restype=x&COMP=list"}} {
		if got := s.do(t, hit.method, hit.path); got.err == nil {
			t.Errorf("%s %s was not hit", hit.method, hit.path)
		}
	}
}

func TestRule_CallsLimitAndCounts(t *testing.T) {
	s := serve(t, fault.ARM, clock.System{}, `
rules:
  - {on: arm, path: "*/snapshots/*", calls: [2, 4], fault: error}
  - {method: PUT, fault: throttle, limit: 1}
  - {path: "*/snapshots/*", calls: [2], fault: error}
  - {on: disk, fault: error}`, plain("fine"))
	var statuses []int
	for range 5 {
		statuses = append(statuses, s.do(t, "GET", "/rg/snapshots/s").status)
	}
	statuses = append(statuses, s.do(t, "PUT", "/rg/disks/d").status, s.do(t, "PUT", "/rg/disks/d").status)
	if want := []int{200, 500, 200, 500, 200, 429, 200}; !slices.Equal(statuses, want) {
		t.Fatalf("statuses %v, want %v", statuses, want)
	}
	want := []fault.Count{{Matched: 5, Fired: 2}, {Matched: 2, Fired: 1}, {Matched: 5, Shadowed: 1}, {}}
	if got := s.engine.Counts(); !slices.Equal(got, want) {
		t.Fatalf("counts %+v, want %+v", got, want)
	}
}

func TestRule_CallNumbersRunOverAllSurfacesWhenOnIsEmpty(t *testing.T) {
	plan, err := fault.Parse("p", []byte("rules: [{calls: [3], fault: error}]"))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := fault.New(plan, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, surface := range []fault.Surface{fault.ARM, fault.Disk, fault.Entra, fault.Blob} {
		recorder := httptest.NewRecorder()
		engine.Middleware(surface, plain("fine")).ServeHTTP(recorder, httptest.NewRequest("GET", "/", nil))
		got = append(got, recorder.Code)
	}
	if !slices.Equal(got, []int{200, 200, 500, 200}) {
		t.Fatalf("got %v", got)
	}
}

// firing returns which of n matching calls fire, other is how many calls of another rule come between two of them.
func firing(t *testing.T, seed int64, n, other int) string {
	t.Helper()
	engine, err := fault.New(fault.Plan{Seed: seed, Rules: []fault.Rule{
		{On: fault.Blob, Probability: 0.5, Fault: fault.Error},
		{On: fault.ARM, Probability: 0.3, Fault: fault.Error},
	}}, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	var pattern bytes.Buffer
	for range n {
		for range other {
			engine.Middleware(fault.Blob, plain("")).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		recorder := httptest.NewRecorder()
		engine.Middleware(fault.ARM, plain("")).ServeHTTP(recorder, httptest.NewRequest("GET", "/", nil))
		pattern.WriteByte("01"[recorder.Code/500])
	}
	return pattern.String()
}

func TestRule_ProbabilityDependsOnSeedRuleAndCallAlone(t *testing.T) {
	const n = 2000
	first := firing(t, 7, n, 0)
	if first != firing(t, 7, n, 3) {
		t.Fatal("the calls of another rule changed the outcome")
	}
	if first == firing(t, 8, n, 0) {
		t.Fatal("another seed gives the same outcome")
	}
	if ones := strings.Count(first, "1"); ones < n*25/100 || ones > n*35/100 {
		t.Fatalf("%d of %d fired, want about 30 %%", ones, n)
	}
}

func TestEngine_TranscriptHidesSignaturesAndStartsAtTheMark(t *testing.T) {
	s := serve(t, fault.Disk, clock.System{}, "rules: [{calls: [2], fault: error}]", plain("fine"))
	s.do(t, "GET", "/one")
	mark := s.engine.Mark()
	s.do(t, "GET", "/md-1/abcd?sv=1&sig=geheim&comp=pagelist")
	want := []fault.Call{{Number: 2, Surface: fault.Disk, Method: "GET", Path: "/md-1/abcd", Query: "sv=1&sig=REDACTED&comp=pagelist", Fault: fault.Error}}
	if got := s.engine.Calls(mark); !slices.Equal(got, want) {
		t.Fatalf("got %+v", got)
	}
	if got := s.engine.Calls(0); len(got) != 2 {
		t.Fatalf("from the start: %d calls", len(got))
	}
	if got := s.engine.Calls(99); len(got) != 0 {
		t.Fatalf("from the future: %d calls", len(got))
	}
}

func TestEngine_CountsEveryCallUnderConcurrency(t *testing.T) {
	engine, err := fault.New(fault.Plan{Rules: []fault.Rule{{Probability: 0.5, Fault: fault.Error}}}, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	handler := engine.Middleware(fault.ARM, plain("fine"))
	var failed atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				recorder := httptest.NewRecorder()
				handler.ServeHTTP(recorder, httptest.NewRequest("GET", "/", nil))
				if recorder.Code == 500 {
					failed.Add(1)
				}
			}
		})
	}
	group.Wait()
	if got := engine.Counts()[0]; got.Matched != 1600 || int64(got.Fired) != failed.Load() || got.Fired == 0 {
		t.Fatalf("counts %+v, %d failed", got, failed.Load())
	}
}

func TestEngine_SetReplacesThePlanOrKeepsTheOldOne(t *testing.T) {
	s := serve(t, fault.ARM, clock.System{}, "rules: [{fault: error}]", plain("fine"))
	if err := s.engine.Set(fault.Plan{Rules: []fault.Rule{{Fault: "explode"}}}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Fatalf("a bad plan: %v", err)
	}
	if s.do(t, "GET", "/").status != 500 {
		t.Fatal("a refused plan changed the one in force")
	}
	if err := s.engine.Set(fault.Plan{}); err != nil {
		t.Fatal(err)
	}
	if got := s.do(t, "GET", "/"); got.status != 200 || len(s.engine.Counts()) != 0 {
		t.Fatalf("after clearing: %+v", got)
	}
}

func TestParse_TheContractsExample(t *testing.T) {
	plan, err := fault.Parse("faults.yaml", []byte(`
seed: 7
rules:
  - {on: arm, method: PUT, path: "*/snapshots/*", calls: [2], probability: 0.1, fault: throttle, retryAfterSeconds: 2, afterEffect: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	rule := plan.Rules[0]
	if plan.Seed != 7 || rule.On != fault.ARM || rule.Path != "*/snapshots/*" || !slices.Equal(rule.Calls, []int{2}) ||
		rule.Probability != 0.1 || rule.RetryAfterSeconds != 2 || !rule.AfterEffect {
		t.Fatalf("got %+v", plan)
	}
}

func TestParse_RefusesAndNamesTheField(t *testing.T) {
	for _, c := range []struct{ rule, field string }{
		{"{fault: error, colour: red}", "rules[0].colour"},
		{"{on: mail, fault: error}", "rules[0].on"},
		{"{on: arm}", "rules[0].fault"},
		{"{fault: explode}", "rules[0].fault"},
		{"{fault: error, probability: 1.5}", "rules[0].probability"},
		{"{fault: error, probability: .nan}", "rules[0].probability"},
		{"{fault: error, calls: [1, 0]}", "rules[0].calls[1]"},
		{"{fault: error, probability: 0}", "rules[0].probability"},
		{"{fault: error, calls: []}", "rules[0].calls"},
		{"{fault: error, limit: -1}", "rules[0].limit"},
		{"{fault: slow}", "rules[0].delayMs"},
		{"{fault: cut, afterEffect: true}", "rules[0].afterEffect"},
		{"{fault: cut, status: 500}", "rules[0].status"},
		{"{fault: error, status: 200}", "rules[0].status"},
		{"{fault: throttle, status: 500}", "rules[0].status"},
		{"{fault: throttle, retryAfterMs: 5, retryAfterSeconds: 5}", "rules[0].retryAfterMs"},
		{"{fault: lost, retryAfterSeconds: 5}", "rules[0].retryAfterSeconds"},
		{"{fault: revoke, code: X}", "rules[0].code"},
		{"{fault: error, code: \"<x>\"}", "rules[0].code"},
	} {
		_, err := fault.Parse("f.yaml", []byte("rules:\n  - "+c.rule))
		var problem *holdfast.Error
		if !errors.As(err, &problem) || problem.Kind != holdfast.KindInvalid || problem.Field != c.field || !strings.HasPrefix(problem.Message, "f.yaml:2:") {
			t.Errorf("%s: got %v, want field %s", c.rule, err, c.field)
		}
	}
}

func TestLoad_MissingFileIsNotFound(t *testing.T) {
	if _, err := fault.Load(t.TempDir() + "/none.yaml"); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Fatalf("got %v", err)
	}
}
