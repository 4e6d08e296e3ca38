package demo

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"strings"
	"unicode"
)

const (
	// dimensions is the size of a vector when the request doesn't say.
	dimensions = 256
	// mostDimensions is the size of the largest vector.
	mostDimensions = 4096
	// mostInputs is how many texts one request may hold.
	mostInputs = 2048
)

// input is one text, or an array of token numbers that stands for one.
type input struct {
	text   string
	tokens int
}

// inputs reads the forms that OpenAI allows: a text, texts, token numbers,
// arrays of token numbers.
type inputs []input

func (in *inputs) UnmarshalJSON(raw []byte) error {
	var text string
	var many []json.RawMessage
	switch {
	case string(raw) == "null":
		return nil
	case json.Unmarshal(raw, &text) == nil:
		*in = inputs{{text, Tokens(text)}}
		return nil
	case json.Unmarshal(raw, &many) != nil:
		return badRequest("input", "The input must be a text, an array of texts, or arrays of token numbers.")
	}
	for _, one := range many {
		var numbers []int
		var number int
		switch {
		case json.Unmarshal(one, &text) == nil:
			*in = append(*in, input{text, Tokens(text)})
		case json.Unmarshal(one, &numbers) == nil:
			*in = append(*in, input{fmt.Sprint(numbers), len(numbers)})
		case json.Unmarshal(one, &number) == nil: // all of raw is one input
			if json.Unmarshal(raw, &numbers) == nil {
				*in = inputs{{fmt.Sprint(numbers), len(numbers)}}
				return nil
			}
			fallthrough
		default:
			return badRequest("input", "The input must be a text, an array of texts, or arrays of token numbers.")
		}
	}
	return nil
}

func (p *provider) embeddings(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Model      string `json:"model"`
		Input      inputs `json:"input"`
		Dimensions *int   `json:"dimensions"`
		Format     string `json:"encoding_format"`
	}
	if err := decode(w, r, &req); err != nil {
		return err
	}
	size := dimensions
	if req.Dimensions != nil {
		size = *req.Dimensions
	}
	switch {
	case req.Model != EmbeddingModel:
		return noSuchModel(req.Model)
	case len(req.Input) == 0 || len(req.Input) > mostInputs:
		return badRequest("input", "input must hold between 1 and %d texts.", mostInputs)
	case size < 1 || size > mostDimensions:
		return badRequest("dimensions", "dimensions must be between 1 and %d, not %d.", mostDimensions, size)
	case req.Format != "" && req.Format != "float" && req.Format != "base64":
		return badRequest("encoding_format", "encoding_format must be float or base64.")
	}

	type row struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	rows, tokens := make([]row, len(req.Input)), 0
	for i, in := range req.Input {
		v := vector(in.text, size)
		rows[i] = row{"embedding", i, v}
		if req.Format == "base64" {
			rows[i].Embedding = littleEndian(v)
		}
		tokens += in.tokens
	}
	if err := p.pace().skip(r.Context(), 1); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list",
		"data":   rows,
		"model":  EmbeddingModel,
		"usage":  map[string]int{"prompt_tokens": tokens, "total_tokens": tokens},
	})
	return nil
}

// vector is the sum of a fixed direction per word, at length 1: the same text
// has the same vector, and texts that share words lie close to each other.
func vector(text string, size int) []float32 {
	sum := make([]float64, size)
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	if len(words) == 0 {
		words = []string{text}
	}
	for _, word := range words {
		h := fnv.New64a()
		h.Write([]byte(word))
		state := h.Sum64()
		for i := range sum {
			state = state*6364136223846793005 + 1442695040888963407
			sum[i] += float64(int32(state>>32)) / math.MaxInt32
		}
	}
	length := 0.0
	for _, x := range sum {
		length += x * x
	}
	length = math.Sqrt(length)
	v := make([]float32, size)
	for i, x := range sum {
		v[i] = float32(x / length)
	}
	return v
}

// littleEndian is the form that OpenAI's SDKs ask for: float32, base64.
func littleEndian(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}
