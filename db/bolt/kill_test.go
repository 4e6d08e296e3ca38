package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tokenhub/db"
)

// TestKill ends a process that writes, again and again, and finds after each
// time what it had acknowledged, once. BOLT_KILL_ROUNDS asks for more rounds.
func TestKill(t *testing.T) {
	if dir := os.Getenv("BOLT_KILL_DIR"); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("BOLT_KILL_ROUNDS")); err == nil {
		rounds = n
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := filepath.Join(t.TempDir(), "data")
	d := openDB(t, Options{Dir: dir})
	putKey(t, d, "k", db.Limits{TotalTokens: 1 << 40})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	settled, keys := int64(0), 0
	for round := range rounds {
		s, k := killAfter(t, dir, 20+random.IntN(5000))
		settled, keys = settled+s, keys+k
		var problems []string
		got := counted(t, dir, &problems)
		// The last of each writer may have been written and not told of, and one
		// more was in the hands of who tells.
		if got < settled || got > settled+killWriters+1 {
			t.Fatalf("round %d: got %d settled requests, %d were acknowledged", round, got, settled)
		}
		settled = got
		d := openDB(t, Options{Dir: dir})
		all, err := d.AllKeys(t.Context())
		if err != nil || len(all)-1 < keys || len(all)-1 > keys+2 {
			t.Fatalf("round %d: got %d keys, %v, %d were acknowledged", round, len(all)-1, err, keys)
		}
		keys = len(all) - 1
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Check(t.Context(), dir); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	t.Logf("%d settlements and %d keys survived %d kills", settled, keys, rounds)
}

// killWriters is how many goroutines settle in the child.
const killWriters = 4

// killAfter starts a child that writes, and kills it after it acknowledged n
// operations; all that it acknowledged are counted.
func killAfter(t *testing.T, dir string, n int) (settled int64, keys int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKill$")
	child.Env = append(os.Environ(), "BOLT_KILL_DIR="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for acknowledged := 0; lines.Scan(); {
		switch {
		case lines.Text() == "settled":
			settled++
		case lines.Text() == "key":
			keys++
		default:
			t.Errorf("the child said %q", lines.Text())
		}
		if acknowledged++; acknowledged == n {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return settled, keys
}

// writeUntilKilled settles, folds and makes keys, and says so after each.
func writeUntilKilled(t *testing.T, dir string) {
	d, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	say := make(chan string)
	for range killWriters {
		go func() {
			for {
				r, err := d.Reserve(t.Context(), claim("k", noon, 1, 0))
				if err == nil {
					err = d.Settle(t.Context(), r, record("req", "k", noon, 1, 0, 1))
				}
				if err != nil {
					t.Error(err)
					return
				}
				say <- "settled"
			}
		}()
	}
	go func() {
		for i := 0; ; i++ {
			_, err := d.PutKey(t.Context(), &db.Key{ID: fmt.Sprintf("%d-%d", os.Getpid(), i), Name: strings.Repeat("x", 90)}, db.Audit{Action: "key.create"})
			if err != nil {
				t.Error(err)
				return
			}
			say <- "key"
			if err := d.fold(); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for line := range say {
		os.Stdout.WriteString(line + "\n")
	}
}
