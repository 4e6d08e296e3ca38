package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"tokenhub/db"
)

// Revoking ends what is running within a second: a stream by an error event and
// a broken connection, what has not begun by the answer to a wrong key.
func TestRevokeEndsRunningAnswers(t *testing.T) {
	s := newSteps()
	d := newDoor(t, calls(t, s.serve).URL, nil)
	key := d.key("k", nil)
	_, lines := d.open(key)
	s.next <- `{"choices":[{"delta":{"content":"words"}}]}`
	event(t, lines)

	began := time.Now()
	d.edit(key, func(k *db.Key) { k.RevokedAt = time.Now() })
	rest, err := io.ReadAll(lines)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	want := "\n\ndata: " + `{"error":{"message":"Invalid API key provided.","type":"authentication_error","code":"invalid_api_key"}}` + "\n\n"
	if string(rest) != want || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream went on with %q and %v, want %q and a broken connection", rest, err, want)
	}
	within(t, time.Second, "the provider's request ends", s.gone)
	if got := d.settled(); len(got) != 1 || got[0].Source != db.Aborted || got[0].Error != "revoked" || !got[0].Broken || got[0].Usage.Output < 1 || got[0].Usage.Input < 1 {
		t.Errorf("settled as %+v", got)
	}
	if resp, body := d.chat(key); resp.StatusCode != 401 {
		t.Errorf("after the revocation: %d %s", resp.StatusCode, body)
	}
}

func TestRevokeEndsAStreamOfMessages(t *testing.T) {
	s := newSteps()
	d := newDoor(t, calls(t, s.serve).URL, nil)
	key := d.key("k", nil)
	w := d.dial()
	w.write("POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: 27\r\n\r\n{\"model\":\"m\",\"stream\":true}", key)
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.edit(key, func(k *db.Key) { k.RevokedAt = time.Now() })
	rest, err := io.ReadAll(resp.Body)
	want := "\n\nevent: error\ndata: " + `{"type":"error","error":{"type":"authentication_error","message":"Invalid API key provided."}}` + "\n\n"
	if string(rest) != want || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q %v", rest, err)
	}
}

func TestRevokeBeforeTheFirstByte(t *testing.T) {
	asked := make(chan struct{})
	d := newDoor(t, calls(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		silent(w, r)
	}).URL, nil)
	key := d.key("k", nil)
	go func() {
		<-asked
		d.edit(key, func(k *db.Key) { k.RevokedAt = time.Now() })
	}()
	began := time.Now()
	resp, body := d.chat(key)
	refused(t, "revoked in silence", resp, body, 401, "authentication_error", "invalid_api_key")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	// The provider has read it.
	if got := d.settled(); len(got) != 1 || got[0].Error != "revoked" || got[0].Source != db.Aborted || got[0].Usage.Input < 1 {
		t.Errorf("settled as %+v", got)
	}
}

// A caller that does not read can't keep the answer of a revoked key alive.
func TestRevokeWhileTheCallerDoesNotRead(t *testing.T) {
	flooded := make(chan struct{})
	d := newDoor(t, calls(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		events := strings.Repeat("data: {\"choices\":[]}\n\n", 1000)
		for i := 0; r.Context().Err() == nil; i++ {
			if i == 500 { // more than all the buffers between can take
				close(flooded)
				<-r.Context().Done()
			}
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second / 2))
			if _, err := io.WriteString(w, events); err != nil {
				close(flooded)
				<-r.Context().Done()
			}
		}
	}).URL, nil)
	key := d.key("k", nil)
	w := d.dial()
	w.write("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", key, len(streamBody), streamBody)
	within(t, 10*time.Second, "the buffers are full", flooded)
	d.edit(key, func(k *db.Key) { k.RevokedAt = time.Now() })
	within(t, time.Second, "the answer ends", d.g.running.wait())
	if got := d.settled(); len(got) != 1 || got[0].Source != db.Aborted {
		t.Errorf("settled as %+v", got)
	}
}

// deadlines is a connection that knows until when it may be written to.
type deadlines struct {
	net.Conn
	write time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error { d.write = at; return nil }

// What is read after the answer has to end does not give the caller another
// minute to take it.
func TestHurryIsNotTakenBack(t *testing.T) {
	conn := &deadlines{}
	out := &outgoing{body: io.NopCloser(strings.NewReader("last words")), conn: conn, patience: &patience{conn: conn}}
	read := func() time.Duration {
		if _, err := out.Read(make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		return time.Until(conn.write)
	}
	if left := read(); left < writeTime-time.Second {
		t.Errorf("%v to take the bytes, want %v", left, writeTime)
	}
	out.patience.hurry()
	for range 2 {
		if left := read(); left > hurryTime {
			t.Errorf("%v to take the last bytes, want at most %v", left, hurryTime)
		}
	}
}

// Disabling, expiry, rotation and lower limits refuse the next request and let
// the running one finish.
func TestOtherEditsLetRunningAnswersFinish(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*db.Key)
		status int
	}{
		"disabled":  {func(k *db.Key) { k.Disabled = true }, 401},
		"expired":   {func(k *db.Key) { k.ExpiresAt = time.Now().Add(-time.Second) }, 401},
		"rotated":   {func(k *db.Key) { k.Secrets = []db.Secret{{PHC: "plain:another"}} }, 401},
		"limits":    {func(k *db.Key) { k.Limits.ConcurrentRequests = 1 }, 429},
		"models":    {func(k *db.Key) { k.Models = []string{"another"} }, 403},
		"providers": {func(k *db.Key) { k.Providers = []string{"another"} }, 403},
		"addresses": {func(k *db.Key) { k.AllowedIPs = []string{"10.0.0.0/8"} }, 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteps()
			d := newDoor(t, calls(t, s.serve).URL, nil)
			key := d.key("k", nil)
			_, lines := d.open(key)
			s.next <- "one"
			event(t, lines)
			before, err := d.store.Key(t.Context(), key[3:13])
			if err != nil {
				t.Fatal(err)
			}
			d.edit(key, c.change)
			if resp, body := d.chat(key); resp.StatusCode != c.status {
				t.Errorf("the next request: %d %s, want %d", resp.StatusCode, body, c.status)
			}
			s.next <- "two"
			if got := event(t, lines); got != "data: two" {
				t.Errorf("%q", got)
			}
			close(s.next)
			if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
				t.Errorf("%q %v", rest, err)
			}
			if got := d.settled(); len(got) != 1 || got[0].Broken {
				t.Errorf("settled as %+v", got)
			}
			// And back: the next request is served again.
			d.edit(key, func(k *db.Key) { r := k.Revision; *k = *before.Clone(); k.Revision = r })
			s.next = make(chan string)
			_, lines = d.open(key)
			s.next <- "three"
			if got := event(t, lines); got != "data: three" {
				t.Errorf("%q", got)
			}
			close(s.next)
			if _, err := io.ReadAll(lines); err != nil {
				t.Error(err)
			}
		})
	}
}
