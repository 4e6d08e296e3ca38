package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tokenhub/config"
)

// limit is one limit of a key: its flag, its field in the API and what people
// call it.
type limit struct {
	flag, field, label string
	usd                bool
	used               func(usage) string // empty where nothing is counted
	resets             func(usage) *time.Time
}

// limits are all limits, in the order in which they are shown.
var limits = [...]limit{
	{"rpm", "requests_per_minute", "requests per minute", false, func(u usage) string { return u.Minute.Requests.String() }, func(u usage) *time.Time { return u.Minute.ResetsAt }},
	{"tpm", "tokens_per_minute", "tokens per minute", false, func(u usage) string { return u.Minute.Tokens.String() }, func(u usage) *time.Time { return u.Minute.ResetsAt }},
	{"concurrency", "concurrent_requests", "concurrent requests", false, func(u usage) string { return u.Running.String() }, never},
	{"max-tokens", "max_tokens_per_request", "output tokens per request", false, func(usage) string { return "" }, never},
	{"daily-tokens", "daily_tokens", "tokens per day", false, func(u usage) string { return u.Day.Tokens.String() }, func(u usage) *time.Time { return u.Day.ResetsAt }},
	{"monthly-tokens", "monthly_tokens", "tokens per month", false, func(u usage) string { return u.Month.Tokens.String() }, func(u usage) *time.Time { return u.Month.ResetsAt }},
	{"total-tokens", "total_tokens", "tokens in all", false, func(u usage) string { return u.Total.Tokens.String() }, never},
	{"daily-usd", "daily_usd", "USD per day", true, func(u usage) string { return u.Day.USD.String() }, func(u usage) *time.Time { return u.Day.ResetsAt }},
	{"monthly-usd", "monthly_usd", "USD per month", true, func(u usage) string { return u.Month.USD.String() }, func(u usage) *time.Time { return u.Month.ResetsAt }},
	{"total-usd", "total_usd", "USD in all", true, func(u usage) string { return u.Total.USD.String() }, never},
}

func never(usage) *time.Time { return nil }

// keyFlags are the flags of keys create and keys update.
type keyFlags struct {
	name, expires, endpoints            string
	models, providers, allowedIPs, tags []string
	limits                              [len(limits)]string
}

// add defines the flags on cmd.
func (k *keyFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&k.name, "name", "", "`NAME` of the key, 1 to 100 characters")
	flags.StringVar(&k.expires, "expires", "", "`WHEN` it ends: 90d, 12h, a date (the end of that day), an RFC 3339 time")
	list := func(to *[]string, name, help string) { flags.Var((*listFlag)(to), name, help) }
	list(&k.models, "models", "`GLOBS` of the models that may be called, comma-separated, as gpt-4o*,house (default all)")
	list(&k.providers, "providers", "`NAMES` of the providers that may serve, comma-separated (default all)")
	flags.StringVar(&k.endpoints, "endpoints", "", "`WHICH` endpoints may be called: inference or all (default inference)")
	list(&k.allowedIPs, "allowed-ips", "`CIDRS` the calls may come from, comma-separated (default all)")
	list(&k.tags, "tags", "`TAGS` to group usage by, comma-separated")
	for i, l := range limits {
		unit := "`N`"
		if l.usd {
			unit = "`USD`"
		}
		flags.StringVar(&k.limits[i], l.flag, "", "at most "+unit+" "+strings.TrimPrefix(l.label, "USD "))
	}
}

// fields returns the fields of the API that the flags set; an empty value
// removes what stood there.
func (k *keyFlags) fields(cmd *cobra.Command, now time.Time, zone *time.Location) (map[string]any, error) {
	set := cmd.Flags().Changed
	fields := map[string]any{}
	if set("name") {
		if strings.TrimSpace(k.name) == "" {
			return nil, usagef("--name is empty: a key has a name of 1 to 100 characters")
		}
		fields["name"] = k.name
	}
	if set("expires") {
		fields["expires_at"] = nil
		if k.expires != "" {
			end, err := parseExpiry(k.expires, now, zone)
			if err != nil {
				return nil, err
			}
			fields["expires_at"] = end.UTC().Format("2006-01-02T15:04:05.000Z")
		}
	}
	if set("endpoints") {
		switch k.endpoints {
		case "":
			fields["endpoints"] = nil
		case "inference", "all":
			fields["endpoints"] = k.endpoints
		default:
			return nil, usagef("--endpoints %s: write inference or all", k.endpoints)
		}
	}
	for _, list := range []struct {
		flag, field string
		values      []string
	}{
		{"models", "models", k.models},
		{"providers", "providers", k.providers},
		{"allowed-ips", "allowed_ips", k.allowedIPs},
		{"tags", "tags", k.tags},
	} {
		switch {
		case !set(list.flag):
		case len(list.values) == 0:
			fields[list.field] = nil
		default:
			fields[list.field] = list.values
		}
	}
	changed := map[string]any{}
	for i, l := range limits {
		if !set(l.flag) {
			continue
		}
		value, err := l.parse(k.limits[i])
		if err != nil {
			return nil, err
		}
		changed[l.field] = value
	}
	if len(changed) > 0 {
		fields["limits"] = changed
	}
	return fields, nil
}

// parse reads the value of a limit's flag; an empty one is nil, no limit.
func (l limit) parse(text string) (any, error) {
	if text == "" {
		return nil, nil
	}
	if l.usd {
		micro, err := config.ParseUSD(text)
		if err != nil {
			return nil, usagef("--%s: %v", l.flag, err)
		}
		if micro == 0 {
			return nil, noZero(l.flag)
		}
		return json.Number(config.FormatUSD(micro)), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err == nil && n == 0:
		return nil, noZero(l.flag)
	case err != nil || n < 0:
		return nil, usagef("--%s %s: write a whole number of at least 1", l.flag, text)
	}
	return n, nil
}

func noZero(flag string) error {
	return usagef("--%s 0: leave it empty for no limit, disable the key for none", flag)
}

// parseExpiry reads when a key ends: a duration from now, a date in zone (the end
// of that day), or an RFC 3339 time.
func parseExpiry(text string, now time.Time, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		end := time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, zone)
		if end.Day() == day.Day() { // a clock put forward at midnight has no 00:00
			end = end.Add(time.Hour)
		}
		return end, nil
	}
	d, err := config.ParseDuration(text)
	if err != nil || d <= 0 || now.Add(d).Year() > 9999 {
		return time.Time{}, usagef("--expires %s: write 90d, 12h or 1s, a date like 2027-01-31, or a time like 2027-01-31T18:00:00Z", text)
	}
	return now.Add(d), nil
}

// listFlag is a flag whose value is a comma-separated list; given twice, the
// lists are joined, and an empty value empties it.
type listFlag []string

// Set takes one value of the flag.
func (l *listFlag) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		*l = nil
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			return fmt.Errorf("an item of the list is empty")
		}
		*l = append(*l, item)
	}
	return nil
}

// String returns the list as it could be given.
func (l *listFlag) String() string { return strings.Join(*l, ",") }

// Type names the value in help texts.
func (l *listFlag) Type() string { return "list" }
