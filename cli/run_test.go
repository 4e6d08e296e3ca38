package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tokenhub/config"
)

func TestServe(t *testing.T) {
	f := newFixture(t, nil)
	f.run().want(t, 0, "", "")
	if f.served == nil || f.served.Demo || f.served.Config.Listen != "127.0.0.1:8080" {
		t.Fatalf("served %+v", f.served)
	}
	f.run("--demo", "--listen", ":9", "--data", "elsewhere").want(t, 0, "", "")
	if s := f.served; !s.Demo || s.Config.Listen != ":9" || s.Source.Overrides.Listen != ":9" || s.Config.DataDir != filepath.Join(f.dir, "elsewhere") {
		t.Errorf("served %+v, %+v", s, s.Config)
	}
	again, err := config.Load(f.served.Source)
	if err != nil || again.DataDir != f.served.Config.DataDir {
		t.Errorf("the source gives %+v, %v", again, err)
	}
	f.o.Serve = func(context.Context, ServeOptions) error { return errors.New("listen: the address is taken") }
	f.run("serve").want(t, 1, "", "tokenhub: listen: the address is taken\n")
}

// All that is wrong with the configuration is told, one problem a line.
func TestWrongConfiguration(t *testing.T) {
	for _, args := range [][]string{{}, {"keys", "list"}, {"config", "check"}, {"config", "show"}, {"check"}, {"backup", "x"}, {"healthcheck"}, {"reload"}} {
		f := newFixture(t, nil).online()
		f.write("config.toml", "listen = 1\nnonsense = 2\n")
		got := f.run(args...)
		if got.code != ExitUsage || got.stdout != "" || strings.Count(got.stderr, "\n") != 2 ||
			!strings.Contains(got.stderr, "tokenhub: config.toml:1: listen") || !strings.Contains(got.stderr, "tokenhub: config.toml:2: nonsense") {
			t.Errorf("%q: code %d, stdout %q, stderr %q", args, got.code, got.stdout, got.stderr)
		}
	}
	f := newFixture(t, nil)
	f.run("keys", "list", "--config", "missing.toml").want(t, ExitUsage, "", "missing.toml")
}

// The secrets of a service are not in the shell of its operator: a running
// server is reached all the same; without one the missing secret is named.
func TestMissingSecret(t *testing.T) {
	const file = "[[providers]]\nname = \"a\"\nbase_url = \"https://a.example/v1\"\napi_key = \"env:A_KEY\"\n"
	list := map[string]answer{"GET /api/keys?limit=500": {body: `{"data":[],"next":null}`}}
	f := newFixture(t, list).online()
	f.write("config.toml", file)
	f.run("keys", "list", "--json").want(t, 0, "[]\n", "")
	f.run("config", "check").want(t, ExitUsage, "", "A_KEY")

	f = newFixture(t, list)
	f.data()
	f.write("config.toml", file)
	f.run("keys", "list").want(t, ExitUsage, "", "A_KEY")
	if f.opened != 0 {
		t.Error("the store was opened with a made-up secret")
	}
}

// Secrets that are missing were made up, all as the same text: as alert URLs these
// were no URLs, or stood twice, and variables of secrets that begin with TOKENHUB_
// were left out. So the commands refused to speak with a server that ran well.
func TestMissingSecretsDoNotHideTheServer(t *testing.T) {
	const provider = "[[providers]]\nname = \"a\"\nbase_url = \"https://a.example/v1\"\n"
	for _, file := range []string{
		"[alerts]\nurls = [\"env:ALERT_WEBHOOK\"]\n",
		"[alerts]\nurls = [\"env:NTFY_URL\", \"env:SLACK_URL\"]\n",
		provider + "api_key = \"env:TOKENHUB_OPENAI_KEY\"\n",
		provider + "api_key = \"file:/run/credentials/tokenhub.service/a\"\n",
		provider + "headers = { X-Team = \"env:TEAM\" }\n",
		"tls_cert = \"of-the-service.pem\"\ntls_key = \"of-the-service.key\"\n",
		// In the server's environment is OPENAI_API_KEY, which makes the provider.
		"[[models]]\nname = \"house\"\ntargets = [ { provider = \"openai\", model = \"gpt-4o\" }, { provider = \"ollama\", model = \"q\" } ]\n",
	} {
		f := newFixture(t, map[string]answer{
			"GET /api/keys?limit=500": {body: `{"data":[],"next":null}`},
			"POST /api/reload":        {body: `{"changes":[]}`},
		}).online()
		f.write("config.toml", file)
		for _, args := range [][]string{{"keys", "list"}, {"reload"}} {
			if got := f.run(args...); got.code != 0 || got.stderr != "" {
				t.Errorf("%s: %q ends with %d: %s", file, args, got.code, got.stderr)
			}
		}
		if got := f.run("config", "check"); got.code != ExitUsage {
			t.Errorf("%s: config check ends with %d: %s", file, got.code, got.stderr)
		}
	}
	f := newFixture(t, nil).online()
	f.write("config.toml", "[alerts]\nurls = [\"env:A\"]\ncolour = 1\n")
	if got := f.run("keys", "list"); got.code != ExitUsage || !strings.Contains(got.stderr, "colour") {
		t.Errorf("another mistake: code %d, %s", got.code, got.stderr)
	}
}

