package proxy

import (
	"bytes"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tokenhub/config"
	"tokenhub/db"
)

// The order in which a price is looked up.
func TestLookup(t *testing.T) {
	imported, err := readPrices(strings.NewReader(strings.Join(priceHeader, ",") + "\n" +
		"gpt-4o,7,,,8,,,,\n" +
		"azure/gpt-4o-mini,0.2,,,0.7,,,,\n" +
		"window-only,,,,,,,,1000\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPrices([]config.Price{
		{Model: "gpt-*", Input: 1, Tokens: true},
		{Model: "openai/gpt-4?", Input: 2, Tokens: true},
		{Model: "openai/*", Input: 3, Tokens: true},
		{Model: "my-image", Image: 4},
		{Model: "free", Tokens: true},
	}, imported)
	for _, c := range []struct {
		provider, served string
		want             int64
		ok               bool
	}{
		{"openai", "gpt-4o", 2, true},                // [[prices]] provider/model, first match
		{"openai", "claude-3-haiku", 3, true},        // still before the table
		{"azure", "gpt-4o", 1, true},                 // [[prices]] model
		{"azure", "org/gpt-4o", 7_000_000, true},     // imported, by the part after the last slash
		{"azure", "o1", 15_000_000, true},            // built in
		{"azure", "o1-2024-12-17", 15_000_000, true}, // without its date
		{"or", "anthropic/claude-haiku-4-5-20251001", 1_000_000, true},
		{"vertex", "claude-opus-4@20250514", 15_000_000, true},
		{"anthropic", "claude-haiku-4-5-20251001", 1_000_000, true},
		{"groq", "qwen/qwen3-32b", 290_000, true}, // a name with its slash
		{"ollama", "qwen3:14b", 0, true},
		{"demo", "anything", 0, true},
		{"local", "free", 0, true},
		{"local", "qwen3:14b", 0, false},
		{"x", "my-image", 0, true},
		{"x", "window-only", 0, false},
		{"x", "o1-9999-99-99", 0, false}, // no date
		{"x", "", 0, false},
		{"x", "-20240101", 0, false},
	} {
		got, ok := p.lookup(c.provider, c.served)
		if ok != c.ok || got.input != c.want {
			t.Errorf("%s/%s: input %d, %v; want %d, %v", c.provider, c.served, got.input, ok, c.want, c.ok)
		}
	}
	if pr, _ := p.lookup("x", "my-image"); pr.tokens || pr.image != 4 {
		t.Errorf("a price per image: %+v", pr)
	}
}

func TestCost(t *testing.T) {
	pr := price{input: 2_500_000, cached: 1_250_000, written: 3_000_000, output: 10_000_000, image: 40_000, second: 100, call: 5_000}
	for _, c := range []struct {
		u    db.Usage
		a    amounts
		want int64
	}{
		{db.Usage{}, amounts{}, 0},
		{db.Usage{Input: 1000, Output: 500}, amounts{}, 7_500},
		{db.Usage{Input: 1000, CachedInput: 400, CacheWrite: 100, Output: 500}, amounts{}, 1250 + 500 + 300 + 5000},
		{db.Usage{Input: 1000, Output: 500}, amounts{images: 2, millis: 1500, calls: 1}, 7_500 + 80_000 + 150 + 5_000},
		{db.Usage{Input: 1, CachedInput: 7, CacheWrite: 7}, amounts{}, 1}, // 1.25, parts clamped to the whole
		{db.Usage{Input: -3, Output: -3}, amounts{images: -1}, 0},
	} {
		if got := pr.cost(c.u, c.a); got != c.want {
			t.Errorf("%+v %+v: %d, want %d", c.u, c.a, got, c.want)
		}
	}
	// Half up, once: 0.5 is 1, and four quarters are 1, not 4 or 0.
	half := price{input: 500_000}
	if got := half.cost(db.Usage{Input: 1}, amounts{}); got != 1 {
		t.Errorf("half a micro-dollar is %d", got)
	}
	quarter := price{input: 250_000, output: 250_000, call: 0, second: 250}
	if got := quarter.cost(db.Usage{Input: 1, Output: 2}, amounts{millis: 1}); got != 1 {
		t.Errorf("four quarters are %d", got)
	}
	if got := half.inputCost(3); got != 2 {
		t.Errorf("the claim for 1.5 is %d", got)
	}
	if got := pr.inputCost(1_000_000); got != 3_000_000 {
		t.Errorf("the claim is not at the dearest price: %d", got)
	}
	if got := pr.fixed(amounts{images: 3, calls: 1}); got != 125_000 {
		t.Errorf("fixed: %d", got)
	}
}

