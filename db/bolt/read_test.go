package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tokenhub/db"
)

// brokenSectors is a file of which some sectors can't be read.
type brokenSectors struct {
	*os.File
	broken map[int64]bool
	errno  syscall.Errno
}

func (f *brokenSectors) ReadAt(b []byte, off int64) (int, error) {
	for s := off / sector; s <= (off+int64(len(b))-1)/sector; s++ {
		if f.broken[s] {
			n := max(s*sector-off, 0)
			got, err := f.File.ReadAt(b[:n], off)
			if err != nil {
				return got, err
			}
			return got, &os.PathError{Op: "read", Path: f.Name(), Err: f.errno}
		}
	}
	return f.File.ReadAt(b, off)
}

// A broken sector under the journal ended each start with "can't fold the usage
// journal: input/output error", and while the server ran each fold.
func TestBrokenSectorInJournal(t *testing.T) {
	const records = 200
	dir, journal := crashed(t, records)
	data, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	sectors := (int64(len(data)) + sector - 1) / sector
	for _, broken := range []map[int64]bool{{0: true}, {2: true}, {1: true, 2: true, 4: true}, {sectors - 1: true}} {
		whole, at := int64(0), int64(headerSize) // what is not touched by a broken one
		scanFrames(data[headerSize:], true, func(payload []byte, _ int) {
			end := at + frameHead + int64(len(payload))
			if !broken[at/sector] && !broken[(end-1)/sector] {
				whole++
			}
			at = end
		}, func(at, n int) { t.Errorf("%d bytes at %d are damaged before the test", n, at) })

		check := func(d *DB, problems []string) {
			t.Helper()
			u, err := d.KeyUsage(t.Context(), "k", noon)
			if s := total(t, d); err != nil || s.Requests != whole || whole >= records || whole < records/3 {
				t.Errorf("sectors %v: got %d records and %+v, %v; want %d of %d", broken, s.Requests, u.Total, err, whole, records)
			}
			if text := strings.Join(problems, "\n"); !strings.Contains(text, "can't be read") || !strings.Contains(text, "input/output error") {
				t.Errorf("sectors %v: got problems %q", broken, problems)
			}
		}
		var problems []string
		o := Options{Dir: copyFolder(t, dir), OnProblem: func(err error) { problems = append(problems, err.Error()) },
			readFile: func(path string) (readableFile, error) {
				f, err := os.Open(path)
				return &brokenSectors{f, broken, syscall.EIO}, err
			}}
		d := openDB(t, o)
		check(d, problems)
		if err := d.fold(); err != nil {
			t.Fatal(err)
		}
		kept, err := os.Stat(filepath.Join(o.Dir, filepath.Base(journal)+".damaged"))
		if err != nil || kept.Size() != int64(len(data)) {
			t.Errorf("sectors %v: the file was not kept as it was: %v", broken, err)
		}

		problems = nil
		o.Dir = filepath.Join(t.TempDir(), "live")
		d = openDB(t, o)
		putKey(t, d, "k", db.Limits{TotalTokens: 1 << 40})
		for i := range records {
			settle(t, d, record(fmt.Sprint("req_", i), "k", noon, 1, 0, 1))
		}
		// It may come back for a while; all of it is in memory meanwhile.
		for range unreadFolds {
			if err := d.fold(); err == nil || total(t, d).Requests != records {
				t.Fatalf("sectors %v: fold: got %v, and %d records", broken, err, total(t, d).Requests)
			}
		}
		if err := d.fold(); err != nil {
			t.Errorf("sectors %v: fold: got %v", broken, err)
		}
		check(d, problems)
	}
}

// A disk that gives nothing for a moment, and any error that is not that of a
// sector, costs no record: they were skipped at once, although the next read
// would have had them.
func TestJournalThatCannotBeReadForAMoment(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOMEM} {
		broken := map[int64]bool{0: true, 1: true}
		d := openDB(t, Options{Dir: filepath.Join(t.TempDir(), "data"), readFile: func(path string) (readableFile, error) {
			f, err := os.Open(path)
			return &brokenSectors{f, broken, errno}, err
		}})
		putKey(t, d, "k", db.Limits{TotalTokens: 1 << 40})
		for i := range 50 {
			settle(t, d, record(fmt.Sprint("req_", i), "k", noon, 1, 0, 1))
		}
		if err := d.fold(); !errors.Is(err, errno) {
			t.Errorf("%v: fold: got %v", errno, err)
		}
		clear(broken)
		if err := d.fold(); err != nil {
			t.Errorf("%v: fold: got %v", errno, err)
		}
		if got := total(t, d).Requests; got != 50 {
			t.Errorf("%v: %d records, want 50", errno, got)
		}
	}
}

// Which files are damaged was known in memory alone. Where the process ended
// between a fold and the renaming of such a file, the next start deleted it.
func TestDamagedFileIsKeptAfterKill(t *testing.T) {
	dir, journal := crashed(t, 3)
	data, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	data[headerSize+frameHead+20] ^= 4
	if err := os.WriteFile(journal, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// The start folds the file; it goes with the first fold of the next one.
	openDB(t, Options{Dir: dir})
	killed := copyFolder(t, dir)
	var problems []string
	if got := counted(t, killed, &problems); got != 2 {
		t.Errorf("got %d records, want 2", got)
	}
	kept, err := os.ReadFile(filepath.Join(killed, filepath.Base(journal)+".damaged"))
	if err != nil || !bytes.Equal(kept, data) {
		t.Errorf("the damaged file was not kept: %v", err)
	}
	// Once it has its other name it is forgotten.
	d := openDB(t, Options{Dir: killed})
	if len(d.folding.damaged) != 0 {
		t.Errorf("damaged files: got %v, want none any more", d.folding.damaged)
	}
}
