package demo

import (
	"net/http"
	"time"
)

// modelsCreated is when the demo models are said to be made; any fixed moment does.
var modelsCreated = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// modelObject describes a model in OpenAI's fields and in Anthropic's, so that
// both kinds of caller find what they look for.
func modelObject(id string) map[string]any {
	return map[string]any{
		"id": id, "object": "model", "created": modelsCreated.Unix(), "owned_by": "tokenhub",
		"type": "model", "display_name": id, "created_at": modelsCreated.Format(time.RFC3339),
	}
}

func (p *provider) models(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list", "data": []any{modelObject(Model), modelObject(EmbeddingModel)},
		"has_more": false, "first_id": Model, "last_id": EmbeddingModel,
	})
	return nil
}

func (p *provider) model(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if id != Model && id != EmbeddingModel {
		return noSuchModel(id)
	}
	writeJSON(w, http.StatusOK, modelObject(id))
	return nil
}
