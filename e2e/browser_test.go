package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one tab of a real browser, with cookies of its own.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu sync.Mutex // guards complaints
	// complaints are what the browser's console said: broken promises of the
	// pages, such as a script that the policy forbids.
	complaints []string
}

// chromium is the name of the browser on this machine, empty without one.
func chromium() string {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil && name != "" {
			return path
		}
	}
	return ""
}

// started is the browser that all tests share; each has tabs and cookies of its
// own in it.
var started struct {
	once sync.Once
	ctx  context.Context
	err  error
	stop func()
}

// startBrowser starts the browser. TestMain ends it.
func startBrowser(path string) {
	dir, err := os.MkdirTemp("", "tokenhub-browser-")
	if err != nil {
		started.err = err
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en-US"))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	started.ctx, started.err = ctx, chromedp.Do(ctx) // which starts it
	started.stop = func() {
		cancel()
		stop()
		os.RemoveAll(dir)
	}
}

// openBrowser opens a tab that is closed when the test ends. Tests that need one
// are skipped on machines without a browser.
func openBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path := chromium()
	if path == "" {
		t.Skip("there is no Chromium on this machine: install one, or set CHROMIUM to its path")
	}
	started.once.Do(func() { startBrowser(path) })
	if started.err != nil {
		t.Fatalf("start %s: %v", path, started.err)
	}
	b := &browser{t: t, base: base}
	ctx, cancel := chromedp.NewContext(started.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	b.ctx = ctx
	if err := chromedp.Do(ctx); err != nil { // opens it
		t.Fatalf("open a tab: %v", err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, c := range b.complaints {
			t.Errorf("the console says: %s", c)
		}
	})
	err := chromedp.Listen(ctx, func(e any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := e.(type) {
		case *log.EventEntryAdded:
			// Answers that say no are part of the tests.
			if e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "the server responded with a status of") {
				b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
			}
		case *runtime.EventExceptionThrown:
			b.complaints = append(b.complaints, e.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	b.size(1280, 900)
	return b
}

// do runs actions, each of which must succeed within some seconds.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v\nat %s:\n%s", err, b.location(), b.words())
	}
}

// get runs an action that returns something.
func get[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%v\nat %s:\n%s", err, b.location(), b.words())
	}
	return v
}

// location is where the browser is, without the base.
func (b *browser) location() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	at, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return strings.TrimPrefix(at, b.base)
}

// words are what can be read on the page.
func (b *browser) words() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}

// open opens a page.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

// shows waits until a text can be read on the page.
func (b *browser) shows(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.until(fmt.Sprintf("document.body.innerText.includes(%q)", text), "the page does not show %q", text)
	}
}

// lacks fails if a text can be read on the page.
func (b *browser) lacks(text string) {
	b.t.Helper()
	if strings.Contains(b.words(), text) {
		b.t.Fatalf("%s shows %q:\n%s", b.location(), text, b.words())
	}
}

// until waits until an expression is true.
func (b *browser) until(expression, format string, args ...any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		// A page that is being left has no answer.
		if yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")")); err == nil && yes {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("%s\nat %s:\n%s", fmt.Sprintf(format, args...), b.location(), b.words())
		}
	}
}

// fill types a text into a field, in the place of what was there.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	b.do(chromedp.Clear(selector), chromedp.SendKeys(selector, text))
}

// choose chooses a value of a list.
func (b *browser) choose(selector, value string) {
	b.t.Helper()
	b.do(chromedp.SetValue(selector, value))
	get(b, chromedp.Evaluate[bool](fmt.Sprintf("document.querySelector(%q).dispatchEvent(new Event('change', {bubbles: true}))", selector)))
}

// press clicks the button or link with this text.
func (b *browser) press(text string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.Search(fmt.Sprintf(`//main//*[self::a or self::button][normalize-space(.)=%q]`, text))))
}

// submit clicks the button or link with this text, and waits for the page that it
// leads to.
func (b *browser) submit(text string) {
	b.t.Helper()
	get(b, chromedp.Evaluate[bool]("window.here = true"))
	b.press(text)
	b.until("!window.here && document.readyState === 'complete'", "%q leads nowhere", text)
}

// text returns what stands in an element.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return strings.TrimSpace(get(b, chromedp.TextContent(selector)))
}

// size sets the size of the window.
func (b *browser) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// theme sets what the system is said to prefer: light or dark.
func (b *browser) theme(name string) {
	b.t.Helper()
	b.do(func(ctx context.Context, tab *chromedp.Target) (v chromedp.Void, err error) {
		_, err = cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
		return v, err
	})
}

// picture returns the whole page as PNG.
func (b *browser) picture() []byte {
	b.t.Helper()
	return get(b, chromedp.FullScreenshot(100))
}
