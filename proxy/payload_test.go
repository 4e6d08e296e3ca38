package proxy

import (
	"context"
	"errors"
	"io"
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
			Header: Headers{{"Content-Type", "application/json"}}}
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

// TestNoMemoryForACallerWhoLeft: somebody who is gone is not told to try again.
func TestNoMemoryForACallerWhoLeft(t *testing.T) {
	b := newBodies(1<<20, t.TempDir())
	if !b.room.TryAcquire(max(bodyMemory, 2<<20)) {
		t.Fatal("the room is not free")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGone)
	call := &Call{Method: "POST", Path: "/v1/chat/completions", Length: 2, Body: strings.NewReader("{}")}
	if _, err := b.read(ctx, call, true); !errors.Is(err, errGone) {
		t.Errorf("got %v", err)
	}
}

// A mistake in the program while a body is read keeps none of the memory that all
// bodies share.
func TestMistakeInABodyGivesMemoryBack(t *testing.T) {
	for name, call := range map[string]*Call{
		"a form":            formCall("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + strings.Repeat("x", 100_000)),
		"JSON":              {Method: "POST", Path: "/v1/chat/completions", Length: 100_000},
		"JSON of no length": {Method: "POST", Path: "/v1/chat/completions", Length: -1},
	} {
		b := newBodies(1<<20, t.TempDir())
		begins := call.Body
		if begins == nil {
			begins = strings.NewReader(`{"model":"` + strings.Repeat("m", 50_000))
		}
		call.Body = io.MultiReader(begins, readerFunc(func([]byte) (int, error) { panic("a mistake") }))
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no mistake", name)
				}
			}()
			_, _ = b.read(t.Context(), call, true)
		}()
		if !b.room.TryAcquire(max(bodyMemory, 2<<20)) || !b.disk.TryAcquire(spoolRoom(1<<20)) {
			t.Errorf("%s: some of it is kept", name)
		}
	}
}
