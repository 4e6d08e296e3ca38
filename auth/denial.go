package auth

import (
	"sync"
	"time"
)

// How many wrong texts are remembered, and for how long. Pacing lets fewer
// computations be made in that time than there is room for.
const (
	denialMax = 4096
	denialTTL = time.Minute
)

// denial says that a text does not open a hash.
type denial struct {
	digest digest
	phc    string
}

// denials remembers which texts were wrong, so that a program that repeats a
// wrong secret costs nothing. They are about one hash each: a secret that was
// wrong may be right after a rotation. The oldest make room for the newest.
type denials struct {
	mu    sync.Mutex
	until map[denial]time.Time
	order []denial // a ring, once it is full
	next  int
}

func (d *denials) add(n denial, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until == nil {
		d.until = map[denial]time.Time{}
	}
	if _, known := d.until[n]; !known {
		if len(d.order) < denialMax {
			d.order = append(d.order, n)
		} else {
			delete(d.until, d.order[d.next])
			d.order[d.next] = n
			d.next = (d.next + 1) % denialMax
		}
	}
	d.until[n] = now.Add(denialTTL)
}

func (d *denials) has(n denial, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.Before(d.until[n])
}
