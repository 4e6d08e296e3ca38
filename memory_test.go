package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for name, c := range map[string]struct {
		file, text, env string
		want            int64
	}{
		"version 2":   {"memory.max", "268435456\n", "", 241591905},
		"version 1":   {"memory/memory.limit_in_bytes", "1000000000", "", 900000000},
		"none":        {"memory.max", "max\n", "", math.MaxInt64},
		"none, old":   {"memory/memory.limit_in_bytes", "9223372036854771712", "", math.MaxInt64},
		"the owner's": {"memory.max", "268435456", "1GiB", math.MaxInt64},
		"no group":    {"other", "5", "", math.MaxInt64},
	} {
		t.Run(name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			file := filepath.Join(t.TempDir(), "cgroup", c.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			root := filepath.Dir(file)
			if filepath.Base(root) == "memory" {
				root = filepath.Dir(root)
			}
			limitMemory(root, func(string) string { return c.env })
			if got := debug.SetMemoryLimit(-1); got != c.want {
				t.Errorf("the limit is %d, want %d", got, c.want)
			}
		})
	}
}
