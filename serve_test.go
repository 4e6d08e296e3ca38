package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/cli"
	"tokenhub/config"
	"tokenhub/proxy"
)

// writeFile writes a file that a test needs.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// testServer is as much of a server as a reload needs, and its configuration file.
func testServer(t *testing.T) (s *server, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "config.toml")
	writeFile(t, file, "")
	source := config.Source{Path: file, Getenv: func(string) string { return "" }}
	cfg, err := config.Load(source)
	if err != nil {
		t.Fatal(err)
	}
	s = &server{log: zerolog.Nop(), live: config.NewLive(source, cfg)}
	s.current.Store(cfg)
	if s.store, err = openStore(t.Context(), cfg, s.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close() })
	s.gateway, err = proxy.New(proxy.Options{Config: cfg, Verifier: auth.New(auth.Options{Keys: s.store, Tokens: s.store}), Store: s.store, Log: s.log})
	if err != nil {
		t.Fatal(err)
	}
	return s, file
}

// pricePipe puts a pipe in the place of the price file, at which whoever reads it
// stands still. reached returns once somebody does, and what lets them go on.
func pricePipe(t *testing.T, dataDir string) (reached func() (goOn func())) {
	t.Helper()
	path := filepath.Join(dataDir, proxy.PriceFile)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	opened := make(chan *os.File, 1)
	go func() {
		pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
		}
		opened <- pipe
	}()
	return func() func() {
		t.Helper()
		var pipe *os.File
		select {
		case pipe = <-opened:
		case <-time.After(10 * time.Second):
			t.Fatal("nobody reads the prices")
		}
		if err := os.Remove(path); err != nil { // the next one finds no prices
			t.Error(err)
		}
		return func() {
			t.Helper()
			if _, err := pipe.WriteString("model,input,cached_input,cache_write,output,image,second,call,context_window\n"); err != nil {
				t.Error(err)
			}
			if err := pipe.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A signal and the API asked for a reload at once. The one that began first put
// its configuration in force last, so that the older one stayed.
func TestReloadsDoNotOvertakeEachOther(t *testing.T) {
	s, file := testServer(t)
	reload := func() chan error {
		ended := make(chan error, 1)
		go func() {
			_, err := s.reload(t.Context())
			ended <- err
		}()
		return ended
	}
	reached := pricePipe(t, s.current.Load().DataDir)
	writeFile(t, file, "drain = \"2s\"\n")
	first := reload()
	goOn := reached()
	writeFile(t, file, "drain = \"3s\"\n")
	second := reload()
	select {
	case <-second:
		t.Error("the second reload did not wait for the first")
		second <- nil
	case <-time.After(200 * time.Millisecond): // long enough for one that does not wait
	}
	goOn()
	for _, ended := range []chan error{first, second} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if got := s.current.Load().Drain; got != 3*time.Second {
		t.Errorf("the configuration in force has drain %s, want that of the newer one", got)
	}
}

// env is a Getenv of these pairs of name and value.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// The file of the first password was read at each start, so that a Docker secret
// that was removed once the password was set stopped the server.
func TestFirstPasswordIsReadWhileNoneIsSet(t *testing.T) {
	s, _ := testServer(t)
	file := filepath.Join(t.TempDir(), "password")
	writeFile(t, file, "correct horse\n")
	p := &program{getenv: env("TOKENHUB_ADMIN_PASSWORD_FILE", file)}
	if err := p.firstPassword(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	if there, err := auth.NewPassword(s.store, nil).Exists(t.Context()); !there || err != nil {
		t.Fatalf("a password is set: %t, %v", there, err)
	}
	for _, getenv := range []func(string) string{
		env("TOKENHUB_ADMIN_PASSWORD_FILE", file+".gone"),
		env("TOKENHUB_ADMIN_PASSWORD", "short"),
	} {
		if err := (&program{getenv: getenv}).firstPassword(t.Context(), s.store); err != nil {
			t.Errorf("with a password set: %v", err)
		}
	}
}

// An empty file of the first password meant none, whatever the other variable held,
// and a password that can't be one ended the start with 1: systemd tried for ever.
func TestFirstPasswordThatIsNoneIsAWrongConfiguration(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	writeFile(t, empty, "\n")
	for _, test := range []struct{ variable, value, want string }{
		{"TOKENHUB_ADMIN_PASSWORD_FILE", empty, "TOKENHUB_ADMIN_PASSWORD_FILE: the file " + empty + " is empty"},
		{"TOKENHUB_ADMIN_PASSWORD_FILE", filepath.Join(dir, "none"), "TOKENHUB_ADMIN_PASSWORD_FILE: the file cannot be read"},
		{"TOKENHUB_ADMIN_PASSWORD", "short", "TOKENHUB_ADMIN_PASSWORD: the password must have at least 10 characters"},
		{"TOKENHUB_ADMIN_PASSWORD", "$argon2id$nonsense", "TOKENHUB_ADMIN_PASSWORD: "},
	} {
		s, _ := testServer(t)
		// Both stand there: the file goes first.
		p := &program{getenv: env(test.variable, test.value, "TOKENHUB_ADMIN_PASSWORD", "correct horse")}
		err := p.firstPassword(t.Context(), s.store)
		var wrong *config.Problems
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s=%s: %v, want %s", test.variable, test.value, err, test.want)
			continue
		}
		if strings.Contains(err.Error(), "nonsense") {
			t.Errorf("the error repeats the hash: %v", err)
		}
	}
}

// What is wrong with the start itself ends it with the code of a wrong
// configuration too: systemd must not try again.
func TestWrongStartEndsWithTwo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	writeFile(t, file, "listen = \"127.0.0.1:0\"\n[[providers]]\nname = \"demo\"\nbase_url = \"http://127.0.0.1:1\"\n")
	for _, test := range []struct {
		args   []string
		getenv func(string) string
		want   string
	}{
		{[]string{"--config", file, "--demo"}, env("GOMEMLIMIT", "off"), "tokenhub: --demo adds a provider named \"demo\", and the configuration has one"},
		{[]string{"--config", file}, env("GOMEMLIMIT", "off", "TOKENHUB_ADMIN_PASSWORD", "short"), "tokenhub: TOKENHUB_ADMIN_PASSWORD: the password must have"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), test.args, test.getenv, strings.NewReader(""), io.Discard, &stderr); code != cli.ExitUsage || !strings.HasPrefix(stderr.String(), test.want) {
			t.Errorf("%q ends with %d: %s", test.args, code, stderr.String())
		}
	}
}

