package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"tokenhub/config"
)

// key is what the commands read of a key object of the API.
type key struct {
	ID         string                  `json:"id"`
	Name       string                  `json:"name"`
	Prefix     string                  `json:"prefix"`
	Status     string                  `json:"status"`
	CreatedAt  *time.Time              `json:"created_at"`
	ExpiresAt  *time.Time              `json:"expires_at"`
	LastUsedAt *time.Time              `json:"last_used_at"`
	Models     []string                `json:"models"`
	Providers  []string                `json:"providers"`
	Endpoints  string                  `json:"endpoints"`
	AllowedIPs []string                `json:"allowed_ips"`
	Tags       []string                `json:"tags"`
	Limits     map[string]*json.Number `json:"limits"`
	Usage      usage                   `json:"usage"`
	// Key is the secret, in the answers of create and rotate alone.
	Key string `json:"key"`
}

// usage is where a key stands in its windows.
type usage struct {
	Minute  window      `json:"minute"`
	Day     window      `json:"day"`
	Month   window      `json:"month"`
	Total   window      `json:"total"`
	Running json.Number `json:"running"`
}

// window is what a key used in one window.
type window struct {
	Requests json.Number `json:"requests"`
	Tokens   json.Number `json:"tokens"`
	USD      json.Number `json:"usd"`
	ResetsAt *time.Time  `json:"resets_at"`
}

// keysCommand is the life of a key.
func (a *app) keysCommand() *cobra.Command {
	return group("keys", "Create, change and revoke API keys",
		`  tokenhub keys create --name laptop --monthly-usd 20
  tokenhub keys list
  tokenhub keys revoke laptop`,
		a.keysCreate(), a.keysList(),
		a.keyAction("show ID", "Show a key, its limits and its use", "  tokenhub keys show laptop\n  tokenhub keys show th-3kTMd9QwZa --json", http.MethodGet, nil, a.showKey),
		a.keysUpdate(), a.keysRotate(),
		a.keyAction("disable ID", "Refuse a key until it is enabled again; running answers finish", "  tokenhub keys disable laptop", http.MethodPatch, map[string]any{"disabled": true}, a.confirm("Disabled")),
		a.keyAction("enable ID", "Accept a disabled key again", "  tokenhub keys enable laptop", http.MethodPatch, map[string]any{"disabled": false}, a.confirm("Enabled")),
		a.keyAction("revoke ID", "End a key for good, with its running answers", "  tokenhub keys revoke laptop", http.MethodDelete, nil, a.confirm("Revoked")),
	)
}

func (a *app) keysCreate() *cobra.Command {
	var k keyFlags
	cmd := &cobra.Command{
		Use:   "create --name NAME [limits, restrictions]",
		Short: "Make a key and print it, once",
		Long: `Make a key and print it. TokenHub keeps a hash only: the key can't be shown again.

Limits are whole numbers of at least 1, USD of at least 0.000001. What is not
given is not limited.`,
		Example: `  tokenhub keys create --name laptop
  tokenhub keys create --name ci --expires 90d --models 'gpt-4o*,house' --monthly-usd 20 --rpm 60
  export OPENAI_API_KEY=$(tokenhub keys create --name tmp --expires 12h --quiet)`,
		Args: operands(0),
	}
	k.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("name") {
			return usagef("--name is missing: write tokenhub keys create --name NAME")
		}
		s, err := a.settings()
		if err != nil {
			return err
		}
		fields, err := k.fields(cmd, a.Now(), s.Timezone)
		if err != nil {
			return err
		}
		dropEmpty(fields) // there is nothing to remove yet
		return a.withAPIOf(cmd.Context(), s, mayCreate, func(api *api) error {
			return a.secretKey(cmd.Context(), api, "/api/keys", fields, "Created")
		})
	}
	return cmd
}

// dropEmpty takes out what has no value, here and in the limits.
func dropEmpty(fields map[string]any) {
	for field, value := range fields {
		inner, isMap := value.(map[string]any)
		if isMap {
			dropEmpty(inner)
		}
		if value == nil || isMap && len(inner) == 0 {
			delete(fields, field)
		}
	}
}

