package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// readDeadlines notes the deadlines of a connection.
type readDeadlines struct {
	net.Conn
	set []time.Time
}

func (d *readDeadlines) SetReadDeadline(t time.Time) error { d.set = append(d.set, t); return nil }

// Each read of an upload has its own time, so that a stalled one ends; what the
// server has read ahead needs none.
func TestUploadsMayNotStall(t *testing.T) {
	for length, want := range map[int64]bool{-1: true, readAhead + 1: true, readAhead: false, 1: false} {
		conn := &readDeadlines{}
		g := &guard{r: strings.NewReader(strings.Repeat("x", max(1, int(length)))), conn: conn, length: length}
		before := time.Now()
		if _, err := io.ReadFull(g, make([]byte, max(1, int(length)))); err != nil {
			t.Fatal(err)
		}
		if got := len(conn.set) > 0; got != want || got && conn.set[0].Before(before.Add(uploadIdle)) {
			t.Errorf("a body of %d bytes: deadlines %v", length, conn.set)
		}
	}
}

// stalled is a connection from which nothing comes; a read ends by its deadline.
type stalled struct {
	net.Conn
	mu sync.Mutex // guards deadline
	// deadline is the last one that was set.
	deadline time.Time
	// over is closed when it is in the past.
	over chan struct{}
	// setting is called in the midst of setting one that is not.
	setting func()
}

func (s *stalled) SetReadDeadline(t time.Time) error {
	past := !t.IsZero() && t.Before(time.Now())
	if !past && s.setting != nil {
		s.setting()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	if past {
		close(s.over)
	}
	return nil
}

func (s *stalled) Read([]byte) (int, error) {
	<-s.over
	return 0, os.ErrDeadlineExceeded
}

// A read of a body that begins just when its call ends does not wait for a caller
// that stalls, with all who want to end or begin a call waiting for it: the
// deadline that was to end it was overwritten.
func TestReleaseIsNotOverwritten(t *testing.T) {
	conn := &stalled{over: make(chan struct{})}
	released := make(chan struct{})
	g := &guard{conn: conn, length: -1}
	g.r = readerFunc(func([]byte) (int, error) {
		t.Error("it was read on")
		return 0, io.EOF
	})
	conn.setting = func() {
		conn.setting = nil
		go func() { defer close(released); g.release() }()
		<-conn.over
	}
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, errReleased) {
		t.Error(err)
	}
	within(t, 5*time.Second, "it is released", released)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The server discards what is left of a body after it was released: a caller that
// stalls does not keep it for ever.
func TestReleasedBodyIsNotDiscardedForEver(t *testing.T) {
	conn := &stalled{over: make(chan struct{})}
	reading := make(chan struct{})
	ended := make(chan error, 1)
	g := &guard{conn: conn, length: 100_000}
	g.r = readerFunc(func(p []byte) (int, error) { close(reading); return conn.Read(p) })
	go func() {
		_, err := g.Read(make([]byte, 1))
		ended <- err
	}()
	<-reading
	g.release()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if left := time.Until(conn.deadline); left <= 0 || left > lingerTime {
		t.Errorf("%v are left to read the rest", left)
	}
}
