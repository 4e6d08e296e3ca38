package proxy

import (
	"net/http"
	"sync"
	"testing"

	"tokenhub/db"
)

// Whoever counts requests hears once of each attempt, of one that reached nobody too.
func TestEachAttemptIsObservedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		url    string
		status int
		error  string
	}{
		"served":    {calls(t, good).URL + "/v1", http.StatusOK, ""},
		"failed":    {calls(t, fails(500)).URL + "/v1", http.StatusInternalServerError, ""},
		"dead port": {deadPort(t), 0, "connect"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, c.url, nil)
			var mu sync.Mutex
			var seen []db.Record
			d.g.observe = func(rec *db.Record) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, *rec)
			}
			d.chat(d.key("k", nil))
			d.settled()
			mu.Lock()
			defer mu.Unlock()
			if len(seen) != 1 || seen[0].Provider != "p" || seen[0].Status != c.status || seen[0].Error != c.error {
				t.Errorf("observed %+v, want status %d, error %q, once", seen, c.status, c.error)
			}
		})
	}
}
