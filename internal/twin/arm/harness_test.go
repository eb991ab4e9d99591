package arm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/network"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/storageaccount"
)

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	base         = "/subscriptions/" + subscription
	shop         = base + "/resourceGroups/shop"
	resources    = "?api-version=2025-04-01"
	networks     = "?api-version=2025-05-01"
	authority    = "?api-version=2020-05-01"
	accounts     = "?api-version=2025-01-01"
)

// front is the ARM server with the network and storage types, which stand for any provider's.
type front struct {
	t        *testing.T
	clock    *clock.Manual
	dir      string
	state    *state.Store
	arm      *arm.Server
	server   *httptest.Server
	decision func(*http.Request) fault.Decision
	header   http.Header // added to every request
}

// newFront starts a front with one subscription on a clock that stands still.
func newFront(t *testing.T, change func(*arm.Config)) *front {
	t.Helper()
	f := &front{t: t, dir: t.TempDir(), clock: clock.NewManual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	f.open(change)
	t.Cleanup(func() { f.close() })
	return f
}

func (f *front) open(change func(*arm.Config)) {
	f.t.Helper()
	var err error
	if f.state, err = state.Open(f.dir); err != nil {
		f.t.Fatal(err)
	}
	config := arm.Config{
		State: f.state, Clock: f.clock, TenantID: "tenant", Limits: arm.Limits{Off: true}, OperationTime: time.Second, PollAfter: 1500 * time.Millisecond,
		Subscriptions: []arm.Subscription{{ID: subscription, Name: "production"}},
	}
	if change != nil {
		change(&config)
	}
	if f.arm, err = arm.New(config); err != nil {
		f.t.Fatal(err)
	}
	network.Register(f.arm)
	storageaccount.Register(f.arm, storageaccount.Config{})
	f.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.decision != nil {
			r = r.WithContext(fault.With(r.Context(), f.decision(r)))
		}
		f.arm.Handler().ServeHTTP(w, r)
	}))
}

func (f *front) close() {
	f.server.Close()
	_ = f.state.Close()
}

// do sends a request; path may be a whole URL of this server.
func (f *front) do(method, path, body string) (int, http.Header, state.Object) {
	f.t.Helper()
	request, err := http.NewRequestWithContext(f.t.Context(), method, f.server.URL+strings.TrimPrefix(path, f.server.URL), strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	maps.Copy(request.Header, f.header)
	response, err := f.server.Client().Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	answer := state.Object{}
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := json.Unmarshal(raw, &answer); err != nil {
			f.t.Fatalf("%s %s answered %q", method, path, raw)
		}
	}
	if response.StatusCode >= 400 && method != http.MethodHead && (answer.Text("error.code") == "" || answer.Text("error.message") == "") {
		f.t.Errorf("%s %s: %d without ARM's error body: %s", method, path, response.StatusCode, raw)
	}
	return response.StatusCode, response.Header, answer
}

// want sends a request and fails unless it is answered with that status and, for errors, that code.
func (f *front) want(method, path, body string, status int, code string) state.Object {
	f.t.Helper()
	have, _, answer := f.do(method, path, body)
	if have != status || answer.Text("error.code") != code {
		f.t.Errorf("%s %s: %d %v, want %d %s", method, path, have, answer, status, code)
	}
	return answer
}

// complete sends a request that starts an operation, lets it come due and returns its status document.
func (f *front) complete(method, path, body string) state.Object {
	f.t.Helper()
	status, header, answer := f.do(method, path, body)
	if status > 202 || header.Get("Azure-AsyncOperation") == "" {
		f.t.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	f.clock.Advance(time.Second)
	_, _, outcome := f.do(http.MethodGet, header.Get("Azure-AsyncOperation"), "")
	return outcome
}

func (f *front) makeGroup() {
	f.t.Helper()
	f.want(http.MethodPut, shop+resources, `{"location":"West Europe","tags":{"team":"web"}}`, 201, "")
}

const securityGroups = shop + "/providers/Microsoft.Network/networkSecurityGroups/"

// makeSecurityGroup makes the simplest resource there is.
func (f *front) makeSecurityGroup(name, tags string) {
	f.t.Helper()
	outcome := f.complete(http.MethodPut, securityGroups+name+networks, `{"location":"westeurope","tags":{`+tags+`}}`)
	if outcome.Text("status") != "Succeeded" {
		f.t.Fatalf("%s: %v", name, outcome)
	}
}

var errNoToken = errors.New("no token")
