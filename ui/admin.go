// Package ui is the admin side of TokenHub: the JSON API under /api that makes
// and edits keys, reports usage and looks after the running gateway.
//
//	admin := ui.New(ui.Options{Store: store, Tokens: verifier, Config: current, Gateway: gateway})
//	app := fiber.New(fiber.Config{
//		CaseSensitive: true, StrictRouting: true, StreamRequestBody: true,
//		ErrorHandler: ui.ErrorHandler,
//	})
//	admin.API(ui.Network)(app) // asks for an admin token
//	app.Get("/healthz", admin.Healthz)
//
// The same handlers serve the network, the Unix socket in the data folder and,
// while no server runs, the operating commands in process: they differ only in
// whom they believe, see [Trust]. Nothing of Fiber is kept after an answer: what
// a handler takes from a request is copied first.
package ui

import (
	"context"
	"html/template"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
)

// Store is what the admin side needs of a [db.Store].
type Store interface {
	db.Keys
	db.Tokens
	db.Settings
	db.Reports
	KeyUsage(ctx context.Context, id string, t time.Time) (db.KeyUsage, error)
	ProviderSpend(ctx context.Context, provider string, t time.Time) (spent, held int64)
	Ready(ctx context.Context) error
	Backup(ctx context.Context, w io.Writer) error
}

// Verifier tells whose admin token a text is. Its errors are those of
// [tokenhub/auth.Verifier].
type Verifier interface {
	VerifyToken(ctx context.Context, text string, from netip.Addr) (*db.Token, error)
}

// Options are the parts that an [Admin] is made of.
type Options struct {
	// Store holds everything that is shown and changed. Required.
	Store Store
	// Tokens checks admin tokens. Required where [Network] is served.
	Tokens Verifier
	// Renewed, if set, is told the text of each key whose secret was rotated, and the
	// hash that is stored of it.
	Renewed func(text, phc string)
	// Config returns the configuration in force. Required.
	Config func() *config.Config
	// Reload reads the configuration again and tells what changed. Nil where no
	// server runs: the route then answers 503.
	Reload func(ctx context.Context) (changes []string, err error)
	// Gateway is the running gateway. Nil where there is none: providers are then
	// listed as configured, and what needs the gateway answers 503.
	Gateway Gateway
	// Ready tells whether the program can serve; nil asks the store alone.
	Ready func(ctx context.Context) error
	// TestAlerts sends a message to each target of alerts and tells what became of
	// it, in the order of the configuration; nil where nothing sends alerts.
	TestAlerts func(ctx context.Context) []error
	// Metrics writes the metrics in Prometheus' text format; nil writes none.
	Metrics func(w io.Writer)
	// Version is the program's, as it stands in the OpenAPI document.
	Version string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log gets what the caller may not read: the causes of 5xx answers.
	Log zerolog.Logger
}

// Admin is the admin side. It is safe for concurrent use and has nothing that
// runs by itself.
type Admin struct {
	store   Store
	tokens  Verifier
	renewed func(text, phc string)
	config  func() *config.Config
	reload  func(ctx context.Context) ([]string, error)
	gateway Gateway
	ready   func(ctx context.Context) error
	alerts  func(ctx context.Context) []error
	metrics func(w io.Writer)
	version string
	now     func() time.Time
	log     zerolog.Logger
	// warnings bounds what is logged of those that anybody can cause.
	warnings warnings

	password *auth.Password
	sessions *auth.Sessions
	// setup is the set-up link of this process, nil when there is none.
	setup atomic.Pointer[auth.Setup]
	// shown are secrets that a page is about to show, once.
	shown shown
	// history remembers the sums of days that are over.
	history history

	// assets and templates are what pages are made of, once they are mounted. The
	// first page reads them: a gateway whose pages nobody looks at starts without.
	assets    func() map[string]*asset
	templates func() map[string]*template.Template

	// hashing lets one new secret be hashed at a time: each takes 19 MiB.
	hashing sync.Mutex
	// copying is held while a backup is written: one at a time.
	copying sync.Mutex
}

// New returns an Admin. It starts nothing.
func New(o Options) *Admin {
	a := &Admin{
		store: o.Store, tokens: o.Tokens, renewed: o.Renewed, config: o.Config, reload: o.Reload, gateway: o.Gateway,
		ready: o.Ready, alerts: o.TestAlerts, metrics: o.Metrics, version: o.Version, now: o.Now, log: o.Log,
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.password = auth.NewPassword(a.store, a.now)
	a.sessions = auth.NewSessions(a.now)
	if a.ready == nil {
		a.ready = a.store.Ready
	}
	a.shown.now = a.now
	a.history.store = a.store
	return a
}

// Trust says whom the API believes: it depends on where it is served.
type Trust int

const (
	// Network asks for an admin token.
	Network Trust = iota
	// Socket believes everyone: who can open the Unix socket in the data folder
	// owns the data.
	Socket
	// Offline believes everyone: the command that calls has the store open itself.
	Offline
)
