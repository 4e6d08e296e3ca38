package db

import (
	"slices"
	"time"
)

// Status is what a key is at a moment: see [Key.StatusAt].
type Status string

// The four states of a key. Revoked is final; disabled is not.
const (
	Active   Status = "active"
	Disabled Status = "disabled"
	Expired  Status = "expired"
	Revoked  Status = "revoked"
)

// The two values of Key.Endpoints.
const (
	// Inference: the model calls, and nothing that is stored at a provider.
	Inference = "inference"
	// AllEndpoints: any method and path under /v1.
	AllEndpoints = "all"
)

// Secret is the stored form of one secret of a key or token.
type Secret struct {
	// PHC is the argon2id hash as a PHC string.
	PHC string `json:"phc"`
	// Until is when it ends: the zero time for the current secret, the end of
	// the grace period for one that was rotated out.
	Until time.Time `json:"until,omitzero"`
}

// LiveAt reports whether the secret may still be presented at t.
func (s Secret) LiveAt(t time.Time) bool { return s.Until.IsZero() || t.Before(s.Until) }

// Key is one API key. The secret itself is nowhere in it.
type Key struct {
	// ID is 10 base62 characters; "th-" + ID is the prefix, which may be shown.
	ID string `json:"id"`
	// Name is 1 to 100 characters, not necessarily unique.
	Name string `json:"name"`
	// Secrets are the hashes that open the key, the current one first, then those
	// that live on for their grace.
	Secrets   []Secret  `json:"secrets"`
	CreatedAt time.Time `json:"created_at"`
	// ExpiresAt is the moment from which on the key is refused; zero = never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// RevokedAt is set once and never unset.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	Disabled  bool      `json:"disabled,omitempty"`
	// Models are globs of models that may be called; empty = all.
	Models []string `json:"models,omitempty"`
	// Providers are names of providers that may serve; empty = all.
	Providers []string `json:"providers,omitempty"`
	// Endpoints is Inference or AllEndpoints.
	Endpoints string `json:"endpoints"`
	// AllowedIPs are CIDRs in canonical form; empty = all.
	AllowedIPs []string `json:"allowed_ips,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	Limits     Limits   `json:"limits,omitzero"`
	// Revision counts the writes, from 1.
	Revision uint64 `json:"revision"`
}

// StatusAt tells what the key is at t.
func (k *Key) StatusAt(t time.Time) Status {
	switch {
	case !k.RevokedAt.IsZero():
		return Revoked
	case !k.ExpiresAt.IsZero() && !t.Before(k.ExpiresAt):
		return Expired
	case k.Disabled:
		return Disabled
	}
	return Active
}

// Prefix is the part of the key's text that may be shown anywhere.
func (k *Key) Prefix() string { return "th-" + k.ID }

// Clone returns a deep copy that is the caller's to change.
func (k *Key) Clone() *Key {
	c := *k
	c.Secrets = slices.Clone(k.Secrets)
	c.Models = slices.Clone(k.Models)
	c.Providers = slices.Clone(k.Providers)
	c.AllowedIPs = slices.Clone(k.AllowedIPs)
	c.Tags = slices.Clone(k.Tags)
	return &c
}

// Token is one token for the admin API.
type Token struct {
	// ID is 10 base62 characters; "tha-" + ID is the prefix.
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Secret    Secret    `json:"secret"`
	CreatedAt time.Time `json:"created_at"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	// LastUsedAt is kept by the engine: see Tokens.TouchToken.
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	// ReadOnly tokens may only ask (GET and HEAD).
	ReadOnly bool   `json:"read_only,omitempty"`
	Revision uint64 `json:"revision"`
}

// Prefix is the part of the token's text that may be shown anywhere.
func (t *Token) Prefix() string { return "tha-" + t.ID }

// Clone returns a copy that is the caller's to change.
func (t *Token) Clone() *Token { c := *t; return &c }

// Audit is one entry of the audit trail: a change, who made it, when, from
// where, and what was before and after. It never holds a secret or a hash.
type Audit struct {
	// ID is given by the engine; it grows with time and serves as cursor.
	ID   uint64    `json:"id"`
	Time time.Time `json:"time"`
	// Actor is who: "admin" (the password), "token:NAME", "cli", "gateway".
	Actor string `json:"actor"`
	// From is the address it came from, "socket" or "offline".
	From string `json:"from,omitempty"`
	// Action is "key.create", "key.update", "key.rotate", "key.revoke",
	// "token.create", "token.revoke", "admin.password", "config.reload", ...
	//
	// "key.refused" is no change: it counts requests whose key was refused, From
	// where they came, with "reason" and "count" in After.
	Action string `json:"action"`
	// Target is the ID of what was changed, if it has one, and TargetName its name then.
	Target     string `json:"target,omitempty"`
	TargetName string `json:"target_name,omitempty"`
	// Before and After hold the changed fields as JSON objects.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// AuditQuery selects entries of the audit trail.
type AuditQuery struct {
	// Target keeps entries of one target; empty = all.
	Target string
	// Before is the cursor of an earlier answer; empty = from the newest.
	Before string
	// Limit is the largest number of entries; 0 = 100, at most 500.
	Limit int
}
