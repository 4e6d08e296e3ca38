package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tokenhub/config"
)

// The names of scheduled backups: tokenhub-20261125-030000.db, in UTC.
const (
	backupPrefix = "tokenhub-"
	backupSuffix = ".db"
	backupTime   = "20060102-150405"
	// backupTorn begins the name of one that is not whole yet.
	backupTorn = ".tokenhub-backup-"
)

// backupLook is how often it is looked whether a backup is due.
const backupLook = 30 * time.Second

// backups makes a backup whenever one is due, until ctx ends. What the folder
// holds tells when the last one was made, so that a restart changes nothing.
func (s *server) backups(ctx context.Context) error {
	tick := time.NewTicker(backupLook)
	defer tick.Stop()
	for {
		cfg := s.current.Load().Backup
		if file, err := scheduledBackup(ctx, cfg, s.store, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Error().Err(err).Msg("the scheduled backup failed; it is tried again")
		} else if file != "" {
			s.log.Info().Str("file", file).Msg("made a backup")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// scheduledBackup makes a backup if one is due and removes the oldest ones that
// are too many. It returns the file that it made, if any.
func scheduledBackup(ctx context.Context, cfg config.Backup, store backupSource, now time.Time) (file string, err error) {
	if cfg.Every <= 0 {
		return "", nil
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return "", err
	}
	made, err := backupFiles(cfg.Dir)
	if err != nil {
		return "", err
	}
	for _, b := range made {
		// One from the future, made under a wrong clock, is no reason to wait.
		if !b.made.After(now) && now.Sub(b.made) < cfg.Every {
			return "", nil
		}
	}
	if err := removeTorn(cfg.Dir, now); err != nil {
		return "", err
	}
	file = filepath.Join(cfg.Dir, backupPrefix+now.UTC().Format(backupTime)+backupSuffix)
	if err := writeBackup(ctx, store, file); err != nil {
		return "", err
	}
	if made, err = backupFiles(cfg.Dir); err != nil {
		return file, err
	}
	// Those from the future, made under a wrong clock, go before all others: they
	// would stay for as long as it was wrong, and the real ones would go.
	if i := slices.IndexFunc(made, func(b backupFile) bool { return b.made.After(now) }); i >= 0 {
		made = slices.Concat(made[i:], made[:i])
	}
	for _, b := range made[:max(0, len(made)-max(1, cfg.Keep))] {
		if err := os.Remove(b.path); err != nil {
			return file, err
		}
	}
	return file, nil
}

// removeTorn removes what a backup left behind that was killed on its way, or
// each crash would cost the disk a copy. Nothing writes for an hour to a file
// that it has not touched.
func removeTorn(dir string, now time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), backupTorn) {
			continue
		}
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > time.Hour {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// backupSource is what a backup is made of.
type backupSource interface {
	Backup(ctx context.Context, w io.Writer) error
}

// writeBackup writes a backup to a new file, which is there as a whole or not at all.
func writeBackup(ctx context.Context, store backupSource, file string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), backupTorn+"*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	err = store.Backup(ctx, tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write a backup: %w", err)
	}
	return os.Rename(tmp.Name(), file)
}

type backupFile struct {
	path string
	made time.Time
}

// backupFiles lists the scheduled backups of a folder, the oldest first. Other
// files are none of its business.
func backupFiles(dir string) ([]backupFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []backupFile
	for _, e := range entries {
		name, isOurs := strings.CutPrefix(e.Name(), backupPrefix)
		name, isDB := strings.CutSuffix(name, backupSuffix)
		if !isOurs || !isDB {
			continue
		}
		if made, err := time.Parse(backupTime, name); err == nil && e.Type().IsRegular() {
			list = append(list, backupFile{filepath.Join(dir, e.Name()), made})
		}
	}
	slices.SortFunc(list, func(a, b backupFile) int { return a.made.Compare(b.made) })
	return list, nil
}
