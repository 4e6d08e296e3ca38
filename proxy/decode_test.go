package proxy

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	brotli "github.com/molecule-man/go-brrr"

	"tokenhub/db"
)

// flusher is a compressor that can be made to give out what it has.
type flusher interface {
	io.WriteCloser
	Flush() error
}

func compressors(t testing.TB) map[string]func(io.Writer) flusher {
	t.Helper()
	must := func(w flusher, err error) flusher {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	return map[string]func(io.Writer) flusher{
		"gzip":    func(w io.Writer) flusher { return gzip.NewWriter(w) },
		"x-gzip":  func(w io.Writer) flusher { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) flusher { return zlib.NewWriter(w) },
		"Deflate": func(w io.Writer) flusher { f, err := flate.NewWriter(w, 6); return must(f, err) },
		"br":      func(w io.Writer) flusher { f, err := brotli.NewWriter(w, 5); return must(f, err) },
		"zstd":    func(w io.Writer) flusher { f, err := zstd.NewWriter(w); return must(f, err) },
	}
}

// compress compresses each of the parts and flushes behind it.
func compress(t testing.TB, encoding string, parts ...string) (pieces [][]byte) {
	t.Helper()
	var buf bytes.Buffer
	w := compressors(t)[encoding](&buf)
	for _, part := range parts {
		if _, err := io.WriteString(w, part); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, bytes.Clone(buf.Bytes()))
		buf.Reset()
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(pieces, bytes.Clone(buf.Bytes()))
}

const encodedJSON = `{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}}`

func TestEncodedJSON(t *testing.T) {
	want := db.Usage{Input: 11, Output: 2}
	for encoding := range compressors(t) {
		body := bytes.Join(compress(t, encoding, encodedJSON), nil)
		for _, length := range []int64{-1, int64(len(body))} {
			for cut := range len(body) {
				a := answer{endpoint: chatCompletions, encoding: encoding, strip: true, length: length}
				m, out, complete := feedMeter(t, a, body[:cut], body[cut:])
				if u, ok := m.reported(); u != want || !ok {
					t.Fatalf("%s cut at %d: %+v %v", encoding, cut, u, ok)
				}
				if !bytes.Equal(out, body) || complete != (length > 0) {
					t.Fatalf("%s cut at %d: %d of %d bytes, complete %v", encoding, cut, len(out), len(body), complete)
				}
			}
		}
	}
}

// What a flushed event tells is known before the next bytes come.
func TestEncodedStreamInStep(t *testing.T) {
	for encoding := range compressors(t) {
		pieces := compress(t, encoding,
			"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n",
			"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\n\n",
			"data: [DONE]\n\n")
		m := newMeter(answer{endpoint: chatCompletions, sse: true, encoding: encoding, strip: true, length: -1})
		for i, want := range []int64{1, 9, 9} {
			if out, complete := m.pass(pieces[i]); !bytes.Equal(out, pieces[i]) || complete {
				t.Errorf("%s: passed %q, complete %v", encoding, out, complete)
			}
			if u, ok := m.reported(); !ok || u.Output != want {
				t.Errorf("%s: after %d events %+v %v", encoding, i+1, u, ok)
			}
		}
		m.finish()
	}
}

// Damaged, cut off and unknown encodings pass, and are not metered.
func TestUndecodable(t *testing.T) {
	for encoding := range compressors(t) {
		body := bytes.Join(compress(t, encoding, encodedJSON), nil)
		for i := range body {
			damaged := bytes.Clone(body)
			damaged[i] ^= 0x55
			for _, b := range [][]byte{damaged, body[:i], append(bytes.Clone(body), damaged...)} {
				m, out, _ := feedMeter(t, answer{endpoint: chatCompletions, encoding: encoding, length: -1}, b)
				if !bytes.Equal(out, b) {
					t.Fatalf("%s: changed", encoding)
				}
				if u, _ := m.reported(); !sane(u) {
					t.Fatalf("%s: %+v", encoding, u)
				}
			}
		}
	}
	m, out, _ := feedMeter(t, answer{endpoint: chatCompletions, encoding: "compress", length: -1}, []byte(encodedJSON))
	if _, ok := m.reported(); ok || string(out) != encodedJSON || m.estimate() < 1 {
		t.Errorf("an unknown encoding: %v %q", ok, out)
	}
}

// A small answer that unpacks without end stops being read.
func TestBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks 64 MiB")
	}
	for _, encoding := range []string{"gzip", "br", "zstd"} {
		var buf bytes.Buffer
		w := compressors(t)[encoding](&buf)
		zeros := strings.Repeat(" ", 1<<20)
		for range maxDecoded>>20 + 2 {
			if _, err := io.WriteString(w, zeros); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.WriteString(w, encodedJSON); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		m, out, _ := feedMeter(t, answer{endpoint: chatCompletions, encoding: encoding, length: -1}, buf.Bytes())
		if _, ok := m.reported(); ok || m.decoded > maxDecoded+1<<20 || len(out) != buf.Len() {
			t.Errorf("%s: reported %v, looked at %d bytes, passed %d of %d", encoding, ok, m.decoded, len(out), buf.Len())
		}
	}
}

// finish releases the decoder wherever the answer broke off.
func TestDecoderIsReleased(t *testing.T) {
	before := runtime.NumGoroutine()
	for encoding := range compressors(t) {
		body := bytes.Join(compress(t, encoding, encodedJSON), nil)
		for cut := range body {
			m := newMeter(answer{endpoint: chatCompletions, encoding: encoding, length: -1})
			if cut > 0 {
				m.pass(body[:cut])
			}
			m.finish()
			m.finish()
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}
