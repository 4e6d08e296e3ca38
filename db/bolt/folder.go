package bolt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked says that another process has the data folder open. Whoever wants to
// change something then talks to that process.
var ErrLocked = errors.New("data folder in use")

// lockName is the file whose lock says that the folder is open. It is never
// removed: a lock on a file that is gone locks nobody out.
const lockName = "tokenhub.lock"

// prepareFolder makes the data folder, or refuses one that others may enter.
func prepareFolder(dir string) error {
	if dir == "" {
		return errors.New("no data folder was named: set data_dir or use --data")
	}
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return fmt.Errorf("can't make the data folder: %w; make it yourself or choose another one with --data", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("can't read the data folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("data folder %s is not a folder: choose another one with --data", dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("data folder %s may be entered by others (mode %04o): run chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// folderLock is a held lock of a data folder.
type folderLock struct{ file *os.File }

// lockFolder takes the folder for this process.
func lockFolder(dir string) (*folderLock, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return nil, fmt.Errorf("data folder %s can't be written by this user (uid %d): give it to that user with chown, or choose another one with --data", dir, os.Getuid())
	}
	if err != nil {
		return nil, fmt.Errorf("can't lock the data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("can't lock the data folder %s: %w", dir, err)
		}
		holder := "another tokenhub"
		text, _ := io.ReadAll(io.LimitReader(f, 32))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			holder = fmt.Sprintf("another tokenhub (pid %d)", pid)
		}
		return nil, fmt.Errorf("%w: %s is held by %s; stop it first, or use --data for another folder", ErrLocked, dir, holder)
	}
	// The number is for people only; the lock is what counts.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &folderLock{f}, nil
}

// release gives the folder free.
func (l *folderLock) release() {
	_ = l.file.Truncate(0)
	_ = l.file.Close()
}

// syncFolder makes renames and new names in dir survive a power cut.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// refuseOrphans refuses to start anew beside a journal whose database is gone.
func refuseOrphans(dir string) error {
	names, err := journalNames(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	return fmt.Errorf("%s is missing but the usage journal %s is there: put the database back or restore a backup with tokenhub restore FILE; to start anew, move the usage-*.log files away",
		filepath.Join(dir, DatabaseName), names[0].name)
}
