package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// How long a session lives, and how many there are.
const (
	SessionIdle = 12 * time.Hour     // without being used
	SessionMax  = 7 * 24 * time.Hour // in all
	sessionsMax = 1000
)

// Sessions are the admin's sign-ins. They live in memory, by the hash of their
// ID, and are gone with the process. When there are too many, the one that was
// unused for longest makes room.
type Sessions struct {
	now func() time.Time

	mu         sync.Mutex // guards what follows
	live       map[[32]byte]session
	generation uint64
}

type session struct{ made, used time.Time }

// NewSessions makes an empty set; now nil = [time.Now].
func NewSessions(now func() time.Time) *Sessions {
	if now == nil {
		now = time.Now
	}
	return &Sessions{now: now, live: map[[32]byte]session{}}
}

// Generation tells how often all sessions were ended. Who signs somebody in asks
// for it before the password is looked at: see [Sessions.Create].
func (s *Sessions) Generation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// Create begins a session and returns its ID, 256 random bits in base62. It
// belongs into a cookie and nowhere else. When all sessions were ended since the
// generation, there is none: the password that was right may be the old one.
func (s *Sessions) Create(generation uint64) (id string, ok bool) {
	id = random()
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation != s.generation {
		return "", false
	}
	now := s.now()
	if len(s.live) >= sessionsMax {
		s.evict(now)
	}
	s.live[sha256.Sum256([]byte(id))] = session{made: now, used: now}
	return id, true
}

// Check reports whether the session lives, and if so keeps it from idling.
func (s *Sessions) Check(id string) bool { return s.check(id, true) }

// Peek reports whether the session lives, and lets it idle: nobody uses a page
// that asks by itself for what is new.
func (s *Sessions) Peek(id string) bool { return s.check(id, false) }

func (s *Sessions) check(id string, used bool) bool {
	if len(id) != secretLen {
		return false
	}
	h := sha256.Sum256([]byte(id))
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.live[h]
	if !ok {
		return false
	}
	now := s.now()
	if one.over(now) {
		delete(s.live, h)
		return false
	}
	if used {
		one.used = now
		s.live[h] = one
	}
	return true
}

// Delete ends a session, if it is there.
func (s *Sessions) Delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, sha256.Sum256([]byte(id)))
}

// DeleteAll ends all sessions, and the sign-ins that are on their way: after the
// password was changed. It returns the generation that begins.
func (s *Sessions) DeleteAll() (generation uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.live)
	s.generation++
	return s.generation
}

func (s session) over(now time.Time) bool {
	return now.Sub(s.used) >= SessionIdle || now.Sub(s.made) >= SessionMax
}

func (s *Sessions) evict(now time.Time) {
	var victim [32]byte
	oldest := now.Add(time.Hour)
	for h, one := range s.live {
		if one.over(now) {
			delete(s.live, h)
		} else if one.used.Before(oldest) {
			victim, oldest = h, one.used
		}
	}
	if len(s.live) >= sessionsMax {
		delete(s.live, victim)
	}
}

// random returns 256 random bits in base62.
func random() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return string(encode256(b))
}
