package proxy

import (
	"bytes"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// partHead is what the headers of a part say.
type partHead struct {
	named bool
	name  string
	file  bool
	// odd says that the content is not the plain text of a value.
	odd bool
}

// partHeaders reads the headers of a part; a strict scanner refuses what two
// parsers could read in two ways.
func (s *formScanner) partHeaders(block []byte) (partHead, error) {
	var head partHead
	doubtful := bytes.Contains(block, s.dash)
	dispositions := 0
	for line := range bytes.SplitSeq(block, []byte("\r\n")) {
		if len(block) == 0 {
			break
		}
		name, value, colon := strings.Cut(string(line), ":")
		if !colon || !httpguts.ValidHeaderFieldName(name) || strings.ContainsAny(value, "\r\n\x00") {
			doubtful = true // folded, say
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-disposition":
			dispositions++
			d := parseDisposition(value, true)
			if strings.Contains(value, `\`) && parseDisposition(value, false).name != d.name {
				doubtful = true
			}
			doubtful = doubtful || d.doubtful
			head.named, head.name = d.named, d.name
			head.file = head.file || d.file
		case "content-type":
			kind := strings.ToLower(value)
			text := strings.HasPrefix(kind, "text/") || isJSON(kind)
			head.file = head.file || !text
			if _, charset, ok := strings.Cut(kind, "charset"); ok {
				charset = strings.Trim(charset, `= "`)
				head.odd = head.odd || charset != "utf-8" && charset != "us-ascii"
			}
		case "content-transfer-encoding":
			coding := strings.ToLower(value)
			head.odd = head.odd || coding != "7bit" && coding != "8bit" && coding != "binary"
		}
	}
	if s.strict && (doubtful || dispositions > 1) {
		return head, errForm()
	}
	return head, nil
}

// disposition is a Content-Disposition header.
type disposition struct {
	named bool
	name  string
	file  bool
	// doubtful: another parser might find another name.
	doubtful bool
}

// parseDisposition reads a Content-Disposition header. Parsers differ in
// whether a backslash in quotes escapes.
func parseDisposition(value string, escapes bool) disposition {
	var d disposition
	kind, rest, _ := strings.Cut(value, ";")
	d.doubtful = !strings.EqualFold(strings.TrimSpace(kind), "form-data")
	for rest = strings.TrimSpace(rest); rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			d.doubtful = true
			break
		}
		var text string
		text, rest, ok = parameterValue(strings.TrimLeft(after, " \t"), escapes)
		d.doubtful = d.doubtful || !ok
		switch key = strings.ToLower(strings.TrimSpace(key)); {
		case key == "name":
			d.doubtful = d.doubtful || d.named
			d.named, d.name = true, text
		case key == "filename" || key == "filename*":
			d.file = true
		case strings.Contains(key, "name"), strings.ContainsAny(key, ";\" \t"):
			d.doubtful = true // name*, name*0, something without a value before it
		}
	}
	return d
}

// parameterValue cuts the value off that s begins with, and the semicolon
// behind it.
func parameterValue(s string, escapes bool) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ";")
		value = strings.TrimSpace(value)
		return value, strings.TrimSpace(rest), !strings.ContainsAny(value, "\"'\\ \t")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			rest = strings.TrimSpace(s[i+1:])
			ok = rest == "" || rest[0] == ';'
			return b.String(), strings.TrimSpace(strings.TrimPrefix(rest, ";")), ok
		case s[i] == '\\' && escapes && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), "", false
}
