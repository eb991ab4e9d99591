// Package webhook posts events as JSON to addresses of other programs, signed so that they can tell who posted; doc/webhooks.md
// is written for their authors.
//
// It promises that a post goes to the address that is set up and to no other one: redirects are not followed, and nothing travels
// in the clear except on this machine. A post that is sent again has the same delivery id. It must never put a secret into an
// error, nor an address beyond its host, since paths of webhooks often are secrets too.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/notify/subject"
)

// The headers of a post.
const (
	HeaderDelivery  = "Holdfast-Delivery"
	HeaderEvent     = "Holdfast-Event"
	HeaderTimestamp = "Holdfast-Timestamp" // seconds since 1970, of this attempt
	HeaderSignature = "Holdfast-Signature" // v1= and the HMAC-SHA-256, in hex, of the timestamp, a dot and the body
)

const (
	timeout   = 15 * time.Second // for a whole post: receivers write it down and answer
	answerMax = 1 << 10          // bytes of an answer that are read, for the message of an error
	secretMin = 16               // bytes: a shorter secret can be guessed from one post
)

// Sender posts. Safe for concurrent use.
type Sender struct {
	clock  clock.Clock
	client *http.Client
}

// New returns a Sender that trusts the servers of some authorities; nil: those that this machine trusts. A proxy is used where the
// environment names one.
func New(c clock.Clock, roots *x509.CertPool) *Sender {
	return &Sender{clock: c, client: &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		},
	}}
}

// Send posts once. The secret is found where the webhook says. The error is KindThrottled or KindUnavailable when it makes sense to
// post again later (Again); after KindUnavailable the receiver may have the post already.
func (s *Sender) Send(ctx context.Context, p notify.Post, secret string) error {
	if err := holdfast.CheckWebhookURL(p.Hook.URL); err != nil {
		return err
	}
	if len(secret) < secretMin {
		return holdfast.Errorf(holdfast.KindInvalid, "the secret of the webhook at %s has only %d bytes", host(p.Hook.URL), len(secret)).WithHint("%d bytes at least", secretMin).WithField("secretFrom")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Hook.URL, bytes.NewReader(p.Body))
	if err != nil {
		return holdfast.Errorf(holdfast.KindInvalid, "nothing can be posted to the webhook at %s", host(p.Hook.URL))
	}
	timestamp := strconv.FormatInt(s.clock.Now().Unix(), 10)
	for name, value := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "Holdfast", HeaderDelivery: p.Delivery(), HeaderEvent: string(p.Event), HeaderTimestamp: timestamp,
		HeaderSignature: Sign(secret, timestamp, p.Body),
	} {
		request.Header.Set(name, value)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return unanswered(ctx, p, err)
	}
	defer answer.Body.Close()
	return judge(p, answer)
}

// Sign returns the signature of a post: v1= and HMAC-SHA-256(secret, timestamp "." body) in hex.
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Again reports whether it makes sense to post again after an error.
func Again(err error) bool {
	switch holdfast.KindOf(err) {
	case holdfast.KindThrottled, holdfast.KindUnavailable, holdfast.KindCanceled:
		return true
	default:
		return false
	}
}

// unanswered says why there is no answer.
func unanswered(ctx context.Context, p notify.Post, err error) error {
	var wrapped *url.Error // names the whole address
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	at := host(p.Hook.URL)
	var certificate *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil:
		return holdfast.Wrap(holdfast.KindCanceled, err, "the post to the webhook at %s was given up", at)
	case errors.As(err, &certificate):
		return holdfast.Wrap(holdfast.KindRefused, err, "the certificate of the webhook at %s cannot be trusted", at).
			WithHint("is it from an authority that this machine trusts, and for this name?")
	}
	return holdfast.Wrap(holdfast.KindUnavailable, err, "the webhook at %s does not answer", at).WithHint("it is posted to again under the same delivery id")
}

// judge says what an answer means.
func judge(p notify.Post, answer *http.Response) error {
	at, code := host(p.Hook.URL), answer.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, answerMax)) // best effort: the code alone says enough
	said := subject.Line(strconv.Itoa(code) + " " + string(text))
	switch {
	case code >= 300 && code < 400:
		return holdfast.Errorf(holdfast.KindRefused, "the webhook at %s has moved (%d)", at, code).WithHint("redirects are not followed; write its new address into the settings")
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return holdfast.Errorf(holdfast.KindThrottled, "the webhook at %s asks to wait (%s)", at, said)
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return holdfast.Errorf(holdfast.KindUnavailable, "the webhook at %s failed (%s)", at, said).WithHint("it is posted to again under the same delivery id")
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return holdfast.Errorf(holdfast.KindRefused, "the webhook at %s refuses the post (%s)", at, said).WithHint("have both sides the same secret, and do their clocks agree?")
	}
	return holdfast.Errorf(holdfast.KindRefused, "the webhook at %s refuses the post (%s)", at, said)
}

// host is the part of an address that may be told.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that is none"
	}
	return u.Host
}
