package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp/fasthttputil"

	"tokenhub/auth"
	"tokenhub/cli"
	"tokenhub/config"
	"tokenhub/db/bolt"
	"tokenhub/proxy"
	"tokenhub/ui"
)

// offline serves the admin API in process while no server runs.
type offline struct {
	store *bolt.DB
	ln    *fasthttputil.InmemoryListener
	ended chan error
	stop  func() error
}

// openOffline opens the store for one command.
func (p *program) openOffline(ctx context.Context, cfg *config.Config) (cli.Offline, error) {
	if _, err := os.Stat(cfg.DataDir); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(p.stderr, "tokenhub: no server runs and there is no data folder yet: making %s\n", cfg.DataDir)
	}
	log := zerolog.New(p.stderr).Level(zerolog.ErrorLevel)
	options := storeOptions(cfg, log)
	options.KeepZone = true // a command may come from another folder, with another configuration
	store, err := bolt.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	s := &server{log: log, store: store}
	s.current.Store(cfg)
	// A gateway that listens to nobody: it explains, and tests providers.
	s.gateway, err = proxy.New(proxy.Options{Config: cfg, Verifier: auth.New(auth.Options{Keys: store, Tokens: store}), Store: store, Log: log})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	s.admin = ui.New(ui.Options{Store: store, Config: s.current.Load, Gateway: gatewayView{s.gateway}, Version: version, Log: log})
	app := s.adminApp(ui.Offline)
	o := &offline{store: store, ln: fasthttputil.NewInmemoryListener(), ended: make(chan error, 1), stop: app.Shutdown}
	go func() { o.ended <- app.Listener(o.ln) }()
	return o, nil
}

// Client returns a client of the handlers.
func (o *offline) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return o.ln.Dial() },
		DisableKeepAlives:  true,
		DisableCompression: true,
	}}
}

// Close ends the handlers and closes the store.
func (o *offline) Close() error {
	_ = o.ln.Close()
	return errors.Join(<-o.ended, o.store.Close())
}

// restore puts a backup in the place of the data.
func (p *program) restore(ctx context.Context, cfg *config.Config, file string) error {
	kept, err := bolt.Restore(ctx, file, cfg.DataDir)
	if err != nil {
		return err
	}
	if kept != "" {
		fmt.Fprintf(p.stderr, "What was there before is kept as %s.\n", kept)
	}
	return nil
}

// check looks through a backup or the data folder.
func (p *program) check(ctx context.Context, cfg *config.Config, file string) (string, error) {
	if file == "" {
		file = cfg.DataDir
	}
	report, err := bolt.Check(ctx, file)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is whole: %d bytes, schema %d, %d keys, %d admin tokens.", report.Path, report.Size, report.Schema, report.Keys, report.Tokens), nil
}
