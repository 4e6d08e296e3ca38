package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// span is where a value stands in the body: [from, to).
type span struct{ from, to int }

// fields is what the gateway reads of a JSON request body, in one pass, without
// decoding it: the values it decides by, and where they stand so that they can
// be spliced. Everything else in the body is none of its business.
type fields struct {
	model     string
	modelAt   span // to == 0: not there
	modelBad  bool // there, and not a string
	stream    bool
	optionsAt span // stream_options
	options   byte // first byte of its value: '{', 'n' (null), other = odd
	usage     bool // stream_options.include_usage is true
	usageAt   span
	// optionsEmpty: stream_options is {}.
	optionsEmpty bool

	// output is the largest stated bound of one choice, 0 = none stated.
	output     int64
	outputs    [3]output // the output fields, in the order of outputFields
	n, bestOf  int64
	prompts    int64
	background bool
	// further is a field that names other models than that of "model", which a
	// provider may answer with; empty = there is none.
	further string

	open     int  // index behind the opening brace
	empty    bool // {}
	inserted bool // a member was put in front
	// tokens is the estimate of the input, plain its bytes that are not base64.
	tokens, plain int64
}

// outputFields are the fields that bound the output.
var outputFields = [3]string{"max_tokens", "max_completion_tokens", "max_output_tokens"}

// outputField is what is known of an output field: all zero when it is not there.
func (f *fields) outputField(name string) *output {
	return &f.outputs[max(0, slices.Index(outputFields[:], name))]
}

// output is a field that bounds the output: where its value stands, to == 0:
// nowhere, and what it says, 0 = nothing.
type output struct {
	at span
	n  int64
}

// controlled are the fields that decide about access and money. One that stands
// twice, or in another case, could be read differently by the provider.
var controlled = []string{"model", "stream", "stream_options", "max_tokens", "max_completion_tokens",
	"max_output_tokens", "n", "best_of", "background"}

// scan reads the fields of body. The error is an *Error: invalid_json or
// duplicate_parameter.
func scan(body []byte) (*fields, error) {
	f := &fields{n: 1, bestOf: 1, prompts: 1, plain: int64(len(body))}
	c := &cursor{b: body, base64: f.countBase64}
	if c.next() != '{' {
		return nil, errInvalidJSON("The request body must be a JSON object.")
	}
	f.open = c.i + 1
	var seen uint16
	err := c.object(0, func(raw []byte) error {
		at, err := controlledField(raw)
		if err != nil {
			return err
		}
		from := c.i
		if at < 0 {
			kind := c.next()
			if kind == '[' && isPrompt(raw) {
				return f.countPrompts(c)
			}
			from := c.i
			if err := c.value(1); err != nil {
				return err
			}
			if kind == '[' && !hollow(body[from:c.i]) {
				f.noteFurther(raw)
			}
			return nil
		}
		if seen&(1<<at) != 0 {
			return errDuplicate(controlled[at])
		}
		seen |= 1 << at
		return f.read(c, controlled[at], from)
	})
	if err != nil {
		if errors.Is(err, errJSON) {
			return nil, errInvalidJSON("The request body is not valid JSON.")
		}
		return nil, err
	}
	if c.next() != 0 || c.i < len(body) {
		return nil, errInvalidJSON("The request body has something after its JSON object.")
	}
	probe := cursor{b: body, i: f.open}
	f.empty = probe.next() == '}'
	f.tokens += (f.plain + 2) / 3
	return f, nil
}

// countBase64 estimates a string of base64, which costs less than its bytes.
func (f *fields) countBase64(n int) {
	f.plain -= int64(n)
	f.tokens += max(2000, (int64(n)+63)/64)
}

// controlledField returns the index of a controlled field's name, as it stands in
// JSON; see [controlledName].
func controlledField(raw []byte) (int, error) {
	if len(raw) <= 6*len("max_completion_tokens") && bytes.IndexByte(raw, '\\') >= 0 {
		raw = []byte(unescape(raw))
	}
	return controlledName(raw)
}

