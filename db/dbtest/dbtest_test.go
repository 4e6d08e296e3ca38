package dbtest_test

import (
	"bytes"
	"testing"
	"time"

	"tokenhub/db"
	"tokenhub/db/dbtest"
)

// TestMemory runs the suite against the engine that it takes for right.
func TestMemory(t *testing.T) {
	for _, name := range []string{"UTC", "America/Sao_Paulo", "Asia/Kolkata"} {
		t.Run(name, func(t *testing.T) {
			zone, err := time.LoadLocation(name)
			if err != nil {
				t.Skipf("no zone database: %v", err)
			}
			dbtest.Run(t, func(t *testing.T) dbtest.Harness {
				m := dbtest.Memory(dbtest.Options{Zone: zone})
				return dbtest.Harness{
					Store:      m,
					Zone:       zone,
					Reopen:     func(*testing.T) db.Store { m.Reopen(); return m },
					FailWrites: m.FailWrites,
					OpenBackup: func(t *testing.T, backup []byte) db.Store {
						restored, err := dbtest.OpenMemory(bytes.NewReader(backup), dbtest.Options{Zone: zone})
						if err != nil {
							t.Fatal(err)
						}
						return restored
					},
				}
			})
		})
	}
}

func TestMemoryHelpers(t *testing.T) {
	ctx := t.Context()
	m := dbtest.Memory(dbtest.Options{})
	if _, err := m.PutKey(ctx, &db.Key{ID: "k"}, db.Audit{}); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
	var held []db.Reservation
	for range 2 {
		r, err := m.Reserve(ctx, db.Claim{KeyID: "k", Time: now, Input: 5})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
	}
	if got := m.Holds(); len(got) != 2 || got[0] != held[0] || got[1] != held[1] {
		t.Errorf("got holds %+v, want %+v", got, held)
	}
	if err := m.Settle(ctx, held[0], &db.Record{ID: "req_1", Start: now}); err != nil {
		t.Fatal(err)
	}
	if err := m.Note(ctx, &db.Record{ID: "req_2", Start: now}); err != nil {
		t.Fatal(err)
	}
	m.Release(ctx, held[1])
	if got := m.Holds(); len(got) != 0 {
		t.Errorf("got holds %+v, want none", got)
	}
	recs := m.Records()
	if len(recs) != 2 || recs[0].ID != "req_1" || recs[0].KeyID != "k" || recs[1].ID != "req_2" {
		t.Errorf("got records %+v, want the settled one, then the noted one", recs)
	}
}
