package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// printJSON prints v as indented JSON. What came from the API keeps the order
// and the spelling of its fields and numbers.
func (a *app) printJSON(v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, text.Bytes(), "", "  "); err != nil {
		return err
	}
	_, err := a.out.Write(pretty.Bytes())
	return err
}

// table prints rows below a header, columns aligned; those whose header begins
// with a ">" (which is not printed) to the right, as numbers are.
func (a *app) table(header []string, rows [][]string) {
	widths := make([]int, len(header))
	lines := make([][]string, 0, len(rows)+1)
	right := make([]bool, len(header))
	titles := make([]string, len(header))
	for i, title := range header {
		titles[i], right[i] = strings.TrimPrefix(title, ">"), strings.HasPrefix(title, ">")
	}
	for _, row := range append([][]string{titles}, rows...) {
		line := make([]string, len(header))
		for i, cell := range row {
			line[i] = oneLine(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if right[i] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
			b.WriteString("  ")
		}
		fmt.Fprintln(a.out, strings.TrimRight(b.String(), " "))
	}
}

// pairs prints names and their values, one pair a line.
func (a *app) pairs(pairs ...[2]string) {
	width := 0
	for _, pair := range pairs {
		width = max(width, utf8.RuneCountInString(pair[0]))
	}
	for _, pair := range pairs {
		fmt.Fprintf(a.out, "%-*s  %s\n", width, oneLine(pair[0]), oneLine(pair[1]))
	}
}

// moment writes a time for people; a zero one as never.
func moment(t *time.Time, zone *time.Location, never string) string {
	if t == nil || t.IsZero() {
		return never
	}
	return t.In(zone).Format("2006-01-02 15:04")
}

// joined writes a list, or what an empty one means.
func joined(list []string, empty string) string {
	if len(list) == 0 {
		return empty
	}
	return strings.Join(list, ", ")
}

// dash writes an empty cell as one that can be seen.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// block prints lines that were written for people elsewhere.
func (a *app) block(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintln(a.out, oneLine(line))
	}
}
