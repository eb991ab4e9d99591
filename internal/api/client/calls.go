package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// prefix is where the interface begins.
const prefix = "/api/v1"

// About says who the server is.
func (c *Client) About(ctx context.Context) (view.Server, error) {
	return get[view.Server](ctx, c, prefix+"/server", nil)
}

// SignIn trades a name and a password for a token.
func (c *Client) SignIn(ctx context.Context, in view.SignIn) (view.SignedIn, error) {
	return send[view.SignedIn](ctx, c, http.MethodPost, prefix+"/sign-in", in)
}

// SignOut ends the token.
func (c *Client) SignOut(ctx context.Context) error {
	_, err := send[struct{}](ctx, c, http.MethodPost, prefix+"/sign-out", nil)
	return err
}

// Me says who the token belongs to.
func (c *Client) Me(ctx context.Context) (view.Me, error) {
	return get[view.Me](ctx, c, prefix+"/me", nil)
}

// SetPassword changes the own password.
func (c *Client) SetPassword(ctx context.Context, in view.NewPassword) error {
	_, err := send[struct{}](ctx, c, http.MethodPut, prefix+"/me/password", in)
	return err
}

// Documents returns what is in force.
func (c *Client) Documents(ctx context.Context) ([]view.Document, error) {
	l, err := get[view.List[view.Document]](ctx, c, prefix+"/documents", nil)
	return l.Items, err
}

// Plan says what a proposal would change.
func (c *Client) Plan(ctx context.Context, p view.Proposal) (view.Plan, error) {
	return call[view.Plan](ctx, c, request{method: http.MethodPost, path: prefix + "/documents/plan", body: p})
}

// Apply makes a proposal the documents in force.
func (c *Client) Apply(ctx context.Context, p view.Proposal) (view.Applied, error) {
	return send[view.Applied](ctx, c, http.MethodPost, prefix+"/documents/apply", p)
}

func policyPath(name string) string { return prefix + "/policies/" + url.PathEscape(name) }

// Policies returns all policies, in the order in which they go.
func (c *Client) Policies(ctx context.Context) ([]view.Policy, error) {
	l, err := get[view.List[view.Policy]](ctx, c, prefix+"/policies", nil)
	return l.Items, err
}

// Policy returns one policy with its document.
func (c *Client) Policy(ctx context.Context, name string) (view.Policy, error) {
	return get[view.Policy](ctx, c, policyPath(name), nil)
}

// RunPolicy starts a policy now.
func (c *Client) RunPolicy(ctx context.Context, name string) (view.Started, error) {
	return send[view.Started](ctx, c, http.MethodPost, policyPath(name)+"/run", nil)
}

// StopPolicy asks the sessions of a policy to stop.
func (c *Client) StopPolicy(ctx context.Context, name string) (view.Stopped, error) {
	return send[view.Stopped](ctx, c, http.MethodPost, policyPath(name)+"/stop", nil)
}

// PatchPolicy enables, disables or moves a policy.
func (c *Client) PatchPolicy(ctx context.Context, name string, p view.PolicyPatch) (view.Policy, error) {
	return send[view.Policy](ctx, c, http.MethodPatch, policyPath(name), p)
}

// ClonePolicy copies a policy, disabled, under another name.
func (c *Client) ClonePolicy(ctx context.Context, name string, in view.ClonePolicy) (view.Policy, error) {
	return send[view.Policy](ctx, c, http.MethodPost, policyPath(name)+"/clone", in)
}

// RemovePolicy removes a policy. Its points stay, and age by what it said last.
func (c *Client) RemovePolicy(ctx context.Context, name string) error {
	_, err := send[struct{}](ctx, c, http.MethodDelete, policyPath(name), nil)
	return err
}

func days(n int) url.Values { return url.Values{"days": {strconv.Itoa(n)}} }

// Preview says what a policy will do in the days to come.
func (c *Client) Preview(ctx context.Context, name string, n int) (preview.Summary, error) {
	return get[preview.Summary](ctx, c, policyPath(name)+"/preview", days(n))
}

