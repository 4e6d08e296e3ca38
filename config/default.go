package config

import (
	"path/filepath"
	"time"
)

const day = 24 * time.Hour

// Defaults returns the configuration of an empty file in the working folder.
func Defaults() *Config {
	c := defaults()
	if dir, err := filepath.Abs(c.DataDir); err == nil {
		c.DataDir = dir
	}
	return c
}

// defaults leaves DataDir relative.
func defaults() *Config {
	return &Config{
		Listen:   "127.0.0.1:8080",
		DataDir:  "data",
		Timezone: time.UTC,
		MaxBody:  64 << 20,
		Drain:    30 * time.Second,
		Log:      Log{Level: "info", Format: "auto"},
		Usage:    Usage{KeepRequests: 30 * day, KeepRollups: 400 * day, KeepAudit: 400 * day},
		Backup:   Backup{Keep: 7},
		Alerts:   Alerts{At: []int{80, 100}},
		Routing:  Routing{Strategy: "priority", Retries: 1, FallbackOn: failures()},
	}
}

// defaultProvider holds what a provider has where nothing else is said.
func defaultProvider() Provider {
	return Provider{
		Timeouts: Timeouts{Connect: 5 * time.Second, FirstByte: 10 * time.Minute, Idle: 5 * time.Minute},
		AskUsage: true,
	}
}

// failures are the kinds of failure after which another target may be tried.
func failures() []string { return []string{"connect", "broken", "timeout", "5xx", "429"} }

// strategies are the ways to choose among the targets of a name.
func strategies() []string {
	return []string{"priority", "round-robin", "latency", "cost", "availability"}
}
