package proxy

import (
	"encoding/json"
	"net/http"
	"strings"

	"tokenhub/db"
)

// modelObject is a model as GET /v1/models shows it; unknown fields are left out.
type modelObject struct {
	ID           string        `json:"id"`
	Object       string        `json:"object"`
	Created      int64         `json:"created,omitempty"`
	OwnedBy      string        `json:"owned_by,omitempty"`
	Window       int64         `json:"context_window,omitempty"`
	Capabilities *capabilities `json:"capabilities,omitempty"`
}

// capabilities are what is known of a model's uses.
type capabilities struct {
	Chat        bool `json:"chat"`
	Completions bool `json:"completions"`
	Embeddings  bool `json:"embeddings"`
}

// models answers GET /v1/models and /v1/models/{id} with what the key may call.
func (f *flight) models() (*Response, error) {
	defer f.finish()
	list := f.st.listModels(f.key)
	if f.call.Path == "/v1/models" {
		return f.own(map[string]any{"object": "list", "data": list})
	}
	id := unescapePath(strings.TrimPrefix(f.call.Path, "/v1/models/"))
	for i := range list {
		if list[i].ID == id {
			return f.own(&list[i])
		}
	}
	found, err := f.st.resolve(f.key, id)
	if err != nil {
		f.g.refresher.soon(f.g.now())
		return nil, err
	}
	if known, has := found[0].provider.has(found[0].served); known && !has {
		return nil, failf("model_not_found", "The model %q does not exist here. GET /v1/models lists those that this API key may call.", id)
	}
	return f.own(&modelObject{ID: id, Object: "model", OwnedBy: found[0].provider.Name, Window: contextWindow(found[0].served)})
}

// listModels lists what a key may call: aliases, names from the configuration,
// and the providers' own lists, each name once, in the order in which it is resolved.
func (s *state) listModels(key *db.Key) []modelObject {
	list := []modelObject{}
	seen := map[string]bool{}
	add := func(id string, m modelObject) {
		if seen[id] {
			return
		}
		if _, err := s.resolve(key, id); err != nil {
			return
		}
		seen[id] = true
		m.ID, m.Object = id, "model"
		list = append(list, m)
	}
	for _, alias := range s.cfg.Models {
		add(alias.Name, modelObject{OwnedBy: "tokenhub", Window: alias.ContextWindow})
	}
	for _, p := range s.providers {
		if !providerAllowed(key, p.Name) {
			continue
		}
		own := p.catalog.Load()
		for _, name := range p.plainModels() {
			s.addOf(key, p, own.named(name), seen, add)
		}
		if own == nil {
			continue
		}
		for _, m := range own.list {
			if _, has := p.has(m.ID); has {
				s.addOf(key, p, m, seen, add)
			}
		}
	}
	return list
}

// addOf adds a provider's model under its own name, or, where that name leads
// elsewhere, as provider/model.
func (s *state) addOf(key *db.Key, p *provider, m listed, seen map[string]bool, add func(string, modelObject)) {
	id := m.ID
	if seen[id] {
		if found, err := s.resolve(key, id); err == nil && found[0].provider == p {
			return // configured and listed
		}
		id = p.Name + "/" + m.ID
	}
	o := modelObject{Created: m.Created, OwnedBy: m.OwnedBy, Window: m.Window}
	if o.OwnedBy == "" {
		o.OwnedBy = p.Name
	}
	if o.Window == 0 {
		o.Window = contextWindow(m.ID)
	}
	if strings.Contains(m.ID, "embed") {
		o.Capabilities = &capabilities{Embeddings: true}
	}
	add(id, o)
}

// own is an answer of TokenHub's own in JSON.
func (f *flight) own(v any) (*Response, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	resp := ownResponse(http.StatusOK, "application/json", append(body, '\n'))
	if f.key.Limits.RequestsPerMinute > 0 || f.key.Limits.TokensPerMinute > 0 {
		rateHeaders(&resp.Header, f.minute())
	}
	return resp, nil
}
