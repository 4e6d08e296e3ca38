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
	// rotations is whose turn it is, for each name that may have several targets.
	rotations map[string]*rotation
}

// newState builds the state of cfg; providers of old that did not change keep
// their connections and their health, all of the same name their queue.
func newState(cfg *config.Config, old *state) (*state, error) {
	imported, err := readPriceFile(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	s := &state{cfg: cfg, byName: map[string]*provider{}, aliases: map[string]*config.Model{},
		prices: newPrices(cfg.Prices, imported), fallback: map[string]bool{}, rotations: map[string]*rotation{}}
	for _, c := range cfg.Providers {
		var p *provider
		if old != nil && old.byName[c.Name] != nil && reflect.DeepEqual(old.byName[c.Name].Provider, c) {
			p = old.byName[c.Name]
		} else {
			if p, err = newProvider(c); err != nil {
				return nil, err
			}
			if old != nil && old.byName[c.Name] != nil {
				p.queue = old.byName[c.Name].queue
			}
		}
		s.providers = append(s.providers, p)
		s.byName[c.Name] = p
	}
	for i := range cfg.Models {
		m := &cfg.Models[i]
		s.aliases[m.Name] = m
		s.rotations[m.Name] = newRotation()
		if old != nil && old.aliases[m.Name] != nil && reflect.DeepEqual(old.aliases[m.Name].Targets, m.Targets) {
			s.rotations[m.Name] = old.rotations[m.Name]
		}
	}
	if s.rotations["auto"] == nil {
		s.rotations["auto"] = newRotation()
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
