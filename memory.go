package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
)

// limitMemory makes the collector work harder as the memory of the container
// comes to its end, instead of letting the kernel end the process: the limit is
// nine tenths of the container's, unless GOMEMLIMIT says another. root is where
// the control groups are, of version 2 or 1.
func limitMemory(root string, env func(string) string) {
	if env("GOMEMLIMIT") != "" {
		return
	}
	for _, file := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue
		}
		// "max", and a number that no machine has, mean that there is none.
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil && n > 0 && n < 1<<60 {
			debug.SetMemoryLimit(n / 10 * 9)
		}
		return
	}
}
