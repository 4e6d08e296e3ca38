package proxy

import (
	"strings"
	"testing"

	"tokenhub/config"
	"tokenhub/db"
)

// TestModelThatIsNoName: where TokenHub does not know the endpoint, a model may
// be an object; a key whose models are limited may not send what can't be read.
func TestModelThatIsNoName(t *testing.T) {
	cfg := config.Defaults()
	cfg.Providers = []config.Provider{{Name: "p", BaseURL: "http://p.invalid/v1", Auth: "none"}}
	s, err := newState(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	const text = `{"model":{"id":"m"}}`
	for _, tt := range []struct {
		path string
		key  *db.Key
		code string
	}{
		{"/v1/agents", &db.Key{}, ""},
		{"/v1/agents", &db.Key{Models: []string{"cheap"}}, "missing_parameter"},
		{"/v1/chat/completions", &db.Key{}, "missing_parameter"},
	} {
		call := &Call{Method: "POST", Path: tt.path, Length: int64(len(text)), Body: strings.NewReader(text),
			Header: map[string][]string{"Content-Type": {"application/json"}}}
		body, err := s.bodies.read(t.Context(), call, needsModel(tt.key))
		if err != nil {
			t.Fatal(err)
		}
		_, refusal := s.route(tt.key, call, body)
		got := ""
		if refusal != nil {
			got = refusal.Code
		}
		if got != tt.code {
			t.Errorf("%s with models %v: %q, want %q", tt.path, tt.key.Models, got, tt.code)
		}
		body.close()
	}
}
