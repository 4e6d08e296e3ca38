package ui

import (
	"bytes"
	"encoding/csv"
	"slices"
	"strconv"
	"strings"
)

// accepts reports whether the Accept header names a media type, and nothing
// that is JSON before it.
func (r *request) accepts(media string) bool {
	for _, value := range headerValues(r.c, "Accept") {
		for part := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case media:
				return true
			case "application/json", "*/*":
				return false
			}
		}
	}
	return false
}

// usageCSV answers with rows as CSV, a header first.
func (r *request) usageCSV(groupBy []string, rows []usageRow) error {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	var header []string
	for _, g := range groupBy {
		header = append(header, g)
		if g == "key" {
			header = append(header, "key_name")
		}
	}
	header = append(header, "requests", "errors", "input_tokens", "output_tokens", "cached_input_tokens",
		"cache_write_tokens", "reasoning_tokens", "cost_usd", "estimated_requests", "unpriced_requests")
	if err := w.Write(header); err != nil {
		return err
	}
	for _, row := range rows {
		if err := w.Write(row.record(groupBy)); err != nil {
			return err
		}
	}
	if w.Flush(); w.Error() != nil {
		return w.Error()
	}
	r.c.Set("Content-Type", "text/csv; charset=utf-8")
	r.c.Set("Content-Disposition", `attachment; filename="tokenhub-usage.csv"`)
	return r.send(200, b.Bytes())
}

func (row *usageRow) record(groupBy []string) []string {
	cells := map[string]*string{
		"key": row.Key, "model": row.Model, "served_model": row.Served, "provider": row.Provider,
		"day": row.Day, "hour": row.Hour, "tag": row.Tag,
	}
	var out []string
	for _, g := range groupBy {
		out = append(out, cell(*cells[g]))
		if g == "key" {
			out = append(out, cell(*row.KeyName))
		}
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	return slices.Concat(out, []string{n(row.Requests), n(row.Errors), n(row.Input), n(row.Output), n(row.CachedInput),
		n(row.CacheWrite), n(row.Reasoning), row.Cost.String(), n(row.Estimated), n(row.Unpriced)})
}

// cell returns text that a spreadsheet does not take for a formula: callers
// choose names of models, and the file is opened by somebody else.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
