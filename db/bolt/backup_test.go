package bolt

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// backupOf writes a backup of d to a file.
func backupOf(t *testing.T, d *DB) string {
	t.Helper()
	var b bytes.Buffer
	if err := d.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBackupAndRestore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d := openDB(t, Options{Dir: dir})
	putKey(t, d, "k", db.Limits{})
	settle(t, d, record("req_1", "k", noon, 1, 0, 1))
	backup := backupOf(t, d)
	report, err := Check(t.Context(), backup)
	if err != nil || report.Keys != 1 || report.Requests != 1 || report.Rollups != 1 || report.Journal != 0 || report.Schema != 1 || len(report.Instance) != 32 {
		t.Errorf("check of the backup: got %+v, %v", report, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, backupTemp)); len(left) != 0 {
		t.Errorf("temporary files were left: %v", left)
	}
	// What comes after the backup is what the restore takes back.
	settle(t, d, record("req_2", "k", noon, 1, 0, 1))
	putKey(t, d, "late", db.Limits{})
	if _, err := Restore(t.Context(), backup, dir); !errors.Is(err, ErrLocked) {
		t.Errorf("restore into an open folder: got %v, want ErrLocked", err)
	}
	if _, err := Check(t.Context(), dir); !errors.Is(err, ErrLocked) {
		t.Errorf("check of an open folder: got %v, want ErrLocked", err)
	}
	crashed := copyFolder(t, dir)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"closed": dir, "crashed": crashed, "empty": filepath.Join(t.TempDir(), "new")} {
		t.Run(name, func(t *testing.T) {
			journalsBefore, _ := filepath.Glob(filepath.Join(copyFolderIfAny(t, dir), "usage-*.log"))
			kept, err := Restore(t.Context(), backup, dir)
			if err != nil {
				t.Fatal(err)
			}
			var problems []string
			if got := counted(t, dir, &problems); got != 1 || len(problems) != 0 {
				t.Errorf("after the restore: got %d requests, problems %q, want 1", got, problems)
			}
			d := openDB(t, Options{Dir: dir})
			if keys, _ := d.AllKeys(t.Context()); len(keys) != 1 || keys[0].ID != "k" {
				t.Errorf("after the restore: got keys %v", keys)
			}
			d.Close()
			// A process that was killed before it removed the old journal leaves it to Open.
			for _, old := range journalsBefore {
				if err := copyFile(t.Context(), old, filepath.Join(dir, filepath.Base(old))); err != nil {
					t.Fatal(err)
				}
			}
			if got := counted(t, dir, &problems); got != 1 || len(problems) != 0 {
				t.Errorf("with the old journal beside it: got %d requests, problems %q, want 1", got, problems)
			}
			if (name == "empty") != (kept == "") {
				t.Fatalf("kept %q", kept)
			}
			if kept == "" {
				return
			}
			// The old state comes back from what was kept.
			suffix := strings.TrimPrefix(filepath.Base(kept), DatabaseName)
			old := filepath.Join(t.TempDir(), "old")
			if err := os.Mkdir(old, 0o700); err != nil {
				t.Fatal(err)
			}
			files, _ := filepath.Glob(filepath.Join(dir, "*"+suffix))
			for _, f := range files {
				if err := copyFile(t.Context(), f, filepath.Join(old, strings.TrimSuffix(filepath.Base(f), suffix))); err != nil {
					t.Fatal(err)
				}
			}
			if got := counted(t, old, &problems); got != 2 || len(problems) != 0 {
				t.Errorf("the old state: got %d requests, problems %q, want 2", got, problems)
			}
		})
	}
}

// copyFolderIfAny copies a folder; without one the answer is an empty path.
func copyFolderIfAny(t *testing.T, dir string) string {
	t.Helper()
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return copyFolder(t, dir)
}

func TestRestoreRefusesBadBackups(t *testing.T) {
	dir := folderWithData(t)
	path := filepath.Join(dir, DatabaseName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.db")
	for name, b := range map[string][]byte{"empty": nil, "short": good[:6*4096], "text": []byte("hello"), "zeroed": append(bytes.Clone(good[:3*4096]), make([]byte, len(good)-3*4096)...)} {
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), bad, dir); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want a refusal of one line", name, err)
		}
	}
	if _, err := Restore(t.Context(), path, dir); err == nil {
		t.Error("restored the database from itself")
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
		t.Errorf("the database changed: %v", err)
	}
	d := openDB(t, Options{Dir: dir})
	if keys, _ := d.AllKeys(t.Context()); len(keys) != 40 {
		t.Errorf("got %d keys, want 40", len(keys))
	}
}

func TestCheckFindsDamagedRecords(t *testing.T) {
	for _, bucket := range []string{bucketKeys, bucketAudit, bucketCounters, bucketProviders} {
		dir := folderWithData(t)
		path := filepath.Join(dir, DatabaseName)
		file, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = file.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(bucket))
			k, v := b.Cursor().First()
			v = bytes.Clone(v)
			v[len(v)-1] ^= 1
			return b.Put(bytes.Clone(k), v)
		})
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		report, err := Check(t.Context(), dir)
		if err == nil || len(report.Problems) == 0 || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s: got %+v, %v, want a wrong checksum", bucket, report, err)
		}
	}
}

func TestCheckReadsTheJournal(t *testing.T) {
	dir, journal := crashed(t, 3)
	report, err := Check(t.Context(), dir)
	if err != nil || report.Journal != 3 {
		t.Errorf("got %d records in the journal, %v, want 3", report.Journal, err)
	}
	data, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, data[:len(data)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if report, err = Check(t.Context(), dir); err != nil || report.Journal != 2 {
		t.Errorf("with a torn tail: got %d, %v, want 2", report.Journal, err)
	}
	data[headerSize+20] ^= 1
	if err := os.WriteFile(journal, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if report, err = Check(t.Context(), dir); err == nil || report.Journal != 2 {
		t.Errorf("with a damaged record: got %d, %v, want 2 and an error", report.Journal, err)
	}
}

// A slow reader of a backup holds up nobody.
func TestBackupToSlowReader(t *testing.T) {
	d := openDB(t, Options{})
	putKey(t, d, "k", db.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Backup(ctx, writerFunc(func(p []byte) (int, error) {
		settle(t, d, record("req_1", "k", noon, 1, 0, 1))
		if err := d.fold(); err != nil {
			t.Error(err)
		}
		cancel()
		return len(p), nil
	}))
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := total(t, d); s.Requests == 0 {
		t.Error("nothing was settled meanwhile")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
