package proxy

import (
	"maps"
	"reflect"
	"slices"

	"tokenhub/config"
)

// state is what one configuration means to the gateway. It is made anew at a
// reload and never changed, so that one request sees one configuration.
type state struct {
	cfg       *config.Config
	providers []*provider // in the order of the configuration
	byName    map[string]*provider
	aliases   map[string]*config.Model
	prices    *prices
	bodies    *bodies
	fallback  map[string]bool // routing.fallback_on
}

// newState builds the state of cfg; providers of old that did not change keep
// their connections.
func newState(cfg *config.Config, old *state) (*state, error) {
	s := &state{cfg: cfg, byName: map[string]*provider{}, aliases: map[string]*config.Model{},
		prices: newPrices(cfg.Prices, nil), fallback: map[string]bool{}}
	for _, c := range cfg.Providers {
		var p *provider
		if old != nil && old.byName[c.Name] != nil && reflect.DeepEqual(old.byName[c.Name].Provider, c) {
			p = old.byName[c.Name]
		} else {
			var err error
			if p, err = newProvider(c); err != nil {
				return nil, err
			}
		}
		s.providers = append(s.providers, p)
		s.byName[c.Name] = p
	}
	for i := range cfg.Models {
		s.aliases[cfg.Models[i].Name] = &cfg.Models[i]
	}
	for _, f := range cfg.Routing.FallbackOn {
		s.fallback[f] = true
	}
	if old != nil && old.bodies.most == cfg.MaxBody {
		s.bodies = old.bodies
	} else {
		s.bodies = newBodies(cfg.MaxBody, cfg.DataDir)
	}
	return s, nil
}

// capped reports whether the spending at a provider is capped.
func (s *state) capped() bool {
	return slices.ContainsFunc(s.providers, func(p *provider) bool { return p.MonthlyUSD > 0 })
}

// names lists the providers for a message.
func (s *state) names() []string { return slices.Sorted(maps.Keys(s.byName)) }
