package auth

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is how much the system hands out at once where it can, in bytes.
const hugePage = 2 << 20

// takeMemory has the heap own the memory of one computation before the first one
// asks for it. Page by page that is 4,864 faults, which take longer than the
// computation where the system is itself a guest; in huge pages it is ten. They are
// asked for here alone: where they stay in force, the system makes whole pages
// again of those that the collector has given back.
func takeMemory() {
	if !givesHugePages() {
		return
	}
	b := make([]byte, hashMemory+2*hugePage)
	whole := wholePages(b)
	if unix.Madvise(whole, unix.MADV_HUGEPAGE) != nil {
		return
	}
	for i := 0; i < len(whole); i += hugePage {
		whole[i] = 1
	}
	_ = unix.Madvise(whole, unix.MADV_NOHUGEPAGE)
	runtime.GC() // b is free, and what asks next for as much gets it
}

// givesHugePages tries it, outside of the heap: the system agrees to the advice
// also when it has none to give, and memory that the heap had before is dearer
// then than memory that it never had.
func givesHugePages() bool {
	b, err := unix.Mmap(-1, 0, 2*hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Munmap(b) }()
	one := wholePages(b)[:hugePage]
	if unix.Madvise(one, unix.MADV_HUGEPAGE) != nil {
		return false
	}
	one[0] = 1
	there := make([]byte, hugePage/os.Getpagesize())
	return mincore(one, there) == nil && there[len(there)-1]&1 == 1
}

// wholePages is the part of b that consists of whole huge pages.
func wholePages(b []byte) []byte {
	odd := int(uintptr(unsafe.Pointer(&b[0])) % hugePage)
	b = b[(hugePage-odd)%hugePage:]
	return b[:len(b)/hugePage*hugePage]
}

// mincore says which of the small pages of b are in memory.
func mincore(b, there []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&there[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
