package proxy

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// aFile is the content of the file in aForm; it has something of a delimiter.
const aFile = "ID3\x00\xff\r\n-- \r\n--\r\nmodel\r\n"

// aForm is a form as the SDKs send it, the file first.
const aForm = "preamble\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n" +
	aFile + "\r\n--b \t\r\ncontent-disposition: form-data; name=model\r\n\r\nwhisper-1\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n2\r\n--b\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--b--\r\nepilogue"

// formCall is a call with a form of the boundary b as its body.
func formCall(body string) *Call {
	return &Call{Method: "POST", Path: "/v1/audio/transcriptions", Length: int64(len(body)), Body: strings.NewReader(body),
		Header: Headers{{"Content-Type", "multipart/form-data; boundary=b"}}}
}

// TestFormInEverySplit: what is read of a form does not depend on how it comes.
func TestFormInEverySplit(t *testing.T) {
	for _, strict := range []bool{true, false} {
		for size := 1; size <= len(aForm); size++ {
			s := newFormScanner("b", strict)
			at := 0
			for at < len(aForm) && !s.done() {
				to := min(len(aForm), at+size)
				if err := s.feed([]byte(aForm[at:to])); err != nil {
					t.Fatalf("pieces of %d bytes: %v", size, err)
				}
				at = to
			}
			if strict {
				if err := s.end(); err != nil {
					t.Fatal(err)
				}
				if s.form.n != 2 || s.form.tokens != 2000+int64(len(aForm)-len(aFile)+2)/3 {
					t.Fatalf("pieces of %d bytes: n = %d, %d tokens", size, s.form.n, s.form.tokens)
				}
			}
			if got := s.form.modelAt; s.form.model != "whisper-1" || aForm[got.from:got.to] != "whisper-1" || s.form.open != len("preamble\r\n") {
				t.Fatalf("pieces of %d bytes: the model is %q at %v, the form opens at %d", size, s.form.model, got, s.form.open)
			}
		}
	}
}

