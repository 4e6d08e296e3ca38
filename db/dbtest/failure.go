package dbtest

import (
	"errors"
	"time"

	"tokenhub/db"
)

// testFailingLedger fills the disk: running requests settle in memory, new ones
// of keys with any limit are refused, others go on; and all is well again when
// there is room.
func testFailingLedger(f *fixture) {
	if f.FailWrites == nil {
		f.Skip("the harness can't make writes fail")
	}
	ctx := f.Context()
	limited, free := f.key(db.Limits{DailyTokens: 1000}), f.key(db.Limits{MaxTokensPerRequest: 10})
	running, refusable := f.reserve(f.claim(limited)), f.reserve(f.claim(limited))
	f.FailWrites(errors.New("no space left on device"))

	f.is("settle", f.Store.Settle(ctx, running, f.record(running)), db.ErrStorage)
	f.same("the limits know it", f.use(limited, f.now), f.usage(f.now, 1, 2, 7, 11, 10, 20))
	_, err := f.Store.Reserve(ctx, f.claim(limited))
	f.is("reserve for a key with a limit", err, db.ErrStorage)
	f.is("ready", f.Store.Ready(ctx), db.ErrStorage)
	f.same("the refused claim left nothing", f.use(limited, f.now), f.usage(f.now, 1, 2, 7, 11, 10, 20))
	f.Store.Release(ctx, refusable)
	unlimited := f.reserve(f.claim(free))
	note := f.record(unlimited)
	note.Status = 503
	f.is("note", f.Store.Note(ctx, note), db.ErrStorage)
	hour := f.now.Truncate(time.Hour)
	rows := f.rows(db.UsageQuery{From: hour, To: hour.Add(time.Hour)})
	if len(rows) != 1 || rows[0].Requests != 2 {
		f.Errorf("while the disk is full the report says %s, want the settlement and the note", text(rows))
	}

	f.FailWrites(nil)
	f.settle(unlimited, nil) // the next settlement finds out
	f.ok(f.Store.Ready(ctx))
	f.settle(f.reserve(f.claim(limited)), nil)
	f.restart()
	f.same("nothing was lost", f.use(limited, f.now).Day, window(2, 14, 22, 0, 0, db.DayOf(f.now, f.Zone).End))
	rows = f.rows(db.UsageQuery{From: hour, To: hour.Add(time.Hour)})
	if len(rows) != 1 || rows[0].Requests != 4 {
		f.Errorf("afterwards the report says %s, want four requests", text(rows))
	}
	recs, _, err := f.Store.Requests(ctx, db.RequestQuery{})
	f.ok(err)
	if len(recs) != 4 {
		f.Errorf("afterwards the log holds %s, want four records", text(recs))
	}
}

// testFailingRecords fills the disk: no change is half made.
func testFailingRecords(f *fixture) {
	if f.FailWrites == nil {
		f.Skip("the harness can't make writes fail")
	}
	ctx := f.Context()
	id := f.key(db.Limits{})
	k, err := f.Store.Key(ctx, id)
	f.ok(err)
	told := 0
	defer f.Store.WatchKeys(func(*db.Key) { told++ })()
	f.FailWrites(errors.New("input/output error"))
	change := k.Clone()
	change.Name = "changed"
	_, err = f.Store.PutKey(ctx, change, db.Audit{Action: "key.update"})
	if err == nil {
		f.Skip("the harness fails the writes of usage only")
	}
	f.is("put a key", err, db.ErrStorage)
	_, err = f.Store.PutKey(ctx, fullKey("new0000000", f.now), db.Audit{Action: "key.create"})
	f.is("create a key", err, db.ErrStorage)
	_, err = f.Store.PutToken(ctx, &db.Token{ID: "token00001", Name: "x", CreatedAt: f.now}, db.Audit{Action: "token.create"})
	f.is("create a token", err, db.ErrStorage)
	f.is("put a setting", f.Store.PutSetting(ctx, "name", "value", db.Audit{}), db.ErrStorage)
	f.is("add to the audit trail", f.Store.AddAudit(ctx, db.Audit{Action: "x"}), db.ErrStorage)

	got, err := f.Store.Key(ctx, id)
	f.ok(err)
	f.same("the key", got, k)
	_, err = f.Store.Key(ctx, "new0000000")
	f.is("the new key", err, db.ErrNotFound)
	_, err = f.Store.Token(ctx, "token00001")
	f.is("the new token", err, db.ErrNotFound)
	_, err = f.Store.Setting(ctx, "name")
	f.is("the setting", err, db.ErrNotFound)
	entries, _, err := f.Store.AuditLog(ctx, db.AuditQuery{})
	f.ok(err)
	if len(entries) != 1 || told != 0 {
		f.Errorf("failed changes left %s, and %d were told", text(entries), told)
	}
	f.FailWrites(nil)
	_, err = f.Store.PutKey(ctx, change, db.Audit{Action: "key.update"})
	f.ok(err)
}
