package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"tokenhub/config"
)

// exchange sends raw bytes over a connection of their own and reads what comes
// back until the gateway closes it, or waits for more; then the caller leaves.
// It returns the statuses of the answers, and everything that was said. With
// bytes behind the last answer that are none the last status is -1.
func (d *door) exchange(raw []byte) (statuses []int, said string) {
	d.t.Helper()
	_, address, _ := strings.Cut(d.url, "://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	written := make(chan struct{})
	go func() { // a refusal comes before all of it is taken
		defer close(written)
		_ = conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
		_, _ = conn.Write(raw)
	}()
	var all strings.Builder
	r := bufio.NewReader(io.TeeReader(waiting{conn, conn.(*net.TCPConn), written}, &all))
	for {
		if _, err := r.Peek(1); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				d.t.Errorf("the connection was not ended 20 s after the caller had left: %.300q", raw)
			}
			break
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: "POST"})
		if err != nil {
			statuses = append(statuses, -1)
			_, _ = io.Copy(io.Discard, r)
			break
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode >= 200 {
			statuses = append(statuses, resp.StatusCode)
		}
	}
	conn.Close()
	<-written
	return statuses, all.String()
}

// waiting reads from a connection; when nothing comes for a moment although all
// was sent, the caller leaves, and the gateway has to end it.
type waiting struct {
	net.Conn
	tcp     *net.TCPConn
	written chan struct{}
}

// aMoment is long enough for an answer, and short enough for many questions.
const aMoment = 250 * time.Millisecond

func (w waiting) Read(p []byte) (int, error) {
	_ = w.SetReadDeadline(time.Now().Add(aMoment))
	n, err := w.Conn.Read(p)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	<-w.written
	_ = w.tcp.CloseWrite()
	_ = w.SetReadDeadline(time.Now().Add(20 * time.Second))
	return w.Conn.Read(p)
}

