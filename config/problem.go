package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	// File is the file that holds the mistake; empty for a flag or a variable.
	File string
	// Line counts from 1; 0 = unknown, or not in a file.
	Line int
	// Field is the path of the key (providers[0].base_url), the name of the
	// environment variable, or the flag; empty where the file as a whole is meant.
	Field string
	// Text says what is wrong and what would be right. It never holds a secret.
	Text string
}

// String returns the problem as one line: "file:line: field: text".
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is the error of [Load]: all that is wrong, at once.
type Problems struct {
	// All is never empty; ordered by file and line.
	All []Problem
}

// Error returns all problems, one per line.
func (p *Problems) Error() string {
	lines := make([]string, len(p.All))
	for i, one := range p.All {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Wrong returns the error of [Load] for one mistake that others find in what makes
// up the configuration; field is the variable or flag, or empty.
func Wrong(field, format string, args ...any) error {
	return &Problems{All: []Problem{{Field: field, Text: fmt.Sprintf(format, args...)}}}
}

// sorted returns the problems as an error, or nil when there are none.
func sorted(all []Problem) error {
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field))
	})
	return &Problems{All: all}
}