// controlledName returns the index of a controlled field's name, -1 for any other
// name, and an error for a name that differs only in case.
func controlledName(name []byte) (int, error) {
	if len(name) > 6*len("max_completion_tokens") {
		return -1, nil
	}
	// Only letters beyond ASCII make a text longer that is equal but for case.
	ascii := true
	for _, ch := range name {
		ascii = ascii && ch < utf8.RuneSelf
	}
	for i, want := range controlled {
		switch {
		case len(name) < len(want), ascii && len(name) != len(want):
		case string(name) == want:
			return i, nil
		case strings.EqualFold(string(name), want):
			return -1, errDuplicate(want)
		}
	}
	return -1, nil
}

// furtherFields are those in which OpenRouter, Perplexity and LiteLLM take more
// models, to answer with when the first one does not:
// openrouter.ai/docs/guides/routing/model-fallbacks,
// docs.perplexity.ai/docs/agent-api/model-fallback,
// docs.litellm.ai/docs/proxy/client_side_fallbacks.
var furtherFields = [2]string{"models", "fallbacks"}

// noteFurther notes a field that names further models.
func (f *fields) noteFurther(raw []byte) {
	if len(raw) > 6*len("fallbacks") {
		return
	}
	for _, name := range furtherFields {
		if string(raw) == name || bytes.IndexByte(raw, '\\') >= 0 && unescape(raw) == name {
			f.further = name
		}
	}
}

// isPrompt reports whether a field's name is that of the prompts of a
// completions request, in any spelling that a provider may take for it.
func isPrompt(raw []byte) bool {
	return len(raw) <= 6*len("prompt") && strings.EqualFold(unescape(raw), "prompt")
}

// read takes the value of one controlled field.
func (f *fields) read(c *cursor, name string, from int) error {
	kind := c.next()
	if name == "stream_options" {
		f.options = kind
		var err error
		if kind == '{' {
			err = f.readOptions(c)
		} else {
			err = c.value(1)
		}
		f.optionsAt = span{from, c.i}
		return err
	}
	if err := c.value(1); err != nil {
		return err
	}
	at := span{from, c.i}
	value := c.b[from:c.i]
	switch name {
	case "model":
		f.modelAt = at
		f.modelBad = kind != '"'
		if kind == '"' {
			f.model = unescape(value[1 : len(value)-1])
		}
	case "stream":
		f.stream = kind == 't'
	case "background":
		// Anything but false and null may be taken for true by a lenient provider.
		f.background = kind != 'f' && kind != 'n'
	case "n":
		f.n = max(1, number(value))
	case "best_of":
		f.bestOf = max(1, number(value))
	default:
		n := number(value)
		*f.outputField(name) = output{at, n}
		f.output = max(f.output, n)
	}
	return nil
}

func (f *fields) readOptions(c *cursor) error {
	f.optionsEmpty = true
	return c.object(1, func(raw []byte) error {
		f.optionsEmpty = false
		name := unescape(raw)
		from := c.i
		kind := c.next()
		if err := c.value(2); err != nil {
			return err
		}
		switch {
		case name == "include_usage" && f.usageAt.to != 0, name != "include_usage" && strings.EqualFold(name, "include_usage"):
			return errDuplicate("stream_options.include_usage")
		case name == "include_usage":
			f.usage = kind == 't'
			f.usageAt = span{from, c.i}
		}
		return nil
	})
}

// countPrompts counts the prompts of a completions request: an array of strings
// or of arrays of tokens has one each; an array of numbers is one prompt.
func (f *fields) countPrompts(c *cursor) error {
	var count int64
	err := c.array(1, func() error {
		if ch := c.next(); ch == '"' || ch == '[' {
			count++
		}
		return c.value(2)
	})
	f.prompts = max(f.prompts, count) // of several, the provider may take any
	return err
}

