package bolt

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

// openJournal repairs what a killed process left, folds it, and begins a new
// file. The database is open, and nothing is loaded from it yet.
//
// Bytes at the end of the last file that are no record are a write that was cut
// off: they are removed. Damage before a later record, or in an older file, is
// skipped and told, and that file is kept under another name once the rest of it
// is folded: one broken sector must not keep the gateway from starting, nor
// take the records behind it along.
func (d *DB) openJournal(open func(string) (journalFile, error)) error {
	if open == nil {
		open = openFile
	}
	j := &d.journal
	*j = journal{dir: d.dir, open: open, problem: d.problem, names: nameSet{}, crowded: make(chan struct{}, 1)}
	err := d.file.View(func(tx *bbolt.Tx) (err error) {
		b := tx.Bucket([]byte(bucketMeta))
		j.instance = append([]byte(nil), b.Get([]byte(metaInstance))...)
		d.folding.damaged = decodeFiles(b.Get([]byte(metaDamaged)))
		d.folding.done, err = decodePosition(b.Get([]byte(metaJournal)))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", d.file.Path(), err, cure)
	}
	d.folding.files.dir, d.folding.files.instance = d.dir, j.instance
	if err := removeFolded(d.dir, d.folding.done.seq, d.folding.damaged); err != nil {
		return fmt.Errorf("can't remove a folded journal file: %w", err)
	}
	names, err := journalNames(d.dir)
	if err != nil {
		return err
	}
	end := d.folding.done
	if n := len(names); n > 0 {
		last := names[n-1].seq
		size, err := d.folding.files.repairTail(last, d.problem)
		if err != nil {
			return err
		}
		if p := (position{last, size}); p.compare(end) > 0 {
			end = p
		}
	}
	if err := d.foldTo(end, false); err != nil {
		return fmt.Errorf("can't fold the usage journal: %w", err)
	}
	if err := d.loadNames(); err != nil {
		return err
	}
	if err := j.begin(end.seq + 1); err != nil {
		return fmt.Errorf("can't begin a usage journal: %w", err)
	}
	return nil
}

// loadNames reads the names that have rows of their own.
func (d *DB) loadNames() error {
	return d.file.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketNames)).ForEach(func(name, _ []byte) error {
			d.journal.names[string(name[1:])] = struct{}{}
			return nil
		})
	})
}

// repairTail cuts off a write to the file number seq that did not become whole,
// and returns the size of what is left.
func (j *journalFiles) repairTail(seq uint64, problem func(error)) (int64, error) {
	path := journalPath(j.dir, seq)
	broken := false
	data, size, err := j.part(seq, 0, 1<<40, nil, func(position, int64, error) { broken = true })
	if errors.Is(err, errHeader) {
		if size < headerSize {
			return 0, os.Remove(path) // the file was only just begun
		}
		return size, nil // its folding says what is wrong
	}
	if err != nil {
		return 0, err
	}
	good := int64(headerSize)
	scanFrames(data, true, func(payload []byte, at int) { good = headerSize + int64(at+len(payload)) }, func(int, int) {})
	if good == size || broken { // that is damage: its folding says so, and keeps the file
		return size, nil
	}
	if err := os.Truncate(path, good); err != nil {
		return 0, err
	}
	problem(fmt.Errorf("the last write to %s was cut off: %d bytes that are no whole record were removed", path, size-good))
	return good, nil
}
