package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/db/dbtest"
)

// door is a gateway behind its real listener, with real keys and a cheap hash.
type door struct {
	t     *testing.T
	g     *Gateway
	store *dbtest.Mem
	url   string
	// secure is how the listener speaks TLS, trusted how callers do; nil without.
	secure, trusted *tls.Config
	client          *http.Client
	log             *lockedBuffer
	// clock, if set, is the time that the gateway and the verifier see.
	clock func() time.Time
	// verifier, if set, stands before the real one.
	verifier func(Verifier) Verifier
	// touched, if set, is called when a call has begun to run.
	touched func()
}

// newDoor has one provider "p" with all models at the URL. At the end nothing
// may be left of what the test did: no call, no reservation, no goroutine.
func newDoor(t *testing.T, provider string, edit func(*config.Config), more ...func(*door)) *door {
	t.Helper()
	cfg := config.Defaults()
	cfg.Routing.Retries = 0
	cfg.Providers = []config.Provider{{Name: "p", BaseURL: provider, APIKey: "sk-secret", Auth: "bearer", AskUsage: true,
		OutputField: "max_tokens", Models: []string{"*"}, Timeouts: config.Timeouts{Connect: 2 * time.Second, FirstByte: 10 * time.Second, Idle: 10 * time.Second}}}
	if edit != nil {
		edit(cfg)
	}
	d := &door{t: t, store: dbtest.Memory(dbtest.Options{}), log: &lockedBuffer{}, clock: time.Now}
	for _, m := range more {
		m(d)
	}
	var verifier Verifier = auth.New(auth.Options{Keys: d.store, Now: d.clock, Check: func(text, phc string) (bool, error) { return "plain:"+text == phc, nil }})
	if d.verifier != nil {
		verifier = d.verifier(verifier)
	}
	var err error
	watched := watchedStore{d.store, make(chan struct{}), d.touched}
	d.g, err = New(Options{Config: cfg, Verifier: verifier, Store: watched, Log: zerolog.New(d.log), Now: d.clock})
	if err != nil {
		t.Fatal(err)
	}
	app, err := d.g.Server()
	if err != nil {
		t.Fatal(err)
	}
	app.Use(NotFound)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := NewListener(inner, zerolog.Nop()) // as main does
	d.url = "http://" + ln.Addr().String()
	transport := &http.Transport{MaxIdleConnsPerHost: 400, DisableCompression: true}
	if d.secure != nil {
		ln = tls.NewListener(ln, d.secure)
		d.url = "https://" + ln.Addr().String()
		transport.TLSClientConfig = d.trusted
	}
	d.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ended := make(chan error, 1)
	go func() { ended <- app.Listener(ln) }()
	work, stop := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- d.g.Run(work) }()
	within(t, 10*time.Second, "the gateway works", watched.watching)
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		drain, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		d.g.Drain(drain)
		if drain.Err() != nil && !t.Failed() {
			t.Error("calls were still running when the test had ended")
		}
		_ = app.ShutdownWithTimeout(10 * time.Millisecond)
		_ = ln.Close() // it may not be served yet
		stop()
		<-worked
		<-ended
		if holds := d.store.Holds(); len(holds) != 0 {
			t.Errorf("reservations are left: %+v", holds)
		}
		for _, p := range d.g.state.Load().providers {
			if running, waiting, _ := p.queue.load(); running != 0 || waiting != 0 {
				t.Errorf("provider %s: %d places are taken and %d calls wait", p.Name, running, waiting)
			}
			p.close()
		}
		nothingLeft(t)
	})
	return d
}

// watchedStore tells when the gateway has begun to watch the keys, and of each
// call that has begun to run.
type watchedStore struct {
	*dbtest.Mem
	watching chan struct{}
	touched  func()
}

func (s watchedStore) TouchKey(id string, t time.Time) {
	s.Mem.TouchKey(id, t)
	if s.touched != nil {
		s.touched()
	}
}

func (s watchedStore) WatchKeys(fn func(*db.Key)) (stop func()) {
	defer close(s.watching)
	return s.Mem.WatchKeys(fn)
}

// calls is a provider that serves what is posted; it has no list of models,
// which the gateway asks for by itself.
func calls(t *testing.T, serve http.HandlerFunc) *fake {
	return newFake(t, posted(serve))
}

func posted(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() == "TokenHub" {
			http.NotFound(w, r)
			return
		}
		serve(w, r)
	}
}

