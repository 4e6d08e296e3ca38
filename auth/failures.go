package auth

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// What is tolerated within failureSpan, and how many IDs and addresses are
// watched at once.
const (
	failureSpan     = time.Minute
	failuresPerID   = 10
	failuresPerAddr = 20
	watchedMax      = 4096
)

// failures counts wrong secrets per ID and per address, each over the last
// minute to the moment.
type failures struct {
	mu    sync.Mutex
	ids   tally[string]
	addrs tally[netip.Prefix]
}

func newFailures(perID, perAddr int) *failures {
	return &failures{
		ids:   tally[string]{limit: perID, times: map[string][]time.Time{}},
		addrs: tally[netip.Prefix]{limit: perAddr, times: map[netip.Prefix][]time.Time{}},
	}
}

// add counts a failure of id from addr, or nothing when either has had too many
// already: then wait is how long until it has not.
func (f *failures) add(id string, addr netip.Prefix, now time.Time) (wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if wait = f.full(id, addr, now); wait == 0 {
		f.ids.add(id, now)
		f.addrs.add(addr, now)
	}
	return wait
}

// check returns what add would, and counts nothing.
func (f *failures) check(id string, addr netip.Prefix, now time.Time) (wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.full(id, addr, now)
}

// refund takes back what add counted at that time.
func (f *failures) refund(id string, addr netip.Prefix, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids.remove(id, at)
	f.addrs.remove(addr, at)
}

// score is how suspicious an attempt of id from addr is: the failures of both.
func (f *failures) score(id string, addr netip.Prefix, now time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ids.recent(id, now)) + len(f.addrs.recent(addr, now))
}

func (f *failures) full(id string, addr netip.Prefix, now time.Time) time.Duration {
	return max(f.ids.full(id, now), f.addrs.full(addr, now))
}

// tally is a log of the last failures of each key, at most limit of each. With
// a limit of 0 nothing is watched.
type tally[K comparable] struct {
	limit int
	times map[K][]time.Time // the oldest first, none empty
}

// recent returns the failures of k in the last minute and forgets the others.
func (t *tally[K]) recent(k K, now time.Time) []time.Time {
	list := t.times[k]
	old := 0
	for old < len(list) && now.Sub(list[old]) >= failureSpan {
		old++
	}
	if old == 0 {
		return list
	}
	if old == len(list) {
		delete(t.times, k)
		return nil
	}
	list = slices.Delete(list, 0, old)
	t.times[k] = list
	return list
}

// full returns how long it takes until there is room for another failure of k.
func (t *tally[K]) full(k K, now time.Time) time.Duration {
	list := t.recent(k, now)
	if len(list) < t.limit || t.limit == 0 {
		return 0
	}
	return list[0].Add(failureSpan).Sub(now)
}

func (t *tally[K]) add(k K, now time.Time) {
	if t.limit == 0 {
		return
	}
	list, known := t.times[k]
	if !known && len(t.times) >= watchedMax && !t.evict(now) {
		return
	}
	t.times[k] = append(list, now)
}

func (t *tally[K]) remove(k K, at time.Time) {
	list := t.times[k]
	for i := len(list) - 1; i >= 0; i-- {
		if !list[i].Equal(at) {
			continue
		}
		if list = slices.Delete(list, i, i+1); len(list) == 0 {
			delete(t.times, k)
		} else {
			t.times[k] = list
		}
		return
	}
}

// evict makes room. It looks at a few, chosen at random, and forgets those that
// are over, or if there are none the one with the fewest failures, of these the
// one that failed longest ago. One that is full is never forgotten, or a crowd
// could set somebody free; if it saw no other there is no room, and the newcomer
// is not watched.
func (t *tally[K]) evict(now time.Time) bool {
	const look = 32
	var victim K
	least, last, seen := t.limit, time.Time{}, 0
	for k := range t.times { // begins anywhere
		list := t.recent(k, now)
		if n := len(list); n > 0 && n < t.limit && (n < least || n == least && list[n-1].Before(last)) {
			victim, least, last = k, n, list[n-1]
		}
		if seen++; seen == look {
			break
		}
	}
	if len(t.times) < watchedMax {
		return true
	}
	if least == t.limit {
		return false
	}
	delete(t.times, victim)
	return true
}

// Origin is the address that failures are counted for: of IPv6 the /64, since
// that is what one caller usually has. Without an address it is the zero Prefix.
func Origin(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	bits := 32
	if from.Is6() {
		bits = 64
	}
	p, err := from.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all such callers are one
	}
	return p
}
