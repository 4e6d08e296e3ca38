package e2e

import (
	"strconv"
	"strings"
	"testing"
)

// aForm is a form with its file first, as the Node SDK sends it.
func aForm(file, model string) string {
	return "--x-BOUND'ary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"s\u00fc\\\"x.mp3\"\r\nContent-Type: application/octet-stream\r\n\r\n" + file +
		"\r\n--x-BOUND'ary\r\nContent-Disposition: form-data; name=\"model\"\r\nX-Odd: yes\r\n\r\n" + model +
		"\r\n--x-BOUND'ary\r\nContent-Disposition: form-data; name=\"temperature\"\r\n\r\n0.0\r\n--x-BOUND'ary--\r\n"
}

// formCall is a POST of a form.
func formCall(name, target, body string) call {
	return call{name: name, first: "POST " + target, body: body,
		headers: "Content-Type: multipart/form-data; charset=utf-8; boundary=\"x-BOUND'ary\"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"}
}

func TestRequestsArriveAsSent(t *testing.T) {
	binary := strings.Repeat("\x00\xff\r\n--x-BOUND'ar\r\n", 100)
	calls := []call{
		jsonCall("chat", "/v1/chat/completions", chatBody),
		jsonCall("byte order of an odd body", "/v1/chat/completions", "\n\t { \"messages\":[],\"model\":\"gpt-test\" , \"a\":-0.0e+5 } \r\n"),
		jsonCall("anthropic", "/v1/messages?beta=true", `{"model":"claude-test","max_tokens":5,"messages":[]}`),
		jsonCall("JSON elsewhere that is none", "/v1/evals", `{"a":1,}`),
		jsonCall("a model that is an object elsewhere", "/v1/agents", `{"model":{"id":"claude-test"}}`),
		jsonCall("an array elsewhere", "/v1/anything/at-all", `[1,2]`),
		jsonCall("a stream that asks for usage", "/v1/chat/completions", `{"model":"gpt-test","stream":true,"stream_options":{"include_usage":true},"messages":[]}`),
		{name: "chunked JSON", first: "POST /v1/embeddings", headers: "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n", body: chunked(`{"model":"text-embedding-test","input":"x"}`, 7)},
		{name: "compressed JSON", first: "POST /v1/chat/completions", headers: "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(gzipped(chatBody))) + "\r\n", body: gzipped(chatBody)},
		formCall("a form", "/v1/audio/transcriptions", aForm(binary, "whisper-test")),
		formCall("a form for an image", "/v1/images/edits", "preamble\r\n"+aForm(binary, "gpt-image-test")+"epilogue"),
		formCall("a form without a model", "/v1/files", strings.Replace(aForm(binary, "x"), `"model"`, `"purpose"`, 1)),
		{name: "a chunked form", first: "POST /v1/audio/translations", headers: "Content-Type: multipart/form-data; boundary=x-BOUND'ary\r\nTransfer-Encoding: chunked\r\n", body: chunked(aForm(binary, "whisper-test"), 333)},
		{name: "binary", first: "PUT /v1/uploads/part", headers: "Content-Type: application/octet-stream\r\nContent-Length: " + strconv.Itoa(len(binary)) + "\r\n", body: binary},
		{name: "chunked binary", first: "POST /v1/uploads/part", headers: "Transfer-Encoding: chunked\r\n", body: chunked(binary, 100)},
		{name: "urlencoded", first: "POST /v1/other", headers: "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n", body: "a=1&b=2"},
		{name: "POST without a body", first: "POST /v1/batches/b/cancel", headers: "Content-Length: 0\r\n"},
		{name: "POST without a body or its length", first: "POST /v1/batches/b/cancel"},
		{name: "POST of nothing in JSON", first: "POST /v1/batches/b/cancel", headers: "Content-Type: application/json\r\nContent-Length: 0\r\n"},
		{name: "DELETE", first: "DELETE /v1/files/f"},
		{name: "DELETE with the length 0", first: "DELETE /v1/files/f", headers: "Content-Length: 0\r\n"},
		{name: "DELETE with a body", first: "DELETE /v1/files/f", headers: "Content-Type: application/json\r\nContent-Length: 2\r\n", body: "{}"},
		{name: "GET with a body", first: "GET /v1/files", headers: "Content-Type: application/json\r\nContent-Length: 7\r\n", body: `{"a":1}`},
		{name: "HEAD", first: "HEAD /v1/files/f"},
		{name: "PATCH", first: "PATCH /v1/things/t", headers: "Content-Length: 1\r\n", body: "x"},
		{name: "OPTIONS", first: "OPTIONS /v1/files"},
		{name: "QUERY", first: "QUERY /v1/files", headers: "Content-Length: 1\r\n", body: "x"},
		{name: "PROPFIND", first: "PROPFIND /v1/files"},
		{name: "a method in small letters", first: "purge /v1/files"},
		{name: "escapes", first: "GET /v1/files/a%2Fb%20c%25d%c3%bc%C3%BC/"},
		{name: "a needless escape", first: "GET /v1/%66iles/%7e~!$&'()*+,;=:@"},
		{name: "a broken escape", first: "GET /v1/files/%zz/100%"},
		{name: "bytes above ASCII", first: "GET /v1/files/\xc3\xbc?q=\xc3\xbc"},
		{name: "a lone question mark", first: "GET /v1/files?"},
		{name: "an odd query", first: "GET /v1/files?include[]=a&include[]=b&x=+%2B%20&&=&y;z=?/#"[:len("GET /v1/files?include[]=a&include[]=b&x=+%2B%20&&=&y;z=?/")]},
		{name: "a long query", first: "GET /v1/files?" + strings.Repeat("abcdefgh&", 700)},
		{name: "a path with nothing behind /v1", first: "GET /v1"},
		{name: "a slash behind /v1", first: "GET /v1/"},
		{name: "long headers", first: "GET /v1/files", headers: "X-Client-Metadata: " + strings.Repeat("m", 7000) + "\r\n"},
		{name: "repeated and empty headers", first: "GET /v1/files", headers: "X-A: 1\r\nX-a: 2\r\nX-Empty:\r\nX-A: 1\r\nAccept:\r\nX-Tabs:\t a \tb\t \r\n"},
		{name: "latin-1", first: "GET /v1/files", headers: "X-Name: Z\xfcrich\r\n"},
		{name: "headers of the SDKs", first: "GET /v1/files", headers: "User-Agent: OpenAI/Go 3\r\nAccept: application/json\r\nAccept-Language: *\r\nX-Stainless-Retry-Count: 0\r\n" +
			"Idempotency-Key: i\r\nOpenAI-Organization: o\r\nOpenAI-Beta: b\r\nanthropic-version: 2023-06-01\r\nanthropic-beta: a\r\nanthropic-beta: b\r\nX-Client-Request-Id: r\r\n" +
			"If-None-Match: \"e\"\r\nRange: bytes=0-3\r\nAccept-Encoding: gzip, br\r\nOrigin: http://page\r\nReferer: http://page/x\r\nCache-Control: no-cache\r\nPragma: no-cache\r\nUpgrade-Insecure-Requests: 1\r\nDate: x\r\nWarning: w\r\nVia: 1.1 x\r\nMax-Forwards: 3\r\n"},
		{name: "no User-Agent", first: "GET /v1/files"},
		{name: "HTTP/1.0", first: "GET /v1/files", version: "1.0"},
		{name: "HTTP/1.0 with a body", first: "POST /v1/chat/completions", version: "1.0", headers: "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(chatBody)) + "\r\n", body: chatBody},
		formCall("24 MiB of a file", "/v1/audio/transcriptions", aForm(strings.Repeat(binary, 24<<20/len(binary)), "whisper-test")),
		formCall("24 MiB of a stored file", "/v1/files", aForm(strings.Repeat(binary, 24<<20/len(binary)), "x")),
		{name: "9 MiB in chunks", first: "POST /v1/uploads/part", headers: "Transfer-Encoding: chunked\r\n", body: chunked(strings.Repeat(binary, 9<<20/len(binary)), 65000)},
		jsonCall("9 MiB of JSON", "/v1/responses", `{"model":"gpt-test","input":"`+strings.Repeat("x", 9<<20)+`"}`),
	}
	matrix(t, calls)
}
