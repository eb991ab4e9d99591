package loopback

import (
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Listen opens a port. It refuses every address that other machines could reach. field is the flag that names the address,
// for errors; an empty port means any free one.
func Listen(field, address string) (net.Listener, error) {
	invalid := func(format string, args ...any) error {
		return holdfast.Errorf(holdfast.KindInvalid, format, args...).WithField(field).
			WithHint("the twin listens on this machine alone: give 127.0.0.1:PORT, or leave --%s out", field)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, invalid("%q is no address; accepted: 127.0.0.1:PORT", address)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	if ip == nil || (!ip.Equal(net.IPv4(127, 0, 0, 1)) && !ip.Equal(net.IPv6loopback)) {
		return nil, invalid("the address %s is not loopback", address)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, invalid("%q is no port", port)
	}
	port = strconv.FormatUint(number, 10)
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindConflict, err, "the address %s cannot be used", address).WithField(field).
			WithHint("another program has it; stop it, or give the twin another address with --%s", field)
	}
	return listener, nil
}

// firstByteTime bounds how long a connection may be silent before it has said whether it is TLS.
const firstByteTime = time.Minute

// tlsHandshake is the first byte of every TLS connection: the content type of a handshake record (RFC 8446 §5.1).
const tlsHandshake = 0x16

// Splitter hands each connection of a port to one of two listeners, by its first byte. Run must be running for anything to
// arrive. Safe for concurrent use.
type Splitter struct {
	from   net.Listener
	plain  *branch
	secure *branch
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	waiting map[net.Conn]bool // guarded by mu; connections that have said nothing yet
	sorting sync.WaitGroup
}

// NewSplitter takes over a port.
func NewSplitter(from net.Listener) *Splitter {
	s := &Splitter{from: from, closed: make(chan struct{}), waiting: map[net.Conn]bool{}}
	s.plain = &branch{split: s, conns: make(chan net.Conn)}
	s.secure = &branch{split: s, conns: make(chan net.Conn)}
	return s
}

// Plain returns the listener for connections that do not begin with TLS.
func (s *Splitter) Plain() net.Listener { return s.plain }

// Secure returns the listener for connections that begin with TLS; the handshake is still to be done.
func (s *Splitter) Secure() net.Listener { return s.secure }

// Run accepts until Close, then waits for the connections that are being sorted.
func (s *Splitter) Run() error {
	defer s.sorting.Wait()
	for {
		conn, err := s.from.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return holdfast.Wrap(holdfast.KindUnavailable, err, "the data port fails")
		}
		if !s.hold(conn) {
			_ = conn.Close()
			return nil
		}
		s.sorting.Go(func() { s.sort(conn) })
	}
}

// hold remembers a silent connection, so that Close can end it; it returns false after Close.
func (s *Splitter) hold(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return false
	default:
		s.waiting[conn] = true
		return true
	}
}

func (s *Splitter) sort(conn net.Conn) {
	first := make([]byte, 1)
	_ = conn.SetReadDeadline(clock.System{}.Now().Add(firstByteTime)) // a connection that cannot take one is about to fail anyway
	_, err := conn.Read(first)
	_ = conn.SetReadDeadline(time.Time{})
	s.mu.Lock()
	delete(s.waiting, conn)
	s.mu.Unlock()
	if err != nil {
		_ = conn.Close()
		return
	}
	to := s.plain
	if first[0] == tlsHandshake {
		to = s.secure
	}
	select {
	case to.conns <- &peekedConn{Conn: conn, first: first}:
	case <-s.closed:
		_ = conn.Close()
	}
}

// Close ends the port and both branches.
func (s *Splitter) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.closed)
		_ = s.from.Close() // Accept ends, which is what matters
		for conn := range s.waiting {
			_ = conn.Close()
		}
	})
	return nil
}

// branch is a listener for one sort of connection.
type branch struct {
	split *Splitter
	conns chan net.Conn
}

// Accept implements net.Listener.
func (b *branch) Accept() (net.Conn, error) {
	select {
	case conn := <-b.conns:
		return conn, nil
	case <-b.split.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; both branches end together.
func (b *branch) Close() error { return b.split.Close() }

// Addr implements net.Listener.
func (b *branch) Addr() net.Addr { return b.split.from.Addr() }

// peekedConn gives back the byte that was read to sort it. Owned by the server's goroutine for the connection, which
// alone reads.
type peekedConn struct {
	net.Conn
	first []byte
}

func (c *peekedConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 && len(p) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
