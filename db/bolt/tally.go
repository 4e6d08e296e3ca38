package bolt

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"tokenhub/db"
)

// keptWindows is how many windows of a kind are kept per key: the current one
// and some before it, so that a clock that is set back finds the counters of the
// window it is in again.
const keptWindows = 3

// tally is what was used and is held in one window. Running reservations point
// to the tallies they were made in, which therefore live on when the window is
// over.
type tally struct {
	window                 db.Window
	requests, tokens, cost int64
	tokensHeld, costHeld   held
	// fresh says that it is in no series yet, see look.
	fresh bool
}

// charge counts what was used for good.
func (t *tally) charge(tokens, cost int64) {
	t.tokens, t.cost = plus(t.tokens, tokens), plus(t.cost, cost)
}

// plus adds two numbers that are not negative; what does not fit becomes the
// largest number, so that no report of a provider's can turn a count negative.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// held is the sum of holds. Huge ones, which stand for requests without any
// bound, are only counted, so that taking them out again is exact.
type held struct{ sum, huge int64 }

// hugeHold is far above any use, and 32,000 of them still fit an int64.
const hugeHold = 1 << 48

func (h *held) add(n int64) {
	if n >= hugeHold {
		h.huge++
	} else {
		h.sum += n
	}
}

func (h *held) take(n int64) {
	if n >= hugeHold {
		h.huge--
	} else {
		h.sum -= n
	}
}

func (h *held) value() int64 {
	if h.huge > 0 {
		return math.MaxInt64
	}
	return h.sum
}

// use returns the tally as the contract tells it.
func (t *tally) use() db.WindowUse {
	return db.WindowUse{Requests: t.requests, Tokens: t.tokens, Cost: t.cost,
		HeldTokens: t.tokensHeld.value(), HeldCost: t.costHeld.value(), Resets: t.window.End}
}

// series is the newest tallies of one kind of window, the newest first.
type series struct {
	list [keptWindows]*tally
}

// find returns the tally that a claim made at t counts in, nil if that window
// was not used yet and is to be made.
func (s *series) find(t time.Time) *tally {
	for _, one := range s.list {
		if one == nil {
			return nil
		}
		if one.window.Contains(t) {
			return one
		}
	}
	// A clock that was set back further than what is known must not open an
	// empty day or month: such a claim counts in the oldest one. Minutes do begin
	// anew, or that one would be full until the clock is there again.
	if oldest := s.list[keptWindows-1]; t.Before(oldest.window.Start) && !isMinute(oldest.window) {
		return oldest
	}
	return nil
}

func isMinute(w db.Window) bool { return w.End.Sub(w.Start) == time.Minute }

// look returns the tally of t to be read only. For a window that was not used yet
// it is a fresh one, which the series forgets unless it is kept.
func (s *series) look(t time.Time, window func(time.Time) db.Window) *tally {
	if one := s.find(t); one != nil {
		return one
	}
	return &tally{window: window(t), fresh: true}
}

// keep returns what look returned, to be counted in: a window begins with it.
func (s *series) keep(one *tally) *tally {
	if one.fresh {
		one.fresh = false
		s.insert(one)
	}
	return one
}

// at returns the tally of t to be counted in.
func (s *series) at(t time.Time, window func(time.Time) db.Window) *tally {
	return s.keep(s.look(t, window))
}

// insert puts a new tally in its place; the oldest one goes. Behind all that are
// kept it is the first one of a clock that was set back, and the others go.
func (s *series) insert(one *tally) {
	i := 0
	for i < keptWindows && s.list[i] != nil && s.list[i].window.Start.After(one.window.Start) {
		i++
	}
	if i == keptWindows {
		i, s.list = 0, [keptWindows]*tally{}
	}
	copy(s.list[i+1:], s.list[i:])
	s.list[i] = one
}

// sum is what the file keeps of a tally.
type sum struct {
	start                  int64 // of the window, Unix seconds; 0 for the total
	requests, tokens, cost int64
}

// counters is what the file keeps of one key's use, or of one provider's spend.
type counters struct {
	// days and months are the newest windows, the newest first.
	days, months []sum
	total        sum
}

// add counts one settlement.
func (c *counters) add(day, month, tokens, cost int64) {
	c.days = addTo(c.days, sum{day, 1, tokens, cost})
	c.months = addTo(c.months, sum{month, 1, tokens, cost})
	c.total = sum{0, c.total.requests + 1, plus(c.total.tokens, tokens), plus(c.total.cost, cost)}
}

// merge counts what others counted.
func (c *counters) merge(o *counters) {
	for _, s := range o.days {
		c.days = addTo(c.days, s)
	}
	for _, s := range o.months {
		c.months = addTo(c.months, s)
	}
	c.total = sum{0, c.total.requests + o.total.requests, plus(c.total.tokens, o.total.tokens), plus(c.total.cost, o.total.cost)}
}

// addTo adds s to the window of the same start, or begins that window. What lies
// before the oldest of a full list counts in the total only.
func addTo(list []sum, s sum) []sum {
	i, found := slices.BinarySearchFunc(list, s.start, func(x sum, start int64) int {
		switch {
		case x.start > start:
			return -1
		case x.start < start:
			return 1
		}
		return 0
	})
	if !found {
		list = slices.Insert(list, i, s)
		return list[:min(len(list), keptWindows)]
	}
	x := &list[i]
	x.requests, x.tokens, x.cost = x.requests+s.requests, plus(x.tokens, s.tokens), plus(x.cost, s.cost)
	return list
}

// encode returns the counters for the file.
func (c *counters) encode() []byte {
	var b []byte
	for _, list := range [][]sum{c.days, c.months, {c.total}} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			for _, n := range [...]int64{s.start, s.requests, s.tokens, s.cost} {
				b = binary.AppendVarint(b, n)
			}
		}
	}
	return b
}

var errCounters = errors.New("damaged counters")

// decodeCounters is the inverse of encode.
func decodeCounters(b []byte) (*counters, error) {
	var lists [3][]sum
	for i := range lists {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > keptWindows {
			return nil, errCounters
		}
		b, lists[i] = b[size:], make([]sum, 0, n)
		for range n {
			var v [4]int64
			for k := range v {
				if v[k], size = binary.Varint(b); size <= 0 {
					return nil, errCounters
				}
				b = b[size:]
			}
			lists[i] = append(lists[i], sum{v[0], v[1], v[2], v[3]})
		}
	}
	if len(lists[2]) != 1 || len(b) != 0 {
		return nil, errCounters
	}
	return &counters{lists[0], lists[1], lists[2][0]}, nil
}
