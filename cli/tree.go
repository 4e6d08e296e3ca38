package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// member is one field of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// members returns the fields of an object in their order, or nil for any other
// value.
func members(raw json.RawMessage) []member {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil
	}
	var all []member
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return all
		}
		m := member{name: fmt.Sprint(name)}
		if err := dec.Decode(&m.value); err != nil {
			return all
		}
		all = append(all, m)
	}
	return all
}

// tree prints a JSON object for people: a line for each field that says
// something, what is inside another one indented below it.
func (a *app) tree(raw json.RawMessage, indent string) {
	for _, m := range members(raw) {
		label := indent + oneLine(strings.ReplaceAll(m.name, "_", " "))
		if text, ok := leaf(m.value); ok {
			if text != "" {
				fmt.Fprintf(a.out, "%s: %s\n", label, oneLine(text))
			}
			continue
		}
		fmt.Fprintf(a.out, "%s:\n", label)
		var list []json.RawMessage
		if json.Unmarshal(m.value, &list) != nil {
			a.tree(m.value, indent+"  ")
			continue
		}
		for i, one := range list {
			fmt.Fprintf(a.out, "%s  %d.\n", indent, i+1)
			a.tree(one, indent+"     ")
		}
	}
}

// leaf returns the text of a value that fits on the line of its name: a plain
// one, or a list of such.
func leaf(raw json.RawMessage) (text string, ok bool) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		var texts []string
		for _, one := range list {
			text, ok := leaf(one)
			if !ok {
				return "", false
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, ", "), true
	}
	switch raw[0] {
	case '{':
		return "", len(members(raw)) == 0
	case '"':
		err := json.Unmarshal(raw, &text)
		return text, err == nil
	case 't':
		return "yes", true
	case 'f':
		return "no", true
	case 'n':
		return "", true
	}
	return string(raw), true
}
