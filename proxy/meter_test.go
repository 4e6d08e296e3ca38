package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"tokenhub/db"
)

// inPieces cuts body into pieces of a size.
func inPieces(body []byte, size int) (pieces [][]byte) {
	for len(body) > 0 {
		n := min(size, len(body))
		pieces = append(pieces, body[:n])
		body = body[n:]
	}
	return pieces
}

// A line of some megabytes, as a response with images has at its end, is read
// without being kept.
func TestLongLine(t *testing.T) {
	image := strings.Repeat("iVBORw0KGgo", 400_000)
	body := []byte("event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"result\":\"" + image +
		"\"}],\"usage\":{\"input_tokens\":7,\"output_tokens\":9}}}\r\n\r\ndata: [DONE]\n\n")
	m := newMeter(answer{endpoint: responses, sse: true, length: -1})
	completeAt, sent := 0, 0
	for _, p := range inPieces(body, 16<<10) {
		sent += len(p)
		if out, complete := m.pass(p); complete {
			completeAt = sent
			if u, ok := m.reported(); !ok || u != (db.Usage{Input: 7, Output: 9}) {
				t.Errorf("reported %+v %v", u, ok)
			}
		} else if len(out) != len(p) {
			t.Fatal("bytes are missing")
		}
		if held := cap(m.events.tail) + cap(m.doc.kept); held > 2*maxLine {
			t.Fatalf("%d bytes are held", held)
		}
	}
	m.finish()
	if completeAt < len(body)-40 {
		t.Errorf("complete at %d of %d", completeAt, len(body))
	}
}

// A line that is no data is not kept, however long, and the next one is read.
func TestLongComment(t *testing.T) {
	body := []byte(": " + strings.Repeat("ping ", 200_000) + "\ndata: {\"usage\":{\"total_tokens\":4}}\n\n")
	m := newMeter(answer{endpoint: chatCompletions, sse: true, length: -1})
	for _, p := range inPieces(body, 1000) {
		m.pass(p)
		if cap(m.events.tail) > 4096 {
			t.Fatalf("%d bytes are held", cap(m.events.tail))
		}
	}
	m.finish()
	if u, ok := m.reported(); !ok || u.Output != 4 {
		t.Errorf("reported %+v %v", u, ok)
	}
}

// An event that may be usage is held, but not without bound.
func TestStripHoldsBounded(t *testing.T) {
	body := []byte(`data: {"id":"` + strings.Repeat("x", 3*maxHeld) + `","choices":[],"usage":{"prompt_tokens":1}}` + "\n\n" +
		`data: {"choices":[],"usage":{"prompt_tokens":2}}` + "\n\n")
	m := newMeter(answer{endpoint: chatCompletions, sse: true, strip: true, length: -1})
	var out []byte
	for _, p := range inPieces(body, 10_000) {
		passed, _ := m.pass(p)
		out = append(out, passed...)
		if len(m.strip.held) > maxHeld+10_000 {
			t.Fatalf("%d bytes are held", len(m.strip.held))
		}
	}
	out = append(out, m.finish()...)
	if want := body[:bytes.LastIndex(body, []byte("data:"))]; !bytes.Equal(out, want) {
		t.Errorf("passed %d bytes, want %d", len(out), len(want))
	}
	if u, _ := m.reported(); u.Input != 2 {
		t.Errorf("reported %+v", u)
	}
}

// A usage object without bound is not kept; the answer passes.
func TestLargeUsage(t *testing.T) {
	body := []byte(`{"usage":{"prompt_tokens":1,"x":"` + strings.Repeat("x", maxUsage) + `"},"model":"m"}`)
	m, out, _ := feedMeter(t, answer{endpoint: chatCompletions, length: int64(len(body))}, inPieces(body, 1<<10)...)
	if _, ok := m.reported(); ok || !bytes.Equal(out, body) || cap(m.doc.kept) > 2*maxUsage {
		t.Errorf("reported %v, %d bytes passed, %d kept", ok, len(out), cap(m.doc.kept))
	}
}

