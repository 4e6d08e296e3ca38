package proxy

// Anthropic's streams state usage twice: message_start gives the input and a
// first output token, message_delta the cumulative counts at the end, of the
// output always, of the input where it was only then known. The input leaves
// out what was read from the cache or written to it.

// begin takes the usage of a message_start event.
func (r *report) begin(n counts) {
	if n.any() {
		r.counts, r.open = n, true
	}
}

// merge lays the usage of a message_delta event over what message_start said.
func (r *report) merge(n counts) {
	if !n.any() {
		return
	}
	if r.counts.any() {
		n = r.counts.overlay(n)
	}
	r.counts, r.open = n, false
}

// overlay replaces each count of n that later states. The counts are cumulative,
// so a later 0 is a field that its sender does not know, not an answer.
func (n counts) overlay(later counts) counts {
	over := func(at *int64, v int64) {
		if v > 0 || *at < 0 {
			*at = v
		}
	}
	over(&n.input, later.input)
	over(&n.output, later.output)
	over(&n.total, later.total)
	over(&n.cached, later.cached)
	over(&n.written, later.written)
	over(&n.read, later.read)
	over(&n.created, later.created)
	over(&n.reasoning, later.reasoning)
	over(&n.audio, later.audio)
	over(&n.millis, later.millis)
	n.prompt = n.prompt || later.prompt
	return n
}
