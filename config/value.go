package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The functions of this file turn one layer of a setting into its type. Their
// errors are the texts of problems and never repeat what may be a secret.

// kindOf names the type of a TOML value.
func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "a text"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	default:
		return "a list"
	}
}

func asText(l layer) (string, error) {
	text, ok := l.value.(string)
	if !ok {
		return "", fmt.Errorf("is %s: write a text in quotes", kindOf(l.value))
	}
	return text, nil
}

// asName reads a text that may not be empty, has no control characters and is no
// longer than max bytes.
func asName(max int) func(layer) (string, error) {
	return func(l layer) (string, error) {
		text, err := asText(l)
		switch {
		case err != nil:
			return "", err
		case text == "":
			return "", errors.New("is empty")
		case len(text) > max:
			return "", fmt.Errorf("is longer than %d bytes", max)
		case hasControl(text):
			return "", errors.New("holds a control character")
		}
		return text, nil
	}
}

// asOneOf reads one of a few words. What stands there instead is not repeated: it
// may be a credential in the wrong place.
func asOneOf(words ...string) func(layer) (string, error) {
	return func(l layer) (string, error) {
		text, err := asText(l)
		if err != nil {
			return "", err
		}
		if !slices.Contains(words, text) {
			return "", fmt.Errorf("is none of %s", strings.TrimSuffix(strings.Join(words, ", "), ", "))
		}
		return text, nil
	}
}

func asBool(l layer) (bool, error) {
	if b, ok := l.value.(bool); ok {
		return b, nil
	}
	return false, fmt.Errorf("is %s: write true or false, without quotes", kindOf(l.value))
}

// asInt reads a whole number from low to high.
func asInt(low, high int64) func(layer) (int, error) {
	return func(l layer) (int, error) {
		n, ok := l.value.(int64)
		if l.plain {
			var err error
			n, err = strconv.ParseInt(l.value.(string), 10, 64)
			ok = err == nil
		}
		switch {
		case !ok && l.plain:
			return 0, errors.New("is not a whole number")
		case !ok:
			return 0, fmt.Errorf("is %s: write a whole number, without quotes", kindOf(l.value))
		case n < low || n > high:
			return 0, fmt.Errorf("is %d: write a number from %d to %d", n, low, high)
		}
		return int(n), nil
	}
}

func asDuration(l layer) (time.Duration, error) {
	text, ok := l.value.(string)
	if !ok {
		return 0, fmt.Errorf("is %s: write a duration in quotes, like \"30s\"", kindOf(l.value))
	}
	return ParseDuration(text)
}

// asSize reads a size of at least low bytes.
func asSize(low int64) func(layer) (int64, error) {
	return func(l layer) (int64, error) {
		text, ok := l.value.(string)
		if !ok {
			return 0, fmt.Errorf("is %s: write a size in quotes, like \"64MiB\"", kindOf(l.value))
		}
		n, err := ParseSize(text)
		if err == nil && n < low {
			return 0, fmt.Errorf("is %s: write at least %s", FormatSize(n), FormatSize(low))
		}
		return n, err
	}
}

// asDollars reads US dollars, as micro-dollars.
func asDollars(l layer) (int64, error) {
	switch n := l.value.(type) {
	case int64:
		return microDollars(float64(n))
	case float64:
		return microDollars(n)
	}
	return 0, fmt.Errorf("is %s: write US dollars as a number, like 2.50", kindOf(l.value))
}

// asPath reads a path and makes it absolute; an empty one stays empty.
func asPath(l layer) (string, error) {
	text, err := asText(l)
	switch {
	case err != nil || text == "":
		return "", err
	case hasControl(text):
		return "", errors.New("holds a control character")
	case filepath.IsAbs(text):
		return filepath.Clean(text), nil
	}
	return filepath.Join(l.dir, text), nil
}

// needed refuses the empty value.
func needed[T comparable](parse func(layer) (T, error)) func(layer) (T, error) {
	return func(l layer) (T, error) {
		value, err := parse(l)
		var empty T
		if err == nil && value == empty {
			return empty, errors.New("is empty")
		}
		return value, err
	}
}

func asTimezone(l layer) (*time.Location, error) {
	text, err := asText(l)
	if err != nil {
		return nil, err
	}
	// The Go names for "none" and "this machine's" are no IANA names.
	if text == "" || text == "Local" {
		return nil, errors.New("is not an IANA time zone: write one like UTC or Europe/Berlin")
	}
	zone, err := time.LoadLocation(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone that this system knows: write an IANA name like UTC or Europe/Berlin", text)
	}
	return zone, nil
}

func hasControl(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}
