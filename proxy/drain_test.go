package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tokenhub/db"
)

// A drain lets a stream end, refuses new requests, and at its deadline ends what
// is still running by an error event and a broken connection.
func TestDrain(t *testing.T) {
	s := newSteps()
	d := newDoor(t, calls(t, s.serve).URL, nil)
	key := d.key("k", nil)
	_, lines := d.open(key)
	s.next <- "one"
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	deadline, expire := context.WithCancel(t.Context())
	drained := make(chan struct{})
	go func() { d.g.Drain(deadline); close(drained) }()
	for !d.g.closed.Load() { // until it has begun
	}
	if resp, body := d.send("POST", "/v1/chat/completions", chatBody, "Authorization", "Bearer "+key); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	s.next <- "two"
	if line, err := lines.ReadString('\n'); err != nil || line != "\n" {
		t.Errorf("%q %v", line, err)
	}
	expire()
	within(t, 2*time.Second, "drain after its deadline", drained)
	rest, err := io.ReadAll(lines)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(string(rest), `"code":"shutting_down"`) {
		t.Errorf("%q %v", rest, err)
	}
	within(t, 2*time.Second, "the provider's request ends", s.gone)
	if records := d.store.Records(); len(records) != 1 || records[0].Source != db.Aborted || records[0].Error != "shutdown" {
		t.Errorf("%+v", records)
	}
}

// slowVerifier lets a test do something while a key is looked at.
type slowVerifier struct {
	Verifier
	entered, leave chan struct{}
}

// A call whose key is being looked at when the last other one has ended does not
// slip past a drain: who waits for it must be able to close the store.
func TestDrainSeesCallsThatAreBeingVerified(t *testing.T) {
	v := &slowVerifier{entered: make(chan struct{}), leave: make(chan struct{})}
	p := record(t, good)
	d := newDoor(t, p.URL, nil, func(d *door) { d.verifier = func(real Verifier) Verifier { v.Verifier = real; return v } })
	key := d.key("k", nil)
	answered := make(chan int)
	go func() {
		req, _ := http.NewRequest("POST", d.url+"/v1/chat/completions", strings.NewReader(chatBody))
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := d.client.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-v.entered
	d.g.Drain(t.Context())
	close(v.leave)
	select {
	case status := <-answered:
		if status != 503 {
			t.Errorf("answered with %d, want 503", status)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no answer")
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v after the drain", got)
	}
}

func (v *slowVerifier) Verify(ctx context.Context, text string, from netip.Addr) (*db.Key, error) {
	close(v.entered)
	<-v.leave
	return v.Verifier.Verify(ctx, text, from)
}
