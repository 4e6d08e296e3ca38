//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// client is one keep-alive connection of the load. It allocates nothing per
// request, so that the load costs less than what it measures.
type client struct {
	address string
	conn    net.Conn
	buf     []byte
}

func newClient(address string) *client { return &client{address: address, buf: make([]byte, 64<<10)} }

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// send writes a request, on a new connection if there is none.
func (c *client) send(request []byte) error {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, 10*time.Second)
		if err != nil {
			return err
		}
		c.conn = conn
	}
	// What takes that long is an error, and not a figure.
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	_, err := c.conn.Write(request)
	return err
}

// head reads the head of the answer. rest is what came of the body with it,
// valid until the next read.
func (c *client) head() (status, length int, rest []byte, err error) {
	for n := 0; ; {
		if n == len(c.buf) {
			return 0, 0, nil, errors.New("the answer's head is too long")
		}
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			return 0, 0, nil, err
		}
		n += m
		end := bytes.Index(c.buf[:n], endOfHead)
		if end < 0 {
			continue
		}
		head := c.buf[:end+len(endOfHead)]
		if len(head) < 12 {
			return 0, 0, nil, errors.New("not an answer of HTTP")
		}
		if length, err = contentLength(head); err != nil {
			return 0, 0, nil, err
		}
		if status, err = strconv.Atoi(string(head[9:12])); err != nil {
			return 0, 0, nil, err
		}
		return status, length, c.buf[len(head):n], nil
	}
}

// do sends a request and reads its answer to the end; an answer other than 200
// is an error. After an error the connection is closed.
func (c *client) do(request []byte) (err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.send(request); err != nil {
		return err
	}
	status, length, rest, err := c.head()
	if err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("status %d: %s", status, rest)
	}
	if length < 0 {
		return c.toLastChunk(rest)
	}
	for got := len(rest); got < length; {
		n, err := c.conn.Read(c.buf)
		if err != nil {
			return err
		}
		got += n
	}
	return nil
}

// toLastChunk reads an answer of unknown length to its end.
func (c *client) toLastChunk(rest []byte) error {
	n := copy(c.buf, rest)
	for !bytes.HasSuffix(c.buf[:n], []byte("0\r\n\r\n")) {
		kept := copy(c.buf, c.buf[max(0, n-5):n])
		m, err := c.conn.Read(c.buf[kept:])
		if err != nil {
			return err
		}
		n = kept + m
	}
	return nil
}

// contentLength is the length that a head states, -1 if it states none.
func contentLength(head []byte) (int, error) {
	const name = "content-length:"
	for line := head; ; {
		i := bytes.IndexByte(line, '\n')
		if i < 0 {
			return -1, nil
		}
		line = line[i+1:]
		if len(line) > len(name) && line[0]|0x20 == 'c' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			end := bytes.IndexByte(line, '\r')
			return strconv.Atoi(string(bytes.TrimSpace(line[len(name):max(end, len(name))])))
		}
	}
}

// post is a request with a JSON body, as an SDK sends it.
func post(path, key, body string) []byte {
	accept := "application/json"
	if bytes.Contains([]byte(body), []byte(`"stream":true`)) {
		accept = "text/event-stream"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: %s\r\nAccept-Encoding: gzip, deflate\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nUser-Agent: OpenAI/Python 2.6.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.6.0\r\n"+
		"X-Stainless-Os: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.13.1\r\nX-Stainless-Retry-Count: 0\r\n"+
		"Content-Length: %d\r\n\r\n%s", path, accept, key, len(body), body)
}
