package proxy

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"tokenhub/db"
)

// absent marks a count that a provider did not state. Absent is not zero: an
// explicit 0 is an answer, a missing field is not.
const absent = int64(-1)

// maxCount is the largest count that is believed. Sums of a few of them stay
// far from overflowing.
const maxCount = int64(1) << 40

// counts are the numbers of one usage object under the names of all dialects,
// not yet brought under one convention. Each is absent or at least 0.
type counts struct {
	input, output, total int64
	// cached and written are parts of input, as OpenAI counts.
	cached, written int64
	// read and created stand beside input where a message is Anthropic's, and
	// are parts of it elsewhere.
	read, created int64
	reasoning     int64
	// audio is the part of the input that is audio.
	audio int64
	// millis is the audio's length in milliseconds, where that is reported.
	millis int64
	// prompt says that input came as prompt_tokens, which always contains the
	// cached tokens.
	prompt bool
}

func noCounts() counts {
	return counts{absent, absent, absent, absent, absent, absent, absent, absent, absent, absent, false}
}

// any reports whether tokens were stated at all.
func (n counts) any() bool { return n.input >= 0 || n.output >= 0 || n.total >= 0 }

// zero reports whether all that was stated is nothing.
func (n counts) zero() bool { return n.input <= 0 && n.output <= 0 && n.total <= 0 }

// readCounts reads a usage object. It is as lenient as providers are diverse:
// names that it does not know are passed over, numbers may be floats or strings.
func readCounts(c *cursor) (counts, error) {
	n := noCounts()
	err := c.object(1, func(raw []byte) error {
		if c.next() == '{' {
			switch string(raw) {
			case "prompt_tokens_details", "input_tokens_details", "input_token_details", "prompt_token_details":
				return n.inputDetails(c)
			case "completion_tokens_details", "output_tokens_details", "output_token_details", "completion_token_details":
				return n.outputDetails(c)
			case "cache_creation":
				return n.creation(c)
			}
		}
		if string(raw) == "iterations" && c.next() == '[' {
			return n.iterations(c)
		}
		value, err := c.raw(2)
		if err != nil {
			return err
		}
		var at *int64
		switch string(raw) {
		case "prompt_tokens":
			at = &n.input
			n.prompt = n.prompt || tokenCount(value) > 0
		case "input_tokens":
			at = &n.input
		case "completion_tokens", "output_tokens":
			at = &n.output
		case "total_tokens":
			at = &n.total
		case "cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens":
			at = &n.cached
		case "cache_read_input_tokens":
			at = &n.read
		case "cache_creation_input_tokens":
			at = &n.created
		case "reasoning_tokens":
			at = &n.reasoning
		case "seconds", "prompt_audio_seconds":
			n.millis = max(n.millis, milliseconds(value))
			return nil
		default:
			return nil
		}
		*at = max(*at, tokenCount(value))
		return nil
	})
	return n, err
}

func (n *counts) inputDetails(c *cursor) error {
	return c.object(2, func(raw []byte) error {
		value, err := c.raw(3)
		if err != nil {
			return err
		}
		switch string(raw) {
		case "cached_tokens":
			n.cached = max(n.cached, tokenCount(value))
		case "cache_write_tokens", "cache_creation_tokens":
			n.written = max(n.written, tokenCount(value))
		case "audio_tokens":
			n.audio = max(n.audio, tokenCount(value))
		}
		return nil
	})
}

func (n *counts) outputDetails(c *cursor) error {
	return c.object(2, func(raw []byte) error {
		value, err := c.raw(3)
		if err != nil {
			return err
		}
		if string(raw) == "reasoning_tokens" {
			n.reasoning = max(n.reasoning, tokenCount(value))
		}
		return nil
	})
}

// creation reads Anthropic's split of cache_creation_input_tokens by lifetime.
// The sum says the same as that field, which some leave out.
func (n *counts) creation(c *cursor) error {
	var sum int64
	err := c.object(2, func(raw []byte) error {
		value, err := c.raw(3)
		if err == nil && bytes.HasSuffix(raw, []byte("_input_tokens")) {
			sum = min(maxCount, sum+max(0, tokenCount(value)))
		}
		return err
	})
	if sum > 0 {
		n.created = max(n.created, sum)
	}
	return err
}

