package ui

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofiber/fiber/v2"
)

// TestSlowReadersGetAllOfAnAnswer: what took its caller longer than the server's
// time to write was cut at the end of it, however steadily it was taken.
func TestSlowReadersGetAllOfAnAnswer(t *testing.T) {
	const size, piece = 10_000, 1000
	send := func(server net.Conn) error {
		_ = server.SetWriteDeadline(time.Now().Add(time.Minute))
		body := &patient{ReadCloser: io.NopCloser(bytes.NewReader(make([]byte, size))), conn: server, time: time.Minute}
		_, err := io.CopyBuffer(struct{ io.Writer }{server}, body, make([]byte, piece))
		server.Close()
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		sent := make(chan error, 1)
		go func() { sent <- send(server) }()
		got := 0
		for b := make([]byte, piece); ; time.Sleep(40 * time.Second) {
			n, err := client.Read(b)
			if got += n; err != nil {
				break
			}
		}
		if err := <-sent; err != nil || got != size {
			t.Errorf("%d bytes of %d came, %v", got, size, err)
		}
	})
	// Who takes nothing is still not waited for.
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		begun := time.Now()
		if err := send(server); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("given up after %s with %v, want after a minute", time.Since(begun), err)
		}
	})
}

// timedListener counts how often its connections are given time to write.
type timedListener struct {
	net.Listener
	given atomic.Int64
}

func (l *timedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return timedConn{conn, l}, err
}

type timedConn struct {
	net.Conn
	l *timedListener
}

func (c timedConn) SetWriteDeadline(end time.Time) error {
	c.l.given.Add(1)
	return c.Conn.SetWriteDeadline(end)
}

// TestLongAnswersAreGivenTime: a backup over a slow line ended after 60 s, and so
// did a large report.
func TestLongAnswersAreGivenTime(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(`{"name":"k"}`)
	for i := range 400 {
		model := fmt.Sprintf("%s%d", strings.Repeat("m", 190), i)
		w.settle(id, model, model, "openai", 1, 1, 0, 200)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	timed := &timedListener{Listener: ln}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true, ErrorHandler: ErrorHandler, WriteTimeout: time.Hour})
	w.admin.API(Network)(app)
	go app.Listener(timed)
	t.Cleanup(func() { _ = app.ShutdownWithTimeout(30 * time.Second) })
	w.base = "http://" + ln.Addr().String()
	for path, want := range map[string]int64{
		"/api/keys":                            1, // by the server alone
		"/api/backup":                          2,
		"/api/usage?group_by=model":            2,
		"/api/usage?group_by=model&format=csv": 2,
	} {
		timed.given.Store(0)
		a := w.call("GET", path, "")
		if got := timed.given.Load(); a.status != 200 || got != want {
			t.Errorf("%s: %d with %d bytes, given time %d times, want %d", path, a.status, len(a.body), got, want)
		}
	}
}
