package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The document and the routes name the same paths and methods.
func TestEachRouteIsDocumented(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatal(err)
	}
	var documented, served []string
	for path, methods := range doc.Paths {
		for method := range methods {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	for _, r := range routes() {
		path := strings.NewReplacer(":id", "{id}", ":name", "{name}").Replace(r.path)
		served = append(served, r.method+" "+path)
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("documented %q\nserved %q", documented, served)
	}
}

// Each route answers with a status and a body of the form that stands in the
// document, and holds nothing that does not.
func TestRoutesAnswerAsDocumented(t *testing.T) {
	w, one, two, three := usageWorld(t)
	w.gateway.states = []ProviderState{{Name: "openai", Status: "ok", LastError: "timeout", FirstByte: 1e6}}
	doc := newSpec(t, w.call("GET", "/api/openapi.json", "").body)
	if doc.root["info"].(map[string]any)["version"] != "1.2.3" {
		t.Errorf("the document has the version %v", doc.root["info"])
	}
	token := w.want(201, "POST", "/api/tokens", `{"name":"t"}`)["id"].(string)
	used := map[string]bool{}
	for _, c := range []struct {
		status       int
		method, path string
		params       string
		body         string
	}{
		{200, "GET", "/api/keys", "?limit=2", ""},
		{400, "GET", "/api/keys", "?limit=x", ""},
		{201, "POST", "/api/keys", "", fullKey},
		{400, "POST", "/api/keys", "", `{}`},
		{415, "POST", "/api/keys", "", "gzip"},
		{413, "POST", "/api/keys", "", strings.Repeat(" ", maxBody+1)},
		{200, "GET", "/api/keys/{id}", one, ""},
		{404, "GET", "/api/keys/{id}", "nobody", ""},
		{200, "PATCH", "/api/keys/{id}", one, `{"limits":{"daily_usd":0.1},"expires_at":"90d"}`},
		{409, "PATCH", "/api/keys/{id}", one, `{"revision":1}`},
		{200, "POST", "/api/keys/{id}/rotate", two, ``},
		{200, "DELETE", "/api/keys/{id}", three, ``},
		{409, "POST", "/api/keys/{id}/rotate", three, ``},
		{200, "GET", "/api/tokens", "", ""},
		{201, "POST", "/api/tokens", "", `{"name":"u","read_only":true}`},
		{200, "DELETE", "/api/tokens/{id}", token, ""},
		{200, "GET", "/api/usage", "?group_by=model,served_model,key,provider,day,hour,tag", ""},
		{404, "GET", "/api/usage", "?key=nobody", ""},
		{200, "GET", "/api/requests", "?limit=2", ""},
		{200, "GET", "/api/requests", "?status=5xx", ""},
		{200, "GET", "/api/audit", "?limit=3", ""},
		{200, "GET", "/api/providers", "", ""},
		{200, "POST", "/api/providers/{name}/test", "openai", ""},
		{404, "POST", "/api/providers/{name}/test", "nobody", ""},
		{200, "GET", "/api/explain", "?key=one&model=gpt-4o", ""},
		{400, "GET", "/api/explain", "", ""},
		{200, "GET", "/api/backup", "", ""},
		{200, "POST", "/api/reload", "", ""},
		{400, "POST", "/api/reload", "", `{"x":1}`},
		{200, "PUT", "/api/admin/password", "", `{"password":"correct horse"}`},
		{200, "GET", "/api/openapi.json", "", ""},
	} {
		path, header := c.path, []string{}
		if i := strings.IndexByte(path, '{'); i >= 0 {
			path = path[:i] + c.params + path[strings.IndexByte(path, '}')+1:]
		} else {
			path += c.params
		}
		if c.body == "gzip" {
			header = []string{"Content-Encoding", "gzip"}
		}
		a := w.call(c.method, path, c.body, header...)
		if a.status != c.status {
			t.Errorf("%s %s: got %d %s, want %d", c.method, path, a.status, a.body, c.status)
			continue
		}
		used[c.method+" "+c.path] = true
		doc.check(c.method, c.path, a)
	}
	for _, r := range routes() {
		path := strings.NewReplacer(":id", "{id}", ":name", "{name}").Replace(r.path)
		if !used[r.method+" "+path] {
			t.Errorf("%s %s was not tried", r.method, path)
		}
		a := w.call(r.method, r.path, "", "Authorization", "")
		if a.status != 401 {
			t.Errorf("%s %s without a token: %d", r.method, path, a.status)
		}
		doc.check(r.method, path, a)
	}
}

// spec holds answers against an OpenAPI document, as far as this one goes.
type spec struct {
	t    *testing.T
	root map[string]any
}

func newSpec(t *testing.T, text []byte) *spec {
	t.Helper()
	s := &spec{t: t, root: map[string]any{}}
	if err := json.Unmarshal(text, &s.root); err != nil {
		t.Fatal(err)
	}
	return s
}

// resolve follows a reference.
func (s *spec) resolve(v any) map[string]any {
	m, _ := v.(map[string]any)
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	var at any = s.root
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		next, _ := at.(map[string]any)
		at = next[part]
	}
	if at == nil {
		s.t.Errorf("the reference %s leads nowhere", ref)
	}
	return s.resolve(at)
}

