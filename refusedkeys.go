package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/db"
	"tokenhub/proxy"
)

const (
	// refusedKinds is how many kinds of refusals are told apart at a time.
	refusedKinds = 200
	// refusedFirst is how long the first refusal of a kind waits for its entry at
	// most, refusedAgain how much time is between two entries of a kind.
	refusedFirst = 30 * time.Second
	refusedAgain = time.Hour
	// refusedLast is how long it writes at the end: on a slow disk each entry takes
	// its time, and others wait to be stopped.
	refusedLast = 2 * time.Second
)

// refusedKeys tells the audit trail of API keys that were refused: which, why, from
// where and how many times, in few entries however many there are.
type refusedKeys struct {
	store refusedStore
	log   zerolog.Logger

	mu    sync.Mutex // guards what follows
	kinds map[refusedKind]*refusedCount
}

// refusedStore is what it needs of the store.
type refusedStore interface {
	Key(ctx context.Context, id string) (*db.Key, error)
	AddAudit(ctx context.Context, a db.Audit) error
}

// refusedKind is what refusals have in common that are counted together.
type refusedKind struct {
	key    string // ID of one that exists, else empty
	reason string
	// from is the address, or the /64 of IPv6, of which one caller has all.
	from netip.Prefix
}

// refusedCount counts the refusals of a kind since its last entry.
type refusedCount struct {
	n       int64
	written time.Time // zero before the first entry
}

func newRefusedKeys(store refusedStore, log zerolog.Logger) *refusedKeys {
	return &refusedKeys{store: store, log: log, kinds: map[refusedKind]*refusedCount{}}
}

// refused is told of each error that the gateway answered with itself.
func (s *server) refused(e *proxy.Error, from netip.Addr) {
	s.metrics.Refuse(e.Code)
	s.refusedKeys.note(e.Err, from)
}

// note counts a refusal, if the key is the cause of it. An ID that there is none of
// tells nothing and may be anything, so those count together.
func (r *refusedKeys) note(cause error, from netip.Addr) {
	kind := refusedKind{from: auth.Origin(from)}
	var refused *auth.Refused
	var many *auth.TooMany
	switch {
	case errors.As(cause, &refused):
		kind.reason = string(refused.Reason)
		if refused.Reason != auth.Unknown {
			kind.key = refused.KeyID
		}
	case errors.As(cause, &many):
		kind.key, kind.reason = many.KeyID, "too_many_failures"
	default:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kinds[kind] == nil && len(r.kinds) >= refusedKinds {
		// There are as many keys as were made, but any number of addresses.
		kind.from = netip.Prefix{}
		if kind.key == "" || len(r.kinds) >= 2*refusedKinds && r.kinds[kind] == nil {
			kind = refusedKind{reason: "others"}
		}
	}
	c := r.kinds[kind]
	if c == nil {
		c = &refusedCount{}
		r.kinds[kind] = c
	}
	c.n++
}

// run writes what is due until ctx ends, and then the rest.
func (r *refusedKeys) run(ctx context.Context) error {
	tick := time.NewTicker(refusedFirst)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusedLast)
			defer cancel()
			r.write(last, 0)
			return nil
		case <-tick.C:
			r.write(ctx, refusedAgain)
		}
	}
}

// write makes an entry of each kind that has none yet, or none for a time. What
// can't be written waits for the next time.
func (r *refusedKeys) write(ctx context.Context, again time.Duration) {
	for kind, n := range r.due(again) {
		a := db.Audit{Time: time.Now(), Actor: "gateway", Action: "key.refused", Target: kind.key}
		switch {
		case kind.from.IsSingleIP():
			a.From = kind.from.Addr().String()
		case kind.from.IsValid():
			a.From = kind.from.String()
		}
		if k, err := r.store.Key(ctx, kind.key); err == nil {
			a.TargetName = k.Name
		}
		after, _ := json.Marshal(struct { // texts and numbers always marshal
			Reason string `json:"reason"`
			Count  int64  `json:"count"`
		}{kind.reason, n})
		a.After = string(after)
		if err := r.store.AddAudit(ctx, a); err != nil && ctx.Err() != nil {
			return
		} else if err != nil {
			r.log.Warn().Err(err).Msg("note refused keys in the audit trail")
			return
		}
		r.mu.Lock()
		c := r.kinds[kind]
		c.n, c.written = c.n-n, time.Now()
		r.mu.Unlock()
	}
}

// due returns the kinds that an entry is to be made of, with their counts, and
// forgets those that ended.
func (r *refusedKeys) due(again time.Duration) map[refusedKind]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := map[refusedKind]int64{}
	for kind, c := range r.kinds {
		switch waits := !c.written.IsZero() && time.Since(c.written) < again; {
		case waits:
		case c.n > 0:
			due[kind] = c.n
		default:
			delete(r.kinds, kind)
		}
	}
	return due
}
