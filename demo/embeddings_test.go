package demo

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"
)

// embeddingsJSON is the answer with vectors of kind V.
type embeddingsJSON[V any] struct {
	Data []struct {
		Index     int
		Embedding V
	}
	Usage struct {
		Prompt int `json:"prompt_tokens"`
		Total  int `json:"total_tokens"`
	}
}

func TestEmbeddings(t *testing.T) {
	for _, tt := range []struct {
		fields             string
		rows, size, tokens int
	}{
		{`"input":"Hello, world!"`, 1, dimensions, 4},
		{`"input":["Hello, world!","hi"]`, 2, dimensions, 5},
		{`"input":[1,2,3]`, 1, dimensions, 3},
		{`"input":[[1,2,3],[4]]`, 2, dimensions, 4},
		{`"input":"hi","dimensions":1536`, 1, 1536, 1},
	} {
		body := `{"model":"demo-embedding",` + tt.fields
		floats := post[embeddingsJSON[[]float32]](t, "/v1/embeddings", body+`}`)
		packed := post[embeddingsJSON[string]](t, "/v1/embeddings", body+`,"encoding_format":"base64"}`)
		if len(floats.Data) != tt.rows || floats.Usage.Prompt != tt.tokens || floats.Usage.Total != tt.tokens {
			t.Errorf("%s: got %d rows, %+v", tt.fields, len(floats.Data), floats.Usage)
		}
		for i, row := range floats.Data {
			if len(row.Embedding) != tt.size || row.Index != i {
				t.Errorf("%s: row %d has index %d and %d dimensions, want %d", tt.fields, i, row.Index, len(row.Embedding), tt.size)
			}
			if l := dot(row.Embedding, row.Embedding); math.Abs(l-1) > 1e-4 {
				t.Errorf("%s: row %d has length² %v, want 1", tt.fields, i, l)
			}
			raw, err := base64.StdEncoding.DecodeString(packed.Data[i].Embedding)
			got := make([]float32, len(raw)/4)
			if _, err2 := binary.Decode(raw, binary.LittleEndian, got); err != nil || err2 != nil || !slices.Equal(got, row.Embedding) {
				t.Errorf("%s: row %d is another vector in base64 (%v, %v)", tt.fields, i, err, err2)
			}
		}
	}
}

func TestVectorsOfLikeTextsAreNear(t *testing.T) {
	a, b, c := vector("the cat sat on the mat", 256), vector("A cat on the mat.", 256), vector("quarterly revenue grew", 256)
	if near, far := dot(a, b), dot(a, c); near < 0.5 || math.Abs(far) > 0.4 {
		t.Errorf("like texts at %.2f, unlike at %.2f", near, far)
	}
	if got, want := fmt.Sprintf("%.4f", vector("fixed", 3)), "[-0.7899 0.0038 0.6132]"; got != want {
		t.Errorf("the vector of a text changed: %s, was %s", got, want)
	}
}

func dot(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
