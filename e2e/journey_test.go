package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// friendly makes a provider that answers each chat with 300 + 120 tokens.
func friendly(t *testing.T) *provider {
	t.Helper()
	return startProvider(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"message":{"role":"assistant","content":"Hello."}}],"usage":{"prompt_tokens":300,"completion_tokens":120,"total_tokens":420}}`)
	})
}

var (
	setupLine  = regexp.MustCompile(`Set the admin password here \(valid for one hour\): (http://\S+)`)
	secretText = regexp.MustCompile(`th-[0-9A-Za-z]{59}`)
)

// setUp follows the set-up link that the server printed, and sets the password.
func (b *browser) setUp(h *hub) {
	b.t.Helper()
	link := setupLine.FindStringSubmatch(h.log.String())
	if link == nil {
		b.t.Fatalf("no set-up link was printed:\n%s", h.log)
	}
	b.open(strings.TrimPrefix(link[1], h.url))
	b.fill("#password", password)
	b.fill("#again", password)
	b.submit("Set the password")
	b.shows("Overview")
}

// secret returns the key that the page shows.
func (b *browser) secret() string {
	b.t.Helper()
	key := secretText.FindString(b.words())
	if key == "" {
		b.t.Fatalf("no key is shown at %s:\n%s", b.location(), b.words())
	}
	return key
}

// keys presses keys one after the other, wherever the focus is.
func (b *browser) keys(text string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(text))
}

// tabTo presses Tab until the focus is on what says text, or has that ID.
func (b *browser) tabTo(text string) {
	b.t.Helper()
	for range 80 {
		b.keys("\t")
		at := get(b, chromedp.Evaluate[string](`(document.activeElement.id || "") + "|" + (document.activeElement.innerText || "").trim()`))
		if id, says, _ := strings.Cut(at, "|"); id == text || says == text {
			return
		}
	}
	b.t.Fatalf("Tab does not lead to %q at %s", text, b.location())
}

// enter presses Enter and waits for the page that it leads to.
func (b *browser) enter() {
	b.t.Helper()
	get(b, chromedp.Evaluate[bool]("window.here = true"))
	b.keys("\r")
	b.until("!window.here && document.readyState === 'complete'", "Enter leads nowhere")
}

// A stranger with the browser alone, from the first start: a password, a key, a
// call with it and what there is to see of it; then all that can be done to a key.
func TestPagesLeadThroughTheLifeOfAKey(t *testing.T) {
	h := startHub(t, friendly(t).config())
	b := openBrowser(t, h.url)
	b.open(strings.TrimPrefix(setupLine.FindStringSubmatch(h.log.String())[1], h.url))
	b.fill("#password", password)
	b.fill("#again", password+"!")
	b.submit("Set the password")
	b.shows("two passwords differ")
	b.setUp(h)

	b.open("/keys")
	b.submit("New API key")
	b.fill("#name", "first")
	b.fill("[name=monthly_tokens]", "many")
	b.submit("Create key")
	b.shows("Tokens per month must be")
	b.fill("[name=monthly_tokens]", "1 000 000")
	b.choose("[name=expires]", "30d")
	b.submit("Create key")
	key := b.secret()
	id := key[3:13]
	if status, _, body := h.chat(t, key, plainChat); status != 200 {
		t.Fatalf("the new key: %d %s", status, body)
	}
	b.open("/keys/" + id + "/secret")
	b.lacks(key)

	b.open("/usage")
	b.shows("300", "120")
	b.open("/requests")
	b.shows("first", "gpt-4o-mini")
	csv := get(b, chromedp.Evaluate[string](`fetch("/api/usage?group_by=key&format=csv").then(r => r.text())`, chromedp.EvalAwaitPromise))
	if !strings.HasPrefix(csv, "key,key_name,requests") || !strings.Contains(csv, id+",first,1,0,300,120") {
		t.Errorf("the CSV: %s", csv)
	}

	b.open("/keys/" + id)
	b.fill("[name=total_tokens]", "421")
	b.submit("Save")
	b.shows("Saved.")
	if status, _, body := h.chat(t, key, plainChat); status != 402 || !strings.Contains(body, "total_token_limit_reached") {
		t.Errorf("above the new limit: %d %s", status, body)
	}
	b.do(chromedp.Clear("[name=total_tokens]"))
	b.fill("#name", "renamed")
	b.submit("Save")
	b.shows("Saved.")

	b.open("/keys/" + id + "/rotate")
	b.submit("Rotate")
	second := b.secret()
	if status, _, _ := h.chat(t, key, plainChat); status != 401 {
		t.Errorf("the old secret after a rotation: %d", status)
	}
	if status, _, body := h.chat(t, second, plainChat); status != 200 {
		t.Errorf("the new secret: %d %s", status, body)
	}

	b.open("/keys/" + id)
	b.submit("Disable")
	if status, _, _ := h.chat(t, second, plainChat); status != 401 {
		t.Errorf("a disabled key: %d", status)
	}
	b.submit("Enable")
	if status, _, _ := h.chat(t, second, plainChat); status != 200 {
		t.Errorf("an enabled key: %d", status)
	}

	b.open("/keys/" + id + "/revoke")
	b.fill("[name=confirm]", "something else")
	b.submit("Revoke for good")
	b.shows("exactly as it stands")
	b.fill("[name=confirm]", "renamed")
	b.submit("Revoke for good")
	b.shows("revoked for good")
	if status, _, _ := h.chat(t, second, plainChat); status != 401 {
		t.Errorf("a revoked key: %d", status)
	}
	b.open("/audit")
	b.shows("renamed")
}

