package proxy

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxLiteLLM bounds LiteLLM's file in bytes; it has 2 MB.
const maxLiteLLM = 64 << 20

// litellmModel is the part of LiteLLM's description of a model that a price
// file can hold. Prices are in dollars per token, image, second or query.
type litellmModel struct {
	Input        json.RawMessage `json:"input_cost_per_token"`
	Cached       json.RawMessage `json:"cache_read_input_token_cost"`
	Written      json.RawMessage `json:"cache_creation_input_token_cost"`
	Output       json.RawMessage `json:"output_cost_per_token"`
	OutputImage  json.RawMessage `json:"output_cost_per_image"`
	InputImage   json.RawMessage `json:"input_cost_per_image"`
	InputSecond  json.RawMessage `json:"input_cost_per_second"`
	OutputSecond json.RawMessage `json:"output_cost_per_second"`
	Query        json.RawMessage `json:"input_cost_per_query"`
	Window       json.RawMessage `json:"max_input_tokens"`
	Mode         string          `json:"mode"`
}

// ImportLiteLLM reads LiteLLM's model_prices_and_context_window.json from r and
// writes a price file (see [PriceFile]) to w. It returns how many models it
// wrote and how many it left out, because their price is of a kind that a price
// file cannot hold (per pixel or character, say) or no plausible number. Nothing
// is written when r is not that file or is larger than 64 MiB.
func ImportLiteLLM(r io.Reader, w io.Writer) (written, skipped int, err error) {
	limited := &io.LimitedReader{R: r, N: maxLiteLLM + 1}
	rows, skipped, err := readLiteLLM(json.NewDecoder(bufio.NewReader(limited)))
	if limited.N <= 0 {
		err = fmt.Errorf("the file is larger than %d bytes", maxLiteLLM)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("import prices: %w", err)
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "# Imported from LiteLLM's model_prices_and_context_window.json: %d models,\n# %d left out. US dollars, tokens per million.\n", len(rows), skipped)
	table := csv.NewWriter(out)
	_ = table.Write(priceHeader) // what fails here fails at Flush
	_ = table.WriteAll(rows)
	if err := errors.Join(table.Error(), out.Flush()); err != nil {
		return 0, 0, fmt.Errorf("write prices: %w", err)
	}
	return len(rows), skipped, nil
}

func readLiteLLM(in *json.Decoder) (rows [][]string, skipped int, err error) {
	if t, err := in.Token(); err != nil || t != json.Delim('{') {
		return nil, 0, errors.New("the file is not a JSON object of models")
	}
	seen := map[string]bool{}
	for in.More() {
		t, err := in.Token()
		if err != nil {
			return nil, 0, err
		}
		name, _ := t.(string)
		var raw json.RawMessage
		if err := in.Decode(&raw); err != nil {
			return nil, 0, err
		}
		if name == "sample_spec" { // describes the format
			continue
		}
		var m litellmModel
		row, ok := []string(nil), false
		if json.Unmarshal(raw, &m) == nil {
			row, ok = m.row(name)
		}
		if !ok || seen[name] {
			skipped++
			continue
		}
		seen[name] = true
		rows = append(rows, row)
	}
	if _, err := in.Token(); err != nil {
		return nil, 0, err
	}
	if len(rows) == 0 {
		return nil, 0, errors.New("the file has no model with a price")
	}
	return rows, skipped, nil
}

// row is the model's row of a price file; false if it has none.
func (m *litellmModel) row(name string) ([]string, bool) {
	if name == "" || name[0] == '#' || strings.ContainsAny(name, "\r\n") || strings.TrimSpace(name) != name {
		return nil, false
	}
	row := make([]string, len(priceHeader))
	row[0] = name
	priced := false
	set := func(i int, raw json.RawMessage, per float64) bool {
		if len(raw) == 0 || string(raw) == "null" {
			return true
		}
		dollars, err := strconv.ParseFloat(string(raw), 64)
		micro := math.Round(dollars * per * million)
		if err != nil || !(micro >= 0 && micro <= maxDollars*million) {
			return false
		}
		row[i] = formatDollars(int64(micro))
		priced = true
		return true
	}
	image, second := m.OutputImage, m.OutputSecond
	if m.Mode == "image_generation" && len(image) == 0 {
		image = m.InputImage
	}
	if m.Mode != "image_generation" {
		image = nil // an image that is looked at costs tokens here
	}
	if m.Mode != "audio_transcription" {
		second = nil
	} else if string(second) == "" || string(second) == "0.0" || string(second) == "0" {
		second = m.InputSecond
	}
	ok := set(1, m.Input, million) && set(2, m.Cached, million) && set(3, m.Written, million) &&
		set(4, m.Output, million) && set(5, image, 1) && set(6, second, 1) && set(7, m.Query, 1)
	if !ok || !priced {
		return nil, false
	}
	if n, err := strconv.ParseInt(string(m.Window), 10, 64); err == nil && n > 0 {
		row[8] = strconv.FormatInt(n, 10)
	}
	return row, true
}
