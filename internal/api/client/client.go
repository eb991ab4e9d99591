// Package client speaks to a Holdfast server over its REST interface: what the commands use, and what a Go program may use.
//
// It promises that a refusal of the server comes back as the same kind of error, with its field and hint, that a request whose outcome is
// unknown is sent again under the same idempotency key, so that nothing is done twice, and that no token is ever in an error.
// It must never follow a redirect to another host with the token.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Config says which server is spoken to, and as whom.
type Config struct {
	Server string      // https://HOST:PORT
	Token  string      // "" before somebody has signed in
	CA     string      // file with certificates that are trusted beside the system's; may be empty
	Certs  string      // such certificates themselves, in PEM; may be empty
	Clock  clock.Clock // waits between attempts
}

// Client speaks to one server. Safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	clock clock.Clock
}

// Limits of one exchange.
const (
	connectTimeout = 10 * time.Second
	answerMax      = 64 << 20
	attempts       = 4
)

// New makes a client. It is KindInvalid for an address that is none.
func New(c Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(c.Server, "/"))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" || base.Path != "" {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%q is no address of a server", c.Server).WithField("server").WithHint("write it as https://HOST:PORT")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one by its documentation
	transport.TLSHandshakeTimeout = connectTimeout
	if transport.TLSClientConfig, err = trust(c.CA, c.Certs); err != nil {
		return nil, err
	}
	return &Client{base: base, token: c.Token, clock: c.Clock, http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}, nil
}

// trust takes further certificates, from a file and as they are.
func trust(file, certs string) (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" && certs == "" {
		return settings, nil
	}
	var err error
	if settings.RootCAs, err = x509.SystemCertPool(); err != nil {
		settings.RootCAs = x509.NewCertPool()
	}
	if certs != "" && !settings.RootCAs.AppendCertsFromPEM([]byte(certs)) {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the certificates are none").WithField("ca").WithHint("certificates are written in PEM")
	}
	if file == "" {
		return settings, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the certificates cannot be read").WithField("ca")
	}
	if !settings.RootCAs.AppendCertsFromPEM(data) {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%s holds no certificate", file).WithField("ca").WithHint("name a file with certificates in PEM")
	}
	return settings, nil
}

// Server is the address that the client speaks to.
func (c *Client) Server() string { return c.base.String() }

// get reads a resource.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return call[T](ctx, c, request{method: http.MethodGet, path: path, query: query})
}

// send asks for a change.
func send[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	return call[T](ctx, c, request{method: method, path: path, body: body, key: uuid.NewString()})
}

// request is one that may be sent several times.
type request struct {
	method, path string
	query        url.Values
	body         any
	key          string // of idempotency; "" of what changes nothing
}

// call sends a request until its outcome is known, and reads the answer.
func call[T any](ctx context.Context, c *Client, r request) (answer T, err error) {
	pause := 200 * time.Millisecond
	for attempt := 1; ; attempt++ {
		answer, err = once[T](ctx, c, r)
		if err == nil {
			return answer, nil
		}
		if attempt == attempts || ctx.Err() != nil || !holdfast.IsKind(err, holdfast.KindUnavailable) {
			return answer, err
		}
		if err := c.clock.Sleep(ctx, pause); err != nil {
			return answer, err
		}
		pause *= 4
	}
}

func once[T any](ctx context.Context, c *Client, r request) (answer T, err error) {
	response, err := c.once(ctx, r)
	if err != nil {
		return answer, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	return read[T](response)
}

// once sends a request once. The caller closes the body of an answer that is no error.
func (c *Client) once(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		data, err := json.Marshal(r.body)
		holdfast.Invariant(err == nil, "a request can be written as JSON: %v", err)
		body = bytes.NewReader(data)
	}
	target := *c.base
	target.Path = r.path
	if decoded, err := url.PathUnescape(r.path); err == nil {
		target.Path, target.RawPath = decoded, r.path
	}
	target.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	response, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, refusal(response)
	}
	return response, nil
}

