package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// uploadIdle is how long a caller may send nothing in the middle of its body.
const uploadIdle = 30 * time.Second

var errReleased = errors.New("the request is over")

// guard hands a request's body stream to the transport, which may go on reading
// it after it has answered, while the server wants its connection back. After
// release nobody reads any more.
type guard struct {
	r    io.Reader
	conn net.Conn
	// length is what the request says of its body, -1 if it says nothing.
	length int64

	over, done atomic.Bool
	mu         sync.Mutex // held by the read that is running; guards what follows
	seen       int64
}

func (g *guard) Read(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over.Load() {
		return 0, errReleased
	}
	// A slow upload may go on for long, a stalled one not. A short one is here.
	if g.length < 0 || g.length > readAhead {
		if err := g.conn.SetReadDeadline(time.Now().Add(uploadIdle)); err != nil {
			return 0, err
		}
		if g.over.Load() { // meanwhile: its deadline was overwritten
			return 0, errReleased
		}
	}
	n, err := g.r.Read(p)
	g.seen += int64(n)
	if err == io.EOF && g.seen < g.length {
		// The server takes the end of the connection for that of the body.
		return n, io.ErrUnexpectedEOF
	}
	if err == io.EOF || g.seen == g.length {
		g.done.Store(true)
	}
	return n, err
}

// whole reports whether the body was read to its end.
func (g *guard) whole() bool { return g.done.Load() }

// release ends the reading, a read that is running included.
func (g *guard) release() {
	g.over.Store(true)
	if !g.mu.TryLock() {
		_ = g.conn.SetReadDeadline(time.Unix(1, 0))
		g.mu.Lock()
		// The server discards what is left of a short body.
		_ = g.conn.SetReadDeadline(time.Now().Add(lingerTime))
	}
	g.mu.Unlock()
}
