package proxy

import (
	"context"
	"sync"
	"time"
)

// life is the context of a call, or of an attempt within it: what
// [context.WithCancelCause] makes, as a part of what it belongs to. A request
// has two, and both are needed for nothing as long as nobody leaves: they take
// no memory of their own, and a channel only where somebody asks for it.
//
//	a.life.within(ctx)      // before its first use, once
//	defer a.life.end(errDone)
//
// Err is the cause for which it ended, and [context.Cause] the same.
type life struct {
	parent context.Context

	mu   sync.Mutex // guards what follows
	err  error      // why it is over; nil while it is not
	done chan struct{}
	// leave ends the waiting for a parent that is no life.
	leave func() bool
	// last is the one that joined last of those that end with it.
	last *mortal
	// self is its place among those that end with its parent.
	self mortal
}

// mortal is what ends with a life: another life, or what a function ends. It can
// be in one life at a time.
type mortal struct {
	in         *life // nil while it is in none
	prev, next *mortal
	// f is called in a goroutine of its own; child ends at once.
	f     func()
	child *life
}

// within begins a life that ends with its parent at the latest.
func (l *life) within(parent context.Context) {
	l.parent = parent
	l.self.child = l
	p, ours := parent.(*life)
	switch {
	case ours && p.join(&l.self):
	case causeOf(parent) != nil:
		l.end(causeOf(parent))
	case parent.Done() != nil:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leave = context.AfterFunc(parent, func() { l.end(causeOf(parent)) })
	}
}

// end ends the life, and all that ends with it, for a cause; later ones change
// nothing.
func (l *life) end(cause error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = cause
	if l.done != nil {
		close(l.done)
	}
	first, leave := l.last, l.leave
	for m := first; m != nil; m = m.next {
		m.in = nil
	}
	l.last = nil
	l.mu.Unlock()
	for m := first; m != nil; {
		next := m.next // a child's own end may use it again
		if m.child != nil {
			m.child.end(cause)
		} else {
			go m.f()
		}
		m = next
	}
	if leave != nil {
		leave()
	}
	if p, ok := l.parent.(*life); ok {
		p.part(&l.self)
	}
}

// join makes m end with the life; false if that is over already.
func (l *life) join(m *mortal) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	m.in, m.prev, m.next = l, nil, l.last
	if l.last != nil {
		l.last.prev = m
	}
	l.last = m
	return true
}

// part takes m out again; false if it was ended, or is not in it.
func (l *life) part(m *mortal) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.in != l {
		return false
	}
	if m.prev != nil {
		m.prev.next = m.next
	} else {
		l.last = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	}
	m.in, m.prev, m.next = nil, nil, nil
	return true
}

// Deadline implements [context.Context].
func (l *life) Deadline() (time.Time, bool) { return l.parent.Deadline() }

// Done implements [context.Context].
func (l *life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.err != nil {
			close(l.done)
		}
	}
	return l.done
}

// Err implements [context.Context].
func (l *life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Value implements [context.Context]. There is none: the parent's would say that
// the parent's cause is this one's.
func (l *life) Value(any) any { return nil }

// AfterFunc is what [context.AfterFunc] and the contexts of the standard library
// use where they find it.
func (l *life) AfterFunc(f func()) (stop func() bool) {
	m := &mortal{f: f}
	if !l.join(m) {
		go f()
		return func() bool { return false }
	}
	return func() bool { return l.part(m) }
}