func TestOffline(t *testing.T) {
	f := newFixture(t, map[string]answer{
		"GET /api/keys?limit=500": {body: `{"data":[],"next":null}`},
		"POST /api/keys":          laptopWith(`,"key":"` + secret + `"`),
	})
	f.run("keys", "list").want(t, 1, "", "there is no data in "+filepath.Join(f.dir, "data"))
	if f.opened != 0 {
		t.Fatal("a command that only reads opened a new store")
	}
	f.run("keys", "create", "--name", "laptop", "--quiet").want(t, 0, secret+"\n", "")
	f.data()
	f.run("keys", "list", "--json").want(t, 0, "[]\n", "")
	f.run("keys", "show", "nobody").want(t, 1, "", "There is nothing here.")
	if f.opened != 3 || f.closed != 3 {
		t.Errorf("opened %d, closed %d times, want 3", f.opened, f.closed)
	}
	f.openErr = errors.New("the data folder is locked by another tokenhub: stop it first")
	f.run("keys", "list").want(t, 1, "", "tokenhub: the data folder is locked by another tokenhub: stop it first\n")
}

// A socket that nobody listens on any more is not a server.
func TestStaleSocket(t *testing.T) {
	f := newFixture(t, map[string]answer{"GET /api/keys?limit=500": {body: `{"data":[],"next":null}`}})
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	path, release, err := ShortPath(f.data(), SocketName)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Close(fd); err != nil {
		t.Fatal(err)
	}
	f.run("keys", "list", "--json").want(t, 0, "[]\n", "")
	if f.opened != 1 {
		t.Errorf("opened %d times, want 1", f.opened)
	}
}

// A data folder may lie deeper than a socket address is long.
func TestLongSocketPath(t *testing.T) {
	f := newFixture(t, map[string]answer{"GET /api/keys?limit=500": {body: `{"data":[],"next":null}`}})
	dir := filepath.Join(f.dir, strings.Repeat("deep/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.listen(dir)
	f.run("keys", "list", "--json", "--data", dir).want(t, 0, "[]\n", "")
	f.run("check", "--data", dir).want(t, 1, "", "a server runs")
}

func TestRefusals(t *testing.T) {
	refused := func(status int, message string) answer {
		text, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		return answer{status, fmt.Sprintf(`{"error":{"message":%s,"type":"t","code":"c"}}`, text)}
	}
	tests := []struct {
		answer answer
		code   int
		stderr string
	}{
		{refused(404, "There is no key laptop."), 1, "tokenhub: There is no key laptop.\n"},
		{refused(409, "2 of them are named laptop: use an ID instead."), 1, "tokenhub: 2 of them"},
		{refused(400, "\"models\" is wrong."), 2, "tokenhub: \"models\" is wrong.\n"},
		{refused(503, "two\nlines\x1b[31m"), 1, "tokenhub: two lines [31m\n"},
		{answer{502, "<html>"}, 1, "GET /api/keys/laptop was answered with 502 Bad Gateway"},
		{answer{200, "<html>"}, 1, "read the answer of GET /api/keys/laptop"},
	}
	for _, test := range tests {
		f := newFixture(t, map[string]answer{"GET /api/keys/laptop": test.answer}).online()
		f.run("keys", "show", "laptop").want(t, test.code, "", test.stderr)
	}
}

func TestReload(t *testing.T) {
	f := newFixture(t, map[string]answer{"POST /api/reload": {body: `{"changes":["listen"]}`}})
	f.data()
	f.run("reload").want(t, 1, "", "no server runs on "+filepath.Join(f.dir, "data")+": start it with tokenhub serve")
	f.online()
	f.run("reload").want(t, 0, "The server reads its configuration anew.\nchanges: listen\n", "")
	f.api.answers["POST /api/reload"] = answer{400, `{"error":{"message":"not taken over: a:1: x\na:2: y","type":"t","code":"invalid_configuration"}}`}
	got := f.run("reload")
	if got.code != ExitUsage || got.stderr != "tokenhub: not taken over: a:1: x\ntokenhub: a:2: y\n" {
		t.Errorf("code %d, stderr %q", got.code, got.stderr)
	}
}

// closedPipe is standard output after head has gone.
type closedPipe struct{ err error }

func (p closedPipe) Write([]byte) (int, error) { return 0, p.err }

func TestBrokenOutput(t *testing.T) {
	f := newFixture(t, map[string]answer{"GET /api/keys?limit=500": {body: `{"data":[],"next":null}`}}).online()
	f.o.Stdout = closedPipe{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}}
	if got := f.run("keys", "list"); got.code != 1 || got.stderr != "" {
		t.Errorf("broken pipe: code %d, stderr %q", got.code, got.stderr)
	}
	f.o.Stdout = closedPipe{errors.New("no space left on device")}
	f.run("keys", "list").want(t, 1, "", "write the answer: no space left on device")
}

func TestInterrupted(t *testing.T) {
	f := newFixture(t, nil).online()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.runContext(ctx, "keys", "list").want(t, 1, "", "tokenhub: interrupted\n")
}

func TestVersion(t *testing.T) {
	f := newFixture(t, nil)
	f.run("version", "--quiet").want(t, 0, "1.2.3\n", "")
	f.run("--version").want(t, 0, "tokenhub 1.2.3\n", "")
	if got := f.run("version"); !strings.HasPrefix(got.stdout, "tokenhub 1.2.3 (go") {
		t.Errorf("printed %q", got.stdout)
	}
}
