package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

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
		query := url.Values{"model": {model}}
		if most != "" {
			if n, err := strconv.ParseInt(most, 10, 64); err != nil || n < 1 {
				return usagef("--max-tokens %s: write a whole number of at least 1", most)
			}
			query.Set("max_tokens", most)
		}
		return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
			if err := setKey(cmd.Context(), api, query, keyID); err != nil {
				return err
			}
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

func (a *app) providersList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show each provider with its health and models",
		Example: "  tokenhub providers list",
		Args:    operands(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAPI(cmd.Context(), mayCreate, func(api *api) error {
				var page struct {
					Data []json.RawMessage `json:"data"`
				}
				if err := api.do(cmd.Context(), http.MethodGet, "/api/providers", nil, &page); err != nil {
					return err
				}
				if a.asJSON {
					return a.printJSON(append([]json.RawMessage{}, page.Data...))
				}
				if len(page.Data) == 0 {
					fmt.Fprintln(a.out, "No providers yet. Name one in the configuration: [[providers]], or set OPENAI_API_KEY.")
				}
				for i, raw := range page.Data {
					if a.quiet {
						name, err := providerName(raw)
						if err != nil {
							return err
						}
						fmt.Fprintln(a.out, oneLine(name))
						continue
					}
					if i > 0 {
						fmt.Fprintln(a.out)
					}
					a.tree(raw, "")
				}
				return nil
			})
		},
	}
}

func providerName(raw json.RawMessage) (string, error) {
	var provider struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(raw, &provider); err != nil || provider.Name == "" {
		return "", errors.New("read the answer of GET /api/providers: a provider has no name")
	}
	return provider.Name, nil
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
					var page struct {
						Data []json.RawMessage `json:"data"`
					}
					if err := api.do(ctx, http.MethodGet, "/api/providers", nil, &page); err != nil {
						return err
					}
					for _, raw := range page.Data {
						name, err := providerName(raw)
						if err != nil {
							return err
						}
						names = append(names, name)
					}
					if len(names) == 0 {
						return errors.New("there is no provider to test: name one in the configuration")
					}
				}
				failed := 0
				results := make([]json.RawMessage, len(names))
				for i, name := range names {
					if err := api.do(ctx, http.MethodPost, pathOf("providers", name, "test"), nil, &results[i]); err != nil {
						return err
					}
					ok, err := a.showTest(name, results[i])
					if err != nil {
						return err
					}
					if !ok {
						failed++
					}
				}
				if a.asJSON {
					if err := a.printJSON(results); err != nil {
						return err
					}
				}
				if failed > 0 {
					return fmt.Errorf("%d of %d providers failed: look at their base_url, api_key and what they answered", failed, len(names))
				}
				return nil
			})
		},
	}
}

// showTest prints what came of the test of a provider and tells whether it is good.
func (a *app) showTest(name string, raw json.RawMessage) (bool, error) {
	var result struct {
		OK bool `json:"ok"`
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return false, fmt.Errorf("read the test of %s: %w", name, err)
	}
	if a.asJSON || a.quiet {
		return result.OK, nil
	}
	verdict := "works"
	if !result.OK {
		verdict = "fails"
	}
	fmt.Fprintf(a.out, "%s %s\n", oneLine(name), verdict)
	a.tree(raw, "  ")
	return result.OK, a.out.Flush()
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
			defer server.close()
			var raw json.RawMessage
			if err := server.do(cmd.Context(), http.MethodPost, "/api/reload", nil, &raw); err != nil {
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
