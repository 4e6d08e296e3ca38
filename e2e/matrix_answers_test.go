package e2e

import (
	"strings"
	"testing"
)

func TestAnswersArriveAsSent(t *testing.T) {
	get := func(name string, r reply) call { return call{name: name, first: "GET /v1/files/f", reply: r} }
	chat := func(name string, r reply) call {
		c := jsonCall(name, "/v1/chat/completions", `{"model":"gpt-test","max_tokens":5,"messages":[]}`)
		c.reply = r
		return c
	}
	stream := func(name, body string, more reply) call {
		c := jsonCall(name, "/v1/chat/completions", `{"model":"gpt-test","max_tokens":5,"stream":true,"stream_options":{"include_usage":true},"messages":[]}`)
		more.head = "HTTP/1.1 200 OK\r\n" + usualDate + "Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nCache-Control: no-cache\r\nX-Request-Id: r\r\n" + more.head
		more.body = chunked(body, 11)
		c.reply = more
		return c
	}
	closed := func(head, body string) reply { return reply{head: head, body: body, hangUp: true} }
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	event := `data: {"choices":[{"delta":{"content":"` + "ü😀" + `"}}]}` + "\n\n"
	usage := "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}\n\ndata: [DONE]\n\n"
	calls := []call{
		get("204", reply{head: "HTTP/1.1 204 No Content\r\n" + usualDate}),
		get("206", withLength("206 Partial Content\r\n"+usualDate+"Content-Type: text/plain\r\nContent-Range: bytes 0-3/10\r\nAccept-Ranges: bytes\r\n", "0123")),
		get("302", withLength("302 Found\r\n"+usualDate+"Location: https://elsewhere/x?y=1\r\n", "")),
		get("304", reply{head: "HTTP/1.1 304 Not Modified\r\n" + usualDate + "ETag: \"x\"\r\nContent-Type: text/plain\r\n"}),
		get("an empty 200", withLength("200 OK\r\n"+usualDate, "")),
		get("an empty 200 with a type", withLength("200 OK\r\n"+usualDate+"Content-Type: application/json\r\n", "")),
		get("no type", withLength("200 OK\r\n"+usualDate, "text")),
		get("an odd type", withLength("200 OK\r\n"+usualDate+"Content-Type: x/y;;z=\"\r\n", "text")),
		get("no date", withLength("200 OK\r\nContent-Type: text/plain\r\n", "text")),
		get("another reason", withLength("200 All Right\r\n"+usualDate, "text")),
		get("a status of nobody's", withLength("599 Odd\r\n"+usualDate+"Content-Type: text/plain\r\n", "text")),
		get("an early hint", reply{head: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n" + usualDate + "Content-Length: 1\r\n", body: "x"}),
		get("chunks", reply{head: "HTTP/1.1 200 OK\r\n" + usualDate + "Transfer-Encoding: chunked\r\n", body: chunked(big[:9000], 777)}),
		get("to the end of the connection", closed("HTTP/1.1 200 OK\r\n"+usualDate+"Connection: close\r\nContent-Type: text/plain\r\n", "text")),
		get("HTTP/1.0", closed("HTTP/1.0 200 OK\r\n"+usualDate+"Content-Type: text/plain\r\n", "text")),
		get("HTTP/1.0 with a length", closed("HTTP/1.0 200 OK\r\n"+usualDate+"Content-Length: 4\r\n", "text")),
		get("gzip", withLength("200 OK\r\n"+usualDate+"Content-Type: application/json\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding\r\n", gzipped(`{"a":1}`))),
		get("a download", withLength("200 OK\r\n"+usualDate+"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"\xfc.bin\"\r\nETag: W/\"e\"\r\nLast-Modified: x\r\n", big)),
		get("long headers", withLength("200 OK\r\n"+usualDate+"X-Long: "+strings.Repeat("h", 11000)+"\r\n", "x")),
		get("repeated and empty headers", withLength("200 OK\r\n"+usualDate+"X-A: 1\r\nX-A: 2\r\nx-a: 1\r\nX-Empty:\r\nLink: a\r\nLink: b\r\nServer: s\r\nVary: A\r\nVary: B\r\nWWW-Authenticate: A\r\nWWW-Authenticate: B\r\n", "x")),
		get("latin-1", withLength("200 OK\r\n"+usualDate+"X-Name: Z\xfcrich\r\n", "Z\xfcrich")),
		get("what SDKs look at", withLength("200 OK\r\n"+usualDate+"x-request-id: r\r\nrequest-id: q\r\nopenai-processing-ms: 5\r\nx-ratelimit-limit-requests: 7\r\nx-ratelimit-remaining-tokens: 8\r\nx-ratelimit-reset-tokens: 6m0s\r\n"+
			"retry-after: 1\r\nretry-after-ms: 20\r\nx-should-retry: false\r\nanthropic-organization-id: o\r\nCache-Control: no-store\r\nContent-Language: de\r\nAge: 3\r\nVia: 1.1 p\r\n", "x")),
		{name: "HEAD with a length", first: "HEAD /v1/files/f", reply: reply{head: "HTTP/1.1 200 OK\r\n" + usualDate + "Content-Type: text/plain\r\nContent-Length: 12345\r\n"}},
		chat("an error", withLength("429 Too Many Requests\r\n"+usualDate+"Content-Type: application/json\r\nretry-after-ms: 20\r\nx-should-retry: true\r\n", `{"error":{"message":"slow down"}}`)),
		chat("an error of the provider's", withLength("500 Internal Server Error\r\n"+usualDate+"Content-Type: text/html\r\n", "<html>")),
		chat("a wrong credential", withLength("401 Unauthorized\r\n"+usualDate+"Content-Type: application/json\r\nWWW-Authenticate: Bearer\r\n", `{"error":"no"}`)),
		chat("gzip though unasked", withLength("200 OK\r\n"+usualDate+"Content-Type: application/json\r\nContent-Encoding: gzip\r\n", gzipped(usualReply.body))),
		chat("brotli that is none", withLength("200 OK\r\n"+usualDate+"Content-Type: application/json\r\nContent-Encoding: br\r\n", "\x0b\x02\x80{}\x03")),
		chat("broken JSON", withLength("200 OK\r\n"+usualDate+"Content-Type: application/json\r\n", `{"usage":{"prompt_tokens":`)),
		chat("a large answer", withLength("200 OK\r\n"+usualDate+"Content-Type: application/json\r\n", `{"x":"`+big+`"}`)),
		chat("too short", closed("HTTP/1.1 200 OK\r\n"+usualDate+"Content-Type: application/json\r\nContent-Length: 100\r\n", `{"half":`)),
		chat("chunks without an end", closed("HTTP/1.1 200 OK\r\n"+usualDate+"Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")),
		chat("a bad chunk", closed("HTTP/1.1 200 OK\r\n"+usualDate+"Transfer-Encoding: chunked\r\n", "5\r\nhello\r\nzz\r\n")),
		chat("a reset", reply{head: "HTTP/1.1 200 OK\r\n" + usualDate + "Content-Length: 100\r\n", body: "half", hangUp: true}),
		stream("events", event+event+usage, reply{}),
		stream("events and comments", ": ping\n\nevent: x\nid: 1\nretry: 5\n"+event+"\n\n:\n\n"+usage, reply{}),
		stream("events of CRLF", strings.ReplaceAll(event+usage, "\n", "\r\n"), reply{}),
		stream("events of CR", strings.ReplaceAll(event+usage, "\n", "\r"), reply{}),
		stream("a line of 100 KB", `data: {"choices":[{"delta":{"content":"`+big[:100<<10]+`"}}]}`+"\n\n"+usage, reply{}),
		stream("no end", event+"data: {\"cho", reply{}),
		stream("gzip in a stream", gzipped(event+usage), reply{head: "Content-Encoding: gzip\r\n"}),
	}
	for i := range calls {
		if calls[i].name == "no date" {
			calls[i].differs = []string{"Date"} // each answer has one
		}
	}
	broken := stream("a stream that breaks off", event, reply{hangUp: true})
	broken.reply.body = strings.TrimSuffix(broken.reply.body, "0\r\n\r\n")
	calls = append(calls, broken,
		call{name: "an early answer", first: "POST /v1/uploads/u", headers: "Content-Length: 5\r\n", body: "hello",
			reply: reply{head: usualReply.head, body: usualReply.body, early: true}},
		call{name: "an answer in chunks to HTTP/1.0", version: "1.0", first: "GET /v1/files",
			reply: reply{head: "HTTP/1.1 200 OK\r\n" + usualDate, body: "text", hangUp: true}})
	matrix(t, calls)
}