// secureDoor makes the door speak TLS.
func secureDoor(d *door) {
	s := httptest.NewUnstartedServer(nil) // which has a certificate
	s.StartTLS()
	defer s.Close()
	d.secure = &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	d.trusted = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com", MinVersion: tls.VersionTLS12}
}

// nothingLeft fails the test when goroutines of the gateway's outlive it. The
// watcher's is one for the process.
func nothingLeft(t *testing.T) {
	t.Helper()
	late := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var left []string
		stacks := make([]byte, 4<<20)
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			ours := strings.Contains(stack, "tokenhub/proxy.(") && !strings.Contains(stack, "proxy.(*watcher).run") && !strings.Contains(stack, "testing.(*T).Run") &&
				!strings.Contains(stack, "proxy.nothingLeft")
			if ours || strings.Contains(stack, "created by net/http.(*Transport).dialConn") || strings.Contains(stack, "fasthttp.(*Server).serveConn") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
			return
		}
	}
}

// key makes a key; edit may change its record.
func (d *door) key(name string, edit func(*db.Key)) (text string) {
	d.t.Helper()
	text, id, err := auth.Mint(auth.Key)
	if err != nil {
		d.t.Fatal(err)
	}
	k := &db.Key{ID: id, Name: name, Endpoints: db.Inference, CreatedAt: time.Now(), Secrets: []db.Secret{{PHC: "plain:" + text}}}
	if edit != nil {
		edit(k)
	}
	if _, err := d.store.PutKey(d.t.Context(), k, db.Audit{}); err != nil {
		d.t.Fatal(err)
	}
	return text
}

// edit changes the record of a key.
func (d *door) edit(key string, change func(*db.Key)) {
	d.t.Helper()
	k, err := d.store.Key(d.t.Context(), key[3:13])
	if err != nil {
		d.t.Fatal(err)
	}
	k = k.Clone()
	change(k)
	if _, err := d.store.PutKey(d.t.Context(), k, db.Audit{}); err != nil {
		d.t.Fatal(err)
	}
}

// send makes a request; headers are pairs.
func (d *door) send(method, path, body string, headers ...string) (*http.Response, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp, string(text)
}

// chat makes a chat completion of m.
func (d *door) chat(key string) (*http.Response, string) {
	d.t.Helper()
	return d.send("POST", "/v1/chat/completions", chatBody, "Authorization", "Bearer "+key)
}

const (
	chatBody   = `{"model":"m","messages":[]}`
	streamBody = `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`
)

// open starts a stream and returns its lines.
func (d *door) open(key string) (*http.Response, *bufio.Reader) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), "POST", d.url+"/v1/chat/completions", strings.NewReader(streamBody))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewReader(resp.Body)
}

// settled waits until no call runs and returns the records.
func (d *door) settled() []db.Record {
	d.t.Helper()
	within(d.t, 5*time.Second, "all calls end", d.g.running.wait())
	return d.store.Records()
}

// refused fails the test unless an answer is the gateway's own, with this code.
func refused(t *testing.T, what string, resp *http.Response, body string, status int, typ, code string) {
	t.Helper()
	if resp.StatusCode != status || !strings.Contains(body, `"type":"`+typ+`"`) || !strings.Contains(body, `"code":"`+code+`"`) ||
		resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("X-TokenHub-Error") != "gateway" ||
		!strings.HasPrefix(resp.Header.Get("X-Inferoute-Request-Id"), "req_") {
		t.Errorf("%s: %d %s %v, want %d %s %s of the gateway's own", what, resp.StatusCode, body, resp.Header, status, typ, code)
	}
}

// steps is a stream whose events are sent one by one, when the test says so.
type steps struct {
	next chan string // closing it ends the stream
	gone chan struct{}
}

func newSteps() *steps { return &steps{next: make(chan string), gone: make(chan struct{})} }

func (s *steps) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.(http.Flusher).Flush()
	for {
		select {
		case event, ok := <-s.next:
			if !ok {
				return
			}
			_, _ = io.WriteString(w, "data: "+event+"\n\n")
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			close(s.gone)
			return
		}
	}
}

// event reads one event of one line.
func event(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%q %v", line, err)
	}
	if empty, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(empty) != "" {
		t.Fatalf("%q %v", empty, err)
	}
	return strings.TrimSpace(line)
}

func within(t *testing.T, d time.Duration, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s: not within %v", what, d)
	}
}
