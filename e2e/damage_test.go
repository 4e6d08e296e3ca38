package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A data folder that is damaged, foreign or closed ends the start with one line
// that says what to do, and is left as it is: nothing is repaired by guessing,
// and no key is forgotten in silence.
func TestDamagedDataIsRefused(t *testing.T) {
	v := newVictim(t)
	v.start(t)
	var k apiKey
	if err := v.api("POST", "/api/keys", map[string]any{"name": "k"}, &k); err != nil {
		t.Fatal(err)
	}
	if status, _, body := (&hub{url: "http://" + v.address}).chat(t, k.Key, plainChat); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	v.kill(t)
	folder := filepath.Join(v.dir, "data")
	path := filepath.Join(folder, "tokenhub.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(whole)) }
	flipped := changed(func(b []byte) []byte {
		for i := range b {
			if bytes.HasPrefix(b[i:], []byte(k.ID)) {
				b[i] ^= 0x20
			}
		}
		return b
	})
	for name, content := range map[string][]byte{
		"empty":       {},
		"cut short":   whole[:len(whole)/2],
		"a few bytes": whole[:100],
		"zeroed":      make([]byte, len(whole)),
		"half zeroed": changed(func(b []byte) []byte { clear(b[len(b)/4:]); return b }),
		"bits turned": flipped,
		"foreign":     []byte("SQLite format 3\x00" + strings.Repeat("x", 8000)),
		"text":        []byte("hello\n"),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		refusesToStart(t, name, v, "restore", nil)
		// Where single records are damaged, whole ones of the journal may join them.
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) && name != "bits turned" {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refusesToStart(t, "gone beside a journal", v, "restore", nil)
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	refusesToStart(t, "open to others", v, "chmod 700", nil)
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // whom no mode keeps out: somebody else tries
		const nobody = 65534
		for _, dir := range []string{v.dir, filepath.Dir(binary)} {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range []string{folder, path, filepath.Join(v.dir, "config.toml")} {
			if err := os.Chown(file, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(folder, 0o500); err != nil {
			t.Fatal(err)
		}
		refusesToStart(t, "not to be written", v, "written", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
		for _, file := range []string{folder, path, filepath.Join(v.dir, "config.toml")} {
			if err := os.Chown(file, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		if err := os.Chmod(folder, 0o500); err != nil {
			t.Fatal(err)
		}
		refusesToStart(t, "not to be written", v, "written", nil)
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}

	// With the file that was whole all is as it was.
	v.start(t)
	t.Cleanup(func() { v.kill(t) })
	v.checkUsage(t, k.ID, nil)
	var after apiKey
	if err := v.api("GET", "/api/keys/"+k.ID, nil, &after); err != nil || after.Usage.Total.Requests != 1 {
		t.Errorf("%+v %v", after, err)
	}
}

// refusesToStart fails the test unless the server ends at once with exit code 1
// and one line that contains want.
func refusesToStart(t *testing.T, what string, v *victim, want string, as *syscall.SysProcAttr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "--config", filepath.Join(v.dir, "config.toml"))
	cmd.Env, cmd.SysProcAttr = plainEnvironment(), as
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	said := strings.TrimSpace(stderr.String())
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said, want) || strings.Contains(said, "\n") || strings.Contains(said, "goroutine") {
		t.Errorf("%s: %v: %.600s\nwant exit code 1 and one line with %q", what, err, said, want)
	}
}
