package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// SocketName is the name of the Unix socket in the data folder.
const SocketName = "tokenhub.sock"

// maxSocketPath is the longest path that fits into a socket address on all
// systems, in bytes.
const maxSocketPath = 103

// ShortPath returns a path to the file name in dir that fits into a socket
// address, for a listener too: the path itself where it is short enough, else a
// way around it that holds until release is called. Release is never nil.
func ShortPath(dir, name string) (path string, release func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, path); err == nil && len(rel) <= maxSocketPath {
			return rel, func() {}, nil
		}
	}
	if runtime.GOOS != "linux" {
		return "", func() {}, fmt.Errorf("the path %s is too long for a socket: choose a shorter data folder", path)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return "", func() {}, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), name), func() { _ = folder.Close() }, nil
}

// dialSocket connects to the server that works on the data folder. The error is
// errNoServer when there is none.
func dialSocket(ctx context.Context, dataDir string) (net.Conn, error) {
	path, release, err := ShortPath(dataDir, SocketName)
	defer release()
	if err == nil {
		var d net.Dialer
		var conn net.Conn
		if conn, err = d.DialContext(ctx, "unix", path); err == nil {
			return conn, nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return nil, errNoServer
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the data folder %s is not yours to open: run this as the user that runs tokenhub", dataDir)
	}
	return nil, fmt.Errorf("reach the server on %s: %w", dataDir, err)
}

// errNoServer says that no server works on the data folder.
var errNoServer = errors.New("no server runs")
