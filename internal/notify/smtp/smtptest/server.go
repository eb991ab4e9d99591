package smtptest

import (
	"bufio"
	_ "embed"
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
)

// python is Debian's own, for which python3-aiosmtpd is installed; another one first in the path would not find it.
const python = "/usr/bin/python3"

// Server is a running aiosmtpd.
type Server struct {
	Port     int
	Identity Identity
	folder   string
}

//go:embed server.py
var program string

// StartServer starts one, which ends with the test. Without it the test is skipped, or fails when HOLDFAST_REQUIRE_TOOLS=1.
func StartServer(t *testing.T, arguments ...string) Server {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import aiosmtpd").CombinedOutput(); err != nil {
		if os.Getenv("HOLDFAST_REQUIRE_TOOLS") == "1" {
			t.Fatalf("HOLDFAST_REQUIRE_TOOLS=1 wants aiosmtpd (Debian: python3-aiosmtpd): %v %s", err, out)
		}
		t.Skip("aiosmtpd is not installed (Debian: python3-aiosmtpd)")
	}
	s := Server{folder: t.TempDir(), Identity: NewIdentity(t, "127.0.0.1")}
	certificate, key := filepath.Join(t.TempDir(), "certificate"), filepath.Join(t.TempDir(), "key")
	for file, data := range map[string][]byte{certificate: s.Identity.certificate, key: s.Identity.key} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	arguments = append([]string{"-c", program, "--certificate", certificate, "--key", key, "--folder", s.folder, "--user", "holdfast", "--password", Password}, arguments...)
	command := exec.CommandContext(t.Context(), python, arguments...) //nolint:gosec // our own program, in Debian's interpreter
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
	if s.Port, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return s
}

// Letter is a message as a mail server took it.
type Letter struct {
	From string   `json:"from"`
	To   []string `json:"to"`
	User string   `json:"user"`
	TLS  bool     `json:"tls"`

	Header netmail.Header
	Parts  map[string]string // by type
}

// Letters returns what it took so far, in order.
func (s Server) Letters(t testing.TB) []Letter {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.folder, "*[0-9]"))
	if err != nil {
		t.Fatal(err)
	}
	var all []Letter
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, _ := strings.Cut(string(data), "\n")
		l := Letter{Parts: map[string]string{}}
		if err := json.Unmarshal([]byte(head), &l); err != nil {
			t.Fatal(err)
		}
		read, err := netmail.ReadMessage(strings.NewReader(rest))
		if err != nil {
			t.Fatal(err)
		}
		l.Header = read.Header
		l.parse(t, read)
		all = append(all, l)
	}
	return all
}

// parse reads the parts of a message.
func (l *Letter) parse(t testing.TB, read *netmail.Message) {
	t.Helper()
	kind, parameters, err := mime.ParseMediaType(read.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("%s, %v", kind, err)
	}
	for parts := multipart.NewReader(read.Body, parameters["boundary"]); ; {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return
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
		l.Parts[part.Header.Get("Content-Type")] = strings.ReplaceAll(string(text), "\r\n", "\n")
	}
}
