package ui

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tokenhub/db"
)

// rowsPerPage is how many rows a page shows at once.
const rowsPerPage = 50

// pager leads through the pages of a long list.
type pager struct {
	// From and To count rows from 1; All is how many there are.
	From, To, All int
	// Prev and Next are queries, empty when there is no such page.
	Prev, Next string
}

// pageOf returns the rows of the page that query asks for, and the way to others.
func pageOf[T any](all []T, query map[string]string) ([]T, pager) {
	pages := max(1, (len(all)+rowsPerPage-1)/rowsPerPage)
	n, err := strconv.Atoi(query["page"])
	if err != nil || n < 1 {
		n = 1
	}
	n = min(n, pages)
	from, to := (n-1)*rowsPerPage, min(n*rowsPerPage, len(all))
	p := pager{From: min(from+1, len(all)), To: to, All: len(all)}
	if n > 1 {
		p.Prev = queryWith(query, "page", strconv.Itoa(n-1))
	}
	if n < pages {
		p.Next = queryWith(query, "page", strconv.Itoa(n+1))
	}
	return all[from:to], p
}

// queryWith returns a query with one parameter changed; empty removes it.
func queryWith(query map[string]string, name, value string) string {
	v := url.Values{}
	for k, text := range query {
		v.Set(k, text)
	}
	v.Set(name, value)
	if value == "" {
		v.Del(name)
	}
	return "?" + v.Encode()
}

// keysBody is what the list of keys shows.
type keysBody struct {
	Rows  []keyRow
	Pager pager
	// Search, Status and Sort are what was asked for.
	Search, Status, Sort string
	Sorts                []choice
	// Any says that there are keys at all.
	Any bool
}

// choice is one value to choose, and what people read.
type choice struct{ Value, Label string }

// keyRow is one key in the list.
type keyRow struct {
	*db.Key
	Status   db.Status
	LastUsed time.Time
	Use      db.KeyUsage
	// Gauge is the budget that is used up most, if HasGauge.
	Gauge    gauge
	HasGauge bool
}

var keySorts = []choice{{"", "Newest first"}, {"name", "Name"}, {"used", "Last used"}, {"spend", "Spend this month"}, {"tokens", "Tokens this month"}, {"expiry", "Expires soonest"}}

func (a *Admin) keysPage(r *request) error {
	query := r.ask("search", "status", "sort", "page")
	status, err := parseKeyStatus(query["status"])
	if err != nil {
		status = ""
	}
	keys, err := a.selectKeys(r.ctx, keyFilter{status: status, search: strings.TrimSpace(query["search"])})
	if err != nil {
		return err
	}
	if err := a.sortKeys(r, keys, query["sort"]); err != nil {
		return err
	}
	body := &keysBody{Search: query["search"], Status: string(status), Sort: query["sort"], Sorts: keySorts,
		Any: len(keys) > 0 || status != "" || query["search"] != ""}
	var part []*db.Key
	part, body.Pager = pageOf(keys, query)
	for _, k := range part {
		row := keyRow{Key: k, Status: k.StatusAt(a.now()), LastUsed: a.store.LastUsed(k.ID)}
		if row.Use, err = a.store.KeyUsage(r.ctx, k.ID, a.now()); err != nil {
			return err
		}
		row.Gauge, row.HasGauge = fullest(&k.Limits, &row.Use)
		body.Rows = append(body.Rows, row)
	}
	return a.page(r, 200, "keys", "API keys", body)
}

// sortKeys puts keys, which come the newest first, into another order.
func (a *Admin) sortKeys(r *request, keys []*db.Key, by string) error {
	switch by {
	case "name":
		names := make(map[string]string, len(keys))
		for _, k := range keys {
			names[k.ID] = strings.ToLower(k.Name)
		}
		slices.SortStableFunc(keys, func(x, y *db.Key) int { return strings.Compare(names[x.ID], names[y.ID]) })
	case "used":
		used := make(map[string]time.Time, len(keys))
		for _, k := range keys {
			used[k.ID] = a.store.LastUsed(k.ID)
		}
		slices.SortStableFunc(keys, func(x, y *db.Key) int { return used[y.ID].Compare(used[x.ID]) })
	case "expiry":
		slices.SortStableFunc(keys, func(x, y *db.Key) int {
			if x.ExpiresAt.IsZero() != y.ExpiresAt.IsZero() {
				return map[bool]int{true: 1, false: -1}[x.ExpiresAt.IsZero()]
			}
			return x.ExpiresAt.Compare(y.ExpiresAt)
		})
	case "spend", "tokens":
		use := make(map[string]int64, len(keys))
		for _, k := range keys {
			u, err := a.store.KeyUsage(r.ctx, k.ID, a.now())
			if err != nil {
				return err
			}
			use[k.ID] = u.Month.Tokens
			if by == "spend" {
				use[k.ID] = u.Month.Cost
			}
		}
		slices.SortStableFunc(keys, func(x, y *db.Key) int { return cmp.Compare(use[y.ID], use[x.ID]) })
	}
	return nil
}
