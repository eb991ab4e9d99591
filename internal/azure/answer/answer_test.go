package answer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
)

func response(status int, body string, header ...string) error {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return runtime.NewResponseError(&http.Response{
		StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)),
		Request: &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: "management.example", Path: "/x", RawQuery: "sig=secret"}},
	})
}

func armBody(code, message string) string {
	return fmt.Sprintf(`{"error":{"code":%q,"message":%q}}`, code, message)
}

// TestExplain_Answers proves what kinds and hints answers of the service become, and that the service's words are kept.
func TestExplain_Answers_BecomeKinds(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		kind holdfast.Kind
		hint string
	}{
		{"not found", response(404, armBody("ResourceNotFound", "the words")), holdfast.KindNotFound, "vm list"},
		{"locked", response(409, armBody("ScopeLocked", "the words")), holdfast.KindRefused, "lock"},
		{"quota by code", response(409, armBody("QuotaExceeded", "the words")), holdfast.KindRefused, "quota"},
		{"quota by message", response(409, armBody("OperationNotAllowed", "the words (QuotaExceeded)")), holdfast.KindRefused, "quota"},
		{"busy", response(409, armBody("OperationNotAllowed", "the words")), holdfast.KindConflict, "again"},
		{"no role", response(403, armBody("AuthorizationFailed", "the words")), holdfast.KindRefused, "role"},
		{"no role on another", response(403, armBody("LinkedAuthorizationFailed", "the words")), holdfast.KindRefused, "role"},
		{"no capacity", response(409, armBody("SkuNotAvailable", "the words")), holdfast.KindUnavailable, "--size"},
		{"policy", response(403, armBody("RequestDisallowedByPolicy", "the words")), holdfast.KindRefused, "Policy"},
		{"throttled", response(429, armBody("TooManyRequests", "the words")), holdfast.KindThrottled, "again"},
		{"bad request", response(400, armBody("InvalidParameter", "the words")), holdfast.KindInvalid, ""},
		{"server error", response(500, armBody("InternalServerError", "the words")), holdfast.KindUnavailable, "again"},
		{"failed operation", response(200, `{"status":"Failed","error":{"code":"InternalOperationError","message":"the words"}}`), holdfast.KindUnavailable, "again"},
		{"failed operation with a lock", response(200, armBody("ScopeLocked", "the words")), holdfast.KindRefused, "lock"},
		{"storage", response(503, "\ufeff<?xml version=\"1.0\"?><Error><Code>ServerBusy</Code><Message>the words\nRequestId:1</Message></Error>"), holdfast.KindThrottled, "again"},
	} {
		err := answer.Explain(c.err, "do the thing")
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %v (kind %s, hint %q), want %s and %q", c.name, err, holdfast.KindOf(err), e.Hint, c.kind, c.hint)
			continue
		}
		if !strings.Contains(e.Message, "do the thing") || !strings.Contains(e.Message, "the words") || strings.Contains(e.Message, "RequestId") {
			t.Errorf("%s: message %q", c.name, e.Message)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v holds the query", c.name, err)
		}
	}
}

// TestExplain_Transport proves that an unreachable endpoint is named without the query of its URL.
func TestExplain_TransportErrors_NameTheHostAndNoQuery(t *testing.T) {
	err := answer.Explain(&url.Error{Op: "Get", URL: "https://md-1.example/x/abcd?sig=secret", Err: io.ErrUnexpectedEOF}, "read the disk")
	if !holdfast.IsKind(err, holdfast.KindUnavailable) || !strings.Contains(err.Error(), "md-1.example") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if err := answer.Explain(fmt.Errorf("x: %w", context.Canceled), "read"); !holdfast.IsKind(err, holdfast.KindCanceled) {
		t.Errorf("%v", err)
	}
	if answer.Explain(nil, "read") != nil {
		t.Error("no error became one")
	}
}

// TestUnknown proves which errors leave open what happened.
func TestUnknown_OnlyOpenOutcomes(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"lost connection", &url.Error{Op: "Put", URL: "https://h/", Err: io.EOF}, true},
		{"throttled", response(429, ""), true},
		{"server error", response(500, ""), true},
		{"explained server error", answer.Explain(response(503, ""), "x"), true},
		{"time-out", fmt.Errorf("x: %w", context.DeadlineExceeded), true},
		{"refused", response(403, armBody("AuthorizationFailed", "")), false},
		{"conflict", response(409, armBody("Conflict", "")), false},
		{"failed operation", response(200, armBody("InternalOperationError", "")), false},
		{"stopped", context.Canceled, false},
		{"none", nil, false},
	} {
		if got := answer.Unknown(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestConflict proves that waiting is tried for another operation in the way and not for a quota.
func TestConflict_WaitsForOperationsNotForQuotas(t *testing.T) {
	if !answer.Conflict(response(409, armBody("AnotherOperationInProgress", ""))) || !answer.Conflict(response(409, armBody("OperationNotAllowed", "busy"))) {
		t.Error("an operation in the way is not waited for")
	}
	if answer.Conflict(response(409, armBody("OperationNotAllowed", "exceeding approved quota"))) || answer.Conflict(response(409, armBody("PropertyChangeNotAllowed", ""))) {
		t.Error("what never passes is waited for")
	}
}

// TestRetryAfter proves that all forms of the header are understood, in the SDK's order.
func TestRetryAfter_AllForms(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		header []string
		want   time.Duration
	}{
		{[]string{"Retry-After", "303"}, 303 * time.Second},
		{[]string{"retry-after-ms", "25", "Retry-After", "1"}, 25 * time.Millisecond},
		{[]string{"x-ms-retry-after-ms", "40"}, 40 * time.Millisecond},
		{[]string{"Retry-After", now.Add(time.Minute).Format(http.TimeFormat)}, time.Minute},
		{[]string{"Retry-After", now.Add(-time.Minute).Format(http.TimeFormat)}, 0},
		{[]string{"Retry-After", "soon"}, 0},
		{nil, 0},
	} {
		if got := answer.RetryAfter(response(429, "", c.header...), now); got != c.want {
			t.Errorf("%v: %v, want %v", c.header, got, c.want)
		}
	}
}

// TestCode proves that codes and statuses are found in raw and explained errors alike.
func TestCode_SurvivesExplaining(t *testing.T) {
	raw := response(409, armBody("ScopeLocked", "x"))
	for _, err := range []error{raw, answer.Explain(raw, "x")} {
		if answer.Code(err) != "ScopeLocked" || answer.Status(err) != 409 {
			t.Errorf("%v: %q %d", err, answer.Code(err), answer.Status(err))
		}
	}
	if !answer.NotFound(response(404, "")) || answer.NotFound(&azcore.ResponseError{StatusCode: 400}) {
		t.Error("a missing resource is not told from others")
	}
}