// iterations reads Anthropic's list of what one message took to make. Where a
// context was compacted on the way the counts beside it leave that out, which is
// charged all the same: platform.claude.com/docs/en/build-with-claude/compaction-threshold.
func (n *counts) iterations(c *cursor) error {
	var sum counts
	err := c.array(2, func() error {
		if c.next() != '{' {
			return c.value(3)
		}
		return c.object(3, func(raw []byte) error {
			value, err := c.raw(4)
			if err != nil {
				return err
			}
			at := map[string]*int64{"input_tokens": &sum.input, "output_tokens": &sum.output,
				"cache_read_input_tokens": &sum.read, "cache_creation_input_tokens": &sum.created}[string(raw)]
			if at != nil {
				*at = min(maxCount, *at+max(0, tokenCount(value)))
			}
			return nil
		})
	})
	for _, one := range []struct {
		at  *int64
		sum int64
	}{{&n.input, sum.input}, {&n.output, sum.output}, {&n.read, sum.read}, {&n.created, sum.created}} {
		if one.sum > 0 {
			*one.at = max(*one.at, one.sum)
		}
	}
	return err
}

// raw skips one value and returns its bytes.
func (c *cursor) raw(depth int) ([]byte, error) {
	c.space()
	from := c.i
	err := c.value(depth)
	return c.b[from:c.i], err
}

// tokenCount reads a count leniently: a number, or a string that is one. Anything
// else is absent; negative ones are 0.
func tokenCount(value []byte) int64 {
	if n, ok := digits(value); ok {
		return min(n, maxCount)
	}
	x, ok := lenientNumber(value)
	if !ok {
		return absent
	}
	return int64(min(max(0, math.Ceil(x)), float64(maxCount)))
}

// digits reads a number that is a few digits and nothing else, as most are.
func digits(value []byte) (n int64, ok bool) {
	for _, ch := range value {
		if ch < '0' || ch > '9' {
			return 0, false
		}
		n = n*10 + int64(ch-'0')
	}
	return n, len(value) > 0 && len(value) < 16
}

// milliseconds reads a length in seconds.
func milliseconds(value []byte) int64 {
	x, ok := lenientNumber(value)
	if !ok {
		return absent
	}
	return int64(min(max(0, math.Ceil(x*1000)), float64(maxCount)))
}

func lenientNumber(value []byte) (float64, bool) {
	if len(value) == 0 || len(value) > 64 {
		return 0, false
	}
	text := strings.TrimSpace(strings.Trim(string(value), `"`))
	x, err := strconv.ParseFloat(text, 64)
	if math.IsNaN(x) || math.IsInf(x, 0) && err == nil { // the words, not a number too large
		return 0, false
	}
	return x, err == nil || math.IsInf(x, 0)
}

// usage brings the counts under TokenHub's convention: input contains what was
// read from a cache or written to it, output contains reasoning. Separate says
// that cached tokens stand beside the input, as in Anthropic's messages.
func (n counts) usage(e endpoint, separate bool) db.Usage {
	in, out := max(0, n.input), max(0, n.output)
	cached, written := max(0, n.cached, n.read), max(0, n.written, n.created)
	if separate && !n.prompt {
		in += max(0, n.read) + max(0, n.created)
	}
	if extra := n.total - in - out; extra > 0 {
		switch {
		case n.input < 0 && n.output >= 0, e.readsOnly(), e == audio, n.millis > 0:
			// Providers of embeddings state the total alone; those of audio leave the
			// audio out of the prompt.
			in += extra
		case n.audio > in, n.audio > 0 && n.audio == extra:
			in += min(extra, n.audio)
			out += max(0, extra-n.audio)
		default:
			// Here hides the reasoning that is not part of the completion.
			out += extra
		}
	}
	cached = min(cached, in)
	return db.Usage{
		Input:       in,
		Output:      out,
		CachedInput: cached,
		CacheWrite:  min(written, in-cached),
		Reasoning:   min(max(0, n.reasoning), out),
	}
}

// readsOnly reports whether models behind the endpoint write no tokens.
func (e endpoint) readsOnly() bool { return e == embeddings || e == rerank || e == moderations }

// usageOnly reports whether the JSON of a chat completion chunk holds usage and
// no more: choices that are empty, a usage object, and the envelope that each
// chunk has. A chunk that tells something else beside is not one.
func usageOnly(data []byte) bool {
	var empty, usage, more bool
	c := &cursor{b: data}
	err := c.object(0, func(raw []byte) error {
		kind := c.next()
		from := c.i
		if err := c.value(1); err != nil {
			return err
		}
		value := c.b[from:c.i]
		switch string(raw) {
		case "choices":
			empty = kind == '[' && hollow(value)
		case "usage":
			usage = kind == '{' && !hollow(value)
		case "x_groq", "time_info", "timings", "metrics", "stats":
			// Measurements that go with usage.
		default:
			more = more || (kind == '{' || kind == '[') && !hollow(value)
		}
		return nil
	})
	return err == nil && c.next() == 0 && c.i == len(data) && empty && usage && !more
}

// hollow reports whether an object or array has nothing in it.
func hollow(value []byte) bool { return len(bytes.TrimSpace(value[1:len(value)-1])) == 0 }
