//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tokenhub/auth"
)

// figure is one load, which gives one or more rows of the table.
type figure struct {
	name    string
	measure func(context.Context, *bench) error
}

var figures = []figure{
	{"small", smallRequests},
	{"keys", manyKeys},
	{"latency", latency},
	{"embeddings", embeddings},
	{"streams", chunks},
	{"endings", endings},
	{"memory", streamMemory},
	{"uploads", uploads},
	{"start", starts},
	{"parts", parts},
}

func figureNames() (names []string) {
	for _, f := range figures {
		names = append(names, f.name)
	}
	return names
}

// choose returns the figures of a list of names, all if it is empty.
func choose(only string) ([]figure, error) {
	if only == "" {
		return figures, nil
	}
	var chosen []figure
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(figures, func(f figure) bool { return f.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no figure %q, only %s", name, strings.Join(figureNames(), ", "))
		}
		chosen = append(chosen, figures[i])
	}
	return chosen, nil
}

// turns calls measure for each of the subjects, round by round.
func (b *bench) turns(ctx context.Context, subjects []string, measure func(name string) error) error {
	for range b.rounds {
		for _, name := range subjects {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := measure(name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// parted is in how many turns a round of small requests is made: the more often
// programs take turns, the less of a difference is the machine's. The turns of a
// round are one value, so that what comes once a second or two is in it.
const parted = 6

// pool calls measure for each of the subjects in so many short turns, round by
// round, and add with what each spent in a round.
func (b *bench) pool(ctx context.Context, subjects []string, turns int, measure func(name string, d time.Duration) (spent, error), add func(name string, s spent)) error {
	for range b.rounds {
		sum := map[string]spent{}
		for range turns {
			for _, name := range subjects {
				if err := ctx.Err(); err != nil {
					return err
				}
				s, err := measure(name, b.duration()/time.Duration(turns))
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				sum[name] = sum[name].plus(s)
			}
		}
		for _, name := range subjects {
			add(name, sum[name])
		}
	}
	return nil
}

func smallRequests(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.pump.address); err != nil {
		return err
	}
	return b.pool(ctx, append(b.subjects(), direct), parted, func(name string, d time.Duration) (spent, error) {
		p, err := b.shared(ctx, name)
		if err != nil {
			return spent{}, err
		}
		return b.pump.closedLoop(ctx, p, connections, d, b.small(0))
	}, func(name string, s spent) {
		b.results.add(smallRate, name, s.perSecond())
		if name != direct { // who shares its core with the load
			b.results.add(smallCPU, name, s.perRequest())
		}
	})
}

func manyKeys(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.pump.address); err != nil {
		return err
	}
	p, err := b.shared(ctx, tokenhub)
	if err != nil {
		return err
	}
	all := make([][]byte, len(b.keys))
	c := newClient(p.address)
	defer c.close()
	for i := range b.keys { // the first check of each is argon2id
		all[i] = b.small(i)
		if err := c.do(all[i]); err != nil {
			return err
		}
	}
	return b.pool(ctx, []string{oneKey, tokenhub}, 2*parted, func(name string, d time.Duration) (spent, error) {
		requests := all
		if name == oneKey {
			requests = all[:1]
		}
		return b.pump.closedLoop(ctx, p, connections, d, requests...)
	}, func(name string, s spent) { b.results.add(keysCPU, name, s.perRequest()) })
}

func latency(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.provider.address); err != nil {
		return err
	}
	const rate = 2000
	var base50, base99 time.Duration
	return b.turns(ctx, append([]string{direct}, b.subjects()...), func(name string) error {
		p, err := b.shared(ctx, name)
		if err != nil {
			return err
		}
		delays, err := openLoop(ctx, p, rate, b.duration(), b.small(0))
		p50, p99 := quantile(delays, 0.5), quantile(delays, 0.99)
		if name == direct {
			base50, base99 = p50, p99
			return err
		}
		b.results.add(added50, name, micros(p50-base50))
		b.results.add(added99, name, micros(p99-base99))
		return err
	})
}

func embeddings(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.pump.address); err != nil {
		return err
	}
	request := post("/v1/embeddings", b.keys[0], `{"model":"small","input":"What does a gateway for language models do?"}`)
	return b.turns(ctx, b.subjects(), func(name string) error {
		p, err := b.shared(ctx, name)
		if err != nil {
			return err
		}
		s, err := b.pump.closedLoop(ctx, p, connections, b.duration(), request)
		b.results.add(embeddingsCPU, name, s.perRequest())
		return err
	})
}