func (s *spec) check(method, path string, a answer) {
	s.t.Helper()
	op := at(s.root, "paths", path, strings.ToLower(method))
	response := s.resolve(at(op, "responses", fmt.Sprint(a.status)))
	if response == nil {
		s.t.Errorf("%s %s: the status %d is not documented", method, path, a.status)
		return
	}
	media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	schema := at(response, "content", media, "schema")
	if schema == nil {
		s.t.Errorf("%s %s: %d with %s is not documented", method, path, a.status, media)
		return
	}
	if media != "application/json" {
		return
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		s.t.Errorf("%s %s: %v", method, path, err)
		return
	}
	props := map[string]any{}
	s.match(fmt.Sprintf("%s %s %d", method, path, a.status), s.resolve(schema), v, props, true)
}

// match holds v against a schema. An object may hold only what is documented;
// props collects the properties of the parts of an allOf, and closed says that
// this is the last part.
func (s *spec) match(where string, schema map[string]any, v any, props map[string]any, closed bool) {
	s.t.Helper()
	if parts, ok := schema["allOf"].([]any); ok {
		for i, part := range parts {
			s.match(where, s.resolve(part), v, props, i == len(parts)-1)
		}
		return
	}
	if values, ok := schema["enum"].([]any); ok && !slices.Contains(values, v) {
		s.t.Errorf("%s: %v is none of %v", where, v, values)
	}
	switch types := schema["type"].(type) {
	case string:
		if !isOf(types, v) {
			s.t.Errorf("%s: %v is no %s", where, v, types)
		}
	case []any:
		if !slices.ContainsFunc(types, func(t any) bool { return isOf(t.(string), v) }) {
			s.t.Errorf("%s: %v is none of %v", where, v, types)
		}
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			s.match(fmt.Sprintf("%s[%d]", where, i), s.resolve(schema["items"]), item, map[string]any{}, true)
		}
	case map[string]any:
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				s.t.Errorf("%s: %s is missing", where, name)
			}
		}
		own, _ := schema["properties"].(map[string]any)
		for name, p := range own {
			props[name] = p
			if value, ok := v[name]; ok {
				s.match(where+"."+name, s.resolve(p), value, map[string]any{}, true)
			}
		}
		for name := range v {
			if closed && len(props) > 0 && props[name] == nil {
				s.t.Errorf("%s: %s is not documented", where, name)
			}
		}
	}
}

func isOf(typ string, v any) bool {
	switch v := v.(type) {
	case nil:
		return typ == "null"
	case bool:
		return typ == "boolean"
	case string:
		return typ == "string"
	case []any:
		return typ == "array"
	case map[string]any:
		return typ == "object"
	case json.Number:
		return typ == "number" || typ == "integer" && !strings.ContainsAny(v.String(), ".eE")
	}
	return false
}
