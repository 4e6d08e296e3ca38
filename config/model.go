package config

import (
	"errors"
	"slices"
)

// asModelName reads the name of a model, or a glob for some.
var asModelName = asName(200)

// models reads [[models]], whose targets are at some of the providers.
func (r *reader) models(tables []*table, providers []Provider) []Model {
	var all []Model
	seen := map[string]bool{}
	for _, t := range tables {
		m := r.model(t, providers)
		r.unique(t, "name", m.Name, seen)
		all = append(all, m)
	}
	return all
}

func (r *reader) model(t *table, providers []Provider) Model {
	var m Model
	field(t, "name", &m.Name, asModelName)
	if m.Name == "auto" {
		r.complain(join(t.path, "name"), "auto is no name for a model: routing.auto lists what it stands for")
	}
	for _, sub := range t.tables("targets") {
		target := r.target(sub, providers)
		same := func(o Target) bool { return o.Provider == target.Provider && o.Model == target.Model }
		if target.Model != "" && slices.ContainsFunc(m.Targets, same) {
			r.complain(sub.path, "stands twice in the list: give one a higher weight instead")
		}
		m.Targets = append(m.Targets, target)
	}
	list(t, "fallbacks", &m.Fallbacks, func(l layer) (string, error) {
		name, err := asModelName(l)
		if err == nil && name == m.Name {
			return "", errors.New("is the model itself")
		}
		return name, err
	})
	field(t, "strategy", &m.Strategy, asOneOf(append(strategies(), "")...))
	var window int
	field(t, "context_window", &window, asInt(0, 1_000_000_000))
	m.ContextWindow = int64(window)
	t.done()

	if !t.has("name") {
		r.complain(t.path, "needs name")
	}
	if !t.has("targets") {
		r.complain(t.path, "needs targets, like [ { provider = \"openai\", model = \"gpt-4o\" } ]")
	} else if list, ok := t.raw["targets"].([]any); ok && len(list) == 0 {
		r.complain(join(t.path, "targets"), "is empty: name at least one")
	}
	return m
}

func (r *reader) target(t *table, providers []Provider) Target {
	target := Target{Weight: 1}
	field(t, "provider", &target.Provider, asProviderName)
	field(t, "model", &target.Model, asModelName)
	field(t, "weight", &target.Weight, asInt(1, 1_000_000))
	t.done()
	for _, key := range []string{"provider", "model"} {
		if !t.has(key) {
			r.complain(t.path, "needs %s", key)
		}
	}
	known := func(p Provider) bool { return p.Name == target.Provider }
	if target.Provider != "" && !slices.ContainsFunc(providers, known) {
		r.complain(join(t.path, "provider"), "there is no provider named %s", target.Provider)
	}
	return target
}

// prices reads [[prices]].
func (r *reader) prices(tables []*table) []Price {
	var all []Price
	seen := map[string]bool{}
	for _, t := range tables {
		p := r.price(t)
		r.unique(t, "model", p.Model, seen)
		all = append(all, p)
	}
	return all
}

func (r *reader) price(t *table) Price {
	var p Price
	before := len(r.problems)
	field(t, "model", &p.Model, asModelName)
	field(t, "input", &p.Input, asDollars)
	p.CachedInput, p.CacheWrite = p.Input, p.Input
	field(t, "cached_input", &p.CachedInput, asDollars)
	field(t, "cache_write", &p.CacheWrite, asDollars)
	field(t, "output", &p.Output, asDollars)
	field(t, "image", &p.Image, asDollars)
	field(t, "second", &p.Second, asDollars)
	field(t, "call", &p.Call, asDollars)
	t.done()

	p.Tokens = t.has("input") || t.has("output")
	if !t.has("model") {
		r.complain(t.path, "needs model")
	}
	if !p.Tokens && p.Image == 0 && p.Second == 0 && p.Call == 0 && len(r.problems) == before {
		r.complain(t.path, "needs a price: input and output, or image, second or call; for a free model input = 0")
	}
	for _, key := range []string{"cached_input", "cache_write"} {
		if t.has(key) && !t.has("input") {
			r.complain(join(t.path, key), "needs input, the price of what is not cached")
		}
	}
	return p
}

// unique refuses a value that another table of the list has.
func (r *reader) unique(t *table, key, value string, seen map[string]bool) {
	if value != "" && seen[value] {
		r.complain(join(t.path, key), "%s stands in another [[%s]] too", value, header(t.path))
	}
	seen[value] = true
}
