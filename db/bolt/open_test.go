package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// folderWithData makes a data folder with some keys and usage and closes it.
func folderWithData(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	d := openDB(t, Options{Dir: dir})
	for i := range 40 {
		putKey(t, d, strings.Repeat(string(rune('a'+i%26)), 10)+string(rune('0'+i/26)), db.Limits{TotalTokens: 1000})
	}
	settle(t, d, record("req_1", "aaaaaaaaaa0", noon, 1, 2, 3))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// refused opens dir and wants an error of one line that contains all of want.
func refused(t *testing.T, dir string, want ...string) {
	t.Helper()
	d, err := Open(t.Context(), Options{Dir: dir})
	if err == nil {
		d.Close()
		t.Fatalf("opened, want a refusal with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to contain %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("got several lines: %q", err)
	}
}

func TestRefusals(t *testing.T) {
	write := func(b []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	change := func(fn func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(fn(b))(t, path)
		}
	}
	update := func(fn func(tx *bbolt.Tx) error) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			file, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(file.Update(fn), file.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, path string)
		want   []string
	}{
		{"empty", write(nil), []string{"is empty (0 bytes)", "tokenhub restore"}},
		{"foreign", write([]byte(strings.Repeat("SQLite format 3", 1000))), []string{"not a TokenHub database"}},
		{"short", change(func(b []byte) []byte { return b[:6*4096] }), []string{"is cut short", "tokenhub restore"}},
		{"head only", change(func(b []byte) []byte { return b[:100] }), []string{"is cut short", "tokenhub restore"}},
		{"no meta pages", change(func(b []byte) []byte { clear(b[20:80]); clear(b[4096+20 : 4096+80]); return b }), []string{"is damaged"}},
		{"zeroed pages", change(func(b []byte) []byte { clear(b[2*4096:]); return b }), []string{"is damaged", "tokenhub restore"}},
		{"other bbolt file", func(t *testing.T, path string) {
			os.Remove(path)
			update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("members")); return err })(t, path)
		}, []string{"not a TokenHub database"}},
		{"newer", update(func(tx *bbolt.Tx) error { return putSchema(tx.Bucket([]byte(bucketMeta)), 99) }), []string{"newer TokenHub", "schema 99"}},
		{"no schema", update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketMeta)).Delete([]byte(metaSchema)) }), []string{"is damaged"}},
		{"flipped bit in a key", change(func(b []byte) []byte {
			for i := strings.Index(string(b), `"key bbbbbbbbbb0"`); i >= 0; i = strings.Index(string(b), `"key bbbbbbbbbb0"`) {
				b[i+5] ^= 1
			}
			return b
		}), []string{"wrong checksum", "tokenhub restore"}},
		{"missing bucket", update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucketKeys)) }), []string{"keys is missing"}},
		{"missing beside a journal", func(t *testing.T, path string) { os.Remove(path) }, []string{"is missing but the usage journal"}},
		{"open to others", func(t *testing.T, path string) { os.Chmod(filepath.Dir(path), 0o750) }, []string{"chmod 700 "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folderWithData(t)
			c.damage(t, filepath.Join(dir, DatabaseName))
			refused(t, dir, c.want...)
			refused(t, dir, c.want...) // it left no lock behind and repaired nothing
		})
	}
	t.Run("no folder", func(t *testing.T) { refused(t, "", "--data") })
	t.Run("a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "data")
		write([]byte("x"))(t, path)
		refused(t, path, "--data")
	})
	t.Run("not writable", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root may write everywhere")
		}
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, "can't be written by this user")
	})
}

// Each page that is destroyed is refused or does no harm, and never ends the
// process.
func TestEachPageDestroyed(t *testing.T) {
	dir := folderWithData(t)
	path := filepath.Join(dir, DatabaseName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for page := 0; page < len(good)/4096; page++ {
		bad := append([]byte(nil), good...)
		clear(bad[page*4096 : (page+1)*4096])
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(t.Context(), Options{Dir: dir})
		if err != nil {
			continue
		}
		if keys, err := d.AllKeys(t.Context()); err != nil || len(keys) != 40 {
			t.Errorf("page %d: opened with %d keys, %v", page, len(keys), err)
		}
		d.Close()
	}
}

func TestMigration(t *testing.T) {
	dir := folderWithData(t)
	path := filepath.Join(dir, DatabaseName)
	boom := errors.New("boom")
	steps := append(migrations(), func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("new"))
		return err
	}, func(tx *bbolt.Tx) error { return boom })
	if _, err := Open(t.Context(), Options{Dir: dir, migrations: steps}); !errors.Is(err, boom) {
		t.Fatalf("failing migration: got %v", err)
	}
	schema := func(path string) (n int) {
		t.Helper()
		file, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		err = file.View(func(tx *bbolt.Tx) (err error) { n, err = schemaOf(tx, path); return err })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := schema(path); got != 2 {
		t.Errorf("after a failed step to 3: schema %d, want 2", got)
	}
	if a, b := schema(path+".v1.bak"), schema(path+".v2.bak"); a != 1 || b != 2 {
		t.Errorf("snapshots: schemas %d and %d, want 1 and 2", a, b)
	}
	d := openDB(t, Options{Dir: dir, migrations: append(migrations(), steps[1], func(*bbolt.Tx) error { return nil }), Version: "v2"})
	if keys, _ := d.AllKeys(t.Context()); len(keys) != 40 {
		t.Errorf("got %d keys, want 40", len(keys))
	}
	d.Close()
	refused(t, dir, "newer TokenHub", `"v2"`)
}
