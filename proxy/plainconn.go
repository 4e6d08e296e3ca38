package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// plainConn is a connection to a provider that is spoken to in plain HTTP/1.1.
type plainConn struct {
	way  *plain
	conn net.Conn
	r    *bufio.Reader
	raw  syscall.RawConn // nil where there is none
	// sending says that a large body is being sent, or was not sent whole.
	sending atomic.Bool
	// request ends with the request on it, by closing the connection.
	request mortal
	// pruned is how often it was looked at while it is idle.
	pruned int
	// turn is what is done when the socket is ours, and look a function of it: see
	// stands and write.
	turn turn
	look func(fd uintptr) bool
}

// turn is one turn at a socket.
type turn struct {
	peeked [1]byte
	// used asks whether something came; on a new connection the provider may speak
	// first. quiet says that nothing did, and that the other end is there.
	used, quiet bool
	// out is what is to be written, if anything, and n how much of it was.
	out []byte
	n   int
	err syscall.Errno
	// wait says that the turn ends when something comes.
	wait    bool
	attempt *attempt
}

// errMalformed is an answer that is not HTTP, or could be read in two ways.
var errMalformed = errors.New("the provider's answer is malformed HTTP")

// maxEarly is how many answers may come before the real one (RFC 9110 §15.2).
const maxEarly = 8

func newPlainConn(way *plain, conn net.Conn) *plainConn {
	c := &plainConn{way: way, conn: conn, r: bufio.NewReaderSize(conn, 4<<10), raw: rawConn(conn)}
	c.request.f = c.close
	c.look = c.take
	return c
}

// take takes a turn, and is called again when something came.
func (c *plainConn) take(fd uintptr) (over bool) {
	t := &c.turn
	if t.n > 0 {
		return true
	}
	if t.used {
		if t.quiet = c.isQuiet(fd); !t.quiet || len(t.out) == 0 {
			return true
		}
	}
	if t.n, t.err = rawWrite(fd, t.out); t.n < len(t.out) {
		return true
	}
	if !t.wait {
		return true
	}
	t.attempt.noteSent() // it is the whole request
	// What came before the turn would not end the waiting.
	return !t.used && !c.isQuiet(fd)
}

// isQuiet reports whether there is nothing to read, not even the end.
func (c *plainConn) isQuiet(fd uintptr) bool {
	_, err := rawPeek(fd, c.turn.peeked[:])
	return err == unix.EAGAIN
}

// stands reports whether an idle connection is open, and nothing came on it
// since its last answer: what comes unasked is nobody's answer.
func (c *plainConn) stands() bool {
	c.turn = turn{used: true}
	return c.raw != nil && c.raw.Read(c.look) == nil && c.turn.quiet
}

// errStale is a connection of no use any more.
var errStale = errors.New("the connection was closed, or something came on it that nobody had asked for")

// write writes a request, or its head, to a connection; one that was used must
// stand. With wait it returns when something came: to look, to write and to wait
// in one turn is a system call less than one after the other. n is how much was
// written.
func (c *plainConn) write(out []byte, used, wait bool, a *attempt) (n int, err error) {
	if c.raw == nil {
		return c.conn.Write(out)
	}
	c.turn = turn{out: out, used: used, wait: wait, attempt: a}
	err = c.raw.Read(c.look)
	t := c.turn
	c.turn = turn{}
	switch {
	case t.n == len(out):
		return t.n, nil // what went wrong behind it will be read
	case err != nil:
		return t.n, err
	case used && !t.quiet:
		return 0, errStale
	case t.err != 0 && t.err != unix.EAGAIN:
		return t.n, t.err
	}
	n, err = c.conn.Write(out[t.n:])
	return t.n + n, err
}

func (c *plainConn) close() { _ = c.conn.Close() }

