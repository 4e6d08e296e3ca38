package db

import "time"

// Usage is what a provider reported for one request. Input contains CachedInput
// and CacheWrite; Output contains Reasoning.
type Usage struct {
	Input       int64 `json:"input_tokens"`
	Output      int64 `json:"output_tokens"`
	CachedInput int64 `json:"cached_input_tokens"`
	CacheWrite  int64 `json:"cache_write_tokens"`
	Reasoning   int64 `json:"reasoning_tokens"`
}

// Tokens is what counts against token limits.
func (u Usage) Tokens() int64 { return u.Input + u.Output }

// The values of Record.Source.
const (
	// FromProvider: the provider reported the usage.
	FromProvider = "provider"
	// Estimated: it did not, and the numbers were derived from the bytes.
	Estimated = "estimated"
	// Aborted: the answer ended early (the caller left, the provider broke off,
	// the key was revoked); the numbers are what was reported or derived until then.
	Aborted = "aborted"
)

// OtherModel is the name under which roll-ups count models that no provider has
// answered yet, since callers may ask for any name.
const OtherModel = "other"

// UnknownCost is the Cost of a request whose model has no price.
const UnknownCost = int64(-1)

// Record is one request that was sent to a provider: metadata only, never a
// prompt or an answer.
type Record struct {
	// ID is the request ID that the caller saw, "req_...".
	ID string `json:"id"`
	// Start is when the request came: the roll-up hour it counts in. Its windows
	// are those of its claim.
	Start time.Time `json:"start"`
	// Latency and FirstByte are measured from Start; FirstByte is 0 without an answer.
	Latency   time.Duration `json:"latency"`
	FirstByte time.Duration `json:"first_byte"`
	KeyID     string        `json:"key"`
	// Model is the name asked for, Served the model that was sent to the provider.
	Model    string `json:"model"`
	Served   string `json:"served_model"`
	Provider string `json:"provider"`
	// Endpoint is method and path without the query, as "POST /v1/chat/completions".
	Endpoint string `json:"endpoint"`
	// Status is what the provider answered; 0 when it did not.
	Status int  `json:"status"`
	Stream bool `json:"stream"`
	// Broken says that the answer did not arrive whole (Source may still be FromProvider).
	Broken bool `json:"broken"`
	Usage  Usage
	// Cost is in micro-dollars, UnknownCost without a price.
	Cost int64 `json:"cost"`
	// Source is FromProvider, Estimated or Aborted; empty when there was nothing to count.
	Source string `json:"source"`
	// Attempt counts from 1 within one request of the caller's.
	Attempt int `json:"attempt"`
	// Error says in a word why there is no whole answer: "canceled", "broken",
	// "timeout", "connect", "revoked", "shutdown"; empty otherwise.
	Error string `json:"error,omitempty"`
}

// Failed reports whether the request counts among the errors of a report.
func (r *Record) Failed() bool { return r.Status >= 400 || r.Status == 0 || r.Broken }

// UsageQuery asks for sums of roll-ups.
type UsageQuery struct {
	// From and To (exclusive) are whole hours.
	From, To time.Time
	// GroupBy holds any of key, model, served_model, provider, day, hour. Tags
	// are joined by the asker, who knows them.
	GroupBy []string
	// Key, Model, Provider keep rows of one key ID, asked-for model, provider; empty = all.
	Key, Model, Provider string
	// Zone is where a day begins; nil = UTC.
	Zone *time.Location
}

// UsageRow is one sum; the group fields that were not asked for are empty.
type UsageRow struct {
	Key, Model, Served, Provider string
	// Time is the begin of the day or hour.
	Time time.Time
	Sums
}

// Sums is what roll-ups add up.
type Sums struct {
	Requests, Errors int64
	Usage            Usage
	// Cost is in micro-dollars; Unpriced counts the requests whose cost is unknown.
	Cost, Unpriced int64
	// Estimated counts requests whose Source is Estimated or Aborted.
	Estimated int64
}

// Add adds o to s.
func (s *Sums) Add(o Sums) {
	s.Requests += o.Requests
	s.Errors += o.Errors
	s.Usage.Input += o.Usage.Input
	s.Usage.Output += o.Usage.Output
	s.Usage.CachedInput += o.Usage.CachedInput
	s.Usage.CacheWrite += o.Usage.CacheWrite
	s.Usage.Reasoning += o.Usage.Reasoning
	s.Cost += o.Cost
	s.Unpriced += o.Unpriced
	s.Estimated += o.Estimated
}

// RequestQuery selects records of the log of requests.
type RequestQuery struct {
	// Key, Model, Provider keep one key ID, model (asked for or served), provider.
	Key, Model, Provider string
	// ID keeps the records of one request ID.
	ID string
	// Status keeps one status (404) or a class of them (4 = 4xx); 0 = all.
	Status int
	// From and To keep the requests that began in [From, To); zero = open.
	From, To time.Time
	// Most bounds the search: an engine may end a page, full or not, when it has
	// looked at about as many records. Its cursor leads on. 0 = until the page is
	// full or the log ends.
	Most int
	// Before is the cursor of an earlier answer; empty = from the newest.
	Before string
	// Limit is the largest number of records; 0 = 100, at most 500.
	Limit int
}
