package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/notify/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a secret of the webhook"

var night = time.Date(2026, time.November, 30, 21, 0, 0, 0, time.UTC)

func post(t testing.TB, address string) notify.Post {
	t.Helper()
	hook := holdfast.Webhook{URL: address, Events: holdfast.WebhookEvents()}
	posts, err := notify.SessionPosts([]holdfast.Webhook{hook}, notify.Finished{Session: holdfast.Session{ID: "1", Policy: "Shop", Outcome: holdfast.OutcomeError, Ended: night}})
	if err != nil || len(posts) != 1 {
		t.Fatal(posts, err)
	}
	return posts[0]
}

// TestSend_Signed verifies a post as doc/webhooks.md tells receivers to.
func TestSend_Signed(t *testing.T) {
	var heard *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		heard = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	p := post(t, server.URL+"/hook?team=a")
	if err := webhook.New(clock.NewManual(night), nil).Send(t.Context(), p, secret); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", night.Unix(), body)
	if heard.Method != http.MethodPost || heard.URL.String() != "/hook?team=a" || heard.Header.Get("Holdfast-Signature") != "v1="+hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("%s %s %v", heard.Method, heard.URL, heard.Header)
	}
	if heard.Header.Get("Holdfast-Delivery") != p.Delivery() || heard.Header.Get("Holdfast-Event") != "sessionEnded" || heard.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", heard.Header)
	}
	var told struct {
		Version int
		Event   string
		Policy  string
		Session struct{ Outcome string }
	}
	if err := json.Unmarshal(body, &told); err != nil || told.Version != 1 || told.Event != "sessionEnded" || told.Policy != "Shop" || told.Session.Outcome != "error" {
		t.Errorf("%s, %v", body, err)
	}
}

// TestSend_Answers is the table of what answers mean.
func TestSend_Answers(t *testing.T) {
	reached := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer elsewhere.Close()
	for code, want := range map[int]holdfast.Kind{
		200: "", 202: "", 204: "", 301: holdfast.KindRefused, 307: holdfast.KindRefused, 400: holdfast.KindRefused, 401: holdfast.KindRefused, 404: holdfast.KindRefused, 410: holdfast.KindRefused,
		408: holdfast.KindUnavailable, 425: holdfast.KindUnavailable, 429: holdfast.KindThrottled, 500: holdfast.KindUnavailable, 502: holdfast.KindUnavailable, 503: holdfast.KindThrottled,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(code)
			if code != 204 {
				fmt.Fprint(w, "no\r\n\x1b[31m", strings.Repeat("x", 5000))
			}
		}))
		err := webhook.New(clock.NewManual(night), nil).Send(t.Context(), post(t, server.URL+"/hidden-path"), secret)
		server.Close()
		if holdfast.KindOf(err) != want || webhook.Again(err) != (want == holdfast.KindThrottled || want == holdfast.KindUnavailable) {
			t.Errorf("%d: %v", code, err)
		}
		checkWords(t, err)
	}
	if reached != 0 {
		t.Error("a redirect was followed")
	}
}

// checkWords wants one line of bounded length without a secret.
func checkWords(t *testing.T, err error) {
	t.Helper()
	if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "hidden-path") || strings.ContainsAny(err.Error(), "\r\n\x1b") || len(err.Error()) > 500) {
		t.Errorf("%q", err)
	}
}

// TestSend_Unreachable proves what becomes of posts that nobody answers.
func TestSend_Unreachable(t *testing.T) {
	s := webhook.New(clock.NewManual(night), nil)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	err := s.Send(t.Context(), post(t, gone.URL+"/hidden-path"), secret)
	if !holdfast.IsKind(err, holdfast.KindUnavailable) || !webhook.Again(err) {
		t.Errorf("nobody there: %v", err)
	}
	checkWords(t, err)

	begun := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		close(begun)
		<-r.Context().Done()
	}))
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Send(ctx, post(t, silent.URL), secret) }()
	<-begun
	cancel()
	if err := <-done; !holdfast.IsKind(err, holdfast.KindCanceled) {
		t.Errorf("given up: %v", err)
	}
}

// TestSend_Certificates proves that a server is trusted by its certificate alone.
func TestSend_Certificates(t *testing.T) {
	reached := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer server.Close()
	if err := webhook.New(clock.NewManual(night), nil).Send(t.Context(), post(t, server.URL+"/hidden-path"), secret); !holdfast.IsKind(err, holdfast.KindRefused) || reached != 0 {
		t.Errorf("an unknown authority: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if err := webhook.New(clock.NewManual(night), roots).Send(t.Context(), post(t, server.URL), secret); err != nil || reached != 1 {
		t.Errorf("a known one: %v", err)
	}
}

// TestSend_Refuses proves that nothing is posted in the clear, or signed with what can be guessed.
func TestSend_Refuses(t *testing.T) {
	s := webhook.New(clock.NewManual(night), nil)
	for address, key := range map[string]string{"http://hooks.example.com/": secret, "https://user:pass@hooks.example.com/": secret, "https://hooks.example.com/": "short"} {
		if err := s.Send(t.Context(), post(t, address), key); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestSign holds the signature against one that openssl made, as the documentation shows.
func TestSign(t *testing.T) {
	const want = "v1=885556302854dc662dc3339213bdb700436737dd9fc9eced08d9fd04347a1ead"
	if got := webhook.Sign("0123456789abcdef0123456789abcdef", "1764536400", []byte(`{"version":1,"event":"test"}`)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
