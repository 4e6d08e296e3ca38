package proxy

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tokenhub/db"
)

// recorded is one file of testdata/streams: what is expected on top, then the
// answer, then what is left of it when the usage event is taken out.
type recorded struct {
	answer         answer
	body, stripped []byte
	usage          db.Usage
	reported       bool
	known          db.Usage
	estimate       int64
	images, millis int64
	complete       bool
	errored        bool
}

func readRecorded(t *testing.T, path string) recorded {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := strings.Cut(string(text), "\n---\n")
	if !ok {
		t.Fatalf("%s has no body", path)
	}
	r := recorded{answer: answer{status: 200, length: -1}}
	body, stripped, ok := strings.Cut(body, "--- stripped\n")
	if !ok {
		stripped = body
	}
	r.body, r.stripped = []byte(body), []byte(stripped)
	for line := range strings.Lines(head) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		switch name {
		case "endpoint":
			r.answer.endpoint = endpointOf(value)
		case "type":
			r.answer.sse = value == "sse"
		case "usage":
			if r.reported = value != "none"; r.reported {
				r.usage = parseUsage(t, value)
				r.known = r.usage
			}
		case "known":
			r.known = parseUsage(t, value)
		case "estimate":
			fmt.Sscan(value, &r.estimate)
		case "images":
			fmt.Sscan(value, &r.images)
		case "millis":
			fmt.Sscan(value, &r.millis)
		case "complete":
			r.complete = value == "yes"
		case "errored":
			r.errored = value == "yes"
		}
	}
	return r
}

func parseUsage(t *testing.T, text string) (u db.Usage) {
	t.Helper()
	at := map[string]*int64{"input": &u.Input, "output": &u.Output, "cached": &u.CachedInput,
		"written": &u.CacheWrite, "reasoning": &u.Reasoning}
	for field := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(field, "=")
		if at[name] == nil {
			t.Fatalf("usage: %q", field)
		}
		if _, err := fmt.Sscan(value, at[name]); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// feedMeter passes the pieces of an answer through a new meter and returns it
// with what it let through. It fails when complete is said more than once, or
// what is reported then differs from what is at the end.
func feedMeter(t *testing.T, a answer, pieces ...[]byte) (m *meter, out []byte, complete bool) {
	t.Helper()
	m = newMeter(a)
	var then db.Usage
	for _, p := range pieces {
		passed, done := m.pass(p)
		if done {
			if complete {
				t.Error("complete was said twice")
			}
			complete = true
			then, _ = m.reported()
		}
		out = append(out, passed...)
	}
	out = append(out, m.finish()...)
	if now, _ := m.reported(); complete && now != then {
		t.Errorf("usage was %+v when the answer was complete, and %+v at its end", then, now)
	}
	return m, out, complete
}

func (r *recorded) check(t *testing.T, what string, m *meter, out, want []byte, complete bool) {
	t.Helper()
	if !bytes.Equal(out, want) {
		t.Fatalf("%s: passed on\n%q\nwant\n%q", what, out, want)
	}
	if u, ok := m.reported(); ok != r.reported || u != r.known {
		t.Fatalf("%s: reported %+v %v, want %+v %v", what, u, ok, r.known, r.reported)
	}
	if complete != r.complete {
		t.Fatalf("%s: complete %v, want %v", what, complete, r.complete)
	}
	if m.errored() != r.errored {
		t.Fatalf("%s: errored %v, want %v", what, m.errored(), r.errored)
	}
	if got := m.estimate(); got < 1 || r.estimate != 0 && got != r.estimate {
		t.Fatalf("%s: estimate %d, want %d", what, got, r.estimate)
	}
	if got := m.amounts(); got.images != r.images || got.millis != r.millis {
		t.Fatalf("%s: %+v, want %d images and %d ms", what, got, r.images, r.millis)
	}
}

// Each recorded answer, whole, cut in two at each byte and byte by byte, with
// each kind of line end, with and without taking the usage event out.
func TestRecordedStreams(t *testing.T) {
	paths, err := filepath.Glob("testdata/streams/*.txt")
	if err != nil || len(paths) < 40 {
		t.Fatalf("%d streams, %v", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		plain := readRecorded(t, path)
		for _, end := range []string{"\n", "\r\n", "\r"} {
			r := plain
			if end != "\n" {
				if !r.answer.sse {
					continue
				}
				r.body = bytes.ReplaceAll(plain.body, []byte("\n"), []byte(end))
				r.stripped = bytes.ReplaceAll(plain.stripped, []byte("\n"), []byte(end))
			}
			for _, strip := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%q/strip=%v", name, end, strip), func(t *testing.T) {
					r.cutEverywhere(t, strip)
				})
			}
		}
	}
}

func (r *recorded) cutEverywhere(t *testing.T, strip bool) {
	a, want := r.answer, r.body
	if strip {
		a.strip = true
		if a.sse {
			want = r.stripped
		}
	}
	m, out, complete := feedMeter(t, a, r.body)
	r.check(t, "whole", m, out, want, complete)
	for i := 1; i < len(r.body); i++ {
		if near := r.body[max(0, i-3):min(len(r.body), i+3)]; bytes.IndexByte(r.body, '\r') >= 0 && i%7 != 0 && bytes.IndexByte(near, '\r') < 0 {
			continue // other line ends make a difference at line ends only
		}
		m, out, complete := feedMeter(t, a, r.body[:i], r.body[i:])
		r.check(t, fmt.Sprintf("cut at %d", i), m, out, want, complete)
	}
	for _, size := range []int{1, 2, 3, 7, 100} {
		var pieces [][]byte
		for rest := r.body; len(rest) > 0; {
			n := min(size, len(rest))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		m, out, complete := feedMeter(t, a, pieces...)
		r.check(t, fmt.Sprintf("in pieces of %d", size), m, out, want, complete)
	}
}

// What is taken out never delays what is not: nothing is held at the end of an
// event, and an event is let go as soon as a choice is seen in it.
func TestStripHoldsNothingBack(t *testing.T) {
	paths, _ := filepath.Glob("testdata/streams/*-chat.txt")
	for _, path := range paths {
		r := readRecorded(t, path)
		if !r.answer.sse {
			continue
		}
		a := r.answer
		a.strip = true
		m := newMeter(a)
		var sent, passed int
		for i := range r.body {
			out, _ := m.pass(r.body[i : i+1])
			sent, passed = i+1, passed+len(out)
			if bytes.HasSuffix(r.body[:sent], []byte("\n\n")) && len(m.strip.held) > 0 {
				t.Fatalf("%s: at the end of an event %q is held", path, m.strip.held)
			}
			if bytes.HasSuffix(r.body[:sent], []byte(`"choices":[{`)) && len(m.strip.held) > 0 {
				t.Fatalf("%s: %q is held although it has a choice", path, m.strip.held)
			}
		}
	}
}

// Bytes that nothing is taken out of go on as they are, without a copy.
func TestPassesWithoutCopy(t *testing.T) {
	r := readRecorded(t, "testdata/streams/openai-chat.txt")
	m := newMeter(r.answer)
	chunks := bytes.SplitAfter(r.body, []byte("\n\n"))
	var i int
	for _, chunk := range chunks[:3] {
		if out, _ := m.pass(chunk); len(out) != len(chunk) || &out[0] != &chunk[0] {
			t.Fatal("the bytes were copied")
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.pass(chunks[1+i%2]); i++ }); n > 0 {
		t.Errorf("%v allocations for an event", n)
	}
}
