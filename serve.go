package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"tokenhub/alerts"
	"tokenhub/auth"
	"tokenhub/cli"
	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/db/bolt"
	"tokenhub/metrics"
	"tokenhub/proxy"
	"tokenhub/ui"
)

// server is the running program: the parts of the bill of materials.
type server struct {
	log      zerolog.Logger
	live     *config.Live
	demo     *demoProvider // nil without --demo
	current  atomic.Pointer[config.Config]
	store    *bolt.DB
	verifier *auth.Verifier
	gateway  *proxy.Gateway
	metrics  *metrics.Metrics
	alerts   *alerts.Alerts
	// refusedKeys are on their way to the audit trail.
	refusedKeys *refusedKeys
	admin       *ui.Admin
	// reloading is held while the configuration is read again: a signal and the API
	// may ask for it at once, and the newer one has to come last.
	reloading sync.Mutex
	// stopping makes readyz say no.
	stopping atomic.Bool
}

// serve runs the gateway and the admin side until ctx ends.
func (p *program) serve(ctx context.Context, o cli.ServeOptions) (err error) {
	// Without this a SIGHUP during the start ends the process; now it waits for run.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	limitMemory("/sys/fs/cgroup", p.getenv)
	log, flush := newLog(o.Config.Log, p.stderr)
	defer flush()
	s := &server{log: log}
	stdlog.SetOutput(io.Discard) // net/http prints there what a provider sends unasked
	// Alerts go out with it, and it waits for ever.
	http.DefaultClient.Timeout = alerts.SendTime
	s.live = config.NewLive(o.Source, o.Config)
	if o.Demo {
		if s.demo, err = startDemo(); err != nil {
			return err
		}
		defer s.demo.stop()
	}
	cfg, err := s.effective(o.Config)
	if err != nil {
		return err
	}
	s.current.Store(cfg)

	// The store comes first: whoever holds its lock is the server of this folder.
	s.store, err = openStore(ctx, cfg, s.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.store.Close()) }()
	if err := p.firstPassword(ctx, s.store); err != nil {
		return err
	}
	s.verifier = auth.New(auth.Options{Keys: s.store, Tokens: s.store})
	s.metrics = metrics.New(metrics.Options{Version: version, Moment: s.moment})
	s.refusedKeys = newRefusedKeys(s.store, s.log)
	s.gateway, err = proxy.New(proxy.Options{Config: cfg, Verifier: s.verifier, Store: s.store, Log: s.log, Observe: s.metrics.Observe, Refused: s.refused})
	if err != nil {
		return err
	}
	s.alerts = alerts.New(alerts.Options{Store: s.store, Config: s.current.Load, Log: s.log})
	s.admin = ui.New(ui.Options{Store: s.store, Tokens: s.verifier, Renewed: s.verifier.Renewed, Config: s.current.Load, Reload: s.reload, TestAlerts: s.alerts.Test,
		Gateway: gatewayView{s.gateway}, Ready: s.ready, Metrics: s.metrics.Write, Version: version, Log: s.log})

	doors, err := s.open(cfg)
	if err != nil {
		return err
	}
	defer doors.close()
	if err := p.printSetup(ctx, s.admin, doors); err != nil {
		return err
	}
	if s.demo != nil {
		if err := s.demo.printKey(ctx, p.stdout, s.store, doors.here); err != nil {
			return err
		}
	}
	return s.run(ctx, cfg, doors, hangups)
}

// run lets everything work until ctx ends or a part fails, and then stops in
// the order in which nothing is lost.
func (s *server) run(ctx context.Context, cfg *config.Config, doors *doors, hangups <-chan os.Signal) error {
	// Work goes on while the doors close: it has a context of its own.
	work, stopWork := context.WithCancel(context.Background())
	defer stopWork()
	group, work := errgroup.WithContext(work)
	group.Go(func() error { return s.store.Run(work) })
	group.Go(func() error { return s.gateway.Run(work) })
	group.Go(func() error { return s.alerts.Run(work) })
	group.Go(func() error { return s.admin.Run(work) })
	group.Go(func() error { return s.backups(work) })
	group.Go(func() error { return s.refusedKeys.run(work) })
	defer s.store.WatchUsage(s.alerts.Notice)()
	group.Go(func() error { return s.reloadOn(work, hangups) })
	doors.serve(group)
	s.log.Info().Str("listen", doors.url).Str("data", cfg.DataDir).Str("version", version).Int("providers", len(cfg.Providers)).Msg("TokenHub is ready")

	select {
	case <-ctx.Done():
	case <-work.Done(): // a part failed
	}
	longest := s.current.Load().Drain // a reload may have changed it
	s.log.Info().Dur("drain", longest).Msg("stopping: running answers may finish; a second signal ends them at once")
	s.stopping.Store(true)
	s.gateway.Close()
	closed := make(chan struct{})
	go func() { defer close(closed); doors.shutdown() }()
	drain, cancel := context.WithTimeout(context.Background(), longest)
	s.gateway.Drain(drain)
	cancel()
	// All answers are settled. Their last bytes are on their way; connections
	// that never sent a request are not waited for.
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
	stopWork()
	return group.Wait()
}

// effective is the configuration with what the command line adds to it.
func (s *server) effective(c *config.Config) (*config.Config, error) {
	if s.demo == nil {
		return c, nil
	}
	return s.demo.addTo(c)
}

