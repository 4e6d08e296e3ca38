package proxy

import (
	"strings"
	"testing"
	"time"

	"tokenhub/config"
)

// routing is a state with providers a, b, c ... behind the name house, on a
// clock that stands still until it is moved.
type routing struct {
	t     *testing.T
	state *state
	now   time.Time
	route *route
	d     demand
}

func newRouting(t *testing.T, strategy string, weights ...int) *routing {
	t.Helper()
	cfg := config.Defaults()
	cfg.Routing.Strategy = strategy
	house := config.Model{Name: "house"}
	for i, w := range weights {
		name := string(rune('a' + i))
		cfg.Providers = append(cfg.Providers, config.Provider{Name: name, BaseURL: "http://" + name + ".invalid/v1", Auth: "none"})
		house.Targets = append(house.Targets, config.Target{Provider: name, Model: "m", Weight: w})
	}
	cfg.Models = []config.Model{house}
	s, err := newState(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &routing{t: t, state: s, now: time.Date(2027, 3, 17, 10, 0, 0, 0, time.UTC), route: &route{}, d: demand{input: 1000, output: 100}}
	targets := make([]target, 0, len(weights))
	for _, tg := range house.Targets {
		targets = append(targets, target{provider: s.byName[tg.Provider], asked: "house", served: "m", weight: tg.Weight})
	}
	r.route.add(s.group("house", ""), targets)
	return r
}

// order is the order of the targets now, as "abc".
func (r *routing) order(take bool) string {
	var names strings.Builder
	for _, c := range r.state.order(r.route, r.route.targets, r.d, r.now, take) {
		names.WriteString(c.provider.Name)
	}
	return names.String()
}

func (r *routing) want(what, order string) {
	r.t.Helper()
	if got := r.order(false); got != order {
		r.t.Errorf("%s: order %s, want %s", what, got, order)
	}
}

func (r *routing) of(name string) *health { return r.state.byName[name].health }

// good is a complete answer whose first byte came after a time.
func (r *routing) good(name string, after time.Duration) {
	r.of(name).answered("m", r.now, r.now, after, false)
	r.of(name).completed("m", r.now)
}

func (r *routing) bad(name string) change {
	return r.of(name).failed("m", r.now, r.now, "5xx", 0, false)
}

func (r *routing) later(d time.Duration) { r.now = r.now.Add(d) }

func TestPriorityKeepsTheOrderOfTheConfiguration(t *testing.T) {
	r := newRouting(t, byPriority, 1, 1, 1)
	r.good("b", time.Millisecond)
	r.bad("a")
	r.want("whatever was measured", "abc")
}

func TestRoundRobinIsSmoothAndWeighted(t *testing.T) {
	r := newRouting(t, byRoundRobin, 5, 1, 1)
	var turns strings.Builder
	for range 14 {
		r.want("looking takes no turn", r.order(false))
		turns.WriteString(r.order(true)[:1])
	}
	if got := turns.String(); got != "aabacaaaabacaa" {
		t.Errorf("turns %s, want aabacaaaabacaa", got)
	}
}

func TestRoundRobinSharesOutTheTurnsOfOneThatRests(t *testing.T) {
	r := newRouting(t, byRoundRobin, 2, 1, 1)
	for range restAfter {
		r.bad("a")
	}
	count := map[byte]int{}
	for range 100 {
		order := r.order(true)
		count[order[0]]++
		if order[2] != 'a' {
			t.Fatalf("order %s, want the resting a last", order)
		}
	}
	if count['b'] != 50 || count['c'] != 50 {
		t.Errorf("b got %d and c %d of 100 turns, want 50 each", count['b'], count['c'])
	}
}

func TestLatencyTakesTheFastestOfLate(t *testing.T) {
	r := newRouting(t, byLatency, 1, 1, 1)
	r.good("a", 300*time.Millisecond)
	r.good("b", 100*time.Millisecond)
	r.want("one that nobody measured is tried", "cba")
	r.good("c", 200*time.Millisecond)
	r.want("all measured", "bca")
	for range 10 {
		r.good("b", 900*time.Millisecond)
	}
	r.want("b became slow", "cab")
	r.bad("c")
	r.want("a failure is no measurement", "cab")
	for range 30 {
		r.later(time.Minute)
		r.good("c", 200*time.Millisecond)
	}
	r.want("what is old fades, so that the others are tried again", "abc")
}

func TestCostTakesTheCheapest(t *testing.T) {
	r := newRouting(t, byCost, 1, 1, 1, 1)
	r.state.prices = newPrices([]config.Price{
		{Model: "a/m", Input: 1_000_000, Output: 9_000_000, Tokens: true},
		{Model: "b/m", Input: 2_000_000, Output: 2_000_000, Tokens: true},
		{Model: "d/m", Tokens: true},
	}, nil)
	r.d = demand{input: 1000, output: 10}
	r.want("much input", "dabc")
	r.d = demand{input: 10, output: 1000}
	r.want("much output", "dbac")
	r.d = demand{}
	r.want("nothing to count: by the price of input", "dabc")
	r.d = demand{input: 1, output: 1 << 62}
	r.want("a bound beyond all numbers", "dbac")
}

func TestAvailabilityTakesTheOneWithTheFewestFailures(t *testing.T) {
	r := newRouting(t, byAvailability, 1, 1, 1)
	r.want("nothing measured", "abc")
	for range 20 {
		for _, p := range []string{"a", "b", "c"} {
			r.good(p, time.Second)
		}
	}
	r.bad("a")
	r.bad("a")
	r.bad("b")
	r.want("two failures, one, none", "cba")
	r.later(time.Hour)
	r.bad("c")
	r.want("an hour ago weighs next to nothing", "bac")
}

func TestRestingChangesTheOrderOnly(t *testing.T) {
	r := newRouting(t, byPriority, 1, 1, 1)
	fail := func(name string) {
		t.Helper()
		for i := range restAfter {
			if got, want := r.bad(name) == beganToRest, i == restAfter-1; got != want {
				t.Fatalf("failure %d of %s: began to rest is %v, want %v", i+1, name, got, want)
			}
		}
	}
	fail("b")
	r.want("b rests", "acb")
	r.later(time.Second)
	fail("a")
	r.want("b rested longer", "cba")
	r.later(time.Second)
	fail("c")
	r.want("all rest", "bac")
	r.later(time.Second)
	r.bad("b")
	r.want("b was tried in vain just now", "acb")
	r.later(firstRest)
	r.want("all may be probed", "abc")
	if probe, ok := r.of("a").enter("m", r.now, false); !probe || !ok {
		t.Fatal("the first one is not the probe")
	}
	r.want("a is being probed", "bca")
	if probe, ok := r.of("a").enter("m", r.now, false); probe || ok {
		t.Error("a second one goes there while the probe is on its way")
	}
	if probe, ok := r.of("a").enter("m", r.now, true); probe || !ok {
		t.Error("one that has nowhere else to go is turned away")
	}
	r.of("a").left("m", true)
	r.want("the probe's caller left", "abc")
	r.of("a").enter("m", r.now, false)
	if got := r.of("a").answered("m", r.now, r.now, time.Second, true); got != recovered {
		t.Errorf("the probe was answered: change %v, want recovered", got)
	}
	r.want("a answers again", "abc")
}

func TestFullTargetsStandBehindThoseWithRoom(t *testing.T) {
	r := newRouting(t, byPriority, 1, 1, 1)
	for _, name := range []string{"a", "b"} {
		r.state.byName[name].queue.resize(1)
	}
	r.state.byName["a"].queue.try()
	r.want("a is full", "bca")
	r.state.byName["b"].queue.try()
	r.want("a and b are full", "cab")
	for range restAfter {
		r.bad("c")
	}
	r.want("better wait than try one that rests", "abc")
	r.state.byName["a"].queue.leave()
	r.want("a has room again", "abc")
}

func TestFallbacksFollowInTheirOrder(t *testing.T) {
	r := newRouting(t, byPriority, 1, 1, 1)
	all := r.route.targets
	r.route = &route{}
	r.route.add(r.state.group("house", byLatency), all[:2])
	r.route.add(r.state.group("other", byLatency), all)
	if len(r.route.targets) != 3 {
		t.Fatalf("%d targets, want each once", len(r.route.targets))
	}
	r.good("a", time.Second)
	r.want("the faster of the name, then the fallback", "bac")
	r.state.byName["b"].queue.resize(1)
	r.state.byName["b"].queue.try()
	r.state.byName["a"].queue.resize(1)
	r.state.byName["a"].queue.try()
	r.want("a fallback does not stand in for a name that is full", "bac")
	for range restAfter {
		r.bad("b")
	}
	r.want("but for one that rests", "acb")
}