// The last byte of a known length completes an answer, no other.
func TestCompleteAtLength(t *testing.T) {
	body := []byte(`{"usage":{"prompt_tokens":1,"completion_tokens":2}}`)
	m := newMeter(answer{endpoint: chatCompletions, length: int64(len(body))})
	for i := range body {
		if _, complete := m.pass(body[i : i+1]); complete != (i == len(body)-1) {
			t.Fatalf("complete %v after byte %d of %d", complete, i+1, len(body))
		}
	}
	for _, length := range []int64{-1, 0, int64(len(body)) + 1} {
		if _, _, complete := feedMeter(t, answer{endpoint: chatCompletions, length: length}, body); complete {
			t.Errorf("complete with a length of %d", length)
		}
	}
}

// Output tokens where none are reported: never 0 for an answer with bytes.
func TestEstimate(t *testing.T) {
	sound := bytes.Repeat([]byte{0xff, 0xfb, 0x90, 0x00}, 512)
	for _, c := range []struct {
		name string
		a    answer
		body []byte
		want int64
	}{
		{"nothing", answer{endpoint: chatCompletions}, nil, 0},
		{"a space", answer{endpoint: chatCompletions}, []byte(" "), 1},
		{"text", answer{endpoint: audio}, []byte("WEBVTT\n\nforty bytes of words in all, so."), 10},
		{"sound", answer{endpoint: audio}, sound, 4},
		{"embeddings", answer{endpoint: embeddings}, []byte(`{"data":[{"embedding":[1,2,3]}]}`), 1},
		{"image", answer{endpoint: images}, []byte(`{"data":[{"b64_json":"` + strings.Repeat("A", 5120) + `"}]}`), 10},
		{"values, not keys", answer{endpoint: chatCompletions}, []byte(`{"a_very_long_key":"12345678","b":["1234",{"cccc":"\"\\"}]}`), 4},
		{"comments alone", answer{endpoint: chatCompletions, sse: true}, []byte(": ping\n\n: ping\n\n"), 1},
		{"pieces", answer{endpoint: messages, sse: true}, []byte(strings.Repeat("data: {\"delta\":{\"text\":\"a\"}}\n", 7)), 7},
		{"text of pieces", answer{endpoint: messages, sse: true}, []byte("data: {\"delta\":{\"text\":\"" + strings.Repeat("word", 9) + "\"}}\n"), 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.a.length = -1
			m, _, _ := feedMeter(t, c.a, c.body)
			if got := m.estimate(); got != c.want {
				t.Errorf("estimate %d, want %d", got, c.want)
			}
			if _, ok := m.reported(); ok {
				t.Error("something was reported")
			}
		})
	}
}

