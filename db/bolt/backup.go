package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// Backup implements [db.Store]. The copy is made inside the data folder first:
// a slow reader of w would otherwise keep old pages of the database alive.
func (d *DB) Backup(ctx context.Context, w io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.fold(); err != nil {
		return fmt.Errorf("backup: %w: %w", db.ErrStorage, err)
	}
	if err := d.flushUsed(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	temp, err := os.CreateTemp(d.dir, backupTemp)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	err = d.view(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(temp)
		return err
	})
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := temp.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := io.Copy(w, &contextReader{ctx, temp}); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// backupTemp is the pattern of a backup's temporary files.
const backupTemp = "backup-*.tmp"

// removeLeftovers deletes the temporary files of a process that was killed. The
// folder is locked.
func removeLeftovers(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, backupTemp))
	if err != nil {
		return err
	}
	for _, p := range append(paths, filepath.Join(dir, DatabaseName+".new")) {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("can't remove a leftover file: %w", err)
		}
	}
	return nil
}
