package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"tokenhub/db"
)

// Options are what [New] needs.
type Options struct {
	// Keys and Tokens are the store. Either may be nil when the verifier is never
	// asked for that kind.
	Keys   Keys
	Tokens Tokens
	// Now is the time by which keys expire and failures are counted; nil =
	// [time.Now]. Pacing goes by the machine's time always.
	Now func() time.Time
	// Lanes is how many argon2id computations (19 MiB each) may run at once; 0 =
	// one for each processor but one. Above 3 is taken as 3, see [Verifier].
	Lanes int
	// Check replaces the comparison of a text with a stored hash, for tests that
	// count; nil = argon2id.
	Check func(text, phc string) (bool, error)
}

// Verifier tells whose secret a text is, with one argon2id computation for each
// secret and process, and well under a microsecond after that.
//
// What is remembered is the proof, never the permission. A proof says "this
// text opens this hash" and hangs on the hash: the record of the key is read
// each time, and status, expiry and grace are judged by it. So an edit holds at
// once and costs no proof, and a rotation or revocation makes the proof useless
// with the hash, whatever was computed meanwhile.
//
// Without a proof the steps are, each of them before argon2id:
//
//  1. A text that is not well-formed, an ID that is not known, a key that is not
//     active: refused, free, no failure.
//  2. All live hashes of the key are proven, or denied for this very text in the
//     last minute: the text is wrong. That is certain (a second text for a hash
//     would be a collision), so floods against keys in use cost nothing. It is a
//     failure.
//  3. Ten failures of the ID or twenty of the address within a minute: TooMany.
//     A computation counts as a failure from its start and is taken back when it
//     succeeds, so that many at once can't get past the bound.
//  4. Otherwise the text waits for a lane, with all who present the same text.
//     Wrong ones together get at most five computations a second, and the first
//     use of another key is answered within a second all the same: how, and why
//     three computations at once are the most, is told at type lane.
//
// A text is held while it is being computed and never longer.
type Verifier struct {
	keys   Keys
	tokens Tokens
	now    func() time.Time
	check  func(text, phc string) (bool, error)

	secret   [32]byte // of this process, so that digests mean nothing elsewhere
	proofs   proofs
	denials  denials
	failures *failures
	lane     *lane

	computed, wrong, refused, tooMany atomic.Uint64
}

