package proxy

import (
	"strings"

	"tokenhub/db"
)

// target is one place that can serve a request.
type target struct {
	provider *provider
	// asked is the name by which the target was chosen: the one asked for, or
	// that of a fallback. served is the model sent to the provider.
	asked, served string
	weight        int
}

// route is where a request may go, in order.
type route struct {
	// model is the name asked for, empty when there is none; inQuery says that
	// it stands in the query.
	model   string
	inQuery bool
	targets []target
	// window is the model's context window in tokens, 0 = unknown.
	window int64
}

// maxName bounds a model's name, in bytes.
const maxName = 200

// route finds the targets of a call for a key.
func (s *state) route(key *db.Key, call *Call, body *payload) (*route, *Error) {
	if len(s.providers) == 0 {
		return nil, &Error{Code: "no_provider_configured", RetryAfter: retrySoon,
			Message: "No provider is configured. The operator adds one in config.toml, or by OPENAI_API_KEY, ANTHROPIC_API_KEY, OPENROUTER_API_KEY or OLLAMA_HOST."}
	}
	name, err := s.readModel(key, call, body)
	if err != nil {
		return nil, err
	}
	if name == "" || name == "auto" && s.aliases[name] == nil && len(s.cfg.Routing.Auto) == 0 {
		return s.untouched(key, call, name)
	}
	r := &route{model: name, inQuery: !body.statesModel()}
	if name == "auto" && s.aliases[name] == nil {
		return r, s.chain(r, key, s.cfg.Routing.Auto)
	}
	if r.targets, err = s.resolve(key, name); err != nil {
		return nil, err
	}
	var fallbacks []string
	if alias := s.aliases[name]; alias != nil {
		fallbacks, r.window = alias.Fallbacks, alias.ContextWindow
	}
	if list := header(call.Header, "X-Inferoute-Fallback"); list != "" {
		fallbacks = splitNames(list)
	}
	for _, f := range fallbacks {
		// One that is unknown or not allowed is no way out, and no error either.
		if more, err := s.resolve(key, f); err == nil {
			r.targets = append(r.targets, more...)
		}
	}
	return r, nil
}

// chain fills the route with the targets of several names, in order; the error
// is the first one when none of them leads anywhere.
func (s *state) chain(r *route, key *db.Key, names []string) *Error {
	var first *Error
	for _, name := range names {
		more, err := s.resolve(key, name)
		if err != nil && first == nil {
			first = err
		}
		r.targets = append(r.targets, more...)
	}
	if len(r.targets) == 0 {
		return first
	}
	return nil
}

// readModel returns the name of the model asked for, "" when there is none.
func (s *state) readModel(key *db.Key, call *Call, body *payload) (string, *Error) {
	name, readable := "", false
	switch {
	case body.fields != nil && body.fields.modelAt.to != 0:
		if body.fields.modelBad {
			return "", failf("missing_parameter", "The field \"model\" must be a string.")
		}
		name, readable = body.fields.model, true
	case body.statesModel():
		name, readable = body.form.model, true
	case call.Method == "GET" || call.Upgrade:
		name = queryValue(call.Query, "model")
		readable = name != ""
	}
	if !readable && needsModel(key) && call.Method == "POST" && call.endpoint() != other {
		if body.coded {
			return "", failf("unsupported_encoding", "The model of a compressed request can't be read. Send the body without Content-Encoding with this API key.")
		}
		return "", failf("missing_parameter", "The field \"model\" is missing. Name a model; GET /v1/models lists those that this API key may call.")
	}
	if readable && name == "" && call.endpoint() != other {
		return "", failf("missing_parameter", "The field \"model\" is empty. Name a model; GET /v1/models lists those that this API key may call.")
	}
	if len(name) > maxName {
		return "", failf("invalid_parameter", "The model's name is longer than %d bytes.", maxName)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return "", failf("invalid_parameter", "The model's name holds a control character.")
	}
	return name, nil
}

