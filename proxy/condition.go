package proxy

import (
	"context"
	"slices"
	"time"
)

// ProviderState is how one provider is doing.
type ProviderState struct {
	Name string
	// Status is ok, resting (all of its models that were asked for kept failing,
	// and are tried last), or unknown (it has not answered anybody yet).
	Status string
	// Models are those that it serves: as it lists them itself, else as configured.
	Models []string
	// ModelsAt is when its own list was read; zero when it was not.
	ModelsAt time.Time
	// Running are requests on their way, Waiting those that wait for a place, the
	// first of them since WaitingSince.
	Running, Waiting int
	WaitingSince     time.Time
	// FirstByte is the recent time to the first byte, 0 = unknown; ErrorRate the
	// recent share of failures, 0 to 1.
	FirstByte time.Duration
	ErrorRate float64
	// LastError is the last failure in a few words, never a credential.
	LastError   string
	LastErrorAt time.Time
	// RestsUntil is when a resting provider is probed again.
	RestsUntil time.Time
}

// Providers tells how the configured providers are doing, in the order of the
// configuration. It asks nobody and does not wait.
func (g *Gateway) Providers(context.Context) []ProviderState {
	st, now := g.state.Load(), g.now()
	list := make([]ProviderState, 0, len(st.providers))
	for _, p := range st.providers {
		s := p.health.state(now)
		s.Name, s.Models = p.Name, slices.Clone(p.Models)
		s.LastError = p.withoutSecrets(s.LastError)
		s.Running, s.Waiting, s.WaitingSince = p.queue.load()
		if own := p.catalog.Load(); own != nil {
			s.ModelsAt = own.at
			s.Models = nil
			for _, m := range own.list {
				if _, has := p.has(m.ID); has {
					s.Models = append(s.Models, m.ID)
				}
			}
			// A name that is configured is served, whether it is listed or not.
			for _, name := range p.plainModels() {
				if !slices.Contains(s.Models, name) {
					s.Models = append(s.Models, name)
				}
			}
			if s.Status == "unknown" {
				s.Status = "ok"
			}
		}
		list = append(list, s)
	}
	return list
}

// state sums up the health over the models of a provider.
func (h *health) state(now time.Time) ProviderState {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := ProviderState{Status: "unknown", LastError: h.lastError, LastErrorAt: h.lastErrorAt, ErrorRate: h.all.share(now),
		FirstByte: time.Duration(h.all.firstByte * float64(time.Second))}
	resting := 0
	for _, c := range h.circuits {
		look := c.look(now)
		if !look.resting {
			continue
		}
		resting++
		if s.RestsUntil.IsZero() || look.until.Before(s.RestsUntil) {
			s.RestsUntil = look.until
		}
	}
	switch {
	case len(h.circuits) > 0 && resting == len(h.circuits):
		s.Status = "resting"
		return s
	case h.all.good > 0:
		s.Status = "ok"
	}
	s.RestsUntil = time.Time{}
	return s
}
