package arm

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Call is one request on its way to a handler. View shows the state as the handler may see it; in a handler that writes,
// Tx is its transaction and View the same one's.
type Call struct {
	Context   context.Context
	Method    string
	Path      string            // as sent, without the query and without empty segments
	Params    map[string]string // what a route's template captured, in the casing sent
	Query     url.Values
	Version   string // api-version
	Principal string
	Body      state.Object // nil when the request has none
	Raw       []byte
	Now       time.Time
	View      *state.View
	Tx        *state.Tx // nil in reads

	server *Server
	base   string // public URL
	inside bool   // of the twin's own
}

// Answer is what a handler returns on success.
type Answer struct {
	Status    int // 0 means 200
	Body      any // nil for none
	Header    http.Header
	Operation *Operation // announced by the answer; Status 0 then means 202
}

// Route is a path that is not a resource's. The template's fixed segments match in any casing; {name} captures one.
type Route struct {
	Method   string
	Template string
	Versions Versions
	Action   string // the permission it needs, such as Microsoft.Compute/skus/read; "" for none
	Write    bool   // needs a transaction
	Serve    func(*Call) (Answer, error)
}

// Inside returns a call of the twin's own, which may do everything, for work in a transaction that no request asked for.
func (s *Server) Inside(ctx context.Context, tx *state.Tx) *Call {
	return &Call{Context: ctx, Principal: "twin", Now: s.clock.Now().UTC(), View: tx.View, Tx: tx, server: s, inside: true}
}

// match returns the captures, or false.
func (r *Route) match(segments []string) (map[string]string, bool) {
	template := splitPath(r.Template)
	if len(template) != len(segments) {
		return nil, false
	}
	captured := map[string]string{}
	for i, part := range template {
		if name, isCapture := strings.CutPrefix(part, "{"); isCapture {
			captured[strings.TrimSuffix(name, "}")] = segments[i]
			continue
		}
		if !strings.EqualFold(part, segments[i]) {
			return nil, false
		}
	}
	return captured, true
}

// Decision is what the fault engine wants of this request.
func (call *Call) Decision() fault.Decision { return fault.From(call.Context) }

// May reports whether the caller may do action, such as Microsoft.Compute/disks/beginGetAccess/action.
func (call *Call) May(action string) bool {
	return call.inside || allows(call.server.granted(), action)
}

// IsInside reports whether the call is the twin's own rather than a request.
func (call *Call) IsInside() bool { return call.inside }

// subscription returns the path's subscription in lower case, or "".
func (call *Call) subscription() string {
	segments := splitPath(call.Path)
	if len(segments) > 1 && strings.EqualFold(segments[0], "subscriptions") {
		return strings.ToLower(segments[1])
	}
	return ""
}

// splitPath leaves empty segments out, as the platform does: its generic clients leave one where a resource has no parent
// (Microsoft.Compute//virtualMachines/web-1).
func splitPath(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
