package proxy

import "tokenhub/db"

// report gathers what a provider says about one answer.
type report struct {
	endpoint endpoint
	counts   counts
	// separate: see counts.usage.
	separate bool
	// open: the counts are those of the beginning of a message; the output is
	// still to come.
	open   bool
	failed bool
	images int64
	millis int64
}

// replace takes a usage object that stands for the whole answer. The last one
// counts, but zeros do not take back what was reported.
func (r *report) replace(n counts) {
	r.millis = max(r.millis, n.millis)
	if n.any() && (!r.counts.any() || !n.zero()) {
		r.counts, r.open = n, false
	}
}

// event reads the JSON of one event and reports whether it completes the answer.
func (r *report) event(data []byte) (complete bool) {
	var typ []byte
	usage, start := noCounts(), noCounts()
	c := &cursor{b: data}
	// An event that breaks off or is malformed counts as far as it was read.
	_ = c.object(0, func(raw []byte) (err error) {
		kind := c.next()
		switch string(raw) {
		case "usage":
			if kind == '{' {
				usage, err = readCounts(c)
				return err
			}
		case "x_groq", "response":
			if kind == '{' {
				return c.usageIn(&usage)
			}
		case "message":
			if kind == '{' {
				return c.usageIn(&start)
			}
		case "choices":
			if kind == '[' {
				return c.array(1, func() error {
					if c.next() != '{' {
						return c.value(2)
					}
					return c.usageIn(&usage)
				})
			}
		case "error":
			if kind == '{' || kind == '"' {
				r.failed = true
			}
		case "type":
			if kind == '"' {
				typ, err = c.str()
				return err
			}
		}
		return c.value(1)
	})
	switch string(typ) {
	case "message_start":
		r.separate = true
		r.begin(start)
		return false
	case "message_delta":
		r.separate = true
		r.merge(usage)
		return false
	}
	if r.endpoint == messages {
		r.merge(usage)
	} else {
		r.replace(usage)
	}
	return r.typed(typ)
}

// typed takes the type of an event and reports whether such an event completes
// the answer.
func (r *report) typed(typ []byte) (complete bool) {
	switch string(typ) {
	case "message_stop", "response.completed", "response.incomplete":
		return true
	case "response.failed":
		r.failed = true
		return true
	case "error":
		r.failed = true
	case "image_generation.completed", "image_edit.completed":
		r.images++
	}
	return false
}

// usageIn reads the usage member of an object into n, if there is one.
func (c *cursor) usageIn(n *counts) error {
	return c.object(1, func(raw []byte) error {
		if string(raw) == "usage" && c.next() == '{' {
			found, err := readCounts(c)
			if err == nil && found.any() {
				*n = found
			}
			return err
		}
		return c.value(2)
	})
}

// usage is what was reported so far. It is final and true to the whole answer
// only with ok; without, the input may be known all the same.
func (r *report) usage() (u db.Usage, ok bool) {
	if !r.counts.any() {
		return db.Usage{}, false
	}
	separate := r.separate || r.endpoint == messages
	return r.counts.usage(r.endpoint, separate), !r.open
}
