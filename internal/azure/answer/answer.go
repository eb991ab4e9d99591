// Package answer explains what Azure answered, or failed to answer.
//
// It turns errors of the SDK into *holdfast.Error values that an operator can act on, and it answers the one question that
// every change of the cloud depends on: is it known what happened? A lost answer, a timeout, and a throttle that came after
// the work was done leave the outcome unknown; whoever meets that looks the resource up by the name chosen beforehand and
// never assumes either way.
//
// Nothing here keeps or prints the query of a URL: the query of a managed-disk URL is a key to the disk's content.
package answer

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/holdfast-backup/holdfast"
)

// Cause is what a service answered, short enough for one line of a log.
type Cause struct {
	Status  int    // HTTP status; 200 when an operation that was accepted failed later
	Code    string // the service's error code; "" when it gave none
	Message string // the service's own words
}

// Error implements error.
func (c *Cause) Error() string {
	switch {
	case c.Code == "":
		return fmt.Sprintf("HTTP %d", c.Status)
	case c.Message == "":
		return fmt.Sprintf("%s (HTTP %d)", c.Code, c.Status)
	}
	return fmt.Sprintf("%s (HTTP %d): %s", c.Code, c.Status, c.Message)
}

// Explain makes an *holdfast.Error of what the SDK returned. doing says what was attempted, as in "read the virtual machine
// web-1"; it becomes part of the message. A nil error stays nil, and an error that was explained before keeps its kind.
func Explain(err error, doing string) error {
	if err == nil {
		return nil
	}
	var explained *holdfast.Error
	if errors.As(err, &explained) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return holdfast.Wrap(holdfast.KindCanceled, context.Canceled, "stopped while trying to %s", doing)
	}
	if credential := explainCredential(err, doing); credential != nil {
		return credential
	}
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return explainResponse(CauseOf(response), doing)
	}
	return explainTransport(err, doing)
}

// Code returns the service's error code in err's chain, "" when there is none. Codes compare case-insensitively; the
// result is in the service's own casing.
func Code(err error) string {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return response.ErrorCode
	}
	var cause *Cause
	if errors.As(err, &cause) {
		return cause.Code
	}
	return ""
}

// Status returns the HTTP status in err's chain, 0 when no answer came.
func Status(err error) int {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return response.StatusCode
	}
	var cause *Cause
	if errors.As(err, &cause) {
		return cause.Status
	}
	return 0
}

// NotFound reports whether the service said that the thing does not exist.
func NotFound(err error) bool {
	switch {
	case err == nil:
		return false
	case Status(err) == http.StatusNotFound || Status(err) == http.StatusGone:
		return true
	}
	return holdfast.IsKind(err, holdfast.KindNotFound)
}

// Unknown reports whether err leaves open what happened: the request may have taken effect. A refusal, a failed
// operation and a cancelled context are known outcomes; in the last case the caller has given up asking.
func Unknown(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return transient(response.StatusCode)
	}
	var cause *Cause
	if errors.As(err, &cause) {
		return transient(cause.Status)
	}
	var unavailable *azidentity.AuthenticationFailedError
	if errors.As(err, &unavailable) {
		return unavailable.RawResponse == nil || transient(unavailable.RawResponse.StatusCode)
	}
	var explained *holdfast.Error
	if errors.As(err, &explained) {
		return explained.Kind == holdfast.KindUnavailable || explained.Kind == holdfast.KindThrottled
	}
	var final interface{ NonRetriable() }
	return !permanentTransport(err) && !errors.As(err, &final)
}

// Conflict reports whether another operation stands in the way, so that waiting may help.
func Conflict(err error) bool {
	if Status(err) != http.StatusConflict {
		return false
	}
	switch strings.ToLower(Code(err)) {
	case "operationnotallowed":
		return !aboutQuota(err) // a quota does not pass by waiting
	case "conflict", "anotheroperationinprogress", "retryableerror", "operationpreempted":
		return true
	}
	return false
}

// aboutQuota reports whether an OperationNotAllowed means an exhausted quota, which has no code of its own.
func aboutQuota(err error) bool {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return saysQuota(CauseOf(response))
	}
	var cause *Cause
	return errors.As(err, &cause) && saysQuota(cause)
}

func saysQuota(cause *Cause) bool { return strings.Contains(strings.ToLower(cause.Message), "quota") }

// RetryAfter returns how long the service asked to wait, 0 when it did not. now is needed for the date form of the header.
func RetryAfter(err error, now time.Time) time.Duration {
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.RawResponse == nil {
		return 0
	}
	header := response.RawResponse.Header
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if ms, err := strconv.Atoi(header.Get(name)); err == nil && ms > 0 {
			return time.Duration(ms) * time.Millisecond
		}
	}
	text := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// transient reports whether a status says: perhaps later. 408 and 5xx may come after the work was done, and so may 429.
func transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// CauseOf reads code and message out of a response. ARM answers {"error":{code,message}}, a failed operation the same with
// a status, the storage service XML; the code may also stand in a header alone.
func CauseOf(response *azcore.ResponseError) *Cause {
	cause := &Cause{Status: response.StatusCode, Code: response.ErrorCode}
	if response.RawResponse == nil {
		return cause
	}
	body, err := runtime.Payload(response.RawResponse)
	if err != nil || len(body) == 0 {
		return cause
	}
	var arm struct {
		Error   *struct{ Code, Message string }
		Code    string
		Message string
	}
	var storage struct {
		Code    string
		Message string
	}
	switch {
	case json.Unmarshal(body, &arm) == nil && arm.Error != nil:
		cause.fill(arm.Error.Code, arm.Error.Message)
	case arm.Code != "":
		cause.fill(arm.Code, arm.Message)
	case xml.Unmarshal(body, &storage) == nil:
		cause.fill(storage.Code, storage.Message)
	}
	return cause
}

func (c *Cause) fill(code, message string) {
	if c.Code == "" {
		c.Code = code
	}
	// The storage service adds lines with the request id and the time; they say nothing to a reader.
	message, _, _ = strings.Cut(message, "\n")
	c.Message = strings.TrimSpace(message)
}

func explainResponse(cause *Cause, doing string) error {
	rule := ruleFor(cause)
	message := cause.Message
	if message == "" {
		message = cause.Error()
	}
	return holdfast.Wrap(rule.kind, cause, "could not %s: %s", doing, strings.TrimSuffix(message, ".")).WithHint("%s", rule.hint)
}

func explainCredential(err error, doing string) error {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) {
		if failed.RawResponse == nil || transient(failed.RawResponse.StatusCode) {
			return holdfast.Wrap(holdfast.KindUnavailable, scrub(err), "could not %s: no token came from the sign-in endpoint", doing).
				WithHint("check endpoints.activeDirectory and the network, then try again")
		}
		return holdfast.Wrap(holdfast.KindRefused, signInError(failed.RawResponse), "could not %s: signing in was refused", doing).
			WithHint("check tenantId, clientId and the secret or certificate in the --azure file; a secret may have expired")
	}
	// azidentity does not export the type of this one; it is found by its method.
	var unavailable interface {
		error
		NonRetriable()
	}
	if errors.As(err, &unavailable) && strings.Contains(err.Error(), "Credential") {
		return holdfast.Wrap(holdfast.KindRefused, scrub(err), "could not %s: the configured identity is not available here", doing).
			WithHint("a managed or workload identity exists only where Azure provides it; elsewhere use a client secret or certificate")
	}
	return nil
}

// signInError keeps what the token endpoint said: {"error":"invalid_client","error_description":"AADSTS…"}.
func signInError(response *http.Response) error {
	cause := &Cause{Status: response.StatusCode}
	body, err := runtime.Payload(response)
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err == nil && json.Unmarshal(body, &answer) == nil {
		cause.fill(answer.Error, answer.Description)
	}
	return cause
}

func explainTransport(err error, doing string) error {
	host := hostOf(err)
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &authority), errors.As(err, &hostname):
		return holdfast.Wrap(holdfast.KindUnavailable, scrub(err), "could not %s: the certificate of %s is not trusted", doing, host).
			WithHint("name the issuing authority with caFile in the --azure file, or correct the endpoint")
	case errors.Is(err, context.DeadlineExceeded):
		return holdfast.Wrap(holdfast.KindUnavailable, scrub(err), "could not %s: %s did not answer in time", doing, host).
			WithHint("try again; if it stays so, check the network between here and the endpoint")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), isNetwork(err):
		return holdfast.Wrap(holdfast.KindUnavailable, scrub(err), "could not %s: %s cannot be reached", doing, host).
			WithHint("check the endpoints in the --azure file and the network, then try again")
	}
	return holdfast.Wrap(holdfast.KindInternal, scrub(err), "could not %s", doing)
}

func isNetwork(err error) bool {
	var urlError *url.Error
	var netError net.Error
	return errors.As(err, &urlError) || errors.As(err, &netError)
}

// permanentTransport reports whether a request cannot have reached the service and never will.
func permanentTransport(err error) bool {
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	return errors.As(err, &authority) || errors.As(err, &hostname)
}

func hostOf(err error) string {
	var urlError *url.Error
	if errors.As(err, &urlError) {
		if u, parseErr := url.Parse(urlError.URL); parseErr == nil && u.Host != "" {
			return u.Host
		}
	}
	return "the endpoint"
}

// scrub drops the URL that the HTTP client puts into its errors: its query may be a SAS.
func scrub(err error) error {
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return fmt.Errorf("%s: %w", strings.ToLower(urlError.Op), urlError.Err)
	}
	return err
}
