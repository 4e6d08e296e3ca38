package proxy

import (
	"sync"
	"time"
)

// origin is a moment of the steady clock that does not move when the time of day
// is set.
var origin = time.Now()

// steady returns how long ago origin was, in nanoseconds.
func steady() int64 { return int64(time.Since(origin)) }

// idleTimer ends what has been silent for too long.
type idleTimer struct {
	limit time.Duration
	// silent tells for how long it has been silent now.
	silent func() time.Duration
	end    func()

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	stopped bool
}

// startIdle calls end once silent reports the limit or more. A limit of 0 is
// none, and the timer nil.
func startIdle(limit time.Duration, silent func() time.Duration, end func()) *idleTimer {
	if limit <= 0 {
		return nil
	}
	t := &idleTimer{limit: limit, silent: silent, end: end}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(limit, t.look)
	return t
}

// look is called when it could have been silent for long enough.
func (t *idleTimer) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	silent := t.silent()
	if silent >= t.limit {
		t.stopped = true
		t.end()
		return
	}
	t.timer.Reset(t.limit - silent)
}

// stop ends the watch; a nil timer needs none.
func (t *idleTimer) stop() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	t.timer.Stop()
}