// unreachable says why there is no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown), errors.As(err, &wrongName):
		return holdfast.Wrap(holdfast.KindRefused, err, "the certificate of %s is not trusted", c.base.Host).WithField("ca").
			WithHint("give the server's certificate with --ca FILE; the server writes its own to tls.crt in its data folder")
	case errors.As(err, &plain):
		return holdfast.Wrap(holdfast.KindInvalid, err, "%s does not speak TLS", c.base.Host).WithField("server")
	}
	return holdfast.Wrap(holdfast.KindUnavailable, err, "the server %s does not answer", c.base).WithHint("check the address, and that holdfast server runs there")
}

// read takes the answer apart.
func read[T any](response *http.Response) (answer T, err error) {
	if response.StatusCode == http.StatusNoContent {
		return answer, nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, answerMax)).Decode(&answer); err != nil {
		return answer, holdfast.Wrap(holdfast.KindInternal, err, "the server's answer cannot be read").WithHint("check that this is a Holdfast server of the same version")
	}
	return answer, nil
}

// Problem is how the server says what is wrong (RFC 9457), with the members that Holdfast adds.
type Problem struct {
	Type   string        `json:"type,omitempty"`
	Title  string        `json:"title"`
	Status int           `json:"status"`
	Detail string        `json:"detail"`
	Kind   holdfast.Kind `json:"kind,omitempty"`
	Hint   string        `json:"hint,omitempty"`
	Field  string        `json:"field,omitempty"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location,omitempty"`
		Hint     string `json:"hint,omitempty"`
	} `json:"errors,omitempty"`
}

// problemMax bounds how much of a refusal is read.
const problemMax = 1 << 20

// refusal turns an answer that refuses into an error.
func refusal(response *http.Response) error {
	defer func() { _ = response.Body.Close() }()
	var p Problem
	data, _ := io.ReadAll(io.LimitReader(response.Body, problemMax))
	if err := json.Unmarshal(data, &p); err != nil || p.Detail == "" {
		return plainRefusal(response)
	}
	if p.Kind == "" {
		p.Kind = kindOf(response.StatusCode)
	}
	e := &holdfast.Error{Kind: p.Kind, Message: p.Detail, Hint: p.Hint, Field: p.Field}
	if response.StatusCode == http.StatusUnauthorized {
		return unauthenticated{e}
	}
	if len(p.Errors) == 0 {
		return e
	}
	all := make([]error, 0, len(p.Errors))
	for _, part := range p.Errors {
		all = append(all, &holdfast.Error{Kind: p.Kind, Message: part.Message, Field: part.Location, Hint: part.Hint})
	}
	return errors.Join(all...)
}

// plainRefusal is one of whoever stands in front of a server, or in its place: it does not say what is wrong.
func plainRefusal(response *http.Response) error {
	e := holdfast.Errorf(holdfast.KindInternal, "the server answered %s", response.Status)
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		e.Kind = holdfast.KindRefused
		return unauthenticated{e}
	case response.StatusCode >= http.StatusInternalServerError:
		e.Kind = holdfast.KindUnavailable
	}
	return e
}

// unauthenticated is a refusal for the reason that the server does not know who asks.
type unauthenticated struct{ refusal *holdfast.Error }

// Error implements error.
func (u unauthenticated) Error() string { return u.refusal.Error() }

// Unwrap returns what the server said.
func (u unauthenticated) Unwrap() error { return u.refusal }

// IsUnauthenticated reports whether a request was refused since its token is none, or not any more; of SignIn, whether name and password
// do not fit.
func IsUnauthenticated(err error) bool {
	var u unauthenticated
	return errors.As(err, &u)
}

// kindOf says what a status means where the server does not say it itself.
func kindOf(status int) holdfast.Kind {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return holdfast.KindRefused
	case http.StatusNotFound:
		return holdfast.KindNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return holdfast.KindConflict
	case http.StatusTooManyRequests:
		return holdfast.KindThrottled
	}
	if status >= http.StatusInternalServerError {
		return holdfast.KindUnavailable
	}
	return holdfast.KindInvalid
}
