//go:build !linux

package proxy

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watcher notices callers that leave while their request is served. Where
// there is no EPOLLRDHUP it looks at the sockets ten times a second; a caller
// that leaves behind unread bytes, or under TLS, is noticed at the next write.
type watcher struct {
	mu   sync.Mutex // guards what follows
	gone map[*syscall.RawConn]func()
}

func newWatcher() (*watcher, error) { return &watcher{gone: map[*syscall.RawConn]func(){}}, nil }

func (w *watcher) run() {
	for range time.Tick(100 * time.Millisecond) {
		var left []func()
		w.mu.Lock()
		for raw, gone := range w.gone {
			if hasLeft(*raw) {
				left = append(left, gone)
				delete(w.gone, raw)
			}
		}
		w.mu.Unlock()
		for _, gone := range left {
			gone()
		}
	}
}

// hasLeft peeks whether the end of the stream is next.
func hasLeft(raw syscall.RawConn) (left bool) {
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		left = n == 0 && err == nil || err == unix.ECONNRESET
	})
	return left || err != nil
}

func (w *watcher) watch(conn net.Conn, gone func()) (stop func()) {
	raw := rawConn(conn)
	if raw == nil {
		return func() {}
	}
	w.mu.Lock()
	w.gone[&raw] = gone
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		delete(w.gone, &raw)
		w.mu.Unlock()
	}
}

func (w *watcher) closed(net.Conn, bool) {}
