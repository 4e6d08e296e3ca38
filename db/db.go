// Package db says what TokenHub must remember and what must stay true of it:
// keys, admin tokens, settings, the audit trail, the limits with their
// reservations, and the usage that was counted.
//
// It is a contract, not an engine: [Store] lists the intents and each of their
// outcomes, and the engines live below (db/bolt; db/dbtest has a reference engine
// in memory and the suite that each engine passes). The pure arithmetic that they
// share stands here: [Decide], [DayOf] and what is beside them. The package
// imports the standard library only.
//
//	key, err := store.Key(ctx, id)                  // live record
//	res, err := store.Reserve(ctx, db.Claim{...})   // the worst case, atomically
//	err = store.Settle(ctx, res, &db.Record{...})   // the truth replaces it, once
//
// Money is an int64 of micro-dollars (1 USD = 1,000,000) everywhere.
package db

import (
	"context"
	"errors"
	"io"
	"time"
)

// The outcomes that callers tell apart. Engines wrap them with what they know;
// match them with [errors.Is].
var (
	// ErrNotFound: there is no such key, token or setting.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the record was changed since the revision that was sent.
	ErrConflict = errors.New("changed meanwhile")
	// ErrExists: a record with this ID is already there.
	ErrExists = errors.New("already exists")
	// ErrStorage: the engine can't write (disk full, I/O error, closed). For the
	// caller of the gateway this is 503 storage_unavailable, never 401.
	ErrStorage = errors.New("storage unavailable")
)

// Store is what the program needs of an engine.
//
// All methods are safe for concurrent use. A context that has ended may end a
// call early with its error, except in Settle and Release, which always finish.
// No transaction, cursor or iterator leaves the engine. Reads of keys are served
// from memory; a change is in the file before any reader can see it.
type Store interface {
	Keys
	Tokens
	Settings
	Ledger
	Reports

	// Ready returns nil while the engine can write; the error says why not.
	Ready(ctx context.Context) error
	// Backup writes a consistent copy of everything as one file, usage folded
	// in, while the engine goes on working. Sessions and configuration are not
	// in it, since they are not in the engine.
	Backup(ctx context.Context, w io.Writer) error
}

// Keys is the part of the engine that holds API keys.
type Keys interface {
	// Key returns the live record, or ErrNotFound. The record is a snapshot that
	// nobody changes any more, shared between readers: who wants to change it
	// takes [Key.Clone].
	Key(ctx context.Context, id string) (*Key, error)
	// AllKeys returns all records, revoked ones included, the newest first
	// (by CreatedAt, then ID). The slice is the caller's.
	AllKeys(ctx context.Context) ([]*Key, error)
	// PutKey writes k and the audit entry a in one step and returns the record as
	// stored, with its new Revision. k.Revision 0 creates (ErrExists when the ID is
	// taken); otherwise it must equal the stored one, else ErrConflict; ErrNotFound
	// when there is none. LastUsedAt is never taken from k: see TouchKey.
	PutKey(ctx context.Context, k *Key, a Audit) (*Key, error)
	// TouchKey notes that the key was used at t. It is cheap (memory only); the
	// engine writes it down some time within a minute and at Close.
	TouchKey(id string, t time.Time)
	// LastUsed returns the newest time given to TouchKey, zero if there is none.
	LastUsed(id string) time.Time
	// WatchKeys calls fn with each record that PutKey stored, after it can be
	// read, one at a time and in order. fn must be quick. stop ends it.
	WatchKeys(fn func(*Key)) (stop func())
}

// Tokens is the part of the engine that holds admin tokens.
type Tokens interface {
	// Token returns the live record, or ErrNotFound; a snapshot like Key's.
	Token(ctx context.Context, id string) (*Token, error)
	// AllTokens returns all records, the newest first.
	AllTokens(ctx context.Context) ([]*Token, error)
	// PutToken follows the rules of PutKey.
	PutToken(ctx context.Context, t *Token, a Audit) (*Token, error)
	// TouchToken follows the rules of TouchKey.
	TouchToken(id string, t time.Time)
}

