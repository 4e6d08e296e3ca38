package ui

import (
	_ "embed"
	"encoding/json"
)

// document is the OpenAPI document, held against the routes by a test.
//
//go:embed openapi.json
var document []byte

func (a *Admin) openAPI(r *request) error {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(document, &doc); err != nil {
		return err
	}
	var info map[string]any
	if err := json.Unmarshal(doc["info"], &info); err != nil {
		return err
	}
	if a.version != "" {
		info["version"] = a.version
	}
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	doc["info"] = text
	return r.json(200, doc)
}
