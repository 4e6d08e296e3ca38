package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// backupCommand writes a hot backup.
func (a *app) backupCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup, also while the server runs",
		Long: `Write one file with keys (hashes only), audit trail and usage, also while the
server runs. The configuration and the credentials of providers are not in it.
FILE - is the standard output.`,
		Example: `  tokenhub backup tokenhub-2027-01-31.db
  tokenhub backup - | ssh vault 'cat > tokenhub.db'`,
		Args: operands(1, "FILE"),
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		file := args[0]
		if file == "-" {
			if isTerminal(a.Stdout) {
				return usagef("a backup is not for a terminal: redirect the output, or name a file")
			}
		} else if err := mayWrite(file, force); err != nil {
			return err
		}
		return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
			body, err := api.open(cmd.Context(), http.MethodGet, "/api/backup", "*/*", nil)
			if err != nil {
				return err
			}
			defer body.Close()
			source := a.progress(body)
			if file == "-" {
				_, err := io.Copy(a.out, source)
				return err
			}
			n, err := writeWhole(file, source)
			if err != nil {
				return fmt.Errorf("write the backup: %w", err)
			}
			switch {
			case a.asJSON:
				return a.printJSON(map[string]any{"file": file, "bytes": n})
			case !a.quiet:
				fmt.Fprintf(a.out, "Wrote %s (%s).\n", oneLine(file), size(n))
			}
			return nil
		})
	}
	return cmd
}

// mayWrite says why file must not be written, before the work begins.
func mayWrite(file string, force bool) error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return usagef("%s is a folder: name a file", file)
	case !force:
		return fmt.Errorf("%s exists: choose another name, or replace it with --force", file)
	}
	return nil
}

// writeWhole writes all of source to file, or leaves file as it was. Only its
// owner can read it.
func writeWhole(file string, source io.Reader) (n int64, err error) {
	tmp, err := os.OpenFile(file+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("%s.tmp exists: another backup is being written, or one was cut off; remove it and try again", file)
	}
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	n, err = io.Copy(tmp, source)
	if err == nil {
		err = tmp.Sync()
	}
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(file))
	}
	return n, err
}

// syncFolder makes a new name in a folder last. Systems that can't do that
// (Windows) are not asked to.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// progress shows on a terminal how much of r was read.
func (a *app) progress(r io.Reader) io.Reader {
	if a.quiet || !isTerminal(a.Stderr) {
		return r
	}
	return &progress{r: r, to: a.Stderr, now: a.Now}
}

// progress counts what passes and writes it, a few times a second.
type progress struct {
	r     io.Reader
	to    io.Writer
	now   func() time.Time
	n     int64
	shown time.Time
}

// Read passes on what r reads.
func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	if now := p.now(); err == nil && now.Sub(p.shown) >= 200*time.Millisecond {
		p.shown = now
		fmt.Fprintf(p.to, "\r%s ", size(p.n))
	}
	if err != nil {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
	return n, err
}

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

// isTerminal reports whether f is a terminal.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// restoreCommand puts a backup in place.
func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "restore FILE",
		Short:   "Put a backup in the place of the data, with the server stopped",
		Example: "  tokenhub check tokenhub-2027-01-31.db && tokenhub restore tokenhub-2027-01-31.db",
		Args:    operands(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.stopped(cmd.Context(), "stop it before restoring")
			if err != nil {
				return err
			}
			if err := a.Restore(cmd.Context(), s.Config, args[0]); err != nil {
				return err
			}
			switch {
			case a.asJSON:
				return a.printJSON(map[string]string{"restored": args[0], "data_dir": s.DataDir})
			case !a.quiet:
				fmt.Fprintf(a.out, "Restored %s into %s.\n", oneLine(args[0]), oneLine(s.DataDir))
			}
			return nil
		},
	}
}

// stopped returns the settings if no server runs; advice says what to do else.
func (a *app) stopped(ctx context.Context, advice string) (*settings, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	runs, err := serverRuns(ctx, s.Config)
	if err != nil {
		return nil, err
	}
	if runs {
		return nil, fmt.Errorf("a server runs on %s: %s", s.DataDir, advice)
	}
	return s, nil
}

// checkCommand looks for damage.
func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check the data folder, or a backup, for damage",
		Example: `  tokenhub check
  tokenhub check tokenhub-2027-01-31.db`,
		Args: operands(0, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s *settings
			var err error
			file := ""
			if len(args) > 0 {
				file = args[0]
				s, err = a.settings()
			} else {
				s, err = a.stopped(cmd.Context(), "write a backup with tokenhub backup FILE and run tokenhub check FILE, or stop the server first")
			}
			if err != nil {
				return err
			}
			report, err := a.Check(cmd.Context(), s.Config, file)
			if err != nil {
				return err
			}
			switch {
			case a.asJSON:
				return a.printJSON(map[string]any{"ok": true, "report": report})
			case !a.quiet:
				a.block(report)
			}
			return nil
		},
	}
}
