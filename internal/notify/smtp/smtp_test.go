package smtp_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/notify/smtp"
	"github.com/holdfast-backup/holdfast/internal/notify/smtp/smtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func message(to string) notify.Message {
	return notify.Message{Key: "session/1", To: to, Subject: "Grüße [Failed] Shop", Text: "Text: ä\n.\nfoo\n", HTML: "<p>HTML: ä</p>"}
}

func sender(t testing.TB, m holdfast.Mail, roots *x509.CertPool) *smtp.Sender {
	t.Helper()
	m.Server, m.From, m.Timeout = "127.0.0.1", "holdfast@example.com", max(m.Timeout, 5*time.Second)
	s, err := smtp.New(smtp.Config{Mail: m, Password: smtptest.Password, Roots: roots, Clock: clock.NewManual(time.Date(2026, time.November, 30, 21, 0, 0, 0, time.UTC))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSend_Manners plays what servers do, and holds what becomes of two messages against the table.
func TestSend_Manners(t *testing.T) {
	id := smtptest.NewIdentity(t, "127.0.0.1")
	type outcome struct {
		kind    holdfast.Kind // "" for taken
		unknown bool
		again   bool
		says    string // in the message, or in the hint
	}
	const start, none, first = holdfast.MailTLSStart, holdfast.MailTLSNone, holdfast.MailTLSFirst
	taken := outcome{}
	ended := outcome{holdfast.KindUnavailable, false, true, "127.0.0.1"}
	for _, c := range []struct {
		name   string
		way    holdfast.MailTLS
		script map[string]string
		one    outcome // of a@example.com
		two    outcome // of b@example.com
	}{
		{"all is well", start, nil, taken, taken},
		{"all is well, TLS first", first, nil, taken, taken},
		{"all is well, in the clear", none, nil, taken, taken},
		{"closed at once", start, map[string]string{"greeting": smtptest.Drop}, ended, ended},
		{"no service", start, map[string]string{"greeting": "554 no service"}, outcome{holdfast.KindRefused, false, false, "554 no service"}, outcome{holdfast.KindRefused, false, false, "554"}},
		{"too busy to begin", start, map[string]string{"greeting": "421 too busy"}, outcome{holdfast.KindThrottled, false, true, "421 too busy"}, outcome{holdfast.KindThrottled, false, true, "421"}},
		{"silence", start, map[string]string{"greeting": smtptest.Silence}, outcome{holdfast.KindUnavailable, false, true, "in time"}, outcome{holdfast.KindUnavailable, false, true, "in time"}},
		{"no STARTTLS", start, map[string]string{"EHLO": "250-mail.example.com\n250 AUTH PLAIN"}, outcome{holdfast.KindRefused, false, false, "nothing is sent in the clear"}, outcome{holdfast.KindRefused, false, false, "STARTTLS"}},
		{"STARTTLS refused", start, map[string]string{"STARTTLS": "454 TLS not available"}, outcome{holdfast.KindThrottled, false, true, "454"}, outcome{holdfast.KindThrottled, false, true, "454"}},
		{"wrong password", start, map[string]string{"AUTH": "535 5.7.8 no"}, outcome{holdfast.KindRefused, false, false, "passwordFrom"}, outcome{holdfast.KindRefused, false, false, "user and password"}},
		{"sign-in later", start, map[string]string{"AUTH": "454 4.7.0 later"}, outcome{holdfast.KindThrottled, false, true, "454"}, outcome{holdfast.KindThrottled, false, true, "454"}},
		{"no sign-in", start, map[string]string{"EHLO": "250-mail.example.com\n250 STARTTLS"}, outcome{holdfast.KindRefused, false, false, "no way to sign in"}, outcome{holdfast.KindRefused, false, false, "mail.user"}},
		{"sender refused", start, map[string]string{"MAIL": "553 5.7.1 not yours"}, outcome{holdfast.KindRefused, false, false, "refuses the sender (553 5.7.1 not yours)"}, outcome{holdfast.KindRefused, false, false, "sender"}},
		{"one recipient refused", start, map[string]string{"RCPT TO:<a@example.com>": "550 5.1.1 unknown\x1b[31m"}, outcome{holdfast.KindRefused, false, false, "refuses the recipient (550 5.1.1 unknown [31m)"}, taken},
		{"one recipient later", start, map[string]string{"RCPT TO:<b@example.com>": "450 4.2.1 greylisted"}, taken, outcome{holdfast.KindThrottled, false, true, "for now (450 4.2.1 greylisted)"}},
		{"shutting down at a recipient", start, map[string]string{"RCPT TO:<a@example.com>": "421 4.3.2 shutting down"}, outcome{holdfast.KindThrottled, false, true, "421"}, outcome{holdfast.KindThrottled, false, true, "421"}},
		{"no data", start, map[string]string{"DATA": "451 4.3.0 disk full"}, outcome{holdfast.KindThrottled, false, true, "refuses the message for now (451 4.3.0 disk full)"}, outcome{holdfast.KindThrottled, false, true, "451"}},
		{"content refused", start, map[string]string{".": "554 5.6.0 spam"}, outcome{holdfast.KindRefused, false, false, "refuses the message (554 5.6.0 spam)"}, outcome{holdfast.KindRefused, false, false, "554"}},
		{"content later", start, map[string]string{".": "452 4.3.1 full"}, outcome{holdfast.KindThrottled, false, true, "452"}, outcome{holdfast.KindThrottled, false, true, "452"}},
		{"dropped after the end of the data", start, map[string]string{".": smtptest.Drop}, outcome{holdfast.KindUnavailable, true, true, "same Message-ID"}, outcome{holdfast.KindUnavailable, false, true, "did not say"}},
		{"silent after the end of the data", none, map[string]string{".": smtptest.Silence}, outcome{holdfast.KindUnavailable, true, true, "did not say"}, outcome{holdfast.KindUnavailable, false, true, "did not say"}},
		{"dropped once it was taken", start, map[string]string{"RSET": smtptest.Drop}, taken, ended},
		{"no farewell", start, map[string]string{"QUIT": smtptest.Drop}, taken, taken},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &smtptest.Peer{Identity: id, Implicit: c.way == first}
			p.Play(c.script)
			p.Listen(t)
			s := sender(t, holdfast.Mail{Port: p.Port, TLS: c.way, User: "holdfast"}, id.Roots)
			if slices.Contains([]string{c.script["greeting"], c.script["."]}, smtptest.Silence) {
				s = impatient(t, holdfast.Mail{Port: p.Port, TLS: c.way, User: "holdfast"}, id.Roots)
			}
			results := s.Send(t.Context(), message("a@example.com"), message("b@example.com"))
			for i, want := range []outcome{c.one, c.two} {
				r := results[i]
				if r.To != message([]string{"a@example.com", "b@example.com"}[i]).To || r.Delivery != message(r.To).Delivery() {
					t.Errorf("result %d is that of %s", i, r.To)
				}
				if holdfast.KindOf(r.Err) != want.kind || r.Unknown != want.unknown || r.Again() != want.again {
					t.Errorf("%s: %v (%s), unknown %t, again %t; want %+v", r.To, r.Err, holdfast.KindOf(r.Err), r.Unknown, r.Again(), want)
				}
				checkWords(t, r.Err, want.says)
			}
		})
	}
}

// impatient waits for half a second, which the server that says nothing is not given more of.
func impatient(t testing.TB, m holdfast.Mail, roots *x509.CertPool) *smtp.Sender {
	t.Helper()
	m.Server, m.From, m.Timeout = "127.0.0.1", "holdfast@example.com", 500*time.Millisecond
	s, err := smtp.New(smtp.Config{Mail: m, Password: smtptest.Password, Roots: roots, Clock: clock.NewManual(time.Unix(0, 0))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checkWords wants an error that says something, on one line, and never the password.
func checkWords(t *testing.T, err error, says string) {
	t.Helper()
	if err == nil {
		return
	}
	var e *holdfast.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message+" "+e.Hint, says) || strings.ContainsAny(e.Message+e.Hint, "\r\n\x1b") {
		t.Errorf("%q, %v; want the words %q", e.Message, err, says)
	}
	if strings.Contains(err.Error(), smtptest.Password) {
		t.Errorf("the password stands in %v", err)
	}
}

// TestSend_StartTLSFirst proves that with STARTTLS neither the account nor a recipient is named in the clear, whatever the server offers.
func TestSend_StartTLSFirst(t *testing.T) {
	p := &smtptest.Peer{Identity: smtptest.NewIdentity(t, "127.0.0.1")}
	p.Play(map[string]string{"EHLO": "250-mail.example.com\n250-AUTH PLAIN\n250 8BITMIME"})
	p.Listen(t)
	results := sender(t, holdfast.Mail{Port: p.Port, TLS: holdfast.MailTLSStart, User: "holdfast"}, p.Identity.Roots).Send(t.Context(), message("a@example.com"))
	if results[0].Err == nil || p.Count("AUTH") != 0 || p.Count("MAIL") != 0 {
		t.Errorf("%v; the server heard %q", results[0].Err, p.Heard())
	}
}

// TestSend_Certificates proves that a name or an authority that is not the right one is refused before anything is said.
func TestSend_Certificates(t *testing.T) {
	right, wrong := smtptest.NewIdentity(t, "127.0.0.1"), smtptest.NewIdentity(t, "mail.example.org")
	for _, c := range []struct {
		name     string
		identity smtptest.Identity
		roots    *x509.CertPool
		way      holdfast.MailTLS
	}{
		{"another name", wrong, wrong.Roots, holdfast.MailTLSStart},
		{"another authority", right, wrong.Roots, holdfast.MailTLSStart},
		{"another name, TLS first", wrong, wrong.Roots, holdfast.MailTLSFirst},
		{"another authority, TLS first", right, wrong.Roots, holdfast.MailTLSFirst},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &smtptest.Peer{Identity: c.identity, Implicit: c.way == holdfast.MailTLSFirst}
			p.Listen(t)
			r := sender(t, holdfast.Mail{Port: p.Port, TLS: c.way, User: "holdfast"}, c.roots).Send(t.Context(), message("a@example.com"))[0]
			if !holdfast.IsKind(r.Err, holdfast.KindRefused) || r.Again() || p.Count("AUTH") != 0 {
				t.Errorf("%v", r.Err)
			}
			checkWords(t, r.Err, "certificate")
		})
	}
}

// TestSend_WrongWay proves that TLS where the server speaks in the clear is told as that.
func TestSend_WrongWay(t *testing.T) {
	p := &smtptest.Peer{Identity: smtptest.NewIdentity(t, "127.0.0.1")}
	p.Listen(t)
	r := sender(t, holdfast.Mail{Port: p.Port, TLS: holdfast.MailTLSFirst}, p.Identity.Roots).Send(t.Context(), message("a@example.com"))[0]
	if !holdfast.IsKind(r.Err, holdfast.KindRefused) {
		t.Errorf("%v", r.Err)
	}
	checkWords(t, r.Err, "does not begin with TLS")
}

// TestSend_Nobody proves that a port without a server may be tried again.
func TestSend_Nobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	r := sender(t, holdfast.Mail{Port: port, TLS: holdfast.MailTLSStart}, nil).Send(t.Context(), message("a@example.com"))[0]
	if !holdfast.IsKind(r.Err, holdfast.KindUnavailable) || !r.Again() || r.Unknown {
		t.Errorf("%v", r.Err)
	}
	checkWords(t, r.Err, "cannot be reached")
}

