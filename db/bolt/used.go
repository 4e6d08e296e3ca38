package bolt

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// lastUse is when a key or token was last used. Requests note it in memory;
// flushUsed writes down what changed.
type lastUse struct {
	nanos atomic.Int64 // Unix time; 0 = never
	saved atomic.Int64 // what the file has
}

// load reads the time from the bucket of these times, nil where there is none.
func (u *lastUse) load(b *bbolt.Bucket, id string) {
	if b == nil {
		return
	}
	if v := b.Get([]byte(id)); len(v) == 8 {
		n := int64(binary.BigEndian.Uint64(v))
		u.nanos.Store(n)
		u.saved.Store(n)
	}
}

// touch notes a use; the newest time wins.
func (u *lastUse) touch(t time.Time) {
	n := t.UnixNano()
	for {
		old := u.nanos.Load()
		if n <= old || u.nanos.CompareAndSwap(old, n) {
			return
		}
	}
}

func (u *lastUse) time() time.Time {
	n := u.nanos.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// flushUsed writes down the times of last use that changed.
func (d *DB) flushUsed() error {
	changed := map[string]int64{}
	uses := map[string]*lastUse{}
	note := func(id string, u *lastUse) {
		if n := u.nanos.Load(); n != u.saved.Load() {
			changed[id], uses[id] = n, u
		}
	}
	for _, e := range d.keys.all() {
		note(e.key.Load().ID, &e.used)
	}
	for _, e := range d.tokens.all() {
		note(e.token.Load().ID, &e.used)
	}
	if len(changed) == 0 {
		return nil
	}
	err := d.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketUsed))
		for id, n := range changed {
			if err := b.Put([]byte(id), binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, n := range changed {
		uses[id].saved.Store(n)
	}
	return nil
}
