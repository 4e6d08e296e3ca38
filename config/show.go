package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Show returns the configuration in force as TOML, with every default filled in
// and each secret as "***". Paths are absolute.
func (c *Config) Show() string {
	var s sheet
	s.text("listen", c.Listen)
	s.text("admin_listen", c.AdminListen)
	s.text("data_dir", c.DataDir)
	s.text("base_url", c.BaseURL)
	s.list("trusted_proxies", quotedAll(c.TrustedProxies))
	s.list("cors_origins", quotedAll(c.CORSOrigins))
	s.text("timezone", c.Timezone.String())
	s.text("max_body", FormatSize(c.MaxBody))
	s.duration("drain", c.Drain)
	s.text("tls_cert", c.TLSCert)
	s.text("tls_key", c.TLSKey)

	s.table("[log]")
	s.text("level", c.Log.Level)
	s.text("format", c.Log.Format)

	s.table("[usage]")
	s.duration("keep_requests", c.Usage.KeepRequests)
	s.duration("keep_rollups", c.Usage.KeepRollups)
	s.duration("keep_audit", c.Usage.KeepAudit)

	s.table("[backup]")
	s.duration("every", c.Backup.Every)
	s.number("keep", int64(c.Backup.Keep))
	s.text("dir", c.Backup.Dir)

	s.table("[alerts]")
	s.list("urls", quotedAll(c.Alerts.URLs))
	at := make([]string, len(c.Alerts.At))
	for i, percent := range c.Alerts.At {
		at[i] = strconv.Itoa(percent)
	}
	s.list("at", at)

	s.table("[routing]")
	s.text("strategy", c.Routing.Strategy)
	s.number("retries", int64(c.Routing.Retries))
	s.list("fallback_on", quotedAll(c.Routing.FallbackOn))
	s.list("auto", quotedAll(c.Routing.Auto))

	for _, p := range c.Providers {
		s.provider(p)
	}
	for _, m := range c.Models {
		s.model(m, c.Routing.Strategy)
	}
	for _, p := range c.Prices {
		s.price(p)
	}
	return s.String()
}

// sheet is a TOML text that is being written.
type sheet struct{ strings.Builder }

func (s *sheet) line(key, value string)               { fmt.Fprintf(s, "%s = %s\n", key, value) }
func (s *sheet) text(key, value string)               { s.line(key, quoted(value)) }
func (s *sheet) number(key string, n int64)           { s.line(key, strconv.FormatInt(n, 10)) }
func (s *sheet) duration(key string, d time.Duration) { s.text(key, FormatDuration(d)) }
func (s *sheet) list(key string, values []string)     { s.line(key, "["+strings.Join(values, ", ")+"]") }
func (s *sheet) table(header string)                  { fmt.Fprintf(s, "\n%s\n", header) }

// dollars writes an amount with a point, so that it looks like one.
func (s *sheet) dollars(key string, micro int64) {
	text := FormatUSD(micro)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	s.line(key, text)
}

func (s *sheet) provider(p Provider) {
	s.table("[[providers]]")
	s.text("name", p.Name)
	s.text("base_url", p.BaseURL)
	if p.APIKey != "" {
		s.text("api_key", p.APIKey.String())
	}
	s.text("auth", p.Auth)
	s.list("models", quotedAll(p.Models))
	headers := make([]string, 0, len(p.Headers))
	for _, name := range slices.Sorted(maps.Keys(p.Headers)) {
		headers = append(headers, fmt.Sprintf("%s = %s", quoted(name), quoted(p.Headers[name].String())))
	}
	s.line("headers", inline(headers))
	s.text("ca", p.CA)
	s.line("timeouts", inline([]string{
		"connect = " + quoted(FormatDuration(p.Timeouts.Connect)),
		"first_byte = " + quoted(FormatDuration(p.Timeouts.FirstByte)),
		"idle = " + quoted(FormatDuration(p.Timeouts.Idle)),
		"total = " + quoted(FormatDuration(p.Timeouts.Total)),
	}))
	s.number("max_concurrency", int64(p.MaxConcurrency))
	s.line("ask_usage", strconv.FormatBool(p.AskUsage))
	s.text("output_field", p.OutputField)
	s.dollars("monthly_usd", p.MonthlyUSD)
}

func (s *sheet) model(m Model, strategy string) {
	s.table("[[models]]")
	s.text("name", m.Name)
	targets := make([]string, len(m.Targets))
	for i, t := range m.Targets {
		targets[i] = fmt.Sprintf("{ provider = %s, model = %s, weight = %d }", quoted(t.Provider), quoted(t.Model), t.Weight)
	}
	s.list("targets", targets)
	s.list("fallbacks", quotedAll(m.Fallbacks))
	s.text("strategy", cmp.Or(m.Strategy, strategy))
	s.number("context_window", m.ContextWindow)
}

// price leaves out what is not priced: 0 would be a price.
func (s *sheet) price(p Price) {
	s.table("[[prices]]")
	s.text("model", p.Model)
	if p.Tokens {
		s.dollars("input", p.Input)
		s.dollars("cached_input", p.CachedInput)
		s.dollars("cache_write", p.CacheWrite)
		s.dollars("output", p.Output)
	}
	for _, one := range []struct {
		key   string
		micro int64
	}{{"image", p.Image}, {"second", p.Second}, {"call", p.Call}} {
		if one.micro > 0 {
			s.dollars(one.key, one.micro)
		}
	}
}

func inline(members []string) string {
	if len(members) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(members, ", ") + " }"
}

func quotedAll[T any](values []T) []string {
	all := make([]string, len(values))
	for i, value := range values {
		all[i] = quoted(fmt.Sprint(value))
	}
	return all
}

// quoted writes a basic string of TOML, whose escapes are not quite those of Go.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
