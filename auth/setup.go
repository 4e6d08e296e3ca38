package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync"
	"time"
)

// SetupLife is how long a set-up link opens.
const SetupLife = time.Hour

// ErrSetup is the error for a set-up link that is wrong, used or too old.
var ErrSetup = errors.New("this set-up link is not valid (any more): restart tokenhub for a new one, or use `tokenhub admin password`")

// Setup is the one-time link with which the first admin password is set. It
// exists in one process only.
//
//	setup, token := auth.NewSetup(nil)                       // print the link once
//	err := setup.Spend(token, func() error { return password.Set(ctx, text, audit) })
type Setup struct {
	now func() time.Time

	mu     sync.Mutex // guards the rest; held while the password is set
	digest [32]byte
	until  time.Time
	spent  bool
}

// NewSetup makes a link and returns its secret part, 256 random bits in base62;
// now nil = [time.Now].
func NewSetup(now func() time.Time) (s *Setup, token string) {
	if now == nil {
		now = time.Now
	}
	token = random()
	return &Setup{now: now, digest: sha256.Sum256([]byte(token)), until: now().Add(SetupLife)}, token
}

// Valid reports whether token would be accepted now.
func (s *Setup) Valid(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.valid(token)
}

func (s *Setup) valid(token string) bool {
	d := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(d[:], s.digest[:]) == 1 && !s.spent && s.now().Before(s.until)
}

// Spend runs set if token is valid; when set succeeds the link is used up. Of
// several at once, one gets through. Errors: [ErrSetup], or set's own.
func (s *Setup) Spend(token string, set func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.valid(token) {
		return ErrSetup
	}
	if err := set(); err != nil {
		return err
	}
	s.spent = true
	return nil
}

// Close makes the link invalid: a password was set in another way.
func (s *Setup) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent = true
}
