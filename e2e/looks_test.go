package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// password is the admin password of all tests.
const password = "correct horse battery staple"

// startPast starts a server that has a month of use behind it.
func startPast(t *testing.T) *hub {
	t.Helper()
	dir := t.TempDir()
	makePast(t, dir)
	h := startHub(t, fmt.Sprintf("data_dir = %q\n", filepath.Join(dir, "data"))+pastConfig)
	h.setPassword(t, password)
	return h
}

// setPassword sets the admin password in a terminal.
func (h *hub) setPassword(t *testing.T, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "admin", "password", "--config", h.config)
	cmd.Env, cmd.Stdin = plainEnvironment(), strings.NewReader(text+"\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tokenhub admin password: %v: %s", err, out)
	}
}

// signIn signs in and lands on the overview.
func (b *browser) signIn() {
	b.t.Helper()
	b.open("/sign-in")
	b.fill("#password", password)
	b.submit("Sign in")
	b.shows("Overview")
}

// allPages are the pages as people see them, by name.
func allPages(b *browser) map[string]string {
	id := "Demo000001"
	pages := map[string]string{"overview": "/", "keys": "/keys", "key-new": "/keys/new", "key": "/keys/Demo000002", "key-rotate": "/keys/" + id + "/rotate",
		"key-revoke": "/keys/" + id + "/revoke", "key-shown": "/keys/" + id + "/secret", "usage": "/usage", "usage-key": "/usage?by=key&range=7&measure=tokens", "requests": "/requests", "requests-none": "/requests?model=nothing",
		"providers": "/providers", "connect": "/connect?app=python", "audit": "/audit", "settings": "/settings", "missing": "/nothing-here"}
	b.open("/requests")
	if href := get(b, chromedp.Evaluate[string]("(document.querySelector('td a.name') || {href: ''}).href")); href != "" {
		pages["request"] = strings.TrimPrefix(href, b.base)
	}
	return pages
}

// TestPagesArePleasantForAll has axe look at each page, in both themes, at three
// widths, and checks that nothing is wider than the window. With SCREENSHOTS it
// writes what it sees into that folder.
func TestPagesArePleasantForAll(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	h := startPast(t)
	b := openBrowser(t, h.url)
	empty := openBrowserAt(t)
	look := func(b *browser, name, path string) {
		b.open(path)
		for _, width := range []int64{360, 768, 1440} {
			b.size(width, 900)
			b.fits(name, width)
			b.keep(name, "light", width)
			b.theme("dark")
			b.keep(name, "dark", width)
			b.theme("light")
		}
		b.accessible(string(axe), name, "light")
		b.theme("dark")
		b.size(360, 900)
		b.accessible(string(axe), name, "dark")
		b.theme("light")
	}
	fresh, setup := openNew(t)
	look(fresh, "setup", setup)
	look(fresh, "setup-needed", "/sign-in")
	look(b, "sign-in", "/sign-in")
	b.signIn()
	for name, path := range allPages(b) {
		look(b, name, path)
	}
	b.open("/settings")
	b.do(chromedp.Click("details.sure summary"))
	for _, width := range []int64{360, 1440} {
		b.size(width, 900)
		b.fits("settings-revoke", width)
		b.keep("settings-revoke", "light", width)
	}
	for name, path := range map[string]string{"empty-overview": "/", "empty-usage": "/usage", "empty-requests": "/requests", "empty-audit": "/audit"} {
		look(empty, name, path)
	}
}

// openBrowserAt starts a server where nothing has happened yet, and a browser that
// is signed in there.
func openBrowserAt(t *testing.T) *browser {
	t.Helper()
	h := startHub(t, "[log]\nlevel = \"error\"\n")
	h.setPassword(t, password)
	b := openBrowser(t, h.url)
	b.signIn()
	return b
}

// openNew starts a server without a password, and a browser at its set-up link.
func openNew(t *testing.T) (b *browser, setup string) {
	t.Helper()
	h := startHub(t, "[log]\nlevel = \"error\"\n")
	link := setupLine.FindStringSubmatch(h.log.String())
	if link == nil {
		t.Fatalf("no set-up link was printed:\n%s", h.log)
	}
	return openBrowser(t, h.url), strings.TrimPrefix(link[1], h.url)
}

// fits fails if the page is wider than the window.
func (b *browser) fits(name string, width int64) {
	b.t.Helper()
	if wide := get(b, chromedp.Evaluate[int64]("document.documentElement.scrollWidth")); wide > width {
		b.t.Errorf("%s at %d pixels is %d wide: %s", name, width, wide, get(b, chromedp.Evaluate[string](`[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map(e => e.outerHTML.slice(0, 120)).join("\n")`)))
	}
}

// keep writes a picture of the page, if somebody wants it.
func (b *browser) keep(name, theme string, width int64) {
	b.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	// What sticks to the window's end is to stand at the page's.
	b.size(width, max(900, get(b, chromedp.Evaluate[int64]("document.documentElement.scrollHeight"))))
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, theme, width)), b.picture(), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.size(width, 900)
}

// accessible fails for each serious thing that axe finds on the page.
func (b *browser) accessible(axe, name, theme string) {
	b.t.Helper()
	b.open(b.location())
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](axe+`;
axe.run(document, {resultTypes: ["violations", "passes"]}).then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical" || v.impact === "moderate")
	.concat(r.passes.length < 5 ? [{impact: "serious", id: "axe", help: "it has hardly looked", nodes: []}] : [])
	.map(v => v.impact + " " + v.id + ": " + v.help + "\n" + v.nodes.slice(0, 3).map(n => "    " + n.html.slice(0, 200) + " " + n.failureSummary.slice(0, 300)).join("\n")))`, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("axe on %s: %v", name, err)
	}
	for _, f := range found {
		b.t.Errorf("%s (%s): %s", name, theme, f)
	}
}