// PreviewEvents copies the events of a preview, one JSON value a line, as they come.
func (c *Client) PreviewEvents(ctx context.Context, name string, n int) (Stream, error) {
	return c.stream(ctx, policyPath(name)+"/preview/events", days(n))
}

// SessionFilter says which sessions are wanted; what is empty wants all.
type SessionFilter struct {
	Policy   string
	VM       holdfast.ResourceID
	Types    []string
	States   []string
	Outcomes []string
	From, To time.Time // queued in [From, To)
	Limit    int
	After    string
}

func (f SessionFilter) values() url.Values {
	q := url.Values{}
	set(q, "policy", f.Policy)
	set(q, "vm", string(f.VM))
	set(q, "type", f.Types...)
	set(q, "state", f.States...)
	set(q, "outcome", f.Outcomes...)
	setTime(q, "from", f.From)
	setTime(q, "to", f.To)
	setPage(q, f.Limit, f.After)
	return q
}

func set(q url.Values, name string, values ...string) {
	for _, v := range values {
		if v != "" {
			q.Add(name, v)
		}
	}
}

func setTime(q url.Values, name string, t time.Time) {
	if !t.IsZero() {
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

func setPage(q url.Values, limit int, after string) {
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	set(q, "after", after)
}

// Sessions returns a page of sessions, the newest first.
func (c *Client) Sessions(ctx context.Context, f SessionFilter) (view.List[view.Session], error) {
	return get[view.List[view.Session]](ctx, c, prefix+"/sessions", f.values())
}

// SessionsCSV copies all sessions that a filter wants, a line for each machine of each.
func (c *Client) SessionsCSV(ctx context.Context, f SessionFilter) (Stream, error) {
	return c.stream(ctx, prefix+"/sessions/export", f.values())
}

// Statistics says how the sessions that a filter wants went.
func (c *Client) Statistics(ctx context.Context, f SessionFilter) (view.Statistics, error) {
	return get[view.Statistics](ctx, c, prefix+"/sessions/statistics", f.values())
}

func sessionPath(id holdfast.RunID) string { return prefix + "/sessions/" + url.PathEscape(string(id)) }

// Session returns one session with the share of each machine.
func (c *Client) Session(ctx context.Context, id holdfast.RunID) (view.Session, error) {
	return get[view.Session](ctx, c, sessionPath(id), nil)
}

// SessionLog returns the lines of a session's log after a number.
func (c *Client) SessionLog(ctx context.Context, id holdfast.RunID, after int64) ([]holdfast.LogLine, error) {
	l, err := get[view.List[holdfast.LogLine]](ctx, c, sessionPath(id)+"/log", url.Values{"after": {strconv.FormatInt(after, 10)}})
	return l.Items, err
}

// StopSession asks a session to stop.
func (c *Client) StopSession(ctx context.Context, id holdfast.RunID) (view.Session, error) {
	return send[view.Session](ctx, c, http.MethodPost, sessionPath(id)+"/stop", nil)
}

// MachineFilter says which machines are wanted; what is empty wants all that are there.
type MachineFilter struct {
	Policy      string
	Region      string
	Search      string // part of the name or id
	Unprotected bool
	Gone        bool // those that were deleted as well
	Limit       int
	After       string
}

// Machines returns a page of machines, by id.
func (c *Client) Machines(ctx context.Context, f MachineFilter) (view.List[view.Machine], error) {
	q := url.Values{}
	set(q, "policy", f.Policy)
	set(q, "region", f.Region)
	set(q, "search", f.Search)
	if f.Unprotected {
		q.Set("unprotected", "true")
	}
	if f.Gone {
		q.Set("gone", "true")
	}
	setPage(q, f.Limit, f.After)
	return get[view.List[view.Machine]](ctx, c, prefix+"/machines", q)
}

// Discover looks at the cloud now.
func (c *Client) Discover(ctx context.Context) error {
	_, err := send[struct{}](ctx, c, http.MethodPost, prefix+"/machines/discover", nil)
	return err
}

// Snapshot makes a snapshot of a machine by hand. vm is an id, or a name that only one machine has.
func (c *Client) Snapshot(ctx context.Context, vm string) (view.Session, error) {
	return send[view.Session](ctx, c, http.MethodPost, prefix+"/machines/snapshot", map[string]string{"vm": vm})
}

// PointFilter says which points are wanted; what is empty wants all that are there.
type PointFilter struct {
	VM         string // an id, or a name that only one machine has
	Policy     string
	Kinds      []string
	Repository string
	Removed    bool // those that are gone as well
	Limit      int
	After      string
}

// Points returns a page of restore points, the newest first.
func (c *Client) Points(ctx context.Context, f PointFilter) (view.List[view.Point], error) {
	q := url.Values{}
	set(q, "vm", f.VM)
	set(q, "policy", f.Policy)
	set(q, "kind", f.Kinds...)
	set(q, "repository", f.Repository)
	if f.Removed {
		q.Set("removed", "true")
	}
	setPage(q, f.Limit, f.After)
	return get[view.List[view.Point]](ctx, c, prefix+"/points", q)
}

// RemovePoints removes points, or says what that would do.
func (c *Client) RemovePoints(ctx context.Context, in view.RemovePoints) (view.Removal, error) {
	return send[view.Removal](ctx, c, http.MethodPost, prefix+"/points/remove", in)
}

// ReportFilter says what a report tells.
type ReportFilter struct {
	Period    string // daily, weekly or monthly
	From, To  string // first days of periods, both included, such as 2026-03-01; both empty: the last 14 days, 12 weeks or 12 months
	VM        holdfast.ResourceID
	Slots     string // which expectations: none, missed or all; missed when empty
	ProvenNow bool
}

// SLAReport says how an SLA policy did.
func (c *Client) SLAReport(ctx context.Context, policy string, f ReportFilter) (report.Report, error) {
	q := url.Values{"period": {f.Period}}
	set(q, "from", f.From)
	set(q, "to", f.To)
	set(q, "vm", string(f.VM))
	set(q, "slots", f.Slots)
	if f.ProvenNow {
		q.Set("provenNow", "true")
	}
	return get[report.Report](ctx, c, policyPath(policy)+"/sla", q)
}

// Repositories returns all repositories.
func (c *Client) Repositories(ctx context.Context) ([]view.Repository, error) {
	l, err := get[view.List[view.Repository]](ctx, c, prefix+"/repositories", nil)
	return l.Items, err
}

// Repository returns one repository, looked at now.
func (c *Client) Repository(ctx context.Context, name string) (view.Repository, error) {
	return get[view.Repository](ctx, c, prefix+"/repositories/"+url.PathEscape(name), nil)
}

// AddRepository declares a repository, and opens or makes it.
func (c *Client) AddRepository(ctx context.Context, in view.AddRepository) (view.Connected, error) {
	return send[view.Connected](ctx, c, http.MethodPost, prefix+"/repositories", in)
}

// RemoveRepository forgets a repository that nothing uses. What is stored in it stays.
func (c *Client) RemoveRepository(ctx context.Context, name string) error {
	_, err := send[struct{}](ctx, c, http.MethodDelete, prefix+"/repositories/"+url.PathEscape(name), nil)
	return err
}

// TestNotifications sends a trial message.
func (c *Client) TestNotifications(ctx context.Context, in view.TestNotification) (view.Delivered, error) {
	return send[view.Delivered](ctx, c, http.MethodPost, prefix+"/notifications/test", in)
}

// Events returns lines of the record after a number, the oldest first.
func (c *Client) Events(ctx context.Context, after int64, limit int) ([]view.Event, error) {
	q := url.Values{"after": {strconv.FormatInt(after, 10)}}
	setPage(q, limit, "")
	l, err := get[view.List[view.Event]](ctx, c, prefix+"/events", q)
	return l.Items, err
}
