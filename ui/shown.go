package ui

import (
	"maps"
	"sync"
	"time"
)

// shownLife is how long a new secret waits for the page that shows it.
const shownLife = 5 * time.Minute

// shown keeps new secrets from the form that made them until the page behind it
// shows them: once, and to the session that made them.
type shown struct {
	now func() time.Time

	mu   sync.Mutex // guards list
	list map[shownKey]shownSecret
}

// shownKey says whose secret it is, and of which key or token.
type shownKey struct{ session, id string }

type shownSecret struct {
	text  string
	until time.Time
}

func (s *shown) put(session, id, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	maps.DeleteFunc(s.list, func(_ shownKey, v shownSecret) bool { return !now.Before(v.until) })
	if s.list == nil {
		s.list = map[shownKey]shownSecret{}
	}
	s.list[shownKey{session, id}] = shownSecret{text, now.Add(shownLife)}
}

// take returns the secret and forgets it; empty when there is none.
func (s *shown) take(session, id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := shownKey{session, id}
	v := s.list[k]
	delete(s.list, k)
	if !s.now().Before(v.until) {
		return ""
	}
	return v.text
}
