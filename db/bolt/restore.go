package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// Restore puts a backup in the place of a data folder's database, which nobody
// may have open. The backup is verified first. What was there is kept beside it
// under names that end in .before-restore-<time>; kept is that of the database,
// empty if there was none.
//
// The change is one rename: whatever happens meanwhile, the folder holds the old
// state or the new one.
func Restore(ctx context.Context, backup, dir string) (kept string, err error) {
	if _, err := Check(ctx, backup); err != nil {
		return "", fmt.Errorf("this backup can't be restored: %w", err)
	}
	if err := prepareFolder(dir); err != nil {
		return "", err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return "", err
	}
	defer lock.release()
	path := filepath.Join(dir, DatabaseName)
	if a, err := os.Stat(backup); err != nil {
		return "", err
	} else if b, err := os.Stat(path); err == nil && os.SameFile(a, b) {
		return "", fmt.Errorf("%s is the database itself, not a backup of it", backup)
	}
	journals, err := journalNames(dir)
	if err != nil {
		return "", err
	}
	temp := path + ".new"
	defer os.Remove(temp)
	if err := copyFile(ctx, backup, temp); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if err := leaveBehind(temp, journals); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	suffix := ".before-restore-" + time.Now().UTC().Format("20060102T150405.000Z")
	if _, err := os.Stat(path); err == nil {
		kept = path + suffix
		if err := keep(ctx, path, kept); err != nil {
			return "", fmt.Errorf("restore: can't keep the old database: %w", err)
		}
	}
	for _, j := range journals {
		old := filepath.Join(dir, j.name)
		if err := keep(ctx, old, old+suffix); err != nil {
			return "", fmt.Errorf("restore: can't keep the old journal: %w", err)
		}
	}
	if err := os.Rename(temp, path); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	for _, j := range journals {
		err = errors.Join(err, os.Remove(filepath.Join(dir, j.name)))
	}
	if err := errors.Join(err, syncFolder(dir)); err != nil {
		return kept, fmt.Errorf("restored, but: %w", err)
	}
	return kept, nil
}

// leaveBehind has the database at path begin its journal after the files that
// are there, which belong to another state.
func leaveBehind(path string, journals []journalName) error {
	return guard(path, func(opened func(*os.File)) error {
		file, err := openVerified(path, false, opened)
		if err != nil {
			return err
		}
		err = file.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(bucketMeta))
			done, err := decodePosition(b.Get([]byte(metaJournal)))
			if err != nil {
				return err
			}
			next := done.seq + 1
			if n := len(journals); n > 0 {
				next = max(next, journals[n-1].seq+1)
			}
			return b.Put([]byte(metaJournal), position{seq: next}.encode())
		})
		return errors.Join(err, file.Close())
	})
}

// keep gives a file a second name, or copies it where the file system has no
// hard links. The first name stays, so that nothing is missing if it ends here.
func keep(ctx context.Context, old, name string) error {
	if os.Link(old, name) == nil {
		return nil
	}
	return copyFile(ctx, old, name)
}

// copyFile copies a file and makes the copy durable.
func copyFile(ctx context.Context, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, &contextReader{ctx, in})
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}
