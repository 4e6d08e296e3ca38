package bolt

import (
	"encoding/binary"
	"errors"
	"time"

	"tokenhub/db"
)

// entry is one record as the journal and the log of requests hold it: what the
// caller gave, and what the ledger has to know to count it again after a crash.
type entry struct {
	rec db.Record
	// charged: a settlement, which counts in limits; else a note.
	charged bool
	// ownModel and ownServed: the name has a row of its own in the roll-ups.
	ownModel, ownServed bool
	// day and month are the starts of the windows it was reserved in, in Unix
	// seconds.
	day, month int64
}

// The first byte of an encoded record, and the bits of the second.
const (
	recordVersion = 1

	flagCharged = 1 << iota >> 1
	flagOwnModel
	flagOwnServed
	flagStream
	flagBroken
)

const (
	// recordHead is the length of version, flags and start.
	recordHead = 10
	// statusAt is the place of the status among the numbers.
	statusAt = 4
)

// maxText is the length at which a text in a record is cut; names that are
// longer than that never come so far.
const maxText = 1 << 10

var errRecord = errors.New("not a record")

// appendRecord encodes e behind b.
func appendRecord(b []byte, e *entry) []byte {
	r := &e.rec
	flags := bit(e.charged, flagCharged) | bit(e.ownModel, flagOwnModel) | bit(e.ownServed, flagOwnServed) |
		bit(r.Stream, flagStream) | bit(r.Broken, flagBroken)
	b = append(b, recordVersion, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Start.UnixNano()))
	for _, n := range [...]int64{
		e.day, e.month, int64(r.Latency), int64(r.FirstByte), int64(r.Status), int64(r.Attempt), r.Cost,
		r.Usage.Input, r.Usage.Output, r.Usage.CachedInput, r.Usage.CacheWrite, r.Usage.Reasoning,
	} {
		b = binary.AppendVarint(b, n)
	}
	for _, s := range [...]string{r.ID, r.KeyID, r.Model, r.Served, r.Provider, r.Endpoint, r.Source, r.Error} {
		if len(s) > maxText {
			s = s[:maxText]
		}
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}

// texts gives texts that come again and again, as all of a record but its ID,
// one piece of memory. A nil one gives each a new one.
type texts map[string]string

func (t texts) of(b []byte) string {
	text, ok := t[string(b)]
	if !ok {
		text = string(b)
		if len(t) < 10_000 && t != nil {
			t[text] = text
		}
	}
	return text
}

// decodeRecord is the inverse of appendRecord; b is not kept.
func decodeRecord(b []byte, known texts) (entry, error) {
	var e entry
	if len(b) < recordHead || b[0] != recordVersion || b[1] >= flagBroken<<1 {
		return e, errRecord
	}
	r := &e.rec
	flags := b[1]
	e.charged, e.ownModel, e.ownServed = flags&flagCharged != 0, flags&flagOwnModel != 0, flags&flagOwnServed != 0
	r.Stream, r.Broken = flags&flagStream != 0, flags&flagBroken != 0
	r.Start = time.Unix(0, int64(binary.BigEndian.Uint64(b[2:]))).UTC()
	b = b[recordHead:]
	var latency, firstByte, status, attempt int64
	for _, p := range [...]*int64{
		&e.day, &e.month, &latency, &firstByte, &status, &attempt, &r.Cost,
		&r.Usage.Input, &r.Usage.Output, &r.Usage.CachedInput, &r.Usage.CacheWrite, &r.Usage.Reasoning,
	} {
		n, size := binary.Varint(b)
		if size <= 0 {
			return e, errRecord
		}
		*p, b = n, b[size:]
	}
	r.Latency, r.FirstByte = time.Duration(latency), time.Duration(firstByte)
	r.Status, r.Attempt = int(status), int(attempt)
	for i, p := range [...]*string{&r.ID, &r.KeyID, &r.Model, &r.Served, &r.Provider, &r.Endpoint, &r.Source, &r.Error} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > maxText || uint64(len(b)-size) < n {
			return e, errRecord
		}
		if text := b[size : size+int(n)]; i == 0 {
			*p = string(text)
		} else {
			*p = known.of(text)
		}
		b = b[size+int(n):]
	}
	if len(b) != 0 {
		return e, errRecord
	}
	return e, nil
}
