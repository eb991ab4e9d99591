package smtp_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
)

// python is Debian's own, for which python3-aiosmtpd is installed; another one first in the path would not find it.
const python = "/usr/bin/python3"

// server is a running aiosmtpd.
type server struct {
	port   int
	folder string
	id     identity
}

// startServer starts one, which ends with the test. Without it the test is skipped, or fails when HOLDFAST_REQUIRE_TOOLS=1.
func startServer(t *testing.T, arguments ...string) server {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import aiosmtpd").CombinedOutput(); err != nil {
		if os.Getenv("HOLDFAST_REQUIRE_TOOLS") == "1" {
			t.Fatalf("HOLDFAST_REQUIRE_TOOLS=1 wants aiosmtpd (Debian: python3-aiosmtpd): %v %s", err, out)
		}
		t.Skip("aiosmtpd is not installed (Debian: python3-aiosmtpd)")
	}
	s := server{folder: t.TempDir(), id: newIdentity(t, "127.0.0.1")}
	certificate, key := filepath.Join(t.TempDir(), "certificate"), filepath.Join(t.TempDir(), "key")
	for file, data := range map[string][]byte{certificate: s.id.certificate, key: s.id.key} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	arguments = append([]string{"testdata/server.py", "--certificate", certificate, "--key", key, "--folder", s.folder, "--user", "holdfast", "--password", password}, arguments...)
	command := exec.CommandContext(t.Context(), python, arguments...)
	command.Stderr = t.Output()
	in, inErr := command.StdinPipe()
	out, outErr := command.StdoutPipe()
	if inErr != nil || outErr != nil {
		t.Fatal(inErr, outErr)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // the server ends with its input
		_ = command.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	if s.port, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return s
}

// letter is a message as a mail server took it.
type letter struct {
	From string   `json:"from"`
	To   []string `json:"to"`
	User string   `json:"user"`
	TLS  bool     `json:"tls"`

	header netmail.Header
	parts  map[string]string // by type
}

func (s server) letters(t *testing.T) []letter {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.folder, "*[0-9]"))
	if err != nil {
		t.Fatal(err)
	}
	var all []letter
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, _ := strings.Cut(string(data), "\n")
		l := letter{parts: map[string]string{}}
		if err := json.Unmarshal([]byte(head), &l); err != nil {
			t.Fatal(err)
		}
		read, err := netmail.ReadMessage(strings.NewReader(rest))
		if err != nil {
			t.Fatal(err)
		}
		l.header = read.Header
		kind, parameters, err := mime.ParseMediaType(read.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/alternative" {
			t.Fatalf("%s, %v", kind, err)
		}
		for parts := multipart.NewReader(read.Body, parameters["boundary"]); ; {
			part, err := parts.NextRawPart()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var body io.Reader = part
			if part.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
				body = quotedprintable.NewReader(part)
			}
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			l.parts[part.Header.Get("Content-Type")] = strings.ReplaceAll(string(text), "\r\n", "\n")
		}
		all = append(all, l)
	}
	return all
}

// TestServer sends through a mail server of other people's making, in both ways of TLS, and reads with the standard library what arrived.
func TestServer(t *testing.T) {
	for way, arguments := range map[holdfast.MailTLS][]string{holdfast.MailTLSStart: nil, holdfast.MailTLSFirst: {"--implicit"}} {
		t.Run(string(way), func(t *testing.T) {
			srv := startServer(t, arguments...)
			s := sender(t, holdfast.Mail{Port: srv.port, TLS: way, User: "holdfast"}, srv.id.roots)
			one, two := message("a@example.com"), message("b@example.com")
			results := s.Send(t.Context(), one, message("nobody@example.com"), two)
			if results[0].Err != nil || !holdfast.IsKind(results[1].Err, holdfast.KindRefused) || results[2].Err != nil {
				t.Fatalf("%+v", results)
			}
			checkWords(t, results[1].Err, "550 5.1.1 no such mailbox")
			letters := srv.letters(t)
			if len(letters) != 2 {
				t.Fatalf("%d letters", len(letters))
			}
			l := letters[0]
			subject, err := new(mime.WordDecoder).DecodeHeader(l.header.Get("Subject"))
			if err != nil || subject != one.Subject || l.From != "holdfast@example.com" || len(l.To) != 1 || l.To[0] != "a@example.com" || l.User != "holdfast" || !l.TLS {
				t.Errorf("%+v, %q, %v", l, subject, err)
			}
			if l.header.Get("Message-ID") != "<"+one.Delivery()+"@example.com>" || l.header.Get("Auto-Submitted") != "auto-generated" || l.header.Get("Date") != "Mon, 30 Nov 2026 21:00:00 +0000" {
				t.Errorf("%v", l.header)
			}
			if strings.TrimSpace(l.parts["text/plain; charset=UTF-8"]) != strings.TrimSpace(one.Text) || l.parts["text/html; charset=UTF-8"] != one.HTML {
				t.Errorf("%q", l.parts)
			}
		})
	}
}

// TestServer_Again proves that a message which is sent twice is the same one to its recipient.
func TestServer_Again(t *testing.T) {
	srv := startServer(t)
	s := sender(t, holdfast.Mail{Port: srv.port, TLS: holdfast.MailTLSStart, User: "holdfast"}, srv.id.roots)
	for range 2 {
		if r := s.Send(t.Context(), message("a@example.com")); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
	}
	if l := srv.letters(t); len(l) != 2 || l[0].header.Get("Message-ID") != l[1].header.Get("Message-ID") {
		t.Errorf("%+v", l)
	}
}

// TestServer_WrongPassword proves what a real server's no looks like.
func TestServer_WrongPassword(t *testing.T) {
	srv := startServer(t)
	m := holdfast.Mail{Port: srv.port, TLS: holdfast.MailTLSStart, User: "somebody"}
	r := sender(t, m, srv.id.roots).Send(t.Context(), message("a@example.com"))[0]
	if !holdfast.IsKind(r.Err, holdfast.KindRefused) || r.Again() {
		t.Errorf("%v", r.Err)
	}
	checkWords(t, r.Err, "user and password")
	m.User = ""
	r = sender(t, m, srv.id.roots).Send(t.Context(), message("a@example.com"))[0]
	if !holdfast.IsKind(r.Err, holdfast.KindRefused) {
		t.Errorf("without an account: %v", r.Err)
	}
	checkWords(t, r.Err, "530")
}
