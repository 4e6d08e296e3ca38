package bolt

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
)

// journalFiles reads the files of a journal.
type journalFiles struct {
	dir string
	// instance is that of the database which they belong to.
	instance []byte
	open     func(path string) (readableFile, error)
}

// readableFile is what is read of a journal file; tests put a bad disk behind it.
type readableFile interface {
	io.ReaderAt
	io.Closer
	Stat() (os.FileInfo, error)
}

func openReadable(path string) (readableFile, error) { return os.Open(path) }

// damaged is told of bytes that are no records, and why if they could not even be
// read: these are told of first so, and then as what they are, and may be told of
// again with the next piece.
type damaged func(at position, n int64, why error)

// read calls fn with the records between from and end, about foldChunk bytes of
// them, as entries that it uses again and as frames in memory, and returns the
// place behind the last one. Damaged bytes are skipped and told to damage. Missing
// files are passed over: what is not there was folded or is gone.
func (j *journalFiles) read(from, end position, memory *[]byte, fn func(e *entry, end position, frame []byte), damage damaged) (position, error) {
	known := texts{}
	var e entry
	for from.compare(end) < 0 {
		last := from.seq == end.seq
		data, size, err := j.part(from.seq, from.off, foldChunk, *memory, damage)
		*memory = data[:0]
		switch {
		case errors.Is(err, os.ErrNotExist):
			from = position{seq: from.seq + 1}
			if last {
				from = end
			}
			continue
		case errors.Is(err, errHeader):
			if size > from.off {
				damage(from, size-from.off, nil)
			}
			from.off = max(from.off, size)
		case err != nil:
			return from, err
		}
		if from.off == 0 {
			from.off = headerSize
		}
		if last && from.off+int64(len(data)) > end.off {
			data = data[:max(end.off-from.off, 0)]
			size = end.off
		}
		n, read := scanFrames(data, from.off+int64(len(data)) >= size, func(payload []byte, at int) {
			var err error
			if e, err = decodeRecord(payload, known); err != nil {
				damage(position{from.seq, from.off + int64(at)}, int64(len(payload)), nil)
				return
			}
			fn(&e, position{from.seq, from.off + int64(at+len(payload))}, data[at-frameHead:at+len(payload)])
		}, func(at, n int) { damage(position{from.seq, from.off + int64(at)}, int64(n), nil) })
		from.off += int64(n)
		if from.off >= size && !last {
			from = position{seq: from.seq + 1}
		}
		if last && from.off >= size {
			return end, nil
		}
		if read {
			return from, nil
		}
	}
	return from, nil
}

// errHeader says that a file is not a journal file of this database.
var errHeader = errors.New("not a journal file of this database")

// part reads up to limit bytes of the file number seq behind off, or behind the
// header, into memory if that is large enough, and returns the file's size. What
// the disk does not give is zero, and told to damage.
func (j *journalFiles) part(seq uint64, off, limit int64, memory []byte, damage damaged) (data []byte, size int64, err error) {
	f, err := j.open(journalPath(j.dir, seq))
	if err != nil {
		return memory[:0], 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return memory[:0], 0, err
	}
	size = info.Size()
	if size < headerSize {
		return memory[:0], size, errHeader
	}
	// Where the header can't be read the file's name has to do.
	var head [headerSize]byte
	switch _, err := f.ReadAt(head[:], 0); {
	case isBroken(err):
	case err != nil && !errors.Is(err, io.EOF):
		return memory[:0], size, err
	default:
		if string(head[:4]) != journalMagic || string(head[4:4+instanceSize]) != string(j.instance) ||
			binary.LittleEndian.Uint32(head[headerSize-4:]) != castagnoli(head[:headerSize-4]) {
			return memory[:0], size, errHeader
		}
	}
	off = max(off, headerSize)
	want := int(max(min(limit, size-off), 0))
	data = slices.Grow(memory[:0], want)[:want]
	n, err := readAround(f, data, off, func(at, n int64, err error) { damage(position{seq, at}, n, err) })
	return data[:n], size, err
}

// sector is the piece that is read by itself where a disk gives an error.
const sector = 4 << 10

// isBroken reports whether an error is that of a sector which can't be read, or not
// as it was written; others tell nothing of the disk.
func isBroken(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EBADMSG)
}

// readAround reads from off on until b is full or the file ends, and returns how
// many bytes that are. Sectors that can't be read are zero, and told to broken.
func readAround(f io.ReaderAt, b []byte, off int64, broken func(at, n int64, err error)) (n int, err error) {
	n, err = f.ReadAt(b, off)
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return n, nil
	case !isBroken(err):
		return 0, err
	}
	first := 0 // of the broken ones that are next to each other
	var why error
	tell := func(end int) {
		if why != nil {
			broken(off+int64(first), int64(end-first), why)
			why = nil
		}
	}
	for n = 0; n < len(b); {
		end := min(len(b), n+sector-int((off+int64(n))%sector))
		got, err := f.ReadAt(b[n:end], off+int64(n))
		switch {
		case errors.Is(err, io.EOF):
			tell(n)
			return n + got, nil
		case err == nil:
			tell(n)
		case !isBroken(err):
			return 0, err
		default:
			clear(b[n:end])
			if why == nil {
				first, why = n, err
			}
		}
		n = end
	}
	tell(n)
	return n, nil
}
