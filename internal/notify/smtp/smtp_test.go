package smtp_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/notify/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "s3cret of the account"

// identity is a certificate with its key, and the pool that trusts it.
type identity struct {
	certificate, key []byte // PEM
	pair             tls.Certificate
	roots            *x509.CertPool
}

func newIdentity(t testing.TB, names ...string) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, DNSNames: names,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	raw, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), roots: x509.NewCertPool(),
	}
	if id.pair, err = tls.X509KeyPair(id.certificate, id.key); err != nil || !id.roots.AppendCertsFromPEM(id.certificate) {
		t.Fatal(err)
	}
	return id
}

// What a scripted peer does instead of replying.
const (
	drop    = "drop"    // closes the connection
	silence = "silence" // says nothing any more
)

// peer is a mail server that plays a script: a reply for each verb, "" being the usual one. It takes down what it was told.
type peer struct {
	script   map[string]string
	identity identity
	implicit bool
	port     int

	mu    sync.Mutex // guards heard
	heard []string
}

func (p *peer) listen(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = listener.Addr().(*net.TCPAddr).Port
	var wait sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				defer stop()
				defer conn.Close()
				p.serve(ctx, conn)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); cancel(); wait.Wait() })
}

// serve plays the script on one connection.
func (p *peer) serve(ctx context.Context, conn net.Conn) {
	if p.implicit {
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{p.identity.pair}})
	}
	in := bufio.NewReader(conn)
	say := func(verb, usual string) bool {
		text := usual
		if scripted, ok := p.script[verb]; ok {
			text = scripted
		}
		switch text {
		case silence:
			<-ctx.Done()
			return false
		case drop:
			return false
		}
		_, err := fmt.Fprintf(conn, "%s\r\n", strings.ReplaceAll(text, "\n", "\r\n"))
		return err == nil && !strings.HasPrefix(text, "421")
	}
	for ok := say("greeting", "220 mail.example.com"); ok; {
		raw, err := in.ReadString('\n')
		if err != nil {
			return
		}
		command := strings.TrimSpace(raw)
		verb, _, _ := strings.Cut(command, " ")
		p.hear(command)
		switch verb {
		case "EHLO":
			ok = say("EHLO", "250-mail.example.com\n250-STARTTLS\n250-AUTH PLAIN LOGIN\n250-ENHANCEDSTATUSCODES\n250 8BITMIME")
		case "STARTTLS":
			if ok = say("STARTTLS", "220 go on"); ok {
				conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{p.identity.pair}})
				in = bufio.NewReader(conn)
			}
		case "AUTH":
			ok = say("AUTH", "235 2.7.0 welcome")
		case "RCPT":
			ok = say(command, "250 2.1.5 ok") // by the whole command: each recipient has a reply of his own
		case "DATA":
			if ok = say("DATA", "354 go on"); ok && p.script["DATA"] == "" {
				for line := ""; err == nil && line != ".\r\n"; {
					line, err = in.ReadString('\n')
				}
				ok = err == nil && say(".", "250 2.0.0 queued")
			}
		case "QUIT":
			say("QUIT", "221 bye")
			return
		default:
			ok = say(verb, "250 2.0.0 ok")
		}
	}
}

func (p *peer) hear(command string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, command)
}

func (p *peer) count(prefix string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, command := range p.heard {
		if strings.HasPrefix(command, prefix) {
			n++
		}
	}
	return n
}

func message(to string) notify.Message {
	return notify.Message{Key: "session/1", To: to, Subject: "Grüße [Failed] Shop", Text: "Text: ä\n.\nfoo\n", HTML: "<p>HTML: ä</p>"}
}

