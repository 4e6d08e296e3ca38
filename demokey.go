package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/demo"
)

// demoName is the name of the provider and of the key that --demo adds.
const demoName = "demo"

// demoLife is how long a demo key is valid.
const demoLife = 24 * time.Hour

// demoProvider is the fake model of --demo, on a port of its own: for the
// gateway it is a provider like any other.
type demoProvider struct {
	url    string
	server *http.Server
}

// startDemo starts the fake model on loopback.
func startDemo() (*demoProvider, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("--demo: %w", err)
	}
	d := &demoProvider{url: "http://" + ln.Addr().String() + "/v1",
		server: &http.Server{Handler: demo.Handler(demo.Options{}), ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = d.server.Serve(ln) }() // ends with stop
	return d, nil
}

func (d *demoProvider) stop() { _ = d.server.Close() }

// addTo returns the configuration with the demo provider behind the others, none
// of which may have its name.
func (d *demoProvider) addTo(c *config.Config) (*config.Config, error) {
	for _, p := range c.Providers {
		if p.Name == demoName {
			return nil, config.Wrong("", "--demo adds a provider named %q, and the configuration has one: rename that one, or start without --demo", demoName)
		}
	}
	with := *c
	with.Providers = append(append([]config.Provider(nil), c.Providers...), config.Provider{
		Name: demoName, BaseURL: d.url, Auth: "none", AskUsage: true, OutputField: "max_tokens",
		Models:   []string{demo.Model, demo.EmbeddingModel},
		Timeouts: config.Timeouts{Connect: 5 * time.Second, FirstByte: time.Minute, Idle: time.Minute},
	})
	return &with, nil
}

// printKey replaces the demo key by a fresh one and prints it, with a command
// to paste; url is where this machine reaches the gateway. It is the only secret
// that is printed without being asked for.
func (d *demoProvider) printKey(ctx context.Context, w io.Writer, store db.Keys, url string) error {
	now := time.Now()
	audit := db.Audit{Time: now, Actor: "cli", From: "--demo", Action: "key.revoke", TargetName: demoName}
	keys, err := store.AllKeys(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Name != demoName || !k.RevokedAt.IsZero() {
			continue
		}
		old := k.Clone()
		old.RevokedAt, old.Secrets = now, nil
		audit.Target = k.ID
		if _, err := store.PutKey(ctx, old, audit); err != nil {
			return err
		}
	}
	text, id, err := auth.Mint(auth.Key)
	if err != nil {
		return err
	}
	phc, err := auth.Hash(text)
	if err != nil {
		return err
	}
	audit.Action, audit.Target = "key.create", id
	_, err = store.PutKey(ctx, &db.Key{ID: id, Name: demoName, Secrets: []db.Secret{{PHC: phc}},
		CreatedAt: now, ExpiresAt: now.Add(demoLife), Endpoints: db.Inference}, audit)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, `
TokenHub is running with a demo model. This key is valid for 24 hours; paste the line into another terminal:

curl -N %s/v1/chat/completions -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '{"model":"%s","stream":true,"messages":[{"role":"user","content":"What is TokenHub?"}]}'

`, url, text, demo.Model)
	return err
}

// localURL is where this machine reaches the gateway, which listens on address.
func localURL(cfg *config.Config, address string) string {
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + reachable(address)
}

// reachable replaces an address that stands for all of this machine's by one that
// can be opened on it.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