// smuggling are requests by which one program was made to see another number of
// requests than its neighbour. $KEY stands for a key that may call everything.
// The request behind each case asks for /v1/end; what the gateway and the
// provider may make of it is said by the statuses and the lines.
var smuggling = []struct {
	name, raw string
	statuses  string // of the answers, "400" alone: refused and closed
	got       string // what the provider got, with bodies
}{
	{"a plain one", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 5\r\n\r\nhello", "200 200", "POST /v1/files hello"},
	{"a plain one in chunks", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200 200", "POST /v1/files hello"},

	{"CL.TE", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", "400", ""},
	{"TE.CL", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2e\r\nGET /v1/evil HTTP/1.1\r\nX-Api-Key: $KEY\r\nX: y\r\n0\r\n\r\n", "400", ""},
	{"TE with a space before the colon", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400", ""},
	{"TE behind a tab", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding:\tchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200 200", "POST /v1/files hello"},
	{"TE of another kind", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400", ""},
	{"TE in a list", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", "400", ""},
	{"TE of two", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400", ""},
	{"TE twice", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", ""},
	{"TE in capitals", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200 200", "POST /v1/files hello"},
	{"TE with a vertical tab", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400", ""},
	{"TE in quotes", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400", ""},
	{"TE that is empty", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"TE in a fold", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nX-Fold: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"TE that is folded", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400", ""},
	{"TE of HTTP/1.0", "POST /v1/files HTTP/1.0\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"TE with an underscore", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", "200 200", "POST /v1/files hello"},

	{"CL twice, different", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"CL twice, equal", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"CL in a list", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 5, 5\r\n\r\nhello", "400", ""},
	{"CL with a sign", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: +5\r\n\r\nhello", "400", ""},
	{"CL below zero", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: -1\r\n\r\nhello", "400", ""},
	{"CL in hex", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 0x5\r\n\r\nhello", "400", ""},
	{"CL with a fraction", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 5.0\r\n\r\nhello", "400", ""},
	{"CL that is huge", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 99999999999999999999999\r\n\r\nhello", "400", ""},
	{"CL above 64 bits", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 18446744073709551621\r\n\r\nhello", "400", ""},
	{"CL of the largest number", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 9223372036854775807\r\n\r\nhello", "400", ""},
	{"CL that is empty", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length:\r\n\r\nhello", "400", ""},
	{"CL with spaces inside", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 1 5\r\n\r\nhello", "400", ""},
	{"CL with a space before the colon", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length : 5\r\n\r\nhello", "400", ""},
	{"CL in digits of another script", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: \xd9\xa5\r\n\r\nhello", "400", ""},
	{"CL of a GET", "GET /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 5\r\n\r\nhello", "200 200", "GET /v1/files hello"},
	{"chunks of a GET", "GET /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200 200", "GET /v1/files hello"},
	{"a body without a length", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\nGET /v1/evil HTTP/1.1\r\nHost: x\r\n\r\n", "200 401 200", "POST /v1/files "},

	{"a chunk with an extension", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", "200 200", "POST /v1/files hello"},
	{"a chunk with an extension of bare LF", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5;\nxx\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk with a sign", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk below zero", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk with 0x", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk that is huge", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk above 64 bits", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk of no size", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk with a space before its size", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk with a space behind its size", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "200 200", "POST /v1/files hello"},
	{"a chunk longer than it says", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", "400", ""},
	{"a chunk with another end", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXY0\r\n\r\n", "400", ""},
	{"chunks with bare LF", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", "400", ""},
	{"chunks without an end", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "400", ""},
	{"a trailer with a length", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", "400", ""},
	{"a trailer with a key", "POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Api-Key\r\n\r\n5\r\nhello\r\n0\r\nX-Api-Key: $KEY\r\n\r\n", "401", ""},

	{"lines that end in LF", "POST /v1/files HTTP/1.1\nHost: x\nX-Api-Key: $KEY\nContent-Length: 5\n\nhello", "400", ""},
	{"an LF inside of a value", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nX-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a CR inside of a value", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nX-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a NUL inside of a value", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nX-A: b\x00c\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a NUL inside of a name", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nX\x00A: b\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a name with a space", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nX A: b\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a line without a colon", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nnonsense\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a name that is empty", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n: b\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a fold at the first header", "POST /v1/files HTTP/1.1\r\n Host: x\r\nX-Api-Key: $KEY\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a key in a fold", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key:\r\n $KEY\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a key before a space", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key : $KEY\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"two hosts", "POST /v1/files HTTP/1.1\r\nHost: x\r\nHost: y\r\nX-Api-Key: $KEY\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"no host", "POST /v1/files HTTP/1.1\r\nX-Api-Key: $KEY\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a host with a path", "POST /v1/files HTTP/1.1\r\nHost: x/../evil\r\nX-Api-Key: $KEY\r\nContent-Length: 5\r\n\r\nhello", "400", ""},
	{"a connection that drops the length", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nConnection: Content-Length, X-Api-Key, Authorization\r\nContent-Length: 5\r\n\r\nhello", "200 200", "POST /v1/files hello"},

	{"an absolute target", "GET http://127.0.0.1:1/v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200 200", "GET /v1/files "},
	{"an absolute target with a user", "GET http://a:b@127.0.0.1:1/v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200 200", "GET /v1/files "},
	{"an absolute target with a key", "GET http://127.0.0.1:1/v1/files?k=$KEY HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "401 200", ""},
	{"a target of another scheme", "GET file:///v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200 200", "GET /v1/files "},
	{"a target with a space", "GET /v1/fi les HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "400", ""},
	{"a target with a tab", "GET /v1/fi\tles HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "400", ""},
	{"a target with a fragment", "GET /v1/files#/../x HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200 200", "GET /v1/files "},
	{"a target with an encoded line break", "GET /v1/files%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "400 200", ""},
	{"a query with an encoded line break", "GET /v1/files?a=%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200 200", "GET /v1/files?a=%0d%0aX:%20y "},
	{"a target with letters above ASCII", "GET /v1/caf\xe9 HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200 200", "GET /v1/caf\xe9 "},
	{"a star", "OPTIONS * HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "404 200", ""},
	{"CONNECT", "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nX-Api-Key: $KEY\r\n\r\n", "404 200", ""},
	{"CONNECT of a path", "CONNECT /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "403 200", ""},
	{"TRACE", "TRACE /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "403 200", ""},
	{"a method that nobody knows", "BREW /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200 200", "BREW /v1/files "},
	{"a method with a separator", "GET(/ /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "400", ""},
	{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "400", ""},
	{"an upgrade to HTTP/2", "GET /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "200 200", "GET /v1/files "},
	{"HTTP/0.9", "GET /v1/files\r\n", "400", ""},
	{"HTTP/1.2", "GET /v1/files HTTP/1.2\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200", "GET /v1/files "},
	{"HTTP/3", "GET /v1/files HTTP/3.0\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "400", ""},
	{"TLS to a plain port", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", "400", ""},
	{"empty lines first", "\r\n\r\nGET /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "200 200", "GET /v1/files "},

	{"pipelined behind a 401", "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "401 200", ""},
	{"pipelined behind a 413", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nContent-Length: 2000000\r\n\r\n" +
		strings.Repeat("GET /v1/evil HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", 300), "413", ""},
	{"Expect of something else", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", "200 200", "POST /v1/files hello"},
	{"Expect without waiting", "POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "200 200", "POST /v1/files hello"},
	{"Expect with a wrong key, without waiting", "POST /v1/files HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 60\r\n\r\nGET /v1/evil HTTP/1.1\r\nHost: x\r\nX-Api-Key: $KEY\r\n\r\n", "401", ""},
}

// What was made to be read in two ways is read in one, or not at all: whatever
// the gateway answers, the provider gets the requests that the gateway means,
// and none that stood inside of another.
func TestSmuggling(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL+"/v1", func(c *config.Config) { c.MaxBody = 1 << 20 })
	key := d.key("k", everything)
	behind := "GET /v1/end HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + key + "\r\nConnection: close\r\n\r\n"
	for _, c := range smuggling {
		statuses, said := d.exchange([]byte(strings.ReplaceAll(c.raw, "$KEY", key) + behind))
		var got, ends []string
		for _, r := range p.all() {
			if r.line == "GET /v1/end" && len(ends) == 0 {
				ends = append(ends, r.line)
				continue
			}
			got = append(got, r.line+" "+r.body)
			if r.header.Get("Authorization") != "Bearer sk-secret" || strings.Contains(fmt.Sprint(r.header), key[13:]) {
				t.Errorf("%s: the provider got %v", c.name, r.header)
			}
		}
		text := strings.Trim(fmt.Sprint(statuses), "[]")
		if text != c.statuses || strings.Join(got, "|") != c.got {
			t.Errorf("%s: answered %q, the provider got %q; want %q, %q", c.name, text, got, c.statuses, c.got)
		}
		if strings.Contains(said, "sk-secret") || strings.Contains(said, key[13:]) {
			t.Errorf("%s: a secret stands in the answer %q", c.name, said)
		}
	}
}

// A body that can't be read is the caller's mistake: it says nothing against
// the provider, whom else every key could put to rest.
func TestBadBodySaysNothingAgainstTheProvider(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, func(c *config.Config) { c.Routing.Retries = 3 })
	key := d.key("k", everything)
	for range 20 {
		w := d.dial()
		w.write("POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n", key)
		resp, body := w.answer("POST")
		refused(t, "bad chunks", resp, body, 400, "invalid_request_error", "invalid_request")
		w.over()
	}
	for _, s := range d.g.Providers(t.Context()) {
		if s.Status == "resting" || s.LastError != "" {
			t.Errorf("the provider is %+v", s)
		}
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v", got)
	}
}

// A provider's server that knows TRACE would send back the request with the
// provider's credential in it.
func TestMethodsThatReflectOrTunnel(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, nil)
	key := d.key("k", everything)
	for _, method := range []string{"TRACE", "TRACK", "CONNECT"} {
		w := d.dial()
		w.write("%s /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\n\r\n", method, key)
		resp, body := w.answer("GET")
		refused(t, method, resp, body, 403, "permission_error", "endpoint_not_allowed")
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v", got)
	}
}
