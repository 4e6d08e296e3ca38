//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// oneKey is what 1,000 keys in turn are compared with.
const oneKey = "1 key"

// row is a line of the table: a figure, and what was set as its goal.
type row struct {
	title, unit string
	// base is the subject that must and aim are multiples of; empty where they are
	// in the row's own unit.
	base      string
	must, aim float64
	// more says that more is better.
	more bool
	// clock says that it is measured by the clock, which runs on while others use
	// the core.
	clock bool
}

// The rows, in the order of the table.
var (
	smallCPU      = &row{title: "CPU per small JSON request, 64 connections", unit: "µs", base: nginx, must: 2.5, aim: 1.5}
	keysCPU       = &row{title: "the same with 1,000 keys in turn, against 1 key", unit: "µs", base: oneKey, must: 1.05, aim: 1.02}
	smallRate     = &row{title: "requests per second on one core", base: nginx, must: 0.45, aim: 0.7, more: true, clock: true}
	added50       = &row{title: "added p50 at 2,000 requests/s, open loop", unit: "µs", base: nginx, must: 1.5, aim: 1, clock: true}
	added99       = &row{title: "added p99 at 2,000 requests/s, open loop", unit: "µs", clock: true}
	embeddingsCPU = &row{title: "CPU per answer with an embedding of 19 KB", unit: "µs"}
	chunkCPU      = &row{title: "CPU per chunk, 200 streams at 50 chunks/s", unit: "µs", base: nginx, must: 1.6, aim: 1.2}
	aloneCPU      = &row{title: "the same, when most chunks come alone", unit: "µs", base: nginx}
	chunk50       = &row{title: "added delay per chunk, p50", unit: "µs", base: bareFast, must: 1.25, aim: 1, clock: true}
	chunk99       = &row{title: "added delay per chunk, p99", unit: "µs", base: bareFast, must: 1.25, aim: 1, clock: true}
	endings99     = &row{title: "added p99 of requests while 2,000 streams end in a second", unit: "ms", must: 10, clock: true}
	streamKiB     = &row{title: "memory per open stream, 2,000 of them", unit: "KiB", must: 45, aim: 24}
	uploadCPU     = &row{title: "CPU per request of 5 MB, 8 at once", unit: "ms", base: nginx, must: 2, aim: 1}
	uploadPeak    = &row{title: "peak memory meanwhile", unit: "MiB", must: 120, aim: 60}
	startTime     = &row{title: "start to the first answer (TokenHub: argon2id included)", unit: "ms", must: 80, aim: 45, clock: true}
	hashTime      = &row{title: "of that, the hash: argon2id in a program that does nothing else", unit: "ms", clock: true}
	idleMiB       = &row{title: "memory when idle, after that answer", unit: "MiB", must: 30, aim: 16}
	binarySize    = &row{title: "binary", unit: "MB", must: 20, aim: 14}
	keyCheck      = &row{title: "key check after the first", unit: "µs", must: 1, aim: 0.3, clock: true}
	fieldScan     = &row{title: "field scan of a request of 1 KB", unit: "µs", clock: true}
	modelSplice   = &row{title: "splice of another model into it", unit: "µs", clock: true}
	meterEvent    = &row{title: "meter per event of 337 bytes", unit: "µs", clock: true}
	reserveSettle = &row{title: "reserve + settle, the record aside", unit: "µs", must: 1, aim: 0.5, clock: true}
	journalAppend = &row{title: "journal append", unit: "µs", must: 2, aim: 0.5, clock: true}
	writeTime     = &row{title: "of that, the system: one write of as many bytes, by Go", unit: "µs", clock: true}
	requestAllocs = &row{title: "allocations per small JSON request", must: 60, aim: 20}

	rows = []*row{smallCPU, keysCPU, smallRate, added50, added99, embeddingsCPU, chunkCPU, aloneCPU, chunk50, chunk99, endings99, streamKiB, uploadCPU, uploadPeak,
		startTime, hashTime, idleMiB, binarySize, keyCheck, fieldScan, modelSplice, meterEvent, reserveSettle, journalAppend, writeTime, requestAllocs}
)

// results are what was measured: a row, a subject, a value per round.
type results map[*row]map[string][]float64

func (r results) add(to *row, subject string, value float64) {
	if r[to] == nil {
		r[to] = map[string][]float64{}
	}
	r[to][subject] = append(r[to][subject], value)
}

