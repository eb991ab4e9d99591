package client

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// Stream is a long answer as it comes. The caller closes it.
type Stream = io.ReadCloser

func (c *Client) stream(ctx context.Context, path string, query url.Values) (Stream, error) {
	response, err := c.once(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// Watched is one thing that happened to a session that is watched; exactly one field is set.
type Watched struct {
	Session *view.Session     // its new figures
	Line    *holdfast.LogLine // a line of its log
}

// Watch follows a session until it ends: its figures when they change, its log as it grows. The last thing is the session, done. When the
// connection breaks it is made again, and goes on where it was.
func (c *Client) Watch(ctx context.Context, id holdfast.RunID) iter.Seq2[Watched, error] {
	return func(yield func(Watched, error) bool) {
		var last int64
		for failures := 0; ; failures++ {
			done, err := c.watchOnce(ctx, id, &last, func(w Watched) bool {
				failures = 0
				return yield(w, nil)
			})
			if done {
				return
			}
			if err == nil {
				err = holdfast.Errorf(holdfast.KindUnavailable, "the connection to the server ended")
			}
			if ctx.Err() != nil || failures >= attempts || !holdfast.IsKind(err, holdfast.KindUnavailable) {
				yield(Watched{}, err)
				return
			}
			if err := c.clock.Sleep(ctx, time.Second); err != nil {
				yield(Watched{}, err)
				return
			}
		}
	}
}

// watchOnce reads events until the session is done or nobody wants more (both are done), or the connection ends.
func (c *Client) watchOnce(ctx context.Context, id holdfast.RunID, last *int64, tell func(Watched) bool) (done bool, err error) {
	body, err := c.stream(ctx, sessionPath(id)+"/watch", url.Values{"after": {strconv.FormatInt(*last, 10)}})
	if err != nil {
		return false, err
	}
	defer func() { _ = body.Close() }() // it was read to where it matters
	for e := range serverEvents(body) {
		switch e.name {
		case "session":
			var s view.Session
			if err := json.Unmarshal(e.data, &s); err != nil {
				return false, holdfast.Wrap(holdfast.KindInternal, err, "an event of the server cannot be read")
			}
			if !tell(Watched{Session: &s}) || s.State == holdfast.StateDone {
				return true, nil
			}
		case "log":
			var l holdfast.LogLine
			if err := json.Unmarshal(e.data, &l); err != nil {
				return false, holdfast.Wrap(holdfast.KindInternal, err, "an event of the server cannot be read")
			}
			*last = l.Number
			if !tell(Watched{Line: &l}) {
				return true, nil
			}
		}
	}
	return false, ctx.Err()
}

type serverEvent struct {
	name string
	data []byte
}

// eventMax bounds one line of an event stream: a session of ten thousand machines.
const eventMax = 16 << 20

// serverEvents takes a stream of server-sent events apart, as the HTML standard has it, as far as Holdfast's servers use it.
func serverEvents(r io.Reader) iter.Seq[serverEvent] {
	return func(yield func(serverEvent) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, eventMax)
		var e serverEvent
		for lines.Scan() {
			line := lines.Text()
			switch {
			case line == "":
				if e.data != nil && !yield(e) {
					return
				}
				e = serverEvent{}
			case strings.HasPrefix(line, "event:"):
				e.name = strings.TrimSpace(strings.TrimPrefix(line, "event:"))
			case strings.HasPrefix(line, "data:"):
				e.data = append(e.data, strings.TrimPrefix(strings.TrimPrefix(line, "data:"), " ")...)
			}
		}
	}
}