// The convention of usage, on numbers that need thought.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		e    endpoint
		text string
		want string
	}{
		{chatCompletions, `{"prompt_tokens":5,"total_tokens":9}`, "5+4"},
		{chatCompletions, `{"completion_tokens":5,"total_tokens":9}`, "4+5"},
		{chatCompletions, `{"total_tokens":9}`, "0+9"},
		{chatCompletions, `{"prompt_tokens":5,"completion_tokens":5,"total_tokens":3}`, "5+5"},
		{chatCompletions, `{"prompt_tokens":5,"completion_tokens":0}`, "5+0"},
		{chatCompletions, `{"prompt_tokens":10,"completion_tokens":1,"input_tokens":0,"output_tokens":0}`, "10+1"},
		{chatCompletions, `{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4},"cache_read_input_tokens":4,"cache_creation_input_tokens":3}`, "10+1 cached 4 written 3"},
		{chatCompletions, `{"prompt_tokens":2,"completion_tokens":3,"total_tokens":55,"prompt_tokens_details":{"audio_tokens":50}}`, "52+3"},
		{chatCompletions, `{"prompt_tokens":60,"completion_tokens":3,"total_tokens":70,"prompt_tokens_details":{"audio_tokens":50}}`, "60+10"},
		{chatCompletions, `{"prompt_tokens":60,"completion_tokens":3,"total_tokens":63,"completion_tokens_details":{"reasoning_tokens":9}}`, "60+3 reasoning 3"},
		{messages, `{"prompt_tokens":10,"completion_tokens":1,"cache_read_input_tokens":4}`, "10+1 cached 4"},
		{messages, `{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":3,"cache_creation_input_tokens":4}`, "8+2 cached 3 written 4"},
		{messages, `{"input_tokens":1,"output_tokens":2,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":4}}`, "10+2 written 9"},
		{messages, `{"input_tokens":23,"output_tokens":10,"iterations":[{"type":"compaction","input_tokens":180,"output_tokens":35},{"type":"message","input_tokens":23,"output_tokens":10,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0}},7]}`, "203+45"},
		{messages, `{"iterations":[{"type":"message","input_tokens":5,"output_tokens":6,"cache_read_input_tokens":2}],"input_tokens":5,"output_tokens":6,"cache_read_input_tokens":2}`, "7+6 cached 2"},
		{messages, `{"input_tokens":5,"output_tokens":6,"iterations":null}`, "5+6"},
		{embeddings, `{"prompt_tokens":5,"completion_tokens":0,"total_tokens":9}`, "9+0"},
		{chatCompletions, `{"prompt_tokens":-5,"completion_tokens":"7","total_tokens":null}`, "0+7"},
		{chatCompletions, `{"prompt_tokens":"1.5","completion_tokens":2.0,"cached_tokens":[1],"num_cached_tokens":"x"}`, "2+2"},
	} {
		n, err := readCounts(&cursor{b: []byte(c.text)})
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		u := n.usage(c.e, c.e == messages)
		got := fmt.Sprintf("%d+%d", u.Input, u.Output)
		if u.CachedInput > 0 {
			got += fmt.Sprintf(" cached %d", u.CachedInput)
		}
		if u.CacheWrite > 0 {
			got += fmt.Sprintf(" written %d", u.CacheWrite)
		}
		if u.Reasoning > 0 {
			got += fmt.Sprintf(" reasoning %d", u.Reasoning)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.text, got, c.want)
		}
	}
}

// A byte order mark before an answer hides nothing of it.
func TestByteOrderMark(t *testing.T) {
	for _, sse := range []bool{true, false} {
		text := "\ufeff" + `{"usage":{"prompt_tokens":5,"completion_tokens":6}}`
		if sse {
			text = "\ufeffdata: " + `{"usage":{"prompt_tokens":5,"completion_tokens":6}}` + "\n\n"
		}
		m := newMeter(answer{endpoint: chatCompletions, sse: sse, length: -1})
		if out, _ := m.pass([]byte(text)); string(out) != text {
			t.Errorf("passed on as %q", out)
		}
		m.finish()
		if u, ok := m.reported(); !ok || u != (db.Usage{Input: 5, Output: 6}) {
			t.Errorf("sse %v: %+v %v", sse, u, ok)
		}
	}
}

// A provider that reports half of the usage does not give the other half away.
func TestUsageWithoutItsOutput(t *testing.T) {
	const words = `{"choices":[{"message":{"content":"to be or not to be, that is the question"}}],"usage":`
	const event = `data: {"choices":[{"delta":{"content":"to be"}}]` + "}\n\n"
	for _, c := range []struct {
		answer        string
		input, output int64
		source        string
	}{
		{words + `{"prompt_tokens":3}}`, 3, 10, db.Estimated},
		{words + `{"prompt_tokens":3,"completion_tokens":0}}`, 3, 0, db.FromProvider},
		{words + `{"prompt_tokens":3,"total_tokens":8}}`, 3, 5, db.FromProvider},
		{`data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":0}}` + "\n\n" + event + event + "data: [DONE]\n\n", 3, 3, db.Estimated},
		{`data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":0}}` + "\n\ndata: [DONE]\n\n", 3, 0, db.FromProvider},
	} {
		p := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(c.answer, "data:") {
				w.Header().Set("Content-Type", "text/event-stream")
			}
			_, _ = io.WriteString(w, c.answer)
		})
		h := newHub(t, nil, p.URL+"/v1")
		h.want(h.ask("house"), 200, "a")
		if got := h.store.Records(); len(got) != 1 || got[0].Usage.Input != c.input || got[0].Usage.Output != c.output || got[0].Source != c.source {
			t.Errorf("%s: settled as %+v, want %d and %d, %s", c.answer, got, c.input, c.output, c.source)
		}
	}
}
