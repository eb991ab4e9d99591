package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"

	mail "github.com/wneessen/go-mail"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify/subject"
)

// Replies of servers that have a meaning of their own.
const (
	replyClosing      = 421 // the server ends the connection
	replyNeedsSignIn  = 530
	replyWrongSignIn  = 535
	replyTemporaryMin = 400
	replyPermanentMin = 500
)

// errEnded marks failures after which the connection is of no use to the messages that follow.
var errEnded = errors.New("the connection to the mail server ended")

func lost(err error) bool { return errors.Is(err, errEnded) }

// refusal says why no connection came about. Nothing was sent.
func (s *Sender) refusal(ctx context.Context, err error) error {
	server := s.config.Mail.Server
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var reply *textproto.Error
	switch {
	case ctx.Err() != nil:
		return holdfast.Wrap(holdfast.KindCanceled, err, "sending mail through %s was given up", server)
	case errors.As(err, &certificate):
		return holdfast.Wrap(holdfast.KindRefused, err, "the certificate of the mail server %s cannot be trusted", server).
			WithHint("is mail.server the name in its certificate, and is the certificate from an authority that this machine trusts?").WithField("mail.server")
	case errors.As(err, &record):
		return holdfast.Wrap(holdfast.KindRefused, err, "the mail server %s does not begin with TLS on port %d", server, s.config.Mail.Port).
			WithHint("write tls: startTLS, or the port for implicit TLS, which is 465 as a rule").WithField("mail.tls")
	case strings.Contains(err.Error(), "does not support STARTTLS"):
		return holdfast.Wrap(holdfast.KindRefused, err, "the mail server %s does not offer STARTTLS, and nothing is sent in the clear", server).
			WithHint("write tls: implicit where the server speaks TLS from the first byte, or tls: none if mail may be read on the way").WithField("mail.tls")
	case errors.Is(err, mail.ErrNoSupportedAuthDiscovered), strings.Contains(err.Error(), "does not support SMTP AUTH"):
		return holdfast.Wrap(holdfast.KindRefused, err, "the mail server %s offers no way to sign in that is safe here", server).
			WithHint("leave mail.user out where the server asks for none; without TLS many servers offer none").WithField("mail.user")
	case errors.As(err, &reply):
		return s.answered(err, reply.Code, reply.Msg, "the mail server "+server+" refuses the connection")
	}
	return s.unreachable(err)
}

func (s *Sender) unreachable(err error) error {
	what := "the mail server %s cannot be reached on port %d"
	var network net.Error
	switch {
	case errors.As(err, &network) && network.Timeout():
		what = "the mail server %s on port %d does not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		what = "the mail server %s on port %d ended the connection"
	}
	return holdfast.Wrap(holdfast.KindUnavailable, errors.Join(errEnded, err), what, s.config.Mail.Server, s.config.Mail.Port).
		WithHint("is the server up, are name and port right, and does a firewall let this machine through?")
}

// answered makes an error of a server's reply: what begins with 4 may pass, what begins with 5 will not.
func (s *Sender) answered(err error, code int, text, what string) error {
	said := subject.Line(text)
	if code == replyClosing {
		err = errors.Join(errEnded, err)
	}
	switch {
	case code == replyWrongSignIn, code == replyNeedsSignIn:
		return holdfast.Wrap(holdfast.KindRefused, err, "the mail server %s does not accept user and password (%d %s)", s.config.Mail.Server, code, said).
			WithHint("see mail.user and mail.passwordFrom; some providers want an application's password").WithField("mail.user")
	case code >= replyPermanentMin:
		return holdfast.Wrap(holdfast.KindRefused, err, "%s (%d %s)", what, code, said).WithHint("the server says that trying again is of no use; its words say why")
	case code >= replyTemporaryMin:
		return holdfast.Wrap(holdfast.KindThrottled, err, "%s for now (%d %s)", what, code, said).WithHint("the server asks to try again later, which is done")
	}
	return holdfast.Wrap(holdfast.KindUnavailable, err, "%s in a way that is not known (%d %s)", what, code, said)
}

// failure says why a message was not taken, and whether it may have been all the same.
func (s *Sender) failure(ctx context.Context, err error) (unknown bool, _ error) {
	var e *mail.SendError
	if !errors.As(err, &e) {
		return true, holdfast.Wrap(holdfast.KindInternal, err, "a message failed in a way that is not known")
	}
	// The end of a message was sent and no reply came: the server may have it.
	unknown = e.Reason == mail.ErrSMTPDataClose && e.ErrorCode() == 0
	switch {
	case ctx.Err() != nil:
		return unknown, holdfast.Wrap(holdfast.KindCanceled, errors.Join(errEnded, err), "sending mail through %s was given up", s.config.Mail.Server)
	case unknown:
		return true, holdfast.Wrap(holdfast.KindUnavailable, errors.Join(errEnded, err), "the mail server %s did not say whether it took the message", s.config.Mail.Server).
			WithHint("it is sent again under the same Message-ID")
	case e.ErrorCode() != 0:
		return false, s.answered(err, e.ErrorCode(), reply(e), "the mail server "+s.config.Mail.Server+" refuses "+refused(e.Reason))
	}
	return false, s.unreachable(err)
}

// refused names the part of a message that a server said no to.
func refused(reason mail.SendErrReason) string {
	switch reason {
	case mail.ErrSMTPMailFrom:
		return "the sender"
	case mail.ErrSMTPRcptTo:
		return "the recipient"
	default:
		return "the message"
	}
}

// reply cuts the server's own words out of the library's, where they stand quoted after the code.
func reply(e *mail.SendError) string {
	text := strings.TrimPrefix(e.Error(), e.Reason.String()+": ")
	text, _, _ = strings.Cut(text, ", affected ")
	if code, rest, ok := strings.Cut(text, " "); ok && len(code) == len("550") {
		text = rest
	}
	if said, err := strconv.Unquote(text); err == nil {
		return said
	}
	return text
}
