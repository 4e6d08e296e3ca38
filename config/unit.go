package config

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// The units of durations, the longest first.
var durationUnits = []struct {
	letter byte
	length time.Duration
}{
	{'w', 7 * 24 * time.Hour},
	{'d', 24 * time.Hour},
	{'h', time.Hour},
	{'m', time.Minute},
	{'s', time.Second},
}

// ParseDuration reads a duration of the configuration: whole numbers with the
// units w, d, h, m and s, the longer ones first, as in "30d" or "1h30m". "0s" is
// none. A day is 24 hours.
func ParseDuration(text string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is not a duration: write it like 30s, 5m, 1h30m, 12h, 30d or 2w", text)
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%q is negative: a duration is 0s or more", text)
	}
	if text == "" {
		return 0, wrong
	}
	var total time.Duration
	units := durationUnits
	for rest := text; rest != ""; {
		digits := countDigits(rest)
		if digits == 0 || digits == len(rest) {
			return 0, wrong
		}
		letter := rest[digits]
		for len(units) > 0 && units[0].letter != letter {
			units = units[1:]
		}
		if len(units) == 0 {
			return 0, wrong
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil || n > (math.MaxInt64-int64(total))/int64(units[0].length) {
			return 0, fmt.Errorf("%q is too long: at most 292 years can be counted", text)
		}
		total += time.Duration(n) * units[0].length
		units, rest = units[1:], rest[digits+1:]
	}
	return total, nil
}

// FormatDuration writes d so that [ParseDuration] reads it back; fractions of a
// second are cut.
func FormatDuration(d time.Duration) string {
	if d < time.Second {
		return "0s"
	}
	var b strings.Builder
	for _, u := range durationUnits {
		if u.letter == 'w' { // 30d and 400d stay what people wrote
			continue
		}
		if n := d / u.length; n > 0 {
			fmt.Fprintf(&b, "%d%c", n, u.letter)
			d -= n * u.length
		}
	}
	return b.String()
}

// The units of sizes, the largest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"B", 1},
}

// ParseSize reads a size in bytes: a whole number with KiB, MiB, GiB, B or, which
// is the same as B, nothing.
func ParseSize(text string) (int64, error) {
	wrong := fmt.Errorf("%q is not a size: write it like 64MiB, 512KiB or 1GiB", text)
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%q is negative: a size is 0 or more", text)
	}
	digits := countDigits(text)
	if digits == 0 {
		return 0, wrong
	}
	factor := int64(1)
	if name := text[digits:]; name != "" {
		factor = 0
		for _, u := range sizeUnits {
			if u.name == name {
				factor = u.bytes
			}
		}
		if factor == 0 {
			return 0, wrong
		}
	}
	n, err := strconv.ParseInt(text[:digits], 10, 64)
	if err != nil || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return n * factor, nil
}

// FormatSize writes n bytes in the largest unit that divides it, so that
// [ParseSize] reads it back.
func FormatSize(n int64) string {
	for _, u := range sizeUnits {
		if n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// maxDollars is the most that one amount may be, so that sums stay far from the
// end of an int64 of micro-dollars.
const maxDollars = 1_000_000_000

// microDollars turns an amount of US dollars into micro-dollars, rounded half up.
// The number is taken as it is written in decimal: 0.1 is a tenth.
func microDollars(usd float64) (int64, error) {
	switch {
	case math.IsNaN(usd) || math.IsInf(usd, 0):
		return 0, errors.New("is not an amount of money")
	case usd < 0:
		return 0, errors.New("is negative: write 0 or more US dollars")
	case usd > maxDollars:
		return 0, fmt.Errorf("is too large: at most %d US dollars", maxDollars)
	}
	micro, ok := new(big.Rat).SetString(strconv.FormatFloat(usd, 'f', -1, 64))
	if !ok {
		return 0, errors.New("is not an amount of money")
	}
	micro.Mul(micro, big.NewRat(1_000_000, 1)).Add(micro, big.NewRat(1, 2))
	rounded := new(big.Int).Quo(micro.Num(), micro.Denom()).Int64()
	if rounded == 0 && usd > 0 { // it would be free
		return 0, errors.New("is too small: the least is 0.000001 US dollars")
	}
	return rounded, nil
}

// ParseUSD reads an amount of US dollars in decimal, as in "20", "1.5" or
// "0.000001", and returns it in micro-dollars, exactly. More than six decimals,
// a sign, an exponent or more than a billion dollars are errors.
func ParseUSD(text string) (int64, error) {
	whole, fraction, point := strings.Cut(text, ".")
	if whole == "" || countDigits(whole) != len(whole) || countDigits(fraction) != len(fraction) || point && fraction == "" {
		return 0, fmt.Errorf("%q is not an amount of US dollars: write it like 20, 1.5 or 0.000001", text)
	}
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > 6 {
		return 0, fmt.Errorf("%q has more than six decimals: the least is 0.000001 US dollars", text)
	}
	dollars, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || dollars > maxDollars || dollars == maxDollars && fraction != "" {
		return 0, fmt.Errorf("%q is too large: at most %d US dollars", text, maxDollars)
	}
	micro, err := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	return dollars*1_000_000 + micro, err
}

// FormatUSD writes micro-dollars as US dollars with as many decimals as they need:
// "20", "1.5", "0.000001". [ParseUSD] reads it back if it is not negative.
func FormatUSD(micro int64) string {
	sign, abs := "", uint64(micro)
	if micro < 0 {
		sign, abs = "-", -abs
	}
	text := fmt.Sprintf("%s%d.%06d", sign, abs/1_000_000, abs%1_000_000)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

func countDigits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
