package proxy

import (
	"slices"
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
	// group is the index of its name among the route's groups.
	group int
}

// route is where a request may go.
type route struct {
	// model is the name asked for, empty when there is none; inQuery says that
	// it stands in the query.
	model   string
	inQuery bool
	// groups are the name asked for and its fallbacks, in the order in which they
	// are tried; targets are those of all groups, in the order of the
	// configuration: see [state.order].
	groups  []group
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
	strategy, err := wantedStrategy(call)
	if err != nil {
		return nil, err
	}
	if name == "" || name == "auto" && s.aliases[name] == nil && len(s.cfg.Routing.Auto) == 0 {
		return s.untouched(key, call, name, strategy)
	}
	r := &route{model: name, inQuery: !body.statesModel()}
	if name == "auto" && s.aliases[name] == nil {
		return r, s.auto(r, key, strategy)
	}
	targets, err := s.resolve(key, name)
	if err != nil {
		return nil, err
	}
	r.add(s.group(name, strategy), targets)
	var fallbacks []string
	if alias := s.aliases[name]; alias != nil {
		fallbacks, r.window = alias.Fallbacks, alias.ContextWindow
	}
	if list := call.Header.Get("X-Inferoute-Fallback"); list != "" {
		fallbacks = splitNames(list)
	}
	for _, f := range fallbacks {
		// One that is unknown or not allowed is no way out, and no error either.
		if more, err := s.resolve(key, f); err == nil {
			r.add(s.group(f, strategy), more)
		}
	}
	return r, nil
}

// wantedStrategy is the strategy that the caller asks for; empty when it does not.
func wantedStrategy(call *Call) (string, *Error) {
	wanted := strings.TrimSpace(call.Header.Get("X-Inferoute-Strategy"))
	if wanted != "" && !slices.Contains(strategies, wanted) {
		return "", failf("invalid_strategy", "There is no strategy %q. X-Inferoute-Strategy takes %s.", clip(wanted), strings.Join(strategies, ", "))
	}
	return wanted, nil
}

// clip shortens what a caller sent for a message.
func clip(text string) string {
	if len(text) > 50 {
		return strings.ToValidUTF8(text[:50], "") + "..."
	}
	return text
}

// group is the group of a name; strategy is what the caller wants, if anything.
func (s *state) group(name, strategy string) group {
	g := group{name: name, strategy: strategy, rotation: s.rotations[name]}
	if alias := s.aliases[name]; alias != nil && g.strategy == "" {
		g.strategy = alias.Strategy
	}
	if g.strategy == "" {
		g.strategy = s.cfg.Routing.Strategy
	}
	return g
}

// add adds the targets of a name; one that is on the route already is not tried
// twice.
func (r *route) add(g group, targets []target) {
	if r.targets == nil {
		r.targets = targets[:0] // theirs, which nobody else has
	}
	for _, t := range targets {
		if !slices.ContainsFunc(r.targets, func(o target) bool { return o.place() == t.place() }) {
			t.group = len(r.groups)
			r.targets = append(r.targets, t)
		}
	}
	r.groups = append(r.groups, g)
}

// auto fills the route with what routing.auto lists: its names are tried in
// order, unless the caller asks for a strategy, which then chooses among all of
// them. The error is the first one when none of them leads anywhere.
func (s *state) auto(r *route, key *db.Key, strategy string) *Error {
	var first *Error
	var all []target
	for _, name := range s.cfg.Routing.Auto {
		more, err := s.resolve(key, name)
		if err != nil && first == nil {
			first = err
		}
		if strategy == "" {
			r.add(s.group(name, ""), more)
		}
		all = append(all, more...)
	}
	if strategy != "" {
		r.add(s.group("auto", strategy), all)
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
		if body.fields.modelBad && call.endpoint() == other && !needsModel(key) {
			return "", nil // an object, say, that means something to the provider
		}
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
	isAlias, elsewhere := s.aliases[name] != nil, false
	open := all[:0]
	for _, t := range all {
		if !providerAllowed(key, t.provider.Name) {
			elsewhere = true
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
	switch {
	case len(open) > 0:
		return open, nil
	case elsewhere:
		return nil, failf("provider_not_allowed", "This API key may not use the provider of the model %q.", name)
	}
	return nil, failf("model_not_allowed", "This API key may not call the model %q. GET /v1/models lists those that it may call.", name)
}

// untouched routes a call that names no model: to the provider named in
// X-TokenHub-Provider, else to the first one that the key may use.
func (s *state) untouched(key *db.Key, call *Call, name, strategy string) (*route, *Error) {
	if name == "" && call.endpoint() != other && len(s.cfg.Routing.Auto) > 0 && call.Method == "POST" {
		r := &route{}
		return r, s.auto(r, key, strategy)
	}
	only := func(p *provider) (*route, *Error) {
		if name != "" && !modelAllowed(key, name, p.Name, name) {
			return nil, failf("model_not_allowed", "This API key may not call the model %q. GET /v1/models lists those that it may call.", name)
		}
		r := &route{model: name}
		r.add(s.group(name, strategy), []target{{provider: p, asked: name, served: name, weight: 1}})
		return r, nil
	}
	if wanted := call.Header.Get("X-Tokenhub-Provider"); wanted != "" {
		p := s.byName[wanted]
		if p == nil {
			return nil, failf("provider_not_allowed", "There is no provider %q. X-TokenHub-Provider takes the name of a configured provider.", wanted)
		}
		if !providerAllowed(key, p.Name) {
			return nil, failf("provider_not_allowed", "This API key may not use the provider %q.", wanted)
		}
		return only(p)
	}
	for _, p := range s.providers {
		if providerAllowed(key, p.Name) {
			return only(p)
		}
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

// maxFallbacks is how many names a caller may list; more are passed over.
const maxFallbacks = 16

// splitNames reads a comma-separated list of names.
func splitNames(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" && len(names) < maxFallbacks {
			names = append(names, name)
		}
	}
	return names
}
