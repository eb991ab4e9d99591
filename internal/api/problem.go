package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-backup/holdfast"
)

// problem is how the interface says what is wrong: RFC 9457, with the kind of the error and what to do.
type problem struct {
	Type   string        `json:"type"`
	Title  string        `json:"title"`
	Status int           `json:"status"`
	Detail string        `json:"detail"`
	Kind   holdfast.Kind `json:"kind"`
	Hint   string        `json:"hint,omitempty"`
	Field  string        `json:"field,omitempty"`
	Errors []part        `json:"errors,omitempty"`
}

// part is one of several mistakes in one input.
type part struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// Error implements error.
func (p *problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// teach makes huma speak as we do, wherever it finds fault itself. What it offers for that are variables of its package: interfaces are made one
// after the other.
func teach() {
	huma.DefaultArrayNullable = false
	huma.NewError = func(status int, text string, causes ...error) huma.StatusError {
		p := &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Kind: kindOf(status), Detail: text}
		for _, cause := range causes {
			if d, ok := cause.(huma.ErrorDetailer); ok && d.ErrorDetail() != nil {
				p.Errors = append(p.Errors, part{Message: d.ErrorDetail().Message, Location: d.ErrorDetail().Location})
			} else if cause != nil {
				p.Errors = append(p.Errors, part{Message: cause.Error()})
			}
		}
		if len(p.Errors) > 0 {
			p.Field, p.Hint = p.Errors[0].Location, "see what is accepted at /openapi.json"
		}
		return p
	}
}

// kindOf says what sort of failure a status is that huma chose.
func kindOf(status int) holdfast.Kind {
	switch {
	case status == http.StatusNotFound:
		return holdfast.KindNotFound
	case status < http.StatusInternalServerError:
		return holdfast.KindInvalid
	}
	return holdfast.KindInternal
}

// statusOf maps kinds to HTTP.
func statusOf(kind holdfast.Kind) int {
	switch kind {
	case holdfast.KindInvalid, holdfast.KindWrongKey:
		return http.StatusUnprocessableEntity
	case holdfast.KindNotFound:
		return http.StatusNotFound
	case holdfast.KindConflict:
		return http.StatusConflict
	case holdfast.KindRefused:
		return http.StatusForbidden
	case holdfast.KindThrottled:
		return http.StatusTooManyRequests
	case holdfast.KindUnavailable, holdfast.KindCanceled:
		return http.StatusServiceUnavailable
	case holdfast.KindCorrupt, holdfast.KindInternal:
	}
	return http.StatusInternalServerError
}

// problem turns an error into one for the client. What nobody outside can do anything about goes to the log.
func (a *api) problem(ctx context.Context, err error) error {
	p := problemOf(statusOf(holdfast.KindOf(err)), err)
	if p.Kind == holdfast.KindInternal {
		a.Log.ErrorContext(ctx, "a request failed", "error", err)
		p.Detail = "the server failed"
		p.Hint = "look into the log of the server, and report what it says"
	}
	return p
}

func problemOf(status int, err error) *problem {
	p := &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Kind: holdfast.KindOf(err), Detail: err.Error()}
	var e *holdfast.Error
	if errors.As(err, &e) {
		p.Hint, p.Field = e.Hint, e.Field
	}
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return p
	}
	parts := several.Unwrap()
	if len(parts) < 2 { //nolint:mnd // one is told above
		return p
	}
	p.Hint, p.Field = "", ""
	for _, one := range parts {
		var e *holdfast.Error
		if errors.As(one, &e) {
			p.Errors = append(p.Errors, part{Message: one.Error(), Location: e.Field, Hint: e.Hint})
		}
	}
	return p
}

// writeProblem answers outside of huma.
func writeProblem(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problemOf(status, err)) // nobody is left to tell
}
