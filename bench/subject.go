//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tokenhub/auth"
	"tokenhub/db"
	"tokenhub/db/bolt"
)

// The subjects, by the names that the table gives them.
const (
	direct      = "direct"
	tokenhub    = "TokenHub"
	nginx       = "nginx"
	bareFast    = "Fiber + fasthttp"
	bareNet     = "Fiber + net/http"
	providerKey = "sk-bench-provider"
)

// bench is one run.
type bench struct {
	options
	results results
	say     func(format string, a ...any)

	dir          string // of this run, removed at its end
	binary       string // of TokenHub
	nginxPath    string // empty when there is none
	load, tested int    // cores
	provider     *process
	pump         *pump
	upstream     string   // the address of whom the subjects forward to: one of these
	keys         []string // of TokenHub, in text
	// running are the subjects that were started for the figures which share them.
	running map[string]*process
	notes   []string // for below the table
}

// subjects are all proxies of this run, in the order of the turns.
func (b *bench) subjects() []string {
	list := []string{tokenhub, bareFast, bareNet}
	if b.nginxPath != "" {
		list = append(list, nginx)
	}
	return list
}

// prepare builds TokenHub, makes its keys and starts the provider.
func (b *bench) prepare(ctx context.Context) (err error) {
	b.running = map[string]*process{}
	if b.dir, err = os.MkdirTemp("", "tokenhub-bench-"); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o711); err != nil { // nginx as root works as nobody
		return err
	}
	if b.load, b.tested, err = cores(); err != nil {
		return err
	}
	if b.load == b.tested {
		b.note("There is one core only: load, provider and program under test share it.")
	}
	b.binary = filepath.Join(b.dir, "tokenhub")
	b.say("building TokenHub ...")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	b.say("making keys ...")
	if err := b.makeKeys(ctx); err != nil {
		return err
	}
	if b.nginxPath, err = findNginx(); err != nil {
		b.note("nginx was left out: " + err.Error() + ".")
	}
	if err := pinSelf(b.load); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if b.provider, err = startProcess("the provider", b.load, address, b.logOf("provider"), self, "provider", address); err != nil {
		return err
	}
	if b.pump, err = newPump(); err != nil {
		return fmt.Errorf("the load: %w", err)
	}
	return b.provider.await(ctx, b.small(0))
}

// forwardTo makes an address the one that the subjects forward to. Those that
// forward to another are stopped.
func (b *bench) forwardTo(address string) error {
	if b.upstream == address {
		return nil
	}
	b.upstream = address
	var errs []error
	for _, p := range b.running {
		errs = append(errs, p.stop())
	}
	b.running = map[string]*process{}
	return errors.Join(errs...)
}

// close ends all processes and removes what the run wrote.
func (b *bench) close() error {
	var errs []error
	for _, p := range b.running {
		errs = append(errs, p.stop())
	}
	if b.provider != nil {
		_ = b.provider.cmd.Process.Kill()
		<-b.provider.ended
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

func (b *bench) note(text string) { b.notes = append(b.notes, text) }

// makeKeys writes keys with limits of each kind into TokenHub's store.
func (b *bench) makeKeys(ctx context.Context) (err error) {
	number := 1000
	if b.seconds < 2 {
		number = 100 // each costs two computations of argon2id
		b.note("This was a quick run: 100 keys stood for the 1,000.")
	}
	store, err := bolt.Open(ctx, bolt.Options{Dir: b.dataDir()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	b.keys = make([]string, number)
	errs := make([]error, number)
	var wait sync.WaitGroup
	places := make(chan struct{}, 2)
	for i := range b.keys {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			b.keys[i], errs[i] = makeKey(ctx, store)
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// makeKey makes a key whose limits are there, and never reached.
func makeKey(ctx context.Context, store db.Keys) (string, error) {
	text, id, err := auth.Mint(auth.Key)
	if err != nil {
		return "", err
	}
	phc, err := auth.Hash(text)
	if err != nil {
		return "", err
	}
	now := time.Now()
	_, err = store.PutKey(ctx, &db.Key{ID: id, Name: "bench", Secrets: []db.Secret{{PHC: phc}}, CreatedAt: now, Endpoints: db.Inference,
		Limits: db.Limits{RequestsPerMinute: 1e12, TokensPerMinute: 1e15, ConcurrentRequests: 1e6, MonthlyTokens: 1e15, MonthlyUSD: 1e15}},
		db.Audit{Time: now, Actor: "cli", Action: "key.create", Target: id})
	return text, err
}

func (b *bench) logOf(name string) string {
	return filepath.Join(b.dir, strings.NewReplacer(" ", "", "/", "").Replace(name)+".log")
}

func (b *bench) dataDir() string { return filepath.Join(b.dir, "data") }

// start starts a subject that forwards to the provider, and waits until it
// answers.
func (b *bench) start(ctx context.Context, name string) (*process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var args []string
	switch name {
	case bareFast:
		args = []string{self, "bare", "fasthttp", address, b.upstream}
	case bareNet:
		args = []string{self, "bare", "net/http", address, b.upstream}
	case nginx:
		file, err := writeNginxConfig(b.dir, address, b.upstream)
		if err != nil {
			return nil, err
		}
		args = []string{b.nginxPath, "-p", b.dir, "-c", file, "-e", filepath.Join(b.dir, "nginx.log")}
	case tokenhub:
		file := filepath.Join(b.dir, "config.toml")
		if err := os.WriteFile(file, []byte(fmt.Sprintf(hubConfig, address, b.dataDir(), b.upstream, providerKey)), 0o600); err != nil {
			return nil, err
		}
		args = []string{b.binary, "--config", file}
	}
	p, err := startProcess(name, b.tested, address, b.logOf(name), args...)
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, b.small(0)); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), p.stop())
	}
	return p, nil
}

// shared is a subject that several figures use in turns; direct is the provider
// itself.
func (b *bench) shared(ctx context.Context, name string) (*process, error) {
	if name == direct {
		p := *b.provider
		p.address = b.upstream
		return &p, nil
	}
	if p := b.running[name]; p != nil {
		return p, nil
	}
	p, err := b.start(ctx, name)
	if err == nil {
		b.running[name] = p
	}
	return p, err
}

// hubConfig has everything switched on, a line in the log per request included.
const hubConfig = `listen = %q
data_dir = %q
[log]
level = "info"
format = "json"
[[providers]]
name = "bench"
base_url = "http://%s/v1"
api_key = %q
models = ["*"]
[[prices]]
model = "*"
input = 0.15
output = 0.6
`

// small is the small JSON request with the key of a number.
func (b *bench) small(key int) []byte {
	return post("/v1/chat/completions", b.keys[key], `{"model":"small","messages":[{"role":"system","content":"You are a helpful assistant."},`+
		`{"role":"user","content":"What does a gateway for language models do? Answer in two sentences."}],"temperature":0.7,"max_tokens":256}`)
}
