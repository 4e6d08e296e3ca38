package ui

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"tokenhub/db"
)

// functions are what templates write values with.
func (a *Admin) functions() template.FuncMap {
	return template.FuncMap{
		"num": whole, "short": short, "usd": usd, "ms": milliseconds, "percent": percent, "of": share,
		"when": when, "list": func(v ...any) []any { return v },
		"asset":  func(name string) string { return strings.TrimPrefix(a.assets()[name].path, "/") },
		"status": statusWord, "plural": plural, "args": args, "current": current,
		"usd64": func(d *dollars) string { return usd(int64(*d)) }, "more": func(n, shown int) int { return n - shown },
	}
}

// args makes a map of pairs, for templates that take several values.
func args(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return m
}

// number writes a whole number in groups of three digits.
func number(n int64) string {
	text := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// whole writes a number of either kind: templates don't convert.
func whole(n any) string {
	switch n := n.(type) {
	case int:
		return number(int64(n))
	case int64:
		return number(n)
	}
	return fmt.Sprint(n)
}

// short writes a number in few characters: 1.2M.
func short(n int64) string {
	v, unit := float64(n), ""
	for _, u := range []string{"k", "M", "B", "T"} {
		if math.Abs(v) < 999.5 || unit == "" && n < 10_000 {
			break
		}
		v, unit = v/1000, u
	}
	switch {
	case unit == "":
		return number(n)
	case v < 9.95:
		return fmt.Sprintf("%.1f%s", v, unit)
	}
	return fmt.Sprintf("%.0f%s", v, unit)
}

// usd writes micro-dollars for people: to the cent, small amounts to two digits
// that say something.
func usd(micro int64) string {
	sign := "$"
	if micro < 0 {
		sign, micro = "-$", -micro
	}
	cents := (micro + 5_000) / 10_000
	switch {
	case micro%1e6 == 0:
		return sign + number(micro/1e6)
	case cents >= 100_000_00:
		return sign + short((micro+500_000)/1e6)
	case micro >= 10_000:
		return fmt.Sprintf("%s%s.%02d", sign, number(cents/100), cents%100)
	}
	unit := int64(1)
	for micro/unit >= 100 {
		unit *= 10
	}
	return sign + strings.TrimRight(fmt.Sprintf("0.%06d", (micro+unit/2)/unit*unit), "0")
}

// milliseconds writes a duration as people say it.
func milliseconds(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "< 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// percent writes a share of 1.
func percent(v float64) string {
	switch {
	case v > 0 && v < 0.001:
		return "< 0.1 %"
	case v > 0 && v < 0.0995:
		return fmt.Sprintf("%.1f %%", v*100)
	}
	return fmt.Sprintf("%.0f %%", v*100)
}

// share returns part of whole, 0 when there is no whole.
func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// when writes a moment in UTC; a script turns it to the zone of whoever looks.
// The zero time is never.
func when(v any) template.HTML {
	t, ok := v.(time.Time)
	if m, is := v.(moment); is {
		t, ok = time.Time(m), true
	}
	if !ok || t.IsZero() {
		return "never"
	}
	t = t.UTC()
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `">` + t.Format("2006-01-02 15:04") + ` UTC</time>`)
}

// statusWord is the status of a request for people.
func statusWord(rec *db.Record) string {
	switch {
	case rec.Error != "" && rec.Status < 400:
		return rec.Error
	case rec.Status == 0:
		return "no answer"
	}
	return strconv.Itoa(rec.Status)
}

// plural writes a number with its word: 1 key, 2 keys.
func plural(n any, word string) string {
	var v int64
	switch n := n.(type) {
	case int:
		v = int64(n)
	case int64:
		v = n
	}
	if v == 1 {
		return "1 " + word
	}
	return number(v) + " " + word + "s"
}

// current reports whether a page belongs to the entry of the menu.
func current(page, entry string) bool {
	return page == entry || strings.HasPrefix(page, strings.TrimSuffix(entry, "s")+"-") || page+"s" == entry
}
