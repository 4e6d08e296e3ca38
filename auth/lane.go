package auth

import (
	"context"
	"runtime/debug"
	"sync"
	"time"
)

// The bounds of a lane.
const (
	queueMax      = 512 // jobs that wait
	queuePerGroup = 8   // jobs that wait in one group
	busyRetry     = 2 * time.Second
	// gap is the time that a wrong job costs all others.
	gap = 200 * time.Millisecond
	// inTime is the age below which a job can still be answered within a second.
	inTime = 750 * time.Millisecond
	// idleAfter is when a lane that has nothing to do is idle.
	idleAfter = time.Second
)

// lane runs the slow computations: a few at a time, equal ones once, slowly
// after wrong ones, the least suspicious first. It runs no goroutine while it is
// idle.
//
// The problem it solves: nobody can tell a wrong secret from the first use of a
// right one without computing, wrong ones may have no more than five
// computations a second, and the first use of a right one shall not wait a
// second behind a flood. So:
//
//   - Pace. After each wrong one nothing starts for a fifth of a second (it adds
//     up when several were running), and for a second after one only one runs at
//     a time; right ones don't count. Of those that start within any second, at
//     most four can have been wrong before the last one starts: five together.
//     At rest up to three run at once, so nothing waits longer than 0.6 s for
//     the next start.
//   - Order. The job with the lowest score starts first, and each wrong one
//     raises the score of its key ID and address. A caller whose key and address
//     have done nothing wrong therefore stands before all others, however many
//     wait. A flood can only compete with fresh pairs of a key ID and an address,
//     and each is fresh once a minute.
//   - Between equals the newest group (key ID) takes turns with the oldest of
//     those that can still be answered in time; one turn in sixteen is for the
//     oldest of all. A flood that takes all turns it can get keeps its groups
//     waiting, so it is old, and whoever comes is new or soon the oldest in time.
//     A group is as old as its first job, and never runs twice at once.
//   - Room. A full queue refuses suspicious newcomers with Busy, and for one
//     without a failure drops a suspicious job.
//
// What this can't do: a flood that knows K keys without a proof, and comes from
// as many addresses, looks like K first uses for as long as their first
// failures take (K/5 seconds a minute). It then gets turns like everybody.
type lane struct {
	permits int // at rest

	mu      sync.Mutex // guards the rest and the fields of all jobs
	flights map[digest]*job
	queue   []*job // in order of arrival
	groups  map[string]*group
	running int
	// next is when something may start. It is the machine's time, not that of
	// Options.Now: pacing is about the processor.
	next   time.Time
	waking bool // a timer will call dispatch
	scan   uint // counts the runs of pick
	busy   uint64
	// idle is called a while after the last job; tidy does so.
	idle func()
	tidy *time.Timer
}

type group struct {
	queued  int
	running bool
	scan    uint // the last run of pick that has seen a job of the group
}

// job is one computation and all who wait for its answer.
type job struct {
	group string
	// score is how suspicious the job is now.
	score func() int
	// work computes the answer. wrong says that it computed, in vain.
	work func() (a answer, wrong bool)

	key     digest
	came    time.Time
	waiters int
	started bool
	done    chan struct{} // closed when answer is there
	answer  answer
}

// answer is the hash that was opened, or why none was.
type answer struct {
	phc string
	err error
}

// newLane makes a lane. More than three permits would let a burst of wrong ones
// stop everything for too long.
func newLane(permits int) *lane {
	return &lane{
		permits: min(max(permits, 1), 3),
		// Each computation leaves 19 MiB behind, which a server at rest would keep.
		idle:    debug.FreeOSMemory,
		flights: map[digest]*job{}, groups: map[string]*group{},
	}
}

// do returns the answer of the job that has this key, and whether it had been
// there before. When there is none, admit makes it, or returns nil and the
// answer at once; it is called under the lock, so that between the end of one
// job and its question no other can slip in. A context that ends leaves; when
// all have left, a job that has not started is dropped.
func (l *lane) do(ctx context.Context, key digest, admit func() (*job, answer)) (a answer, joined bool) {
	l.mu.Lock()
	j, joined := l.flights[key]
	if !joined {
		if j, a = admit(); j == nil {
			l.mu.Unlock()
			return a, false
		}
		if !l.enqueue(j, key) {
			l.busy++
			l.mu.Unlock()
			return answer{err: &Busy{RetryAfter: busyRetry}}, false
		}
		l.dispatch()
	}
	j.waiters++
	l.mu.Unlock()
	select {
	case <-j.done:
		return j.answer, joined
	case <-ctx.Done():
		l.leave(j)
		return answer{err: ctx.Err()}, joined
	}
}

