package config

import (
	"sync"
	"sync/atomic"
)

// Live is the configuration of a running server: read by many, replaced as a whole
// by a reload.
type Live struct {
	source  Source
	current atomic.Pointer[Config]

	// mu lets one reload run at a time and guards listeners.
	mu        sync.Mutex
	listeners []func(*Config)
}

// NewLive returns a Live that holds first, which was loaded from source.
func NewLive(source Source, first *Config) *Live {
	l := &Live{source: source}
	l.current.Store(first)
	return l
}

// Get returns the configuration in force. A request that reads several settings
// calls it once and keeps the result.
func (l *Live) Get() *Config { return l.current.Load() }

// OnChange has fn called with the new configuration after each reload, in the order
// of the calls to OnChange and before [Live.Reload] returns. fn must not call
// Reload or OnChange.
func (l *Live) OnChange(fn func(*Config)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listeners = append(l.listeners, fn)
}

// Reload loads from the same source again and puts the result in force. When that
// fails the old configuration stays, and the error is that of [Load]. Some settings
// can only change with a restart: they keep their running value, and those that
// differ are returned, by the path of their key, so that somebody can be told.
func (l *Live) Reload() (restart []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next, err := Load(l.source)
	if err != nil {
		return nil, err
	}
	restart = pin(next, l.current.Load())
	l.current.Store(next)
	for _, fn := range l.listeners {
		fn(next)
	}
	return restart, nil
}

// pin gives next the values of running that hold as long as the process, and
// returns the paths of those that were others: what is listened on, the folder
// that is locked, where windows that hold counters begin, and the log that is open.
func pin(next, running *Config) []string {
	var changed []string
	keep(&changed, "listen", &next.Listen, running.Listen)
	keep(&changed, "admin_listen", &next.AdminListen, running.AdminListen)
	keep(&changed, "data_dir", &next.DataDir, running.DataDir)
	if next.Timezone.String() != running.Timezone.String() {
		changed = append(changed, "timezone")
	}
	next.Timezone = running.Timezone
	if (next.TLSCert == "") != (running.TLSCert == "") { // other files are read, but TLS is not turned on or off
		keep(&changed, "tls_cert", &next.TLSCert, running.TLSCert)
		keep(&changed, "tls_key", &next.TLSKey, running.TLSKey)
	}
	keep(&changed, "log.format", &next.Log.Format, running.Log.Format)
	return changed
}

func keep(changed *[]string, path string, next *string, running string) {
	if *next != running {
		*changed = append(*changed, path)
		*next = running
	}
}
