package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestScanReadsWhatItDecidesBy(t *testing.T) {
	f, err := scan([]byte(` {"max_tokens": 5, "x": {"model": "not this"}, "mod\u0065l":"gp\u0074-4o", "stream":true,
		"n":2, "max_completion_tokens":"7", "stream_options":{"include_usage":true}} `))
	if err != nil {
		t.Fatal(err)
	}
	if f.model != "gpt-4o" || !f.stream || !f.usage || f.output != 7 || f.bound() != 14 {
		t.Errorf("%+v", f)
	}
	for text, code := range map[string]string{
		`{"model":"cheap","model":"dear"}`:                         "duplicate_parameter",
		`{"model":"cheap","mod\u0065l":"dear"}`:                    "duplicate_parameter",
		`{"model":"cheap","MODEL":"dear"}`:                         "duplicate_parameter",
		`{"Model":"dear"}`:                                         "duplicate_parameter",
		`{"max_tokens":1,"Max_Tokens":9}`:                          "duplicate_parameter",
		`{"n":1,"n":9}`:                                            "duplicate_parameter",
		`{"N":9}`:                                                  "duplicate_parameter",
		`{"bac\u212aground":true}`:                                 "duplicate_parameter", // the Kelvin sign folds to k
		`{"\u017ftream":true}`:                                     "duplicate_parameter", // the long s folds to s
		`{"stream_options":{},"stream_options":null}`:              "duplicate_parameter",
		`{"stream_options":{"include_usage":1,"Include_Usage":1}}`: "duplicate_parameter",
		`[]`:             "invalid_json",
		`"model"`:        "invalid_json",
		``:               "invalid_json",
		`{`:              "invalid_json",
		`{"a":1,}`:       "invalid_json",
		`{"a":1} x`:      "invalid_json",
		`{"a":01}`:       "invalid_json",
		"{\"a\":\"\n\"}": "invalid_json",
		"\ufeff{}":       "invalid_json",
		strings.Repeat(`{"a":`, 600) + "1" + strings.Repeat("}", 600): "invalid_json",
	} {
		_, err := scan([]byte(text))
		var e *Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("scan(%.60q): %v, want %s", text, err, code)
		}
	}
}

