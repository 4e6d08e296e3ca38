package ui

import (
	"fmt"
	"io"
	"os"
)

// backup answers with a copy of the store. It is written to a file first: the
// engine must not wait for a slow reader, and a copy that fails half-way has to
// be an error, not a file that is too short.
func (a *Admin) backup(r *request) error {
	if _, err := r.query(); err != nil {
		return err
	}
	if r.readOnly {
		return errDenied("A backup holds the hash of the admin password: it takes an admin token that is not read-only.")
	}
	head := func() {
		name := "tokenhub-" + a.now().UTC().Format("20060102-150405") + ".db"
		r.c.Set("Content-Type", "application/octet-stream")
		r.c.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	}
	if r.c.Method() == "HEAD" {
		head()
		return nil
	}
	if !a.copying.TryLock() {
		return errConflict("A backup is being made already. Try again when it is done.")
	}
	defer a.copying.Unlock()
	file, size, err := a.copyStore(r)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := a.store.AddAudit(r.ctx, r.audit(a.now(), "backup.create", "", "")); err != nil {
		a.log.Warn().Err(err).Msg("note the backup in the audit trail")
	}
	head()
	r.stream(file, int(size))
	return nil
}

// copyStore returns a copy of the store as an open file that ends with it.
func (a *Admin) copyStore(r *request) (_ io.ReadCloser, size int64, err error) {
	file, err := os.CreateTemp(a.config().DataDir, ".backup-*")
	if err != nil {
		return nil, 0, err
	}
	copied := scrap{file}
	// Where the system allows it the file loses its name at once, so that nothing
	// is left of it whatever happens. Close does it elsewhere.
	_ = os.Remove(file.Name())
	defer func() {
		if err != nil {
			_ = copied.Close()
		}
	}()
	if err := a.store.Backup(r.ctx, file); err != nil {
		return nil, 0, err
	}
	if size, err = file.Seek(0, io.SeekCurrent); err != nil {
		return nil, 0, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	return copied, size, nil
}

// scrap is a file that is gone once it is closed.
type scrap struct{ *os.File }

// Close closes the file and removes it.
func (s scrap) Close() error {
	err := s.File.Close()
	_ = os.Remove(s.Name())
	return err
}
