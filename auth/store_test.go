package auth

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokenhub/db"
)

// table is a store of keys, tokens and settings in memory.
type table struct {
	mu       sync.Mutex
	keys     map[string]*db.Key
	tokens   map[string]*db.Token
	settings map[string]string
	err      error // what every read gives, if set
}

func newTable() *table {
	return &table{keys: map[string]*db.Key{}, tokens: map[string]*db.Token{}, settings: map[string]string{}}
}

func (s *table) Key(_ context.Context, id string) (*db.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if k := s.keys[id]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("key: %w", db.ErrNotFound)
}

func (s *table) Token(_ context.Context, id string) (*db.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if t := s.tokens[id]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("token: %w", db.ErrNotFound)
}

func (s *table) Setting(_ context.Context, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", s.err
	}
	if v, ok := s.settings[name]; ok {
		return v, nil
	}
	return "", fmt.Errorf("setting: %w", db.ErrNotFound)
}

func (s *table) PutSetting(_ context.Context, name, value string, _ db.Audit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings[name] = value
	return s.err
}

func (s *table) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// edit replaces the record of id by a changed copy.
func (s *table) edit(id string, change func(*db.Key)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[id].Clone()
	change(k)
	s.keys[id] = k
}

// hasher stands for argon2id: its hash of a text is "phc:" + text, it takes
// cost of time, and it remembers what it computed, and when.
type hasher struct {
	cost  time.Duration
	gate  chan struct{} // if set, each computation takes one of it first
	calls atomic.Int64

	mu     sync.Mutex
	wrongs []time.Time // when each wrong one began
	most   int         // how many ran at once
	now    int
}

func phcOf(text string) string { return "phc:" + text }

func (h *hasher) check(text, phc string) (bool, error) {
	begun := time.Now()
	h.calls.Add(1)
	h.mu.Lock()
	h.now++
	h.most = max(h.most, h.now)
	if phc != phcOf(text) {
		h.wrongs = append(h.wrongs, begun)
	}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.now--
	}()
	if h.gate != nil {
		<-h.gate
	}
	if h.cost > 0 {
		time.Sleep(h.cost) // fake time, in a synctest bubble
	}
	if strings.HasPrefix(phc, "damaged") {
		return false, errHash
	}
	return phc == phcOf(text), nil
}

// perSecond returns the most wrong computations that began in any second.
func (h *hasher) perSecond() (most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, from := range h.wrongs {
		n := 0
		for _, at := range h.wrongs[i:] {
			if at.Sub(from) < time.Second {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// mint adds a key to the table and returns its text and ID.
func (s *table) mint(t testing.TB) (text, id string) {
	t.Helper()
	text, id, err := Mint(Key)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = &db.Key{ID: id, Secrets: []db.Secret{{PHC: phcOf(text)}}}
	return text, id
}

// guess returns a well-formed text for an ID with another secret.
func guess(id string) string {
	var secret [32]byte
	copy(secret[:], fmt.Sprint("guess ", guesses.Add(1)))
	return compose(Key, id, secret)
}

var guesses atomic.Int64

// addr returns the nth of many addresses, each of a /64 of its own.
func addr(n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 15: 1})
}

// atOnce returns the most computations that ran at the same time.
func (h *hasher) atOnce() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.most
}
