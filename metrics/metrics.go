// Package metrics counts what the gateway does, for Prometheus. It is fed with
// one record per request that was sent to a provider, and asks for the numbers
// of the moment when it is read.
//
//	m := metrics.New(metrics.Options{Version: version, Moment: moment})
//	m.Observe(rec)   // at each settlement: a few counters, no allocation
//	m.Write(w)       // the text format, for GET /metrics
//
// The number of series is bounded: a model's name becomes a label only once a
// provider answered it with 2xx, and when there are too many sets of labels the
// new ones are counted as "other".
package metrics

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	vm "github.com/VictoriaMetrics/metrics"

	"tokenhub/db"
)

// maxSets is how many sets of key, model and provider have series of their own.
const maxSets = 5000

// maxProviders is how many providers have series of their own. Their names come
// from the configuration, so that only many reloads reach it.
const maxProviders = 500

// The upper bounds of the histograms, in seconds: a provider's answer takes from
// milliseconds to many minutes.
var seconds = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

// Gauge is one number of the moment. Labels are pairs of name and value.
type Gauge struct {
	Name   string
	Labels []string
	Value  float64
	// Counter says that it only grows.
	Counter bool
}

// Options are what a [Metrics] is made of.
type Options struct {
	// Version of the program, for tokenhub_build_info.
	Version string
	// Moment returns the numbers of the moment; gauges of one name follow each other.
	Moment func() []Gauge
}

// Metrics holds the counters. It is safe for concurrent use.
type Metrics struct {
	o   Options
	set *vm.Set

	// mu guards the maps; the counters in them need no lock.
	mu        sync.RWMutex
	used      map[labels]*use
	answers   map[answer]*vm.Counter
	providers map[string]*timing
	known     map[string]bool // models that were answered with 2xx
}

type labels struct{ key, model, provider string }

// use is what one key used of one model at one provider.
type use struct {
	input, output, cached, written, reasoning *vm.Counter
	cost                                      *vm.FloatCounter
	estimated                                 *vm.Counter
}

type answer struct {
	provider, class string
	stream          bool
}

// timing is how long one provider takes.
type timing struct{ total, first *vm.PrometheusHistogram }

// New returns metrics that have counted nothing yet.
func New(o Options) *Metrics {
	return &Metrics{o: o, set: vm.NewSet(), used: map[labels]*use{}, answers: map[answer]*vm.Counter{},
		providers: map[string]*timing{}, known: map[string]bool{}}
}

// Observe counts one request that was sent to a provider, or an attempt at one
// that failed.
func (m *Metrics) Observe(rec *db.Record) {
	m.answer(rec).Inc()
	t := m.timing(rec.Provider)
	t.total.Update(rec.Latency.Seconds())
	if rec.FirstByte > 0 {
		t.first.Update(rec.FirstByte.Seconds())
	}
	if rec.Source == "" {
		return
	}
	u := m.use(rec)
	add := func(c *vm.Counter, n int64) {
		if n > 0 {
			c.AddInt64(n)
		}
	}
	add(u.input, rec.Usage.Input)
	add(u.output, rec.Usage.Output)
	add(u.cached, rec.Usage.CachedInput)
	add(u.written, rec.Usage.CacheWrite)
	add(u.reasoning, rec.Usage.Reasoning)
	if rec.Cost > 0 {
		u.cost.Add(float64(rec.Cost) / 1e6)
	}
	if rec.Source != db.FromProvider {
		u.estimated.Inc()
	}
}

// Refuse counts one request that the gateway itself answered with an error of
// this code; there are few codes.
func (m *Metrics) Refuse(code string) {
	m.set.GetOrCreateCounter(name("tokenhub_refused_total", "code", code)).Inc()
}

// class is the kind of answer a record tells of: "2xx" to "5xx", or why there is
// none.
func class(rec *db.Record) string {
	switch {
	case rec.Error == "canceled", rec.Error == "revoked", rec.Error == "shutdown", rec.Error == "timeout", rec.Error == "connect":
		return rec.Error
	case rec.Broken:
		return "broken"
	case rec.Status >= 100 && rec.Status < 600:
		return [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}[rec.Status/100-1]
	}
	return "none"
}