func (a *app) keysUpdate() *cobra.Command {
	var k keyFlags
	cmd := &cobra.Command{
		Use:   "update ID [limits, restrictions]",
		Short: "Change a key; an empty value removes what stood there",
		Example: `  tokenhub keys update laptop --monthly-usd 50
  tokenhub keys update laptop --expires '' --models ''
  tokenhub keys update 3kTMd9QwZa --name workstation`,
		Args: operands(1, "ID"),
	}
	k.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.settings()
		if err != nil {
			return err
		}
		fields, err := k.fields(cmd, a.Now(), s.Timezone)
		if err != nil {
			return err
		}
		if len(fields) == 0 {
			return usagef("nothing to change: say what, as in tokenhub keys update %s --monthly-usd 20", args[0])
		}
		return a.withAPIOf(cmd.Context(), s, mustExist, func(api *api) error {
			return a.oneKey(cmd.Context(), api, http.MethodPatch, pathOf("keys", args[0]), fields, a.showKey)
		})
	}
	return cmd
}

func (a *app) keysRotate() *cobra.Command {
	var grace string
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a key a new secret and print it, once",
		Long:  "Give a key a new secret and print it. ID, name, limits and history stay; the old secret lives on for the grace.",
		Example: `  tokenhub keys rotate laptop
  tokenhub keys rotate laptop --grace 24h --quiet`,
		Args: operands(1, "ID"),
	}
	cmd.Flags().StringVar(&grace, "grace", "", "how `LONG` the old secret lives on, as 24h (default 0s)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body := map[string]any{}
		if grace != "" {
			if _, err := config.ParseDuration(grace); err != nil {
				return usagef("--grace: %v", err)
			}
			body["grace"] = grace
		}
		return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
			return a.secretKey(cmd.Context(), api, pathOf("keys", args[0], "rotate"), body, "Rotated")
		})
	}
	return cmd
}

func (a *app) keysList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all keys, revoked ones too, and what they used",
		Example: "  tokenhub keys list\n  tokenhub keys list --json\n  tokenhub keys list --quiet",
		Args:    operands(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
				raw, err := api.list(cmd.Context(), "/api/keys")
				if err != nil || a.asJSON {
					return a.jsonOr(raw, err)
				}
				keys, err := decodeAll[key](raw)
				if err != nil {
					return err
				}
				return a.showKeys(keys, api.zone)
			})
		},
	}
}

// showKeys prints a table of keys.
func (a *app) showKeys(keys []key, zone *time.Location) error {
	if a.quiet {
		for _, k := range keys {
			fmt.Fprintln(a.out, oneLine(k.ID))
		}
		return nil
	}
	if len(keys) == 0 {
		fmt.Fprintln(a.out, "No keys yet. Make one: tokenhub keys create --name laptop")
		return nil
	}
	var rows [][]string
	for _, k := range keys {
		month := k.Usage.Month
		rows = append(rows, []string{k.ID, k.Name, k.Status, moment(k.ExpiresAt, zone, "never"), moment(k.LastUsedAt, zone, "never"),
			dash(month.Requests.String()), dash(month.Tokens.String()), dash(month.USD.String())})
	}
	a.table([]string{"ID", "NAME", "STATUS", "EXPIRES", "LAST USED", ">MONTH: REQUESTS", ">TOKENS", ">USD"}, rows)
	return nil
}

// keyAction makes a command that sends one request about one key.
func (a *app) keyAction(use, short, example, method string, body any, show func(key, *time.Location)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: operands(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
				return a.oneKey(cmd.Context(), api, method, pathOf("keys", args[0]), body, show)
			})
		},
	}
}