// resolve finds the targets of one name: a [[models]] name, provider/model, the
// first provider whose models match.
func (s *state) resolve(key *db.Key, name string) ([]target, *Error) {
	var all []target
	if alias := s.aliases[name]; alias != nil {
		for _, t := range alias.Targets {
			if p := s.byName[t.Provider]; p != nil {
				all = append(all, target{provider: p, asked: name, served: t.Model, weight: t.Weight})
			}
		}
	} else if prefix, rest, ok := strings.Cut(name, "/"); ok && rest != "" && s.byName[prefix] != nil {
		all = []target{{provider: s.byName[prefix], asked: name, served: rest, weight: 1}}
	} else {
		all = s.serving(name)
	}
	if len(all) == 0 {
		return nil, failf("model_not_found", "The model %q does not exist here. GET /v1/models lists those that this API key may call.", name)
	}
	isAlias := s.aliases[name] != nil
	var open []target
	reason := failf("model_not_allowed", "This API key may not call the model %q. GET /v1/models lists those that it may call.", name)
	for _, t := range all {
		if !providerAllowed(key, t.provider.Name) {
			reason = failf("provider_not_allowed", "This API key may not use the provider of the model %q.", name)
			continue
		}
		if !modelAllowed(key, t.asked, t.provider.Name, t.served) {
			continue
		}
		open = append(open, t)
		if !isAlias {
			break
		}
	}
	if len(open) == 0 {
		return nil, reason
	}
	return open, nil
}

// untouched routes a call that names no model: to the provider named in
// X-TokenHub-Provider, else to the first one that the key may use.
func (s *state) untouched(key *db.Key, call *Call, name string) (*route, *Error) {
	if name == "" && call.endpoint() != other && len(s.cfg.Routing.Auto) > 0 && call.Method == "POST" {
		r := &route{}
		return r, s.chain(r, key, s.cfg.Routing.Auto)
	}
	if wanted := header(call.Header, "X-Tokenhub-Provider"); wanted != "" {
		p := s.byName[wanted]
		if p == nil {
			return nil, failf("provider_not_allowed", "There is no provider %q. X-TokenHub-Provider takes the name of a configured provider.", wanted)
		}
		if !providerAllowed(key, p.Name) {
			return nil, failf("provider_not_allowed", "This API key may not use the provider %q.", wanted)
		}
		return &route{model: name, targets: []target{{provider: p, asked: name, served: name, weight: 1}}}, nil
	}
	for _, p := range s.providers {
		if !providerAllowed(key, p.Name) {
			continue
		}
		if name != "" && !modelAllowed(key, name, p.Name, name) {
			return nil, failf("model_not_allowed", "This API key may not call the model %q. GET /v1/models lists those that it may call.", name)
		}
		return &route{model: name, targets: []target{{provider: p, asked: name, served: name, weight: 1}}}, nil
	}
	return nil, failf("provider_not_allowed", "This API key may not use any of the configured providers.")
}

// serving lists the providers that have a model: by their configured globs,
// else by their own lists. Only where nobody is known to have it, those whose
// list has not been read yet may.
func (s *state) serving(name string) []target {
	var sure, maybe []target
	for _, p := range s.providers {
		t := target{provider: p, asked: name, served: name, weight: 1}
		switch known, has := p.has(name); {
		case has:
			sure = append(sure, t)
		case !known:
			maybe = append(maybe, t)
		}
	}
	if len(sure) > 0 {
		return sure
	}
	return maybe
}

// has reports whether a provider is known to have a model, and whether that can
// be known at all.
func (p *provider) has(name string) (known, has bool) {
	if p.Models != nil {
		for _, pattern := range p.Models {
			if match(pattern, name) {
				return true, true
			}
		}
		return true, false
	}
	list := p.catalog.Load()
	if list == nil {
		return false, false
	}
	return true, list.has(name)
}

// splitNames reads a comma-separated list of names.
func splitNames(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}
