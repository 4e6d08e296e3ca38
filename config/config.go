// Package config reads TokenHub's configuration: one TOML file, the
// environment and the flags, strictly and with all problems at once.
//
//	cfg, err := config.Load(config.Source{Path: path})
//	var bad *config.Problems
//	if errors.As(err, &bad) { /* each with file and line */ }
//
// A Config is read-only once it was loaded; a reload makes a new one, and [Live]
// holds the one in force. Secrets are read by [Load] and at no other time.
//
//	live := config.NewLive(source, cfg)
//	restart, err := live.Reload() // the old one stays when the new one is wrong
//
// Time zones come from the system. A program that has to run without the
// system's table links its own with `import _ "time/tzdata"`.
package config

import (
	"net/netip"
	"time"
)

// Config is the whole configuration with every default filled in. The field
// comments of config.example.toml are the manual.
type Config struct {
	Listen      string
	AdminListen string
	// DataDir is absolute.
	DataDir string
	// BaseURL is the public URL without a trailing slash; empty = derived from Listen.
	BaseURL        string
	TrustedProxies []netip.Prefix
	CORSOrigins    []string
	// Timezone is where a day and a month begin.
	Timezone *time.Location
	// MaxBody is the largest request body in bytes.
	MaxBody int64
	Drain   time.Duration
	TLSCert string
	TLSKey  string

	Log       Log
	Usage     Usage
	Backup    Backup
	Alerts    Alerts
	Routing   Routing
	Providers []Provider
	Models    []Model
	Prices    []Price

	// File is the file that was read, empty without one.
	File string
}

// Log says what is logged and how.
type Log struct {
	Level  string // trace, debug, info, warn, error
	Format string // auto, json, console
}

// Usage says how long what was counted is kept; 0 = forever.
type Usage struct {
	KeepRequests, KeepRollups, KeepAudit time.Duration
}

// Backup says when backups are made; Every 0 = never.
type Backup struct {
	Every time.Duration
	Keep  int
	Dir   string
}

// Alerts says who is told when a budget is nearly used up.
type Alerts struct {
	URLs []Secret
	At   []int
}

// Routing holds the defaults of choosing a provider.
type Routing struct {
	Strategy   string
	Retries    int
	FallbackOn []string
	Auto       []string
}

// Provider is one configured endpoint: base URL and credential.
type Provider struct {
	Name string
	// BaseURL has no trailing slash; the caller's path after /v1 is appended.
	BaseURL string
	APIKey  Secret
	// Auth is bearer, x-api-key, api-key or none.
	Auth string
	// Models are globs; nil = what its own GET /models lists.
	Models   []string
	Headers  map[string]Secret
	CA       string // PEM file
	Timeouts Timeouts
	// MaxConcurrency is the number of requests that run at once; 0 = no bound.
	MaxConcurrency int
	AskUsage       bool
	// OutputField is the field that bounds the output of chat completions.
	OutputField string
	// MonthlyUSD is a cap in micro-dollars; 0 = none.
	MonthlyUSD int64
}

// Timeouts bound the phases of a request to a provider; 0 = none.
type Timeouts struct {
	Connect, FirstByte, Idle, Total time.Duration
}

// Model is a name of the operator's own for one or more targets.
type Model struct {
	Name      string
	Targets   []Target
	Fallbacks []string
	Strategy  string // empty = Routing.Strategy
	// ContextWindow is in tokens; 0 = unknown.
	ContextWindow int64
}

// Target is one place that can serve an alias.
type Target struct {
	Provider string
	Model    string
	Weight   int // at least 1
}

// Price overrides the built-in table. All prices are micro-dollars: per million
// tokens, or per image, second and call.
type Price struct {
	// Model is "provider/model" or "model", globs allowed.
	Model string
	// Input, CachedInput, CacheWrite, Output are per million tokens. CachedInput
	// and CacheWrite are those of Input where the file leaves them out.
	Input, CachedInput, CacheWrite, Output int64
	// Image, Second, Call are per image, per second of audio and per request; 0 = none.
	Image, Second, Call int64
	// Tokens says that the file gives input or output: the model is priced by token.
	Tokens bool
}
