package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// message is a request or an answer as it stood on the wire.
type message struct {
	// first is the first line: method and raw target, or status and reason.
	first  string
	header textproto.MIMEHeader
	// framing tells how the length of the body was said: none, length, chunked, close.
	framing string
	body    []byte
	// broken says that the connection ended before the message did.
	broken bool
	// interim are the status lines of the 1xx answers before this one.
	interim []string
}

// hash names a body in failure texts.
func (m *message) hash() string {
	sum := sha256.Sum256(m.body)
	return fmt.Sprintf("%d bytes, sha256 %s", len(m.body), hex.EncodeToString(sum[:8]))
}

// readHead reads the first line and the headers of a message.
func readHead(r *bufio.Reader) (*message, error) {
	m := &message{header: textproto.MIMEHeader{}}
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	m.first = strings.TrimRight(line, "\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return m, nil
		}
		name, value, _ := strings.Cut(line, ":")
		name = textproto.CanonicalMIMEHeaderKey(name)
		m.header[name] = append(m.header[name], strings.Trim(value, " \t"))
	}
}

// readBody reads the body; without a length it goes to the end of the
// connection if toEnd.
func (m *message) readBody(r *bufio.Reader, toEnd bool) {
	var err error
	switch length := m.header.Get("Content-Length"); {
	case strings.Contains(strings.ToLower(m.header.Get("Transfer-Encoding")), "chunked"):
		m.framing = "chunked"
		m.body, err = readChunks(r)
	case length != "":
		m.framing = "length"
		n, e := strconv.Atoi(length)
		if e != nil {
			m.broken = true
			return
		}
		m.body = make([]byte, n)
		n, err = io.ReadFull(r, m.body)
		m.body = m.body[:n]
	case toEnd:
		m.framing = "close"
		m.body, err = io.ReadAll(r)
	default:
		m.framing = "none"
	}
	m.broken = err != nil
}

func readChunks(r *bufio.Reader) ([]byte, error) {
	var body bytes.Buffer
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return body.Bytes(), err
		}
		size, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ";")
		n, err := strconv.ParseInt(size, 16, 64)
		if err != nil {
			return body.Bytes(), err
		}
		if _, err := io.CopyN(&body, r, n); err != nil {
			return body.Bytes(), err
		}
		// The line break behind the chunk, or the end of the (empty) trailer.
		if line, err := r.ReadString('\n'); err != nil || strings.TrimRight(line, "\r\n") != "" {
			return body.Bytes(), errors.Join(err, errors.New("no line break behind a chunk"))
		}
		if n == 0 {
			return body.Bytes(), nil
		}
	}
}

// bytewise writes each byte on its own.
type bytewise struct{ w io.Writer }

func (b bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := b.w.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// caller is a program that calls by hand.
type caller struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	w    io.Writer
}

// dial connects to an address; in pieces it sends byte by byte.
func dial(t *testing.T, address string, pieces bool) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &caller{t: t, conn: conn, r: bufio.NewReader(conn), w: conn}
	if pieces {
		c.w = bytewise{conn}
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *caller) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.w, text); err != nil {
		c.t.Errorf("sending: %v", err)
	}
}

// answer reads the next answer to a request of the method.
func (c *caller) answer(method string) *message {
	c.t.Helper()
	m, err := c.tryAnswer(method)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return m
}

func (c *caller) tryAnswer(method string) (*message, error) {
	var interim []string
	for {
		m, err := readHead(c.r)
		if err != nil {
			return nil, err
		}
		_, m.first, _ = strings.Cut(m.first, " ") // the version belongs to the hop
		m.interim = interim
		status, _, _ := strings.Cut(m.first, " ")
		switch {
		case status == "101":
			return m, nil
		case status[0] == '1':
			interim = append(interim, m.first)
			continue
		case method == "HEAD" || status == "204" || status == "304":
			m.framing = "none"
			return m, nil
		}
		m.readBody(c.r, true)
		return m, nil
	}
}

// sameHeaders reports what differs between two sets of headers. In ignored are
// those whose differences are named in the documentation.
func sameHeaders(t *testing.T, what string, direct, through textproto.MIMEHeader, ignored ...string) {
	t.Helper()
	names := map[string]bool{}
	for name := range direct {
		names[name] = true
	}
	for name := range through {
		names[name] = true
	}
	for _, name := range ignored {
		delete(names, name)
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	for _, name := range sorted {
		if d, g := direct[name], through[name]; strings.Join(d, "\n") != strings.Join(g, "\n") || len(d) != len(g) {
			t.Errorf("%s: %s is %.200q, directly %.200q", what, name, g, d)
		}
	}
}
