package bolt

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tokenhub/db"
)

// fill appends records to a tail, one per hour, and returns the place behind each.
func fill(t *tail, n int, at position) (ends []position) {
	for i := range n {
		e := entry{rec: *record(fmt.Sprintf("req_%d", i), "k", noon.Add(time.Duration(i)*time.Hour), 1, 0, 1)}
		frame := appendFrame(nil, &e)
		t.add(at.seq, at.off, frame, e.rec.Start)
		at.off += int64(len(frame))
		ends = append(ends, at)
	}
	return ends
}

func ids(list []numbered) (ids []string) {
	for _, n := range list {
		ids = append(ids, n.rec.ID)
	}
	return ids
}

// A tail gives back what was put into it, each record with its place, whatever
// was forgotten of it before, and what a reader holds does not change.
func TestTail(t *testing.T) {
	const n = 1000 // several blocks
	for _, gone := range []int{0, 1, 2, n / 2, n - 1, n} {
		var tl tail
		ends := fill(&tl, n, position{3, headerSize})
		held := slices.Clone(tl.blocks)
		if gone > 0 {
			tl.forget(ends[gone-1])
			tl.forget(ends[gone-1])
		}
		tl.forget(position{2, 1 << 40})
		more := fill(&tl, 3, ends[n-1])
		next := fill(&tl, 2, position{4, headerSize})
		if tl.count != n-gone+5 {
			t.Errorf("without %d: %d records are counted, want %d", gone, tl.count, n-gone+5)
		}
		got, err := records(tl.blocks, position{}, math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		var places []position
		for _, r := range got {
			places = append(places, r.end)
		}
		if want := slices.Concat(ends[gone:], more, next); !slices.Equal(places, want) {
			t.Errorf("without %d: %d records at other places than the %d expected", gone, len(places), len(want))
		}
		if got, err = records(held, ends[4], math.MinInt64, math.MaxInt64); err != nil || len(got) != n-5 || got[0].rec.ID != "req_5" || got[n-6].rec.ID != "req_999" {
			t.Errorf("without %d a reader behind the fifth has %d records, %v", gone, len(got), err)
		}
		tl.forget(position{4, 1 << 40})
		if tl.count != 0 || tl.size != 0 || len(tl.blocks) != 0 {
			t.Errorf("something is left of all: %d records in %d bytes", tl.count, tl.size)
		}
	}
}

// What a tail says of its size is what it takes, however often a part of a block is
// forgotten while more comes: else it would take itself for full one day.
func TestTailKnowsItsSize(t *testing.T) {
	var tl tail
	at := position{1, headerSize}
	for range 500 {
		ends := fill(&tl, 700, at)
		at = ends[len(ends)-1]
		tl.forget(ends[len(ends)-50])
		size, count := 0, 0
		for _, b := range tl.blocks {
			size, count = size+cap(b.data), count+b.count
		}
		if tl.size != size || tl.count != count || count != 49 {
			t.Fatalf("%d records in %d bytes are said, %d in %d are there", tl.count, tl.size, count, size)
		}
	}
}

// A report of some hours decodes no block of others, and misses none of its own.
func TestTailByHours(t *testing.T) {
	var tl tail
	fill(&tl, 1000, position{1, headerSize})
	first := floorDiv(noon.Unix(), secondsPerHour)
	for _, span := range [][2]int64{{-5, 0}, {0, 1}, {400, 420}, {990, 2000}, {1000, 2000}} {
		got, err := records(tl.blocks, position{}, first+span[0], first+span[1])
		if err != nil {
			t.Fatal(err)
		}
		have := ids(got)
		for i := max(0, span[0]); i < min(1000, span[1]); i++ {
			if !slices.Contains(have, fmt.Sprintf("req_%d", i)) {
				t.Errorf("hours %v: request %d is missing", span, i)
			}
		}
		if len(have) == 1000 || (span[1] <= 0 || span[0] >= 1000) && len(have) > 0 {
			t.Errorf("hours %v: %d records were read", span, len(have))
		}
	}
}

// Many records are folded at once and not only when it is time: reports have to
// read what is not.
func TestCrowdIsFolded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(t.Context(), Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		putKey(t, d, "k", db.Limits{})
		go d.Run(t.Context())
		synctest.Wait()
		for i := range crowd {
			settle(t, d, record(fmt.Sprint("req_", i), "k", time.Now(), 1, 0, 1))
		}
		synctest.Wait()
		if n := d.Stats().Unfolded; n != 0 {
			t.Errorf("%d records are not folded", n)
		}
		if rows, err := d.Usage(t.Context(), db.UsageQuery{From: time.Now(), To: time.Now().Add(time.Hour)}); err != nil || len(rows) != 1 || rows[0].Requests != crowd {
			t.Errorf("got %+v, %v, want %d requests", rows, err, crowd)
		}
	})
}