// oneKey sends a request whose answer is a key object and prints that.
func (a *app) oneKey(ctx context.Context, api *api, method, path string, body any, show func(key, *time.Location)) error {
	var raw json.RawMessage
	if err := api.do(ctx, method, path, body, &raw); err != nil {
		return err
	}
	var k key
	if err := json.Unmarshal(raw, &k); err != nil {
		return fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	switch {
	case a.asJSON:
		return a.printJSON(raw)
	case a.quiet:
		fmt.Fprintln(a.out, oneLine(k.ID))
	default:
		show(k, api.zone)
	}
	return nil
}

// secretKey sends a request whose answer holds a key's secret and prints that.
func (a *app) secretKey(ctx context.Context, api *api, path string, body any, done string) error {
	var raw json.RawMessage
	if err := api.do(ctx, http.MethodPost, path, body, &raw); err != nil {
		return err
	}
	var k key
	if err := json.Unmarshal(raw, &k); err != nil || k.Key == "" {
		return fmt.Errorf("read the answer of POST %s: it holds no key", path)
	}
	switch {
	case a.asJSON:
		return a.printJSON(raw)
	case a.quiet:
		fmt.Fprintln(a.out, oneLine(k.Key))
	default:
		fmt.Fprintf(a.out, "%s the key %s (ID %s). Keep it now: it is shown this once.\n\n  %s\n", done, oneLine(k.Name), oneLine(k.ID), oneLine(k.Key))
	}
	return nil
}

// confirm returns a printer of one line that says what was done.
func (a *app) confirm(done string) func(key, *time.Location) {
	return func(k key, _ *time.Location) {
		fmt.Fprintf(a.out, "%s the key %s (ID %s).\n", done, oneLine(k.Name), oneLine(k.ID))
	}
}

// showKey prints all of one key.
func (a *app) showKey(k key, zone *time.Location) {
	a.pairs(
		[2]string{"Name", k.Name},
		[2]string{"ID", k.ID},
		[2]string{"Prefix", k.Prefix},
		[2]string{"Status", k.Status},
		[2]string{"Created", moment(k.CreatedAt, zone, "-")},
		[2]string{"Expires", moment(k.ExpiresAt, zone, "never")},
		[2]string{"Last used", moment(k.LastUsedAt, zone, "never")},
		[2]string{"Models", joined(k.Models, "all")},
		[2]string{"Providers", joined(k.Providers, "all")},
		[2]string{"Endpoints", dash(k.Endpoints)},
		[2]string{"Allowed IPs", joined(k.AllowedIPs, "all")},
		[2]string{"Tags", joined(k.Tags, "-")},
		[2]string{"Running", dash(k.Usage.Running.String())},
	)
	fmt.Fprintln(a.out)
	var rows [][]string
	for _, w := range []struct {
		name string
		window
	}{{"this minute", k.Usage.Minute}, {"today", k.Usage.Day}, {"this month", k.Usage.Month}, {"in all", k.Usage.Total}} {
		rows = append(rows, []string{w.name, dash(w.Requests.String()), dash(w.Tokens.String()), dash(w.USD.String()), moment(w.ResetsAt, zone, "-")})
	}
	a.table([]string{"USED", ">REQUESTS", ">TOKENS", ">USD", "RESETS"}, rows)
	rows = nil
	for _, l := range limits {
		if most := k.Limits[l.field]; most != nil {
			rows = append(rows, []string{l.label, most.String(), dash(l.used(k.Usage)), moment(l.resets(k.Usage), zone, "-")})
		}
	}
	fmt.Fprintln(a.out)
	if len(rows) == 0 {
		fmt.Fprintln(a.out, "No limits.")
		return
	}
	a.table([]string{"LIMIT", ">AT MOST", ">USED", "RESETS"}, rows)
}

// jsonOr prints a list as a JSON array unless err is set.
func (a *app) jsonOr(list []json.RawMessage, err error) error {
	if err != nil {
		return err
	}
	return a.printJSON(list)
}

// decodeAll reads the objects of a list.
func decodeAll[T any](raw []json.RawMessage) ([]T, error) {
	all := make([]T, len(raw))
	for i, one := range raw {
		if err := json.Unmarshal(one, &all[i]); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
	}
	return all, nil
}
