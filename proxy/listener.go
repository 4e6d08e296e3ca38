package proxy

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// NewListener returns ln as a listener for the app of [Gateway.Server], with or
// without TLS around it. A connection that can't be accepted because the process
// or the machine is out of descriptors or memory waits until it can, and log says
// so; the server would end. TCP connections take a third less of the processor
// where chunks of streams come one by one. Closing it closes ln.
func NewListener(ln net.Listener, log zerolog.Logger) net.Listener {
	return &listener{Listener: ln, log: log, closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	log    zerolog.Logger
	once   sync.Once
	closed chan struct{}

	mu   sync.Mutex // guards what follows
	told time.Time  // when the log was told last
}

// How long accepting waits after it failed, at first and at most, and how often
// the log is told.
const (
	acceptWait    = 5 * time.Millisecond
	acceptWaitMax = time.Second
	acceptTell    = time.Minute
)

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	for wait := acceptWait; ; wait = min(2*wait, acceptWaitMax) {
		conn, err := l.Listener.Accept()
		switch {
		case err == nil:
			return newSocket(conn), nil
		case !isShortage(err):
			return nil, err
		}
		l.tell(err)
		select {
		case <-time.After(wait):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// isShortage reports whether accepting failed for want of something that may be
// there in a moment.
func isShortage(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (l *listener) tell(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.told) >= acceptTell {
		l.told = now
		l.log.Error().Err(err).Msg("connections have to wait: raise the limit of open files (LimitNOFILE, ulimit -n), or look who opens so many")
	}
}

// Close implements [net.Listener].
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
