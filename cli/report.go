package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tokenhub/config"
)

// sums are what the commands read of one row of the usage report.
type sums struct {
	Key         string      `json:"key"`
	KeyName     string      `json:"key_name"`
	Model       string      `json:"model"`
	ServedModel string      `json:"served_model"`
	Provider    string      `json:"provider"`
	Day         string      `json:"day"`
	Hour        string      `json:"hour"`
	Tag         string      `json:"tag"`
	Requests    int64       `json:"requests"`
	Errors      int64       `json:"errors"`
	Input       int64       `json:"input_tokens"`
	Output      int64       `json:"output_tokens"`
	Cached      int64       `json:"cached_input_tokens"`
	Cost        json.Number `json:"cost_usd"`
	Unpriced    int64       `json:"unpriced_requests"`
	Estimated   int64       `json:"estimated_requests"`
}

// group returns what a row says about one group.
func (s *sums) group(by string) string {
	switch by {
	case "key":
		if s.KeyName == "" {
			return s.Key
		}
		return fmt.Sprintf("%s (%s)", s.KeyName, s.Key)
	case "model":
		return s.Model
	case "served_model":
		return s.ServedModel
	case "provider":
		return s.Provider
	case "day":
		return s.Day
	case "hour":
		return s.Hour
	}
	return s.Tag
}

// groupings are the values of --by.
var groupings = [...]string{"key", "model", "served_model", "provider", "day", "hour", "tag"}

// usageCommand is the usage report.
func (a *app) usageCommand() *cobra.Command {
	var by []string
	var since, from, to, keyID, model, provider string
	var csv bool
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Report requests, tokens and cost",
		Long: `Report requests, tokens and cost, by any of ` + strings.Join(groupings[:], ", ") + `.
Requests are those sent to a provider; errors those of them that failed.`,
		Example: `  tokenhub usage
  tokenhub usage --by key,model --since 7d
  tokenhub usage --by day --from 2027-01-01 --to 2027-02-01 --csv > january.csv`,
		Args: operands(0),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.Var((*listFlag)(&by), "by", "`GROUPS`, comma-separated (default key)")
	flags.StringVar(&since, "since", "", "how `LONG` back, as 24h or 30d (default 30d)")
	flags.StringVar(&from, "from", "", "first `DAY` or whole hour")
	flags.StringVar(&to, "to", "", "`DAY` or whole hour before which it ends")
	flags.StringVar(&keyID, "key", "", "only this key's: `ID`")
	flags.StringVar(&model, "model", "", "only of this `MODEL`, as asked for")
	flags.StringVar(&provider, "provider", "", "only of the provider `NAME`")
	flags.BoolVar(&csv, "csv", false, "print CSV")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(by) == 0 {
			by = []string{"key"}
		}
		for _, group := range by {
			if !slices.Contains(groupings[:], group) {
				return usagef("--by %s: choose among %s", group, strings.Join(groupings[:], ", "))
			}
		}
		if csv && (a.asJSON || a.quiet) {
			return usagef("--csv, --json and --quiet exclude each other: choose one")
		}
		query := url.Values{"group_by": {strings.Join(by, ",")}}
		if since != "" {
			if from != "" || to != "" {
				return usagef("--since and --from, --to exclude each other: choose one way")
			}
			back, err := config.ParseDuration(since)
			if err != nil {
				return usagef("--since: %v", err)
			}
			from = a.Now().Add(-back).UTC().Truncate(time.Hour).Format(time.RFC3339)
		}
		for name, value := range map[string]string{"from": from, "to": to, "key": keyID, "model": model, "provider": provider} {
			if value != "" {
				query.Set(name, value)
			}
		}
		return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
			path := "/api/usage?" + query.Encode()
			if csv {
				return a.copyCSV(cmd.Context(), api, path)
			}
			raw, err := api.whole(cmd.Context(), path)
			if err != nil || a.asJSON {
				return a.jsonOr(raw, err)
			}
			rows, err := decodeAll[sums](raw)
			if err != nil {
				return err
			}
			a.showUsage(by, rows)
			return nil
		})
	}
	return cmd
}

// copyCSV passes the report on as the API writes it.
func (a *app) copyCSV(ctx context.Context, api *api, path string) error {
	body, err := api.open(ctx, http.MethodGet, path, "text/csv", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(a.out, body)
	return err
}

// showUsage prints the report as a table, with a sum below it where the rows do
// not overlap, as those by tag do.
func (a *app) showUsage(by []string, rows []sums) {
	if len(rows) == 0 {
		fmt.Fprintln(a.out, "Nothing was used in this time.")
		return
	}
	var header []string
	for _, group := range by {
		header = append(header, strings.ToUpper(strings.ReplaceAll(group, "_", " ")))
	}
	header = append(header, ">REQUESTS", ">ERRORS", ">INPUT", ">CACHED", ">OUTPUT", ">USD")
	var table [][]string
	var all sums
	cost := new(big.Rat)
	for i := range rows {
		row := &rows[i]
		var line []string
		for _, group := range by {
			line = append(line, dash(row.group(group)))
		}
		table = append(table, append(line, row.numbers()...))
		all.add(row)
		if n, ok := new(big.Rat).SetString(row.Cost.String()); ok {
			cost.Add(cost, n)
		}
	}
	all.Cost = json.Number(strings.TrimRight(strings.TrimRight(cost.FloatString(6), "0"), "."))
	if len(rows) > 1 && !slices.Contains(by, "tag") {
		line := make([]string, len(by))
		line[0] = "in all"
		table = append(table, append(line, all.numbers()...))
	}
	a.table(header, table)
	if all.Unpriced > 0 {
		fmt.Fprintln(a.out, "\nSome models have no price, so their cost is unknown: give them one in [[prices]].")
	}
	if all.Estimated > 0 {
		fmt.Fprintln(a.out, "\nSome answers ended early or came without usage: their tokens are estimated.")
	}
}

// add adds the counts of o.
func (s *sums) add(o *sums) {
	s.Requests += o.Requests
	s.Errors += o.Errors
	s.Input += o.Input
	s.Cached += o.Cached
	s.Output += o.Output
	s.Unpriced += o.Unpriced
	s.Estimated += o.Estimated
}

// numbers returns the cells that follow the groups.
func (s *sums) numbers() []string {
	cells := make([]string, 0, 6)
	for _, n := range []int64{s.Requests, s.Errors, s.Input, s.Cached, s.Output} {
		cells = append(cells, strconv.FormatInt(n, 10))
	}
	usd := dash(s.Cost.String())
	switch {
	case s.Unpriced > 0 && usd == "0":
		usd = "unknown"
	case s.Unpriced > 0:
		usd = "over " + usd
	}
	return append(cells, usd)
}
