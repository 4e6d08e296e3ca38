package dbtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"tokenhub/db"
)

func testRestart(f *fixture) {
	ctx := f.Context()
	full := fullKey(f.id(), f.now)
	stored, err := f.Store.PutKey(ctx, full, db.Audit{Action: "key.create", Target: full.ID})
	f.ok(err)
	token, err := f.Store.PutToken(ctx, &db.Token{ID: "token00001", Name: "ci", CreatedAt: f.now}, db.Audit{Action: "token.create"})
	f.ok(err)
	f.ok(f.Store.PutSetting(ctx, "admin.password", "$argon2id$x", db.Audit{Action: "admin.password"}))
	id := f.key(db.Limits{})
	rec := f.request(id, "p", f.now, nil)

	for range 2 {
		f.restart()
		got, err := f.Store.Key(ctx, full.ID)
		f.ok(err)
		f.same("key", got, stored)
		gotToken, err := f.Store.Token(ctx, token.ID)
		f.ok(err)
		f.same("token", gotToken, token)
		value, err := f.Store.Setting(ctx, "admin.password")
		f.ok(err)
		f.same("setting", value, "$argon2id$x")
		entries, _, err := f.Store.AuditLog(ctx, db.AuditQuery{})
		f.ok(err)
		if len(entries) != 4 {
			f.Errorf("the audit trail holds %s, want four entries", text(entries))
		}
		recs, _, err := f.Store.Requests(ctx, db.RequestQuery{})
		f.ok(err)
		f.same("records", recs, []*db.Record{rec})
		f.ok(f.Store.Ready(ctx))
	}
	// It goes on where it was.
	next := stored.Clone()
	next.Name = "changed"
	again, err := f.Store.PutKey(ctx, next, db.Audit{Action: "key.update"})
	f.ok(err)
	if again.Revision != 2 {
		f.Errorf("got revision %d, want 2", again.Revision)
	}
}

func testRestartCounters(f *fixture) {
	limits := db.Limits{ConcurrentRequests: 2, RequestsPerMinute: 2, TotalTokens: 20}
	id := f.key(limits)
	f.request(id, "p", f.now, nil)
	held := f.reserve(f.claim(id))
	f.refused(f.claim(id), db.LimitRPM)
	f.restart()
	// Days, months and totals are as they were; minutes begin anew; nothing is held.
	want := f.usage(f.now, 0, 1, 7, 11, 0, 0)
	want.Minute = window(0, 0, 0, 0, 0, db.MinuteOf(f.now).End)
	f.same("after a restart", f.use(id, f.now), want)
	f.spend("p", f.now, 11, 0)
	f.reserve(f.claim(id))
	f.refused(f.claim(id), db.LimitTotalTokens)
	f.restart()
	f.same("after another", f.use(id, f.now), want)

	// Settled in several days and months, by several restarts.
	day, month := db.DayOf(f.now, f.Zone), db.MonthOf(f.now, f.Zone)
	f.limit(id, db.Limits{})
	for _, at := range []time.Time{f.now, day.End, day.End.Add(time.Hour), month.End, month.End.Add(time.Hour)} {
		f.request(id, "p", at, nil)
		f.restart()
	}
	// What was held by the process before has no say any more.
	f.Store.Release(f.Context(), held)
	u := f.use(id, month.End)
	f.same("day", u.Day, window(2, 14, 22, 0, 0, db.DayOf(month.End, f.Zone).End))
	f.same("month", u.Month, window(2, 14, 22, 0, 0, db.MonthOf(month.End, f.Zone).End))
	f.same("total", u.Total, window(6, 42, 66, 0, 0, time.Time{}))
	f.same("the month before", f.use(id, month.End.Add(-time.Second)).Month, window(4, 28, 44, 0, 0, month.End))
	f.spend("p", f.now, 44, 0)
	f.spend("p", month.End, 22, 0)
}

