package ui

import (
	"bytes"
	"io"
	"net"
	"time"
)

// patient reads an answer that may take long to send. The server's time to write
// is meant for a whole answer, which would be cut at its end; here it begins anew
// for as long as the caller takes what was read.
type patient struct {
	io.ReadCloser
	conn net.Conn
	time time.Duration
	// begun is when the time began last.
	begun time.Time
}

// Read gives the caller time to take what was just read.
func (p *patient) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	now := time.Now()
	if now.Sub(p.begun) < p.time/60 { // a second of the minute that it is
		return n, err
	}
	p.begun = now
	if e := p.conn.SetWriteDeadline(now.Add(p.time)); e != nil && err == nil {
		err = e
	}
	return n, err
}

// stream answers with the size bytes of body, which the server closes.
func (r *request) stream(body io.ReadCloser, size int) {
	if time := r.c.App().Config().WriteTimeout; time > 0 {
		body = &patient{ReadCloser: body, conn: r.c.Context().Conn(), time: time}
	}
	r.c.Context().SetBodyStream(body, size)
}

// longAnswer is the size from which on an answer may take its caller long.
const longAnswer = 64 << 10

// send answers with body, which is not changed any more.
func (r *request) send(status int, body []byte) error {
	r.c.Status(status)
	if len(body) < longAnswer {
		return r.c.Send(body)
	}
	r.stream(io.NopCloser(bytes.NewReader(body)), len(body))
	return nil
}
