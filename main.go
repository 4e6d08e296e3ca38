// Command tokenhub is a gateway in front of LLM providers: it hands out API
// keys, checks them on each request to /v1, holds their limits, forwards the
// bytes untouched and counts what was used. One binary, one data folder.
//
//	tokenhub --demo              # try it: a fake model, a key, a curl to paste
//	tokenhub keys create --name me
//	tokenhub help
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	// The image has no table of time zones, and small systems have none either:
	// for 0.4 MB, `timezone` works everywhere. The system's own goes first.
	_ "time/tzdata"

	"tokenhub/cli"
)

// version is set by the linker: see the Makefile.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end, the second one ends at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program, with all that it gets from outside.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) (exitCode int) {
	p := &program{getenv: getenv, stdout: stdout, stderr: stderr}
	return cli.Run(ctx, cli.Options{
		Args: args, Stdin: stdin, Stdout: stdout, Stderr: stderr, Getenv: getenv, Version: version,
		Serve:   p.serve,
		Open:    p.openOffline,
		Restore: p.restore,
		Check:   p.check,

		ImportPrices: importPrices,
	})
}

// program is what the commands share.
type program struct {
	getenv         func(string) string
	stdout, stderr io.Writer
}