// Costs agree with exact arithmetic, and what no int64 holds is the largest one.
func TestCostAgainstBig(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	number := func() int64 { return r.Int64() >> r.IntN(63) }
	for range 20000 {
		pr := price{input: number(), cached: number(), written: number(), output: number(), image: number(), second: number(), call: number()}
		u := db.Usage{Input: number(), Output: number()}
		u.CachedInput = r.Int64N(u.Input + 1)
		u.CacheWrite = r.Int64N(u.Input - u.CachedInput + 1)
		a := amounts{images: number(), millis: number(), calls: 1}
		sum := new(big.Int)
		add := func(n, p, scale int64) {
			x := new(big.Int).Mul(big.NewInt(n), big.NewInt(p))
			sum.Add(sum, x.Mul(x, big.NewInt(scale)))
		}
		add(u.Input-u.CachedInput-u.CacheWrite, pr.input, 1)
		add(u.CachedInput, pr.cached, 1)
		add(u.CacheWrite, pr.written, 1)
		add(u.Output, pr.output, 1)
		add(a.images, pr.image, million)
		add(a.calls, pr.call, million)
		add(a.millis, pr.second, million/1000)
		sum.Add(sum, big.NewInt(million/2)).Div(sum, big.NewInt(million))
		want := int64(math.MaxInt64)
		if sum.IsInt64() {
			want = sum.Int64()
		}
		if got := pr.cost(u, a); got != want {
			t.Fatalf("%+v for %+v %+v: %d, want %d", pr, u, a, got, want)
		}
	}
}

func TestBuiltinPrices(t *testing.T) {
	table, err := readPrices(strings.NewReader(builtinFile))
	if err != nil {
		t.Fatal(err)
	}
	if len(table.rows) < 200 {
		t.Errorf("%d models", len(table.rows))
	}
	for name, row := range table.rows {
		p := row.price
		if !row.priced {
			t.Errorf("%s has no price", name)
		}
		if p.tokens && p.cached > p.input {
			t.Errorf("%s: cached input costs more than input", name)
		}
		if p.written > 0 && p.written < p.input || p.written > 2*p.input {
			t.Errorf("%s: writing to the cache costs %d, input %d", name, p.written, p.input)
		}
		if base := undated(name); base != name && table.rows[base] == row {
			t.Errorf("%s says no more than %s", name, base)
		}
	}
	if got := contextWindow("openai/gpt-4o-2024-08-06"); got != 128000 {
		t.Errorf("window of gpt-4o: %d", got)
	}
	if got := contextWindow("unheard-of"); got != 0 {
		t.Errorf("window of an unknown model: %d", got)
	}
}

func TestReadPricesIsStrict(t *testing.T) {
	head := strings.Join(priceHeader, ",") + "\n"
	for name, text := range map[string]string{
		"empty":          "# nothing\n",
		"other columns":  "model,price\na,1\n",
		"few columns":    head + "a,1\n",
		"no name":        head + ",1,,,1,,,,\n",
		"twice":          head + "a,1,,,1,,,,\na,1,,,1,,,,\n",
		"negative":       head + "a,-1,,,1,,,,\n",
		"exponent":       head + "a,1e3,,,1,,,,\n",
		"words":          head + "a,one,,,1,,,,\n",
		"too fine":       head + "a,0.0000001,,,1,,,,\n",
		"too large":      head + "a,1000001,,,1,,,,\n",
		"far too large":  head + "a,99999999999999999999,,,1,,,,\n",
		"dot":            head + "a,1.,,,1,,,,\n",
		"point alone":    head + "a,.5,,,1,,,,\n",
		"window zero":    head + "a,1,,,1,,,,0\n",
		"window of text": head + "a,1,,,1,,,,big\n",
	} {
		if table, err := readPrices(strings.NewReader(text)); err == nil {
			t.Errorf("%s: read %+v", name, table.rows)
		}
	}
	large := head + strings.Repeat("# "+strings.Repeat("x", 1<<20)+"\n", 17)
	if _, err := readPrices(strings.NewReader(large)); err == nil {
		t.Error("a file of 17 MiB was read")
	}
}

