package proxy

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// scarce is a listener whose connections can't be accepted at first.
type scarce struct {
	net.Listener
	errno syscall.Errno
	fails int
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.fails--; s.fails >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", s.errno)}
	}
	conn, _ := net.Pipe()
	return conn, nil
}

func (s *scarce) Close() error { return nil }

// A process that is out of descriptors accepts again when it has some, and says
// what to do; it ended instead, in the midst of its load.
func TestAcceptWaitsForDescriptors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		log := &lockedBuffer{}
		ln := NewListener(&scarce{errno: errno, fails: 3}, zerolog.New(log))
		conn, err := ln.Accept()
		if err != nil {
			t.Fatalf("%v: %v", errno, err)
		}
		conn.Close()
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "LimitNOFILE") {
			t.Errorf("%v: the log says %q", errno, text)
		}
	}
}

// Other errors are the server's to judge, and a listener that is closed while it
// waits says so.
func TestAcceptEnds(t *testing.T) {
	ln := NewListener(&scarce{errno: syscall.EINVAL, fails: 1}, zerolog.Nop())
	if _, err := ln.Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	ln = NewListener(&scarce{errno: syscall.EMFILE, fails: 1 << 30}, zerolog.Nop())
	ended := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		ended <- err
	}()
	if err := errors.Join(ln.Close(), ln.Close()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits on")
	}
}
