package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tokenhub/db"
)

// attempt is one text on its way to a proof, for all who present it.
type attempt struct {
	v      *Verifier
	text   string
	prefix string // owns its bytes: it stays in the tables when the text is gone
	digest digest
	from   netip.Prefix // of the caller who came first
	// secrets reads them from the live record, or says why it is not usable.
	secrets func(context.Context) ([]db.Secret, error)
}

// prove returns the live hash that text opens.
func (v *Verifier) prove(ctx context.Context, text string, d digest, from netip.Addr, secrets func(context.Context) ([]db.Secret, error)) (phc string, err error) {
	t := &attempt{v: v, text: text, prefix: strings.Clone(prefixOf(text)), digest: d, from: Origin(from), secrets: secrets}
	a, joined := v.lane.do(ctx, d, func() (*job, answer) { return t.admit(ctx) })
	var refused *Refused
	if joined && errors.As(a.err, &refused) && refused.Reason == Wrong {
		v.failures.add(t.prefix, t.from, v.now()) // the one who came first was counted
	}
	return a.phc, a.err
}

// admit answers at once, or makes the job of it.
func (t *attempt) admit(ctx context.Context) (*job, answer) {
	v := t.v
	secrets, err := t.secrets(ctx)
	if err != nil {
		return nil, answer{err: err}
	}
	phc, open := t.judge(secrets)
	if phc != "" {
		return nil, answer{phc: phc}
	}
	if len(open) == 0 {
		return nil, answer{err: t.fail()}
	}
	if wait := v.failures.check(t.prefix, t.from, v.now()); wait > 0 {
		return nil, answer{err: t.tooMany(wait)}
	}
	return &job{
		group: t.prefix,
		score: func() int { return v.failures.score(t.prefix, t.from, v.now()) },
		work:  t.work,
	}, answer{}
}

// judge holds the text against what is known of the live secrets: it opens phc,
// or it may open those in open, which is empty when it surely opens none.
func (t *attempt) judge(secrets []db.Secret) (phc string, open []string) {
	now := t.v.now()
	if phc = t.v.proofs.match(t.prefix, &t.digest); phc != "" && live(secrets, phc, now) {
		return phc, nil
	}
	proven := t.v.proofs.of(t.prefix)
	for _, s := range secrets {
		if s.LiveAt(now) && !proves(proven, s.PHC) && !t.v.denials.has(denial{t.digest, s.PHC}, now) {
			open = append(open, s.PHC)
		}
	}
	return "", open
}

func proves(list []proof, phc string) bool {
	for i := range list {
		if list[i].phc == phc {
			return true
		}
	}
	return false
}

// fail counts a failure that cost nothing.
func (t *attempt) fail() error {
	if wait := t.v.failures.add(t.prefix, t.from, t.v.now()); wait > 0 {
		return t.tooMany(wait)
	}
	return t.wrong()
}

func (t *attempt) wrong() error { return &Refused{Reason: Wrong, KeyID: t.id()} }

func (t *attempt) tooMany(wait time.Duration) error {
	return &TooMany{KeyID: t.id(), RetryAfter: wait}
}

func (t *attempt) id() string {
	_, id, _ := strings.Cut(t.prefix, "-")
	return id
}

// work computes, in a lane. Much may have happened while it waited, so it begins
// with the live record again.
func (t *attempt) work() (a answer, wrong bool) {
	v, ctx := t.v, context.Background() // whoever waits, the outcome is for all
	secrets, err := t.secrets(ctx)
	if err != nil {
		return answer{err: err}, false
	}
	phc, open := t.judge(secrets)
	if phc != "" {
		return answer{phc: phc}, false
	}
	if len(open) == 0 {
		return answer{err: t.fail()}, false
	}
	begun := v.now()
	if wait := v.failures.add(t.prefix, t.from, begun); wait > 0 {
		return answer{err: t.tooMany(wait)}, false
	}
	var damaged error
	tried := false
	for _, phc := range open { // the current one stands first
		match, err := v.check(t.text, phc)
		if err != nil {
			damaged = fmt.Errorf("stored hash of %s: %w: %w", t.prefix, db.ErrStorage, err)
			continue
		}
		v.computed.Add(1)
		tried = true
		if match {
			v.failures.refund(t.prefix, t.from, begun)
			return t.keep(phc), false
		}
		v.denials.add(denial{t.digest, phc}, v.now())
	}
	if !tried {
		v.failures.refund(t.prefix, t.from, begun)
	} else {
		v.wrong.Add(1)
	}
	if damaged != nil { // the text may be right: not a 401
		return answer{err: damaged}, tried
	}
	return answer{err: t.wrong()}, true
}

// keep remembers that the text opens phc, if phc still opens the key.
func (t *attempt) keep(phc string) answer {
	ctx := context.Background()
	secrets, err := t.secrets(ctx)
	if err != nil {
		return answer{err: err}
	}
	if !live(secrets, phc, t.v.now()) {
		return answer{err: t.wrong()} // rotated out while it was computed; no guess, no failure
	}
	t.v.proofs.put(t.prefix, proof{phc, t.digest}, t.v.livingSecrets)
	return answer{phc: phc}
}

// livingSecrets returns those secrets of a prefix whose proofs are worth their
// memory: of a key that is not revoked, not past their grace.
func (v *Verifier) livingSecrets(prefix string) (secrets []db.Secret, ok bool) {
	ctx := context.Background()
	kind, id, _ := strings.Cut(prefix, "-")
	var all []db.Secret
	if kind+"-" == string(Token) {
		t, err := v.tokens.Token(ctx, id)
		if err != nil {
			return nil, errors.Is(err, db.ErrNotFound)
		}
		if t.RevokedAt.IsZero() {
			all = []db.Secret{t.Secret}
		}
	} else {
		k, err := v.keys.Key(ctx, id)
		if err != nil {
			return nil, errors.Is(err, db.ErrNotFound)
		}
		if k.RevokedAt.IsZero() {
			all = k.Secrets
		}
	}
	now := v.now()
	for _, s := range all {
		if s.LiveAt(now) {
			secrets = append(secrets, s)
		}
	}
	return secrets, true
}
