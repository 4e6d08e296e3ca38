package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that is full (no file may grow any more) stops keys with limits, and
// them alone; readyz says so. When there is room again all goes on without a
// restart, and nothing that was answered is missing.
func TestDiskFull(t *testing.T) {
	v := newVictim(t)
	v.start(t)
	t.Cleanup(func() { v.kill(t) })
	h := &hub{url: "http://" + v.address}
	var limited, free apiKey
	if err := v.api("POST", "/api/keys", map[string]any{"name": "limited", "limits": map[string]any{"total_tokens": 1_000_000_000}}, &limited); err != nil {
		t.Fatal(err)
	}
	if err := v.api("POST", "/api/keys", map[string]any{"name": "free"}, &free); err != nil {
		t.Fatal(err)
	}
	answered := map[string]int64{}
	chat := func(k apiKey) (int, string) {
		status, _, body := h.chat(t, k.Key, plainChat)
		if status == 200 {
			answered[k.ID]++
		}
		return status, body
	}
	ready := func() bool {
		resp, err := http.Get(h.url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	}
	if status, body := chat(limited); status != 200 || !ready() {
		t.Fatalf("%d %s", status, body)
	}
	limit := func(bytes uint64) {
		if err := unix.Prlimit(v.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // from here on no write to a file succeeds
	late := time.Now().Add(20 * time.Second)
	for {
		status, body := chat(limited)
		if status == 503 && strings.Contains(body, `"code":"storage_unavailable"`) {
			break
		}
		if status != 200 || time.Now().After(late) {
			t.Fatalf("%d %s", status, body)
		}
	}
	if ready() {
		t.Error("ready, although nothing can be written")
	}
	for range 20 {
		if status, body := chat(free); status != 200 {
			t.Fatalf("a key without limits: %d %s", status, body)
		}
	}
	if err := v.api("POST", "/api/keys", map[string]any{"name": "not written"}, nil); err == nil || !strings.Contains(err.Error(), "storage_unavailable") {
		t.Errorf("a key was made on a full disk: %v", err)
	}

	limit(unix.RLIM_INFINITY)
	for !ready() {
		if time.Now().After(late.Add(20 * time.Second)) {
			t.Fatal("not ready again 20 s after there was room")
		}
	}
	if status, body := chat(limited); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	check := func(when string) {
		t.Helper()
		for _, k := range []apiKey{limited, free} {
			var usage struct{ Data []struct{ Requests int64 } }
			if err := v.api("GET", "/api/usage?group_by=key&key="+url.QueryEscape(k.ID), nil, &usage); err != nil {
				t.Fatal(err)
			}
			if len(usage.Data) != 1 || usage.Data[0].Requests != answered[k.ID] {
				t.Errorf("%s, %s: %+v, answered were %d", when, k.Name, usage.Data, answered[k.ID])
			}
		}
	}
	check("at once")
	v.kill(t)
	v.start(t)
	check("after kill -9 and a restart")
}
