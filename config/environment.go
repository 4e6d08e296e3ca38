package config

import (
	"errors"
	"net"
	"net/netip"
	"strings"
)

// environmentProviders makes the providers of a program that has no [[providers]]
// from the variables that their own tools read.
func (r *reader) environmentProviders() []Provider {
	var all []Provider
	add := func(variable, name, base, auth string, models ...string) {
		text := r.getenv(variable)
		if r.withoutSecrets {
			text = "env:" + variable
		}
		if text == "" {
			return
		}
		at := Problem{Field: variable}
		key, err := r.asSecret(layer{value: strings.TrimSpace(text), plain: true, dir: r.workDir, at: at})
		if err == nil && key == "" {
			err = errors.New("is blank")
		}
		if err != nil {
			r.say(at, "%s", err)
			return
		}
		p := defaultProvider()
		p.Name, p.BaseURL, p.APIKey, p.Auth, p.Models = name, base, key, auth, models
		all = append(all, completed(p))
	}
	// "o*" would take olmo and orca away from Ollama.
	add("OPENAI_API_KEY", "openai", "https://api.openai.com/v1", "bearer",
		"gpt-*", "chatgpt-*", "o?", "o?-*", "codex-*", "computer-use-*", "text-embedding-*", "text-moderation-*",
		"omni-moderation-*", "dall-e-*", "sora-*", "whisper-*", "tts-*", "davinci-*", "babbage-*", "ft:*")
	add("ANTHROPIC_API_KEY", "anthropic", "https://api.anthropic.com/v1", "x-api-key", "claude-*")
	add("OPENROUTER_API_KEY", "openrouter", "https://openrouter.ai/api/v1", "bearer")

	host := strings.Trim(strings.TrimSpace(r.getenv("OLLAMA_HOST")), `"'`)
	if host == "" && r.withoutSecrets {
		host = "127.0.0.1"
	}
	if host != "" {
		at := Problem{Field: "OLLAMA_HOST"}
		base, err := asURL(layer{value: ollamaURL(host), plain: true, at: at})
		if err != nil {
			r.say(at, "%s", err)
			return all
		}
		p := defaultProvider()
		p.Name, p.BaseURL = "ollama", base+"/v1"
		all = append(all, completed(p))
	}
	return all
}

// ollamaURL reads OLLAMA_HOST as Ollama does: the scheme, the port and even the
// host may be left out. Ollama listens on the address that it names, so "all
// addresses" becomes this machine.
func ollamaURL(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "http", text
	}
	port := map[string]string{"http": "80", "https": "443"}[scheme]
	if !ok || port == "" {
		port = "11434"
	}
	hostport, path, _ := strings.Cut(rest, "/")
	host, given, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	} else if given != "" {
		port = given
	}
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		host = "127.0.0.1"
		if addr.Is6() && !addr.Is4In6() {
			host = "::1"
		}
	}
	base := scheme + "://" + net.JoinHostPort(host, port)
	if path = strings.Trim(path, "/"); path != "" {
		base += "/" + path
	}
	return base
}
