package bolt

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// The buckets of the file. Those of requests and rollups hold one bucket per
// day (UTC), which retention deletes whole.
const (
	bucketMeta      = "meta"
	bucketKeys      = "keys"      // key ID -> sealed JSON
	bucketTokens    = "tokens"    // token ID -> sealed JSON
	bucketSettings  = "settings"  // name -> sealed value
	bucketUsed      = "used"      // ID -> time of the last use
	bucketAudit     = "audit"     // number -> sealed JSON
	bucketCounters  = "counters"  // key ID -> sealed counters of its windows
	bucketProviders = "providers" // provider -> sealed spend of its month
	bucketNames     = "names"     // model name that was answered with 2xx -> nothing
	bucketRequests  = "requests"  // day -> start, number -> sealed record
	bucketRollups   = "rollups"   // day -> hour, key, model, served, provider -> sums
)

// What stands in the meta bucket.
const (
	metaMagic    = "magic"
	metaSchema   = "schema"
	metaInstance = "instance"
	metaCreated  = "created"
	metaVersion  = "version"
	metaJournal  = "journal" // up to where the journal is folded
	metaDamaged  = "damaged" // numbers of journal files that are kept once they are folded
	metaZone     = "zone"    // where the days of the counters begin

	magic = "tokenhub"
)

// instanceSize is the length of the random ID of a database, which ties its
// journal files to it.
const instanceSize = 16

// migration brings the schema one version further.
type migration func(tx *bbolt.Tx) error

// migrations are all there are; number i leads to schema i+1. One that was
// released is never changed.
func migrations() []migration {
	return []migration{schema1}
}

func schema1(tx *bbolt.Tx) error {
	for _, name := range []string{
		bucketKeys, bucketTokens, bucketSettings, bucketUsed, bucketAudit,
		bucketCounters, bucketProviders, bucketNames, bucketRequests, bucketRollups,
	} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return nil
}

// createDatabase makes a new database under another name first, so that a
// half-made one is never found under its own.
func createDatabase(path string, o Options, now time.Time) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := bbolt.Open(temp, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = file.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucketMeta))
		if err != nil {
			return err
		}
		var instance [instanceSize]byte
		rand.Read(instance[:])
		for name, value := range map[string][]byte{
			metaMagic:    []byte(magic),
			metaInstance: instance[:],
			metaCreated:  []byte(now.UTC().Format(time.RFC3339)),
			metaVersion:  []byte(o.Version),
			metaZone:     []byte(o.Zone.String()),
			metaJournal:  position{seq: 1}.encode(),
		} {
			if err := b.Put([]byte(name), value); err != nil {
				return err
			}
		}
		for _, m := range o.migrations {
			if err := m(tx); err != nil {
				return err
			}
		}
		return putSchema(b, len(o.migrations))
	})
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func putSchema(b *bbolt.Bucket, version int) error {
	return b.Put([]byte(metaSchema), binary.BigEndian.AppendUint32(nil, uint32(version)))
}

// schemaOf verifies that the file is TokenHub's and tells its schema version.
func schemaOf(tx *bbolt.Tx, path string) (int, error) {
	b := tx.Bucket([]byte(bucketMeta))
	if b == nil || string(b.Get([]byte(metaMagic))) != magic {
		return 0, fmt.Errorf("%s is a bbolt file, but not a TokenHub database: move it away, or %s", path, cure)
	}
	v := b.Get([]byte(metaSchema))
	if len(v) != 4 || len(b.Get([]byte(metaInstance))) != instanceSize {
		return 0, fmt.Errorf("%s is damaged (no schema version): %s", path, cure)
	}
	return int(binary.BigEndian.Uint32(v)), nil
}

// checkSchema verifies that the file is TokenHub's and not newer than newest.
func checkSchema(tx *bbolt.Tx, path string, newest int) (int, error) {
	have, err := schemaOf(tx, path)
	switch {
	case err != nil:
		return 0, err
	case have > newest:
		return 0, fmt.Errorf("%s was written by a newer TokenHub (schema %d, version %q; this one knows schema %d): run that version or a newer one",
			path, have, tx.Bucket([]byte(bucketMeta)).Get([]byte(metaVersion)), newest)
	case have < 1:
		return 0, fmt.Errorf("%s is damaged (schema version %d): %s", path, have, cure)
	}
	return have, nil
}

// migrate brings the file to the newest schema. Each step is one transaction,
// taken after a snapshot of what was there before.
func migrate(file *bbolt.DB, steps []migration, version string) error {
	have := 0
	err := file.View(func(tx *bbolt.Tx) (err error) {
		have, err = checkSchema(tx, file.Path(), len(steps))
		return err
	})
	if err != nil {
		return err
	}
	for ; have < len(steps); have++ {
		if err := snapshot(file, fmt.Sprintf("%s.v%d.bak", file.Path(), have)); err != nil {
			return fmt.Errorf("can't keep a snapshot before the migration to schema %d: %w", have+1, err)
		}
		err := file.Update(func(tx *bbolt.Tx) error {
			if err := steps[have](tx); err != nil {
				return err
			}
			b := tx.Bucket([]byte(bucketMeta))
			if err := b.Put([]byte(metaVersion), []byte(version)); err != nil {
				return err
			}
			return putSchema(b, have+1)
		})
		if err != nil {
			return fmt.Errorf("migration to schema %d failed, nothing was changed: %w", have+1, err)
		}
	}
	return nil
}

// snapshot writes a consistent copy of the file to path, complete or not at all.
func snapshot(file *bbolt.DB, path string) error {
	temp := path + ".new"
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = file.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(out)
		return err
	})
	if err == nil {
		err = out.Sync()
	}
	if err := errors.Join(err, out.Close()); err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}
