package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestSuitesOfTheSDKs runs the tests of the official Go SDKs themselves directly
// and through TokenHub: the same ones must pass, and the provider must receive
// the same. It is asked for by SUITES=1, since building them takes minutes.
func TestSuitesOfTheSDKs(t *testing.T) {
	if os.Getenv("SUITES") == "" {
		t.Skip("Skipped: SUITES=1 runs the SDKs' own tests, which takes minutes to build.")
	}
	t.Run("anthropic", func(t *testing.T) {
		dir := moduleDir(t, "github.com/anthropics/anthropic-sdk-go")
		mock := startSteady(t, filepath.Join(dir, "scripts", "mock-spec.json.gz"))
		compareSuite(t, dir, "", "my-anthropic-api-key", httputil.NewSingleHostReverseProxy(mock))
	})
	t.Run("openai", func(t *testing.T) {
		// The description of its API is not part of the module, so that there is
		// no mock server: an empty object answers all that has no test of its own.
		compareSuite(t, moduleDir(t, "github.com/openai/openai-go/v3"), "/v1", "My API Key",
			http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, "{}")
			}))
	})
}

// ownModels are the tests of what TokenHub answers itself.
var ownModels = regexp.MustCompile(`^Test(Beta)?Model(s|Get|List|Delete)`)

// compareSuite runs a suite against the provider, at path of its address, and
// through TokenHub. secret is the credential that the suite has built in.
func compareSuite(t *testing.T, dir, path, secret string, provider http.Handler) {
	suite := filepath.Join(t.TempDir(), "suite.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", suite, ".")
	build.Dir, build.Env = dir, append(plainEnvironment(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("Skipped: the suite could not be built (is there a network?): %v: %s", err, out)
	}
	tap := startTap(t, provider)
	h := startHub(t, "[[providers]]\nname = \"mock\"\nbase_url = \""+tap.URL+"/v1\"\nmodels = [\"*\"]\nask_usage = false\n")
	door := startDoor(t, h.url, secret, h.key(t, "sdk", "--endpoints", "all"))

	direct := runSuite(t, suite, dir, tap.URL+path)
	wantRequests := tap.take()
	through := runSuite(t, suite, dir, door+path)
	gotRequests := tap.take()

	passed := 0
	for name, want := range direct {
		if ownModels.MatchString(name) {
			continue
		}
		if got := through[name]; got != want {
			t.Errorf("%s: %s through TokenHub, %s directly", name, got, want)
		}
		if want == "PASS" {
			passed++
		}
	}
	t.Logf("%d tests pass directly and through TokenHub, of %d", passed, len(direct))
	if passed < 50 {
		t.Errorf("only %d tests pass directly: that proves nothing", passed)
	}
	if len(wantRequests) != len(gotRequests) {
		t.Fatalf("the provider got %d requests, directly %d", len(gotRequests), len(wantRequests))
	}
	for i, want := range wantRequests {
		got := gotRequests[i]
		forgetChance(want.header)
		forgetChance(got.header)
		sameRequest(t, want, got)
	}
}

// moduleDir is where a module's files are.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Skipf("Skipped: %s is not there: %v.", module, err)
	}
	return strings.TrimSpace(string(out))
}

var verdict = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+)`)

// runSuite runs a suite against an address and returns the verdict on each test.
func runSuite(t *testing.T, suite, dir, address string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, suite, "-test.v", "-test.parallel=1")
	cmd.Dir, cmd.Env = dir, append(plainEnvironment(), "TEST_API_BASE_URL="+address)
	out, _ := cmd.CombinedOutput() // the verdicts tell
	list := map[string]string{}
	for _, m := range verdict.FindAllSubmatch(out, -1) {
		list[string(m[2])] = string(m[1])
	}
	return list
}

// tap is a provider that notes what comes before another one answers it.
type tap struct {
	*httptestServer
	mu   sync.Mutex
	list []received
}

// present is the time of the test, which some requests hold.
var present = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d(:|%3A)\d\d(:|%3A)\d\dZ`)

// take returns what came until now, in an order that does not depend on time.
func (p *tap) take() []received {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.list
	p.list = nil
	for i, r := range list {
		list[i].target, list[i].body = present.ReplaceAllString(r.target, "now"), present.ReplaceAll(r.body, []byte("now"))
	}
	name := func(r received) string {
		plain := plainBoundary(r)
		return r.method + r.target + plain.header.Get("Content-Type") + string(plain.body) + fmt.Sprint(len(r.header))
	}
	sort.SliceStable(list, func(i, j int) bool { return name(list[i]) < name(list[j]) })
	return list
}

func startTap(t *testing.T, next http.Handler) *tap {
	t.Helper()
	p := &tap{}
	p.httptestServer = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		// These TokenHub answers, or asks by itself; or the suite asks whether there is a server.
		if path := strings.Trim(r.URL.Path, "/"); !strings.HasPrefix(path, "v1/models") && path != "" && path != "v1" {
			p.mu.Lock()
			p.list = append(p.list, received{method: r.Method, target: r.RequestURI, header: r.Header.Clone(), body: body})
			p.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	}))
	return p
}

// httptestServer is a server and its address.
type httptestServer struct{ URL string }

func serve(t *testing.T, handler http.Handler) *httptestServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return &httptestServer{URL: "http://" + l.Addr().String()}
}

// startDoor passes bytes on to TokenHub and puts a key in the place of the
// credential that a suite has built in.
func startDoor(t *testing.T, to, secret, key string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	replace := strings.NewReplacer("Bearer My Admin API Key", "Bearer "+key, "Bearer test\r\n", "Bearer "+key+"\r\n",
		"Bearer "+secret, "Bearer "+key, "X-Api-Key: "+secret, "X-Api-Key: "+key)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				hub, err := net.Dial("tcp", strings.TrimPrefix(to, "http://"))
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					io.Copy(conn, hub)
				}()
				defer hub.Close()
				// The head of a request comes in one piece from Go's client.
				buf := make([]byte, 256<<10)
				for {
					n, err := conn.Read(buf)
					if _, e := replace.WriteString(hub, string(buf[:n])); err != nil || e != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// startSteady runs the mock server with a description of an API.
func startSteady(t *testing.T, spec string) *url.URL {
	t.Helper()
	dir := nodeModules(t, "mock")
	packed, err := os.Open(spec)
	if err != nil {
		t.Skipf("Skipped: the module has no description of its API: %v.", err)
	}
	defer packed.Close()
	plain, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "spec.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.Command(filepath.Join(dir, "node_modules", ".bin", "steady"), "--host", "127.0.0.1", "-p", port,
		"--validator-query-array-format=brackets", "--validator-form-array-format=brackets",
		"--validator-query-object-format=brackets", "--validator-form-object-format=brackets", file)
	said := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr, cmd.Env = said, said, plainEnvironment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the program is the child of a script
	if err := cmd.Start(); err != nil {
		t.Skipf("Skipped: the mock server can't be started: %v.", err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	mock := &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 300 {
		if resp, err := http.Get(mock.String() + "/_x-steady/health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return mock
			}
		}
		<-tick.C
	}
	t.Skipf("Skipped: the mock server is not ready after 30 s: %s", said)
	return nil
}
