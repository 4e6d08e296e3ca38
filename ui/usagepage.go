package ui

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"tokenhub/db"
)

// usageBody is what the page about usage shows.
type usageBody struct {
	// Query is what was asked for, with its defaults filled in.
	Query    map[string]string
	Groups   []choice
	Ranges   []choice
	Measures []measure
	Chart    *chart
	Rows     []usageLine
	Total    db.Sums
	Pager    pager
	// By says what the rows are.
	By        string
	KeyName   string
	Providers []string
	// CSV is where the same comes as a file.
	CSV   string
	Error string
}

// usageLine is one row of the table.
type usageLine struct {
	Name string
	// Link leads to what the row is about, a path without a slash in front; empty = nowhere.
	Link string
	// Color is that of the row in the chart; -1 without.
	Color int
	db.Sums
}

var usageGroups = []choice{{"model", "Model"}, {"served_model", "Served model"}, {"key", "API key"}, {"provider", "Provider"}, {"tag", "Tag"}, {"day", "Day"}, {"hour", "Hour"}}

var usageRanges = []choice{{"1", "Today"}, {"7", "7 days"}, {"30", "30 days"}, {"90", "90 days"}, {"", "Dates…"}}

// mostHours is how many hours are shown one by one.
const mostHours = 14 * 24

func (a *Admin) usagePage(r *request) error {
	query := r.ask("range", "from", "to", "by", "key", "model", "provider", "measure", "page")
	body := &usageBody{Query: query, Groups: usageGroups, Ranges: usageRanges, Measures: measures, Providers: providerNames(a.config())}
	if !slices.ContainsFunc(usageGroups, func(c choice) bool { return c.Value == query["by"] }) {
		query["by"] = "model"
	}
	q, err := a.usageQuestion(r, query)
	if err != nil {
		e := asError(err)
		if e.Status >= 500 {
			return err
		}
		body.Error = strings.NewReplacer(errOrder.Message, "The first day lies after the last one.", `"from"`, "The first day", `"to"`, "The last day").Replace(e.Message)
		query["range"], query["from"], query["to"], query["key"] = "30", "", "", ""
		if query["by"] == "hour" {
			query["by"] = "model" // 30 days are too long for it
		}
		if q, err = a.usageQuestion(r, query); err != nil {
			return err
		}
	}
	if q.key != "" {
		body.KeyName = a.keyName(r.ctx, q.key)
	}
	list, err := a.periods(r.ctx, q)
	if err != nil {
		return err
	}
	if err := a.fillUsage(r, body, q, list); err != nil {
		return err
	}
	return a.page(r, 200, "usage", "Usage", body)
}

// usageQuestion reads what the page was asked for.
func (a *Admin) usageQuestion(r *request, query map[string]string) (question, error) {
	now, zone := a.now(), zoneOf(a.config())
	q := question{zone: zone, by: query["by"], model: query["model"], provider: query["provider"]}
	n := map[string]int{"1": 1, "7": 7, "30": 30, "90": 90}[query["range"]]
	switch {
	case n > 0:
	case query["from"] == "" && query["to"] == "":
		n = 30
		query["range"] = "30"
	}
	if n > 0 {
		q.span = lastDays(n, now, zone)
		query["from"] = q.from.In(zone).Format(time.DateOnly)
		query["to"] = now.In(zone).Format(time.DateOnly)
	} else {
		delete(query, "range")
		to := query["to"]
		if day, err := time.Parse(time.DateOnly, to); err == nil { // that day included
			to = day.AddDate(0, 0, 1).Format(time.DateOnly)
		}
		var err error
		if q.from, q.to, err = parseSpan(query["from"], to, now, zone); err != nil {
			return q, err
		}
		if soon := lastDays(1, now, zone).to; q.to.After(soon) && q.from.Before(soon) {
			q.to = soon
		}
	}
	if text := query["key"]; text != "" {
		k, err := a.findKey(r.ctx, text)
		if err != nil {
			return q, err
		}
		q.key = k.ID
	}
	hours := int(q.to.Sub(q.from).Hours())
	switch q.by {
	case "hour":
		q.by = ""
		if hours > mostHours {
			return q, errInvalid("Hours are shown for at most 14 days: choose fewer.")
		}
		q.hourly = true
	case "day":
		q.by = ""
	default:
		q.hourly = hours <= 48
	}
	if hours > 24*3700 {
		return q, errInvalid("This is more than 10 years: choose fewer.")
	}
	return q, nil
}

