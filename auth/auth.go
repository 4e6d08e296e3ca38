// Package auth knows who is calling: the text of keys and tokens, the proof
// that a presented secret is the one that was minted, the admin password and
// the admin sessions. It tells identity only; what a key may do is not its
// business.
//
// Making a key:
//
//	text, id, err := auth.Mint(auth.Key)   // text is shown once, then forgotten
//	phc, err := auth.Hash(text)            // this is stored
//	key := &db.Key{ID: id, Secrets: []db.Secret{{PHC: phc}}, ...}
//
// Opening the door with it:
//
//	verifier := auth.New(auth.Options{Keys: store, Tokens: store})
//	secret, err := auth.Presented(authorization, apiKey, protocols)
//	key, err := verifier.Verify(ctx, secret, callerAddress)
//	var refused *auth.Refused   // 401, whatever the reason
//	var many *auth.TooMany      // 429 too_many_failures
//	var busy *auth.Busy         // 503 with Retry-After
//
// Any other error is the store's own (503, never 401) or the context's.
//
// No error, log field or statistic of this package holds a secret.
package auth

import (
	"context"
	"fmt"
	"time"

	"tokenhub/db"
)

// Keys is what the verifier needs of the store to verify keys.
type Keys interface {
	// Key returns the live record, or an error that is [db.ErrNotFound].
	Key(ctx context.Context, id string) (*db.Key, error)
}

// Tokens is what the verifier needs of the store to verify admin tokens.
type Tokens interface {
	// Token returns the live record, or an error that is [db.ErrNotFound].
	Token(ctx context.Context, id string) (*db.Token, error)
}

// Reason says why a secret was refused. It is for the log and the audit trail;
// the caller gets the same answer for each of them.
type Reason string

// The reasons of a [Refused].
const (
	Missing   Reason = "missing"   // nothing was presented
	Differing Reason = "differing" // several secrets were presented
	Malformed Reason = "malformed" // not the text of a key: length, characters or checksum
	Unknown   Reason = "unknown"   // no such ID
	Wrong     Reason = "wrong"     // the ID exists, the secret does not open it
	Disabled  Reason = "disabled"
	Expired   Reason = "expired"
	Revoked   Reason = "revoked"
)

// Refused is the error for a secret that opens nothing: always a 401, always
// with the same words.
type Refused struct {
	Reason Reason
	// KeyID is the ID that was presented, empty when nothing well-formed was.
	KeyID string
}

func (e *Refused) Error() string {
	if e.KeyID == "" {
		return "secret refused: " + string(e.Reason)
	}
	return fmt.Sprintf("secret refused: %s, ID %s", e.Reason, e.KeyID)
}

// TooMany is the error for an unproven secret that was not looked at, because
// too many wrong ones came for the same ID or from the same address: a 429.
type TooMany struct {
	// KeyID is the ID that was presented, empty for the admin password.
	KeyID string
	// RetryAfter is when the oldest of these failures is a minute old.
	RetryAfter time.Duration
}

func (e *TooMany) Error() string {
	return fmt.Sprintf("too many failures, try again in %s", e.RetryAfter.Round(time.Second))
}

// Busy is the error for a secret that was not looked at because the queue for
// proofs is full: a 503.
type Busy struct {
	RetryAfter time.Duration
}

func (e *Busy) Error() string { return "the queue for proofs is full" }
