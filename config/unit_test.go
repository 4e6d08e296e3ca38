package config

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "30d": 30 * day, "2w": 14 * day, "1w1d1h1m1s": 8*day + time.Hour + 61*time.Second,
	} {
		if got, err := ParseDuration(text); got != want || err != nil {
			t.Errorf("ParseDuration(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "s", "1x", "-1s", "1s1s", "1s1h", "1.5h", " 1s", "1S", "1ms", "99999999999999999999s", "15251w"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %s, want an error", text, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "7": 7, "7B": 7, "1KiB": 1024, "64MiB": 64 << 20, "2GiB": 2 << 30} {
		if got, err := ParseSize(text); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "KiB", "1KB", "1 KiB", "-1", "1.5MiB", "8589934592GiB", "99999999999999999999"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestParseUSD(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "20": 20_000_000, "1.5": 1_500_000, "0.000001": 1, "0.10000000": 100_000, "1000000000": 1e15, "007": 7_000_000,
	} {
		if got, err := ParseUSD(text); got != want || err != nil {
			t.Errorf("ParseUSD(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".5", "1.", "-1", "+1", "1e3", "1,5", "$1", "0.0000001", "1000000001", "1000000000.1", "99999999999999999999", " 1"} {
		if got, err := ParseUSD(text); err == nil {
			t.Errorf("ParseUSD(%q) = %d, want an error", text, got)
		}
	}
	for micro, want := range map[int64]string{0: "0", 1: "0.000001", 1_500_000: "1.5", 20_000_000: "20", -1_500_000: "-1.5", math.MinInt64: "-9223372036854.775808"} {
		if got := FormatUSD(micro); got != want {
			t.Errorf("FormatUSD(%d) = %s, want %s", micro, got, want)
		}
	}
}

func TestMicroDollars(t *testing.T) {
	for usd, want := range map[float64]int64{0: 0, 0.1: 100_000, 2.5: 2_500_000, 0.0000015: 2, 0.00001667: 17, 1e9: 1e15, 0.075: 75_000} {
		if got, err := microDollars(usd); got != want || err != nil {
			t.Errorf("microDollars(%v) = %d, %v, want %d", usd, got, err, want)
		}
	}
	for _, usd := range []float64{-1, 1e-7, 1e10, math.NaN(), math.Inf(1)} {
		if got, err := microDollars(usd); err == nil {
			t.Errorf("microDollars(%v) = %d, want an error", usd, got)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, text := range []string{"30s", "1w2d3h4m5s", "64MiB", "1.5", "0.000001", "9223372036s", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil {
			if again, err := ParseDuration(FormatDuration(d)); again != d || d < 0 || err != nil {
				t.Errorf("duration %q: %d, again %d, %v", text, d, again, err)
			}
		}
		if n, err := ParseSize(text); err == nil {
			if again, err := ParseSize(FormatSize(n)); again != n || n < 0 || err != nil {
				t.Errorf("size %q: %d, again %d, %v", text, n, again, err)
			}
		}
		if n, err := ParseUSD(text); err == nil {
			if again, err := ParseUSD(FormatUSD(n)); again != n || n < 0 || err != nil {
				t.Errorf("USD %q: %d, again %d, %v", text, n, again, err)
			}
			if strings.ContainsAny(text, "eE+-") {
				t.Errorf("USD %q was taken", text)
			}
		}
	})
}
