package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tokenhub/config"
)

// now is the time of all tests.
var now = time.Date(2027, 1, 15, 12, 30, 0, 0, time.UTC)

// fakeAPI stands for the handlers of the admin API: it answers what a test
// tells it to and remembers what it was asked.
type fakeAPI struct {
	answers map[string]answer // by method and path with query

	// mu guards asked.
	mu    sync.Mutex
	asked []string // "METHOD path body"
}

// answer is what the fake says; status 0 is 200.
type answer struct {
	status int
	body   string
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, body)))
	f.mu.Unlock()
	a, ok := f.answers[r.Method+" "+r.RequestURI]
	if !ok {
		a = answer{404, `{"error":{"message":"There is nothing here.","type":"not_found_error","code":"not_found"}}`}
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	_, _ = io.WriteString(w, a.body)
}

func (f *fakeAPI) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

// fixture is a working directory with what a run of the program needs.
type fixture struct {
	t     *testing.T
	dir   string
	api   *fakeAPI
	env   map[string]string
	stdin io.Reader
	o     Options

	opened, closed int
	openErr        error
	served         *ServeOptions
}

func newFixture(t *testing.T, answers map[string]answer) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), api: &fakeAPI{answers: answers}, env: map[string]string{}, stdin: strings.NewReader("")}
	f.o = Options{
		Dir: f.dir, Version: "1.2.3",
		Getenv: func(name string) string { return f.env[name] },
		Now:    func() time.Time { return now },
		Serve: func(_ context.Context, o ServeOptions) error {
			f.served = &o
			return nil
		},
		Open: func(context.Context, *config.Config) (Offline, error) {
			if f.openErr != nil {
				return nil, f.openErr
			}
			f.opened++
			return fakeOffline{f}, nil
		},
		Restore: func(context.Context, *config.Config, string) error { return nil },
		Check: func(_ context.Context, _ *config.Config, file string) (string, error) {
			return "checked " + file, nil
		},
		ImportPrices: func(_ context.Context, _ *config.Config, file string) (string, error) {
			return "imported " + file, nil
		},
	}
	return f
}

// fakeOffline is the fake API in process.
type fakeOffline struct{ f *fixture }

func (o fakeOffline) Close() error { o.f.closed++; return nil }

func (o fakeOffline) Client() *http.Client { return &http.Client{Transport: inProcess{o.f.api}} }

// inProcess answers requests with a handler.
type inProcess struct{ h http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorder{header: http.Header{}, status: 200}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.RequestURI = r.URL.RequestURI()
	p.h.ServeHTTP(w, r)
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Header: w.header,
		Body: io.NopCloser(&w.body), Request: r,
	}, nil
}

// recorder is a ResponseWriter in memory.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// data returns the data folder, which it makes with an empty database.
func (f *fixture) data() string {
	f.t.Helper()
	dir := filepath.Join(f.dir, "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	f.write(filepath.Join("data", databaseName), "")
	return dir
}

func (f *fixture) write(name, text string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// online starts the fake API as the server of the data folder.
func (f *fixture) online() *fixture {
	f.t.Helper()
	f.listen(f.data())
	return f
}

func (f *fixture) listen(dir string) {
	f.t.Helper()
	path, release, err := ShortPath(dir, SocketName)
	if err != nil {
		f.t.Fatal(err)
	}
	defer release()
	l, err := net.Listen("unix", path)
	if err != nil {
		f.t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	server := &http.Server{Handler: f.api}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.t.Error(err)
		}
	}()
	f.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// result is what a run printed and how it ended.
type result struct {
	code           int
	stdout, stderr string
}

func (f *fixture) run(args ...string) result {
	f.t.Helper()
	return f.runContext(context.Background(), args...)
}

func (f *fixture) runContext(ctx context.Context, args ...string) result {
	f.t.Helper()
	var stdout, stderr bytes.Buffer
	o := f.o
	o.Args, o.Stdin, o.Stderr = args, f.stdin, &stderr
	if o.Stdout == nil {
		o.Stdout = &stdout
	}
	code := Run(ctx, o)
	return result{code, stdout.String(), stderr.String()}
}

// want fails unless the run ended as expected; stderr is compared by a part of it.
func (r result) want(t *testing.T, code int, stdout, stderrPart string) {
	t.Helper()
	if r.code != code {
		t.Errorf("code %d, want %d; stderr %q", r.code, code, r.stderr)
	}
	if r.stdout != stdout {
		t.Errorf("stdout\n%s\nwant\n%s", r.stdout, stdout)
	}
	if !strings.Contains(r.stderr, stderrPart) || (stderrPart == "" && r.stderr != "") {
		t.Errorf("stderr %q, want %q in it", r.stderr, stderrPart)
	}
	if code != 0 && (!strings.HasPrefix(r.stderr, "tokenhub: ") || strings.Count(r.stderr, "\n") != 1) {
		t.Errorf("stderr %q is not one line that begins with tokenhub:", r.stderr)
	}
}

// wantAsked fails unless the API was asked these things in this order.
func (f *fixture) wantAsked(want ...string) {
	f.t.Helper()
	got := f.api.requests()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		f.t.Errorf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
