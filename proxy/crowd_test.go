package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Three hundred callers at once, each with a key, headers, query and body of its
// own: nobody sees a byte of another's.
func TestNobodySeesAnother(t *testing.T) {
	p := httptest.NewServer(posted(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Mirror", r.Header.Get("X-Name"))
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_, _ = fmt.Fprintf(w, "data: %s %s %s\n\n", r.Header.Get("X-Name"), r.URL.RawQuery, body)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	t.Cleanup(p.Close)
	d := newDoor(t, p.URL, nil)
	keys := make([]string, 300)
	for i := range keys {
		keys[i] = d.key(fmt.Sprint("key ", i), nil)
	}
	var all sync.WaitGroup
	for i, key := range keys {
		all.Go(func() {
			for round := range 3 {
				name := fmt.Sprintf("%d-%d-%s", i, round, strings.Repeat("n", i%17))
				body := `{"model":"` + name + `","stream":true,"stream_options":{"include_usage":true},"x":"` + strings.Repeat(name, 100) + `"}`
				req, err := http.NewRequestWithContext(t.Context(), "POST", d.url+"/v1/chat/completions?"+name, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+key)
				req.Header.Set("X-Name", name)
				resp, err := d.client.Do(req)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				line := "data: " + name + " " + name + " " + body + "\n\n"
				want := line + line + line
				if i%5 == 0 { // this one leaves
					want = line
				}
				got := make([]byte, len(want))
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want || resp.Header.Get("X-Mirror") != name {
					t.Errorf("%s got %.300q, %v", name, got, err)
				}
				resp.Body.Close()
			}
		})
	}
	all.Wait()
	for _, rec := range d.settled() {
		i, _, _ := strings.Cut(rec.Model, "-")
		var n int
		if _, err := fmt.Sscan(i, &n); err != nil || keys[n][3:13] != rec.KeyID {
			t.Errorf("the record of %s is of the key %s", rec.Model, rec.KeyID)
		}
	}
	if got := d.store.Records(); len(got) != 900 {
		t.Errorf("%d records, want 900", len(got))
	}
}
