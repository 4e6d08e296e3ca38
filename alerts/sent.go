package alerts

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"tokenhub/config"
	"tokenhub/db"
)

// setting is where it is written down what was sent: JSON, from the alert to the
// end of its window in Unix seconds, 0 for a window without end. While one is on
// its way to some of the targets, there is an entry for each that has taken it.
const setting = "alerts.sent"

// maxSent bounds what is written down.
const maxSent = 10_000

// made is an alert that must not be made again.
type made struct {
	ends int64 // of the window, Unix seconds, 0 = never
	sent bool  // to each target that can be reached
}

// look makes an alert due for the highest percentage that is reached, unless it
// was sent before; the lower ones go with it.
func (a *Alerts) look(b budget) {
	reached := 0
	at := a.o.Config().Alerts.At
	for _, percent := range at {
		if percent > reached && b.used >= share(b.max, percent) {
			reached = percent
		}
	}
	if reached == 0 {
		return
	}
	// An answer that ends after its window still counts there, but nobody needs
	// to hear of a budget that has begun anew.
	if !b.ends.IsZero() && !b.ends.After(a.o.Now()) {
		return
	}
	ends := int64(0)
	if !b.ends.IsZero() {
		ends = b.ends.Unix()
	}
	// A limit that was changed is another one.
	id := func(percent int) string { return fmt.Sprintf("%s %s %d %d %d", b.owner, b.limit, b.max, ends, percent) }
	var ids []string
	for _, percent := range at {
		if percent <= reached {
			ids = append(ids, id(percent))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.made[id(reached)] != nil {
		return
	}
	select {
	case a.due <- alert{id: id(reached), ids: ids, ends: ends, message: b.message(reached)}:
	default:
		return
	}
	for _, id := range ids {
		a.made[id] = &made{ends: ends}
	}
}

// share is what a percentage of a limit comes to, rounded up. It divides first,
// since the product may be too large for an int64, and not by a float64, in which
// 7/100*100 is more than 7.
func share(most int64, percent int) int64 {
	p := int64(percent)
	return most/100*p + (most%100*p+99)/100
}

// takenID names the entry of a target that has taken an alert. The target is a
// secret: a few bits of its hash tell it from the others, and nobody what it is.
func takenID(one alert, target config.Secret) string {
	sum := sha256.Sum256([]byte(target.Reveal()))
	return fmt.Sprintf("%s %x", one.id, sum[:3])
}

// took reports whether a target has taken an alert.
func (a *Alerts) took(one alert, target config.Secret) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.made[takenID(one, target)] != nil
}

// take notes that a target has taken an alert.
func (a *Alerts) take(one alert, target config.Secret) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made[takenID(one, target)] = &made{ends: one.ends, sent: true}
}

// finish notes that an alert was sent to all that can be reached.
func (a *Alerts) finish(one alert) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range one.ids {
		if m := a.made[id]; m != nil {
			m.sent = true
		}
	}
	for at := range a.made { // also what a target took of the lower ones
		for _, id := range one.ids {
			if strings.HasPrefix(at, id+" ") {
				delete(a.made, at)
			}
		}
	}
}

// load reads what was sent before; what was noticed meanwhile stays.
func (a *Alerts) load(ctx context.Context) error {
	text, err := a.o.Store.Setting(ctx, setting)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	before := map[string]int64{}
	if err := json.Unmarshal([]byte(text), &before); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, ends := range before {
		a.made[id] = &made{ends: ends, sent: true}
	}
	return nil
}

// save writes down what was sent, and forgets the windows that are over.
func (a *Alerts) save(ctx context.Context) error {
	a.saving.Lock()
	defer a.saving.Unlock()
	text, err := json.Marshal(a.sent())
	if err != nil {
		return err
	}
	return a.o.Store.PutSetting(ctx, setting, string(text), db.Audit{})
}

func (a *Alerts) sent() map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.o.Now().Unix()
	list := map[string]int64{}
	for id, m := range a.made {
		if m.ends != 0 && m.ends <= now {
			delete(a.made, id)
		} else if m.sent && len(list) < maxSent {
			list[id] = m.ends
		}
	}
	return list
}
