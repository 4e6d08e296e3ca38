package proxy

import (
	"time"

	"tokenhub/db"
)

// openOutput is what is reserved for the output of a request that states no
// bound, in tokens, or the room left if that is smaller.
const openOutput = 4096

// bytesPerSecond is how many bytes a second of uploaded audio is taken to have
// (32 kbit/s), until the provider says how long it is, if it does.
const bytesPerSecond = 4000

// demand is the worst case of a request, in tokens, before a provider and its
// price are known.
type demand struct {
	endpoint endpoint
	// uploads: there is sound in the request, whose seconds are counted.
	uploads       bool
	input, output int64
	open          bool // the request states no output bound
	// contexts is how many context windows the input may fill: one for each
	// prompt. 0 = nobody knows, as where a list of texts is embedded.
	contexts int64
	// bound is the output bound to splice in, 0 = none.
	bound int64
	// besides is what else than tokens is charged.
	besides amounts
	// background: the answer is made after the call is over. further: another model
	// may make it.
	background, further bool
}

// demandOf works out what a call may use at most.
func demandOf(key *db.Key, call *Call, r *route, body *payload) (demand, *Error) {
	e := call.endpoint()
	if !e.isMetered() || call.Method != "POST" {
		return demand{}, nil
	}
	// Elsewhere the field means something else: that of an image, say.
	background := e == responses && body.fields != nil && body.fields.background
	if background && (key.Limits.Tokens() || key.Limits.USD()) {
		return demand{}, failf("endpoint_not_metered", "The usage of a background response can't be counted. Send it without \"background\" with this API key.")
	}
	d := demand{endpoint: e, input: estimateInput(body), besides: amounts{calls: 1}, contexts: 1, background: background}
	if body.fields != nil && body.fields.further != "" {
		d.further = true
		if restrictsModels(key) || key.Limits.USD() {
			return d, failf("model_not_allowed", "The field %q names further models. This API key has a list of models or a limit in USD, and may name one model per request, in \"model\".", body.fields.further)
		}
	}
	switch {
	case e.readsOnly():
		d.contexts = 0
	case body.fields != nil:
		d.contexts = body.fields.prompts
	}
	if e == audio && body.form != nil && body.form.file && !body.form.elsewhere {
		d.uploads = true
		d.besides.millis = max(0, body.length) * 1000 / bytesPerSecond
	}
	if e == images {
		d.besides.images = 1
		switch {
		case body.fields != nil:
			d.besides.images = body.fields.n
		case body.form != nil:
			d.besides.images = body.form.n
		}
	}
	d.input = d.within(r.window)
	if !e.hasOutput() {
		return d, nil
	}
	if body.fields == nil {
		d.output, d.open = openOutput, true
		return d, nil
	}
	most := key.Limits.MaxTokensPerRequest
	d.output = body.fields.bound()
	if most > 0 && d.output > most {
		return d, failf("max_tokens_exceeded", "The request asks for up to %d output tokens; this API key allows %d per request. Ask for less.", d.output, most)
	}
	switch {
	case body.fields.states(e):
	case most > 0 && e.boundField("") != "":
		choices := body.fields.choices()
		d.bound = most / choices
		if d.bound < 1 {
			return d, failf("max_tokens_exceeded", "The request asks for %d answers; this API key allows %d output tokens per request. Ask for fewer answers.", choices, most)
		}
		d.output = d.bound * choices
	default:
		d.output, d.open = max(d.output, openOutput), true
	}
	return d, nil
}

// within is the input that a model with this context window can take, 0 = unknown.
func (d demand) within(window int64) int64 {
	if window <= 0 || d.contexts <= 0 {
		return d.input
	}
	return min(d.input, mulSat(window, d.contexts))
}

// hasOutput reports whether the endpoint's answers hold tokens of a model.
func (e endpoint) hasOutput() bool {
	switch e {
	case embeddings, moderations, rerank:
		return false
	}
	return e.isMetered()
}

// boundField is the field by which a request bounds its output; chat is the
// provider's name of it for chat completions. Empty = there is none.
func (e endpoint) boundField(chat string) string {
	switch e {
	case chatCompletions:
		if chat == "" {
			return "max_tokens"
		}
		return chat
	case completions, messages:
		return "max_tokens"
	case responses:
		return "max_output_tokens"
	}
	return ""
}

// estimateInput is the estimate of a body's input tokens.
func estimateInput(body *payload) int64 {
	switch {
	case body.fields != nil:
		return body.fields.tokens
	case body.form != nil:
		return body.form.tokens
	case body.stream == nil:
		return (int64(len(body.bytes)) + 2) / 3
	case body.length > 0:
		return (body.length + 2) / 3
	}
	return 0
}

// claim is the demand at a target: with its price and its provider's cap.
func (s *state) claim(key *db.Key, d demand, t target, now time.Time) (db.Claim, *Error) {
	c := db.Claim{KeyID: key.ID, Time: now, Input: d.input, Output: d.output, OpenOutput: d.open,
		Provider: t.provider.Name, ProviderLimit: t.provider.MonthlyUSD}
	c.Input = d.within(contextWindow(t.served))
	if d.background && t.provider.MonthlyUSD > 0 {
		return c, failf("endpoint_not_metered", "The usage of a background response can't be counted, and the provider %q has a monthly cap in USD. Send it without \"background\".", t.provider.Name)
	}
	if d.further && t.provider.MonthlyUSD > 0 {
		return c, failf("endpoint_not_metered", "The provider %q has a monthly cap in USD, and what further models cost can't be counted. Name one model, in \"model\".", t.provider.Name)
	}
	price, ok := s.prices.lookupFor(d, t.provider.Name, t.served)
	if !ok {
		if key.Limits.USD() && t.served != "" {
			return c, failf("model_not_priced", "The model %q has no price that counts here, so an API key with a USD limit may not call it. The operator adds one under [[prices]].", t.served)
		}
		if t.provider.MonthlyUSD > 0 && t.served != "" && d.endpoint.isMetered() {
			return c, failf("model_not_priced", "The model %q has no price that counts here, and the provider %q has a monthly cap in USD. The operator adds a price under [[prices]].", t.served, t.provider.Name)
		}
		return c, nil
	}
	c.InputCost, c.OutputPrice, c.FixedCost = price.inputCost(c.Input), price.outputPrice(), price.fixed(d.besides)
	return c, nil
}

// edits are the changes to the body for a target: at most the model, the output
// bound and the wish for usage.
func (f *flight) edits(t target) []edit {
	fields := f.body.fields
	if form := f.body.form; form != nil && !form.modelBad && t.served != f.route.model && t.served != "" {
		return []edit{form.setModel(t.served)}
	}
	if fields == nil {
		return nil
	}
	var list []edit
	copied := *fields // insert keeps count per attempt
	if t.served != f.route.model && t.served != "" && !f.route.inQuery {
		list = append(list, copied.setModel(t.served))
	}
	e := f.call.endpoint()
	if f.demand.bound > 0 {
		list = append(list, copied.setOutput(e.boundField(t.provider.OutputField), f.demand.bound))
	}
	if f.asksUsage(t) {
		list = append(list, copied.askUsage())
	}
	return list
}

// asksUsage reports whether usage is asked for on the caller's behalf.
func (f *flight) asksUsage(t target) bool {
	fields := f.body.fields
	return fields != nil && fields.stream && !fields.usage && t.provider.AskUsage && f.call.endpoint() == chatCompletions
}
