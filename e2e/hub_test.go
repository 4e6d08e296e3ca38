package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tokenhub-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "tokenhub")
	args := []string{"build", "-o", binary}
	if os.Getenv("RACE") == "1" {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, ".")...)
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	defer func() {
		if started.stop != nil {
			started.stop()
		}
	}()
	return m.Run()
}

// hub is one running TokenHub with a data folder of its own.
type hub struct {
	url    string // without a slash at the end
	config string // its file
	log    *lockedBuffer
	pid    int
}

// startHub starts the binary with the text as its configuration, on a free
// port, and stops it when the test ends. args follow the command serve.
func startHub(t *testing.T, config string, args ...string) *hub {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()

	dir := t.TempDir()
	h := &hub{url: "http://" + address, config: filepath.Join(dir, "config.toml"), log: &lockedBuffer{}}
	config = fmt.Sprintf("listen = %q\n", address) + config
	if err := os.WriteFile(h.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append([]string{"serve", "--config", h.config}, args...)...)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	cmd.Env = plainEnvironment()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.pid = cmd.Process.Pid
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("SIGTERM: %v", err)
		}
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("tokenhub ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("tokenhub did not end within 10 s of SIGTERM")
			if err := cmd.Process.Kill(); err == nil {
				<-exited
			}
		}
		if t.Failed() || strings.Contains(h.log.String(), "DATA RACE") {
			t.Errorf("tokenhub said:\n%s", secretLink.ReplaceAllString(h.log.String(), "token=..."))
		}
	})
	h.waitReady(t, exited)
	return h
}

// secretLink is the part of a set-up link that no output of a test may show.
var secretLink = regexp.MustCompile(`token=\S+`)

// waitReady asks until the server can serve.
func (h *hub) waitReady(t *testing.T, exited chan error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(15 * time.Second)
	for {
		resp, err := http.Get(h.url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case err := <-exited:
			exited <- err
			t.Fatalf("tokenhub ended at its start: %v", err)
		case <-late:
			t.Fatalf("tokenhub is not ready after 15 s: %v", err)
		}
	}
}

// run runs an operating command and returns what it printed.
func (h *hub) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "--config", h.config)...)
	cmd.Env = plainEnvironment()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tokenhub %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// key creates a key and returns its text. flags are those of keys create.
func (h *hub) key(t *testing.T, name string, flags ...string) string {
	t.Helper()
	return h.run(t, append([]string{"keys", "create", "--name", name, "--quiet"}, flags...)...)
}

// plainEnvironment is the environment without what would configure TokenHub.
func plainEnvironment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if kept, ok := strings.CutPrefix(name, "KEEP_"); ok { // set by a test on purpose
			env = append(env, kept+"="+value)
			continue
		}
		if !strings.HasPrefix(name, "TOKENHUB_") && !strings.HasSuffix(name, "_API_KEY") && name != "OLLAMA_HOST" {
			env = append(env, v)
		}
	}
	return env
}

// lockedBuffer collects what two streams of a process say.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
