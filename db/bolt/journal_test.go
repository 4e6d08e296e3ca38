package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"tokenhub/db"
)

// crashed returns a data folder as a killed process leaves it: n settled
// requests of one token and one micro-dollar each, none folded.
func crashed(t *testing.T, n int) (dir, journal string) {
	t.Helper()
	live := filepath.Join(t.TempDir(), "live")
	d := openDB(t, Options{Dir: live})
	putKey(t, d, "k", db.Limits{TotalTokens: 1 << 40})
	for i := range n {
		settle(t, d, record(fmt.Sprint("req_", i), "k", noon, 1, 0, 1))
	}
	dir = copyFolder(t, live)
	names, err := journalNames(dir)
	if err != nil || len(names) != 1 {
		t.Fatalf("got journals %v, %v", names, err)
	}
	return dir, filepath.Join(dir, names[0].name)
}

// copyFolder copies a folder as it is now.
func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		t.Fatal(err)
	}
	return to
}

// counted opens dir and tells how many requests were counted, after comparing
// all places in which they are.
func counted(t *testing.T, dir string, problems *[]string) int64 {
	t.Helper()
	d := openDB(t, Options{Dir: dir, OnProblem: func(err error) { *problems = append(*problems, err.Error()) }})
	defer d.Close()
	s := total(t, d)
	u, err := d.KeyUsage(t.Context(), "k", noon)
	if err != nil {
		t.Fatal(err)
	}
	spent, _ := d.ProviderSpend(t.Context(), "openai", noon)
	listed := 0
	for before := ""; ; {
		recs, next, err := d.Requests(t.Context(), db.RequestQuery{Limit: 500, Before: before})
		if err != nil {
			t.Fatal(err)
		}
		listed += len(recs)
		if before = next; next == "" {
			break
		}
	}
	n := s.Requests
	for name, got := range map[string]int64{"usage tokens": s.Usage.Input, "usage cost": s.Cost, "day": u.Day.Tokens,
		"month": u.Month.Requests, "total": u.Total.Cost, "provider": spent, "log": int64(listed)} {
		if got != n {
			t.Errorf("%s: got %d, want %d as in the roll-ups", name, got, n)
		}
	}
	return n
}

// Each cut of a journal gives the whole records before it, and the rest as one
// piece of damage.
func TestCutAtEveryByte(t *testing.T) {
	var data []byte
	var ends []int
	for i := range 4 {
		data = appendFrame(data, &entry{rec: *record(fmt.Sprint("req_", i), "k", noon, int64(i)<<20, 1, 1)})
		ends = append(ends, len(data))
	}
	for size := range len(data) {
		whole, _ := slices.BinarySearch(ends, size+1)
		frames, bad := 0, 0
		scanFrames(data[:size], true, func([]byte, int) { frames++ }, func(_, n int) { bad += n })
		rest := size
		if whole > 0 {
			rest -= ends[whole-1]
		}
		if frames != whole || bad != rest {
			t.Errorf("cut at %d: got %d records and %d bad bytes, want %d and %d", size, frames, bad, whole, rest)
		}
	}
}

