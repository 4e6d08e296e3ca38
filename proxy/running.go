package proxy

import (
	"sync"

	"tokenhub/db"
)

// running knows the calls that are on their way, so that the ones of a revoked
// key can be ended.
type running struct {
	mu  sync.Mutex // guards what follows, and the place of each
	all []*flight
	// idle is closed when the last call ended, while somebody waits for it.
	idle chan struct{}
}

func (r *running) add(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, f)
	f.place = len(r.all)
}

func (r *running) remove(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.place == 0 {
		return
	}
	// The last one takes its place.
	last := len(r.all) - 1
	r.all[f.place-1] = r.all[last]
	r.all[f.place-1].place = f.place
	r.all[last] = nil
	r.all = r.all[:last]
	f.place = 0
	if len(r.all) == 0 && r.idle != nil {
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
	for _, f := range r.all {
		if f.key.ID == k.ID {
			f.end(errRevoked)
		}
	}
}

// endAll ends all calls.
func (r *running) endAll(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.all {
		f.end(cause)
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
	if len(r.all) == 0 {
		close(idle)
		r.idle = nil
	}
	return idle
}

// len is the number of calls that are on their way.
func (r *running) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}
