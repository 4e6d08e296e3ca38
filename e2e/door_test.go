package e2e

import (
	"strings"
	"testing"
)

// TestPaths: what leads nowhere says where to go.
func TestPaths(t *testing.T) {
	p, h, key := startRecorder(t, usualReply)
	for path, want := range map[string]string{
		"/chat/completions":       "/v1/chat/completions",
		"//v1/chat/completions":   "remove the slash",
		"/v1//chat/completions":   "remove that slash",
		"/v1/v1/chat/completions": "",
		"/v1beta/models":          "/v1",
		"/v2/chat/completions":    "/v1",
		"/v1/../api/keys":         "dot segment",
		"/v1/%2e%2e/api/keys":     "dot segment",
		"/v1/a\\b":                "backslash",
	} {
		c := dial(t, h.url, false)
		c.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nX-Case: x\r\nAuthorization: Bearer " + key + "\r\nContent-Length: 0\r\n\r\n")
		m := c.answer("POST")
		if want == "" {
			if got := p.next(t); got.first != "POST "+path {
				t.Errorf("%s arrived as %s", path, got.first)
			}
			continue
		}
		if status := m.first[:3]; status != "404" && status != "400" || !strings.Contains(string(m.body), want) || m.header.Get("X-Tokenhub-Error") != "gateway" {
			t.Errorf("%s: %s %s, want %q in it", path, m.first, m.body, want)
		}
	}
	select {
	case m := <-p.got:
		t.Errorf("the provider got %s", m.first)
	default:
	}
}

// TestCORS: pages of the configured origins may call, others not.
func TestCORS(t *testing.T) {
	p := record(t, func(string) reply {
		return withLength("200 OK\r\nAccess-Control-Allow-Origin: *\r\nSet-Cookie: a=b\r\nStrict-Transport-Security: max-age=1\r\nX-Tokenhub-Lie: 1\r\nVary: Accept\r\n", "x")
	})
	h := startHub(t, "cors_origins = [\"https://chat.example\"]\n"+p.config())
	key := h.key(t, "sdk", "--endpoints", "all")
	ask := func(method, origin, more string) *message {
		c := dial(t, h.url, false)
		c.send(method + " /v1/files HTTP/1.1\r\nHost: x\r\nX-Case: x\r\nOrigin: " + origin + "\r\n" + more + "\r\n")
		return c.answer(method)
	}
	preflight := "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,x-stainless-lang\r\n"
	m := ask("OPTIONS", "https://chat.example", preflight)
	if m.first != "204 No Content" || m.header.Get("Access-Control-Allow-Origin") != "https://chat.example" || m.header.Get("Access-Control-Allow-Methods") != "POST" ||
		m.header.Get("Access-Control-Allow-Headers") != "authorization,x-stainless-lang" || m.header.Get("Date") == "" {
		t.Errorf("the preflight got %q %v", m.first, m.header)
	}
	if m := ask("OPTIONS", "https://evil.example", preflight); !strings.HasPrefix(m.first, "401") || m.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight of another origin got %q %v", m.first, m.header)
	}
	m = ask("GET", "https://chat.example", "Authorization: Bearer "+key+"\r\n")
	if got := m.header["Access-Control-Allow-Origin"]; len(got) != 1 || got[0] != "https://chat.example" {
		t.Errorf("the page got %q", got)
	}
	if got := strings.Join(m.header["Vary"], ", "); !strings.Contains(got, "Origin") || !strings.Contains(got, "Accept") {
		t.Errorf("Vary is %q", got)
	}
	for _, name := range []string{"Set-Cookie", "Strict-Transport-Security", "X-Tokenhub-Lie"} {
		if m.header.Get(name) != "" {
			t.Errorf("the page got %s of the provider's", name)
		}
	}
	if m := ask("GET", "https://chat.example", ""); !strings.HasPrefix(m.first, "401") || m.header.Get("Access-Control-Allow-Origin") != "https://chat.example" {
		t.Errorf("without a key the page got %q %v", m.first, m.header)
	}
	if m := ask("GET", "https://evil.example", "Authorization: Bearer "+key+"\r\n"); m.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a page of another origin got %v", m.header)
	}
}
