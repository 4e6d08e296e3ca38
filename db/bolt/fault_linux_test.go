package bolt

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// readOnly puts a descriptor that can only be read in the place of that which
// the process writes the database of dir with, so that bbolt's own writes fail.
// The function that it returns puts the right one back.
func readOnly(t *testing.T, dir string) (restore func()) {
	t.Helper()
	path := filepath.Join(dir, DatabaseName)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err != nil || target != path {
			continue
		}
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		right, err := syscall.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		bad, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer bad.Close()
		if err := syscall.Dup3(int(bad.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := syscall.Dup3(right, fd, syscall.O_CLOEXEC); err != nil {
				t.Fatal(fmt.Errorf("put the descriptor back: %w", err))
			}
			_ = syscall.Close(right)
		}
	}
	t.Fatalf("no descriptor of %s is open", path)
	return nil
}