// Settings is the part of the engine that holds small named values, such as
// the hash of the admin password ("admin.password").
type Settings interface {
	// Setting returns the value, or ErrNotFound.
	Setting(ctx context.Context, name string) (string, error)
	// PutSetting writes the value and the audit entry in one step; an empty
	// value removes it. An audit entry without an Action is not written.
	PutSetting(ctx context.Context, name, value string, a Audit) error
}

// Ledger is the part of the engine that makes limits hold and numbers right.
type Ledger interface {
	// Reserve takes the worst case of one request out of the key's limits and
	// the provider's cap in one atomic step, linearizable per key: where there is
	// room for K, exactly K of N concurrent claims get it. The limits are those
	// of the live record, the windows those of c.Time.
	//
	// Outcomes: a Reservation; *LimitError with the first limit in the way;
	// ErrNotFound when the key is gone; ErrStorage when the journal can't be
	// written and the key has any limit.
	//
	// With c.Replaces set (the next attempt of the same request, at another
	// price) that reservation is given back in the same step and the request is
	// not counted again: it moves to the windows of c.Time and is not held against
	// the limits of concurrency and of requests. When the claim is refused the old
	// one stays as it was. An ID that holds nothing of this key is ignored.
	//
	// What a claim gets is decided by [Decide] in all engines.
	Reserve(ctx context.Context, c Claim) (Reservation, error)
	// Settle replaces what r holds with what r.Usage and r.Cost of rec really
	// were, in the windows in which it was reserved, and appends rec to the
	// journal. Settling twice is one settlement: the first one counts. The truth
	// always lands, above a limit too. An error means that rec is not on its way
	// to the disk yet (the engine keeps it and tries again); the limits know it.
	Settle(ctx context.Context, r Reservation, rec *Record) error
	// Release gives back what r holds, as if it had never been reserved:
	// nothing was sent to a provider. Releasing what was settled does nothing.
	Release(ctx context.Context, r Reservation)
	// Note journals an attempt that was sent and failed, and is charged nothing:
	// the request it belongs to goes on elsewhere.
	Note(ctx context.Context, rec *Record) error
	// KeyUsage tells where a key stands against its limits at t. Of each kind of
	// window the engine knows the newest one that was used and the one before it,
	// so that a clock which is set back a little finds its counters again. Set back
	// further, minutes begin anew.
	KeyUsage(ctx context.Context, id string, t time.Time) (KeyUsage, error)
	// ProviderSpend tells what was spent and is held at a provider in the month of t.
	ProviderSpend(ctx context.Context, provider string, t time.Time) (spent, held int64)
	// Watch calls fn after each settlement with the key's ID and where it stands;
	// alerts hang on it. fn must be quick. stop ends it.
	WatchUsage(fn func(keyID string, u KeyUsage)) (stop func())
}

// Reports is the part of the engine that answers questions about the past.
type Reports interface {
	// Usage sums the roll-ups, ordered by time, key, model, served model and
	// provider. It includes each request that was settled before it was asked.
	//
	// A model name has a row of its own from the first record on in which a
	// provider answered it with 2xx, asked for or served; what was settled before
	// stays under [OtherModel].
	Usage(ctx context.Context, q UsageQuery) ([]UsageRow, error)
	// Requests lists the log of requests, the newest first (by Start; of the same
	// moment, the one settled last). next is the cursor of the following page,
	// empty at the end. A page may hold less than its limit, or nothing, and have
	// a next only where q.Most bounds the search.
	Requests(ctx context.Context, q RequestQuery) (recs []Record, next string, err error)
	// AuditLog lists the audit trail, the newest first.
	AuditLog(ctx context.Context, q AuditQuery) (entries []Audit, next string, err error)
	// AddAudit appends an entry of a change that is not in the store (a reload, a
	// sign-in).
	AddAudit(ctx context.Context, a Audit) error
}