// TestFormEdges: what only a part of the parsers takes for a model.
func TestFormEdges(t *testing.T) {
	part := func(head, content string) string { return "--b\r\n" + head + "\r\n\r\n" + content + "\r\n" }
	model := part(`Content-Disposition: form-data; name="model"`, "cheap")
	for _, tt := range []struct {
		name, body string
		model      string // what an unrestricted caller is routed by
		code       string // what a restricted caller gets; "unread" when no model is found
	}{
		{"plain", model + "--b--\r\n", "cheap", ""},
		{"no line break at the end", model + "--b--", "cheap", ""},
		{"an empty part without its line break", "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n" + model + "--b--", "cheap", ""},
		{"no headers in a part", "--b\r\n\r\ntext\r\n" + model + "--b--", "cheap", ""},
		{"no model", part(`Content-Disposition: form-data; name="purpose"`, "x") + "--b--", "", "unread"},
		{"two models", model + part(`Content-Disposition: form-data; name="model"`, "dear") + "--b--", "cheap", "duplicate_parameter"},
		{"a model in capitals", model + part(`Content-Disposition: form-data; name="MODEL"`, "dear") + "--b--", "cheap", "duplicate_parameter"},
		{"white space around a name", model + part(`Content-Disposition: form-data; name=" model "`, "dear") + "--b--", "cheap", "duplicate_parameter"},
		{"two n", model + part(`Content-Disposition: form-data; name="n"`, "1") + part(`Content-Disposition: form-data; name="n"`, "9") + "--b--", "cheap", "duplicate_parameter"},
		{"two streams", model + part(`Content-Disposition: form-data; name="stream"`, "true") + part(`Content-Disposition: form-data; name=stream`, "false") + "--b--", "cheap", "duplicate_parameter"},
		{"a delimiter of bare line feeds", model + "\n--b\nContent-Disposition: form-data; name=\"model\"\n\ndear\n--b--", "", "invalid_request"},
		{"a delimiter in a part", part(`Content-Disposition: form-data; name="x"`, "text--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndear") + model + "--b--", "cheap", "invalid_request"},
		{"a part behind the end", model + "--b--\r\n" + model, "cheap", "invalid_request"},
		{"a name in the extended spelling", part(`Content-Disposition: form-data; name="x"; name*=utf-8''model`, "dear") + model + "--b--", "cheap", "invalid_request"},
		{"two names", part(`Content-Disposition: form-data; name="x"; name="model"`, "dear") + "--b--", "dear", "invalid_request"},
		{"two dispositions", part("Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"", "dear") + "--b--", "dear", "invalid_request"},
		{"a folded header", part("Content-Disposition: form-data;\r\n name=\"model\"", "dear") + model + "--b--", "cheap", "invalid_request"},
		{"a name hidden by a backslash", part(`Content-Disposition: form-data; filename="\"; name="model"`, "dear") + model + "--b--", "cheap", "invalid_request"},
		{"a backslash in a file's name", part(`Content-Disposition: form-data; name="file"; filename="C:\\a.wav"`, "x") + model + "--b--", "cheap", ""},
		{"a model that is a file", part(`Content-Disposition: form-data; name="model"; filename="m"`, "cheap") + "--b--", "", "unread"},
		{"a model in base64", part("Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64", "Y2hlYXA=") + "--b--", "", "unread"},
		{"a model in UTF-16", part("Content-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; charset=utf-16", "c\x00") + "--b--", "", "unread"},
		{"a long model", part(`Content-Disposition: form-data; name="model"`, strings.Repeat("m", maxValue+100)) + "--b--", "", "invalid_parameter"},
		{"long headers", "--b\r\nX: " + strings.Repeat("x", 2*maxPartHeaders) + "\r\n\r\n\r\n--b--", "", "invalid_request"},
		{"cut off", strings.TrimSuffix(model, "\r\n"), "", "invalid_request"},
		{"not a form", `{"model":"dear"}`, "", "invalid_request"},
		{"empty", "", "", "unread"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBodies(1<<20, t.TempDir())
			p, err := b.read(t.Context(), formCall(tt.body), false)
			if err != nil {
				t.Fatal(err)
			}
			if got := ""; p.statesModel() {
				if got = p.form.model; got != tt.model {
					t.Errorf("the model is %q, want %q", got, tt.model)
				}
			} else if tt.model != "" {
				t.Errorf("no model, want %q", tt.model)
			}
			if got := readAll(t, p, nil); got != tt.body {
				t.Errorf("goes on as %q", got)
			}
			p.close()

			p, err = b.read(t.Context(), formCall(tt.body), true)
			var e *Error
			switch {
			case errors.As(err, &e) && e.Code == tt.code:
			case err != nil:
				t.Errorf("a restricted caller gets %v, want %q", err, tt.code)
			case !p.statesModel() && tt.code == "unread":
			case !p.statesModel() || tt.code != "" || p.form.model != tt.model:
				t.Errorf("a restricted caller may send it for the model %q, want %q", p.form.model, tt.code)
			}
			if err == nil {
				p.close()
			}
			if !b.room.TryAcquire(max(bodyMemory, 2<<20)) {
				t.Error("memory was not given back")
			}
		})
	}
}

// readAll reads a payload from its beginning and checks the length it tells.
func readAll(t *testing.T, p *payload, edits []edit) string {
	t.Helper()
	r, length := p.open(edits)
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if length >= 0 && length != int64(len(text)) {
		t.Errorf("%d bytes come, %d were announced", len(text), length)
	}
	return string(text)
}

// TestFormIsSpliced: only the bytes of the model change, and the length.
func TestFormIsSpliced(t *testing.T) {
	for _, strict := range []bool{true, false} {
		p, err := newBodies(1<<20, t.TempDir()).read(t.Context(), formCall(aForm), strict)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Replace(aForm, "whisper-1", "a/longer-name", 1)
		if got := readAll(t, p, []edit{p.form.setModel("a/longer-name")}); got != want {
			t.Errorf("strict %v: spliced into %q, want %q", strict, got, want)
		}
		p.close()
	}
	body := "before\r\n--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n--b--"
	p, err := newBodies(1<<20, t.TempDir()).read(t.Context(), formCall(body), false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	want := "before\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n" + body[len("before\r\n"):]
	if got := readAll(t, p, []edit{p.form.setModel("m")}); got != want {
		t.Errorf("spliced into %q, want %q", got, want)
	}
}

// TestLongFormIsSpooled: a file before the model goes to the disk, without a
// name there, can be read again, and is gone at the end.
func TestLongFormIsSpooled(t *testing.T) {
	dir := t.TempDir()
	file := bytes.Repeat([]byte("0123456789abcde\n"), 3<<16) // 3 MiB
	body := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + string(file) +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n"
	b := newBodies(8<<20, dir)
	call := formCall(body)
	call.Body, call.Length = iotest.HalfReader(call.Body), -1
	p, err := b.read(t.Context(), call, true)
	if err != nil {
		t.Fatal(err)
	}
	if p.spool.file == nil || p.spool.memory != nil {
		t.Error("3 MiB are held in memory")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the folder has %v, %v; want a file without a name", entries, err)
	}
	for range 2 {
		if readAll(t, p, nil) != body {
			t.Error("the body changed on its way through the disk")
		}
	}
	if info, err := p.spool.file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	p.close()
	p.close()
	if !b.disk.TryAcquire(spoolDisk) || !b.room.TryAcquire(bodyMemory) {
		t.Error("room was not given back")
	}
	b.disk.Release(spoolDisk)
	b.room.Release(bodyMemory)

	// Above max_body nothing goes to the disk for long.
	b = newBodies(2<<20, dir)
	call = formCall(body)
	call.Length = -1
	_, err = b.read(t.Context(), call, true)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Code != "request_too_large" {
		t.Errorf("got %v, want request_too_large", err)
	}
	if !b.disk.TryAcquire(spoolDisk) {
		t.Error("room was not given back")
	}
}

// TestFilesAreNotSpooled: an upload that is only stored streams through.
func TestFilesAreNotSpooled(t *testing.T) {
	call := formCall(aForm)
	call.Path = "/v1/files"
	p, err := newBodies(1<<20, "").read(t.Context(), call, true)
	if err != nil {
		t.Fatal(err)
	}
	if p.spool != nil || readAll(t, p, nil) != aForm {
		t.Error("a file was looked at or changed")
	}
}

func TestBoundaryOf(t *testing.T) {
	for contentType, want := range map[string]string{
		`multipart/form-data; boundary=abc`:                                   "abc",
		`Multipart/Form-Data; charset=utf-8; Boundary="a b'?"`:                "a b'?",
		`multipart/form-data;boundary=----WebKitFormBoundaryX`:                "----WebKitFormBoundaryX",
		`multipart/form-data`:                                                 "",
		`multipart/mixed; boundary=abc`:                                       "",
		`multipart/form-data; boundary=a; boundary=b`:                         "",
		`multipart/form-data; boundary*=utf-8''abc`:                           "",
		`multipart/form-data; boundary="a\b"`:                                 "",
		`multipart/form-data; boundary=` + strings.Repeat("a", maxBoundary+1): "",
	} {
		if got := boundaryOf(contentType); got != want {
			t.Errorf("boundaryOf(%q) = %q, want %q", contentType, got, want)
		}
	}
}

// A backslash in the name of a part is a backslash: the name was read like a
// string of JSON, beyond its end, which ended the call with a 500.
func TestBackslashInTheNameOfAPart(t *testing.T) {
	for _, name := range []string{`"a\\"`, `a\`, `a\u00`, `"mod\u0065l"`} {
		body := "--b\r\nContent-Disposition: form-data; name=" + name + "\r\n\r\nm\r\n--b--"
		p, err := newBodies(1<<20, "").read(t.Context(), formCall(body), false)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.statesModel() {
			t.Errorf("%s is the model", name)
		}
		p.close()
	}
}

// FuzzForm: where a strict scanner finds a model, the parser of the standard
// library finds the same one and no other; the other scanner never changes a
// byte; and neither depends on how the bytes come.
func FuzzForm(f *testing.F) {
	f.Add(aForm, 3)
	f.Add("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--", 1)
	f.Add("--b\r\nContent-Disposition: form-data; name=\"a\\\\\"\r\n\r\nm\r\n--b--", 5)
	f.Add("--b\r\nContent-Disposition: form-data; name=a\\u00\r\n\r\nm\r\n--b--", 5)
	f.Add("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\nContent-Disposition: form-data; name=\"Model\"\r\n\r\nx\r\n--b--", 7)
	f.Fuzz(func(t *testing.T, body string, size int) {
		if body == "" {
			return
		}
		b := newBodies(1<<20, "")
		lazy, err := b.read(t.Context(), formCall(body), false)
		if err != nil {
			t.Fatalf("an unrestricted caller is refused: %v", err)
		}
		if got := readAll(t, lazy, nil); got != body {
			t.Fatalf("goes on as %q", got)
		}
		lazy.close()

		strict, err := b.read(t.Context(), formCall(body), true)
		s := newFormScanner("b", true)
		var again error
		for at, step := 0, max(1, size%64); at < len(body) && again == nil; at += step {
			again = s.feed([]byte(body[at:min(len(body), at+step)]))
		}
		if again == nil {
			again = s.end()
		}
		if (err == nil) != (again == nil) {
			t.Fatalf("in pieces %v, at once %v", again, err)
		}
		if err != nil || !strict.statesModel() {
			return
		}
		if s.form != *strict.form {
			t.Fatalf("in pieces %+v, at once %+v", s.form, *strict.form)
		}
		r := multipart.NewReader(strings.NewReader(body), "b")
		models := 0
		for {
			p, err := r.NextRawPart()
			if err != nil {
				break // it is stricter with headers, which the provider may be too
			}
			content, err := io.ReadAll(p)
			if err != nil {
				break
			}
			if strings.EqualFold(strings.TrimSpace(p.FormName()), "model") {
				if models++; string(content) != strict.form.model {
					t.Fatalf("the model is %q, for others %q", strict.form.model, content)
				}
			}
		}
		if models > 1 {
			t.Fatalf("others find %d models", models)
		}
		strict.close()
	})
}
