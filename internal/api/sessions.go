package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// SessionFilter says which sessions are wanted.
type SessionFilter struct {
	Policy  string    `query:"policy"`
	VM      string    `query:"vm" doc:"id of a machine that has a share in it"`
	Type    []string  `query:"type,explode" enum:"policy,snapshot,healthCheck,retention,removal"`
	State   []string  `query:"state,explode" enum:"queued,running,done"`
	Outcome []string  `query:"outcome,explode" enum:"success,warning,stopped,error"`
	From    time.Time `query:"from" doc:"queued at or after it"`
	To      time.Time `query:"to" doc:"queued before it"`
}

func (f SessionFilter) filter() store.Filter {
	all := store.Filter{Policy: f.Policy, VM: holdfast.ResourceID(f.VM), From: f.From, To: f.To}
	for _, t := range f.Type {
		all.Types = append(all.Types, holdfast.SessionType(t))
	}
	for _, s := range f.State {
		all.States = append(all.States, holdfast.State(s))
	}
	for _, o := range f.Outcome {
		all.Outcomes = append(all.Outcomes, holdfast.Outcome(o))
	}
	return all
}

// SessionID is the input of operations on one session.
type SessionID struct {
	ID string `path:"id"`
}

// afterLine is the input of what follows a session.
type afterLine struct {
	SessionID
	After int64 `query:"after" minimum:"0" doc:"number of the last line that is known"`
}

func (a *api) registerSessions() {
	type filtered struct {
		SessionFilter
		Paged
	}
	on(a, get("sessions", "/sessions", "Sessions, the newest first"), func(ctx context.Context, p auth.Principal, in *filtered) (view.List[view.Session], error) {
		return a.Control.Sessions(ctx, p, in.filter(), in.Limit, in.After)
	})
	on(a, get("sessionStatistics", "/sessions/statistics", "How sessions went; the last thirty days when nothing else is asked for"), func(ctx context.Context, p auth.Principal, in *SessionFilter) (view.Statistics, error) {
		return a.Control.Statistics(ctx, p, in.filter())
	})
	stream(a, get("exportSessions", "/sessions/export", "Sessions as CSV, a line for each machine of each"), "text/csv",
		func(ctx context.Context, p auth.Principal, in *filtered) (func(huma.Context), error) {
			if err := p.Require(auth.SeeSessions); err != nil {
				return nil, err
			}
			return func(out huma.Context) {
				if err := a.Control.ExportSessions(ctx, p, in.filter(), out.BodyWriter()); err != nil {
					a.Log.WarnContext(ctx, "an export broke off", "error", err)
					panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http is told to break off, so that the client sees that it is not whole
				}
			}, nil
		})
	on(a, get("session", "/sessions/{id}", "A session with the share of each machine"), func(ctx context.Context, p auth.Principal, in *SessionID) (view.Session, error) {
		return a.Control.Session(ctx, p, holdfast.RunID(in.ID))
	})
	on(a, get("sessionLog", "/sessions/{id}/log", "Lines of a session's log"), func(ctx context.Context, p auth.Principal, in *afterLine) (view.List[holdfast.LogLine], error) {
		lines, err := a.Control.Log(ctx, p, holdfast.RunID(in.ID), in.After)
		return view.List[holdfast.LogLine]{Items: lines}, err
	})
	on(a, long(change(http.MethodPost, "stopSession", "/sessions/{id}/stop", "Stop a session: points that are durable stay")), func(ctx context.Context, p auth.Principal, in *SessionID) (view.Session, error) {
		return a.Control.StopSession(ctx, p, holdfast.RunID(in.ID))
	})
	stream(a, get("watchSession", "/sessions/{id}/watch", "Follow a session until it ends: events session (as /sessions/{id}) and log (a line of its log)"), "text/event-stream",
		func(ctx context.Context, p auth.Principal, in *afterLine) (func(huma.Context), error) {
			if _, err := a.Control.Session(ctx, p, holdfast.RunID(in.ID)); err != nil {
				return nil, err
			}
			return func(out huma.Context) { a.watch(ctx, p, in, out) }, nil
		})
	type eventsAfter struct {
		After int64 `query:"after" minimum:"0" doc:"number of the last event that is known"`
		Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	on(a, get("events", "/events", "The record of what happened, the oldest first"), func(ctx context.Context, p auth.Principal, in *eventsAfter) (view.List[view.Event], error) {
		return a.Control.Events(ctx, p, in.After, in.Limit)
	})
}

// pingEvery keeps what lies between from taking the connection for dead.
const pingEvery = 15 * time.Second

// watch writes events until the session is done or nobody listens. What did not change is not told again.
func (a *api) watch(ctx context.Context, p auth.Principal, in *afterLine, out huma.Context) {
	w := &events{out: out}
	after, last, told := in.After, []byte(nil), a.Clock.Now()
	for {
		s, lines, err := a.Control.Watch(ctx, p, holdfast.RunID(in.ID), after)
		if err != nil {
			return // the connection ends; who watches asks again and gets the reason
		}
		for _, l := range lines {
			after = l.Number
			w.send("log", l)
		}
		now := s
		now.PerSecond = 0 // it changes with time alone
		if text, _ := json.Marshal(now); !bytes.Equal(text, last) || s.State == holdfast.StateDone {
			w.send("session", s)
			last, told = text, a.Clock.Now()
		}
		if a.Clock.Now().Sub(told) >= pingEvery {
			w.write(": nothing new\n\n")
			told = a.Clock.Now()
		}
		if s.State == holdfast.StateDone || w.flush() != nil || a.Clock.Sleep(ctx, a.WatchEvery) != nil {
			return
		}
	}
}

// events writes server-sent events, and remembers the first failure.
type events struct {
	out huma.Context
	err error
}

func (e *events) send(name string, value any) {
	text, err := json.Marshal(value)
	holdfast.Invariant(err == nil, "views can be written as JSON: %v", err)
	e.write(fmt.Sprintf("event: %s\ndata: %s\n\n", name, strings.ReplaceAll(string(text), "\n", "\ndata: ")))
}

func (e *events) write(text string) {
	if e.err == nil {
		_, e.err = e.out.BodyWriter().Write([]byte(text))
	}
}

func (e *events) flush() error {
	if f, ok := e.out.BodyWriter().(http.Flusher); ok {
		f.Flush()
	}
	return e.err
}