// reload reads the configuration again and puts it in force, or says why not.
func (s *server) reload(context.Context) (changes []string, err error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	restart, err := s.live.Reload()
	var cfg *config.Config
	if err == nil {
		cfg, err = s.effective(s.live.Get())
	}
	if err == nil {
		err = s.gateway.SetConfig(cfg)
	}
	if err != nil {
		s.log.Error().Err(err).Msg("reload: the new configuration is wrong, the old one stays")
		return nil, err
	}
	s.current.Store(cfg)
	s.store.SetRetention(cfg.Usage.KeepRequests, cfg.Usage.KeepRollups, cfg.Usage.KeepAudit)
	setLevel(cfg.Log.Level)
	s.log.Info().Strs("after_restart", restart).Msg("the configuration was read again")
	for _, name := range restart {
		changes = append(changes, name+" takes effect after a restart")
	}
	return changes, nil
}

// reloadOn reloads at each hangup until ctx ends.
func (s *server) reloadOn(ctx context.Context, hangups <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
			_, _ = s.reload(ctx) // it says itself what went wrong
		}
	}
}

// ready tells whether the program can serve.
func (s *server) ready(ctx context.Context) error {
	if s.stopping.Load() {
		return errors.New("the server is stopping")
	}
	return s.store.Ready(ctx)
}

// openStore opens the data folder of a configuration.
func openStore(ctx context.Context, cfg *config.Config, log zerolog.Logger) (*bolt.DB, error) {
	return bolt.Open(ctx, storeOptions(cfg, log))
}

func storeOptions(cfg *config.Config, log zerolog.Logger) bolt.Options {
	return bolt.Options{Dir: cfg.DataDir, Zone: cfg.Timezone, Version: version,
		KeepRequests: cfg.Usage.KeepRequests, KeepRollups: cfg.Usage.KeepRollups, KeepAudit: cfg.Usage.KeepAudit,
		OnProblem: func(err error) { log.Error().Err(err).Msg("store") }}
}

// publicApp is what listens on cfg.Listen.
func (s *server) publicApp(cfg *config.Config) (*fiber.App, error) {
	app, err := s.gateway.Server()
	if err != nil {
		return nil, err
	}
	s.mountHealth(app)
	if cfg.AdminListen == "" {
		s.mountAdmin(app)
	}
	app.Use(proxy.NotFound)
	return app, nil
}

// adminApp is what listens on cfg.AdminListen or on the socket, where everyone
// who can open it is believed.
func (s *server) adminApp(trust ui.Trust) *fiber.App {
	app := fiber.New(fiber.Config{AppName: "TokenHub", DisableStartupMessage: true, CaseSensitive: true, StrictRouting: true,
		StreamRequestBody: true, DisablePreParseMultipartForm: true, ReadTimeout: 15 * time.Second, IdleTimeout: 75 * time.Second,
		ReadBufferSize: 16 << 10, BodyLimit: 8 << 10, ErrorHandler: ui.ErrorHandler})
	app.Server().SecureErrorLogMessage = true
	s.mountHealth(app)
	if trust == ui.Network {
		s.mountAdmin(app)
	} else {
		s.admin.API(trust)(app)
	}
	app.Use(func(c *fiber.Ctx) error { return fiber.ErrNotFound })
	return app
}

func (s *server) mountHealth(app *fiber.App) {
	app.Get("/healthz", s.admin.Healthz)
	app.Get("/readyz", s.admin.Readyz)
}

func (s *server) mountAdmin(app *fiber.App) {
	app.Get("/metrics", s.admin.Metrics(ui.Network))
	s.admin.API(ui.Network)(app)
	s.admin.Pages()(app)
	app.Use(s.admin.MissingPage)
}

// printSetup prints the link with which the first admin password is set, while
// there is none.
func (p *program) printSetup(ctx context.Context, admin *ui.Admin, doors *doors) error {
	link, err := admin.SetupLink(ctx, doors.pages)
	if err != nil || link == "" {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Set the admin password here (valid for one hour): %s\n", link)
	return err
}

// firstPassword sets the admin password from the environment while none is set.
func (p *program) firstPassword(ctx context.Context, store *bolt.DB) error {
	admin := auth.NewPassword(store, time.Now)
	if there, err := admin.Exists(ctx); err != nil || there {
		return err // the file may be gone by now, and may be anything
	}
	from, password, err := p.givenPassword()
	if err != nil || password == "" {
		return err
	}
	set := admin.Set
	if strings.HasPrefix(password, "$argon2id$") {
		set = admin.SetHash
		if err := auth.ValidPHC(password); err != nil {
			return config.Wrong(from, "%s", err)
		}
	}
	audit := db.Audit{Time: time.Now(), Actor: "cli", From: "environment", Action: "admin.password"}
	err = set(ctx, password, audit)
	if errors.Is(err, auth.ErrPasswordSize) {
		return config.Wrong(from, "%s", err)
	}
	return err
}

// givenPassword reads the admin password of the environment, and tells which
// variable it is from; empty without one. An empty variable counts as not set, but
// a file that is named and empty was meant to hold one.
func (p *program) givenPassword() (from, password string, err error) {
	from = "TOKENHUB_ADMIN_PASSWORD_FILE"
	file := p.getenv(from)
	if file == "" {
		from = "TOKENHUB_ADMIN_PASSWORD"
		return from, p.getenv(from), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return from, "", config.Wrong(from, "the file cannot be read: %s", err)
	}
	if password = strings.TrimRight(string(text), "\r\n"); password == "" {
		return from, "", config.Wrong(from, "the file %s is empty: write the password into it, or unset the variable", file)
	}
	return from, password, nil
}