func (l *lane) leave(j *job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j.waiters--; j.waiters > 0 || j.started {
		return
	}
	for i, q := range l.queue {
		if q == j {
			l.drop(i, answer{err: context.Canceled})
			return
		}
	}
}

// enqueue lets j wait, if there is room or can be made.
func (l *lane) enqueue(j *job, key digest) bool {
	g := l.groups[j.group]
	if g != nil && g.queued >= queuePerGroup {
		return false
	}
	if len(l.queue) >= queueMax {
		victim := -1
		if j.score() == 0 {
			for i := len(l.queue) - 1; i >= 0 && victim < 0; i-- {
				if l.queue[i].score() > 0 {
					victim = i
				}
			}
		}
		if victim < 0 {
			return false
		}
		l.busy++
		l.drop(victim, answer{err: &Busy{RetryAfter: busyRetry}})
		g = l.groups[j.group] // it may have been the victim's alone
	}
	if g == nil {
		g = &group{}
		l.groups[j.group] = g
	}
	g.queued++
	j.key, j.came, j.done = key, time.Now(), make(chan struct{})
	l.queue = append(l.queue, j)
	l.flights[key] = j
	return true
}

// drop ends a job that waits.
func (l *lane) drop(i int, a answer) {
	j := l.take(i)
	l.end(j, a)
}

// take removes a job from the queue.
func (l *lane) take(i int) *job {
	j := l.queue[i]
	copy(l.queue[i:], l.queue[i+1:])
	l.queue[len(l.queue)-1] = nil
	l.queue = l.queue[:len(l.queue)-1]
	l.groups[j.group].queued--
	return j
}

// end gives everybody the answer.
func (l *lane) end(j *job, a answer) {
	if g := l.groups[j.group]; g.queued == 0 && !g.running {
		delete(l.groups, j.group)
	}
	delete(l.flights, j.key)
	j.answer = a
	close(j.done)
}

// dispatch starts what may start now.
func (l *lane) dispatch() {
	for len(l.queue) > 0 {
		wait := time.Until(l.next)
		// The last wrong one began a gap before next, or earlier.
		rest := wait <= gap-time.Second
		if l.running >= l.permits || l.running > 0 && !rest {
			return // the end of one that runs comes here again
		}
		if wait > 0 {
			if !l.waking {
				l.waking = true
				time.AfterFunc(wait, l.wake)
			}
			return
		}
		i := l.pick()
		if i < 0 {
			return
		}
		j := l.take(i)
		j.started = true
		l.groups[j.group].running = true
		l.running++
		go l.run(j)
	}
}

func (l *lane) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waking = false
	l.dispatch()
}

func (l *lane) run(j *job) {
	begun := time.Now()
	a, wrong := j.work()
	l.mu.Lock()
	defer l.mu.Unlock()
	if wrong {
		if l.next.Before(begun) {
			l.next = begun
		}
		l.next = l.next.Add(gap)
	}
	l.running--
	l.groups[j.group].running = false
	l.end(j, a)
	l.dispatch()
	if l.running == 0 && len(l.queue) == 0 {
		if l.tidy == nil {
			l.tidy = time.AfterFunc(idleAfter, l.idle)
		}
		l.tidy.Reset(idleAfter)
	}
}

// pick chooses the job to start: see the order in the comment of lane.
func (l *lane) pick() (index int) {
	l.scan++
	now := time.Now()
	oldest, young, newest, lowest := -1, -1, -1, 0
	for i, j := range l.queue {
		g := l.groups[j.group]
		if g.running || g.scan == l.scan {
			continue
		}
		g.scan = l.scan
		score := j.score()
		if newest >= 0 && score > lowest {
			continue
		}
		if newest < 0 || score < lowest {
			oldest, young, lowest = i, -1, score
		}
		newest = i
		if young < 0 && now.Sub(j.came) < inTime {
			young = i
		}
	}
	switch {
	case l.scan%16 == 0:
		return oldest
	case l.scan%2 == 0 && young >= 0:
		return young
	}
	return newest
}