// stream is a request whose answer has that many events, with a pause before
// each.
func (b *bench) stream(chunks int, pause time.Duration) []byte {
	return post("/v1/chat/completions", b.keys[0], fmt.Sprintf(`{"model":"stream-%d-%d","stream":true,"stream_options":{"include_usage":true},`+
		`"messages":[{"role":"user","content":"What does a gateway for language models do?"}],"max_tokens":4096}`, chunks, pause.Milliseconds()))
}

func chunks(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.pump.address); err != nil {
		return err
	}
	const pause = 20 * time.Millisecond
	n := int((b.duration() + 10*time.Second) / pause) // longer than they are read
	var base50, base99 time.Duration
	return b.turns(ctx, append([]string{direct}, b.subjects()...), func(name string) error {
		p, err := b.shared(ctx, name)
		if err != nil {
			return err
		}
		together, _, err := b.pump.streams(ctx, p, 200, false, b.duration(), b.stream(n, pause))
		if err != nil {
			return err
		}
		alone, delays, err := b.pump.streams(ctx, p, 200, true, b.duration(), b.stream(n, pause))
		if err != nil {
			return err
		}
		p50, p99 := quantile(delays, 0.5), quantile(delays, 0.99)
		if name == direct {
			base50, base99 = p50, p99
			return nil
		}
		b.results.add(chunkCPU, name, together.perRequest())
		b.results.add(aloneCPU, name, alone.perRequest())
		b.results.add(chunk50, name, micros(p50-base50))
		b.results.add(chunk99, name, micros(p99-base99))
		return nil
	})
}

// endings is how long small requests take while 2,000 streams end within a
// second.
func endings(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.provider.address); err != nil {
		return err
	}
	const n, rate, pause = 2000, 500, time.Second
	var base time.Duration
	return b.turns(ctx, []string{direct, tokenhub}, func(name string) error {
		p, err := b.shared(ctx, name)
		if err != nil {
			return err
		}
		// They begin within one second and end within the third one after it.
		s := openStreams(ctx, p, n, pause, b.stream(3, pause))
		err = wait(ctx, 5*pause/2)
		var delays []time.Duration
		if err == nil {
			delays, err = openLoop(ctx, p, rate, 2*pause, b.small(0))
		}
		_, failure := s.close()
		if err = errors.Join(err, failure); err != nil {
			return err
		}
		p99 := quantile(delays, 0.99)
		if name == direct {
			base = p99
			return nil
		}
		b.results.add(endings99, name, float64(p99-base)/float64(time.Millisecond))
		return nil
	})
}

// fresh starts a subject for use, which sees it alone, and stops it.
func (b *bench) fresh(ctx context.Context, name string, use func(*process) error) error {
	if p := b.running[name]; p != nil { // one server per data folder
		delete(b.running, name)
		if err := p.stop(); err != nil {
			return err
		}
	}
	p, err := b.start(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(use(p), p.stop())
}

func streamMemory(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.provider.address); err != nil {
		return err
	}
	const n = 2000
	return b.turns(ctx, b.subjects(), func(name string) error {
		return b.fresh(ctx, name, func(p *process) error {
			before, err := p.memory()
			if err != nil {
				return err
			}
			s := openStreams(ctx, p, n, 2*time.Second, b.stream(60, time.Second))
			// Until each has had two chunks.
			for begun := time.Now(); err == nil && s.chunks.Load() < 2*n; {
				if err = wait(ctx, 100*time.Millisecond); time.Since(begun) > 20*time.Second {
					err = fmt.Errorf("only %d chunks came from %d streams within 20 s", s.chunks.Load(), n)
				}
			}
			after, e := p.memory()
			_, failure := s.close()
			if err = errors.Join(err, e, failure); err != nil {
				return err
			}
			b.results.add(streamKiB, name, (after.anonymous-before.anonymous)/n/1024)
			return nil
		})
	})
}

