package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"path"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"
)

//go:embed static/*.js static/*.css static/*.svg
var staticFiles embed.FS

// asset is a file that pages refer to, ready to be sent. Its path holds its hash:
// a file that changed has another one, so that it may be kept forever.
type asset struct {
	path, kind, etag string
	plain            []byte
	// packed is the text packed by gzip, once somebody asks for it.
	packed func() []byte
}

// kinds are the content types of the files. The tables that systems have for this
// differ, and take 5 ms to read.
var kinds = map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

// loadAssets returns the files by name.
func loadAssets() map[string]*asset {
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		panic(err) // they are in the binary
	}
	assets := map[string]*asset{}
	for _, e := range entries {
		text, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(text)
		hash := hex.EncodeToString(sum[:8])
		assets[e.Name()] = &asset{path: "/static/" + hash + "/" + e.Name(), kind: kinds[path.Ext(e.Name())], etag: `"` + hash + `"`, plain: text,
			packed: sync.OnceValue(func() []byte { return packed(text) })}
	}
	return assets
}

func packed(text []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()
}

// serveAsset serves a file by its path, which has the hash of what is in it.
func (a *Admin) serveAsset(c *fiber.Ctx) error {
	f := a.assets()[c.Params("name")]
	if f == nil || f.path != c.Path() {
		return c.Next()
	}
	return f.serve(c)
}

func (f *asset) serve(c *fiber.Ctx) error {
	c.Set("Cache-Control", "public, max-age=31536000, immutable")
	if c.Path() == "/favicon.ico" { // browsers look there by themselves
		c.Set("Cache-Control", "public, max-age=86400")
	}
	c.Set("X-Content-Type-Options", "nosniff")
	c.Set("ETag", f.etag)
	c.Set("Vary", "Accept-Encoding")
	if c.Get("If-None-Match") == f.etag {
		c.Status(304)
		return nil
	}
	c.Set("Content-Type", f.kind)
	if takesGzip(c) {
		c.Set("Content-Encoding", "gzip")
		return c.Send(f.packed())
	}
	return c.Send(f.plain)
}

// takesGzip reports whether a browser takes an answer packed by gzip.
func takesGzip(c *fiber.Ctx) bool {
	for part := range strings.SplitSeq(c.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(name, "gzip") {
			return strings.TrimSpace(quality) != "q=0"
		}
	}
	return false
}
