package auth

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestPresented(t *testing.T) {
	none := []string(nil)
	list := func(s ...string) []string { return s }
	for _, c := range []struct {
		name                 string
		auth, key, protocols []string
		want                 string
		reason               Reason
	}{
		{"nothing", none, none, none, "", Missing},
		{"bearer", list("Bearer th-1"), none, none, "th-1", ""},
		{"any case", list("bEARER th-1"), none, none, "th-1", ""},
		{"white space", list(" Bearer \t th-1 "), none, none, "th-1", ""},
		{"x-api-key", none, list(" th-1"), none, "th-1", ""},
		{"both equal", list("Bearer th-1"), list("th-1"), none, "th-1", ""},
		{"both, different", list("Bearer th-1"), list("th-2"), none, "", Differing},
		{"twice equal", list("Bearer th-1", "bearer th-1"), none, none, "th-1", ""},
		{"twice different", list("Bearer th-1", "Bearer th-2"), none, none, "", Differing},
		{"x-api-key twice", none, list("th-1", "th-2"), none, "", Differing},
		{"another scheme", list("Basic th-1"), none, none, "", Malformed},
		{"another scheme beside a key", list("Basic th-1"), list("th-1"), none, "", Malformed},
		{"no scheme", list("th-1"), none, none, "", Malformed},
		{"empty bearer", list("Bearer"), none, none, "", Missing},
		{"empty ones beside a key", list("Bearer ", ""), list("", "th-1"), none, "th-1", ""},
		{"not a bearer", list("Bearerth-1"), none, none, "", Malformed},
		{"two words", list("Bearer th-1 th-1"), none, none, "th-1 th-1", ""},
		{"subprotocol", none, none, list("realtime, openai-insecure-api-key.th-1,openai-beta.realtime-v1"), "th-1", ""},
		{"subprotocols", none, none, list("realtime", "openai-insecure-api-key.th-1"), "th-1", ""},
		{"subprotocol and header equal", list("Bearer th-1"), none, list("openai-insecure-api-key.th-1"), "th-1", ""},
		{"subprotocol and header differ", list("Bearer th-1"), none, list("openai-insecure-api-key.th-2"), "", Differing},
		{"two subprotocols differ", none, none, list("openai-insecure-api-key.th-1, openai-insecure-api-key.th-2"), "", Differing},
		{"other subprotocols", none, none, list("graphql-ws, th-1"), "", Missing},
	} {
		got, err := Presented(c.auth, c.key, c.protocols)
		var refused *Refused
		errors.As(err, &refused)
		switch {
		case c.reason == "" && (err != nil || got != c.want):
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		case c.reason != "" && (refused == nil || refused.Reason != c.reason || got != ""):
			t.Errorf("%s: got %q, %v, want %s", c.name, got, err, c.reason)
		}
	}
}

func FuzzPresented(f *testing.F) {
	f.Add("Bearer th-1", "th-1", "openai-insecure-api-key.th-1")
	f.Add("", "th-2", "a,b")
	f.Fuzz(func(t *testing.T, authorization, apiKey, protocol string) {
		got, err := Presented([]string{authorization}, []string{apiKey}, []string{protocol})
		if (err == nil) == (got == "") {
			t.Fatalf("got %q with error %v", got, err)
		}
		if err != nil {
			var refused *Refused
			if !errors.As(err, &refused) {
				t.Fatalf("got %T, want *Refused", err)
			}
			return
		}
		// Each value that is there must hold the secret and nothing else.
		if k := strings.Trim(apiKey, " \t"); k != "" && k != got {
			t.Fatalf("got %q beside x-api-key %q", got, apiKey)
		}
		if a := strings.Trim(authorization, " \t"); a != "" && strings.Trim(a[6:], " \t") != "" && strings.Trim(a[6:], " \t") != got {
			t.Fatalf("got %q beside Authorization %q", got, authorization)
		}
	})
}

func TestQueryHasKey(t *testing.T) {
	for query, want := range map[string]bool{
		"":                        false,
		"beta=true":               false,
		"key=th-abc":              true,
		"key=tha-abc":             true,
		"a=b&key=th-abc&c=d":      true,
		"a=b;key=th-abc":          true,
		"key=%74%68%2D":           true,
		"key=%74h%2dabc":          true,
		"key=t%68a-":              true,
		"=th-":                    true,
		"key=th":                  false,
		"key=that-is-it":          false,
		"key=xth-abc":             false,
		"th-abc":                  false,
		"th-abc=1":                false,
		"key=%2574h-abc":          false, // decodes to %74h-abc
		"key=%7":                  false,
		"key=%zzth-":              false,
		"key=+th-":                false,
		"q=a=th-":                 false,
		"a&&;;&x=th-&":            true,
		"include[]=th-x":          true,
		"order=desc&after=th-123": true,
	} {
		if got := QueryHasKey(query); got != want {
			t.Errorf("%q: got %v, want %v", query, got, want)
		}
	}
}

// FuzzQueryHasKey: what the standard library's parser finds is always found.
func FuzzQueryHasKey(f *testing.F) {
	f.Add("a=b&key=th-abc")
	f.Add("key=%74%68%2d;x=+tha-")
	f.Fuzz(func(t *testing.T, query string) {
		got := QueryHasKey(query)
		values, err := url.ParseQuery(query) // keeps what it could read beside its error
		for _, list := range values {
			for _, v := range list {
				if (strings.HasPrefix(v, "th-") || strings.HasPrefix(v, "tha-")) && !got {
					t.Fatalf("%q: missed %q (%v)", query, v, err)
				}
			}
		}
	})
}