func (m *Metrics) answer(rec *db.Record) *vm.Counter {
	a := answer{rec.Provider, class(rec), rec.Stream}
	m.mu.RLock()
	c := m.answers[a]
	m.mu.RUnlock()
	if c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.answers) >= maxProviders*10 {
		a.provider = db.OtherModel
	}
	if c = m.answers[a]; c == nil {
		c = m.set.GetOrCreateCounter(name("tokenhub_requests_total", "provider", a.provider, "result", a.class, "stream", strconv.FormatBool(a.stream)))
		m.answers[a] = c
	}
	return c
}

func (m *Metrics) timing(provider string) *timing {
	m.mu.RLock()
	t := m.providers[provider]
	m.mu.RUnlock()
	if t != nil {
		return t
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.providers) >= maxProviders {
		provider = db.OtherModel
	}
	if t = m.providers[provider]; t == nil {
		t = &timing{
			total: m.set.GetOrCreatePrometheusHistogramExt(name("tokenhub_request_seconds", "provider", provider), seconds),
			first: m.set.GetOrCreatePrometheusHistogramExt(name("tokenhub_first_byte_seconds", "provider", provider), seconds),
		}
		m.providers[provider] = t
	}
	return t
}

func (m *Metrics) use(rec *db.Record) *use {
	answered := rec.Status >= 200 && rec.Status < 300
	l := labels{rec.KeyID, rec.Model, rec.Provider}
	m.mu.RLock()
	known := m.known[l.model]
	u := m.used[l]
	m.mu.RUnlock()
	if u != nil && known {
		return u
	}
	// The name may be a view on a whole request body: keep nothing but it.
	l.model = strings.Clone(l.model)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case known:
	case answered && len(m.known) < maxSets:
		m.known[l.model] = true
	default:
		l.model = db.OtherModel
	}
	if len(m.used) >= maxSets && m.used[l] == nil {
		l = labels{db.OtherModel, db.OtherModel, db.OtherModel}
	}
	if u = m.used[l]; u != nil {
		return u
	}
	tokens := func(kind string) *vm.Counter {
		return m.set.GetOrCreateCounter(name("tokenhub_tokens_total", "key", l.key, "model", l.model, "provider", l.provider, "kind", kind))
	}
	u = &use{input: tokens("input"), output: tokens("output"), cached: tokens("cached_input"), written: tokens("cache_write"), reasoning: tokens("reasoning"),
		cost:      m.set.GetOrCreateFloatCounter(name("tokenhub_cost_usd_total", "key", l.key, "model", l.model, "provider", l.provider)),
		estimated: m.set.GetOrCreateCounter(name("tokenhub_estimated_requests_total", "key", l.key, "model", l.model, "provider", l.provider))}
	m.used[l] = u
	return u
}

// Write writes all metrics in Prometheus' text format.
func (m *Metrics) Write(w io.Writer) {
	fmt.Fprintf(w, "%s 1\n", name("tokenhub_build_info", "version", m.o.Version))
	if m.o.Moment != nil {
		last := ""
		for _, g := range m.o.Moment() {
			if g.Name != last {
				kind := "gauge"
				if g.Counter {
					kind = "counter"
				}
				fmt.Fprintf(w, "# TYPE %s %s\n", g.Name, kind)
				last = g.Name
			}
			fmt.Fprintf(w, "%s %s\n", name(g.Name, g.Labels...), strconv.FormatFloat(g.Value, 'g', -1, 64))
		}
	}
	m.set.WritePrometheus(w)
	vm.WriteProcessMetrics(w)
}

// name writes a series' name with its labels, which are pairs.
func name(metric string, pairs ...string) string {
	if len(pairs) == 0 {
		return metric
	}
	var b strings.Builder
	b.WriteString(metric)
	for i := 0; i+1 < len(pairs); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(pairs[i])
		b.WriteString(`="`)
		_, _ = escaper.WriteString(&b, strings.ToValidUTF8(pairs[i+1], "\ufffd"))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// escaper writes label values as the text format wants them.
var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
