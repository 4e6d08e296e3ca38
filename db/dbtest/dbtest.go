// Package dbtest holds what tests of a store need: a suite that each engine
// passes, [Run], and a reference engine, [Memory], which is the fake in the tests
// of other packages and the oracle that the suite compares engines with.
//
//	func TestEngine(t *testing.T) {
//		dbtest.Run(t, func(t *testing.T) dbtest.Harness {
//			dir := t.TempDir()
//			open := func(t *testing.T) db.Store { ... }
//			return dbtest.Harness{Store: open(t), Reopen: func(t *testing.T) db.Store { ... }}
//		})
//	}
package dbtest