// started is the whole program, serving in this process.
type started struct {
	stdout chan string // line by line
	stderr *lockedBuffer
	ended  chan int
	stop   context.CancelFunc
}

// startProgram runs the program with these arguments until the test ends.
func startProgram(t *testing.T, args ...string) *started {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &started{stdout: make(chan string, 100), stderr: &lockedBuffer{}, ended: make(chan int, 1), stop: stop}
	read, write := io.Pipe()
	go func() {
		defer close(p.stdout)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			p.stdout <- lines.Text()
		}
	}()
	go func() {
		p.ended <- run(ctx, args, env("GOMEMLIMIT", "off"), strings.NewReader(""), write, p.stderr)
		_ = write.Close()
	}()
	t.Cleanup(func() {
		stop()
		if code := <-p.ended; code != cli.ExitDone {
			t.Errorf("the program ended with %d: %s", code, p.stderr)
		}
	})
	return p
}

// says waits until the log holds a text.
func (p *started) says(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !strings.Contains(p.stderr.String(), text) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the log does not say %q: %s", text, p.stderr)
		}
	}
}

// lockedBuffer is what a running program has said.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// The command that --demo prints named the port of the configuration, which is 0
// where the system chooses one.
func TestDemoPrintsTheRealPort(t *testing.T) {
	p := startProgram(t, "--demo", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data"))
	command := regexp.MustCompile(`^curl -N (\S+) -H 'Authorization: (Bearer \S+)' -H 'Content-Type: application/json' -d '(.+)'$`)
	for line := range p.stdout {
		m := command.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m[1], strings.NewReader(m[3]))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", m[2])
		req.Header.Set("Content-Type", "application/json")
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("the printed call is answered with %s", resp.Status)
		}
		return
	}
	t.Errorf("no command was printed: %s", p.stderr)
}

// A provider named demo was refused at the start beside --demo, but came in by a
// reload: two of one name, of which one was never asked.
func TestReloadRefusesAProviderOfTheDemosName(t *testing.T) {
	s, file := testServer(t)
	s.demo = &demoProvider{url: "http://127.0.0.1:1/v1"}
	before := s.current.Load()
	writeFile(t, file, "[[providers]]\nname = \"demo\"\nbase_url = \"http://127.0.0.1:1\"\n")
	if _, err := s.reload(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "--demo adds a provider named \"demo\", and the configuration has one") {
		t.Errorf("got %v", err)
	}
	if s.current.Load() != before {
		t.Error("the configuration that was refused is in force")
	}
	writeFile(t, file, "")
	if _, err := s.reload(t.Context()); err != nil || len(s.current.Load().Providers) != 1 {
		t.Errorf("a good one: %v", err)
	}
}

// A SIGHUP that came before the server was ready ended the process.
func TestHangupDuringTheStart(t *testing.T) {
	// Without the program's own this one would end the tests.
	mine := make(chan os.Signal, 1)
	signal.Notify(mine, syscall.SIGHUP)
	defer signal.Stop(mine)
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	reached := pricePipe(t, dir)
	p := startProgram(t, "--listen", "127.0.0.1:0", "--data", dir)
	goOn := reached() // the start stands still
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-mine
	goOn()
	p.says(t, "the configuration was read again")
}

// The log named the drain of the start, whatever a reload had made of it.
func TestTheEndNamesTheDrainInForce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	writeFile(t, file, "listen = \"127.0.0.1:0\"\ndrain = \"9s\"\n")
	p := startProgram(t, "--config", file)
	p.says(t, "TokenHub is ready")
	writeFile(t, file, "listen = \"127.0.0.1:0\"\ndrain = \"2s\"\n")
	if code := run(t.Context(), []string{"reload", "--config", file}, env(), strings.NewReader(""), io.Discard, io.Discard); code != cli.ExitDone {
		t.Fatalf("the reload ends with %d", code)
	}
	p.stop()
	p.says(t, `"drain":2000`)
}
