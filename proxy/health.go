package proxy

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// restAfter is how many failures in a row make a target rest.
	restAfter = 3
	// firstRest is how long it rests at first. Each probe that fails doubles it,
	// up to longestRest.
	firstRest   = 5 * time.Second
	longestRest = time.Minute
	// longestWish bounds the Retry-After that a provider is believed.
	longestWish = 5 * time.Minute
	// fadeTime is the time in which what was measured loses most of its weight.
	fadeTime = 5 * time.Minute
	// mostCircuits bounds the targets that a provider's health is kept of: the
	// names of models come from callers.
	mostCircuits = 512
)

// health is how a provider is doing, as far as its answers tell; nobody is
// called to find out. Each of its served models has a circuit of its own: a
// model that is overloaded says nothing about the one beside it.
type health struct {
	mu       sync.Mutex // guards what follows
	circuits map[string]*circuit
	// all is measured over all models.
	all         stats
	lastError   string
	lastErrorAt time.Time
}

// circuit is the health of one target. One that rests is tried last; when the
// rest is over one call goes there as a probe, and its outcome decides.
type circuit struct {
	stats
	fails int // in a row
	rests bool
	// since is when it began to rest, or was last tried in vain; until is when it
	// may be probed; rest is how long it rested last.
	since, until time.Time
	rest         time.Duration
	probing      bool
	used         time.Time
}

// condition is what routing needs to know of a target.
type condition struct {
	known bool // something was measured
	// resting says that it is tried last; since and until tell from when on and
	// how long.
	resting      bool
	since, until time.Time
	// firstByte is the recent time to the first byte in seconds, errors the
	// recent share of failures; both fade to 0 when nothing is measured any more.
	firstByte, errors float64
}

func newHealth() *health { return &health{circuits: map[string]*circuit{}} }

// look tells how a target is.
func (h *health) look(served string, now time.Time) condition {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.circuits[served]
	if c == nil {
		return condition{}
	}
	return c.look(now)
}

func (c *circuit) look(now time.Time) condition {
	return condition{known: true, resting: c.rests && (c.probing || now.Before(c.until)), since: c.since, until: c.until,
		firstByte: c.firstByte * fade(now.Sub(c.firstByteAt)), errors: c.errorRate(now)}
}

// enter is asked before each attempt. Without ok the target rests and this call
// had better go elsewhere; one that has nowhere else to go comes by force. probe
// says that this attempt is the probe: exactly one of its outcomes must be told.
func (h *health) enter(served string, now time.Time, force bool) (probe, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.circuits[served]
	switch {
	case c == nil || !c.rests:
		return false, true
	case !c.probing && !now.Before(c.until):
		c.probing = true
		return true, true
	}
	return false, force
}

// change is what an outcome changed about a target's rest.
type change uint8

const (
	unchanged change = iota
	beganToRest
	recovered
)

// answered notes that an attempt which began at start got the first byte of a
// good answer after a time. It ends a rest that began before the attempt did.
func (h *health) answered(served string, start, now time.Time, after time.Duration, probe bool) change {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.circuit(served, now)
	c.firstByteIn(now, after)
	h.all.firstByteIn(now, after)
	c.count(now, true)
	h.all.count(now, true)
	if probe {
		c.probing = false
	}
	if !c.rests || start.Before(c.since) {
		return unchanged
	}
	c.rests, c.probing = false, false
	return recovered
}

// completed notes that a good answer came to its end. Only this ends a row of
// failures: some break off each answer that they begin.
func (h *health) completed(served string, start time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.circuits[served]; c != nil && !c.rests && !start.Before(c.since) {
		c.fails, c.rest = 0, 0
	}
}

