package auth

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The first computation of a process gets its memory in few pieces, and asks the
// system for no more huge pages than that: page by page there are 4,864 faults.
func TestMemoryOfTheFirstHashComesInFewPieces(t *testing.T) {
	const phc = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"
	if how := os.Getenv("FIRST_HASH"); how != "" {
		if how == "plain" {
			firstHash.Do(func() {})
		}
		before := pageFaults(t)
		if _, err := check("some text", phc); err != nil {
			t.Fatal(err)
		}
		t.Logf("faults=%d", pageFaults(t)-before)
		maps, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(maps)) {
			if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && strings.Contains(flags, " hg") {
				t.Error("a range still asks for huge pages")
			}
		}
		return
	}
	if !givesHugePages() {
		t.Skip("this system gives no huge pages of 2 MiB")
	}
	faults := func(how string) int {
		_, rest, _ := strings.Cut(again(t, how), "faults=")
		n, err := strconv.Atoi(strings.Fields(rest + " ?")[0])
		if err != nil {
			t.Fatalf("%v: %s", err, rest)
		}
		return n
	}
	plain, least := faults("plain"), 1<<30
	for range 5 {
		if least = min(least, faults("in pieces")); plain-least >= 1000 {
			return
		}
		// Now and then the heap finds another place.
	}
	t.Errorf("got %d faults at least, %d page by page: want 1,000 less", least, plain)
}

// Where no huge pages are to be had, nothing is taken: it would make the first
// computation slower.
func TestNoMemoryIsTakenWithoutHugePages(t *testing.T) {
	if os.Getenv("FIRST_HASH") == "" {
		again(t, "without")
		return
	}
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		t.Skip(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	takeMemory()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes were taken", took)
	}
}

// again runs the test in a process of its own and returns what it printed.
func again(t *testing.T, how string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "FIRST_HASH="+how)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// pageFaults is how often the process had to be given memory so far.
func pageFaults(t *testing.T) int64 {
	t.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return int64(use.Minflt) // 32 bits on small systems
}
