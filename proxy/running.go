package proxy

import (
	"sync"

	"tokenhub/db"
)

// running knows the calls that are on their way, by key, so that the ones of a
// revoked key can be ended.
type running struct {
	mu    sync.Mutex // guards what follows
	byKey map[string]map[*flight]struct{}
	count int
	// idle is closed when the last call ended, while somebody waits for it.
	idle chan struct{}
}

func (r *running) add(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKey == nil {
		r.byKey = map[string]map[*flight]struct{}{}
	}
	set := r.byKey[f.key.ID]
	if set == nil {
		set = make(map[*flight]struct{}, 1)
		r.byKey[f.key.ID] = set
	}
	set[f] = struct{}{}
	r.count++
}

func (r *running) remove(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.byKey[f.key.ID]
	if _, ok := set[f]; !ok {
		return
	}
	delete(set, f)
	if len(set) == 0 {
		delete(r.byKey, f.key.ID)
	}
	if r.count--; r.count == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// keyChanged ends the calls of a key that was revoked.
func (r *running) keyChanged(k *db.Key) {
	if k.RevokedAt.IsZero() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for f := range r.byKey[k.ID] {
		f.end(errRevoked)
	}
}

// endAll ends all calls.
func (r *running) endAll(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, set := range r.byKey {
		for f := range set {
			f.end(cause)
		}
	}
}

// wait returns a channel that is closed once no call is running.
func (r *running) wait() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	if r.count == 0 {
		close(idle)
		r.idle = nil
	}
	return idle
}

// len is the number of calls that are on their way.
func (r *running) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}
