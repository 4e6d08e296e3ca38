package proxy

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"tokenhub/db"
)

func seedStreams(f *testing.F, add func([]byte)) {
	f.Helper()
	paths, err := filepath.Glob("testdata/streams/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		_, body, _ := bytes.Cut(text, []byte("\n---\n"))
		add(body)
	}
}

// sane reports whether the parts of a usage are within their wholes.
func sane(u db.Usage) bool {
	return u.Input >= 0 && u.Output >= 0 && u.CachedInput >= 0 && u.CacheWrite >= 0 && u.Reasoning >= 0 &&
		u.CachedInput+u.CacheWrite <= u.Input && u.Reasoning <= u.Output && u.Tokens() < 16*maxCount
}

// However a stream is cut, the same usage is read and the same bytes go on; and
// where nothing is taken out, they are the provider's.
func FuzzStream(f *testing.F) {
	seedStreams(f, func(body []byte) {
		f.Add(body, uint(len(body)/2), uint8(chatCompletions))
		f.Add(bytes.ReplaceAll(body, []byte("\n"), []byte("\r\n")), uint(3), uint8(messages))
	})
	f.Add([]byte("data: {\"choices\":[],\"usage\":{\"a\":1}}\r\r\n\ndata: {\"choices\":\r:\rid"), uint(20), uint8(responses))
	f.Fuzz(func(t *testing.T, body []byte, cut uint, kind uint8) {
		i := int(cut % uint(len(body)+1))
		for _, strip := range []bool{false, true} {
			a := answer{endpoint: endpoint(kind % 13), sse: true, strip: strip, length: -1}
			whole := newMeter(a)
			p, _ := whole.pass(body)
			wholeOut := append(bytes.Clone(p), whole.finish()...)
			halves := newMeter(a)
			p, _ = halves.pass(body[:i])
			halvesOut := bytes.Clone(p)
			p, _ = halves.pass(body[i:])
			halvesOut = append(append(halvesOut, p...), halves.finish()...)
			bytewise := newMeter(a)
			var bytewiseOut []byte
			for j := range body {
				p, _ = bytewise.pass(body[j : j+1])
				bytewiseOut = append(bytewiseOut, p...)
			}
			bytewiseOut = append(bytewiseOut, bytewise.finish()...)
			if !strip && !bytes.Equal(wholeOut, body) {
				t.Fatalf("changed\n%q to\n%q", body, wholeOut)
			}
			if !bytes.Equal(halvesOut, wholeOut) || !bytes.Equal(bytewiseOut, wholeOut) {
				t.Fatalf("whole %q\nhalves %q\nbytes %q", wholeOut, halvesOut, bytewiseOut)
			}
			// In pieces an answer may be told complete sooner: at a [DONE] whose line
			// turns out to go on.
			u, ok := whole.reported()
			for _, m := range []*meter{halves, bytewise} {
				if u2, ok2 := m.reported(); u2 != u || ok2 != ok || m.errored() != whole.errored() || m.estimate() != whole.estimate() || whole.told && !m.told {
					t.Fatalf("read %+v %v %v %d %v whole, %+v %v %v %d %v in pieces", u, ok, whole.errored(), whole.estimate(), whole.told,
						u2, ok2, m.errored(), m.estimate(), m.told)
				}
			}
			if !sane(u) {
				t.Fatalf("usage %+v", u)
			}
		}
	})
}

// The scanner finds the usage that a whole parse by encoding/json finds.
func FuzzDocument(f *testing.F) {
	seedStreams(f, func(body []byte) { f.Add(body, uint(len(body)/3)) })
	f.Add([]byte(`{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2,"x":{"usage":{}}}}`), uint(9))
	f.Add([]byte(`{"a\\":"\\\"","response":{"b":[{"usage":{"total_tokens":1}}],"usage":{"total_tokens":3}}}`), uint(12))
	f.Fuzz(func(t *testing.T, body []byte, cut uint) {
		if !json.Valid(body) || bytes.Contains(body, []byte(`\u`)) {
			t.Skip()
		}
		want := report{endpoint: chatCompletions, counts: noCounts()}
		readByJSON(t, body, &want)
		wanted, wantOK := want.usage()
		i := int(cut % uint(len(body)+1))
		for _, pieces := range [][][]byte{{body}, {body[:i], body[i:]}} {
			r := report{endpoint: chatCompletions, counts: noCounts()}
			d := document{report: &r}
			for _, p := range pieces {
				d.feed(p)
			}
			if got, ok := r.usage(); got != wanted || ok != wantOK || r.failed != want.failed {
				t.Fatalf("read %+v %v %v, encoding/json %+v %v %v", got, ok, r.failed, wanted, wantOK, want.failed)
			}
		}
	})
}

// readByJSON does what document does, the slow way.
func readByJSON(t *testing.T, body []byte, r *report) {
	t.Helper()
	members := func(raw []byte, member func(name string, value json.RawMessage)) {
		in := json.NewDecoder(bytes.NewReader(raw))
		if tok, _ := in.Token(); tok != json.Delim('{') {
			return
		}
		for in.More() {
			tok, _ := in.Token()
			var value json.RawMessage
			if err := in.Decode(&value); err != nil {
				t.Fatal(err)
			}
			member(tok.(string), value)
		}
	}
	usage := func(name string, value json.RawMessage) {
		if name == "usage" && value[0] == '{' && len(value) <= maxUsage {
			if n, err := readCounts(&cursor{b: value}); err == nil {
				r.replace(n)
			}
		}
	}
	members(body, func(name string, value json.RawMessage) {
		usage(name, value)
		switch {
		case (name == "response" || name == "x_groq") && value[0] == '{':
			members(value, usage)
		case name == "error" && value[0] == '{':
			r.failed = true
		}
	})
}

// Whatever a provider says, a usage is never negative and no part of it larger
// than its whole.
func FuzzUsage(f *testing.F) {
	f.Add([]byte(`{"prompt_tokens":-5,"completion_tokens":"1e30","total_tokens":1e99,"prompt_tokens_details":{"cached_tokens":9}}`), uint8(1), false)
	f.Add([]byte(`{"input_tokens":1,"cache_read_input_tokens":9223372036854775807,"cache_creation":{"a_input_tokens":9e18}}`), uint8(4), true)
	f.Add([]byte(`{"total_tokens":"NaN","reasoning_tokens":"Inf","prompt_audio_seconds":1e300}`), uint8(6), false)
	f.Fuzz(func(t *testing.T, text []byte, kind uint8, separate bool) {
		n, err := readCounts(&cursor{b: text})
		if err != nil {
			return
		}
		if u := n.usage(endpoint(kind%13), separate); !sane(u) {
			t.Fatalf("%s: %+v", text, u)
		}
		if u := noCounts().overlay(n).usage(messages, separate); !sane(u) {
			t.Fatalf("%s: %+v", text, u)
		}
	})
}
