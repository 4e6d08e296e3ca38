package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// hugeKiB is how much of this process's memory is to be in huge pages.
func hugeKiB(t *testing.T) (sum int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	for _, m := range regexp.MustCompile(`(?s)\nSize: +(\d+) kB\n.*?\nVmFlags:([^\n]*)`).FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(m[2], " hg") {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// Room for one argon2id is asked for where that is how the kernel has it, and
// nothing where it decides by itself.
func TestHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("this kernel has no huge pages: ", err)
	}
	file := filepath.Join(t.TempDir(), "enabled")
	for _, c := range []struct {
		enabled string
		want    bool
	}{{"[always] madvise never\n", false}, {"always madvise [never]\n", false}, {"always [madvise] never\n", true}} {
		if err := os.WriteFile(file, []byte(c.enabled), 0o600); err != nil {
			t.Fatal(err)
		}
		before := hugeKiB(t)
		reserveHugePages(file)
		if after := hugeKiB(t); after < 20<<10 && c.want || after != before && !c.want {
			t.Errorf("%q: %d KiB are to be in huge pages, %d before", c.enabled, after, before)
		}
	}
	reserveHugePages(filepath.Join(t.TempDir(), "missing"))
}
