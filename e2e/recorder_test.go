package e2e

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// recorder is a provider that notes each request as it stood on the wire, and
// answers by hand what the request's X-Case says.
type recorder struct {
	address string
	got     chan *message
	script  func(name string) reply
}

// reply is an answer as it goes over the wire.
type reply struct {
	head, body string
	pieces     bool // byte by byte
	hangUp     bool // close behind it
	reset      bool // close so that it is a reset
	// early answers before the request's body was read.
	early bool
}

func record(t *testing.T, script func(name string) reply) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &recorder{address: l.Addr().String(), got: make(chan *message, 100), script: script}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *recorder) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		m, err := readHead(r)
		if err != nil {
			return
		}
		m.first = m.first[:strings.LastIndex(m.first, " ")] // the version belongs to the hop
		name := m.header.Get("X-Case")
		if name == "" { // TokenHub asks by itself what there is
			list := `{"object":"list","data":[{"id":"gpt-test","object":"model"}]}`
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"+list)
			return
		}
		answer := p.script(name)
		if m.header.Get("Expect") != "" {
			io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if !answer.early {
			m.readBody(r, false)
			p.got <- m
		}
		var w io.Writer = conn
		if answer.pieces {
			w = bytewise{conn}
		}
		if strings.HasPrefix(m.first, "HEAD ") {
			answer.body = ""
		}
		if answer.head == "" {
			return // without a word
		}
		if _, err := io.WriteString(w, answer.head+"\r\n"+answer.body); err != nil {
			return
		}
		if answer.early {
			m.readBody(r, false)
			p.got <- m
		}
		switch {
		case answer.reset:
			_ = conn.(*net.TCPConn).SetLinger(0)
			return
		case answer.hangUp:
			return
		}
	}
}

// next is the next request that was noted.
func (p *recorder) next(t *testing.T) *message {
	t.Helper()
	select {
	case m := <-p.got:
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("the provider got no request within 20 s")
		return nil
	}
}

// config is a configuration with the recorder as the only provider.
func (p *recorder) config() string {
	return `
max_body = "256MiB"

[[providers]]
name     = "recorder"
base_url = "http://` + p.address + `/v1"
api_key  = "` + credential + `"
models   = ["*"]

[[models]]
name    = "house"
targets = [ { provider = "recorder", model = "gpt-served" } ]
`
}