func testBackup(f *fixture) {
	ctx := f.Context()
	id := f.key(db.Limits{DailyTokens: 100})
	rec := f.request(id, "p", f.now, nil)
	running := f.reserve(f.claim(id))
	f.ok(f.Store.PutSetting(ctx, "name", "value", db.Audit{}))
	var backup bytes.Buffer
	f.ok(f.Store.Backup(ctx, &backup))
	if backup.Len() == 0 {
		f.Fatal("the backup is empty")
	}
	// The engine goes on, and what comes later is not in it.
	f.settle(running, nil)
	f.limit(id, db.Limits{DailyTokens: 200})
	if err := f.Store.Backup(ctx, brokenWriter{}); !errors.Is(err, errBroken) {
		f.Errorf("a backup to where nobody can write: got %v, want %v", err, errBroken)
	}
	f.ok(f.Store.Ready(ctx))
	if f.OpenBackup == nil {
		f.Skip("the harness does not open backups")
	}
	f.Store = f.OpenBackup(f.T, backup.Bytes())
	k, err := f.Store.Key(ctx, id)
	f.ok(err)
	if k.Limits.DailyTokens != 100 || k.Revision != 1 {
		f.Errorf("the backup holds %s", text(k))
	}
	u := f.use(id, f.now)
	f.same("total", u.Total, window(1, 7, 11, 0, 0, time.Time{}))
	f.same("day", u.Day, window(1, 7, 11, 0, 0, db.DayOf(f.now, f.Zone).End))
	recs, _, err := f.Store.Requests(ctx, db.RequestQuery{})
	f.ok(err)
	f.same("records", recs, []*db.Record{rec})
	rows := f.rows(db.UsageQuery{From: f.now.Truncate(time.Hour), To: f.now.Add(time.Hour).Truncate(time.Hour)})
	if len(rows) != 1 || rows[0].Requests != 1 {
		f.Errorf("the backup's usage is %s, want one request", text(rows))
	}
	value, err := f.Store.Setting(ctx, "name")
	f.ok(err)
	f.same("setting", value, "value")
}

var errBroken = errors.New("no space left on the tape")

// brokenWriter takes nothing.
type brokenWriter struct{}

var _ io.Writer = brokenWriter{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// testContext calls everything with a context that has ended: Settle, Release
// and Note finish, the others finish or return its error and change nothing.
func testContext(f *fixture) {
	id := f.key(db.Limits{})
	first, second := f.reserve(f.claim(id)), f.reserve(f.claim(id))
	ended, cancel := context.WithCancel(f.Context())
	cancel()
	f.ok(f.Store.Settle(ended, first, f.record(first)))
	f.Store.Release(ended, second)
	f.same("after the settlement", f.use(id, f.now), f.usage(f.now, 0, 1, 7, 11, 0, 0))

	mayEnd := func(what string, err error) {
		f.Helper()
		if err != nil && !errors.Is(err, context.Canceled) {
			f.Errorf("%s: got %v, want nil or %v", what, err, context.Canceled)
		}
	}
	r, err := f.Store.Reserve(ended, f.claim(id))
	mayEnd("Reserve", err)
	if err == nil {
		f.Store.Release(ended, r)
	}
	f.same("after a claim", f.use(id, f.now), f.usage(f.now, 0, 1, 7, 11, 0, 0))

	k, err := f.Store.Key(f.Context(), id)
	f.ok(err)
	change := k.Clone()
	change.Name = "changed"
	_, err = f.Store.PutKey(ended, change, db.Audit{Action: "key.update"})
	mayEnd("PutKey", err)
	now, readErr := f.Store.Key(f.Context(), id)
	f.ok(readErr)
	if (err == nil) != (now.Revision == 2) {
		f.Errorf("PutKey returned %v and left revision %d", err, now.Revision)
	}
	_, err = f.Store.Key(ended, id)
	mayEnd("Key", err)
	_, err = f.Store.AllKeys(ended)
	mayEnd("AllKeys", err)
	_, err = f.Store.KeyUsage(ended, id, f.now)
	mayEnd("KeyUsage", err)
	_, err = f.Store.Usage(ended, db.UsageQuery{From: f.now, To: f.now})
	mayEnd("Usage", err)
	_, _, err = f.Store.Requests(ended, db.RequestQuery{})
	mayEnd("Requests", err)
	_, _, err = f.Store.AuditLog(ended, db.AuditQuery{})
	mayEnd("AuditLog", err)
	mayEnd("AddAudit", f.Store.AddAudit(ended, db.Audit{Action: "x"}))
	mayEnd("Backup", f.Store.Backup(ended, io.Discard))
	mayEnd("Ready", f.Store.Ready(ended))
}
