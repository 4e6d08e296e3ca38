// Package dbtest holds what tests of a store need: a suite that each engine
// passes, [Run], and a reference engine, [Memory], which is the fake in the tests
// of other packages and the oracle that the suite compares engines with.
//
//	func TestEngine(t *testing.T) {
//		dbtest.Run(t, func(t *testing.T) dbtest.Harness {
//			dir := t.TempDir()
//			store := open(t, dir)
//			t.Cleanup(func() { store.Close() })
//			return dbtest.Harness{Store: store, Reopen: func(t *testing.T) db.Store {
//				store.Close()
//				store = open(t, dir)
//				return store
//			}}
//		})
//	}
package dbtest

import (
	"testing"
	"time"

	"tokenhub/db"
)

// Harness is one open engine with empty data, and what the suite does to it.
// Whatever it opens is closed by t.Cleanup.
type Harness struct {
	// Store is the engine. Its claims and records are dated around March 2026,
	// whatever the real time is: open it so that nothing of it is too old.
	Store db.Store
	// Zone is where the engine's days and months begin; nil means UTC.
	Zone *time.Location
	// Reopen closes the engine and opens the same data again, as a restart does.
	Reopen func(t *testing.T) db.Store
	// OpenBackup opens what Backup wrote as an engine of its own; nil skips the
	// test of what is in a backup.
	OpenBackup func(t *testing.T, backup []byte) db.Store
	// FailWrites makes each write of the engine to its disk fail with err, until
	// it is called with nil; nil skips the tests of a failing disk.
	FailWrites func(err error)
}

// Run tests that an engine keeps the contract of package db. open is called once
// per test and returns an engine without any data.
//
// The random operations print their seed; DBTEST_SEED repeats a run, DBTEST_STEPS
// makes it longer.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	tests := []struct {
		name string
		run  func(f *fixture)
	}{
		{"Key/Put", testPutKey},
		{"Key/Revision", testKeyRevision},
		{"Key/RevisionRace", testKeyRevisionRace},
		{"Key/Snapshot", testKeySnapshot},
		{"Key/All", testAllKeys},
		{"Key/Touch", testTouchKey},
		{"Key/Watch", testWatchKeys},
		{"Token/Put", testTokens},
		{"Token/Touch", testTouchToken},
		{"Setting", testSettings},
		{"Audit/Log", testAuditLog},
		{"Audit/Pages", testAuditPages},

		{"Reserve/Limits", testLimits},
		{"Reserve/Parallel", testReserveParallel},
		{"Reserve/ParallelOpen", testReserveParallelOpen},
		{"Reserve/ParallelTraffic", testParallelTraffic},
		{"Reserve/ProviderCapParallel", testProviderCapParallel},
		{"Reserve/UnknownKey", testReserveUnknownKey},
		{"Reserve/NoLimits", testReserveNoLimits},
		{"Reserve/OpenOutput", testOpenOutput},
		{"Reserve/Windows", testWindows},
		{"Reserve/ClockSetBack", testClockSetBack},
		{"Reserve/ClockSetBackHours", testClockSetBackHours},
		{"Reserve/LateFailover", testLateFailover},
		{"Reserve/LimitsChange", testLimitsChange},
		{"Reserve/ProviderCap", testProviderCap},
		{"Reserve/Replaces", testReplaces},
		{"Reserve/ReplacesRefused", testReplacesRefused},
		{"Reserve/ReplacesNothing", testReplacesNothing},

		{"Settle/Truth", testSettle},
		{"Settle/Once", testSettleOnce},
		{"Settle/Late", testSettleLate},
		{"Release", testRelease},
		{"Note", testNote},
		{"KeyUsage", testKeyUsage},
		{"WatchUsage", testWatchUsage},

		{"Usage/Groups", testUsageGroups},
		{"Usage/Days", testUsageDays},
		{"Usage/Names", testUsageNames},
		{"Requests/Filters", testRequestFilters},
		{"Requests/Pages", testRequestPages},

		{"Restart", testRestart},
		{"Restart/Counters", testRestartCounters},
		{"Backup", testBackup},
		{"Context", testContext},
		{"Failure/Ledger", testFailingLedger},
		{"Failure/Records", testFailingRecords},

		{"Random/ClockNearlyRight", func(f *fixture) { testRandom(f, time.Minute) }},
		{"Random/ClockSetBackHours", func(f *fixture) { testRandom(f, 20*time.Hour) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t)
			tt.run(&fixture{T: t, Harness: h, now: time.Date(2026, 3, 7, 12, 10, 20, 0, time.UTC)})
		})
	}
}
