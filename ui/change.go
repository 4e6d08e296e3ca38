package ui

import (
	"bytes"
	"encoding/json"
)

// none is what stands in the audit trail for a field that has no value.
var none = json.RawMessage("null")

// changes returns the fields in which two objects differ, as two JSON objects.
// It goes one level down, so that of a key's limits only the changed ones are told.
// Both are empty when nothing differs. A nil before is a thing that was made: its
// fields that say nothing are left out.
func changes(before, after any) (was, is string) {
	old, now := members(before), members(after)
	left, right := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for _, name := range union(old, now) {
		a, b := or(old[name]), or(now[name])
		switch {
		case bytes.Equal(a, b), before == nil && saysNothing(b):
		case before != nil && a[0] == '{' && b[0] == '{':
			was, is := changes(a, b)
			left[name], right[name] = json.RawMessage(was), json.RawMessage(is)
		default:
			left[name], right[name] = a, b
		}
	}
	if len(right) == 0 {
		return "", ""
	}
	if before == nil {
		return "", encode(right)
	}
	return encode(left), encode(right)
}

// members returns the members of v as a JSON object; none for nil. What is given
// is made here and always an object.
func members(v any) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	if v != nil {
		text, err := json.Marshal(v)
		if err != nil || json.Unmarshal(text, &m) != nil {
			return map[string]json.RawMessage{}
		}
	}
	return m
}

func union(a, b map[string]json.RawMessage) []string {
	var names []string
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		if _, both := a[name]; !both {
			names = append(names, name)
		}
	}
	return names
}

func or(v json.RawMessage) json.RawMessage {
	if len(v) == 0 {
		return none
	}
	return v
}

// saysNothing reports whether v is a value that a new thing has by itself.
func saysNothing(v json.RawMessage) bool {
	switch string(v) {
	case "null", "[]", "{}", "false", `""`:
		return true
	}
	return false
}

// encode returns v as JSON text.
func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "{}"
	}
	return string(text)
}
