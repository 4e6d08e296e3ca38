package proxy

import (
	"context"
	"sync"
	"time"
)

// queue gives out the places at a provider that takes a bounded number of
// requests at once. Who finds none waits, and the keys take turns: one that has
// a thousand requests waiting makes another key wait for one of them at most,
// per place. Within a key the one that came first is first.
type queue struct {
	mu      sync.Mutex // guards what follows
	limit   int        // 0 = no bound
	running int
	// turns are the keys that wait, the next one first; lines holds the same by key.
	turns   []*line
	lines   map[string]*line
	waiting int
}

// line is who waits of one key, the first one first.
type line struct {
	key   string
	queue []*waiter
}

type waiter struct {
	since time.Time
	// place is closed when the waiter got one.
	place chan struct{}
}

func newQueue(limit int) *queue { return &queue{limit: limit, lines: map[string]*line{}} }

// full reports whether there is no place at once.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.isFull()
}

func (q *queue) isFull() bool { return q.waiting > 0 || q.limit > 0 && q.running >= q.limit }

// try takes a place if there is one; who gets one gives it back by leave.
func (q *queue) try() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.isFull() {
		return false
	}
	q.running++
	return true
}

// wait takes a place as soon as it is the key's turn. The error is the cause for
// which ctx ended; nobody has to leave then.
func (q *queue) wait(ctx context.Context, key string, now time.Time) error {
	q.mu.Lock()
	if !q.isFull() {
		q.running++
		q.mu.Unlock()
		return nil
	}
	w := &waiter{since: now, place: make(chan struct{})}
	l := q.lines[key]
	if l == nil {
		l = &line{key: key}
		q.lines[key] = l
		q.turns = append(q.turns, l)
	}
	l.queue = append(l.queue, w)
	q.waiting++
	q.mu.Unlock()

	select {
	case <-w.place:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.place:
		// It came at the same moment: on to the next one.
		q.running--
		q.serve()
	default:
		q.drop(l, w)
	}
	return context.Cause(ctx)
}

// leave gives a place back.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.serve()
}

// resize changes the number of places; 0 = no bound.
func (q *queue) resize(limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = limit
	q.serve()
}

// serve gives the free places to those whose turn it is.
func (q *queue) serve() {
	for q.waiting > 0 && (q.limit == 0 || q.running < q.limit) {
		l := q.turns[0]
		q.turns = q.turns[1:]
		w := l.queue[0]
		l.queue = l.queue[1:]
		if len(l.queue) > 0 {
			q.turns = append(q.turns, l)
		} else {
			delete(q.lines, l.key)
		}
		q.waiting--
		q.running++
		close(w.place)
	}
}

// drop takes out one who does not want to wait any more.
func (q *queue) drop(l *line, w *waiter) {
	for i := range l.queue {
		if l.queue[i] == w {
			l.queue = append(l.queue[:i:i], l.queue[i+1:]...)
			q.waiting--
			break
		}
	}
	if len(l.queue) > 0 {
		return
	}
	delete(q.lines, l.key)
	for i := range q.turns {
		if q.turns[i] == l {
			q.turns = append(q.turns[:i:i], q.turns[i+1:]...)
			break
		}
	}
}

// load tells how many run and wait, and since when the one waits that came first.
func (q *queue) load() (running, waiting int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.turns {
		if first := l.queue[0].since; since.IsZero() || first.Before(since) {
			since = first
		}
	}
	return q.running, q.waiting, since
}
