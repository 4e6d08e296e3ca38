package proxy

import (
	"net/url"
	"strings"
	"testing"
)

func TestCheckPath(t *testing.T) {
	for path, ok := range map[string]bool{
		"/v1/chat/completions":        true,
		"/v1/models/org%2Fmodel:free": true,
		"/v1/models/org/model:free":   true,
		"/v1/files/a%20b%25c":         true,
		"/v1/files/%e4%bd%a0":         true,
		"/v1/files/你":                 true,
		"/v1/files/":                  true,
		"/v1/files/...":               true,
		"/v1/files/a..b":              true,
		"/v1/files/.well-known":       true,
		"/v1/files/%zz":               true,
		"/v1/files/%252e%252e":        true,
		"/v1/../admin":                false,
		"/v1/..":                      false,
		"/v1/.":                       false,
		"/v1/./x":                     false,
		"/v1/%2e%2e/x":                false,
		"/v1/.%2E/x":                  false,
		"/v1/..%2fx":                  false,
		"/v1/x%2f..%2fy":              false,
		"/v1/..;/x":                   false,
		"/v1//chat/completions":       false,
		"/v1/%2fchat":                 false,
		"/v1/a%2F%2fb":                false,
		`/v1/a\b`:                     false,
		"/v1/a%5cb":                   false,
		"/v1/a%00b":                   false,
		"/v1/a%0d%0ab":                false,
		"/v1/a#b":                     false,
	} {
		err := checkPath(path)
		if (err == nil) != ok {
			t.Errorf("checkPath(%q) = %v, want ok=%v", path, err, ok)
		}
		if err != nil && (err.Code != "invalid_path" || err.Status() != 400) {
			t.Errorf("checkPath(%q) = %v %d", path, err.Code, err.Status())
		}
	}
}

// A path that passes must not have a dot segment for any reader that decodes
// it once, and resolving it must change nothing.
func FuzzCheckPath(f *testing.F) {
	for _, s := range []string{"/v1/a", "/v1/%2e%2e/", "/v1/..%2f", "/v1/%zz", "/v1/a;b=..", "/v1/.%2e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/v1/") || checkPath(path) != nil {
			return
		}
		plain, err := url.PathUnescape(path)
		if err != nil {
			return
		}
		for _, segment := range strings.Split(plain, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q passed with segment %q", path, segment)
			}
		}
		if strings.ContainsAny(plain, "\\\x00") || strings.Contains(plain, "//") {
			t.Fatalf("%q passed", path)
		}
	})
}

func TestWithoutKey(t *testing.T) {
	key := "7L7QuQGy7lZJSVg0c47YFsBAkP1Ne3pRLa49LI3by9z5Yo8oKIwPW2BnFyE"
	for path, want := range map[string]string{
		"/v1/files/file-abc":                "/v1/files/file-abc",
		"/v1/responses/resp_" + key[:54]:    "/v1/responses/resp_" + key[:54],
		"/v1/th-" + key:                     "/v1/th-7L7QuQGy7l…",
		"/v1/th%2D" + key + "/x/tha-" + key: "/v1/th%2D7L7QuQGy…/x/tha-7L7QuQGy7l…",
		"":                                  "",
	} {
		if got := withoutKey(path); got != want {
			t.Errorf("withoutKey(%q) = %q, want %q", path, got, want)
		}
	}
}
