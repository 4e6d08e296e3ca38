package dbtest

import (
	"fmt"
	"time"

	"tokenhub/db"
)

func testTokens(f *fixture) {
	ctx := f.Context()
	_, err := f.Store.Token(ctx, "nobody")
	f.is("a token that never was", err, db.ErrNotFound)
	token := &db.Token{ID: "token00001", Name: "grafana", Secret: db.Secret{PHC: "$argon2id$x"}, CreatedAt: f.now, ReadOnly: true}
	stored, err := f.Store.PutToken(ctx, token, db.Audit{Action: "token.create", Target: token.ID})
	f.ok(err)
	want := token.Clone()
	want.Revision = 1
	f.same("stored", stored, want)

	put := func(id string, revision uint64) error {
		_, err := f.Store.PutToken(ctx, &db.Token{ID: id, Name: "refused", Revision: revision}, db.Audit{Action: "token.refused"})
		return err
	}
	f.is("create a second time", put(token.ID, 0), db.ErrExists)
	f.is("another revision", put(token.ID, 2), db.ErrConflict)
	f.is("change what is not there", put("nobody", 1), db.ErrNotFound)

	token.Name = "mine" // the caller's record is the caller's
	read, err := f.Store.Token(ctx, token.ID)
	f.ok(err)
	f.same("read", read, want)

	next := read.Clone()
	next.RevokedAt = f.now.Add(time.Hour)
	_, err = f.Store.PutToken(ctx, next, db.Audit{Action: "token.revoke", Target: token.ID})
	f.ok(err)
	f.same("a record that was read before", read, want)
	_, err = f.Store.PutToken(ctx, &db.Token{ID: "token00002", Name: "newer", CreatedAt: f.now.Add(time.Second)}, db.Audit{Action: "token.create"})
	f.ok(err)

	for range 2 {
		list, err := f.Store.AllTokens(ctx)
		f.ok(err)
		if len(list) != 2 || list[0].ID != "token00002" || list[1].ID != token.ID || list[1].RevokedAt.IsZero() || list[1].Revision != 2 {
			f.Fatalf("got %s, want both, the newest first, the other one revoked", text(list))
		}
		f.restart()
	}
	entries, _, err := f.Store.AuditLog(ctx, db.AuditQuery{Target: token.ID})
	f.ok(err)
	if len(entries) != 2 || entries[0].Action != "token.revoke" {
		f.Errorf("got audit entries %s, want one of each change that was made", text(entries))
	}
}

func testTouchToken(f *fixture) {
	ctx := f.Context()
	stored, err := f.Store.PutToken(ctx, &db.Token{ID: "token00001", Name: "ci", CreatedAt: f.now, LastUsedAt: f.now}, db.Audit{Action: "token.create"})
	f.ok(err)
	if !stored.LastUsedAt.IsZero() {
		f.Errorf("the caller says when the token was last used: %v", stored.LastUsedAt)
	}
	used := f.now.Add(time.Minute)
	f.Store.TouchToken("token00001", used)
	f.Store.TouchToken("token00001", f.now)
	check := func(when string) {
		f.Helper()
		token, err := f.Store.Token(ctx, "token00001")
		f.ok(err)
		if !token.LastUsedAt.Equal(used) {
			f.Errorf("%s: last used at %v, want %v", when, token.LastUsedAt, used)
		}
		list, err := f.Store.AllTokens(ctx)
		f.ok(err)
		if len(list) != 1 || !list[0].LastUsedAt.Equal(used) {
			f.Errorf("%s: the list says %s, want %v", when, text(list), used)
		}
	}
	check("after a use")
	_, err = f.Store.PutToken(ctx, stored, db.Audit{Action: "token.update"})
	f.ok(err)
	check("after a change")
	f.restart()
	check("after a restart")
}

func testSettings(f *fixture) {
	ctx := f.Context()
	_, err := f.Store.Setting(ctx, "admin.password")
	f.is("a setting that never was", err, db.ErrNotFound)
	f.ok(f.Store.PutSetting(ctx, "admin.password", "$argon2id$1", db.Audit{Action: "admin.password"}))
	f.ok(f.Store.PutSetting(ctx, "admin.password", "$argon2id$2", db.Audit{Action: "admin.password"}))
	f.ok(f.Store.PutSetting(ctx, "quiet", "x", db.Audit{Actor: "nobody"}))
	f.ok(f.Store.PutSetting(ctx, "gone", "x", db.Audit{}))
	f.ok(f.Store.PutSetting(ctx, "gone", "", db.Audit{}))
	f.ok(f.Store.PutSetting(ctx, "never", "", db.Audit{}))
	for range 2 {
		for name, want := range map[string]string{"admin.password": "$argon2id$2", "quiet": "x"} {
			if got, err := f.Store.Setting(ctx, name); err != nil || got != want {
				f.Errorf("%s: got %q, %v, want %q", name, got, err, want)
			}
		}
		for _, name := range []string{"gone", "never"} {
			_, err := f.Store.Setting(ctx, name)
			f.is(name, err, db.ErrNotFound)
		}
		f.restart()
	}
	entries, _, err := f.Store.AuditLog(ctx, db.AuditQuery{})
	f.ok(err)
	if len(entries) != 2 {
		f.Errorf("got %s, want the two entries that have an action", text(entries))
	}
}