func sender(t testing.TB, m holdfast.Mail, roots *x509.CertPool) *smtp.Sender {
	t.Helper()
	m.Server, m.From, m.Timeout = "127.0.0.1", "holdfast@example.com", max(m.Timeout, 5*time.Second)
	s, err := smtp.New(smtp.Config{Mail: m, Password: password, Roots: roots, Clock: clock.NewManual(time.Date(2026, time.November, 30, 21, 0, 0, 0, time.UTC))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSend_Manners plays what servers do, and holds what becomes of two messages against the table.
func TestSend_Manners(t *testing.T) {
	id := newIdentity(t, "127.0.0.1")
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
		{"closed at once", start, map[string]string{"greeting": drop}, ended, ended},
		{"no service", start, map[string]string{"greeting": "554 no service"}, outcome{holdfast.KindRefused, false, false, "554 no service"}, outcome{holdfast.KindRefused, false, false, "554"}},
		{"too busy to begin", start, map[string]string{"greeting": "421 too busy"}, outcome{holdfast.KindThrottled, false, true, "421 too busy"}, outcome{holdfast.KindThrottled, false, true, "421"}},
		{"silence", start, map[string]string{"greeting": silence}, outcome{holdfast.KindUnavailable, false, true, "in time"}, outcome{holdfast.KindUnavailable, false, true, "in time"}},
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
		{"dropped after the end of the data", start, map[string]string{".": drop}, outcome{holdfast.KindUnavailable, true, true, "same Message-ID"}, outcome{holdfast.KindUnavailable, false, true, "did not say"}},
		{"silent after the end of the data", none, map[string]string{".": silence}, outcome{holdfast.KindUnavailable, true, true, "did not say"}, outcome{holdfast.KindUnavailable, false, true, "did not say"}},
		{"dropped once it was taken", start, map[string]string{"RSET": drop}, taken, ended},
		{"no farewell", start, map[string]string{"QUIT": drop}, taken, taken},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &peer{script: c.script, identity: id, implicit: c.way == first}
			p.listen(t)
			s := sender(t, holdfast.Mail{Port: p.port, TLS: c.way, User: "holdfast"}, id.roots)
			if slices.Contains([]string{c.script["greeting"], c.script["."]}, silence) {
				s = impatient(t, holdfast.Mail{Port: p.port, TLS: c.way, User: "holdfast"}, id.roots)
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
	s, err := smtp.New(smtp.Config{Mail: m, Password: password, Roots: roots, Clock: clock.NewManual(time.Unix(0, 0))})
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
	if strings.Contains(err.Error(), password) {
		t.Errorf("the password stands in %v", err)
	}
}

// TestSend_StartTLSFirst proves that with STARTTLS neither the account nor a recipient is named in the clear, whatever the server offers.
func TestSend_StartTLSFirst(t *testing.T) {
	p := &peer{script: map[string]string{"EHLO": "250-mail.example.com\n250-AUTH PLAIN\n250 8BITMIME"}, identity: newIdentity(t, "127.0.0.1")}
	p.listen(t)
	results := sender(t, holdfast.Mail{Port: p.port, TLS: holdfast.MailTLSStart, User: "holdfast"}, p.identity.roots).Send(t.Context(), message("a@example.com"))
	if results[0].Err == nil || p.count("AUTH") != 0 || p.count("MAIL") != 0 {
		t.Errorf("%v; the server heard %q", results[0].Err, p.heard)
	}
}

// TestSend_Certificates proves that a name or an authority that is not the right one is refused before anything is said.
func TestSend_Certificates(t *testing.T) {
	right, wrong := newIdentity(t, "127.0.0.1"), newIdentity(t, "mail.example.org")
	for _, c := range []struct {
		name     string
		identity identity
		roots    *x509.CertPool
		way      holdfast.MailTLS
	}{
		{"another name", wrong, wrong.roots, holdfast.MailTLSStart},
		{"another authority", right, wrong.roots, holdfast.MailTLSStart},
		{"another name, TLS first", wrong, wrong.roots, holdfast.MailTLSFirst},
		{"another authority, TLS first", right, wrong.roots, holdfast.MailTLSFirst},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &peer{identity: c.identity, implicit: c.way == holdfast.MailTLSFirst}
			p.listen(t)
			r := sender(t, holdfast.Mail{Port: p.port, TLS: c.way, User: "holdfast"}, c.roots).Send(t.Context(), message("a@example.com"))[0]
			if !holdfast.IsKind(r.Err, holdfast.KindRefused) || r.Again() || p.count("AUTH") != 0 {
				t.Errorf("%v", r.Err)
			}
			checkWords(t, r.Err, "certificate")
		})
	}
}

// TestSend_WrongWay proves that TLS where the server speaks in the clear is told as that.
func TestSend_WrongWay(t *testing.T) {
	p := &peer{identity: newIdentity(t, "127.0.0.1")}
	p.listen(t)
	r := sender(t, holdfast.Mail{Port: p.port, TLS: holdfast.MailTLSFirst}, p.identity.roots).Send(t.Context(), message("a@example.com"))[0]
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
	p := &peer{script: map[string]string{"MAIL": silence}, identity: newIdentity(t, "127.0.0.1")}
	p.listen(t)
	s := sender(t, holdfast.Mail{Port: p.port, TLS: holdfast.MailTLSNone, Timeout: time.Hour}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []smtp.Result)
	go func() { done <- s.Send(ctx, message("a@example.com"), message("b@example.com")) }()
	for p.count("MAIL") == 0 {
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
	p := &peer{identity: newIdentity(t, "127.0.0.1")}
	p.listen(t)
	s := sender(t, holdfast.Mail{Port: p.port, TLS: holdfast.MailTLSNone}, nil)
	bad, worse := message("a@example.com\r\nRCPT TO:<b@example.com>"), message("a@example.com")
	worse.Subject = "a\r\nBcc: b@example.com"
	results := s.Send(t.Context(), bad, worse, message("c@example.com"))
	if !holdfast.IsKind(results[0].Err, holdfast.KindInvalid) || !holdfast.IsKind(results[1].Err, holdfast.KindInvalid) || results[2].Err != nil || p.count("RCPT") != 1 {
		t.Errorf("%v; the server heard %q", results, p.heard)
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
