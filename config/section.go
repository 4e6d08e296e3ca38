package config

import (
	"crypto/tls"
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// root reads the whole configuration: the keys of the top, then each section.
func (r *reader) root(raw map[string]any) *Config {
	c := defaults()
	c.DataDir = filepath.Join(r.fileDir, c.DataDir)
	top := &table{reader: r, raw: raw}
	field(top, "listen", &c.Listen, needed(asAddress))
	field(top, "admin_listen", &c.AdminListen, asAddress)
	field(top, "data_dir", &c.DataDir, needed(asPath))
	field(top, "base_url", &c.BaseURL, asURL)
	list(top, "trusted_proxies", &c.TrustedProxies, asPrefix)
	list(top, "cors_origins", &c.CORSOrigins, asOrigin)
	field(top, "timezone", &c.Timezone, asTimezone)
	field(top, "max_body", &c.MaxBody, asSize(1<<10))
	field(top, "drain", &c.Drain, asDuration)
	field(top, "tls_cert", &c.TLSCert, asPath)
	field(top, "tls_key", &c.TLSKey, asPath)
	settings := slices.Clone(top.keys)

	r.log(top.table("log"), &c.Log, settings)
	r.usage(top.table("usage"), &c.Usage, settings)
	r.backup(top.table("backup"), &c.Backup, settings)
	r.alerts(top.table("alerts"), &c.Alerts, settings)
	r.routing(top.table("routing"), &c.Routing, settings)
	c.Providers = r.providers(top.tables("providers"))
	if !top.has("providers") {
		c.Providers = r.environmentProviders()
	}
	c.Models = r.models(top.tables("models"), c.Providers)
	c.Prices = r.prices(top.tables("prices"))
	top.done()

	r.checkListeners(c)
	return c
}

func (r *reader) log(t *table, log *Log, settings []string) {
	field(t, "level", &log.Level, asOneOf("trace", "debug", "info", "warn", "error"))
	field(t, "format", &log.Format, asOneOf("auto", "json", "console"))
	t.done(settings...)
}

func (r *reader) usage(t *table, usage *Usage, settings []string) {
	field(t, "keep_requests", &usage.KeepRequests, asDuration)
	field(t, "keep_rollups", &usage.KeepRollups, asDuration)
	field(t, "keep_audit", &usage.KeepAudit, asDuration)
	t.done(settings...)
}

func (r *reader) backup(t *table, backup *Backup, settings []string) {
	field(t, "every", &backup.Every, asDuration)
	field(t, "keep", &backup.Keep, asInt(1, math.MaxInt32))
	field(t, "dir", &backup.Dir, asPath)
	if backup.Every > 0 && backup.Dir == "" {
		r.complain("backup.every", "needs backup.dir, the folder to write to")
	}
	t.done(settings...)
}

func (r *reader) alerts(t *table, alerts *Alerts, settings []string) {
	list(t, "urls", &alerts.URLs, r.asAlertURL)
	list(t, "at", &alerts.At, asInt(1, 100))
	slices.Sort(alerts.At)
	t.done(settings...)
}

func (r *reader) asAlertURL(l layer) (Secret, error) {
	url, err := r.asSecret(l)
	if r.withoutSecrets {
		return url, err // it may be what refers to one
	}
	if scheme, rest, ok := strings.Cut(url.Reveal(), "://"); err == nil && (!ok || scheme == "" || rest == "") {
		if l.plain {
			return "", errNoAlertURLs
		}
		return "", errNoAlertURL
	}
	return url, err
}

func (r *reader) routing(t *table, routing *Routing, settings []string) {
	field(t, "strategy", &routing.Strategy, asOneOf(strategies()...))
	field(t, "retries", &routing.Retries, asInt(0, 10))
	list(t, "fallback_on", &routing.FallbackOn, asOneOf(failures()...))
	list(t, "auto", &routing.Auto, asModelName)
	t.done(settings...)
}

// checkListeners checks what the addresses and the certificate have to do with
// each other.
func (r *reader) checkListeners(c *Config) {
	if c.AdminListen != "" && sameAddress(c.Listen, c.AdminListen) {
		r.complain("admin_listen", "is the address of listen: take another port, or leave it empty to serve both there")
	}
	switch {
	case c.TLSCert == "" && c.TLSKey == "":
	case c.TLSCert == "":
		r.complain("tls_key", "needs tls_cert too")
	case c.TLSKey == "":
		r.complain("tls_cert", "needs tls_key too")
	case r.withoutSecrets: // the key is one
	default:
		if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
			r.complain("tls_cert", "cannot be used with tls_key: %s", err)
		}
	}
}