// TestSend_GivenUp proves that a caller who gives up does not wait for a server that says nothing.
func TestSend_GivenUp(t *testing.T) {
	p := &smtptest.Peer{Identity: smtptest.NewIdentity(t, "127.0.0.1")}
	p.Play(map[string]string{"MAIL": smtptest.Silence})
	p.Listen(t)
	s := sender(t, holdfast.Mail{Port: p.Port, TLS: holdfast.MailTLSNone, Timeout: time.Hour}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []smtp.Result)
	go func() { done <- s.Send(ctx, message("a@example.com"), message("b@example.com")) }()
	for p.Count("MAIL") == 0 {
		if err := (clock.System{}).Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for _, r := range <-done {
		if !holdfast.IsKind(r.Err, holdfast.KindCanceled) || r.Unknown {
			t.Errorf("%v", r.Err)
		}
	}
}

// TestSend_Refuses proves that what cannot travel is refused here, and does not keep the next from its way.
func TestSend_Refuses(t *testing.T) {
	p := &smtptest.Peer{Identity: smtptest.NewIdentity(t, "127.0.0.1")}
	p.Listen(t)
	s := sender(t, holdfast.Mail{Port: p.Port, TLS: holdfast.MailTLSNone}, nil)
	bad, worse := message("a@example.com\r\nRCPT TO:<b@example.com>"), message("a@example.com")
	worse.Subject = "a\r\nBcc: b@example.com"
	results := s.Send(t.Context(), bad, worse, message("c@example.com"))
	if !holdfast.IsKind(results[0].Err, holdfast.KindInvalid) || !holdfast.IsKind(results[1].Err, holdfast.KindInvalid) || results[2].Err != nil || p.Count("RCPT") != 1 {
		t.Errorf("%v; the server heard %q", results, p.Heard())
	}
}

func TestNew_Refuses(t *testing.T) {
	for _, m := range []holdfast.Mail{
		{Server: "m", Port: 25, TLS: holdfast.MailTLSStart, From: "nobody", Timeout: time.Second},
		{Server: "m", Port: 25, TLS: "maybe", From: "a@b.c", Timeout: time.Second},
		{Server: "m", Port: 0, TLS: holdfast.MailTLSStart, From: "a@b.c", Timeout: time.Second},
		{Server: "", Port: 25, TLS: holdfast.MailTLSStart, From: "a@b.c", Timeout: time.Second},
		{Server: "m", Port: 25, TLS: holdfast.MailTLSStart, From: "a@b.c"},
	} {
		if _, err := smtp.New(smtp.Config{Mail: m, Clock: clock.System{}}); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}
