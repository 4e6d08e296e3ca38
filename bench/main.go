//go:build linux

// Command bench measures TokenHub against nginx and against a bare Fiber proxy:
// all in one run, in turns, so that a machine that is busy for a while is busy
// for each of them. It prints one table, the one in docs/performance.md.
//
//	go run ./bench                             # about ten minutes
//	go run ./bench -seconds 1 -rounds 1        # a look, two minutes
//	go run ./bench -only streams,small         # some of the figures
//	go run ./bench -o docs/performance.md      # replaces the table in there
//
// The process under test has one core for itself; the provider and the load
// have another one, and for small requests they are one loop (pump.go). CPU time and memory are the kernel's account of that process
// (and of its children), so they count neither the load nor the provider. All of
// it is on loopback, in a temporary folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the program. The parts that have to be processes of their own are this
// program again, under another first argument.
func run(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "provider":
			return runProvider(args[1:])
		case "bare":
			return runBare(args[1:])
		case "hash":
			return runHash(stdout)
		}
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Float64Var(&o.seconds, "seconds", 3, "how long each load runs")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each is measured, in turns")
	flags.StringVar(&o.only, "only", "", "comma-separated `FIGURES`: "+strings.Join(figureNames(), ", ")+" (default all)")
	flags.StringVar(&o.out, "o", "", "a Markdown `FILE` whose table is replaced (default: print it only)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.seconds <= 0 || o.rounds < 1 || flags.NArg() > 0 {
		return errors.New("give a time above 0 and at least one round; there are no further arguments")
	}
	// The processes under test end by the signal itself, and this one after them.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return measure(ctx, o, stdout, stderr)
}

// options are what the flags say.
type options struct {
	seconds   float64
	rounds    int
	only, out string
}

func (o options) duration() time.Duration { return time.Duration(o.seconds * float64(time.Second)) }

// measure runs all figures and writes the table.
func measure(ctx context.Context, o options, stdout, stderr io.Writer) error {
	debug.SetGCPercent(400) // the load's own collector should not be in the figures
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	b := &bench{options: o, results: results{}, say: func(format string, a ...any) { fmt.Fprintf(stderr, format+"\n", a...) }}
	if err := b.prepare(ctx); err != nil {
		return errors.Join(err, b.close())
	}
	begun, before := time.Now(), loadAverage()
	var errs []error
	for _, f := range chosen {
		b.say("%s ...", f.name)
		if err := f.measure(ctx, b); err != nil {
			b.say("%s: %v", f.name, err)
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	errs = append(errs, b.close())
	text := b.report(begun, before)
	fmt.Fprintln(stdout, text)
	if err := errors.Join(errs...); err != nil || o.out == "" {
		return err // a table with holes does not go into a document
	}
	return replaceTable(o.out, text)
}
