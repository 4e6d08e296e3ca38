package ui

import (
	"context"
	"strconv"
	"strings"

	"tokenhub/db"
)

// requestView is one record of the log of requests on the wire.
type requestView struct {
	ID       string `json:"id"`
	Time     moment `json:"time"`
	Key      string `json:"key"`
	KeyName  string `json:"key_name"`
	Model    string `json:"model"`
	Served   string `json:"served_model"`
	Provider string `json:"provider"`
	Endpoint string `json:"endpoint"`
	// Status is null when the provider did not answer.
	Status      *int  `json:"status"`
	Stream      bool  `json:"stream"`
	Broken      bool  `json:"broken"`
	LatencyMS   int64 `json:"latency_ms"`
	FirstByteMS int64 `json:"first_byte_ms"`
	db.Usage
	// Cost is null when the model has no price.
	Cost    *dollars `json:"cost_usd"`
	Source  string   `json:"source"`
	Attempt int      `json:"attempt"`
	Error   string   `json:"error"`
}

func viewRequest(rec *db.Record, keyName string) requestView {
	v := requestView{
		ID: rec.ID, Time: moment(rec.Start), Key: rec.KeyID, KeyName: keyName,
		Model: rec.Model, Served: rec.Served, Provider: rec.Provider, Endpoint: rec.Endpoint,
		Stream: rec.Stream, Broken: rec.Broken,
		LatencyMS: rec.Latency.Milliseconds(), FirstByteMS: rec.FirstByte.Milliseconds(),
		Usage: rec.Usage, Source: rec.Source, Attempt: rec.Attempt, Error: rec.Error,
	}
	if rec.Status != 0 {
		v.Status = &rec.Status
	}
	if rec.Cost != db.UnknownCost {
		cost := dollars(rec.Cost)
		v.Cost = &cost
	}
	return v
}

func (a *Admin) requests(r *request) error {
	query, err := r.query("key", "model", "provider", "status", "id", "cursor", "before", "limit")
	if err != nil {
		return err
	}
	q := db.RequestQuery{Model: query["model"], Provider: query["provider"], ID: query["id"]}
	if q.Before, q.Limit, err = parsePage(query); err != nil {
		return err
	}
	if q.Status, err = parseStatus(query["status"]); err != nil {
		return err
	}
	if key := query["key"]; key != "" {
		k, err := a.findKey(r.ctx, key)
		if err != nil {
			return err
		}
		q.Key = k.ID
	}
	records, next, err := a.store.Requests(r.ctx, q)
	if err != nil {
		return cursorOr(q.Before, err)
	}
	views := make([]requestView, len(records))
	for i := range records {
		views[i] = viewRequest(&records[i], a.keyName(r.ctx, records[i].KeyID))
	}
	return r.json(200, newPage(views, next))
}

// keyName returns the name of a key, empty when it is not known.
func (a *Admin) keyName(ctx context.Context, id string) string {
	k, err := a.store.Key(ctx, id)
	if err != nil {
		return ""
	}
	return k.Name
}

// parseStatus reads a status (404) or a class of them (4xx); empty is all.
func parseStatus(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	class, isClass := strings.CutSuffix(strings.ToLower(text), "xx")
	n, err := strconv.Atoi(class)
	if err == nil && (isClass && n >= 1 && n <= 5 || !isClass && n >= 100 && n <= 599) {
		return n, nil
	}
	return 0, errInvalid("\"status\" must be a status like 404 or a class like 4xx.")
}
