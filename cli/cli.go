// Package cli is the command line of TokenHub: it reads the arguments, runs the
// server, and works on keys, tokens and reports through the admin API, over the
// Unix socket of the running server or, when none runs, through the same
// handlers in process. It has no way of its own to the data.
//
//	os.Exit(cli.Run(ctx, cli.Options{
//		Args:  os.Args[1:],
//		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
//		Serve: serve, Open: open, Version: version,
//	}))
//
// What a command answers goes to Stdout, what people should know besides to
// Stderr. An error is one line on Stderr that says what to do.
package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tokenhub/config"
)

// The exit codes of [Run].
const (
	// ExitDone: the command did what it was asked to do.
	ExitDone = 0
	// ExitFailed: it could not.
	ExitFailed = 1
	// ExitUsage: the arguments or the configuration are wrong.
	ExitUsage = 2
)

// Options are what the program gives to its command line. The functions do what
// only main can: it alone knows the engine and the handlers.
type Options struct {
	// Args are the arguments without the name of the program.
	Args []string
	// Stdin is read by admin password alone. A terminal is asked without echo.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Getenv reads the environment, for the configuration; nil = os.Getenv.
	Getenv func(name string) string
	// Dir is the working directory; empty = that of the process.
	Dir string

	// Serve runs the server until ctx ends.
	Serve func(ctx context.Context, o ServeOptions) error
	// Open opens the store for one command while no server runs. Its error says
	// what to do, also when another process holds the store.
	Open func(ctx context.Context, cfg *config.Config) (Offline, error)
	// Restore puts the backup file in the place of the data folder's database. It
	// is called only when no server answers on the folder.
	Restore func(ctx context.Context, cfg *config.Config, file string) error
	// Check looks through a backup, or through the data folder when file is empty,
	// and reports in a few lines what it holds. It fails when anything is damaged.
	Check func(ctx context.Context, cfg *config.Config, file string) (report string, err error)
	// ImportPrices turns LiteLLM's price list into a price file and reports in a
	// line what it took.
	ImportPrices func(ctx context.Context, cfg *config.Config, file string) (report string, err error)

	// Version is the version of the program, as "1.2.3".
	Version string
	// Now tells the time; nil = time.Now.
	Now func() time.Time
	// Password asks for a secret on the terminal, without echo; nil = on Stdin
	// when that is a terminal, else one line of Stdin is read without asking.
	Password func(ctx context.Context, prompt string) (string, error)
}

// ServeOptions are the arguments of the serve command.
type ServeOptions struct {
	// Config was loaded from Source, flags included. A reload reads Source again.
	Config *config.Config
	Source config.Source
	// Demo adds the fake provider and a fresh key for it.
	Demo bool
}

// Offline is the admin API in process, on the opened store.
type Offline interface {
	// Client returns a client whose requests are answered by the handlers,
	// whatever host they name.
	Client() *http.Client
	// Close ends the handlers and closes the store.
	Close() error
}

// app is one run of the program.
type app struct {
	Options
	out *bufio.Writer // Stdout; its first error is kept and reported at the end

	configFile, dataDir string
	asJSON, quiet       bool
}

// Run runs the command that o.Args name and returns the exit code.
func Run(ctx context.Context, o Options) int {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	a := &app{Options: o, out: bufio.NewWriter(o.Stdout)}
	root := a.root()
	args, err := arrange(root, o.Args)
	if err == nil {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	if flushed := a.out.Flush(); err == nil && flushed != nil {
		err = fmt.Errorf("write the answer: %w", flushed)
	}
	return a.finish(ctx, err)
}

// finish reports err and returns its exit code.
func (a *app) finish(ctx context.Context, err error) int {
	var wrong *config.Problems
	var usage *usageError
	var refused *apiError
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, syscall.EPIPE): // the reader has seen enough, as head does
		return ExitFailed
	case errors.As(err, &wrong):
		for _, problem := range wrong.All {
			a.complain(problem.String())
		}
		return ExitUsage
	case errors.As(err, &refused) && refused.code == "invalid_configuration": // the server's own list of problems
		for line := range strings.Lines(refused.message) {
			a.complain(line)
		}
		return ExitUsage
	case errors.As(err, &usage), errors.As(err, &refused) && refused.status == http.StatusBadRequest:
		a.complain(err.Error())
		return ExitUsage
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		a.complain("interrupted")
		return ExitFailed
	}
	a.complain(err.Error())
	return ExitFailed
}

// complain writes one line to Stderr.
func (a *app) complain(text string) {
	fmt.Fprintf(a.Stderr, "tokenhub: %s\n", oneLine(text))
}

// oneLine makes one line of text that is safe on a terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
}

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tokenhub",
		Short: "An API key gateway for language models",
		Long: `TokenHub stands between your programs and the providers of language models: it
hands out API keys, holds them to their limits, and counts what they use.

Without a command it serves. Flags may stand before the command, between its
words or after its arguments. ID is a key ID, its prefix, or a name that is unique.

Exit codes: 0 done, 1 failed, 2 wrong usage or wrong configuration.`,
		Example: `  tokenhub --demo
  tokenhub keys create --name laptop --monthly-usd 20
  tokenhub usage --by key,model --since 7d`,
		Version:           a.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetOut(a.out)
	root.SetErr(a.Stderr)
	root.SetVersionTemplate("tokenhub {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v: see %s --help", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVar(&a.configFile, "config", "", "configuration `FILE` (default $TOKENHUB_CONFIG, ./config.toml, /etc/tokenhub/config.toml, none)")
	flags.StringVar(&a.dataDir, "data", "", "data `FOLDER` (default that of the configuration)")
	flags.BoolVar(&a.asJSON, "json", false, "print JSON")
	flags.BoolVar(&a.quiet, "quiet", false, "print the secret, or the ID, alone")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.asJSON && a.quiet {
			return usagef("--json and --quiet exclude each other: choose one")
		}
		return nil
	}
	root.AddCommand(
		a.serveCommand(),
		a.keysCommand(),
		a.usageCommand(),
		a.explainCommand(),
		a.providersCommand(),
		a.backupCommand(),
		a.restoreCommand(),
		a.checkCommand(),
		a.adminCommand(),
		a.configCommand(),
		a.reloadCommand(),
		a.pricesCommand(),
		a.healthcheckCommand(),
		a.versionCommand(),
		a.completionCommand(),
	)
	root.SetHelpCommand(helpCommand(root))
	root.InitDefaultHelpCmd()
	return root
}

// group makes a command that only holds others.
func group(use, short, example string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example}
	cmd.AddCommand(subs...)
	return cmd
}

// helpCommand is "help COMMAND", the same as "COMMAND --help".
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Help about a command",
		Example: "  tokenhub help keys create",
		RunE: func(_ *cobra.Command, words []string) error {
			cmd := root
			for _, word := range words {
				next := subCommand(cmd, word)
				if next == nil {
					return unknownCommand(cmd, word)
				}
				cmd = next
			}
			cmd.InitDefaultHelpFlag()
			cmd.InitDefaultVersionFlag()
			return cmd.Help()
		},
	}
}
