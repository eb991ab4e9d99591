package smtp_test

import (
	"mime"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify/smtp/smtptest"
)

// TestServer sends through a mail server of other people's making, in both ways of TLS, and reads with the standard library what arrived.
func TestServer(t *testing.T) {
	for way, arguments := range map[holdfast.MailTLS][]string{holdfast.MailTLSStart: nil, holdfast.MailTLSFirst: {"--implicit"}} {
		t.Run(string(way), func(t *testing.T) {
			srv := smtptest.StartServer(t, arguments...)
			s := sender(t, holdfast.Mail{Port: srv.Port, TLS: way, User: "holdfast"}, srv.Identity.Roots)
			one, two := message("a@example.com"), message("b@example.com")
			results := s.Send(t.Context(), one, message("nobody@example.com"), two)
			if results[0].Err != nil || !holdfast.IsKind(results[1].Err, holdfast.KindRefused) || results[2].Err != nil {
				t.Fatalf("%+v", results)
			}
			checkWords(t, results[1].Err, "550 5.1.1 no such mailbox")
			letters := srv.Letters(t)
			if len(letters) != 2 {
				t.Fatalf("%d letters", len(letters))
			}
			l := letters[0]
			subject, err := new(mime.WordDecoder).DecodeHeader(l.Header.Get("Subject"))
			if err != nil || subject != one.Subject || l.From != "holdfast@example.com" || len(l.To) != 1 || l.To[0] != "a@example.com" || l.User != "holdfast" || !l.TLS {
				t.Errorf("%+v, %q, %v", l, subject, err)
			}
			if l.Header.Get("Message-ID") != "<"+one.Delivery()+"@example.com>" || l.Header.Get("Auto-Submitted") != "auto-generated" || l.Header.Get("Date") != "Mon, 30 Nov 2026 21:00:00 +0000" {
				t.Errorf("%v", l.Header)
			}
			if strings.TrimSpace(l.Parts["text/plain; charset=UTF-8"]) != strings.TrimSpace(one.Text) || l.Parts["text/html; charset=UTF-8"] != one.HTML {
				t.Errorf("%q", l.Parts)
			}
		})
	}
}

// TestServer_Again proves that a message which is sent twice is the same one to its recipient.
func TestServer_Again(t *testing.T) {
	srv := smtptest.StartServer(t)
	s := sender(t, holdfast.Mail{Port: srv.Port, TLS: holdfast.MailTLSStart, User: "holdfast"}, srv.Identity.Roots)
	for range 2 {
		if r := s.Send(t.Context(), message("a@example.com")); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
	}
	if l := srv.Letters(t); len(l) != 2 || l[0].Header.Get("Message-ID") != l[1].Header.Get("Message-ID") {
		t.Errorf("%+v", l)
	}
}

// TestServer_WrongPassword proves what a real server's no looks like.
func TestServer_WrongPassword(t *testing.T) {
	srv := smtptest.StartServer(t)
	m := holdfast.Mail{Port: srv.Port, TLS: holdfast.MailTLSStart, User: "somebody"}
	r := sender(t, m, srv.Identity.Roots).Send(t.Context(), message("a@example.com"))[0]
	if !holdfast.IsKind(r.Err, holdfast.KindRefused) || r.Again() {
		t.Errorf("%v", r.Err)
	}
	checkWords(t, r.Err, "user and password")
	m.User = ""
	r = sender(t, m, srv.Identity.Roots).Send(t.Context(), message("a@example.com"))[0]
	if !holdfast.IsKind(r.Err, holdfast.KindRefused) {
		t.Errorf("without an account: %v", r.Err)
	}
	checkWords(t, r.Err, "530")
}
