package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
)

// The journal is a series of files usage-<seq>.log. Each begins with a header
// (magic, instance ID of the database, sequence number, checksum) and goes on
// with frames: four bytes that hold a mark and the payload's length, the CRC32C
// of these and the payload, and the payload, one encoded record.
const (
	journalMagic = "THJ1"
	headerSize   = 4 + instanceSize + 8 + 4

	// rotateSize is the length at which the next file is begun.
	rotateSize = 16 << 20
	// maxUnwritten is how many records that can't be written are kept.
	maxUnwritten = 100_000
	// crowd is from how many records that are not folded yet on that is done at
	// once: reports have to read them all.
	crowd = 40_000
)

// journalFile is what the journal does with a file; tests put a bad disk behind it.
type journalFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// openFile makes a new journal file.
func openFile(path string) (journalFile, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// numbered is a record that was written, and the place behind it in the journal,
// which no other has.
type numbered struct {
	*entry
	end position
}

// journal appends records.
type journal struct {
	dir      string
	instance []byte
	open     func(path string) (journalFile, error)
	problem  func(error)

	// mu guards the rest. A write happens under it: that is what makes the order
	// of the file the order of the settlements.
	mu  sync.Mutex
	f   journalFile
	seq uint64
	off int64
	// torn says that there may be bytes of a failed write behind off.
	torn bool
	// dirty says that f has bytes that are not synced; retired are full files that
	// are to be synced and closed.
	dirty   bool
	retired []journalFile
	// writeErr and syncErr say why the last write and the last sync failed.
	writeErr, syncErr error
	closed            bool
	buf               []byte
	// failing says without mu that one of them is set.
	failing atomic.Bool

	// tail are the written ones that are not folded yet.
	tail      tail
	unwritten []*entry
	// dropped counts records that could neither be written nor kept: since it could
	// be written last, and lost in all.
	dropped, lost int64
	names         nameSet

	// crowded gets a value when there are many of them.
	crowded chan struct{}

	// syncing is held while files are synced and closed, which mu is not.
	syncing sync.Mutex
}

// errClosed is why nothing is written after Close.
var errClosed = errors.New("the store is closed")

// errDropped says that a record is lost.
var errDropped = errors.New("too many records wait for the disk, this one is lost")

// header returns the first bytes of the file number seq.
func (j *journal) header(seq uint64) []byte {
	b := append([]byte(journalMagic), j.instance...)
	b = binary.LittleEndian.AppendUint64(b, seq)
	return binary.LittleEndian.AppendUint32(b, castagnoli(b))
}

// begin makes the file number seq and goes on in it. mu is held.
func (j *journal) begin(seq uint64) error {
	path := journalPath(j.dir, seq)
	f, err := j.open(path)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(j.header(seq), 0); err == nil {
		err = syncFolder(j.dir)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return err
	}
	if j.f != nil {
		j.retired = append(j.retired, j.f)
	}
	j.f, j.seq, j.off, j.torn, j.dirty = f, seq, headerSize, false, true
	return nil
}

// append writes e, or keeps a copy for a later try and says why.
func (j *journal) append(e *entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.judge()
	j.names.judge(e)
	if len(j.unwritten) > 0 {
		j.retry()
	}
	if len(j.unwritten) == 0 {
		j.writeErr = j.write(e)
		if j.writeErr == nil {
			return nil
		}
		j.problem(fmt.Errorf("the usage journal can't be written: %w", j.writeErr))
	}
	if len(j.unwritten) >= maxUnwritten {
		j.dropped, j.lost = j.dropped+1, j.lost+1
		return errDropped
	}
	kept := *e
	j.unwritten = append(j.unwritten, &kept)
	return j.writeErr
}

// retry writes what could not be written, in order, as far as it goes. mu is held.
func (j *journal) retry() {
	if len(j.unwritten) == 0 {
		return
	}
	n := 0
	for n < len(j.unwritten) {
		if j.writeErr = j.write(j.unwritten[n]); j.writeErr != nil {
			break
		}
		n++
	}
	j.unwritten = slices.Delete(j.unwritten, 0, n)
	if j.writeErr == nil {
		err := fmt.Errorf("the usage journal can be written again, %d records were kept in memory meanwhile", n)
		if j.dropped > 0 {
			err = fmt.Errorf("%w and %d were lost", err, j.dropped)
		}
		j.dropped = 0
		j.unwritten = nil
		j.problem(err)
	}
}

// write appends one frame. After a failure the place behind the last whole frame
// is where the next one goes. mu is held.
func (j *journal) write(e *entry) error {
	if j.closed {
		return errClosed
	}
	if j.torn {
		if err := j.f.Truncate(j.off); err != nil {
			return err
		}
		j.torn = false
	}
	if j.off >= rotateSize {
		if err := j.begin(j.seq + 1); err != nil {
			return err
		}
	}
	j.buf = appendFrame(j.buf[:0], e)
	if _, err := j.f.WriteAt(j.buf, j.off); err != nil {
		j.torn = true
		return err
	}
	j.tail.add(j.seq, j.off, j.buf, e.rec.Start)
	j.off += int64(len(j.buf))
	j.dirty = true
	if j.tail.count >= crowd {
		select {
		case j.crowded <- struct{}{}:
		default:
		}
	}
	return nil
}

// sync makes what was written survive a power cut.
func (j *journal) sync() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	f, dirty, retired := j.f, j.dirty, j.retired
	j.dirty, j.retired = false, nil
	j.mu.Unlock()

	var err error
	for i, old := range retired {
		if err = old.Sync(); err != nil {
			retired = retired[i:]
			break
		}
		_ = old.Close()
	}
	if err == nil {
		retired = nil
		if dirty {
			err = f.Sync()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.syncErr = err
	j.judge()
	if err != nil {
		j.dirty = j.dirty || dirty
		j.retired = append(retired, j.retired...)
		return fmt.Errorf("the usage journal can't be synced: %w", err)
	}
	return nil
}

// failure says why the journal can't be written, nil if it can.
func (j *journal) failure() error {
	if !j.failing.Load() {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.writeErr != nil {
		return j.writeErr
	}
	return j.syncErr
}

// judge keeps failing true to the errors. mu is held.
func (j *journal) judge() { j.failing.Store(j.writeErr != nil || j.syncErr != nil) }

// tryAgain writes what could not be written.
func (j *journal) tryAgain() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.retry()
	j.judge()
}

// end is the place behind the last record that was written.
func (j *journal) end() position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return position{j.seq, j.off}
}

// forget drops the records before p, which are folded, from memory.
func (j *journal) forget(p position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tail.forget(p)
}

// unfolded returns the records that may not be in the database file yet: those
// in the journal, and those that could not be written.
func (j *journal) unfolded() ([]block, []*entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.tail.blocks), slices.Clone(j.unwritten)
}

// close writes what is left, syncs, and closes the files.
func (j *journal) close() error {
	j.mu.Lock()
	j.retry()
	err := j.writeErr
	j.closed = true
	j.mu.Unlock()
	err = errors.Join(err, j.sync())
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, f := range append(j.retired, j.f) {
		if f != nil {
			_ = f.Close()
		}
	}
	j.retired, j.f = nil, nil
	j.writeErr = errClosed
	j.judge()
	return err
}

// removeFolded deletes the files before seq, and keeps those that are damaged under
// another name, which is then forgotten.
func removeFolded(dir string, seq uint64, damaged map[uint64]bool) error {
	names, err := journalNames(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(dir, n.name)
		switch {
		case n.seq >= seq:
			continue
		case damaged[n.seq]:
			err = os.Rename(path, path+".damaged")
		default:
			err = os.Remove(path)
		}
		if err != nil {
			return err
		}
	}
	maps.DeleteFunc(damaged, func(n uint64, _ bool) bool { return n < seq })
	return nil
}
