package proxy

import (
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher notices callers that close, reset or half-close their connection
// while their request is served: the server itself would only notice when it
// writes. One epoll instance asks the kernel for EPOLLRDHUP, which comes
// although unread bytes are waiting, and under TLS; no byte is consumed.
type watcher struct {
	epoll int

	mu      sync.Mutex // guards what follows
	gone    map[watched]func()
	counter uint32
}

// watched is one registration: the counter tells a descriptor from its
// successor of the same number.
type watched struct {
	fd int32
	n  uint32
}

func newWatcher() (*watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &watcher{epoll: fd, gone: map[watched]func(){}}, nil
}

// run calls back until the process ends.
func (w *watcher) run() {
	events := make([]unix.EpollEvent, 128)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			key := watched{e.Fd, uint32(e.Pad)}
			w.mu.Lock()
			gone := w.gone[key]
			delete(w.gone, key)
			w.mu.Unlock()
			if gone != nil {
				gone()
			}
		}
	}
}

// watch calls gone, once, when the peer of conn leaves. stop must be called
// before the connection serves its next request.
func (w *watcher) watch(conn net.Conn, gone func()) (stop func()) {
	raw := rawConn(conn)
	if raw == nil {
		return func() {}
	}
	w.mu.Lock()
	w.counter++
	key := watched{n: w.counter}
	w.mu.Unlock()
	added := false
	_ = raw.Control(func(fd uintptr) {
		key.fd = int32(fd)
		w.mu.Lock()
		w.gone[key] = gone
		w.mu.Unlock()
		event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: key.fd, Pad: int32(key.n)}
		added = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, int(fd), &event) == nil
	})
	return func() {
		w.mu.Lock()
		delete(w.gone, key)
		w.mu.Unlock()
		if added {
			_ = raw.Control(func(fd uintptr) { _ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, int(fd), nil) })
		}
	}
}

// rawConn is the socket below a connection, TLS or not; nil if there is none.
func rawConn(conn net.Conn) syscall.RawConn {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
