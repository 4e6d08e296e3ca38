package ui

import (
	"regexp"
	"strings"

	"tokenhub/db"
)

// snippet is how one program is told of the gateway.
type snippet struct {
	// Name is in the address, Label is for people.
	Name, Label string
	// Where says where the text belongs.
	Where string
	Text  string
}

// connectBody is what the page about connecting shows.
type connectBody struct {
	Snippets []snippet
	Chosen   snippet
	URL      string
	Model    string
	Models   []string
	// Query is what was asked for.
	Query map[string]string
	// HasKeys says that there is a key that works.
	HasKeys bool
}

// keyHere stands for a key in snippets.
const keyHere = "th-YOUR-KEY"

func (a *Admin) connectPage(r *request) error {
	query := r.ask("app", "model")
	body := &connectBody{Query: query, URL: a.gatewayURL(r), Model: query["model"], Models: a.newKeyInput(r, &db.Key{}).Models}
	if body.Model == "" || len(body.Model) > 200 || strings.ContainsFunc(body.Model, isUnprintable) {
		body.Model = a.someModel(r, &db.Key{})
	}
	body.Snippets = snippets(body.URL, keyHere, body.Model)
	body.Chosen = body.Snippets[0]
	for _, s := range body.Snippets {
		if s.Name == query["app"] {
			body.Chosen = s
		}
	}
	keys, err := a.selectKeys(r.ctx, keyFilter{status: db.Active})
	if err != nil {
		return err
	}
	body.HasKeys = len(keys) > 0
	return a.page(r, 200, "connect", "Connect", body)
}

var plainHost = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$|^\[[0-9a-fA-F:]+\](:[0-9]+)?$`)

// gatewayURL is where callers reach the gateway, without a slash at the end, as
// well as we know: base_url, or the address at which these pages were opened.
func (a *Admin) gatewayURL(r *request) string {
	cfg := a.config()
	if cfg.BaseURL != "" {
		return cfg.BaseURL
	}
	scheme := "http://"
	if cfg.TLSCert != "" {
		scheme = "https://"
	}
	if host := string(r.c.Request().Header.Host()); cfg.AdminListen == "" && plainHost.MatchString(host) {
		return scheme + host
	}
	return scheme + reachable(cfg.Listen)
}

// someModel returns a model that a key may ask for, as well as we know.
func (a *Admin) someModel(r *request, k *db.Key) string {
	cfg := a.config()
	plain := func(name string) bool { return !strings.ContainsAny(name, "*?") }
	for _, m := range k.Models {
		if plain(m) {
			return m
		}
	}
	if len(k.Models) == 0 {
		for _, m := range cfg.Models {
			return m.Name
		}
		for _, m := range a.newKeyInput(r, k).Models {
			if plain(m) && !strings.Contains(m, "embed") {
				return m
			}
		}
	}
	return "gpt-4o-mini"
}

// snippets are all ways to connect. They are texts for people to paste; values
// are quoted for the language that each is in.
func snippets(base, key, model string) []snippet {
	fill := func(text string) string {
		return strings.NewReplacer("{base}", base, "{key}", key, "{model}", oneLine(model)).Replace(strings.TrimPrefix(text, "\n"))
	}
	return []snippet{
		{"curl", "curl", "Paste it into a terminal.", fill(`
curl -N {base}/v1/chat/completions \
  -H 'Authorization: Bearer {key}' \
  -H 'Content-Type: application/json' \
  -d '{"model": "{model}", "stream": true,
       "messages": [{"role": "user", "content": "Hello!"}]}'
`)},
		{"python", "Python", "pip install openai", fill(`
from openai import OpenAI

client = OpenAI(base_url="{base}/v1", api_key="{key}")

stream = client.chat.completions.create(
    model="{model}",
    messages=[{"role": "user", "content": "Hello!"}],
    stream=True,
)
for event in stream:
    if event.choices:
        print(event.choices[0].delta.content or "", end="", flush=True)
`)},
		{"node", "Node", "npm install openai", fill(`
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{base}/v1", apiKey: "{key}" });

const stream = await client.chat.completions.create({
  model: "{model}",
  messages: [{ role: "user", content: "Hello!" }],
  stream: true,
});
for await (const event of stream) {
  process.stdout.write(event.choices[0]?.delta?.content ?? "");
}
`)},
		{"open-webui", "Open WebUI", "Give these to the container, or set them in Admin Panel → Settings → Connections. In a container, the address of this machine is host.docker.internal instead of 127.0.0.1.", fill(`
OPENAI_API_BASE_URL={base}/v1
OPENAI_API_KEY={key}
`)},
		{"continue", "Continue", "In ~/.continue/config.yaml:", fill(`
name: TokenHub
version: 1.0.0
schema: v1
models:
  - name: "{model}"
    provider: openai
    model: "{model}"
    apiBase: {base}/v1
    apiKey: {key}
    roles: [chat, edit, apply]
`)},
		{"claude-code", "Claude Code", "In the shell that starts it. The model must be one that speaks Anthropic's Messages API.", fill(`
export ANTHROPIC_BASE_URL={base}
export ANTHROPIC_AUTH_TOKEN={key}
export ANTHROPIC_MODEL='{model}'
claude
`)},
		{"codex", "Codex CLI", "In ~/.codex/config.toml. The key goes into the shell that starts it: export TOKENHUB_API_KEY=" + key, fill(`
model = "{model}"
model_provider = "tokenhub"

[model_providers.tokenhub]
name = "TokenHub"
base_url = "{base}/v1"
env_key = "TOKENHUB_API_KEY"
wire_api = "responses"
`)},
	}
}

// oneLine drops from a name what would end a string in one of the snippets.
func oneLine(name string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune("'\"\\`$", c) || isUnprintable(c) {
			return -1
		}
		return c
	}, name)
}