// ratios are TokenHub's values in multiples of another subject's in the same
// round, which saw the same machine.
func (r results) ratios(of *row, base string) (list []float64) {
	mine, theirs := r[of][tokenhub], r[of][base]
	for i := range min(len(mine), len(theirs)) {
		if theirs[i] > 0 {
			list = append(list, mine[i]/theirs[i])
		}
	}
	return list
}

// spread is a median with the smallest and the largest value.
type spread struct{ median, low, high float64 }

func spreadOf(values []float64) spread {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return spread{(s[(n-1)/2] + s[n/2]) / 2, s[0], s[n-1]}
}

func (s spread) String() string {
	if s.low == s.high {
		return number(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median), number(s.low), number(s.high))
}

// number has three digits, or all before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// goal is a must or an aim in words, with whether it is met.
func (r *row) goal(goal, got float64) string {
	if goal == 0 {
		return "–"
	}
	sign, met := "≤", got <= goal
	if r.more {
		sign, met = "≥", got >= goal
	}
	text := fmt.Sprintf("%s %v", sign, goal)
	if r.base != "" {
		text += " ×"
		if r.base != nginx {
			text += " " + r.base
		}
	} else if r.unit != "" {
		text += " " + r.unit
	}
	if met {
		return text + " ✓"
	}
	return text + " ✗"
}

// table is the results in Markdown, those by the clock only on a quiet machine.
func (r results) table(quiet bool) string {
	var t strings.Builder
	columns := []string{tokenhub, nginx, bareFast, bareNet}
	fmt.Fprintf(&t, "| | %s | × nginx | must | aim |\n|---|%s---|---|---|\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		mine := r[row][tokenhub]
		if len(mine) == 0 || row.clock && !quiet {
			continue
		}
		title := row.title
		if row.unit != "" {
			title += ", " + row.unit
		}
		fmt.Fprintf(&t, "| %s |", title)
		for _, name := range columns {
			if values := r[row][name]; len(values) > 0 {
				fmt.Fprintf(&t, " %s |", spreadOf(values))
			} else {
				t.WriteString(" |")
			}
		}
		ratio := "–"
		if list := r.ratios(row, nginx); len(list) > 0 {
			ratio = spreadOf(list).String()
		}
		got := spreadOf(mine).median
		must, aim := row.must, row.aim
		if row.base != "" {
			list := r.ratios(row, row.base)
			if len(list) == 0 {
				must, aim = 0, 0 // nothing to compare with
			} else {
				got = spreadOf(list).median
				if row.base == oneKey {
					ratio = spreadOf(list).String() + " × 1 key"
				}
			}
		}
		fmt.Fprintf(&t, " %s | %s | %s |\n", ratio, row.goal(must, got), row.goal(aim, got))
	}
	return t.String()
}

// report is the table with what it was measured on.
func (b *bench) report(begun time.Time, before float64) string {
	var t strings.Builder
	fmt.Fprintf(&t, "Measured on %s, in %d rounds of %v each: the median (smallest–largest). %s.\n\n",
		begun.UTC().Format("2 January 2006"), b.rounds, b.duration(), machine(context.Background(), b.nginxPath))
	load := max(before, loadAverage())
	quiet := load < noisy
	if !quiet {
		b.note(fmt.Sprintf("**The machine was busy** (load average %.1f), so rates and waiting times were not taken down, and CPU time is higher than on a quiet one: others used the caches. "+
			"The ratios suffer less.", load))
	}
	if list := b.results[smallRate][direct]; len(list) > 0 && quiet {
		b.note(fmt.Sprintf("Without any proxy the load and the provider, which share a core, do %s requests per second: a proxy that comes near is faster than its figure says.", spreadOf(list)))
	}
	t.WriteString(b.results.table(quiet))
	for _, note := range b.notes {
		t.WriteString("\n" + note + "\n")
	}
	return t.String()
}

// noisy is the load average from which others must have been working: the run
// itself keeps two processes busy.
const noisy = 3

// The table stands between these lines of a document.
const (
	tableBegins = "<!-- what follows is written by make bench -->\n"
	tableEnds   = "<!-- what was before is written by make bench -->\n"
)

// replaceTable puts text in the place of the table in a document.
func replaceTable(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(old, []byte(tableBegins))
	_, after, ends := bytes.Cut(rest, []byte(tableEnds))
	if !begins || !ends {
		return fmt.Errorf("%s has no lines %q and %q", file, strings.TrimSpace(tableBegins), strings.TrimSpace(tableEnds))
	}
	text = string(before) + tableBegins + "\n" + strings.TrimRight(text, "\n") + "\n\n" + tableEnds + string(after)
	return os.WriteFile(file, []byte(text), 0o644)
}