// ask sends a request and reads the head of its answer. After an error the
// connection is of no use; again says that the request did not reach the
// provider, or may be sent twice.
func (c *plainConn) ask(l *life, s *sending, out []byte, used bool, a *attempt) (resp *plainAnswer, again bool, err error) {
	if !l.join(&c.request) {
		return nil, true, l.Err()
	}
	held := s.body.memory != nil
	n, err := c.write(out, used, !held, a)
	if err != nil && n == 0 {
		l.part(&c.request)
		return nil, true, err
	}
	if held && err == nil {
		large := s.body.large(s.edits)
		// The provider may answer before it has read all, and the memory is free
		// when all is written.
		c.sending.Store(true)
		go func() {
			_, err := large.WriteTo(c.conn)
			_ = large.Close()
			if err == nil {
				c.sending.Store(false)
				a.noteSent()
			}
		}()
	} else if err == nil {
		a.noteSent()
	}
	// A provider may refuse without reading all, and close: its answer is there.
	resp, err2 := c.answer(s.call.Method == http.MethodHead)
	if err2 != nil {
		l.part(&c.request)
		ended := err2 == io.EOF || errors.Is(err2, syscall.ECONNRESET)
		return nil, ended && s.isSafe(), errors.Join(err, err2)
	}
	if err != nil {
		resp.last = true
	}
	resp.Body = c.body(resp, s.call.Method == http.MethodHead, l)
	return resp, false, nil
}

// isSafe reports whether a request may be sent a second time where the first
// got no answer.
func (s *sending) isSafe() bool {
	m := s.call.Method
	return s.body.none && (m == http.MethodGet || m == http.MethodHead || m == http.MethodOptions)
}

// answer reads heads until the one of the final answer; head says that only that
// was asked for.
func (c *plainConn) answer(head bool) (*plainAnswer, error) {
	for range maxEarly {
		resp, err := readHead(c.r, head)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode < 100 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
	return nil, errMalformed
}

// plainBody is the body of an answer. At its end the connection is kept for the
// next request, or closed.
type plainBody struct {
	c *plainConn // nil once it has ended
	r io.Reader  // what is left of it in the connection
	// left is what is missing of a known length, else -1.
	left  int64
	chunk bool
	keep  bool // the connection may serve another request
	life  *life
	err   error // after the end
}

func (c *plainConn) body(resp *plainAnswer, head bool, l *life) *plainBody {
	b := &resp.body
	*b = plainBody{c: c, r: c.r, left: resp.ContentLength, keep: !resp.last, life: l}
	switch {
	case head || b.left == 0:
		b.finish()
	case resp.chunked:
		b.chunk, b.r = true, httputil.NewChunkedReader(c.r)
	}
	return b
}

// Read returns the body's bytes as they come. An end before that of the body is
// [io.ErrUnexpectedEOF].
func (b *plainBody) Read(p []byte) (int, error) {
	if b.c == nil {
		return 0, b.err
	}
	if b.left >= 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	switch {
	case b.left >= 0:
		b.left -= int64(n)
		if b.left == 0 {
			b.finish()
			return n, io.EOF
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	case err == io.EOF && b.chunk:
		if err = b.trailers(); err == nil {
			b.finish()
			return n, io.EOF
		}
	case err == io.EOF:
		b.finish()
		return n, io.EOF
	}
	if err != nil {
		b.fail(err)
	}
	return n, err
}

// trailers reads what follows the last chunk, which nobody asked for.
func (b *plainBody) trailers() error {
	for range maxHead / 4 {
		line, err := b.c.r.ReadSlice('\n')
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		switch {
		case string(line) == "\r\n":
			return nil
		case !bytes.HasSuffix(line, []byte("\r\n")) || !canonical(trimLine(line)):
			return errMalformed
		}
	}
	return errMalformed
}

// finish ends a body that is complete.
func (b *plainBody) finish() {
	c := b.c
	b.c, b.err = nil, io.EOF
	if b.life.part(&c.request) && b.keep && c.r.Buffered() == 0 && !c.sending.Load() {
		c.way.put(c)
	} else {
		c.close()
	}
}

// fail ends a body that is not.
func (b *plainBody) fail(err error) {
	c := b.c
	b.c, b.err = nil, err
	b.life.part(&c.request)
	c.close()
}

// Close ends the body. One that was not read to its end takes the connection
// with it, so that the provider need not go on.
func (b *plainBody) Close() error {
	if b.c != nil {
		b.fail(errors.New("the body is closed"))
	}
	return nil
}
