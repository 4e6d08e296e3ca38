package proxy

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"tokenhub/db"
)

// The strategies by which a target is chosen among those of one name.
const (
	byPriority     = "priority"     // in the order of the configuration
	byRoundRobin   = "round-robin"  // in turn, by weight
	byLatency      = "latency"      // lowest recent time to first byte
	byCost         = "cost"         // lowest price
	byAvailability = "availability" // lowest recent share of failures
)

var strategies = []string{byPriority, byRoundRobin, byLatency, byCost, byAvailability}

// group is one name of a route: the one asked for, or a fallback. Its targets
// are ordered among themselves; groups follow each other.
type group struct {
	name, strategy string
	// rotation is whose turn it is; nil where there is nothing to rotate.
	rotation *rotation
}

// candidate is a target with what its place in the order depends on.
type candidate struct {
	target
	condition
	// full says that it runs as many requests as it may.
	full bool
}

// order puts the targets that are left of a route into the order in which they
// are tried now: by the strategy of their name, names in the route's order. A
// full target stands behind those of its name that have room, a resting one
// behind all others; of these the one that rested longest is first. With take
// the turn of a rotation is used up.
func (s *state) order(r *route, left []target, d demand, now time.Time, take bool) []candidate {
	ordered := make([]candidate, 0, len(left))
	var resting []candidate
	for i, g := range r.groups {
		var free, full []candidate
		for _, t := range left {
			if t.group != i {
				continue
			}
			c := candidate{target: t, condition: t.provider.health.look(t.served, now), full: t.provider.queue.full()}
			switch {
			case c.resting:
				resting = append(resting, c)
			case c.full:
				full = append(full, c)
			default:
				free = append(free, c)
			}
		}
		first := take && len(ordered) == 0
		ordered = append(ordered, s.sort(g, free, d, first)...)
		ordered = append(ordered, s.sort(g, full, d, first && len(free) == 0)...)
	}
	slices.SortStableFunc(resting, func(a, b candidate) int { return a.since.Compare(b.since) })
	return append(ordered, resting...)
}

// sort orders targets of one name by its strategy; equals stay in the order of
// the configuration.
func (s *state) sort(g group, list []candidate, d demand, take bool) []candidate {
	if len(list) == 0 {
		return nil
	}
	var worth func(c *candidate) float64
	switch g.strategy {
	case byRoundRobin:
		if g.rotation != nil {
			return g.rotation.sort(list, take)
		}
		return list
	case byLatency:
		// One that was not measured for long is worth a try: its value fades to 0.
		worth = func(c *candidate) float64 { return c.firstByte }
	case byCost:
		worth = func(c *candidate) float64 { return s.estimate(c.target, d) }
	case byAvailability:
		worth = func(c *candidate) float64 { return c.errors }
	default:
		return list
	}
	type valued struct {
		candidate
		value float64
	}
	sorted := make([]valued, len(list))
	for i := range list {
		sorted[i] = valued{list[i], worth(&list[i])}
	}
	slices.SortStableFunc(sorted, func(a, b valued) int { return cmp.Compare(a.value, b.value) })
	for i := range sorted {
		list[i] = sorted[i].candidate
	}
	return list
}

// estimate is what a request may cost at a target, in micro-dollars; infinite
// where there is no price.
func (s *state) estimate(t target, d demand) float64 {
	price, ok := s.prices.lookupFor(d, t.provider.Name, t.served)
	if !ok {
		return math.Inf(1)
	}
	// Rounded to whole micro-dollars, small requests would all cost the same.
	const scale, most = 1000, 1 << 40
	many := func(n int64) int64 { return scale * min(n, most) }
	return float64(price.cost(db.Usage{Input: many(max(1, d.input)), Output: many(d.output)},
		amounts{images: many(d.besides.images), calls: many(d.besides.calls), millis: many(d.besides.millis)}))
}

// rotation remembers whose turn it is among the targets of a name: smooth
// weighted round robin, so that a target of weight 3 beside one of weight 1 gets
// each turn but the fourth, not three in a row and then none.
type rotation struct {
	mu   sync.Mutex // guards what follows
	lead map[place]int
}

// place names a target.
type place struct{ provider, served string }

func newRotation() *rotation { return &rotation{lead: map[place]int{}} }

// sort puts the target whose turn it is first, the others behind it as their
// turns would come. With take the turn is used up. Only who is in the list takes
// part: the share of one that rests goes to the others by their weight.
func (r *rotation) sort(list []candidate, take bool) []candidate {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := 0
	for i := range list {
		total += list[i].weight
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return (r.lead[b.place()] + b.weight) - (r.lead[a.place()] + a.weight)
	})
	if take {
		for i := range list {
			r.lead[list[i].place()] += list[i].weight
		}
		r.lead[list[0].place()] -= total
	}
	return list
}

func (t target) place() place { return place{t.provider.Name, t.served} }
