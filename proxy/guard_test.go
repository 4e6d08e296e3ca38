package proxy

import (
	"io"
	"net"
	"strings"
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