func uploads(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.provider.address); err != nil {
		return err
	}
	const size = 5 << 20
	image := strings.Repeat("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ", size/44)
	request := post("/v1/chat/completions", b.keys[0], `{"model":"small","max_tokens":256,"messages":[{"role":"user","content":[{"type":"text","text":"What is this?"},`+
		`{"type":"image_url","image_url":{"url":"data:image/png;base64,`+image+`"}}]}]}`)
	return b.turns(ctx, b.subjects(), func(name string) error {
		return b.fresh(ctx, name, func(p *process) error {
			s, err := closedLoop(ctx, p, 8, b.duration(), request)
			if err != nil {
				return err
			}
			m, err := p.memory()
			b.results.add(uploadCPU, name, s.perRequest()/1000)
			b.results.add(uploadPeak, name, m.peak/(1<<20))
			return err
		})
	})
}

func starts(ctx context.Context, b *bench) error {
	if err := b.forwardTo(b.provider.address); err != nil {
		return err
	}
	if info, err := os.Stat(b.binary); err == nil {
		b.results.add(binarySize, tokenhub, float64(info.Size())/1e6)
	}
	return b.turns(ctx, append(b.subjects(), hashAlone), func(name string) error {
		if name == hashAlone {
			took, err := b.hash(ctx)
			if err == nil {
				b.results.add(hashTime, tokenhub, float64(took)/float64(time.Millisecond))
			}
			return err
		}
		if p := b.running[name]; p != nil {
			delete(b.running, name)
			if err := p.stop(); err != nil {
				return err
			}
		}
		begun := time.Now()
		return b.fresh(ctx, name, func(p *process) error {
			b.results.add(startTime, name, float64(time.Since(begun))/float64(time.Millisecond))
			if err := wait(ctx, b.duration()); err != nil {
				return err
			}
			m, err := p.memory()
			b.results.add(idleMiB, name, m.resident/(1<<20))
			return err
		})
	})
}

// hashAlone takes a turn among the programs that are started: a process that
// computes the hash of a key and ends.
const hashAlone = "hash"

// hash tells how long that process needs for the hash.
func (b *bench) hash(ctx context.Context) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self, "hash")
	cmd.Stdout = &out
	if err := errors.Join(onCore(b.tested, cmd.Start), cmd.Wait()); err != nil {
		return 0, err
	}
	if err := wait(ctx, b.duration()); err != nil { // as after the others
		return 0, err
	}
	return time.ParseDuration(strings.TrimSpace(out.String()))
}

// runHash is that process.
func runHash(stdout io.Writer) error {
	begun := time.Now()
	if _, err := auth.Hash("a key that nobody has"); err != nil {
		return err
	}
	_, err := fmt.Fprintln(stdout, time.Since(begun))
	return err
}

// benchLine is a line of go test -bench -benchmem.
var benchLine = regexp.MustCompile(`(?m)^(Benchmark\S+)\s.*?([\d.]+) ns/op(?:.*?([\d.]+) ns/event)?(?:.*?\s(\d+) allocs/op)?`)

// parts runs the benchmarks that stand in the packages.
func parts(ctx context.Context, b *bench) error {
	for range b.rounds {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^Benchmark(Verify|Scan|Splice|Stream|ReserveSettle|JournalAppend|Request|Write)$",
			"-benchmem", "-benchtime", "0.3s", "-cpu", "1", "./auth", "./proxy", "./db/bolt", "./bench")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("go test -bench: %w: %s", err, out)
		}
		var both, journal float64
		for _, m := range benchLine.FindAllStringSubmatch(string(out), -1) {
			// A line has numbers where the expression says so.
			nanos, _ := strconv.ParseFloat(m[2], 64)
			perEvent, _ := strconv.ParseFloat(m[3], 64)
			allocs, _ := strconv.ParseFloat(m[4], 64)
			switch m[1] {
			case "BenchmarkVerify":
				b.results.add(keyCheck, tokenhub, nanos/1000)
			case "BenchmarkScan/1KB":
				b.results.add(fieldScan, tokenhub, nanos/1000)
			case "BenchmarkSplice":
				b.results.add(modelSplice, tokenhub, nanos/1000)
			case "BenchmarkStream/strip=false/337":
				b.results.add(meterEvent, tokenhub, perEvent/1000)
			case "BenchmarkReserveSettle":
				both = nanos / 1000
			case "BenchmarkJournalAppend":
				journal = nanos / 1000
			case "BenchmarkWrite":
				b.results.add(writeTime, tokenhub, nanos/1000)
			case "BenchmarkRequest":
				b.results.add(requestAllocs, tokenhub, allocs)
			}
		}
		b.results.add(journalAppend, tokenhub, journal)
		b.results.add(reserveSettle, tokenhub, both-journal) // a settlement is a record, too
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
