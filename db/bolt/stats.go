package bolt

import (
	"os"
	"path/filepath"
	"time"
)

// Stats are the engine's numbers of one moment, for metrics.
type Stats struct {
	// Holds counts the reservations that are neither settled nor released.
	Holds int
	// Unfolded counts the records in the journal that are not in the database
	// yet, and Lag tells how old the first of them is.
	Unfolded int
	Lag      time.Duration
	// Unwritten counts the records that wait for the journal to be writable
	// again, Lost those that could neither be written nor kept since the start.
	Unwritten int
	Lost      int64
	// DatabaseBytes and JournalBytes are the sizes of the files.
	DatabaseBytes, JournalBytes int64
}

// Stats returns the numbers of this moment.
func (d *DB) Stats() Stats {
	var s Stats
	s.DatabaseBytes = size(filepath.Join(d.dir, DatabaseName))
	files, _ := journalNames(d.dir) // a folder that can't be read is said elsewhere
	for _, f := range files {
		s.JournalBytes += size(filepath.Join(d.dir, f.name))
	}
	for _, e := range d.keys.all() {
		e.account.mu.Lock()
		s.Holds += len(e.account.holds)
		e.account.mu.Unlock()
	}
	j := &d.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	s.Unfolded, s.Unwritten, s.Lost = j.tail.count, len(j.unwritten), j.lost
	if s.Unfolded > 0 {
		if payload, whole := frameAt(j.tail.blocks[0].data); whole {
			if first, err := decodeRecord(payload, nil); err == nil {
				s.Lag = max(0, d.now().Sub(first.rec.Start.Add(first.rec.Latency)))
			}
		}
	}
	return s
}

// size is that of a file; 0 when it is gone.
func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
