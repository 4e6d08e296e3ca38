package metrics

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tokenhub/db"
)

func record(key, model string, status int) *db.Record {
	return &db.Record{KeyID: key, Model: model, Provider: "p", Status: status, Latency: 300 * time.Millisecond, FirstByte: 20 * time.Millisecond,
		Usage: db.Usage{Input: 7, Output: 3, CachedInput: 2}, Cost: 1_500_000, Source: db.FromProvider}
}

func written(m *Metrics) string {
	var b bytes.Buffer
	m.Write(&b)
	return b.String()
}

func TestObserve(t *testing.T) {
	m := New(Options{Version: `1"2`, Moment: func() []Gauge {
		return []Gauge{{Name: "tokenhub_running", Value: 3}, {Name: "tokenhub_waiting", Labels: []string{"provider", "p"}, Value: 1.5}, {Name: "tokenhub_wrong_total", Value: 2, Counter: true}}
	}})
	m.Observe(record("k", "gpt", 200))
	m.Observe(record("k", "gpt", 200))
	failed := record("k", "gpt", 502)
	failed.Source, failed.FirstByte = "", 0
	m.Observe(failed)
	left := record("k", "gpt", 200)
	left.Broken, left.Error, left.Source, left.Stream = true, "canceled", db.Aborted, true
	m.Observe(left)
	m.Refuse("invalid_json")
	m.Refuse("invalid_json")
	text := written(m)
	for _, want := range []string{
		`tokenhub_build_info{version="1\"2"} 1`,
		"# TYPE tokenhub_running gauge\ntokenhub_running 3\n",
		"# TYPE tokenhub_wrong_total counter\ntokenhub_wrong_total 2\n",
		`tokenhub_waiting{provider="p"} 1.5`,
		`tokenhub_requests_total{provider="p",result="2xx",stream="false"} 2`,
		`tokenhub_requests_total{provider="p",result="5xx",stream="false"} 1`,
		`tokenhub_requests_total{provider="p",result="canceled",stream="true"} 1`,
		`tokenhub_tokens_total{key="k",model="gpt",provider="p",kind="input"} 21`,
		`tokenhub_tokens_total{key="k",model="gpt",provider="p",kind="cached_input"} 6`,
		`tokenhub_cost_usd_total{key="k",model="gpt",provider="p"} 4.5`,
		`tokenhub_estimated_requests_total{key="k",model="gpt",provider="p"} 1`,
		`tokenhub_refused_total{code="invalid_json"} 2`,
		`tokenhub_request_seconds_bucket{provider="p",le="0.25"} 0`,
		`tokenhub_request_seconds_bucket{provider="p",le="0.5"} 4`,
		`tokenhub_request_seconds_count{provider="p"} 4`,
		`tokenhub_first_byte_seconds_count{provider="p"} 3`,
		"process_resident_memory_bytes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	line := regexp.MustCompile(`^(#.*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_]+="([^"\\\n]|\\.)*"(, ?[a-zA-Z_]+="([^"\\\n]|\\.)*")*\})? [-+0-9.eEIinfNa]+)$`)
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		if !line.MatchString(l) {
			t.Errorf("not a line of the format: %q", l)
		}
	}
}

// A caller can't make series: a name that no provider answered is "other", and
// there is an end to those that were.
func TestSeriesAreBounded(t *testing.T) {
	m := New(Options{})
	for i := range 2 * maxSets {
		m.Observe(record("k", fmt.Sprintf("invented-%d", i), 404))
	}
	if n := len(m.used); n != 1 {
		t.Errorf("%d sets of labels for names that nobody answered", n)
	}
	for i := range 2 * maxSets {
		m.Observe(record("k", fmt.Sprintf("model-%d", i), 200))
	}
	for i := range 20 * maxProviders {
		r := record("k", "m", 200)
		r.Provider = fmt.Sprint("provider-", i)
		m.Observe(r)
	}
	if len(m.used) > maxSets+1 || len(m.known) > maxSets || len(m.providers) > maxProviders+1 || len(m.answers) > maxProviders*10+20 {
		t.Errorf("%d sets, %d names, %d providers, %d answers", len(m.used), len(m.known), len(m.providers), len(m.answers))
	}
}

func TestObserveInParallel(t *testing.T) {
	m := New(Options{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				m.Observe(record(fmt.Sprint("k", (i+j)%5), fmt.Sprint("m", j%7), 200))
			}
		})
	}
	all.Wait()
	total := 0
	for _, l := range strings.Split(written(m), "\n") {
		var n int
		if strings.HasPrefix(l, "tokenhub_tokens_total") && strings.Contains(l, `kind="output"`) {
			if _, err := fmt.Sscanf(l[strings.LastIndexByte(l, ' ')+1:], "%d", &n); err != nil {
				t.Fatal(err)
			}
			total += n
		}
	}
	if total != 8*200*3 {
		t.Errorf("%d output tokens, want %d", total, 8*200*3)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	m := New(Options{})
	r := record("k", "m", 200)
	m.Observe(r)
	if n := testing.AllocsPerRun(100, func() { m.Observe(r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := New(Options{})
	r := record("k", "m", 200)
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(r)
	}
}
