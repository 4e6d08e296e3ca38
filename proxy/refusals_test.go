package proxy

import (
	"strings"
	"testing"
	"time"

	"tokenhub/db"
)

func TestRefusalsAreLoggedWithABound(t *testing.T) {
	var r refusals
	now := time.Unix(1000, 0)
	logged := 0
	for range 1000 {
		if ok, _ := r.log(now); ok {
			logged++
		}
	}
	if logged != refusalsPerSecond {
		t.Errorf("%d of 1,000 in one second are logged, want %d", logged, refusalsPerSecond)
	}
	if ok, leftOut := r.log(now.Add(time.Second)); !ok || leftOut != 1000-refusalsPerSecond {
		t.Errorf("a second later: %v, %d left out", ok, leftOut)
	}
	if ok, leftOut := r.log(now.Add(time.Second)); !ok || leftOut != 0 {
		t.Errorf("told twice: %v, %d", ok, leftOut)
	}
}

// A flood of wrong keys does not fill the log, and the log says what it left out.
func TestFloodDoesNotFillTheLog(t *testing.T) {
	d := newDoor(t, newFake(t, good).URL, nil)
	start := time.Now()
	for range 500 {
		d.send("POST", "/v1/chat/completions", chatBody, "Authorization", "Bearer th-wrong")
	}
	most := refusalsPerSecond * (2 + int(time.Since(start)/time.Second))
	if n := strings.Count(d.log.String(), `"message":"refused"`); n == 0 || n > most {
		t.Errorf("%d refusals are logged, want 1 to %d", n, most)
	}
}

// The log says whose request was refused, where that is known.
func TestRefusalsNameTheKey(t *testing.T) {
	d := newDoor(t, newFake(t, good).URL, nil)
	key := d.key("k", func(k *db.Key) { k.Models = []string{"other"} })
	d.chat(key)
	if text := d.log.String(); !strings.Contains(text, `"key":"`+key[3:13]+`"`) || !strings.Contains(text, `"code":"model_not_allowed"`) || strings.Contains(text, key) {
		t.Errorf("the log says %s", text)
	}
}
