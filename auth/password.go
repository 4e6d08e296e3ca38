package auth

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"tokenhub/db"
)

// PasswordSetting is the setting that holds the hash of the admin password.
const PasswordSetting = "admin.password"

// The bounds of the admin password.
const (
	PasswordMin = 10   // characters
	PasswordMax = 1024 // bytes
	// signInsPerAddr is how many wrong ones an address may try in a minute.
	signInsPerAddr = 5
)

// The outcomes of [Password] that callers tell apart.
var (
	ErrWrongPassword = errors.New("wrong password")
	ErrNoPassword    = errors.New("no admin password is set: use the set-up link, or `tokenhub admin password`")
	ErrPasswordSize  = fmt.Errorf("the password must have at least %d characters and at most %d bytes", PasswordMin, PasswordMax)
)

// Password is the admin password. Guessing it is slow in two ways: five wrong
// ones a minute from an address (IPv6: its /64) and the next is not looked at,
// and one computation at a time with the pace of the verifier's lanes, at most
// five wrong ones a second from everywhere together. An address that has not
// failed goes first, so that a flood does not keep the admin out.
type Password struct {
	settings db.Settings
	now      func() time.Time
	check    func(text, phc string) (bool, error)
	failures *failures
	lane     *lane
	serial   atomic.Uint64
}

// NewPassword reads and starts nothing; now nil = [time.Now].
func NewPassword(settings db.Settings, now func() time.Time) *Password {
	if now == nil {
		now = time.Now
	}
	return &Password{
		settings: settings, now: now, check: check, lane: newLane(1),
		failures: newFailures(0, signInsPerAddr), // there is one password, and no ID
	}
}

// Exists reports whether a password is set. An error is the store's.
func (p *Password) Exists(ctx context.Context) (bool, error) {
	_, err := p.hash(ctx)
	if errors.Is(err, ErrNoPassword) {
		return false, nil
	}
	return err == nil, err
}

// Set stores the hash of text, with the audit entry. Sessions are the caller's
// to end. Errors: [ErrPasswordSize], or the store's.
func (p *Password) Set(ctx context.Context, text string, a db.Audit) error {
	if utf8.RuneCountInString(text) < PasswordMin || len(text) > PasswordMax {
		return ErrPasswordSize
	}
	phc, err := Hash(text)
	if err != nil {
		return err
	}
	return p.SetHash(ctx, phc, a)
}

// SetHash stores a hash that was made elsewhere, as a PHC string. Errors: those
// of [ValidPHC], or the store's.
func (p *Password) SetHash(ctx context.Context, phc string, a db.Audit) error {
	if err := ValidPHC(phc); err != nil {
		return err
	}
	if err := p.settings.PutSetting(ctx, PasswordSetting, phc, a); err != nil {
		return fmt.Errorf("store the admin password: %w", err)
	}
	return nil
}

// Check returns nil if text is the password. Errors: [ErrWrongPassword],
// [ErrNoPassword], [*TooMany], [*Busy], the context's, or the store's.
func (p *Password) Check(ctx context.Context, text string, from netip.Addr) error {
	addr := Origin(from)
	// Each attempt is one of its own: there is nothing to share.
	var key digest
	binary.BigEndian.PutUint64(key[:], p.serial.Add(1))
	a, _ := p.lane.do(ctx, key, func() (*job, answer) {
		if wait := p.failures.check("", addr, p.now()); wait > 0 {
			return nil, answer{err: &TooMany{RetryAfter: wait}}
		}
		return &job{
			group: addr.String(),
			score: func() int { return p.failures.score("", addr, p.now()) },
			work:  func() (answer, bool) { return p.work(text, addr) },
		}, answer{}
	})
	return a.err
}

func (p *Password) work(text string, addr netip.Prefix) (a answer, wrong bool) {
	phc, err := p.hash(context.Background())
	if err != nil {
		return answer{err: err}, false
	}
	begun := p.now()
	if wait := p.failures.add("", addr, begun); wait > 0 {
		return answer{err: &TooMany{RetryAfter: wait}}, false
	}
	if len(text) > PasswordMax {
		return answer{err: ErrWrongPassword}, false
	}
	match, err := p.check(text, phc)
	switch {
	case err != nil:
		p.failures.refund("", addr, begun)
		return answer{err: fmt.Errorf("stored admin password: %w: %w", db.ErrStorage, err)}, false
	case match:
		p.failures.refund("", addr, begun)
		// Changed while it was computed: the old one must not open a session that
		// is younger than the change.
		if current, err := p.hash(context.Background()); err != nil || current != phc {
			return answer{err: errors.Join(ErrWrongPassword, err)}, false
		}
		return answer{phc: phc}, false
	}
	return answer{err: ErrWrongPassword}, true
}

func (p *Password) hash(ctx context.Context) (phc string, err error) {
	phc, err = p.settings.Setting(ctx, PasswordSetting)
	switch {
	case errors.Is(err, db.ErrNotFound) || err == nil && phc == "":
		return "", ErrNoPassword
	case err != nil:
		return "", fmt.Errorf("read the admin password: %w", err)
	}
	return phc, nil
}
