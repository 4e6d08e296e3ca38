package ui

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"html/template"
	"sync"
)

//go:embed templates/*.html
var templateFiles embed.FS

// frame is what stands around each page.
type frame struct {
	Title, Page string
	// Root is where the pages begin: links are written as Root and a path.
	Root string
	// Signed says that somebody is signed in.
	Signed bool
	// Notice is what was just done, empty for nothing.
	Notice string
	// Zone is where a day begins.
	Zone, Version string
	Body          any
}

// shared are the templates that pages are made of; all others are pages.
var shared = []string{"templates/layout.html", "templates/parts.html"}

// loadTemplates returns the pages by name.
func (a *Admin) loadTemplates() map[string]*template.Template {
	base := template.Must(template.New("layout.html").Funcs(a.functions()).ParseFS(templateFiles, shared...))
	entries, err := templateFiles.ReadDir("templates")
	if err != nil {
		panic(err) // they are in the binary
	}
	pages := map[string]*template.Template{}
	for _, e := range entries {
		name := e.Name()
		pages[name[:len(name)-len(".html")]] = template.Must(template.Must(base.Clone()).ParseFS(templateFiles, "templates/"+name))
	}
	return pages
}

// page answers with a page.
func (a *Admin) page(r *request, status int, name, title string, body any) error {
	f := frame{Title: title, Page: name, Root: a.root(), Signed: r.session != "", Version: a.version,
		Zone: zoneOf(a.config()).String(), Notice: notices[string(r.c.Context().QueryArgs().Peek("done"))], Body: body}
	var b bytes.Buffer
	if err := a.templates()[name].ExecuteTemplate(&b, "layout.html", f); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	r.c.Set("Content-Type", "text/html; charset=utf-8")
	r.c.Set("Vary", "Accept-Encoding")
	r.c.Status(status)
	if !takesGzip(r.c) || r.plain {
		return r.c.Send(b.Bytes())
	}
	r.c.Set("Content-Encoding", "gzip")
	return r.c.Send(pack(b.Bytes()))
}

var packers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one
	}
	return w
}}

// pack returns text packed by gzip, quickly.
func pack(text []byte) []byte {
	var b bytes.Buffer
	w := packers.Get().(*gzip.Writer)
	defer packers.Put(w)
	w.Reset(&b)
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// notices are what pages say when they were led to after a change.
var notices = map[string]string{
	"saved":          "Saved. It holds from the next request on.",
	"unchanged":      "Nothing was changed.",
	"disabled":       "The key is disabled. Running answers may finish, new requests are refused.",
	"enabled":        "The key is enabled.",
	"revoked":        "The key is revoked for good. Its running answers are being ended.",
	"password":       "The password was changed. All other sessions have ended.",
	"token-revoked":  "The admin token is revoked.",
	"signed-out":     "You are signed out.",
	"signed-out-all": "All sessions have ended, this one too.",
}
