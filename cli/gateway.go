package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// explainCommand asks what would become of a request.
func (a *app) explainCommand() *cobra.Command {
	var keyID, model, most string
	cmd := &cobra.Command{
		Use:   "explain --key ID --model MODEL",
		Short: "Say what would become of a request, without calling anyone",
		Long: `Say, without calling anyone, which provider would serve a request, at what price,
and what room the limits of the key leave; or why it would be refused.`,
		Example: `  tokenhub explain --key laptop --model gpt-4o
  tokenhub explain --key laptop --model house --max-tokens 4096 --json`,
		Args: operands(0),
	}
	cmd.Flags().StringVar(&keyID, "key", "", "`ID` of the key")
	cmd.Flags().StringVar(&model, "model", "", "`MODEL` that would be asked for")
	cmd.Flags().StringVar(&most, "max-tokens", "", "output bound that the request would state, `N` tokens")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if keyID == "" || model == "" {
			return usagef("--key and --model are needed: write tokenhub explain --key ID --model MODEL")
		}
		query := url.Values{"key": {keyID}, "model": {model}}
		if most != "" {
			if n, err := strconv.ParseInt(most, 10, 64); err != nil || n < 1 {
				return usagef("--max-tokens %s: write a whole number of at least 1", most)
			}
			query.Set("max_tokens", most)
		}
		return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
			var raw json.RawMessage
			if err := api.do(cmd.Context(), http.MethodGet, "/api/explain?"+query.Encode(), nil, &raw); err != nil {
				return err
			}
			if a.asJSON {
				return a.printJSON(raw)
			}
			a.tree(raw, "")
			return nil
		})
	}
	return cmd
}

// providersCommand is about those who serve.
func (a *app) providersCommand() *cobra.Command {
	return group("providers", "Show the providers, their health and models; test them",
		"  tokenhub providers list\n  tokenhub providers test openai",
		a.providersList(), a.providersTest())
}

// provider is what the commands read of a provider of the API.
type provider struct {
	Name        string       `json:"name"`
	Status      string       `json:"status"`
	Models      []string     `json:"models"`
	Running     int          `json:"running"`
	Waiting     int          `json:"waiting"`
	FirstByteMS *json.Number `json:"first_byte_ms"`
	ErrorRate   float64      `json:"error_rate"`
	LastError   *string      `json:"last_error"`
	LastErrorAt *time.Time   `json:"last_error_at"`
	SpentUSD    json.Number  `json:"spent_usd"`
}

func (a *app) providersList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show each provider with its health and models",
		Example: "  tokenhub providers list\n  tokenhub providers list --json",
		Args:    operands(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAPI(cmd.Context(), mayCreate, func(api *api) error {
				raw, err := api.whole(cmd.Context(), "/api/providers")
				if err != nil || a.asJSON {
					return a.jsonOr(raw, err)
				}
				providers, err := decodeAll[provider](raw)
				if err != nil {
					return err
				}
				a.showProviders(providers, api.zone)
				return nil
			})
		},
	}
}

// showProviders prints a table of providers, and below it what went wrong last.
func (a *app) showProviders(providers []provider, zone *time.Location) {
	if a.quiet {
		for _, p := range providers {
			fmt.Fprintln(a.out, oneLine(p.Name))
		}
		return
	}
	if len(providers) == 0 {
		fmt.Fprintln(a.out, "No providers yet. Name one in the configuration, or set OPENAI_API_KEY.")
		return
	}
	var rows [][]string
	for _, p := range providers {
		firstByte := "-"
		if p.FirstByteMS != nil {
			firstByte = p.FirstByteMS.String() + " ms"
		}
		rows = append(rows, []string{p.Name, p.Status, strconv.Itoa(p.Running), strconv.Itoa(p.Waiting), firstByte,
			fmt.Sprintf("%.0f %%", 100*p.ErrorRate), dash(p.SpentUSD.String()), some(p.Models)})
	}
	a.table([]string{"NAME", "STATUS", ">RUNNING", ">WAITING", ">FIRST BYTE", ">ERRORS", ">MONTH: USD", "MODELS"}, rows)
	for _, p := range providers {
		if p.LastError != nil {
			fmt.Fprintf(a.out, "\n%s failed last at %s: %s\n", oneLine(p.Name), moment(p.LastErrorAt, zone, "-"), oneLine(*p.LastError))
		}
	}
}