func TestBounds(t *testing.T) {
	for text, want := range map[string]int64{
		`{}`:                                     0,
		`{"max_tokens":null}`:                    0,
		`{"max_tokens":0}`:                       0,
		`{"max_tokens":-5}`:                      0,
		`{"max_tokens":1.5}`:                     2,
		`{"max_tokens":1e3}`:                     1000,
		`{"max_tokens":1e99}`:                    9223372036854775807,
		`{"max_tokens":5,"max_output_tokens":9}`: 9,
		`{"max_tokens":5,"n":3,"best_of":4}`:     20,
		`{"max_tokens":5,"n":0}`:                 5,
		`{"max_tokens":5,"n":-1}`:                5,
		`{"max_tokens":5,"prompt":["a","b"]}`:    10,
		`{"max_tokens":5,"prompt":[1,2,3]}`:      5,
		`{"max_tokens":5,"prompt":[[1],[2]]}`:    10,
		`{"max_tokens":9223372036854775807,"n":9223372036854775807}`: 9223372036854775807,
	} {
		f, err := scan([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := f.bound(); got != want {
			t.Errorf("%s: bound %d, want %d", text, got, want)
		}
	}
}

func TestInputEstimate(t *testing.T) {
	image := strings.Repeat("A", 64*3000)
	for text, want := range map[string]int64{
		`{"a":"0123456789"}`:                          6,                  // 18 bytes
		`{"a":"` + image + `"}`:                       3 + 3000,           // 8 bytes and the image
		`{"a":"` + image[:5000] + `"}`:                3 + 2000,           // at least 2,000
		`{"a":"` + image[:4096] + `"}`:                (8 + 4096 + 2) / 3, // not above 4 KiB
		`{"a":"` + strings.Repeat("a b", 2000) + `"}`: (8 + 6000 + 2) / 3,
		`{"a":"data:image/png;base64,` + image + `"}`: 3 + (64*3000+22+63)/64,
	} {
		f, err := scan([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if f.tokens != want {
			t.Errorf("%.40s… of %d bytes: %d tokens, want %d", text, len(text), f.tokens, want)
		}
	}
}

func apply(body []byte, edits ...edit) []byte {
	pieces, length := splice(body, edits)
	out := bytes.Join(pieces, nil)
	if int64(len(out)) != length {
		panic("splice tells a wrong length")
	}
	return out
}

func TestSpliceLeavesTheRest(t *testing.T) {
	for _, c := range []struct {
		body string
		edit func(*fields) []edit
		want string
	}{
		{` { "model" : "a/b", "x":1.0e7 , "big":12345678901234567890}`,
			func(f *fields) []edit { return []edit{f.setModel("b")} }, ` { "model" : "b", "x":1.0e7 , "big":12345678901234567890}`},
		{`{"max_tokens":null}`, func(f *fields) []edit { return []edit{f.setOutput("max_tokens", 5)} }, `{"max_tokens":5}`},
		{`{}`, func(f *fields) []edit { return []edit{f.setModel("m"), f.setOutput("max_tokens", 5), f.askUsage()} },
			`{"model":"m","max_tokens":5,"stream_options":{"include_usage":true}}`},
		{`{"stream":true}`, func(f *fields) []edit { return []edit{f.setOutput("max_tokens", 5), f.askUsage()} },
			`{"max_tokens":5,"stream_options":{"include_usage":true},"stream":true}`},
		{`{"stream_options":null}`, func(f *fields) []edit { return []edit{f.askUsage()} }, `{"stream_options":{"include_usage":true}}`},
		{`{"stream_options":{ }}`, func(f *fields) []edit { return []edit{f.askUsage()} }, `{"stream_options":{"include_usage":true }}`},
		{`{"stream_options":{"a":1}}`, func(f *fields) []edit { return []edit{f.askUsage()} }, `{"stream_options":{"include_usage":true,"a":1}}`},
		{`{"stream_options":{"include_usage":false}}`, func(f *fields) []edit { return []edit{f.askUsage()} }, `{"stream_options":{"include_usage":true}}`},
	} {
		f, err := scan([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(apply([]byte(c.body), c.edit(f)...)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.body, got, c.want)
		}
	}
}

// FuzzScan holds the scanner against encoding/json: it takes exactly the objects
// that are valid JSON, unless a field that it decides by could be read in two
// ways; it reads the model that a reader which takes the last one reads; and a
// splice changes nothing but its field.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"model":"m","stream":true}`, `{"mod\u0065l":"\ud83d\ude00"}`, `{"n":1e5,"x":[[{}]]}`, `{"prompt":["a",[1]]}`,
		`{"stream_options":{"include_usage":false}}`, `{"a":"\ud800","b":-0.0E+1}`, "{\"a\":\"\xff\"}", `{"":{}}`, `{"max_tokens":5}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := scan(body)
		var object map[string]json.RawMessage
		valid := json.Valid(body) && json.Unmarshal(body, &object) == nil && object != nil
		var e *Error
		if errors.As(err, &e) && e.Code == "duplicate_parameter" {
			return
		}
		if valid != (err == nil) {
			if valid && depth(body) > maxDepth {
				return
			}
			t.Fatalf("scan(%q): %v, valid JSON object: %v", body, err, valid)
		}
		if err != nil {
			return
		}
		var model any
		if raw, ok := object["model"]; ok {
			_ = json.Unmarshal(raw, &model)
		}
		name, isText := model.(string)
		if isText != (got.modelAt.to != 0 && !got.modelBad) || isText && !sameText(name, got.model) {
			t.Fatalf("scan(%q): model %q, encoding/json reads %v", body, got.model, model)
		}
		out := apply(body, got.setModel("other"), got.setOutput("max_tokens", 77), got.askUsage())
		var after map[string]json.RawMessage
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%q became %q: %v", body, out, err)
		}
		if string(after["model"]) != `"other"` || string(after["max_tokens"]) != "77" || !bytes.Contains(after["stream_options"], []byte(`"include_usage":true`)) {
			t.Fatalf("%q became %q", body, out)
		}
		for _, m := range []map[string]json.RawMessage{object, after} {
			delete(m, "model")
			delete(m, "max_tokens")
			delete(m, "stream_options")
		}
		if !reflect.DeepEqual(object, after) {
			t.Fatalf("%q became %q", body, out)
		}
	})
}

// sameText compares a text that encoding/json has made valid UTF-8.
func sameText(decoded, raw string) bool {
	return decoded == strings.ToValidUTF8(raw, "\ufffd") || strings.Contains(decoded, "\ufffd")
}

func depth(body []byte) int {
	deepest, now := 0, 0
	for _, c := range body {
		switch c {
		case '{', '[':
			now++
			deepest = max(deepest, now)
		case '}', ']':
			now--
		}
	}
	return deepest
}

// What multiplies the output is counted in each spelling that a provider may
// take for it; else a caller gets ten answers for the price of one.
func TestChoicesInOddSpellings(t *testing.T) {
	for body, want := range map[string]int64{
		`{"prompt":["a","b","c"]}`:                 3,
		`{"\u0070rompt":["a","b","c"]}`:            3,
		`{"Prompt":["a","b","c"]}`:                 3,
		`{"prompt":["a","b","c"],"prompt":["a"]}`:  3,
		`{"prompt":["a"],"prompt":"b"}`:            1,
		`{"n":"10"}`:                               10,
		`{"n":"\u0031\u0030"}`:                     10,
		`{"n":" 1_0 "}`:                            10,
		`{"n":2.5}`:                                3,
		`{"n":2,"best_of":4,"prompt":["a","b"]}`:   8,
		`{"n":null,"best_of":-4,"prompt":[1,2,3]}`: 1,
		`{"n":1e400,"prompt":["a","b"]}`:           math.MaxInt64,
	} {
		f, err := scan([]byte(body))
		if err != nil || f.choices() != want {
			t.Errorf("%s: %d choices and %v, want %d", body, f.choices(), err, want)
		}
	}
	if f, err := scan([]byte(`{"max_tokens":"1\u00300"}`)); err != nil || f.output != 100 {
		t.Errorf("a bound of %d and %v, want 100", f.output, err)
	}
}

// A control character is one wherever it stands in what is base64 otherwise: before
// the data of a data URL, at its beginning, or far in it.
func TestScanOfLongStrings(t *testing.T) {
	for _, prefix := range []string{"data:image/png;base64,", "data:" + strings.Repeat("x", 245) + ";base64,", "data:,", ""} {
		whole := prefix + strings.Repeat("iVBORw0KGgo/", 1000)
		f, err := scan([]byte(`{"model":"m","u":"` + whole + `"}`))
		if err != nil || f.model != "m" || strings.HasPrefix(prefix, "data:i") && f.tokens > 2100 {
			t.Errorf("%.30q: %+v, %v", whole, f, err)
		}
		for _, at := range []int{0, 3, 5, 6, 21, 22, 23, 200, 254, 255, 256, 257, 258, 4095, 4096, 4097, len(whole) - 1, len(whole)} {
			for _, ch := range []string{"\n", "\x00", "\x1f"} {
				text := whole[:at] + ch + whole[at:]
				if _, err := scan([]byte(`{"model":"m","u":"` + text + `"}`)); err == nil {
					t.Errorf("%q at %d of %.30q was taken", ch, at, whole)
				}
			}
			if _, err := scan([]byte(`{"model":"m","u":"` + whole[:at] + `\/` + whole[at:] + `"}`)); err != nil {
				t.Errorf("an escape at %d of %.30q: %v", at, whole, err)
			}
		}
	}
}
