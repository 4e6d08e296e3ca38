package auth

import (
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
	b := make([]byte, hashMemory+2*hugePage)
	odd := int(uintptr(unsafe.Pointer(&b[0])) % hugePage)
	whole := b[hugePage-odd:]
	whole = whole[:len(whole)/hugePage*hugePage]
	if unix.Madvise(whole, unix.MADV_HUGEPAGE) != nil {
		return // a system without them
	}
	for i := 0; i < len(whole); i += hugePage {
		whole[i] = 1
	}
	_ = unix.Madvise(whole, unix.MADV_NOHUGEPAGE)
	runtime.GC() // b is free, and what asks next for as much gets it
}
