package ui

import (
	"context"
	"errors"
	"strings"
	"time"

	"tokenhub/db"
)

// requestsBody is what the log of requests shows.
type requestsBody struct {
	Query map[string]string
	Rows  []requestRow
	// Newest and Next are queries: of the first page, and of the following one.
	Newest, Next string
	Providers    []string
	Error        string
	At           time.Time
	// More says that the page is not full although the log goes on.
	More bool
	// Filtered says that not all requests were asked for.
	Filtered bool
	// Keep says for how long they are kept.
	Keep string
	// Here is the page's own query, with which it refreshes itself.
	Here string
}

// requestRow is one record with what people call its key.
type requestRow struct {
	*db.Record
	KeyName string
}

// At is when the request began, for its link.
func (r requestRow) At() string { return r.Start.UTC().Format(time.RFC3339) }

const (
	// searchTime bounds the search for a request.
	searchTime = 5 * time.Second
	// attemptsWithin is how far apart the attempts of a request may lie.
	attemptsWithin = 2 * time.Hour
	// mostSearched is how many records are looked at for one page, which takes
	// some 20 ms, and is enough for one key in 30 days. What is rare is found page by page.
	mostSearched = 75_000
)

var statusFilters = []choice{{"", "Any status"}, {"2xx", "2xx"}, {"4xx", "4xx"}, {"5xx", "5xx"}, {"429", "429"}}

// StatusFilters are the choices for the status.
func (*requestsBody) StatusFilters() []choice { return statusFilters }

func (a *Admin) requestsPage(r *request) error {
	query := r.ask("key", "model", "provider", "status", "before")
	body := &requestsBody{Query: query, Providers: providerNames(a.config()), At: a.now(), Here: queryWith(query, "", ""), Newest: queryWith(query, "before", "")}
	body.Filtered = query["key"]+query["model"]+query["provider"]+query["status"] != ""
	if keep := a.config().Usage.KeepRequests; keep > 0 {
		body.Keep = plural(int(keep.Hours()/24), "day")
	}
	err := a.findRequests(r, query, body)
	var e *Error
	switch {
	case errors.As(err, &e) && e.Status < 500:
		body.Error = strings.NewReplacer(`"status"`, "The status").Replace(e.Message)
	case err != nil:
		return err
	}
	return a.page(r, 200, "requests", "Requests", body)
}

func (a *Admin) findRequests(r *request, query map[string]string, body *requestsBody) (err error) {
	q := db.RequestQuery{Model: query["model"], Provider: query["provider"], Before: query["before"], Limit: rowsPerPage, Most: mostSearched}
	if q.Status, err = parseStatus(query["status"]); err != nil {
		return err
	}
	if query["key"] != "" {
		k, err := a.findKey(r.ctx, query["key"])
		if err != nil {
			return err
		}
		q.Key = k.ID
	}
	records, next, err := a.store.Requests(r.ctx, q)
	if err != nil {
		return pageCursorOr(q.Before, err)
	}
	for i := range records {
		body.Rows = append(body.Rows, requestRow{&records[i], a.keyName(r.ctx, records[i].KeyID)})
	}
	if next != "" {
		body.Next = queryWith(query, "before", next)
		body.More = len(records) < rowsPerPage
	}
	return nil
}

// requestBody is what the page of one request shows: its attempts, in order.
type requestBody struct {
	ID       string
	Attempts []requestRow
}

func (a *Admin) requestPage(r *request) error {
	body := &requestBody{ID: r.param("id")}
	ctx, cancel := context.WithTimeout(r.ctx, searchTime)
	defer cancel()
	q := db.RequestQuery{ID: body.ID}
	// Links say when it began, so that not all of the log is read.
	if at, err := time.Parse(time.RFC3339, r.ask("at")["at"]); err == nil {
		q.From, q.To = at.Add(-attemptsWithin), at.Add(attemptsWithin)
	}
	records, _, err := a.store.Requests(ctx, q)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if len(records) == 0 {
		return errMissing("There is no request with this ID in the log. It may be older than the log is kept, or TokenHub refused it before it was sent to a provider.")
	}
	for i := len(records) - 1; i >= 0; i-- {
		body.Attempts = append(body.Attempts, requestRow{&records[i], a.keyName(r.ctx, records[i].KeyID)})
	}
	return a.page(r, 200, "request", "Request "+body.ID, body)
}