func testAuditLog(f *fixture) {
	ctx := f.Context()
	entries, next, err := f.Store.AuditLog(ctx, db.AuditQuery{})
	f.ok(err)
	if len(entries) != 0 || next != "" {
		f.Fatalf("a new store has the audit trail %s, next %q", text(entries), next)
	}
	full := db.Audit{Time: f.now, Actor: "token:ci", From: "10.1.2.3", Action: "key.update", Target: "k1", TargetName: "laptop",
		Before: `{"name":"a"}`, After: `{"name":"b"}`}
	f.ok(f.Store.AddAudit(ctx, full))
	f.ok(f.Store.AddAudit(ctx, db.Audit{Time: f.now.Add(time.Second), Actor: "admin", Action: "config.reload"}))
	f.restart()
	f.ok(f.Store.AddAudit(ctx, db.Audit{Time: f.now.Add(2 * time.Second), Actor: "admin", Action: "key.revoke", Target: "k1"}))

	entries, next, err = f.Store.AuditLog(ctx, db.AuditQuery{})
	f.ok(err)
	if len(entries) != 3 || next != "" {
		f.Fatalf("got %s, next %q, want three entries on one page", text(entries), next)
	}
	if entries[0].Action != "key.revoke" || entries[1].Action != "config.reload" {
		f.Errorf("got %s, want the newest first", text(entries))
	}
	if entries[0].ID <= entries[1].ID || entries[1].ID <= entries[2].ID || entries[2].ID == 0 {
		f.Errorf("the IDs do not grow: %s", text(entries))
	}
	full.ID = entries[2].ID
	f.same("entry", entries[2], full)

	entries, _, err = f.Store.AuditLog(ctx, db.AuditQuery{Target: "k1"})
	f.ok(err)
	if len(entries) != 2 || entries[0].Action != "key.revoke" || entries[1].Action != "key.update" {
		f.Errorf("got %s, want those of k1", text(entries))
	}
}

func testAuditPages(f *fixture) {
	ctx := f.Context()
	const many = 502
	for n := range many {
		f.ok(f.Store.AddAudit(ctx, db.Audit{Time: f.now, Action: fmt.Sprint(n), Target: []string{"even", "odd"}[n%2]}))
	}
	for limit, size := range map[int]int{0: 100, 99: 99, many / 2: many / 2, 500: 500, many: 500, 10_000: 500} {
		newest, before := many-1, ""
		for {
			entries, next, err := f.Store.AuditLog(ctx, db.AuditQuery{Before: before, Limit: limit})
			f.ok(err)
			if want := min(size, newest+1); len(entries) != want {
				f.Fatalf("limit %d: got %d entries, want %d", limit, len(entries), want)
			}
			for _, a := range entries {
				if a.Action != fmt.Sprint(newest) {
					f.Fatalf("limit %d: got %s, want %d", limit, a.Action, newest)
				}
				newest--
			}
			if (next == "") != (newest < 0) {
				f.Fatalf("limit %d: the cursor is %q with %d entries left", limit, next, newest+1)
			}
			if before = next; next == "" {
				break
			}
		}
	}
	// An entry that is added while one reads does not move the pages.
	entries, next, err := f.Store.AuditLog(ctx, db.AuditQuery{Target: "odd", Limit: 1})
	f.ok(err)
	f.ok(f.Store.AddAudit(ctx, db.Audit{Time: f.now, Action: "late", Target: "odd"}))
	more, _, err := f.Store.AuditLog(ctx, db.AuditQuery{Target: "odd", Limit: 1, Before: next})
	f.ok(err)
	if len(entries) != 1 || len(more) != 1 || entries[0].Action != "501" || more[0].Action != "499" {
		f.Errorf("got %s, then %s, want 501, then 499", text(entries), text(more))
	}
}