// New makes a verifier. It starts nothing and reads nothing.
func New(o Options) *Verifier {
	v := &Verifier{
		keys: o.Keys, tokens: o.Tokens, now: o.Now, check: o.Check,
		proofs:   proofs{seed: maphash.MakeSeed()},
		failures: newFailures(failuresPerID, failuresPerAddr),
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.check == nil {
		v.check = check
	}
	lanes := o.Lanes
	if lanes <= 0 {
		lanes = runtime.NumCPU() - 1
	}
	v.lane = newLane(lanes)
	rand.Read(v.secret[:]) // never fails
	return v
}

// Verify returns the live record of the key whose secret text is. The record is
// the store's snapshot: not to be changed. from is the address of the caller.
// text must own its bytes.
//
// Errors: [*Refused], [*TooMany], [*Busy], the context's, or what the store (or
// a damaged hash in it) gave, wrapped.
func (v *Verifier) Verify(ctx context.Context, text string, from netip.Addr) (*db.Key, error) {
	id, d, phc, err := v.recall(Key, text)
	if err != nil {
		return nil, v.count(err)
	}
	now := v.now()
	k, err := v.key(ctx, id, now)
	if err != nil {
		return nil, v.count(err)
	}
	if phc != "" && live(k.Secrets, phc, now) {
		return k, nil
	}
	phc, err = v.prove(ctx, text, d, from, func(ctx context.Context) ([]db.Secret, error) {
		k, err := v.key(ctx, id, v.now())
		if err != nil {
			return nil, err
		}
		return k.Secrets, nil
	})
	if err != nil {
		return nil, v.count(err)
	}
	now = v.now() // the proof took its time
	k, err = v.key(ctx, id, now)
	if err == nil && !live(k.Secrets, phc, now) {
		err = &Refused{Reason: Wrong, KeyID: k.ID}
	}
	if err != nil {
		return nil, v.count(err)
	}
	return k, nil
}

// Renewed tells the verifier that text opens phc, which it can believe of who made
// both and has stored the hash: the holder of a key whose secret was rotated is not
// slowed then by those who still have the old one.
func (v *Verifier) Renewed(text, phc string) {
	v.proofs.put(strings.Clone(prefixOf(text)), proof{phc, v.digest(text)}, v.livingSecrets)
}

// VerifyToken does the same for the text of an admin token.
func (v *Verifier) VerifyToken(ctx context.Context, text string, from netip.Addr) (*db.Token, error) {
	id, d, phc, err := v.recall(Token, text)
	if err != nil {
		return nil, v.count(err)
	}
	t, err := v.token(ctx, id)
	if err != nil {
		return nil, v.count(err)
	}
	if phc != "" && phc == t.Secret.PHC && t.Secret.LiveAt(v.now()) {
		return t, nil
	}
	phc, err = v.prove(ctx, text, d, from, func(ctx context.Context) ([]db.Secret, error) {
		t, err := v.token(ctx, id)
		if err != nil {
			return nil, err
		}
		return []db.Secret{t.Secret}, nil
	})
	if err != nil {
		return nil, v.count(err)
	}
	t, err = v.token(ctx, id)
	if err == nil && (phc != t.Secret.PHC || !t.Secret.LiveAt(v.now())) {
		err = &Refused{Reason: Wrong, KeyID: t.ID}
	}
	if err != nil {
		return nil, v.count(err)
	}
	return t, nil
}

// recall finds the ID in a text, and the hash that the text was proven to open
// or "". A proven text needs no parsing any more.
func (v *Verifier) recall(kind Kind, text string) (id string, d digest, phc string, err error) {
	if len(text) != len(kind)+bodyLen || text[:len(kind)] != string(kind) {
		return "", d, "", &Refused{Reason: Malformed}
	}
	d = v.digest(text)
	if phc = v.proofs.match(prefixOf(text), &d); phc == "" {
		if _, _, ok := Parse(text); !ok {
			return "", d, "", &Refused{Reason: Malformed}
		}
	}
	return text[len(kind) : len(kind)+idLen], d, phc, nil
}

// prefixOf is [Prefix] of a text that is known to be long enough.
func prefixOf(text string) string { return text[:len(text)-secretLen-sumLen] }

func (v *Verifier) digest(text string) digest {
	var b [len(v.secret) + textMax]byte
	n := copy(b[:], v.secret[:])
	n += copy(b[n:], text)
	return sha256.Sum256(b[:n])
}

// key returns the live record of a key that is usable at now.
func (v *Verifier) key(ctx context.Context, id string, now time.Time) (*db.Key, error) {
	k, err := v.keys.Key(ctx, id)
	if err != nil {
		return nil, missing("key", id, err)
	}
	switch k.StatusAt(now) {
	case db.Active:
		return k, nil
	case db.Disabled:
		return nil, &Refused{Reason: Disabled, KeyID: k.ID}
	case db.Expired:
		return nil, &Refused{Reason: Expired, KeyID: k.ID}
	default:
		return nil, &Refused{Reason: Revoked, KeyID: k.ID}
	}
}

// token returns the live record of a token that is not revoked.
func (v *Verifier) token(ctx context.Context, id string) (*db.Token, error) {
	t, err := v.tokens.Token(ctx, id)
	if err != nil {
		return nil, missing("token", id, err)
	}
	if !t.RevokedAt.IsZero() {
		return nil, &Refused{Reason: Revoked, KeyID: t.ID}
	}
	return t, nil
}

// missing is the error for a record that could not be read. The ID is copied,
// since it is a part of the secret's text.
func missing(what, id string, err error) error {
	id = strings.Clone(id)
	if errors.Is(err, db.ErrNotFound) {
		return &Refused{Reason: Unknown, KeyID: id}
	}
	return fmt.Errorf("read %s %s: %w", what, id, err)
}

// live reports whether phc is one of the secrets, and usable at now.
func live(secrets []db.Secret, phc string, now time.Time) bool {
	for i := range secrets {
		if secrets[i].PHC == phc && secrets[i].LiveAt(now) {
			return true
		}
	}
	return false
}

// count counts a refusal and hands it on.
func (v *Verifier) count(err error) error {
	switch err.(type) {
	case *Refused:
		v.refused.Add(1)
	case *TooMany:
		v.tooMany.Add(1)
	}
	return err
}

// Stats is what a verifier has done and is doing.
type Stats struct {
	Lanes   int // computations that may run at once
	Running int // that do
	Waiting int // texts that wait for one, equal ones counted once
	Proofs  int // hashes whose secret is proven

	// Since the start: computations, wrong ones among the computed texts, and
	// answers by kind.
	Computed, Wrong, Refused, TooMany, Busy uint64
}

// Stats returns the numbers of this moment.
func (v *Verifier) Stats() Stats {
	s := Stats{
		Proofs:   v.proofs.count(),
		Computed: v.computed.Load(), Wrong: v.wrong.Load(),
		Refused: v.refused.Load(), TooMany: v.tooMany.Load(),
	}
	l := v.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Lanes, s.Running, s.Waiting, s.Busy = l.permits, l.running, len(l.queue), l.busy
	return s
}
