//go:build !linux || race

package proxy

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Other systems have no calls that Go's scheduler need not be told of, and the
// race detector, which takes what passes through a socket for an order of events,
// sees no others.

// rawRead reads from a descriptor that does not block.
func rawRead(fd uintptr, p []byte) (int, syscall.Errno) {
	return rawCall(func() (int, error) { return syscall.Read(int(fd), p) })
}

// rawWrite writes in the same way.
func rawWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	return rawCall(func() (int, error) { return syscall.Write(int(fd), p) })
}

// rawPeek reads in the same way what can be read again.
func rawPeek(fd uintptr, p []byte) (int, syscall.Errno) {
	return rawCall(func() (int, error) {
		n, _, err := syscall.Recvfrom(int(fd), p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return n, err
	})
}

func rawCall(call func() (int, error)) (int, syscall.Errno) {
	for {
		n, err := call()
		if err == nil {
			return n, 0
		}
		if number, ok := errors.AsType[syscall.Errno](err); !ok || number != unix.EINTR {
			return 0, number
		}
	}
}
