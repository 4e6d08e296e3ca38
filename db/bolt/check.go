package bolt

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// Report is what [Check] found.
type Report struct {
	// Path is the database file, Size its length in bytes.
	Path string `json:"path"`
	Size int64  `json:"size"`
	// Schema is the version of the layout, Instance the ID of the database,
	// Created when it was made (RFC 3339), Version the program that last migrated it.
	Schema   int    `json:"schema"`
	Instance string `json:"instance"`
	Created  string `json:"created"`
	Version  string `json:"version"`
	// How many records there are of each kind.
	Keys     int `json:"keys"`
	Tokens   int `json:"tokens"`
	Audit    int `json:"audit"`
	Requests int `json:"requests"`
	Rollups  int `json:"rollups"`
	// Journal counts the records that are in the journal and not folded yet; a
	// backup has none.
	Journal int `json:"journal"`
	// Problems are what is wrong, one line each; empty when all is well.
	Problems []string `json:"problems"`
}

// Check verifies a data folder that nobody has open, or a backup: the structure
// of the file, and that each record in it and in the journal can be read and has
// the right checksum. It changes nothing. The error is not nil when there is any
// problem, and [ErrLocked] when the folder is in use.
func Check(ctx context.Context, path string) (Report, error) {
	report := Report{Path: path, Problems: []string{}}
	info, err := os.Stat(path)
	if err != nil {
		return report, err
	}
	dir := ""
	if info.IsDir() {
		dir = path
		report.Path = filepath.Join(dir, DatabaseName)
		if info, err = os.Stat(report.Path); err != nil {
			return report, err
		}
		lock, err := lockFolder(dir)
		if err != nil {
			return report, err
		}
		defer lock.release()
	}
	report.Size = info.Size()
	c := &checker{ctx: ctx, Report: &report}
	err = guard(report.Path, func(opened func(*os.File)) error {
		file, err := openVerified(report.Path, true, opened)
		if err != nil {
			return err
		}
		defer file.Close()
		return file.View(func(tx *bbolt.Tx) error { return c.check(tx, dir) })
	})
	if err != nil {
		return report, err
	}
	if n := len(report.Problems); n > 0 {
		return report, fmt.Errorf("%s is damaged (%d problems): %s", report.Path, n, report.Problems[0])
	}
	return report, nil
}

type checker struct {
	ctx context.Context
	*Report
}

// problem notes an error; a thousand of them say enough.
func (c *checker) problem(err error) {
	if err != nil && len(c.Problems) < 1000 {
		c.Problems = append(c.Problems, err.Error())
	}
}

func (c *checker) check(tx *bbolt.Tx, dir string) error {
	schema, err := checkSchema(tx, c.Path, len(migrations()))
	if err != nil {
		return err
	}
	b := tx.Bucket([]byte(bucketMeta))
	c.Schema, c.Created, c.Version = schema, string(b.Get([]byte(metaCreated))), string(b.Get([]byte(metaVersion)))
	c.Instance = hex.EncodeToString(b.Get([]byte(metaInstance)))
	for err := range tx.Check() {
		c.problem(err)
	}
	if len(c.Problems) > 0 {
		return nil // reading on in a broken tree would only repeat it
	}
	c.problem(eachJSON(tx, bucketKeys, func(*db.Key) { c.Keys++ }))
	c.problem(eachJSON(tx, bucketTokens, func(*db.Token) { c.Tokens++ }))
	c.problem(eachJSON(tx, bucketAudit, func(*db.Audit) { c.Audit++ }))
	c.problem((&settingTable{}).load(tx))
	for _, bucket := range []string{bucketCounters, bucketProviders} {
		c.problem(eachCounters(tx, bucket, func(string, *counters) {}))
	}
	for _, bucket := range []string{bucketUsed, bucketNames, bucketRequests, bucketRollups} {
		if tx.Bucket([]byte(bucket)) == nil {
			c.problem(fmt.Errorf("the bucket %s is missing", bucket))
			return nil
		}
	}
	c.problem(eachRollup(c.ctx, tx, -1<<40, 1<<40, "", func(r rawRow, sealed []byte) error {
		value, err := unseal(bucketRollups, r.key, sealed)
		if err == nil {
			_, err = decodeSums(value)
		}
		c.problem(err)
		c.Rollups++
		return nil
	}))
	newest := requestKey{}
	for i := range newest {
		newest[i] = 0xFF
	}
	c.problem(eachRequest(c.ctx, tx, newest, everyHour, func(k requestKey, sealed []byte) (bool, error) {
		value, err := unseal(bucketRequests, k[:], sealed)
		if err == nil {
			_, err = decodeRecord(value, nil)
		}
		c.problem(err)
		c.Requests++
		return true, nil
	}))
	done, err := decodePosition(b.Get([]byte(metaJournal)))
	c.problem(err)
	if dir == "" || err != nil {
		return c.ctx.Err()
	}
	c.problem(c.checkJournal(dir, done, b.Get([]byte(metaInstance))))
	return c.ctx.Err()
}

// checkJournal reads what is not folded. A last write that was cut off is no
// problem: it was never acknowledged.
func (c *checker) checkJournal(dir string, done position, instance []byte) error {
	names, err := journalNames(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	last := names[len(names)-1].seq
	info, err := os.Stat(journalPath(dir, last))
	if err != nil {
		return err
	}
	end := position{last, info.Size()}
	files := journalFiles{dir: dir, instance: instance, open: openReadable}
	var memory []byte
	for done.compare(end) < 0 {
		done, err = files.read(done, end, &memory, func(*entry, position, []byte) { c.Journal++ }, func(p position, n int64, why error) {
			if why != nil {
				c.problem(fmt.Errorf("%d bytes of %s at %d can't be read: %w", n, journalPath(dir, p.seq), p.off, why))
				return
			}
			if p.seq == last && p.off+n == end.off {
				return
			}
			c.problem(fmt.Errorf("%d bytes of %s at %d are damaged", n, journalPath(dir, p.seq), p.off))
		})
		if err != nil {
			return err
		}
	}
	return c.ctx.Err()
}
