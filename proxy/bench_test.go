package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// benchStream is a stream of 501 events as OpenAI sends them.
func benchStream() []byte {
	var b bytes.Buffer
	for i := range 500 {
		fmt.Fprintf(&b, `data: {"id":"chatcmpl-0123456789abcdefghijklmnop","object":"chat.completion.chunk","created":1761000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" word%d"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"abcdef"}`+"\n\n", i)
	}
	b.WriteString(`data: {"id":"chatcmpl-0123456789abcdefghijklmnop","object":"chat.completion.chunk","created":1761000000,"model":"gpt-4o-mini-2024-07-18","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":500,"total_tokens":510}}` + "\n\ndata: [DONE]\n\n")
	return b.Bytes()
}

// BenchmarkStream passes one stream of 501 events, read in pieces of a size.
func BenchmarkStream(b *testing.B) {
	body := benchStream()
	events := bytes.Count(body, []byte("\n\n"))
	for _, strip := range []bool{false, true} {
		for _, size := range []int{337, 4 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("strip=%v/%d", strip, size), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					m := newMeter(answer{endpoint: chatCompletions, sse: true, strip: strip, length: -1})
					for rest := body; len(rest) > 0; {
						n := min(size, len(rest))
						m.pass(rest[:n])
						rest = rest[n:]
					}
					m.finish()
					if u, ok := m.reported(); !ok || u.Output != 500 {
						b.Fatal(u)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
			})
		}
	}
}

// BenchmarkDocument passes JSON answers in pieces of 32 KiB.
func BenchmarkDocument(b *testing.B) {
	tail := `],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`
	for name, body := range map[string]string{
		"700B":  `{"id":"x","choices":[{"message":{"content":"` + strings.Repeat(`text \n`, 80) + `"}}` + tail,
		"4MB":   `{"id":"x","choices":[{"message":{"content":"` + strings.Repeat(`some text\n`, 400_000) + `"}}` + tail,
		"float": `{"object":"list","data":[{"embedding":[` + strings.Repeat(`-0.012345678,`, 300_000) + `0]}` + tail,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			bytes := []byte(body)
			for b.Loop() {
				m := newMeter(answer{endpoint: chatCompletions, length: int64(len(body))})
				for rest := bytes; len(rest) > 0; {
					n := min(32<<10, len(rest))
					m.pass(rest[:n])
					rest = rest[n:]
				}
				if u, ok := m.reported(); !ok || u.Input != 10 {
					b.Fatal(u)
				}
			}
		})
	}
}

// benchBody is a chat request of that many bytes of text in its messages.
func benchBody(text int) []byte {
	return []byte(`{"model":"gpt-4o-mini","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"` +
		strings.Repeat(`some text \"and\" more `, text/22) + `"}],"temperature":0.7,"max_tokens":256,"stream":true}`)
}

// BenchmarkScan reads the fields of requests.
func BenchmarkScan(b *testing.B) {
	for name, size := range map[string]int{"1KB": 1 << 10, "64KB": 64 << 10, "5MB": 5 << 20} {
		b.Run(name, func(b *testing.B) {
			body := benchBody(size)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if f, err := scan(body); err != nil || f.model != "gpt-4o-mini" {
					b.Fatal(f, err)
				}
			}
		})
	}
}

// BenchmarkScanImage reads the fields of a request with an image of 5 MB.
func BenchmarkScanImage(b *testing.B) {
	body := []byte(`{"model":"gpt-4o-mini","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` +
		strings.Repeat("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ", 5<<20/44) + `"}}]}],"max_tokens":256}`)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if f, err := scan(body); err != nil || f.output != 256 {
			b.Fatal(f, err)
		}
	}
}

// BenchmarkSplice gives a request of 1 KB another model.
func BenchmarkSplice(b *testing.B) {
	body := benchBody(1 << 10)
	f, err := scan(body)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, n := splice(body, []edit{f.setModel("qwen3:14b")}); n != int64(len(body)-2) {
			b.Fatal(n)
		}
	}
}
