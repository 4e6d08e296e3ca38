package proxy

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// The rest of refused uploads is read away for so many callers only: they are not
// among the connections that the server counts.
func TestLingeringIsBounded(t *testing.T) {
	d := newDoor(t, calls(t, silent).URL, nil)
	refuse := func() *wire {
		w := d.dial()
		w.write("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: nobody\r\nContent-Length: 10000000\r\n\r\n%s", strings.Repeat(" ", readAhead))
		if resp, _ := w.answer("POST"); resp.StatusCode != 401 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		return w
	}
	for range lingerMax {
		refuse()
	}
	one := refuse()
	if err := one.tcp.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.WriteString(one.tcp, strings.Repeat(" ", 9_000_000)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("its upload is read on: %d bytes, %v", n, err)
	}
}
