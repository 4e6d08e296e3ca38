package proxy

import (
	"io"
	"net"
	"testing"
)

// closeable is a provider's end of a WebSocket.
type closeable struct {
	io.ReadWriter
	closed int
}

func (c *closeable) Close() error { c.closed++; return nil }

// A relay may be cut at the moment at which it ends, when the server has taken
// its connection back and uses its memory for another one.
func TestCutAfterTheEnd(t *testing.T) {
	conn, other := net.Pipe()
	defer other.Close()
	end := &closeable{}
	// The server's connection is one without anything in it.
	r := &relay{caller: struct{ net.Conn }{}, below: conn, socket: &webSocket{ReadWriteCloser: end}}
	r.cut()
	if err := conn.Close(); err != nil || end.closed != 1 {
		t.Errorf("closed %d times, %v", end.closed, err)
	}
}
