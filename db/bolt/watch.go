package bolt

import (
	"slices"
	"sync"
)

// watchers are the functions that want to hear of something.
type watchers[T any] struct {
	// mu guards list; tell works on a copy, so that a watcher may end itself.
	mu   sync.Mutex
	list []*watcher[T]
}

type watcher[T any] struct{ fn func(T) }

// add has fn called from now on, until stop.
func (w *watchers[T]) add(fn func(T)) (stop func()) {
	one := &watcher[T]{fn}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(slices.Clip(w.list), one)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.list = slices.DeleteFunc(slices.Clone(w.list), func(x *watcher[T]) bool { return x == one })
	}
}

// tell calls the watchers, in the order in which they came.
func (w *watchers[T]) tell(v T) {
	w.mu.Lock()
	list := w.list
	w.mu.Unlock()
	for _, one := range list {
		one.fn(v)
	}
}

// none reports whether nobody wants to hear.
func (w *watchers[T]) none() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.list) == 0
}
