package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/db/dbtest"
	"tokenhub/metrics"
	"tokenhub/proxy"
)

// wrongSecret is a well-formed key of an ID, with another secret for each n.
func wrongSecret(id string, n int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text := "th-" + id + fmt.Sprintf("%043d", n)
	var sum [6]byte
	rest := crc32.ChecksumIEEE([]byte(text))
	for i := len(sum) - 1; i >= 0; i-- {
		sum[i], rest = digits[rest%62], rest/62
	}
	return text + string(sum[:])
}

// told returns the entries of refused keys, the newest first, with what they count.
func told(t *testing.T, store db.Reports) (entries []db.Audit, reasons map[string]int64) {
	t.Helper()
	all, _, err := store.AuditLog(context.Background(), db.AuditQuery{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	reasons = map[string]int64{}
	for _, a := range all {
		if a.Action != "key.refused" {
			continue
		}
		var after struct {
			Reason string
			Count  int64
		}
		if err := json.Unmarshal([]byte(a.After), &after); err != nil || after.Count == 0 {
			t.Errorf("entry %+v: %v", a, err)
		}
		entries, reasons[after.Reason] = append(entries, a), reasons[after.Reason]+after.Count
	}
	return entries, reasons
}

// The audit trail knew nothing of keys that were refused.
func TestRefusedKeysAreAudited(t *testing.T) {
	store := dbtest.Memory(dbtest.Options{})
	text, id, err := auth.Mint(auth.Key)
	if err != nil {
		t.Fatal(err)
	}
	key := &db.Key{ID: id, Name: "ci", Endpoints: db.Inference, Secrets: []db.Secret{{PHC: text}}}
	if _, err := store.PutKey(t.Context(), key, db.Audit{}); err != nil {
		t.Fatal(err)
	}
	s := &server{log: zerolog.Nop(), metrics: metrics.New(metrics.Options{}), refusedKeys: newRefusedKeys(store, zerolog.Nop())}
	verifier := auth.New(auth.Options{Keys: store, Check: func(text, phc string) (bool, error) { return text == phc, nil }})
	if _, err := verifier.Verify(t.Context(), text, netip.Addr{}); err != nil { // then a wrong one costs no time
		t.Fatal(err)
	}
	s.gateway, err = proxy.New(proxy.Options{Config: config.Defaults(), Verifier: verifier, Store: store, Log: s.log, Refused: s.refused})
	if err != nil {
		t.Fatal(err)
	}
	app, err := s.gateway.Server()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go app.Listener(ln)
	defer app.Shutdown()
	for i := range 50 {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+ln.Addr().String()+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+wrongSecret(id, i))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 && resp.StatusCode != 429 {
			t.Fatalf("a wrong secret is answered %d", resp.StatusCode)
		}
	}
	s.refusedKeys.write(t.Context(), refusedAgain)
	entries, reasons := told(t, store)
	if len(entries) < 1 || len(entries) > 2 || reasons["wrong"] != 10 || reasons["too_many_failures"] != 40 {
		t.Errorf("got %d entries that count %v, want two that count 10 wrong ones and 40 too many", len(entries), reasons)
	}
	for _, a := range entries {
		if a.Target != id || a.TargetName != "ci" || a.From != "127.0.0.1" || a.Actor != "gateway" {
			t.Errorf("got %+v", a)
		}
		if strings.Contains(fmt.Sprint(a), "0000000000") {
			t.Errorf("a secret stands in %+v", a)
		}
	}
}

func TestRefusedKeysInFewEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dbtest.Memory(dbtest.Options{})
		r := newRefusedKeys(store, zerolog.Nop())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx) }()
		from := netip.MustParseAddr("192.0.2.1")
		refuse := func(times int) {
			for range times {
				r.note(fmt.Errorf("wrapped: %w", &auth.Refused{Reason: auth.Malformed}), from)
				r.note(context.Canceled, from) // none of its business
			}
		}
		check := func(when string, entries int, count int64) {
			t.Helper()
			synctest.Wait()
			if got, reasons := told(t, store); len(got) != entries || reasons["malformed"] != count {
				t.Errorf("%s: got %d entries that count %v, want %d that count %d", when, len(got), reasons, entries, count)
			}
		}
		refuse(3)
		time.Sleep(time.Minute)
		check("within a minute", 1, 3)
		refuse(5)
		time.Sleep(50 * time.Minute)
		check("within an hour", 1, 3)
		time.Sleep(15 * time.Minute)
		check("after an hour", 2, 8)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(r.kinds) != 0 {
			t.Errorf("%d kinds are remembered that ended long ago", len(r.kinds))
		}
		refuse(1)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		check("at the end", 3, 9)
	})
}

// Callers who make up keys, or have many addresses, don't fill the trail, and hide
// nothing that concerns a key.
func TestRefusedKeysAreBounded(t *testing.T) {
	store := dbtest.Memory(dbtest.Options{})
	r := newRefusedKeys(store, zerolog.Nop())
	for i := range 1000 {
		r.note(&auth.Refused{Reason: auth.Unknown, KeyID: fmt.Sprintf("%010d", i)}, netip.MustParseAddr("192.0.2.1"))
		r.note(&auth.Refused{Reason: auth.Missing}, netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::%x", i/2, i))) // two in each /64
	}
	for range 5 {
		r.note(&auth.Refused{Reason: auth.Wrong, KeyID: "0123456789"}, netip.MustParseAddr("198.51.100.7"))
	}
	for range 2 {
		r.write(t.Context(), refusedAgain)
		entries, reasons := told(t, store)
		if len(entries) != refusedKinds+2 || reasons["unknown"] != 1000 || reasons["missing"] != 2*(refusedKinds-1) || reasons["others"] != 1000-2*(refusedKinds-1) || reasons["wrong"] != 5 {
			t.Errorf("got %d entries that count %v", len(entries), reasons)
		}
		for _, e := range entries {
			if strings.Contains(e.After, "wrong") && e.Target != "0123456789" || strings.Contains(e.After, "missing") && !strings.HasSuffix(e.From, "::/64") {
				t.Errorf("got %+v", e)
			}
		}
	}
}