// number reads a bound leniently: a number, or a string that is one, since
// lenient providers take both. Null, zero and negative ones are 0, not stated.
func number(value []byte) int64 { return parseNumber(unescape(value)) }

func parseNumber(text string) int64 {
	v := strings.TrimSpace(strings.Trim(text, `"`))
	v = strings.ReplaceAll(v, "_", "") // Python takes 1_000
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return max(0, n)
	}
	x, err := strconv.ParseFloat(v, 64)
	switch {
	case err != nil && !math.IsInf(x, 0), math.IsNaN(x), x <= 0:
		return 0
	case x >= math.MaxInt64:
		return math.MaxInt64
	}
	return int64(math.Ceil(x))
}

// choices is how many answers of the stated bound are asked for.
func (f *fields) choices() int64 { return mulSat(max(f.n, f.bestOf), f.prompts) }

// bound is the stated output bound of the whole request, 0 = none stated.
func (f *fields) bound() int64 { return mulSat(f.output, f.choices()) }

// states reports whether the request bounds its output by a field that the
// endpoint has. Of the others lenient providers take no notice.
func (f *fields) states(e endpoint) bool {
	switch e {
	case chatCompletions:
		return f.outputField("max_tokens").n > 0 || f.outputField("max_completion_tokens").n > 0
	case completions, messages, responses:
		return f.outputField(e.boundField("")).n > 0
	}
	return f.output > 0
}

func mulSat(a, b int64) int64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	if a > math.MaxInt64/b {
		return math.MaxInt64
	}
	return a * b
}

// edit replaces the bytes of at by text.
type edit struct {
	at   span
	text string
}

// setModel replaces the model's name, or states one where there is none.
func (f *fields) setModel(name string) edit {
	quoted, _ := json.Marshal(name) // a string never fails
	if f.modelAt.to == 0 {
		return f.insert(`"model":` + string(quoted))
	}
	return edit{f.modelAt, string(quoted)}
}

// setOutput states the output bound under the given name.
func (f *fields) setOutput(name string, n int64) edit {
	value := strconv.FormatInt(n, 10)
	if there := f.outputField(name); there.at.to != 0 {
		return edit{there.at, value}
	}
	return f.insert(`"` + name + `":` + value)
}

// askUsage sets stream_options.include_usage.
func (f *fields) askUsage() edit {
	switch {
	case f.usageAt.to != 0:
		return edit{f.usageAt, "true"}
	case f.optionsAt.to != 0 && f.options == '{':
		inside := span{f.optionsAt.from + 1, f.optionsAt.from + 1}
		text := `"include_usage":true,`
		if f.optionsEmpty {
			text = `"include_usage":true`
		}
		return edit{inside, text}
	case f.optionsAt.to != 0:
		return edit{f.optionsAt, `{"include_usage":true}`}
	}
	return f.insert(`"stream_options":{"include_usage":true}`)
}

// insert puts a member in front of the others.
func (f *fields) insert(member string) edit {
	switch {
	case !f.empty:
		member += ","
	case f.inserted:
		member = "," + member
	}
	f.inserted = true
	return edit{span{f.open, f.open}, member}
}

// splice applies the edits without copying the body: the pieces of it and the
// new texts in order, and their length.
func splice(body []byte, edits []edit) (pieces [][]byte, length int64) {
	if len(edits) == 0 {
		return [][]byte{body}, int64(len(body))
	}
	sort.SliceStable(edits, func(i, j int) bool { return edits[i].at.from < edits[j].at.from })
	pos := 0
	add := func(p []byte) {
		if len(p) > 0 {
			pieces = append(pieces, p)
			length += int64(len(p))
		}
	}
	for _, e := range edits {
		add(body[pos:e.at.from])
		add([]byte(e.text))
		pos = e.at.to
	}
	add(body[pos:])
	return pieces, length
}
