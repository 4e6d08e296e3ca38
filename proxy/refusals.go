package proxy

import (
	"sync"
	"time"
)

// refusalsPerSecond is how many refused requests are logged in one second; a
// flood of wrong keys must not fill the disk.
const refusalsPerSecond = 20

// refusals decides which refused requests are logged.
type refusals struct {
	mu      sync.Mutex // guards what follows
	second  int64
	logged  int
	leftOut int64
}

// log reports whether a refusal at this time is logged, and how many were left
// out since the last one that was.
func (r *refusals) log(now time.Time) (ok bool, leftOut int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := now.Unix(); s != r.second {
		r.second, r.logged = s, 0
	}
	if r.logged >= refusalsPerSecond {
		r.leftOut++
		return false, 0
	}
	r.logged++
	leftOut, r.leftOut = r.leftOut, 0
	return true, leftOut
}
