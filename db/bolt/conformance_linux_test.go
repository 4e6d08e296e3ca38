package bolt

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"tokenhub/db"
	"tokenhub/db/dbtest"
)

// openMarch opens dir in the month in which the suite dates its records.
func openMarch(t *testing.T, dir string, disk *badDisk) *DB {
	t.Helper()
	d, err := Open(t.Context(), Options{Dir: dir, openFile: disk.open,
		Now: func() time.Time { return time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestConformance(t *testing.T) {
	dbtest.Run(t, func(t *testing.T) dbtest.Harness {
		dir := filepath.Join(t.TempDir(), "data")
		disk := &badDisk{}
		disk.room.Store(1 << 40)
		store := openMarch(t, dir, disk)
		var restore func()
		return dbtest.Harness{
			Store: store,
			Reopen: func(t *testing.T) db.Store {
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
				store = openMarch(t, dir, disk)
				return store
			},
			OpenBackup: func(t *testing.T, backup []byte) db.Store {
				file := filepath.Join(t.TempDir(), "backup.db")
				if err := os.WriteFile(file, backup, 0o600); err != nil {
					t.Fatal(err)
				}
				dir := filepath.Join(t.TempDir(), "restored")
				if _, err := Restore(t.Context(), file, dir); err != nil {
					t.Fatal(err)
				}
				return openMarch(t, dir, disk)
			},
			FailWrites: func(err error) {
				if err != nil {
					disk.room.Store(0)
					restore = readOnly(t, dir)
					return
				}
				disk.room.Store(1 << 40)
				restore()
			},
		}
	})
}
