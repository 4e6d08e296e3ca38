package dbtest

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"tokenhub/db"
)

// fullKey is a key in which each field is set.
func fullKey(id string, created time.Time) *db.Key {
	return &db.Key{
		ID: id, Name: "Käthe's laptop",
		Secrets:   []db.Secret{{PHC: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"}, {PHC: "$argon2id$old", Until: created.Add(24 * time.Hour)}},
		CreatedAt: created, ExpiresAt: created.Add(90 * 24 * time.Hour), RevokedAt: created.Add(time.Hour), Disabled: true,
		Models: []string{"gpt-*", "house"}, Providers: []string{"openai"}, Endpoints: db.AllEndpoints,
		AllowedIPs: []string{"10.0.0.0/8", "2001:db8::/32"}, Tags: []string{"team-a", "ci"},
		Limits: db.Limits{RequestsPerMinute: 1, TokensPerMinute: 2, ConcurrentRequests: 3, MaxTokensPerRequest: 4,
			DailyTokens: 5, MonthlyTokens: 6, TotalTokens: 7, DailyUSD: 8, MonthlyUSD: 9, TotalUSD: 1 << 62},
	}
}

func testPutKey(f *fixture) {
	ctx := f.Context()
	_, err := f.Store.Key(ctx, "nobody")
	f.is("a key that never was", err, db.ErrNotFound)

	k := fullKey(f.id(), f.now)
	stored, err := f.Store.PutKey(ctx, k, db.Audit{Action: "key.create", Target: k.ID})
	f.ok(err)
	if k.Revision != 0 {
		f.Errorf("the caller's record has revision %d now", k.Revision)
	}
	want := k.Clone()
	want.Revision = 1
	f.same("stored", stored, want)
	got, err := f.Store.Key(ctx, k.ID)
	f.ok(err)
	f.same("read", got, want)

	change := stored.Clone()
	change.Name, change.Tags, change.RevokedAt, change.Limits = "new name", nil, time.Time{}, db.Limits{DailyTokens: 50}
	stored, err = f.Store.PutKey(ctx, change, db.Audit{Action: "key.update", Target: k.ID})
	f.ok(err)
	want = change.Clone()
	want.Revision = 2
	f.same("stored again", stored, want)
	got, err = f.Store.Key(ctx, k.ID)
	f.ok(err)
	f.same("read again", got, want)

	entries, _, err := f.Store.AuditLog(ctx, db.AuditQuery{Target: k.ID})
	f.ok(err)
	if len(entries) != 2 || entries[0].Action != "key.update" || entries[1].Action != "key.create" {
		f.Errorf("got audit entries %s, want the two changes, the last one first", text(entries))
	}
}

func testKeyRevision(f *fixture) {
	ctx := f.Context()
	id := f.key(db.Limits{})
	f.limit(id, db.Limits{DailyTokens: 5})
	put := func(id string, revision uint64) error {
		k := &db.Key{ID: id, Name: "refused", Endpoints: db.Inference, CreatedAt: f.now, Revision: revision}
		_, err := f.Store.PutKey(ctx, k, db.Audit{Action: "key.refused", Target: id})
		return err
	}
	f.is("create a second time", put(id, 0), db.ErrExists)
	f.is("an old revision", put(id, 1), db.ErrConflict)
	f.is("a revision of the future", put(id, 3), db.ErrConflict)
	f.is("change what is not there", put("nobody", 1), db.ErrNotFound)

	got, err := f.Store.Key(ctx, id)
	f.ok(err)
	if got.Revision != 2 || got.Name != "key" || got.Limits.DailyTokens != 5 {
		f.Errorf("refused changes left %s", text(got))
	}
	entries, _, err := f.Store.AuditLog(ctx, db.AuditQuery{})
	f.ok(err)
	for _, a := range entries {
		if a.Action == "key.refused" {
			f.Errorf("a refused change stands in the audit trail: %s", text(a))
		}
	}
	_, err = f.Store.Key(ctx, "nobody")
	f.is("a refused key", err, db.ErrNotFound)
}

func testKeyRevisionRace(f *fixture) {
	id := f.key(db.Limits{})
	const writers = 16
	var won, lost atomic.Int64
	var group sync.WaitGroup
	for n := range writers {
		group.Go(func() {
			k := &db.Key{ID: id, Name: "key", Endpoints: db.Inference, Revision: 1, Limits: db.Limits{DailyTokens: int64(n + 1)}}
			switch _, err := f.Store.PutKey(f.Context(), k, db.Audit{Action: "key.update", Target: id}); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, db.ErrConflict):
				lost.Add(1)
			default:
				f.Errorf("got %v", err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || lost.Load() != writers-1 {
		f.Errorf("%d of %d writers with the same revision won, %d were told of the conflict", won.Load(), writers, lost.Load())
	}
}

func testKeySnapshot(f *fixture) {
	ctx := f.Context()
	k := fullKey(f.id(), f.now)
	stored, err := f.Store.PutKey(ctx, k, db.Audit{Action: "key.create"})
	f.ok(err)
	want := text(stored)
	spoil := func(k *db.Key) {
		k.Name, k.Secrets[0].PHC, k.Models[0], k.Tags[0], k.Providers[0], k.AllowedIPs[0] = "x", "x", "x", "x", "x", "x"
		k.Limits.DailyTokens++
	}
	spoil(k)
	spoil(stored.Clone())
	read, err := f.Store.Key(ctx, k.ID)
	f.ok(err)
	if text(read) != want {
		f.Fatalf("a change of the caller's own record got into the store: %s", text(read))
	}
	spoil(read.Clone())
	next := read.Clone()
	spoil(next)
	_, err = f.Store.PutKey(ctx, next, db.Audit{Action: "key.update"})
	f.ok(err)
	if text(read) != want {
		f.Errorf("a record that was read changed under its reader: %s", text(read))
	}
}

func testAllKeys(f *fixture) {
	ctx := f.Context()
	list, err := f.Store.AllKeys(ctx)
	f.ok(err)
	if len(list) != 0 {
		f.Fatalf("a new store holds %s", text(list))
	}
	for _, k := range []struct {
		id  string
		age time.Duration
	}{{"b", 2 * time.Hour}, {"a", time.Hour}, {"c", time.Hour}, {"e", 0}, {"d", 3 * time.Hour}} {
		key := fullKey(k.id+"000000000", f.now.Add(-k.age))
		_, err := f.Store.PutKey(ctx, key, db.Audit{Action: "key.create"})
		f.ok(err)
	}
	for range 2 {
		list, err := f.Store.AllKeys(ctx)
		f.ok(err)
		order := ""
		for _, k := range list {
			order += k.ID[:1]
		}
		if order != "ecabd" {
			f.Fatalf("got %s, want the newest first, then by ID: ecabd", order)
		}
		clear(list) // the slice is the caller's
	}
}

func testTouchKey(f *fixture) {
	id := f.key(db.Limits{})
	if got := f.Store.LastUsed(id); !got.IsZero() {
		f.Errorf("a new key was used at %v", got)
	}
	f.Store.TouchKey(id, f.now)
	f.Store.TouchKey(id, f.now.Add(-time.Hour))
	f.limit(id, db.Limits{DailyTokens: 1})
	if got := f.Store.LastUsed(id); !got.Equal(f.now) {
		f.Errorf("got %v, want the newest use, %v", got, f.now)
	}
	f.restart()
	if got := f.Store.LastUsed(id); !got.Equal(f.now) {
		f.Errorf("after a restart: got %v, want %v", got, f.now)
	}
	later := f.now.Add(time.Minute)
	f.Store.TouchKey(id, later)
	if got := f.Store.LastUsed(id); !got.Equal(later) {
		f.Errorf("got %v, want %v", got, later)
	}
}

func testWatchKeys(f *fixture) {
	ctx := f.Context()
	var running atomic.Int64
	seen := make(chan *db.Key, 100)
	stop := f.Store.WatchKeys(func(k *db.Key) {
		if running.Add(1) != 1 {
			f.Error("fn runs twice at once")
		}
		if live, err := f.Store.Key(ctx, k.ID); err != nil || live.Revision < k.Revision {
			f.Errorf("revision %d was told before it could be read: %v, %v", k.Revision, live, err)
		}
		running.Add(-1)
		seen <- k
	})
	first := f.key(db.Limits{})
	f.limit(first, db.Limits{DailyTokens: 1})
	second := f.key(db.Limits{})
	f.limit(first, db.Limits{DailyTokens: 2})
	for i, want := range []struct {
		id       string
		revision uint64
	}{{first, 1}, {first, 2}, {second, 1}, {first, 3}} {
		if k := receive(f, seen); k.ID != want.id || k.Revision != want.revision {
			f.Fatalf("change %d: got %s revision %d, want %s revision %d", i, k.ID, k.Revision, want.id, want.revision)
		}
	}

	// Many at once: still one at a time, and each key's revisions in order.
	var group sync.WaitGroup
	for range 4 {
		id := f.key(db.Limits{})
		group.Go(func() {
			for n := range 5 {
				k, err := f.Store.Key(ctx, id)
				if err == nil {
					k = k.Clone()
					k.Limits.DailyTokens = int64(n + 1)
					_, err = f.Store.PutKey(ctx, k, db.Audit{Action: "key.update"})
				}
				if err != nil {
					f.Error(err)
				}
			}
		})
	}
	group.Wait()
	last := map[string]uint64{}
	for range 4 * 6 {
		k := receive(f, seen)
		if k.Revision != last[k.ID]+1 {
			f.Errorf("key %s: revision %d follows %d", k.ID, k.Revision, last[k.ID])
		}
		last[k.ID] = k.Revision
	}

	stop()
	other := make(chan *db.Key, 10)
	stopOther := f.Store.WatchKeys(func(k *db.Key) { other <- k })
	defer stopOther()
	f.key(db.Limits{})
	receive(f, other)
	if len(seen) != 0 {
		f.Error("a watcher was called after stop")
	}
}

// receive waits for what a watcher is told.
func receive[T any](f *fixture, from <-chan T) T {
	f.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		f.Fatal("the watcher was not called")
		panic("unreachable")
	}
}
