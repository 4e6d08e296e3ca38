//go:build !race

package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawRead reads from a descriptor that does not block, without telling Go's
// scheduler; see [socket].
func rawRead(fd uintptr, p []byte) (int, syscall.Errno) { return rawCall(unix.SYS_READ, fd, p, 0) }

// rawWrite writes in the same way.
func rawWrite(fd uintptr, p []byte) (int, syscall.Errno) { return rawCall(unix.SYS_WRITE, fd, p, 0) }

// rawPeek reads in the same way what can be read again.
func rawPeek(fd uintptr, p []byte) (int, syscall.Errno) {
	return rawCall(unix.SYS_RECVFROM, fd, p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
}

func rawCall(number, fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, err := unix.RawSyscall6(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch err {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}
