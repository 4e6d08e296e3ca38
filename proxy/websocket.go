package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// keyProtocol begins the WebSocket subprotocol in which a caller presents its
// key; see [auth.Presented].
const keyProtocol = "openai-insecure-api-key."

// asksWebSocket reports whether a request asks to go on as a WebSocket.
func asksWebSocket(method string, h Headers) bool {
	if method != http.MethodGet || !strings.EqualFold(h.Get("Upgrade"), "websocket") {
		return false
	}
	for _, line := range h.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
				return true
			}
		}
	}
	return false
}

// askUpgrade asks the provider for the WebSocket that the caller asks for, but
// does not tell it the caller's key.
func askUpgrade(out http.Header) {
	out["Connection"] = []string{"Upgrade"}
	out["Upgrade"] = []string{"websocket"}
	const name = "Sec-Websocket-Protocol"
	lists := out[name]
	delete(out, name)
	for _, list := range lists {
		var rest []string
		for protocol := range strings.SplitSeq(list, ",") {
			if !strings.HasPrefix(strings.TrimSpace(protocol), keyProtocol) {
				rest = append(rest, strings.TrimSpace(protocol))
			}
		}
		if len(rest) > 0 {
			out[name] = append(out[name], strings.Join(rest, ", "))
		}
	}
}

// errUnasked is a provider's answer that switches protocols without being asked.
var errUnasked = errors.New("the provider switched protocols without being asked")

// upgraded makes the provider's end of a WebSocket the answer's Body. It owns
// the reservation until it is closed.
func (f *flight) upgraded(a *attempt) *Response {
	resp := a.resp
	answerHeaders(&resp.Header)
	resp.Header.Set("Connection", "Upgrade")
	resp.Header.Set("Upgrade", "websocket")
	resp.Header.Set("X-Inferoute-Provider", a.target.provider.Name)
	rateHeaders(&resp.Header, f.res.Minute)
	f.body.free()
	end, _ := a.body.(io.ReadWriteCloser) // says net/http of this status
	resp.Body = &webSocket{ReadWriteCloser: end, f: f, a: a}
	return resp
}

// webSocket is the provider's end of a WebSocket. What goes over it is not
// looked at: it counts as one request.
type webSocket struct {
	io.ReadWriteCloser
	f    *flight
	a    *attempt
	once sync.Once
}

// Close ends the connection to the provider and settles.
func (w *webSocket) Close() error {
	var err error
	w.once.Do(func() {
		rec := new(w.f.newRecord(w.a))
		rec.Status, rec.FirstByte, rec.Stream = w.a.resp.StatusCode, w.a.firstByte, true
		if cause := causeOf(&w.a.life); cause != nil && !errors.Is(cause, errGone) {
			rec.Broken, rec.Error = true, causeWord(cause)
		}
		err = w.ReadWriteCloser.Close()
		w.f.settle(w.a, rec)
		w.f.log(w.a, rec)
		w.a.close()
		w.f.finish()
	})
	return err
}

const (
	// closeTime is how long a caller may take to close a WebSocket whose
	// provider has closed it.
	closeTime = 2 * time.Second
	// relayBuffer is how much is read of a WebSocket at a time, in bytes.
	relayBuffer = 32 << 10
)

// relay carries bytes between the two ends of a WebSocket until one of them
// closes, the key is revoked, or both are silent for the provider's idle time.
type relay struct {
	caller net.Conn
	// below is what caller reads and writes, and stays what it is when the server
	// has caller back: cut may still be running then.
	below  net.Conn
	socket *webSocket
	// active is when the last byte came; see steady.
	active atomic.Int64
}

func (r *relay) run() {
	ctx := &r.socket.a.life
	stop := context.AfterFunc(ctx, r.cut)
	defer stop()
	r.active.Store(steady())
	idle := startIdle(r.socket.a.target.provider.Timeouts.Idle, func() time.Duration {
		return time.Duration(steady() - r.active.Load())
	}, func() { r.socket.a.life.end(errIdle) })
	defer idle.stop()
	up := make(chan struct{})
	go func() {
		defer close(up)
		r.toProvider()
		_ = r.socket.ReadWriteCloser.Close() // ends the other direction
	}()
	r.toCaller()
	// What was passed on last must arrive before the connection is gone: closing
	// it while bytes of the caller's are unread would reset it.
	_ = r.caller.SetReadDeadline(time.Now().Add(closeTime))
	closeWrite(r.caller)
	<-up
}

// cut ends both directions at once.
func (r *relay) cut() {
	_ = r.below.SetDeadline(time.Unix(1, 0))
	_ = r.socket.ReadWriteCloser.Close()
}

// toCaller passes on what the provider sends until it or the caller ends it.
func (r *relay) toCaller() {
	buf := make([]byte, relayBuffer)
	for {
		n, err := r.socket.Read(buf)
		if n > 0 {
			r.active.Store(steady())
			if r.socket.a.life.Err() == nil { // else the deadline is over, and stays so
				_ = r.caller.SetWriteDeadline(time.Now().Add(writeTime))
			}
			if _, err := r.caller.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// toProvider passes on what the caller sends until it ends. Once the provider
// takes no more, the rest is read away.
func (r *relay) toProvider() {
	buf := make([]byte, relayBuffer)
	deaf := false
	for {
		n, err := r.caller.Read(buf)
		if n > 0 && !deaf {
			r.active.Store(steady())
			late := time.AfterFunc(writeTime, func() { _ = r.socket.ReadWriteCloser.Close() })
			_, err := r.socket.Write(buf[:n])
			late.Stop()
			deaf = err != nil
		}
		if err != nil {
			return
		}
	}
}

// closeWrite tells the peer that nothing more comes.
func closeWrite(conn net.Conn) {
	for {
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
			return
		}
		inner, ok := conn.(interface{ UnsafeConn() net.Conn })
		if !ok {
			return
		}
		conn = inner.UnsafeConn()
	}
}