// fillUsage makes the chart and the table of what was found.
func (a *Admin) fillUsage(r *request, body *usageBody, q question, list []period) error {
	name := func(id string) string { return a.nameOf(r.ctx, q.by, id) }
	for i := range list {
		for j := range list[i].sums {
			body.Total.Add(list[i].sums[j].Sums)
		}
	}
	if q.by == "tag" { // a key with two tags counts twice in the rows
		plain := q
		plain.by = ""
		all, err := a.periods(r.ctx, plain)
		if err != nil {
			return err
		}
		body.Total = db.Sums{}
		for _, s := range together(all) {
			body.Total.Add(s.Sums)
		}
	}
	body.By = body.Query["by"]
	m := a.measureOf(body)
	body.Chart = newChart(list, m, q.hourly, q.zone, name)
	if q.by == "" {
		body.Chart.Series = nil
		a.timeLines(body, q, list)
	} else {
		var part []*namedSums
		part, body.Pager = pageOf(body.Chart.ranked, body.Query)
		for i, sums := range part {
			line := usageLine{Name: name(sums.name), Link: linkOf(q.by, sums.name), Color: -1, Sums: sums.Sums}
			at := i + body.Pager.From - 1
			if series := body.Chart.Series; at < len(series) && series[at].Name == line.Name {
				line.Color = series[at].Color
			}
			body.Rows = append(body.Rows, line)
		}
	}
	body.CSV = a.csvLink(body, q)
	return nil
}

// measureOf returns the measure that was asked for: cost, unless nothing has any.
func (a *Admin) measureOf(body *usageBody) measure {
	for _, m := range measures {
		if m.Name == body.Query["measure"] {
			return m
		}
	}
	m := measures[0]
	if body.Total.Cost == 0 {
		m = measures[2]
	}
	body.Query["measure"] = m.Name
	return m
}

// timeLines fills the table with days or hours, the newest first; those without
// any use are left out.
func (a *Admin) timeLines(body *usageBody, q question, list []period) {
	var lines []usageLine
	for _, p := range slices.Backward(list) {
		if len(p.sums) == 0 {
			continue
		}
		line := usageLine{Name: periodText(p, q.hourly && body.By == "hour", q.zone), Color: -1}
		for i := range p.sums {
			line.Add(p.sums[i].Sums)
		}
		lines = append(lines, line)
	}
	if q.hourly && body.By == "day" {
		lines = byDay(lines)
	}
	body.Rows, body.Pager = pageOf(lines, body.Query)
}

// byDay joins lines of the same name, which follow each other.
func byDay(lines []usageLine) []usageLine {
	var out []usageLine
	for _, l := range lines {
		if n := len(out); n > 0 && out[n-1].Name == l.Name {
			out[n-1].Add(l.Sums)
			continue
		}
		out = append(out, l)
	}
	return out
}

// nameOf is what people read for a row.
func (a *Admin) nameOf(ctx context.Context, by, name string) string {
	switch {
	case by == "key" && name != "":
		return cmp.Or(a.keyName(ctx, name), "th-"+name)
	case by == "tag" && name == "":
		return "no tag"
	case name == "":
		return "none"
	}
	return name
}

func linkOf(by, name string) string {
	switch {
	case name == "":
		return ""
	case by == "key":
		return "keys/" + url.PathEscape(name)
	case by == "model" && name != db.OtherModel:
		return "requests?model=" + url.QueryEscape(name)
	case by == "provider":
		return "requests?provider=" + url.QueryEscape(name)
	}
	return ""
}

// csvLink leads to the API, which answers the same question with a file.
func (a *Admin) csvLink(body *usageBody, q question) string {
	v := url.Values{"format": {"csv"}, "group_by": {body.By}}
	v.Set("from", q.from.Format(time.RFC3339))
	v.Set("to", q.to.Format(time.RFC3339))
	for name, value := range map[string]string{"key": q.key, "model": q.model, "provider": q.provider} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return "api/usage?" + v.Encode()
}
