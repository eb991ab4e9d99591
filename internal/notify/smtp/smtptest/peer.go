package smtptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What a Peer does instead of replying.
const (
	Drop    = "drop"    // closes the connection
	Silence = "silence" // says nothing any more
)

// Peer is a mail server that plays a script: a reply for each verb, "" being the usual one. It takes down what it was told.
type Peer struct {
	Identity Identity
	Implicit bool // TLS from the first byte
	Port     int  // set by Listen

	mu     sync.Mutex // guards what follows
	script map[string]string
	heard  []string
}

// Play lets it play a script from now on.
func (p *Peer) Play(script map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = script
}

func (p *Peer) scripted(verb string) (reply string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	reply, ok = p.script[verb]
	return reply, ok
}

// Listen lets it serve until the test ends.
func (p *Peer) Listen(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Port = listener.Addr().(*net.TCPAddr).Port
	var wait sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it serves until the cleanup, after the end of the test's context
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
func (p *Peer) serve(ctx context.Context, conn net.Conn) {
	if p.Implicit {
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{p.Identity.pair}})
	}
	in := bufio.NewReader(conn)
	say := func(verb, usual string) bool {
		text := usual
		if scripted, ok := p.scripted(verb); ok {
			text = scripted
		}
		switch text {
		case Silence:
			<-ctx.Done()
			return false
		case Drop:
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
				conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{p.Identity.pair}})
				in = bufio.NewReader(conn)
			}
		case "AUTH":
			ok = say("AUTH", "235 2.7.0 welcome")
		case "RCPT":
			ok = say(command, "250 2.1.5 ok") // by the whole command: each recipient has a reply of his own
		case "DATA":
			ok = say("DATA", "354 go on")
			if _, scripted := p.scripted("DATA"); ok && !scripted {
				ok = take(in) && say(".", "250 2.0.0 queued")
			}
		case "QUIT":
			say("QUIT", "221 bye")
			return
		default:
			ok = say(verb, "250 2.0.0 ok")
		}
	}
}

// take reads a message to its end.
func take(in *bufio.Reader) bool {
	for {
		if line, err := in.ReadString('\n'); err != nil || line == ".\r\n" {
			return err == nil
		}
	}
}

func (p *Peer) hear(command string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, command)
}

// Count is how many commands it heard that begin with a prefix.
func (p *Peer) Count(prefix string) int {
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

// Heard returns the commands that it heard.
func (p *Peer) Heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}
