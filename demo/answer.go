package demo

import (
	"strings"
	"unicode/utf8"
)

// answer is what the model says, cut into tokens.
type answer struct {
	tokens []string
	// full says that it ended by itself or at a stop text, not at the bound.
	full bool
	// stop is the stop text that ended it, if one did.
	stop string
}

func (a answer) text() string { return strings.Join(a.tokens, "") }

// bounds is what ends an answer early.
type bounds struct {
	tokens *int // nil = no bound
	stop   []string
}

// cut ends a text at the first stop text and at the bound, whichever comes first.
func (b bounds) cut(text string) answer {
	a := answer{full: true}
	end := len(text)
	for _, s := range b.stop {
		if i := strings.Index(text, s); s != "" && i >= 0 && i < end {
			end, a.stop = i, s
		}
	}
	a.tokens = split(text[:end])
	if b.tokens != nil && len(a.tokens) > *b.tokens {
		a.tokens, a.full, a.stop = a.tokens[:*b.tokens], false, ""
	}
	return a
}

// check refuses a bound that no answer can keep.
func (b bounds) check(param string) error {
	if b.tokens != nil && *b.tokens < 1 {
		return badRequest(param, "%s must be at least 1, not %d.", param, *b.tokens)
	}
	return nil
}

// advice is what the model knows about TokenHub, by the words that ask for it;
// the first match is told.
var advice = []struct{ words, text string }{
	{"limit budget rate rpm tpm", "A key can have limits per minute and budgets per day, per month and in all, in tokens and in US dollars: `tokenhub keys create --name app --rpm 60 --monthly-usd 20`. What a request could cost at most is reserved before it is sent, so that even many requests at once never pass a budget."},
	{"key keys secret revoke rotate", "Keys are made with `tokenhub keys create --name app`, or on the page API keys. The secret is shown once. `tokenhub keys rotate ID --grace 24h` replaces it without a break, `tokenhub keys revoke ID` ends it for good."},
	{"cost price prices usage spend report", "`tokenhub usage --by key,model` shows what was used and what it cost, `--csv` for your spreadsheet. Prices come from a built-in table; [[prices]] in config.toml overrides them."},
	{"alias fallback route routing model models", "A [[models]] block in config.toml gives a name of your own to one or more targets, with fallbacks for when one of them fails. `tokenhub explain --key ID --model M` says where a request would go, and why, without sending it."},
	{"backup restore data", "`tokenhub backup FILE` writes one consistent file while the server runs, and `tokenhub check FILE` tells whether it is whole. `tokenhub restore FILE` brings it back into a stopped server."},
}

const plainAdvice = "To talk to a real model, set OPENAI_API_KEY, ANTHROPIC_API_KEY, OPENROUTER_API_KEY or OLLAMA_HOST, or add a [[providers]] block to config.toml, and start TokenHub again: your programs keep their key and their base URL."

// reply is what the model says to a question.
func reply(question string) string {
	var b strings.Builder
	b.WriteString("Hello from TokenHub's demo model! ")
	if q := excerpt(question, 80); q != "" {
		b.WriteString("You asked: “" + q + "”")
	}
	b.WriteString("\n\nI am not a language model, only a few lines of Go in the tokenhub binary, but your request took the whole way: " +
		"your key was checked, its limits were held, and the usage that I report is being counted for it.\n\n")
	b.WriteString(adviceFor(question))
	return b.String()
}

func adviceFor(question string) string {
	asked := strings.FieldsFunc(strings.ToLower(question), func(r rune) bool { return r < 'a' || r > 'z' })
	for _, a := range advice {
		for _, w := range strings.Fields(a.words) {
			for _, word := range asked {
				if word == w || word == w+"s" {
					return a.text
				}
			}
		}
	}
	return plainAdvice
}

// excerpt is the begin of a text on one line, at most n characters of it.
func excerpt(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	text = string([]rune(text)[:n])
	if i := strings.LastIndexByte(text, ' '); i > 0 {
		text = text[:i]
	}
	return text + " …"
}
