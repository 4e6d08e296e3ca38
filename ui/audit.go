package ui

import (
	"encoding/json"
	"strings"

	"tokenhub/db"
)

// auditView is one entry of the audit trail on the wire.
type auditView struct {
	ID         uint64 `json:"id"`
	Time       moment `json:"time"`
	Actor      string `json:"actor"`
	From       string `json:"from"`
	Action     string `json:"action"`
	Target     string `json:"target"`
	TargetName string `json:"target_name"`
	// Before and After hold the changed fields, null where there were none.
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

func viewAudit(e *db.Audit) auditView {
	return auditView{
		ID: e.ID, Time: moment(e.Time), Actor: e.Actor, From: e.From, Action: e.Action,
		Target: e.Target, TargetName: e.TargetName, Before: object(e.Before), After: object(e.After),
	}
}

// object returns stored JSON text to be sent as it is; null for none.
func object(text string) json.RawMessage {
	if text == "" || !json.Valid([]byte(text)) {
		return none
	}
	return json.RawMessage(text)
}

func (a *Admin) auditLog(r *request) error {
	query, err := r.query("target", "cursor", "before", "limit")
	if err != nil {
		return err
	}
	q := db.AuditQuery{Target: query["target"]}
	for _, prefix := range []string{"th-", "tha-"} { // a target is an ID
		if id, ok := strings.CutPrefix(q.Target, prefix); ok {
			q.Target = id
		}
	}
	if q.Before, q.Limit, err = parsePage(query); err != nil {
		return err
	}
	entries, next, err := a.store.AuditLog(r.ctx, q)
	if err != nil {
		return cursorOr(q.Before, err)
	}
	views := make([]auditView, len(entries))
	for i := range entries {
		views[i] = viewAudit(&entries[i])
	}
	return r.json(200, newPage(views, next))
}

// cursorOr returns the answer to a page that the engine could not give: with a
// cursor, and unless it says that the storage or the time is to blame, the
// cursor is none of its own.
func cursorOr(cursor string, err error) error { return insteadOf(errCursor, cursor, err) }

// pageCursorOr is the same in the words of the pages.
func pageCursorOr(cursor string, err error) error { return insteadOf(errLostPlace, cursor, err) }

func insteadOf(answer *Error, cursor string, err error) error {
	if cursor != "" && asError(err).Status == 500 {
		bad := *answer
		bad.Err = err
		return &bad
	}
	return err
}
