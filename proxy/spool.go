package proxy

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"strings"

	"golang.org/x/sync/semaphore"
)

const (
	// spoolMemory is how much of a spooled body stays in memory, in bytes.
	spoolMemory = 1 << 20
	// spoolDisk is what all spooled bodies may take on the disk together, in
	// bytes; more where a single one may be larger than half of it.
	spoolDisk = 8 << 30
)

// spool keeps what was read of a body so that it can be read again: the first
// mebibyte in memory, anything longer in a file of the data folder that has no
// name any more, and so is gone with the process.
//
// Reads and close may happen at the same time; writes only before both.
type spool struct {
	dir        string
	room, disk *semaphore.Weighted
	memory     []byte
	file       *os.File // in place of memory
	size       int64
	// held and onDisk are what is taken of room and disk.
	held, onDisk int64
}

// write appends to the spool.
func (s *spool) write(ctx context.Context, p []byte) error {
	if s.file == nil && s.fits(len(p)) {
		s.memory = append(s.memory, p...)
		s.size += int64(len(p))
		return nil
	}
	if s.file == nil {
		if err := s.moveToDisk(); err != nil {
			return err
		}
	}
	if err := s.takeDisk(int64(len(p))); err != nil {
		return err
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	if err != nil {
		return errSpool(err)
	}
	return ctx.Err()
}

// fits makes room for n more bytes in memory, if there may be.
func (s *spool) fits(n int) bool {
	if len(s.memory)+n > spoolMemory {
		return false
	}
	if len(s.memory)+n <= cap(s.memory) {
		return true
	}
	want := min(spoolMemory, max(2*cap(s.memory), len(s.memory)+n, 4<<10))
	more := int64(want - cap(s.memory))
	if !s.room.TryAcquire(more) {
		return false // the disk has room
	}
	s.held += more
	s.memory = append(make([]byte, 0, want), s.memory...)
	return true
}

// moveToDisk puts what is in memory into a file.
func (s *spool) moveToDisk() error {
	if err := s.takeDisk(s.size); err != nil {
		return err
	}
	file, err := os.CreateTemp(s.dir, "upload-*")
	if err != nil {
		return errSpool(err)
	}
	s.file = file
	if err := os.Remove(file.Name()); err != nil {
		return errSpool(err)
	}
	if _, err := file.Write(s.memory); err != nil {
		return errSpool(err)
	}
	s.freeMemory()
	s.memory = nil
	return nil
}

func (s *spool) takeDisk(n int64) error {
	if !s.disk.TryAcquire(n) {
		return errNoRoom
	}
	s.onDisk += n
	return nil
}

func errSpool(err error) *Error {
	return &Error{Code: "storage_unavailable", RetryAfter: retrySoon, Err: err,
		Message: "The server can't keep this upload on its disk at the moment. Try again soon."}
}

// section reads [from, to) of what was written.
func (s *spool) section(from, to int64) io.Reader {
	if s.file != nil {
		return io.NewSectionReader(s.file, from, to-from)
	}
	return io.NewSectionReader(kept(s.memory), from, to-from)
}

// kept is bytes that can be read at an offset.
type kept []byte

func (m kept) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m)) {
		return 0, errors.New("outside of what was written")
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// spliced reads the body with the edits applied: what is in the spool, then the
// rest, which was not read yet. The length is that of what is in the spool.
func (s *spool) spliced(edits []edit, rest io.Reader) (io.Reader, int64) {
	var pieces []io.Reader
	pos, length := int64(0), s.size
	for _, e := range edits { // at most one: the model
		pieces = append(pieces, s.section(pos, int64(e.at.from)), strings.NewReader(e.text))
		length += int64(len(e.text) - (e.at.to - e.at.from))
		pos = int64(e.at.to)
	}
	pieces = append(pieces, s.section(pos, s.size))
	if rest != nil {
		pieces = append(pieces, rest)
	}
	return io.MultiReader(pieces...), length
}

// freeMemory gives back the share of the bound; it may be called twice.
func (s *spool) freeMemory() {
	s.room.Release(s.held)
	s.held = 0
}

// close lets go of the file; who still reads gets an error. It may be called twice.
func (s *spool) close() {
	s.freeMemory()
	if s.file != nil {
		_ = s.file.Close() // nothing in it is needed any more
	}
	s.disk.Release(s.onDisk)
	s.onDisk = 0
}

// spoolRoom is how much all spools may take on the disk where one body may have
// most bytes.
func spoolRoom(most int64) int64 {
	if most > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return max(spoolDisk, 2*most)
}
