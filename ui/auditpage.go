package ui

import (
	"encoding/json"
	"slices"
	"strings"

	"tokenhub/db"
)

// auditBody is what the audit trail shows.
type auditBody struct {
	Rows         []auditRow
	Target       string
	TargetName   string
	Newest, Next string
	Keep         string
	Error        string
}

// auditRow is one entry, with its change field by field.
type auditRow struct {
	db.Audit
	Changes []fieldChange
	// Link leads to what was changed; empty = nowhere.
	Link string
}

// fieldChange is what became of one field.
type fieldChange struct{ Name, Before, After string }

func (a *Admin) auditPage(r *request) error {
	query := r.ask("target", "before")
	body := &auditBody{Target: query["target"]}
	if query["before"] != "" {
		body.Newest = queryWith(query, "before", "")
	}
	if keep := a.config().Usage.KeepAudit; keep > 0 {
		body.Keep = plural(int(keep.Hours()/24), "day")
	}
	entries, next, err := a.store.AuditLog(r.ctx, db.AuditQuery{Target: query["target"], Before: query["before"], Limit: rowsPerPage})
	if err != nil {
		return pageCursorOr(query["before"], err)
	}
	for _, e := range entries {
		row := auditRow{Audit: e, Changes: slices.DeleteFunc(fieldChanges(e.Before, e.After), func(c fieldChange) bool {
			return c.Name == "name" && c.Before == "" && c.After == e.TargetName // which stands beside it
		})}
		if strings.HasPrefix(e.Action, "key.") {
			row.Link = "keys/" + e.Target
		}
		body.Rows = append(body.Rows, row)
	}
	if body.Target != "" && len(entries) > 0 {
		body.TargetName = entries[0].TargetName
	}
	if next != "" {
		body.Next = queryWith(query, "before", next)
	}
	return a.page(r, 200, "audit", "Audit", body)
}

// fieldChanges lists the fields of the two objects of an entry, those of objects
// in them by their path.
func fieldChanges(before, after string) []fieldChange {
	was, is := flat("", []byte(before)), flat("", []byte(after))
	var names []string
	for name := range was {
		names = append(names, name)
	}
	for name := range is {
		if _, both := was[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var list []fieldChange
	for _, name := range names {
		list = append(list, fieldChange{name, was[name], is[name]})
	}
	return list
}

// flat returns the members of a JSON object as texts for people.
func flat(prefix string, raw []byte) map[string]string {
	var members map[string]json.RawMessage
	out := map[string]string{}
	if json.Unmarshal(raw, &members) != nil {
		return out
	}
	for name, value := range members {
		if len(value) > 1 && value[0] == '{' {
			for sub, text := range flat(prefix+name+".", value) {
				out[sub] = text
			}
			continue
		}
		out[prefix+name] = plainValue(value)
	}
	return out
}

// plainValue writes a JSON value without its quotes.
func plainValue(raw json.RawMessage) string {
	var text string
	var list []string
	switch {
	case string(raw) == "null":
		return ""
	case json.Unmarshal(raw, &text) == nil:
		return text
	case json.Unmarshal(raw, &list) == nil:
		return strings.Join(list, ", ")
	}
	return string(raw)
}
