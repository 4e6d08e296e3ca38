package proxy

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// The memory of large bodies is used by one after another, never by two at once:
// each of many calls gets its own body through, spliced and whole, while
// providers answer before they have read it and callers leave.
func TestLargeBodiesAreNotMixed(t *testing.T) {
	mixed := func(body []byte) bool {
		rest, ok := bytes.CutPrefix(body, []byte(`{"model":"m","user":"`))
		return !ok || len(rest) < heldFrom || bytes.Count(rest, rest[:1]) != len(rest)-len(`"}`)
	}
	p := httptest.NewServer(posted(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Early") != "" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err == nil && mixed(body) {
			t.Errorf("a body is mixed up: %.60q", body)
		}
		good(w, r)
	}))
	defer p.Close()
	h := newHub(t, nil, p.URL+"/v1")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 30 {
				body := `{"model":"house","user":"` + strings.Repeat(string(rune('a'+r.IntN(26))), heldFrom+r.IntN(300_000)) + `"}`
				call := h.call("one", "/v1/chat/completions", body)
				ctx, cancel := context.WithCancelCause(t.Context())
				call.Cancel = cancel
				switch r.IntN(4) {
				case 0:
					call.Header = append(call.Header, Header{"X-Early", "1"})
				case 1:
					time.AfterFunc(time.Duration(r.IntN(2000))*time.Microsecond, func() { cancel(errGone) })
				}
				_ = h.do(ctx, call)
				cancel(errDone)
			}
		})
	}
	all.Wait()
}

func FuzzQuickLooks(f *testing.F) {
	f.Add([]byte("data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="))
	f.Add([]byte(`iVBORw0KGgoA\/AAANSU\/hEUg==`))
	f.Add([]byte("plain text\x1f, and more of it\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		control := false
		for _, ch := range b {
			control = control || ch < 0x20
		}
		if hasControl(b) != control {
			t.Errorf("hasControl says %v", !control)
		}
		if bytes.HasPrefix(b, []byte("data:")) {
			return
		}
		base64 := true
		for i, ch := range b {
			ok := ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' || bytes.IndexByte([]byte("+/=-_"), ch) >= 0
			base64 = base64 && (ok || ch == '\\' && i+1 < len(b) && b[i+1] == '/')
		}
		if looksBase64(b) != base64 {
			t.Errorf("looksBase64 says %v", !base64)
		}
	})
}
