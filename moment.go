package main

import (
	"context"
	"time"

	"tokenhub/metrics"
)

// moment returns the numbers of this moment, for the metrics.
func (s *server) moment() []metrics.Gauge {
	store, proofs := s.store.Stats(), s.verifier.Stats()
	ready := 1.0
	if s.ready(context.Background()) != nil {
		ready = 0
	}
	list := []metrics.Gauge{
		{Name: "tokenhub_ready", Value: ready},
		{Name: "tokenhub_running_requests", Value: float64(s.gateway.Running())},
		{Name: "tokenhub_open_streams", Value: float64(s.gateway.Streams())},
		{Name: "tokenhub_holds", Value: float64(store.Holds)},
		{Name: "tokenhub_journal_unfolded_records", Value: float64(store.Unfolded)},
		{Name: "tokenhub_journal_lag_seconds", Value: store.Lag.Seconds()},
		{Name: "tokenhub_journal_unwritten_records", Value: float64(store.Unwritten)},
		{Name: "tokenhub_journal_lost_records_total", Value: float64(store.Lost), Counter: true},
		{Name: "tokenhub_journal_bytes", Value: float64(store.JournalBytes)},
		{Name: "tokenhub_database_bytes", Value: float64(store.DatabaseBytes)},
		{Name: "tokenhub_argon2_lanes", Value: float64(proofs.Lanes)},
		{Name: "tokenhub_argon2_running", Value: float64(proofs.Running)},
		{Name: "tokenhub_argon2_waiting", Value: float64(proofs.Waiting)},
		{Name: "tokenhub_argon2_computed_total", Value: float64(proofs.Computed), Counter: true},
		{Name: "tokenhub_key_proofs", Value: float64(proofs.Proofs)},
		{Name: "tokenhub_keys_refused_total", Value: float64(proofs.Refused), Counter: true},
		{Name: "tokenhub_keys_too_many_failures_total", Value: float64(proofs.TooMany), Counter: true},
		{Name: "tokenhub_keys_busy_total", Value: float64(proofs.Busy), Counter: true},
	}
	now := time.Now()
	var running, waiting, wait, resting []metrics.Gauge
	for _, p := range s.gateway.Providers(context.Background()) {
		add := func(to *[]metrics.Gauge, name string, value float64) {
			*to = append(*to, metrics.Gauge{Name: name, Labels: []string{"provider", p.Name}, Value: value})
		}
		add(&running, "tokenhub_provider_running_requests", float64(p.Running))
		add(&waiting, "tokenhub_provider_waiting_requests", float64(p.Waiting))
		longest := 0.0
		if !p.WaitingSince.IsZero() {
			longest = now.Sub(p.WaitingSince).Seconds()
		}
		add(&wait, "tokenhub_provider_longest_wait_seconds", longest)
		rests := 0.0
		if p.Status == "resting" {
			rests = 1
		}
		add(&resting, "tokenhub_provider_resting", rests)
	}
	list = append(list, running...)
	list = append(list, waiting...)
	list = append(list, wait...)
	return append(list, resting...)
}