// failed notes that an attempt which began at start failed, and why. wish is
// the time for which the provider asked to be left alone, 0 = none.
func (h *health) failed(served string, start, now time.Time, why string, wish time.Duration, probe bool) change {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.circuit(served, now)
	c.count(now, false)
	h.all.count(now, false)
	h.lastError, h.lastErrorAt = why, now
	c.fails++
	if probe {
		c.probing = false
	}
	switch {
	case c.rests && start.Before(c.since):
		// It was on its way when the rest began, which knows about this already.
		return unchanged
	case c.rests && !probe:
		c.since = now
		if wish > 0 {
			c.until = later(c.until, now.Add(wish))
		}
		return unchanged
	case !c.rests && c.fails < restAfter && wish == 0:
		return unchanged
	}
	c.rest = min(max(firstRest, 2*c.rest), longestRest)
	c.since, c.until = now, now.Add(c.rest)
	if wish > 0 {
		c.until = now.Add(wish)
	}
	if c.rests {
		return unchanged
	}
	c.rests = true
	return beganToRest
}

// left notes that an attempt says nothing about the target: the caller left, or
// the provider found fault with the request.
func (h *health) left(served string, probe bool) {
	if !probe {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.circuits[served]; c != nil {
		c.probing = false
	}
}

// noList notes that the list of a provider's models can't be read; that alone
// makes nothing rest.
func (h *health) noList(now time.Time, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastError, h.lastErrorAt = why, now
}

// circuit returns the circuit of a served model, a new one if need be.
func (h *health) circuit(served string, now time.Time) *circuit {
	c := h.circuits[served]
	if c == nil {
		if len(h.circuits) >= mostCircuits {
			h.forgetOldest()
		}
		c = &circuit{}
		h.circuits[served] = c
	}
	c.used = now
	return c
}

func (h *health) forgetOldest() {
	oldest, found := "", false
	for name, c := range h.circuits {
		if !c.probing && (!found || c.used.Before(h.circuits[oldest].used)) {
			oldest, found = name, true
		}
	}
	delete(h.circuits, oldest)
}

// stats are measurements that fade with time.
type stats struct {
	at        time.Time // when good and bad were last faded
	good, bad float64
	// firstByte is a moving average in seconds.
	firstByte   float64
	firstByteAt time.Time
}

// fade is what is left of a weight of 1 after a time.
func fade(d time.Duration) float64 {
	return math.Exp(-float64(max(0, d)) / float64(fadeTime))
}

func (s *stats) count(now time.Time, good bool) {
	left := fade(now.Sub(s.at))
	s.good, s.bad, s.at = s.good*left, s.bad*left, now
	if good {
		s.good++
	} else {
		s.bad++
	}
}

// firstByteIn moves the average: the newest measurement weighs a fifth, more
// when the ones before it are old.
func (s *stats) firstByteIn(now time.Time, after time.Duration) {
	old := 0.0
	if !s.firstByteAt.IsZero() {
		old = 0.8 * fade(now.Sub(s.firstByteAt))
	}
	s.firstByte = old*s.firstByte + (1-old)*after.Seconds()
	s.firstByteAt = now
}

// errorRate is the share of failures, as if there had been one success more:
// so a single failure long ago fades to nothing.
func (s *stats) errorRate(now time.Time) float64 {
	left := fade(now.Sub(s.at))
	return s.bad * left / ((s.good+s.bad)*left + 1)
}

// share is the plain share of failures, for people to read; 0 when what was
// measured has faded.
func (s *stats) share(now time.Time) float64 {
	if (s.good+s.bad)*fade(now.Sub(s.at)) < 0.1 {
		return 0
	}
	return s.bad / (s.good + s.bad)
}

// wishOf reads for how long a provider that answered 429 or 503 wants to be left
// alone; 0 when it does not say.
func wishOf(status int, h Headers, now time.Time) time.Duration {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	d := time.Duration(0)
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		d = seconds(ms / 1000)
	} else if s, err := strconv.ParseFloat(h.Get("Retry-After"), 64); err == nil {
		d = seconds(s)
	} else if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		d = at.Sub(now)
	}
	return max(0, min(d, longestWish))
}

// seconds is a duration within the bound of a wish; what is no number is 0.
func seconds(s float64) time.Duration {
	if !(s > 0) {
		return 0
	}
	return time.Duration(min(s, longestWish.Seconds()) * float64(time.Second))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
