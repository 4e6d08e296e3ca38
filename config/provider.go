package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

var providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// providers reads [[providers]].
func (r *reader) providers(tables []*table) []Provider {
	var all []Provider
	seen := map[string]bool{}
	for _, t := range tables {
		p := r.provider(t)
		r.unique(t, "name", p.Name, seen)
		all = append(all, p)
	}
	return all
}

func (r *reader) provider(t *table) Provider {
	p := defaultProvider()
	field(t, "name", &p.Name, asProviderName)
	field(t, "base_url", &p.BaseURL, needed(asURL))
	field(t, "api_key", &p.APIKey, r.asSecret)
	field(t, "auth", &p.Auth, asOneOf("bearer", "x-api-key", "api-key", "none"))
	list(t, "models", &p.Models, asModelName)
	p.Headers = r.headers(t.table("headers"))
	field(t, "ca", &p.CA, asPath)
	r.timeouts(t.table("timeouts"), &p.Timeouts)
	field(t, "max_concurrency", &p.MaxConcurrency, asInt(0, math.MaxInt32))
	field(t, "ask_usage", &p.AskUsage, asBool)
	field(t, "output_field", &p.OutputField, asOneOf("max_tokens", "max_completion_tokens", "max_output_tokens", ""))
	field(t, "monthly_usd", &p.MonthlyUSD, asDollars)
	t.done()

	for _, key := range []string{"name", "base_url"} {
		if !t.has(key) {
			r.complain(t.path, "needs %s", key)
		}
	}
	if t.has("auth") && p.Auth != "" && p.Auth != "none" && !t.has("api_key") {
		r.complain(join(t.path, "auth"), "needs api_key; write none for a provider without a credential")
	}
	if t.has("api_key") && t.raw["api_key"] == "" && p.Auth != "none" {
		r.complain(join(t.path, "api_key"), "is empty: leave it out, with auth, for a provider without a credential")
	}
	if p.CA != "" {
		if err := checkCA(p.CA); err != nil {
			r.complain(join(t.path, "ca"), "%s", err)
		}
	}
	return completed(p)
}

// completed fills in the defaults that depend on other fields.
func completed(p Provider) Provider {
	if p.Auth == "" {
		p.Auth = "none"
		if p.APIKey != "" {
			p.Auth = "bearer"
		}
	}
	if p.OutputField == "" {
		p.OutputField = outputField(p.BaseURL)
	}
	return p
}

// outputField returns the field that bounds the output of chat completions:
// OpenAI's reasoning models refuse max_tokens, most others know only that.
func outputField(base string) string {
	if u, err := url.Parse(base); err == nil {
		host := strings.ToLower(u.Hostname())
		if host == "api.openai.com" {
			return "max_completion_tokens"
		}
		for _, azure := range []string{".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"} {
			if strings.HasSuffix(host, azure) {
				return "max_completion_tokens"
			}
		}
	}
	return "max_tokens"
}

func asProviderName(l layer) (string, error) {
	text, err := asName(100)(l)
	if err == nil && !providerName.MatchString(text) {
		return "", errors.New("may hold a-z, 0-9, dots, underscores and dashes only, and begins with a letter or digit")
	}
	return text, err
}

func (r *reader) timeouts(t *table, timeouts *Timeouts) {
	field(t, "connect", &timeouts.Connect, asDuration)
	field(t, "first_byte", &timeouts.FirstByte, asDuration)
	field(t, "idle", &timeouts.Idle, asDuration)
	field(t, "total", &timeouts.Total, asDuration)
	t.done()
}

// headers reads the headers that are added to each request; each value may be a
// secret.
func (r *reader) headers(t *table) map[string]Secret {
	var headers map[string]Secret
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(t.raw)) {
		lower := strings.ToLower(name)
		at := r.at(join(t.path, name))
		value, err := r.asSecret(layer{value: t.raw[name], dir: r.fileDir, at: at})
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			err = errors.New("is not the name of a header")
		case reservedHeader(lower) != "":
			err = errors.New(reservedHeader(lower))
		case seen[lower]:
			err = errors.New("stands there twice, in another case")
		case err == nil && value == "":
			err = errors.New("is empty")
		case err == nil && !httpguts.ValidHeaderFieldValue(value.Reveal()):
			err = errors.New("holds a character that a header may not hold")
		}
		seen[lower] = true
		if err != nil {
			r.say(at, "%s", err)
			continue
		}
		if headers == nil {
			headers = map[string]Secret{}
		}
		headers[name] = value
	}
	return headers
}

// reservedHeader says why a header cannot be set, or "" if it can.
func reservedHeader(lower string) string {
	switch lower {
	case "authorization", "x-api-key", "api-key":
		return "is the credential: write it as api_key, and the header that carries it as auth"
	case "host":
		return "follows from base_url"
	case "cookie":
		return "is never sent to a provider"
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length":
		return "belongs to the connection and cannot be set"
	}
	if strings.HasPrefix(lower, "proxy-") {
		return "belongs to the connection and cannot be set"
	}
	return ""
}

// checkCA says what is wrong with a file that should hold certificates.
func checkCA(path string) error {
	text, err := readFile(path, maxFile)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		return fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return nil
}
