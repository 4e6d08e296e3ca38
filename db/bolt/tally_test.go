package bolt

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// Settlements that are added up in batches count as they do one by one, in
// whatever order their windows come.
func TestCountersInBatches(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		var one, merged counters
		for range 1 + r.IntN(5) {
			var batch counters
			for range r.IntN(20) {
				day := int64(1 + r.IntN(8))
				tokens, cost := r.Int64N(100), r.Int64N(100)
				one.add(day, 1+day/3, tokens, cost)
				batch.add(day, 1+day/3, tokens, cost)
			}
			merged.merge(&batch)
		}
		if !reflect.DeepEqual(one.total, merged.total) || !sameWindows(one.days, merged.days) || !sameWindows(one.months, merged.months) {
			t.Fatalf("seed %d: %+v, want %+v", seed, merged, one)
		}
	}
}

func sameWindows(a, b []sum) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }
