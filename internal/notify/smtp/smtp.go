// Package smtp hands messages to a mail server.
//
// It promises a result for each message, and says of each failure whether trying again can help. A message whose end the server may have
// taken without saying so is Unknown, never failed and never delivered: sent again it bears the same Message-ID, by which
// servers and people know the copy. With STARTTLS nothing is said before the connection is private, and nothing at all where the server
// cannot make it so. Passwords go to the server alone, never into an error.
//
// What is sent is decided elsewhere. It must never change a message or its recipient.
package smtp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"

	mail "github.com/wneessen/go-mail"
	protocol "github.com/wneessen/go-mail/smtp"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/notify/subject"
)

// Config is what a Sender needs.
type Config struct {
	Mail     holdfast.Mail
	Password string         // of Mail.User, found where Mail.Password says
	Roots    *x509.CertPool // whom servers' certificates are trusted from; nil: whom this machine trusts
	Clock    clock.Clock
}

// Sender sends over one connection at a time for each call of Send. Safe for concurrent use.
type Sender struct {
	config Config
	domain string // of message ids
}

// New checks the configuration without reaching for the server.
func New(c Config) (*Sender, error) {
	_, domain, ok := strings.Cut(c.Mail.From, "@")
	if !ok || c.Clock == nil || c.Mail.Timeout <= 0 {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "mail cannot be sent from %q", c.Mail.From).WithHint("a sender's address, a clock and a timeout").WithField("mail.from")
	}
	s := &Sender{c, domain}
	_, err := s.client(nil)
	return s, err
}

// Result is what became of a message.
type Result struct {
	Delivery string // the message's
	To       string
	Err      error // nil: the server took it
	// Unknown says that the server may have taken the message without an answer that arrived. Err is set.
	Unknown bool
}

// Again reports whether it makes sense to send the message again later: the server asked for it, could not be reached, or
// nobody knows whether it has the message.
func (r Result) Again() bool {
	switch holdfast.KindOf(r.Err) {
	case holdfast.KindThrottled, holdfast.KindUnavailable, holdfast.KindCanceled:
		return true
	default:
		return false
	}
}

// Send sends messages one after the other and returns a result for each, in their order. A recipient whom the server refuses
// does not keep the others from theirs; when the connection ends, the rest is Unavailable.
func (s *Sender) Send(ctx context.Context, messages ...notify.Message) []Result {
	results := make([]Result, len(messages))
	for i, m := range messages {
		results[i] = Result{Delivery: m.Delivery(), To: m.To}
	}
	line := &line{server: s.address()}
	defer line.close()
	stop := context.AfterFunc(ctx, line.close)
	defer stop()

	client, session, err := s.dial(ctx, line)
	for i, m := range messages {
		if err != nil {
			results[i].Err = err
			continue
		}
		results[i].Unknown, results[i].Err = s.send(ctx, client, session, m)
		if lost(results[i].Err) {
			err = results[i].Err
		}
	}
	if err == nil && session != nil {
		_ = client.CloseWithSMTPClient(session) // best effort: everything was answered; the connection is closed in any case
	}
	return results
}

func (s *Sender) address() string { return s.config.Mail.Server }

// dial reaches for the server and signs in.
func (s *Sender) dial(ctx context.Context, l *line) (*mail.Client, *protocol.Client, error) {
	client, err := s.client(l)
	if err != nil {
		return nil, nil, err
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return nil, nil, s.refusal(ctx, err)
	}
	return client, session, nil
}

// client makes a client for one connection: a client changes while it signs in, so it is not shared.
func (s *Sender) client(l *line) (*mail.Client, error) {
	m := s.config.Mail
	settings := &tls.Config{ServerName: m.Server, RootCAs: s.config.Roots, MinVersion: tls.VersionTLS12}
	options := []mail.Option{mail.WithPort(m.Port), mail.WithTimeout(m.Timeout), mail.WithTLSConfig(settings), mail.WithHELO(s.domain), mail.WithTLSPolicy(mail.NoTLS)}
	mechanisms := []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin}
	switch m.TLS {
	case holdfast.MailTLSNone: // the document warns of it
		mechanisms = []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthCramMD5, mail.SMTPAuthPlainNoEnc, mail.SMTPAuthLoginNoEnc}
	case holdfast.MailTLSStart:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case holdfast.MailTLSFirst:
		options = append(options, mail.WithSSL())
	default:
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%q is not a way to keep mail private", m.TLS).WithHint("startTLS, implicit or none").WithField("mail.tls")
	}
	if m.User != "" {
		options = append(options, mail.WithUsername(m.User), mail.WithPassword(s.config.Password), mail.WithOpportunisticSMTPAuth(mechanisms...))
	}
	if l != nil {
		options = append(options, mail.WithDialContextFunc(l.dialer(m.TLS, settings)))
	}
	client, err := mail.NewClient(m.Server, options...)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the mail server cannot be used as it is set up").WithField("mail")
	}
	return client, nil
}

// line owns the connection, which the library leaves open when the greeting fails.
type line struct {
	server string

	mu     sync.Mutex // guards what follows
	conn   net.Conn
	closed bool
}

func (l *line) dialer(way holdfast.MailTLS, settings *tls.Config) mail.DialContextFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		dial := (&net.Dialer{}).DialContext
		if way == holdfast.MailTLSFirst {
			dial = (&tls.Dialer{Config: settings}).DialContext
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conn = conn
		if l.closed {
			conn.Close()
			return nil, net.ErrClosed
		}
		return conn, nil
	}
}

// close ends the connection; whoever waits for the server stops to.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.conn != nil {
		l.conn.Close()
	}
}

// send sends one message. It reports whether the server may have taken it although there is an error.
func (s *Sender) send(ctx context.Context, client *mail.Client, session *protocol.Client, m notify.Message) (unknown bool, err error) {
	letter, err := s.letter(m)
	if err != nil {
		return false, err
	}
	err = client.SendWithSMTPClient(session, letter)
	if err == nil || letter.IsDelivered() {
		return false, nil // a connection that ended after the server had said yes is noticed by the next message
	}
	return s.failure(ctx, err)
}

// letter writes a message down as it travels.
func (s *Sender) letter(m notify.Message) (*mail.Msg, error) {
	if m.Subject != subject.Line(m.Subject) {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%q cannot be a subject", m.Subject).WithHint("one line of text")
	}
	letter := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := letter.From(s.config.Mail.From); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "%q cannot send mail", s.config.Mail.From).WithField("mail.from")
	}
	if err := letter.To(m.To); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "%q cannot get mail", m.To).WithField("recipients")
	}
	letter.Subject(m.Subject)
	letter.SetMessageIDWithValue(m.Delivery() + "@" + s.domain)
	letter.SetDateWithValue(s.config.Clock.Now())
	letter.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation notes, please
	letter.SetGenHeader("X-Auto-Response-Suppress", "All")
	letter.SetBodyString(mail.TypeTextPlain, m.Text)
	letter.AddAlternativeString(mail.TypeTextHTML, m.HTML)
	return letter, nil
}
