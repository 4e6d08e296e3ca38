package proxy

import (
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// priceHeader is the first row of a price file: a CSV file with # comments.
// Prices are in US dollars, those of tokens per million of them. An empty
// cached_input or cache_write is that of input; a row whose input and output are
// both empty is priced by image, second or call, or says the window only.
var priceHeader = []string{"model", "input", "cached_input", "cache_write", "output", "image", "second", "call", "context_window"}

// priceRow is what a price file says about one model.
type priceRow struct {
	price price
	// priced: there is a price, which may be 0, and not the window alone.
	priced bool
	// window is the context window in tokens, 0 = unknown.
	window int64
}

// priceTable is the content of a price file, by model name. A name that ends in
// "/*" holds for all models of the provider before it.
type priceTable struct {
	rows map[string]priceRow
}

//go:embed prices.csv
var builtinFile string

var readBuiltin = sync.OnceValue(func() *priceTable {
	t, err := readPrices(strings.NewReader(builtinFile))
	if err != nil {
		panic("proxy: prices.csv: " + err.Error()) // a test reads it
	}
	return t
})

// builtinPrices are the prices that the program was built with.
func builtinPrices() *priceTable { return readBuiltin() }

// maxPriceFile bounds a price file in bytes.
const maxPriceFile = 16 << 20

// readPrices reads a price file. It is strict: an unknown column, a price that
// is no number or a model that stands twice is an error that names the line.
func readPrices(r io.Reader) (*priceTable, error) {
	limited := &io.LimitedReader{R: r, N: maxPriceFile + 1}
	in := csv.NewReader(limited)
	in.Comment = '#'
	in.ReuseRecord = true
	head, err := in.Read()
	if err == io.EOF {
		return nil, errors.New("the file has no rows")
	}
	if err != nil {
		return nil, err
	}
	if strings.Join(head, ",") != strings.Join(priceHeader, ",") {
		return nil, fmt.Errorf("the first row must be %q", strings.Join(priceHeader, ","))
	}
	t := &priceTable{rows: make(map[string]priceRow, 400)} // the built-in table has as many
	for {
		record, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		line, _ := in.FieldPos(0)
		name := strings.Clone(record[0])
		row, err := parseRow(record)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if _, twice := t.rows[name]; twice {
			return nil, fmt.Errorf("line %d: %q stands twice", line, name)
		}
		t.rows[name] = row
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxPriceFile)
	}
	return t, nil
}

func parseRow(record []string) (priceRow, error) {
	if record[0] == "" {
		return priceRow{}, errors.New("the model has no name")
	}
	var row priceRow
	p := &row.price
	for i, at := range []*int64{&p.input, &p.cached, &p.written, &p.output, &p.image, &p.second, &p.call} {
		text := record[i+1]
		if text == "" {
			if i == 1 || i == 2 {
				*at = p.input
			}
			continue
		}
		micro, err := parseDollars(text)
		if err != nil {
			return priceRow{}, fmt.Errorf("%s of %s: %w", priceHeader[i+1], record[0], err)
		}
		*at = micro
		row.priced = true
		p.tokens = p.tokens || i < 4
	}
	if text := record[8]; text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return priceRow{}, fmt.Errorf("context_window of %s: %q is not a number of tokens", record[0], text)
		}
		row.window = n
	}
	return row, nil
}

// maxDollars bounds a single price.
const maxDollars = 1_000_000

// parseDollars reads an amount in dollars, exact to the micro-dollar.
func parseDollars(text string) (int64, error) {
	whole, frac, _ := strings.Cut(text, ".")
	if len(frac) > 6 {
		return 0, fmt.Errorf("%q has more than 6 decimals", text)
	}
	digits := whole + frac + "000000"[len(frac):]
	for _, ch := range digits {
		if ch < '0' || ch > '9' {
			return 0, fmt.Errorf("%q is not an amount in dollars", text)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || whole == "" || n > maxDollars*million || strings.HasSuffix(text, ".") {
		return 0, fmt.Errorf("%q is not an amount in dollars", text)
	}
	return n, nil
}

// formatDollars writes micro-dollars as parseDollars reads them.
func formatDollars(micro int64) string {
	text := fmt.Sprintf("%d.%06d", micro/million, micro%million)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// PriceFile is the name of the price file in the data folder, where there is one.
const PriceFile = "prices.csv"

// readPriceFile reads the price file of a data folder; nil without one.
func readPriceFile(dir string) (*priceTable, error) {
	path := filepath.Join(dir, PriceFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := readPrices(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}