// some names the first of many models.
func some(models []string) string {
	const most = 5
	if len(models) <= most {
		return joined(models, "-")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(models[:most], ", "), len(models)-most)
}

// test is what the commands read of the test of a provider.
type test struct {
	Provider  string       `json:"provider"`
	OK        bool         `json:"ok"`
	Model     string       `json:"model"`
	LatencyMS json.Number  `json:"latency_ms"`
	CostUSD   *json.Number `json:"cost_usd"`
	Error     *string      `json:"error"`
}

func (a *app) providersTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test [NAME]",
		Short: "Make one real, cheap call to a provider, or to each",
		Example: `  tokenhub providers test
  tokenhub providers test openai`,
		Args: operands(0, "NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAPI(cmd.Context(), mayCreate, func(api *api) error {
				ctx := cmd.Context()
				if len(names) == 0 {
					raw, err := api.whole(ctx, "/api/providers")
					if err != nil {
						return err
					}
					all, err := decodeAll[provider](raw)
					if err != nil {
						return err
					}
					for _, p := range all {
						names = append(names, p.Name)
					}
				}
				if len(names) == 0 {
					return errors.New("there is no provider to test: name one in the configuration")
				}
				return a.testProviders(ctx, api, names)
			})
		},
	}
}

// testProviders tests one after the other and fails if any of them does.
func (a *app) testProviders(ctx context.Context, api *api, names []string) error {
	var results []json.RawMessage
	failed := 0
	for _, name := range names {
		var raw json.RawMessage
		if err := api.do(ctx, http.MethodPost, pathOf("providers", name, "test"), nil, &raw); err != nil {
			return err
		}
		var result test
		if err := json.Unmarshal(raw, &result); err != nil {
			return fmt.Errorf("read the test of %s: %w", name, err)
		}
		results = append(results, raw)
		if !result.OK {
			failed++
		}
		if !a.asJSON && !a.quiet {
			fmt.Fprintln(a.out, result.line())
			if err := a.out.Flush(); err != nil { // the next one may take its time
				return fmt.Errorf("write the answer: %w", err)
			}
		}
	}
	if a.asJSON {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d failed: look at base_url and api_key of the provider", failed, len(names))
	}
	return nil
}

// line tells what came of the test.
func (t test) line() string {
	name := oneLine(t.Provider)
	if !t.OK {
		why := "no reason was given"
		if t.Error != nil {
			why = *t.Error
		}
		return fmt.Sprintf("%s fails: %s", name, oneLine(why))
	}
	cost := "cost unknown"
	if t.CostUSD != nil {
		cost = t.CostUSD.String() + " USD"
	}
	return fmt.Sprintf("%s works: %s answered in %s ms, %s", name, oneLine(t.Model), t.LatencyMS, cost)
}

// reloadCommand has the server read its configuration again.
func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "reload",
		Short:   "Have the running server read its configuration again",
		Long:    "Have the running server read its configuration again. It keeps the old one when the new one is wrong.",
		Example: "  tokenhub config check && tokenhub reload",
		Args:    operands(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			server, err := online(cmd.Context(), s.Config)
			if errors.Is(err, errNoServer) {
				return fmt.Errorf("no server runs on %s: start it with tokenhub serve, or name its folder with --data", s.DataDir)
			}
			if err != nil {
				return err
			}
			var raw json.RawMessage
			err = server.do(cmd.Context(), http.MethodPost, "/api/reload", nil, &raw)
			if err := errors.Join(err, server.close()); err != nil {
				return err
			}
			switch {
			case a.asJSON:
				return a.printJSON(raw)
			case !a.quiet:
				fmt.Fprintln(a.out, "The server reads its configuration anew.")
				a.tree(raw, "")
			}
			return nil
		},
	}
}
