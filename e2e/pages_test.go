package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// What changes shows up by itself; who was slower is told; an old secret lives on
// for its grace.
func TestPagesKeepUp(t *testing.T) {
	h := startHub(t, friendly(t).config())
	h.setPassword(t, password)
	key := h.key(t, "Laptop")
	b := openBrowser(t, h.url)
	b.signIn()

	b.open("/requests")
	b.shows("No requests yet")
	if status, _, body := h.chat(t, key, plainChat); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	b.shows("Laptop", "420") // within 5 s, without reloading

	b.open("/keys/Laptop")
	b.shows("So far")
	h.run(t, "keys", "update", "Laptop", "--rpm", "60")
	b.fill("#tokens_per_minute", "5000")
	b.submit("Save")
	b.shows("was changed meanwhile")

	b.open("/keys/Laptop")
	b.submit("Rotate")
	b.do(chromedp.Click("input[value='1h']"))
	b.submit("Rotate")
	for name, text := range map[string]string{"the old secret": key, "the new secret": b.secret()} {
		if status, _, body := h.chat(t, text, plainChat); status != 200 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	b.press("Copy the key")
	b.until("document.querySelector('#said').textContent === 'Copied.'", "nothing was copied")
	// Pressed twice it does not stay like that.
	label := `document.querySelector("[data-copy=secret]").textContent`
	get(b, chromedp.Evaluate[bool](`document.querySelector("[data-copy=secret]").click() || true`))
	b.until(label+" === 'Copied'", "the button does not say that it was pressed")
	b.until(label+" === 'Copy the key' && document.querySelector('[data-copy=secret] .unseen')", "the button does not say again what it does")
	b.submit("Done")
	b.shows("An older secret of this key still works until")

	// The search finds while one types, and keeps the focus.
	h.key(t, "Phone")
	b.open("/keys")
	b.do(chromedp.SendKeys("#search", "phon"))
	b.until("document.querySelectorAll('#list tbody tr').length === 1 && document.activeElement.id === 'search'", "the search does not search")
	b.until("document.querySelector('#said').textContent === '1 key found.'", "nobody is told what was found")
	b.lacks("Laptop")
}

// The card of a provider whose name holds a dot stays where it is, with what
// became of the test in it: it vanished.
func TestPagesTestAProvider(t *testing.T) {
	h := startHub(t, strings.Replace(friendly(t).config(), `"openai"`, `"llama.cpp"`, 1))
	h.setPassword(t, password)
	b := openBrowser(t, h.url)
	b.signIn()
	b.open("/providers")
	b.press("Test llama.cpp with one real, cheap call")
	b.until(`document.querySelector("[id='p-llama.cpp'] [role=status]")`, "the test leaves no word")
	b.shows("llama.cpp")
}

// On a narrow window the menu is behind a button, which a keyboard opens too, and
// what has the focus is seen.
func TestPagesOnAPhone(t *testing.T) {
	h := startHub(t, "[log]\nlevel = \"error\"\n")
	h.setPassword(t, password)
	b := openBrowser(t, h.url)
	b.signIn()
	b.size(360, 800)
	b.open("/keys")
	b.tabTo("Menu")
	if outline := get(b, chromedp.Evaluate[string]("getComputedStyle(document.activeElement).outlineStyle")); outline == "none" {
		t.Error("nobody sees what has the focus")
	}
	b.keys("\r")
	b.tabTo("Audit")
	b.enter()
	b.shows("Every change")
}

// The settings: password, sessions, admin tokens, a backup, a reload.
func TestPagesChangeSettings(t *testing.T) {
	h := startHub(t, "[log]\nlevel = \"error\"\n")
	h.setPassword(t, password)
	b, other := openBrowser(t, h.url), openBrowser(t, h.url)
	b.signIn()
	other.signIn()

	b.open("/settings")
	b.fill("#token_name", "Grafana")
	b.do(chromedp.Click("input[name=read_only]"))
	b.submit("Make a token")
	b.shows("Copy the admin token Grafana now")
	token := b.text("#secret")
	if status, body := h.admin(t, "GET", "/api/keys", token); status != 200 {
		t.Errorf("the new admin token: %d %s", status, body)
	}
	if status, body := h.admin(t, "POST", "/api/keys", token); status != 403 {
		t.Errorf("an admin token that may only look: %d %s", status, body)
	}
	b.open("/settings")
	b.lacks(token)
	b.do(chromedp.Click(".sure summary"))
	b.submit("For good")
	b.shows("The admin token is revoked.")
	if status, body := h.admin(t, "GET", "/api/keys", token); status != 401 {
		t.Errorf("a revoked admin token: %d %s", status, body)
	}
	b.submit("Reload the configuration")
	b.shows("It was read again.")

	// The session's cookie opens the API too.
	if size := get(b, chromedp.Evaluate[int64]("fetch('/api/backup').then(r => r.arrayBuffer()).then(b => b.byteLength)", chromedp.EvalAwaitPromise)); size < 4096 {
		t.Errorf("the backup has %d bytes", size)
	}
	csv := get(b, chromedp.Evaluate[string]("fetch('/usage').then(r => r.text()).then(t => fetch(new DOMParser().parseFromString(t, 'text/html').querySelector('a[download]').href)).then(r => r.text())", chromedp.EvalAwaitPromise))
	if !strings.HasPrefix(csv, "model,requests,errors,") {
		t.Errorf("CSV: %q", csv)
	}
	if got := get(b, chromedp.Evaluate[string]("document.cookie")); got != "" {
		t.Errorf("scripts can read the cookie %q", got)
	}

	b.fill("#current", "not it at all")
	b.fill("#password", "a better password")
	b.fill("#again", "a better password")
	b.submit("Change the password")
	b.shows("This is not the current password.")
	b.fill("#current", password)
	b.fill("#password", "a better password")
	b.fill("#again", "a better password")
	b.submit("Change the password")
	b.shows("The password was changed.")
	other.open("/keys")
	other.shows("Sign in")
	other.fill("#password", "a better password")
	other.submit("Sign in")
	other.open("/settings")
	other.submit("Sign out everywhere")
	other.shows("All sessions have ended")
	b.open("/keys")
	b.shows("Sign in")
}

// admin makes a call of the admin API with a token.
func (h *hub) admin(t *testing.T, method, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, h.url+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// The pages through a proxy that has them below a path.
func TestPagesBelowAPath(t *testing.T) {
	var h *hub
	proxy := startProvider(t, func(w http.ResponseWriter, r *http.Request, body []byte) {
		rest, ok := strings.CutPrefix(r.URL.Path, "/hub")
		if !ok {
			http.Error(w, "the proxy has nothing here: "+r.URL.Path, http.StatusNotFound)
			return
		}
		forward(w, r, h.url+rest, body)
	})
	h = startHub(t, fmt.Sprintf("base_url = %q\n[log]\nlevel = \"error\"\n", proxy.URL+"/hub"))
	link := setupLine.FindStringSubmatch(h.log.String())
	if link == nil || !strings.HasPrefix(link[1], proxy.URL+"/hub/setup?token=") {
		t.Fatalf("the set-up link %s does not begin with base_url", link)
	}
	h.setPassword(t, password)
	b := openBrowser(t, proxy.URL+"/hub")
	b.signIn()
	for _, text := range []string{"API keys", "Usage", "Requests", "Providers", "Connect", "Audit", "Settings"} {
		b.do(chromedp.Click(chromedp.Search(fmt.Sprintf(`//nav//a[normalize-space(.)=%q]`, text))))
		b.until(fmt.Sprintf("document.querySelector('h1').textContent === %q", text), "the menu does not lead to %s", text)
		b.lacks("the proxy has nothing here")
	}
	b.open("/keys/new")
	b.fill("#name", "below")
	b.submit("Create key")
	b.shows("Copy this key now", proxy.URL+"/hub/v1/chat/completions")
	if got := get(b, chromedp.Evaluate[int64]("fetch('"+proxy.URL+"/hub/api/keys').then(r => r.status)", chromedp.EvalAwaitPromise)); got != 200 {
		t.Errorf("the API below the path: %d", got)
	}
}

// forward is a proxy that does little.
func forward(w http.ResponseWriter, r *http.Request, to string, body []byte) {
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, to, strings.NewReader(string(body)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}
