package proxy

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection whose reads and writes Go's scheduler is not told of.
// Told of a system call in a program that was idle, as it is between two chunks of
// a stream, it wakes the thread that looks for calls which last long, and that one
// goes to sleep again: half as much work again for each chunk. Calls on a socket
// never last long, since it does not block, and what is large goes the usual way.
type socket struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out direction
}

// direction is what is read from a socket, or written to it.
type direction struct {
	mu  sync.Mutex // held while it is; guards what follows
	p   []byte     // what is left to be done
	n   int        // what was done
	err syscall.Errno
	// turn does what can be done now, and reports whether it is over.
	turn func(fd uintptr) bool
}

// maxTurn is the most that is read or written in one system call that the
// scheduler is not told of, in bytes.
const maxTurn = 64 << 10

// newSocket makes a socket of a connection, if it is one of TCP.
func newSocket(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	s := &socket{TCPConn: tcp, raw: raw}
	s.in.turn, s.out.turn = s.in.read, s.out.write
	return s
}

// NetConn returns the connection below.
func (s *socket) NetConn() net.Conn { return s.TCPConn }

// Read implements [net.Conn].
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 || len(p) > maxTurn {
		return s.TCPConn.Read(p)
	}
	n, err := s.do("read", &s.in, p, s.raw.Read)
	if err == nil && n == 0 {
		return 0, io.EOF
	}
	return n, err
}

// Write implements [net.Conn].
func (s *socket) Write(p []byte) (int, error) {
	if len(p) == 0 || len(p) > maxTurn {
		return s.TCPConn.Write(p)
	}
	return s.do("write", &s.out, p, s.raw.Write)
}

// do takes turns at the socket, with waiting in between, until it is done. Errors
// have the form that package net gives them.
func (s *socket) do(op string, d *direction, p []byte, turns func(func(fd uintptr) bool) error) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p, d.n, d.err = p, 0, 0
	err = turns(d.turn)
	d.p = nil
	if err == nil && d.err != 0 {
		err = &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, d.err)}
	}
	return d.n, err
}

// read reads what is there.
func (d *direction) read(fd uintptr) (over bool) {
	d.n, d.err = rawRead(fd, d.p)
	return d.err != unix.EAGAIN
}

// write writes all, or what there is room for.
func (d *direction) write(fd uintptr) (over bool) {
	for len(d.p) > 0 {
		n, err := rawWrite(fd, d.p)
		if d.err = err; err != 0 {
			return err != unix.EAGAIN
		}
		d.p, d.n = d.p[n:], d.n+n
	}
	return true
}
