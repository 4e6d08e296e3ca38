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

	over atomic.Bool
	mu   sync.Mutex // held by the read that is running
	eof  bool
}

func (g *guard) Read(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over.Load() {
		return 0, errReleased
	}
	// A slow upload may go on for long, a stalled one not.
	if err := g.conn.SetReadDeadline(time.Now().Add(uploadIdle)); err != nil {
		return 0, err
	}
	n, err := g.r.Read(p)
	if err == io.EOF {
		g.eof = true
	}
	return n, err
}

// release ends the reading, a read that is running included, and reports
// whether the body was read to its end.
func (g *guard) release() (whole bool) {
	g.over.Store(true)
	if !g.mu.TryLock() {
		_ = g.conn.SetReadDeadline(time.Unix(1, 0))
		g.mu.Lock()
		_ = g.conn.SetReadDeadline(time.Time{})
	}
	defer g.mu.Unlock()
	return g.eof
}