// Five wrong passwords, and the next is not looked at, though it be the right one.
func TestPagesSlowGuessersDown(t *testing.T) {
	h := startHub(t, friendly(t).config())
	openBrowser(t, h.url).setUp(h)
	b := openBrowser(t, h.url)
	b.open("/sign-in")
	for range 5 {
		b.fill("#password", "a wrong password")
		b.submit("Sign in")
		b.shows("This is not the password")
	}
	b.fill("#password", password)
	b.submit("Sign in")
	b.shows("Too many wrong passwords")
}

// A page of another port of this machine, to which the browser sends the cookie
// along, changes nothing.
func TestPagesRefuseForeignOnes(t *testing.T) {
	h := startHub(t, friendly(t).config())
	b := openBrowser(t, h.url)
	b.setUp(h)
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s/keys/new"><input name="name" value="stolen"><input name="expires" value="never"></form><script>document.forms[0].submit()</script>`, h.url)
	}))
	t.Cleanup(foreign.Close)
	b.do(chromedp.Navigate(foreign.URL))
	b.shows("Not allowed")
	if list := h.run(t, "keys", "list", "--json"); strings.Contains(list, "stolen") {
		t.Errorf("a foreign page made a key: %s", list)
	}
	status := get(b, chromedp.Evaluate[int](`fetch("/api/keys", {method: "POST", body: '{"name":"mine"}'}).then(r => r.status)`, chromedp.EvalAwaitPromise))
	if status != 201 { // a page of this site may
		t.Errorf("a page of this site: %d", status)
	}
}

// The main path with nothing but a keyboard, and out again.
func TestPagesNeedNoMouse(t *testing.T) {
	h := startHub(t, friendly(t).config())
	b := openBrowser(t, h.url)
	b.open(strings.TrimPrefix(setupLine.FindStringSubmatch(h.log.String())[1], h.url))
	b.keys(password) // it has the focus
	b.tabTo("again")
	b.keys(password)
	b.enter()
	b.shows("Overview")
	b.tabTo("API keys")
	b.enter()
	b.tabTo("New API key")
	b.enter()
	b.tabTo("name")
	b.keys("typed")
	b.enter()
	key := b.secret()
	if status, _, body := h.chat(t, key, plainChat); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	b.tabTo("Requests")
	b.enter()
	b.shows("typed")
	b.tabTo("Sign out")
	b.enter()
	b.open("/keys")
	if at := b.location(); !strings.HasPrefix(at, "/sign-in") {
		t.Errorf("signed out, and still at %s", at)
	}
}

// Each page is there in few bytes, with all that it needs.
func TestPagesAreSmall(t *testing.T) {
	h := startPast(t)
	b := openBrowser(t, h.url)
	b.signIn()
	for name, path := range allPages(b) {
		b.open(path)
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		size, err := chromedp.Run(ctx, chromedp.Evaluate[int](`[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce((sum, e) => sum + e.encodedBodySize, 0)`))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if size == 0 || size > 100<<10 {
			t.Errorf("%s takes %d bytes", name, size)
		}
	}
}
