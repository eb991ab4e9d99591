package loopback_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers each connection of a listener with a name and the first line that it reads.
func echo(listener net.Listener, name string) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil {
			_, err = io.WriteString(conn, name+" "+line)
		}
		if err := errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
}

func TestSplitter_SortsByTheFirstByte(t *testing.T) {
	dir := t.TempDir()
	certificate, err := loopback.Certificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	port, err := loopback.Listen("data", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	split := loopback.NewSplitter(port)
	ended := make(chan error, 3)
	go func() { ended <- split.Run() }()
	go func() { ended <- echo(split.Plain(), "plain") }()
	go func() {
		ended <- echo(tls.NewListener(split.Secure(), &tls.Config{Certificates: []tls.Certificate{certificate}}), "secure")
	}()

	silent, err := net.Dial("tcp", port.Addr().String()) // must not hold up the others
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for range 3 {
		plain, err := net.Dial("tcp", port.Addr().String())
		if got := converse(t, plain, err); got != "plain hello\n" {
			t.Errorf("plain: %q", got)
		}
		secure, err := tls.Dial("tcp", port.Addr().String(), &tls.Config{RootCAs: roots(t, dir), ServerName: "localhost"})
		if got := converse(t, secure, err); got != "secure hello\n" {
			t.Errorf("secure: %q", got)
		}
	}
	if err := errors.Join(split.Close(), split.Close()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a silent connection outlives the port")
	}
}

func converse(t *testing.T, conn net.Conn, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func roots(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("no certificate in ca.pem")
	}
	return pool
}

func TestCertificate_IsOfTheFoldersCAAtEveryStart(t *testing.T) {
	dir := t.TempDir()
	var before *x509.CertPool
	for start := range 2 {
		certificate, err := loopback.Certificate(dir)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(certificate.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if start == 0 {
			before = roots(t, dir)
		}
		for _, name := range []string{"127.0.0.1", "::1", "localhost", "shopvault.localhost"} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: before, DNSName: name}); err != nil {
				t.Errorf("start %d, %s: %v", start, name, err)
			}
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: before, DNSName: "management.azure.com"}); err == nil {
			t.Error("the certificate is good for a foreign name")
		}
	}
}

func TestCertificate_ADamagedCAIsNotReplacedSilently(t *testing.T) {
	dir := t.TempDir()
	if _, err := loopback.Certificate(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loopback.Certificate(dir); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Fatalf("got %v", err)
	}
}

func TestListen_RefusesWhatOthersCouldReach(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:0", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.2:0"} {
		listener, err := loopback.Listen("arm", address)
		if err == nil {
			_ = listener.Close()
		}
		var problem *holdfast.Error
		if !errors.As(err, &problem) || problem.Kind != holdfast.KindInvalid || problem.Field != "arm" {
			t.Errorf("%s: got %v", address, err)
		}
	}
}
