package main

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserveHugePages has the kernel hand out the 19 MiB that argon2id takes for a
// first check of a key in pages of 2 MiB, where it does so on request only, as most
// systems do: in 4,864 small ones that is half of the time of a check. enabled is
// where the kernel says what it does. To be called while the heap is small.
func reserveHugePages(enabled string) {
	const size, page, small = 22 << 20, 2 << 20, 256 << 20
	text, err := os.ReadFile(enabled)
	if err != nil || !bytes.Contains(text, []byte("[madvise]")) || debug.SetMemoryLimit(-1) < small {
		return
	}
	// Memory that nobody touches takes no memory. What is asked for holds for its
	// addresses, also when the collector has taken it back: the heap gives out the
	// lowest ones first, so that argon2id will get these.
	room := make([]byte, size+page)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(room)))) & (page - 1)
	_ = unix.Madvise(room[skip:skip+size], unix.MADV_HUGEPAGE) // without it is slower, no more
	runtime.GC()
}