func TestTornTail(t *testing.T) {
	dir, journal := crashed(t, 3)
	data, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	frame := (len(data) - headerSize) / 3
	for size := 0; size <= len(data); size++ {
		want := int64(max(size-headerSize, 0) / frame)
		if part := max(size-headerSize, 0) % frame; part > 2 && part < frame-2 && size%17 != 0 {
			continue // these only differ inside a payload
		}
		at := copyFolder(t, dir)
		if err := os.WriteFile(filepath.Join(at, filepath.Base(journal)), data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		var problems []string
		for range 2 { // the repair holds, and nothing counts twice
			if got := counted(t, at, &problems); got != want {
				t.Fatalf("cut at %d of %d: got %d records, want %d", size, len(data), got, want)
			}
		}
		if whole := size <= headerSize || (size-headerSize)%frame == 0; whole != (len(problems) == 0) {
			t.Errorf("cut at %d of %d: got problems %q", size, len(data), problems)
		}
	}
}

// What is missing of a journal's header is missing, also if it would be zero.
func TestHeaderThatIsCutOffBeforeZero(t *testing.T) {
	j := &journal{instance: make([]byte, instanceSize)}
	seq := uint64(1)
	for j.header(seq)[headerSize-1] != 0 {
		seq++
	}
	files := journalFiles{dir: t.TempDir(), instance: j.instance, open: openReadable}
	path := journalPath(files.dir, seq)
	if err := os.WriteFile(path, j.header(seq)[:headerSize-1], 0o600); err != nil {
		t.Fatal(err)
	}
	size, err := files.repairTail(seq, func(err error) { t.Error(err) })
	if _, gone := os.Stat(path); size != 0 || err != nil || !os.IsNotExist(gone) {
		t.Errorf("%d bytes are left: %v, %v", size, err, gone)
	}
}

func TestFlippedBits(t *testing.T) {
	dir, journal := crashed(t, 3)
	data, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	frame := (len(data) - headerSize) / 3
	for i := 0; i < len(data); i += 7 {
		at := copyFolder(t, dir)
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		path := filepath.Join(at, filepath.Base(journal))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		var problems []string
		got := counted(t, at, &problems)
		want := int64(2) // the others are whole
		if i < headerSize {
			want = 0 // it can't be known whose file this is
		}
		if got != want || len(problems) == 0 {
			t.Errorf("bit at %d: got %d records, want %d, problems %q", i, got, want, problems)
		}
		if kept, _ := filepath.Glob(filepath.Join(at, "*.damaged")); len(kept) == 0 && i < headerSize+2*frame {
			t.Errorf("bit at %d: the damaged file was not kept", i)
		}
	}
}

// badDisk is a disk that is full after some bytes.
type badDisk struct {
	room   atomic.Int64
	noSync atomic.Bool
}

type badFile struct {
	journalFile
	disk *badDisk
}

func (d *badDisk) open(path string) (journalFile, error) {
	f, err := openFile(path)
	return &badFile{f, d}, err
}

// WriteAt writes what there is room for, as a full disk does.
func (f *badFile) WriteAt(p []byte, off int64) (int, error) {
	room := f.disk.room.Add(-int64(len(p)))
	if room >= 0 {
		return f.journalFile.WriteAt(p, off)
	}
	n, err := f.journalFile.WriteAt(p[:max(int64(len(p))+room, 0)], off)
	f.disk.room.Store(0)
	return n, errors.Join(err, syscall.ENOSPC)
}

func (f *badFile) Sync() error {
	if f.disk.noSync.Load() {
		return syscall.EIO
	}
	return f.journalFile.Sync()
}

func TestDiskFull(t *testing.T) {
	// Each amount of room, so that the write that fails is cut at each byte.
	for room := int64(headerSize); room < 420; room += 13 {
		disk := &badDisk{}
		disk.room.Store(room)
		var problems []string
		dir := filepath.Join(t.TempDir(), "data")
		d := openDB(t, Options{Dir: dir, openFile: disk.open, OnProblem: func(err error) { problems = append(problems, err.Error()) }})
		putKey(t, d, "limited", db.Limits{TotalTokens: 1 << 40})
		putKey(t, d, "k", db.Limits{MaxTokensPerRequest: 9})
		var held []db.Reservation
		for range 5 {
			r, err := d.Reserve(t.Context(), claim("k", noon, 1, 0))
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, r)
		}
		failed := 0
		for i, r := range held {
			err := d.Settle(t.Context(), r, record(fmt.Sprint("req_", i), "k", noon, 1, 0, 1))
			if err != nil {
				failed++
				if !errors.Is(err, db.ErrStorage) || !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("settle: got %v, want ErrStorage of ENOSPC", err)
				}
			}
		}
		if failed == 0 {
			t.Fatalf("room %d: nothing failed", room)
		}
		if err := d.Ready(t.Context()); !errors.Is(err, db.ErrStorage) {
			t.Errorf("Ready: got %v, want ErrStorage", err)
		}
		if _, err := d.Reserve(t.Context(), claim("limited", noon, 1, 0)); !errors.Is(err, db.ErrStorage) {
			t.Errorf("Reserve with a limit: got %v, want ErrStorage", err)
		}
		r, err := d.Reserve(t.Context(), claim("k", noon, 1, 0))
		if err != nil {
			t.Errorf("Reserve without a limit: got %v", err)
		}
		d.Release(t.Context(), r)
		if s := total(t, d); s.Requests != 5 {
			t.Errorf("usage while the disk is full: got %d requests, want 5", s.Requests)
		}
		// What was acknowledged is there after a crash now.
		var ignored []string
		if got := counted(t, copyFolder(t, dir), &ignored); got != int64(5-failed) {
			t.Errorf("room %d: after a crash got %d records, want %d", room, got, 5-failed)
		}
		disk.room.Store(1 << 40)
		if err := d.syncJournal(); err != nil {
			t.Errorf("sync with room: got %v", err)
		}
		if err := d.Ready(t.Context()); err != nil {
			t.Errorf("Ready with room: got %v", err)
		}
		if _, err := d.Reserve(t.Context(), claim("limited", noon, 1, 0)); err != nil {
			t.Errorf("Reserve with room: got %v", err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if got := counted(t, dir, &ignored); got != 5 {
			t.Errorf("room %d: after Close got %d records, want 5", room, got)
		}
		if len(problems) != 2 || !strings.Contains(problems[1], "can be written again") {
			t.Errorf("problems: got %q, want one failure and one recovery", problems)
		}
		if len(ignored) > 1 {
			t.Errorf("problems at Open: got %q", ignored)
		}
	}
}

func TestSyncFails(t *testing.T) {
	disk := &badDisk{}
	disk.room.Store(1 << 40)
	d := openDB(t, Options{openFile: disk.open})
	putKey(t, d, "k", db.Limits{TotalTokens: 100})
	settle(t, d, record("req_1", "k", noon, 1, 0, 1))
	disk.noSync.Store(true)
	if err := d.syncJournal(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: got %v, want EIO", err)
	}
	if err := d.Ready(t.Context()); !errors.Is(err, db.ErrStorage) {
		t.Errorf("Ready: got %v, want ErrStorage", err)
	}
	disk.noSync.Store(false)
	if err := d.syncJournal(); err != nil {
		t.Fatal(err)
	}
	settle(t, d, record("req_2", "k", noon, 1, 0, 1))
}

// A fold reads across files, keeps what is damaged, and deletes the rest.
func TestRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d := openDB(t, Options{Dir: dir})
	putKey(t, d, "k", db.Limits{})
	rotate := func() {
		t.Helper()
		d.journal.mu.Lock()
		defer d.journal.mu.Unlock()
		if err := d.journal.begin(d.journal.seq + 1); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 9 {
		settle(t, d, record(fmt.Sprint("req_", i), "k", noon, 1, 0, 1))
		if i%3 == 2 {
			rotate()
		}
	}
	names, err := journalNames(dir)
	if err != nil || len(names) != 4 {
		t.Fatalf("got files %v, %v, want 4", names, err)
	}
	if err := d.syncJournal(); err != nil {
		t.Fatal(err)
	}
	copied := copyFolder(t, dir)
	path := filepath.Join(copied, names[1].name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[headerSize+frameHead+20] ^= 4
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var problems []string
	if got := counted(t, copied, &problems); got != 8 || len(problems) != 1 {
		t.Errorf("with a damaged record: got %d and %q, want 8 and one problem", got, problems)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Errorf("the damaged file was not kept: %v", err)
	}
	if err := d.fold(); err != nil {
		t.Fatal(err)
	}
	if names, _ = journalNames(dir); len(names) != 1 {
		t.Errorf("after the fold: got files %v, want the current one", names)
	}
	if s := total(t, d); s.Requests != 9 {
		t.Errorf("got %d requests, want 9", s.Requests)
	}
}

// When the memory of reports is full it is dropped; the file has it all.
func TestTailIsBounded(t *testing.T) {
	d := openDB(t, Options{})
	putKey(t, d, "k", db.Limits{})
	settle(t, d, record("req_1", "k", noon, 1, 0, 1))
	d.journal.mu.Lock()
	d.journal.tail.size = maxTail
	d.journal.mu.Unlock()
	settle(t, d, record("req_2", "k", noon, 1, 0, 1))
	if s := d.Stats(); s.Unfolded != 1 {
		t.Errorf("got %d records in memory, want 1", s.Unfolded)
	}
	if err := d.fold(); err != nil {
		t.Fatal(err)
	}
	if s := total(t, d); s.Requests != 2 {
		t.Errorf("got %d requests, want 2", s.Requests)
	}
}

func FuzzRecord(f *testing.F) {
	e := entry{rec: *record("req_1", "k", noon, 10, 20, 30), charged: true, ownModel: true, day: 5, month: -3}
	e.rec.Error, e.rec.Broken, e.rec.Stream = "canceled", true, true
	f.Add(appendRecord(nil, &e))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeRecord(b, nil)
		if err != nil {
			return
		}
		again, err := decodeRecord(appendRecord(nil, &e), texts{})
		if err != nil || again != e {
			t.Errorf("got %+v, %v, want %+v", again, err, e)
		}
	})
}

func FuzzFrames(f *testing.F) {
	frame := appendFrame(nil, &entry{rec: *record("req_1", "k", noon, 10, 20, 30)})
	f.Add(slices.Concat(frame, frame[:20], frame), true)
	f.Add(frame[:len(frame)-1], false)
	f.Fuzz(func(t *testing.T, b []byte, final bool) {
		covered := 0
		n, _ := scanFrames(b, final, func(p []byte, at int) {
			if at != covered+frameHead {
				t.Errorf("frame at %d, want %d", at, covered+frameHead)
			}
			covered = at + len(p)
		}, func(at, n int) {
			if at != covered || n <= 0 {
				t.Errorf("damage at %d of %d bytes, want it at %d", at, n, covered)
			}
			covered = at + n
		})
		if n != covered || final && n != len(b) {
			t.Errorf("dealt with %d bytes, told of %d, of %d", n, covered, len(b))
		}
	})
}
