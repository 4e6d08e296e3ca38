package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tokenhub/config"
)

// serveCommand runs the server.
func (a *app) serveCommand() *cobra.Command {
	var listen string
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway, the admin API and the admin pages (the default)",
		Example: `  tokenhub serve
  tokenhub serve --listen 0.0.0.0:8080 --config /etc/tokenhub/config.toml
  tokenhub --demo`,
		Args: operands(0),
	}
	cmd.Flags().StringVar(&listen, "listen", "", "`ADDRESS` to serve on, as 127.0.0.1:8080")
	cmd.Flags().BoolVar(&demo, "demo", false, "add a fake provider and print a call that works")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		source := a.source(listen)
		cfg, err := config.Load(source)
		if err != nil {
			return err
		}
		return a.Serve(cmd.Context(), ServeOptions{Config: cfg, Source: source, Demo: demo})
	}
	return cmd
}

// configCommand looks at the configuration.
func (a *app) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:     "check",
		Short:   "Say all that is wrong with the configuration",
		Example: "  tokenhub config check --config new.toml",
		Args:    operands(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := config.Load(a.source(""))
			if err != nil {
				return err
			}
			switch {
			case a.asJSON:
				return a.printJSON(map[string]any{"ok": true, "file": cfg.File})
			case a.quiet:
			case cfg.File == "":
				fmt.Fprintln(a.out, "There is no configuration file: the defaults and the environment are good.")
			default:
				fmt.Fprintf(a.out, "%s is good.\n", oneLine(cfg.File))
			}
			return nil
		},
	}
	show := &cobra.Command{
		Use:     "show",
		Short:   "Print the effective configuration, secrets masked",
		Example: "  tokenhub config show",
		Args:    operands(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := config.Load(a.source(""))
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.printJSON(map[string]string{"file": cfg.File, "toml": cfg.Show()})
			}
			_, err = a.out.WriteString(cfg.Show())
			return err
		},
	}
	return group("config", "Check or show the configuration", "  tokenhub config check\n  tokenhub config show", check, show)
}

// pricesCommand makes price files.
func (a *app) pricesCommand() *cobra.Command {
	return group("prices", "Import prices", "  tokenhub prices import model_prices_and_context_window.json", &cobra.Command{
		Use:     "import FILE",
		Short:   "Read LiteLLM's model_prices_and_context_window.json into a price file",
		Example: "  tokenhub prices import model_prices_and_context_window.json",
		Args:    operands(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			report, err := a.ImportPrices(cmd.Context(), s.Config, args[0])
			if err != nil {
				return err
			}
			switch {
			case a.asJSON:
				return a.printJSON(map[string]string{"report": report})
			case !a.quiet:
				a.block(report)
			}
			return nil
		},
	})
}

// healthTimeout bounds the whole of a health check.
const healthTimeout = 5 * time.Second

// healthcheckCommand asks the server whether it is alive.
func (a *app) healthcheckCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:     "healthcheck",
		Short:   "Ask the server on this machine whether it is alive, as Docker's HEALTHCHECK does",
		Example: "  HEALTHCHECK CMD [\"tokenhub\", \"healthcheck\"]",
		Args:    operands(0),
	}
	cmd.Flags().StringVar(&listen, "listen", "", "`ADDRESS` the server was started with, if not that of the configuration")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := a.settings()
		if err != nil {
			return err
		}
		if listen != "" {
			s.Listen = listen
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
		defer cancel()
		if err := alive(ctx, s.Config); err != nil {
			return err
		}
		switch {
		case a.asJSON:
			return a.printJSON(map[string]bool{"ok": true})
		case !a.quiet:
			fmt.Fprintln(a.out, "The server is alive.")
		}
		return nil
	}
	return cmd
}

// alive asks the server at its own address. Where it listens on all addresses,
// both loopback ones are tried.
func alive(ctx context.Context, cfg *config.Config) error {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return usagef("%s is not an address: write it like 127.0.0.1:8080", cfg.Listen)
	}
	hosts := []string{host}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		hosts = []string{"127.0.0.1", "::1"}
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// The certificate is for the names that others use, not for this address,
		// and nothing is sent that anybody could want.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var first error
	for _, host := range hosts {
		err := ask(ctx, client, scheme+"://"+net.JoinHostPort(host, port)+"/healthz")
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err)
	}
	return first
}

// ask returns nil when url is answered with 200.
func ask(ctx context.Context, client *http.Client, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return fmt.Errorf("%s does not answer: %w", address, wrapped.Err)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, resp.Status)
	}
	return nil
}

// versionCommand tells which program this is.
func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  tokenhub version",
		Args:    operands(0),
		RunE: func(*cobra.Command, []string) error {
			switch platform := runtime.GOOS + "/" + runtime.GOARCH; {
			case a.asJSON:
				return a.printJSON(map[string]string{"version": a.Version, "go": runtime.Version(), "platform": platform})
			case a.quiet:
				fmt.Fprintln(a.out, a.Version)
			default:
				fmt.Fprintf(a.out, "tokenhub %s (%s, %s)\n", a.Version, runtime.Version(), platform)
			}
			return nil
		},
	}
}

// completionCommand writes what a shell needs to complete commands and flags.
func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script for bash, zsh, fish or powershell",
		Example: `  source <(tokenhub completion bash)
  tokenhub completion zsh > "${fpath[1]}/_tokenhub"
  tokenhub completion fish > ~/.config/fish/completions/tokenhub.fish
  tokenhub completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		Args:      operands(1, "SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.out)
			}
			return usagef("completion %s: choose among %s", args[0], strings.Join(shells, ", "))
		},
	}
}
