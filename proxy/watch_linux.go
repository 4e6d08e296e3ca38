package proxy

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher notices callers that close, reset or half-close their connection
// while their request is served: the server itself would only notice when it
// writes. One epoll instance asks the kernel for EPOLLRDHUP, which comes
// although unread bytes are waiting, and under TLS; no byte is consumed. A
// connection is entered once, with its first request.
type watcher struct {
	epoll int

	mu      sync.Mutex // guards what follows, and the watched
	byConn  map[net.Conn]*watched
	byFD    map[int32]*watched
	counter uint32
}

// watched is one connection.
type watched struct {
	w    *watcher
	conn net.Conn
	fd   int32
	// n tells a descriptor from its successor of the same number.
	n uint32
	// gone is told that the peer left; nil while no request is served.
	gone func()
	// left says that it did.
	left bool
	// last says that the connection serves no further request.
	last bool
	stop func()
}

func newWatcher() (*watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &watcher{epoll: fd, byConn: map[net.Conn]*watched{}, byFD: map[int32]*watched{}}, nil
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
			if gone := w.leave(e.Fd, uint32(e.Pad)); gone != nil {
				gone()
			}
		}
	}
}

// leave notes that the peer of a connection left, and returns who is to be told.
func (w *watcher) leave(fd int32, n uint32) (gone func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.byFD[fd]
	if x == nil || x.n != n || x.left {
		return nil
	}
	x.left = true
	gone, x.gone = x.gone, nil
	return gone
}

// watch calls gone, once, when the peer of conn leaves, or has left. stop must
// be called before the connection serves its next request.
func (w *watcher) watch(conn net.Conn, gone func()) (stop func()) {
	x := w.watched(conn)
	if x == nil {
		return func() {}
	}
	w.mu.Lock()
	left := x.left
	if !left {
		x.gone = gone
	}
	w.mu.Unlock()
	if left {
		gone()
	}
	return x.stop
}

// watched is the entry of a connection, a new one with its first request; nil
// where there is no socket.
func (w *watcher) watched(conn net.Conn) *watched {
	w.mu.Lock()
	x := w.byConn[conn]
	w.mu.Unlock()
	if x != nil {
		return x
	}
	raw := rawConn(conn)
	if raw == nil {
		return nil
	}
	x = &watched{w: w, conn: conn}
	x.stop = x.end
	_ = raw.Control(func(fd uintptr) {
		w.mu.Lock()
		w.counter++
		x.fd, x.n = int32(fd), w.counter
		w.byConn[conn], w.byFD[x.fd] = x, x
		w.mu.Unlock()
		// Each change is told once. The descriptor leaves with its closing.
		event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: x.fd, Pad: int32(x.n)}
		_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, int(fd), &event)
	})
	return x
}

// end ends the watch for one request.
func (x *watched) end() {
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	x.gone = nil
	if x.last {
		x.w.forget(x)
	}
}

// forget takes a connection out. mu is held.
func (w *watcher) forget(x *watched) {
	delete(w.byConn, x.conn)
	if w.byFD[x.fd] == x { // else the number has a new owner
		delete(w.byFD, x.fd)
	}
}

// closed is told by the server that it closed a connection, or gave it away:
// then somebody may still answer on it.
func (w *watcher) closed(conn net.Conn, givenAway bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.byConn[conn]
	switch {
	case x == nil:
	case givenAway && x.gone != nil:
		x.last = true
	default:
		w.forget(x)
	}
}