func TestReadPriceFile(t *testing.T) {
	dir := t.TempDir()
	if table, err := readPriceFile(dir); table != nil || err != nil {
		t.Errorf("without a file: %v, %v", table, err)
	}
	path := filepath.Join(dir, PriceFile)
	if err := os.WriteFile(path, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readPriceFile(dir); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file of nonsense: %v", err)
	}
}

func TestImportLiteLLM(t *testing.T) {
	const in = `{
		"sample_spec": {"input_cost_per_token": 0.0, "mode": "one of"},
		"gpt-4o": {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06, "max_input_tokens": 128000, "mode": "chat", "supports_vision": true},
		"claude-x": {"input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05, "cache_read_input_token_cost": 3e-07, "cache_creation_input_token_cost": 3.75e-06, "input_cost_per_image": 0.0048, "mode": "chat"},
		"local/free": {"input_cost_per_token": 0, "output_cost_per_token": 0.0, "mode": "chat"},
		"whisper-1": {"input_cost_per_second": 0.0001, "output_cost_per_second": 0.0, "mode": "audio_transcription"},
		"draw": {"output_cost_per_image": 0.04, "mode": "image_generation"},
		"rank": {"input_cost_per_query": 0.002, "input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "mode": "rerank"},
		"per-pixel": {"input_cost_per_pixel": 1.9e-08, "mode": "image_generation"},
		"negative": {"input_cost_per_token": -1e-06},
		"words": {"input_cost_per_token": "2.5e-06"},
		"huge": {"input_cost_per_token": 1e300},
		"not an object": 7,
		"gpt-4o": {"input_cost_per_token": 1}
	}`
	var out bytes.Buffer
	written, skipped, err := ImportLiteLLM(strings.NewReader(in), &out)
	if err != nil || written != 6 || skipped != 6 {
		t.Fatalf("wrote %d, left out %d, %v\n%s", written, skipped, err, &out)
	}
	table, err := readPrices(&out)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]priceRow{
		"gpt-4o":     {price{input: 2_500_000, cached: 1_250_000, written: 2_500_000, output: 10_000_000, tokens: true}, true, 128000},
		"claude-x":   {price{input: 3_000_000, cached: 300_000, written: 3_750_000, output: 15_000_000, tokens: true}, true, 0},
		"local/free": {price{tokens: true}, true, 0},
		"whisper-1":  {price{second: 100}, true, 0},
		"draw":       {price{image: 40_000}, true, 0},
		"rank":       {price{call: 2_000, tokens: true}, true, 0},
	} {
		if got := table.rows[name]; got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"a":{"input_cost_per_token":1e-6}`, `{"a":1}`, `{"a"`} {
		out.Reset()
		if n, _, err := ImportLiteLLM(strings.NewReader(bad), &out); err == nil || n != 0 || out.Len() > 0 {
			t.Errorf("%q: %d, %v, %q", bad, n, err, &out)
		}
	}
}

func TestDollars(t *testing.T) {
	for _, n := range []int64{0, 1, 10, 999_999, million, 1_250_000, 150 * million, maxDollars * million} {
		text := formatDollars(n)
		if got, err := parseDollars(text); err != nil || got != n {
			t.Errorf("%d is written %q and read %d, %v", n, text, got, err)
		}
	}
	if got := formatDollars(2_500_000) + " " + formatDollars(75_000) + " " + formatDollars(100*million); got != "2.5 0.075 100" {
		t.Error(got)
	}
}
