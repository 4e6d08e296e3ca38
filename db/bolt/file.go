package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// cure ends the messages about a file that can't be used.
const cure = "restore a backup with tokenhub restore FILE"

// guard runs fn, which reads a database file for the first time, and turns what
// bbolt does on damaged pages (it panics, or faults on the mapping) into an
// error. fn hands over the file as soon as it is open, so that it is closed and
// its lock given free.
func guard(path string, fn func(opened func(*os.File)) error) (err error) {
	var f *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if f != nil {
				// The mapping that is left would keep the lock beyond Close.
				_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
				f.Close()
			}
			err = fmt.Errorf("%s is damaged (%v): %s", path, r, cure)
		}
	}()
	return fn(func(file *os.File) { f = file })
}

// openVerified opens an existing database file after looking at its size and
// head, since bbolt makes a new database of an empty file and faults on a short one.
func openVerified(path string, readOnly bool, opened func(*os.File)) (*bbolt.DB, error) {
	if err := verifyHead(path); err != nil {
		return nil, err
	}
	file, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      3 * time.Second, // 0 would wait for ever
		FreelistType: bbolt.FreelistMapType,
		ReadOnly:     readOnly,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			if err == nil {
				opened(f)
			}
			return f, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s is held by another process; stop it first", ErrLocked, path)
	case err != nil:
		return nil, fmt.Errorf("%s can't be opened (%w): %s", path, err, cure)
	}
	return file, nil
}

// The head of a bbolt file: two meta pages, each behind a page header.
const (
	pageHeader = 16
	metaSize   = 64
	boltMagic  = 0xED0CDAED
)

// meta is what verifyHead needs of a meta page.
type meta struct {
	pageSize, pages, txid uint64
}

// readMeta decodes the meta page at off; ok tells whether it is whole, seen
// whether it at least looks like one.
func readMeta(r io.ReaderAt, off int64) (m meta, ok, seen bool) {
	var b [pageHeader + metaSize]byte
	if _, err := r.ReadAt(b[:], off); err != nil {
		return m, false, false
	}
	p := b[pageHeader:]
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	if u32(p) != boltMagic {
		return m, false, false
	}
	sum := fnv.New64a()
	sum.Write(p[:56])
	m = meta{pageSize: uint64(u32(p[8:])), pages: u64(p[40:]), txid: u64(p[48:])}
	return m, sum.Sum64() == u64(p[56:]), true
}

// verifyHead refuses a file that is empty, of another kind or cut short.
func verifyHead(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size == 0 {
		return fmt.Errorf("%s is empty (0 bytes): %s, or remove it to start anew", path, cure)
	}
	first, ok, seen := readMeta(f, 0)
	best, have := first, ok
	for pageSize := int64(1 << 10); pageSize <= 1<<16; pageSize <<= 1 {
		second, ok, found := readMeta(f, pageSize)
		seen = seen || found
		if ok && int64(second.pageSize) == pageSize && (!have || second.txid > best.txid) {
			best, have = second, true
		}
	}
	switch {
	case !have && seen:
		return fmt.Errorf("%s is damaged (no whole meta page): %s", path, cure)
	case !have:
		return fmt.Errorf("%s is not a TokenHub database: move it away, or %s", path, cure)
	case uint64(size)/best.pageSize < best.pages:
		return fmt.Errorf("%s is cut short (%d bytes of %d): %s", path, size, best.pages*best.pageSize, cure)
	}
	return nil
}
