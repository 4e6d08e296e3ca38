package ui

import (
	"sync"

	"github.com/rs/zerolog"
)

// warningsPerSecond is how many of the warnings that anybody can cause are
// logged in one second: who floods must not fill the disk.
const warningsPerSecond = 20

// warnings counts the warnings that anybody can cause.
type warnings struct {
	mu      sync.Mutex // guards what follows
	second  int64
	logged  int
	leftOut int64
}

// warn begins a warning that anybody can cause; it is dropped, and counted in
// the next one, when there were too many in this second.
func (a *Admin) warn() *zerolog.Event {
	w := &a.warnings
	w.mu.Lock()
	defer w.mu.Unlock()
	if second := a.now().Unix(); second != w.second {
		w.second, w.logged = second, 0
	}
	if w.logged >= warningsPerSecond {
		w.leftOut++
		return nil // an event that logs nothing
	}
	w.logged++
	event := a.log.Warn()
	if w.leftOut > 0 {
		event.Int64("left_out", w.leftOut)
		w.leftOut = 0
	}
	return event
}
