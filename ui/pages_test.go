package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"tokenhub/db"
)

const adminPassword = "correct horse battery"

// visitor is a browser as far as pages can tell: it keeps cookies by hand, so
// that their flags can be looked at, and follows nothing.
type visitor struct {
	t      *testing.T
	w      *world
	base   string
	cookie *http.Cookie
}

// pages serves the pages of a world and returns somebody who visits them, and has
// signed in.
func (w *world) pages() *visitor {
	w.t.Helper()
	app := fiber.New(fiber.Config{CaseSensitive: true, StrictRouting: true, StreamRequestBody: true, DisableStartupMessage: true, ErrorHandler: ErrorHandler})
	w.admin.API(Network)(app)
	app.Get("/metrics", w.admin.Metrics(Network))
	w.admin.Pages()(app)
	app.Use(w.admin.MissingPage)
	v := &visitor{t: w.t, w: w, base: listenOn(w.t, app)}
	link, err := w.admin.SetupLink(w.t.Context(), "http://127.0.0.1:1")
	if err != nil {
		w.t.Fatal(err)
	}
	token := link[strings.Index(link, "=")+1:]
	if a := v.post("/setup", url.Values{"token": {token}, "password": {adminPassword}, "again": {adminPassword}}); a.status != 303 || v.cookie == nil {
		w.t.Fatalf("the set-up link: %d %s", a.status, a.body)
	}
	return v
}

// do makes a request; header fields may follow as pairs.
func (v *visitor) do(method, path string, form url.Values, header ...string) answer {
	v.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.base+path, body)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if v.cookie != nil {
		req.AddCookie(&http.Cookie{Name: v.cookie.Name, Value: v.cookie.Value})
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Del(header[i])
		if header[i+1] != "" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	for _, c := range resp.Cookies() {
		v.cookie = c
	}
	return answer{resp.StatusCode, resp.Header, text}
}

func (v *visitor) get(path string) answer { v.t.Helper(); return v.do("GET", path, nil) }

func (v *visitor) post(path string, form url.Values, header ...string) answer {
	v.t.Helper()
	return v.do("POST", path, form, header...)
}

var everyPage = []string{"/", "/keys", "/keys?sort=spend", "/keys?sort=name&page=2", "/keys?search=k1&status=active", "/keys/new", "/usage", "/usage?by=key&range=7",
	"/usage?by=tag", "/requests", "/requests?status=4xx", "/providers", "/connect", "/audit", "/settings"}

// TestPagesShowMuch looks at each page with more keys than one page lists.
func TestPagesShowMuch(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	for i := range 120 {
		k := &db.Key{ID: fmt.Sprintf("Many%06d", i), Name: fmt.Sprintf("k%d <script>", i), Endpoints: db.Inference, CreatedAt: start,
			Tags: []string{"a", "b"}, Limits: db.Limits{DailyTokens: 1000}}
		if _, err := w.store.PutKey(t.Context(), k, db.Audit{Time: start, Actor: "test", Action: "key.create", Target: k.ID}); err != nil {
			t.Fatal(err)
		}
		res, err := w.store.Reserve(t.Context(), db.Claim{KeyID: k.ID, Time: start, Provider: "openai"})
		if err != nil {
			t.Fatal(err)
		}
		rec := &db.Record{ID: fmt.Sprintf("req_%d", i), KeyID: k.ID, Start: start, Model: "gpt-4o", Served: "gpt-4o", Provider: "openai", Status: 200 + 229*(i%2), Usage: db.Usage{Input: 400, Output: 500}, Source: db.FromProvider}
		if err := w.store.Settle(t.Context(), res, rec); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range append(everyPage, "/keys/Many000007", "/keys/Many000007/rotate", "/keys/Many000007/revoke", "/keys/Many000007/secret", "/requests/req_7") {
		a := v.get(path)
		if a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, w.log)
		}
		if strings.Contains(string(a.body), "<script>") {
			t.Errorf("%s shows a name unescaped", path)
		}
		if policy := a.header.Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
		if m := regexp.MustCompile(`(?i)<style|<script[^>]*>[^<]|\sstyle=|\son[a-z]+=|javascript:`).Find(a.body); m != nil {
			t.Errorf("%s has what the policy forbids: %s", path, m)
		}
	}
	if a := v.get("/keys"); !strings.Contains(string(a.body), "1–50 of 120") {
		t.Errorf("the list does not say what it shows of how much: %s", a.body)
	}
}

// TestPagesAskWhoIsThere: without a session each page leads to the sign-in, and
// each change is refused.
func TestPagesAskWhoIsThere(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	signedIn := v.cookie
	for _, cookie := range []*http.Cookie{nil, {Name: signedIn.Name, Value: strings.Repeat("0", len(signedIn.Value))}} {
		v.cookie = cookie
		for _, path := range everyPage {
			if a := v.get(path); a.status != 303 || !strings.HasPrefix(a.header.Get("Location"), "/sign-in") {
				t.Errorf("%s: %d to %s", path, a.status, a.header.Get("Location"))
			}
		}
		for _, s := range sights() {
			if s.method != "POST" || s.open {
				continue
			}
			if a := v.post(strings.ReplaceAll(s.path, ":", ""), url.Values{}); a.status != 303 || !strings.HasPrefix(a.header.Get("Location"), "/sign-in") {
				t.Errorf("POST %s: %d to %s", s.path, a.status, a.header.Get("Location"))
			}
		}
		if a := v.do("GET", "/api/keys", nil); a.status != 401 {
			t.Errorf("the API: %d", a.status)
		}
	}
	v.cookie = signedIn
	if a := v.do("GET", "/metrics", nil); a.status != 401 {
		t.Errorf("the metrics, which take a token: %d", a.status)
	}
	if a := v.get("/nothing-here"); a.status != 404 || !strings.Contains(string(a.body), "Not found") {
		t.Errorf("a page that is not there: %d %s", a.status, a.body)
	}
	if a := v.do("GET", "/nothing-here", nil, "Accept", "*/*"); !strings.HasPrefix(string(a.body), "{") {
		t.Errorf("a program got a page: %s", a.body)
	}
	v.post("/sign-out", url.Values{})
	v.cookie = signedIn
	if a := v.get("/keys"); a.status != 303 {
		t.Errorf("the session lives after its end: %d", a.status)
	}
}

// TestPagesLeftOpenSignOut: a page that refreshes itself kept its session alive
// for seven days, whether or not somebody sat before it.
func TestPagesLeftOpenSignOut(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	unasked := regexp.MustCompile(`hx-trigger="every [^"]*" hx-headers='\{"` + unaskedHeader + `": "1"\}'`)
	for _, path := range everyPage {
		page := v.get(path).body
		if polls := len(regexp.MustCompile(`hx-trigger="[^"]*every `).FindAll(page, -1)); polls != len(unasked.FindAll(page, -1)) {
			t.Errorf("%s asks by itself, and does not say so", path)
		}
	}
	for range 11 {
		w.pass(time.Hour)
		if a := v.do("GET", "/", nil, "HX-Request", "true", unaskedHeader, "1"); a.status != 200 {
			t.Fatalf("signed out too early: %d", a.status)
		}
	}
	w.pass(time.Hour)
	if a := v.do("GET", "/", nil, "HX-Request", "true", unaskedHeader, "1"); a.status != 401 || a.header.Get("HX-Redirect") != "/sign-in" {
		t.Errorf("after twelve hours that nobody used it: %d", a.status)
	}
	if a := v.get("/"); a.status != 303 {
		t.Errorf("the session came back: %d", a.status)
	}
}

// TestPagesBelieveTheirOwn: a change has to come from a page of this site, on the
// pages and, with the cookie, at the API.
func TestPagesBelieveTheirOwn(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	host := strings.TrimPrefix(v.base, "http://")
	tests := []struct {
		site, origin string
		yes          bool
	}{
		{"same-origin", "", true}, {"none", "", true}, {"same-site", "", false}, {"cross-site", "", false},
		{"cross-site", "http://" + host, false}, {"", "http://" + host, true}, {"", "http://evil.example", false}, {"", "null", false}, {"", "", false},
		{"", "http://" + host + ".evil.example", false},
	}
	for i, tt := range tests {
		name := fmt.Sprintf("key %d", i)
		a := v.post("/keys/new", url.Values{"name": {name}, "expires": {"never"}}, "Sec-Fetch-Site", tt.site, "Origin", tt.origin)
		if want := map[bool]int{true: 303, false: 403}[tt.yes]; a.status != want {
			t.Errorf("page: Sec-Fetch-Site %q, Origin %q: got %d, want %d", tt.site, tt.origin, a.status, want)
		}
		a = v.do("DELETE", "/api/keys/nobody", nil, "Sec-Fetch-Site", tt.site, "Origin", tt.origin)
		if want := map[bool]int{true: 404, false: 403}[tt.yes]; a.status != want {
			t.Errorf("API: Sec-Fetch-Site %q, Origin %q: got %d, want %d", tt.site, tt.origin, a.status, want)
		}
	}
}

// TestSessionCookie looks at the cookie, plain, with https, and below a path.
func TestSessionCookie(t *testing.T) {
	tests := []struct {
		base, name, path string
		secure           bool
	}{
		{"", "tokenhub_session", "/", false},
		{"http://hub.lan", "tokenhub_session", "/", false},
		{"http://hub.lan/ai", "tokenhub_session", "/ai/", false},
		{"https://hub.example", "__Host-tokenhub_session", "/", true},
		{"https://hub.example/ai", "__Secure-tokenhub_session", "/ai/", true},
	}
	for _, tt := range tests {
		w := newWorld(t)
		w.config.BaseURL = tt.base
		c := w.pages().cookie
		if c.Name != tt.name || c.Path != tt.path || c.Secure != tt.secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Domain != "" {
			t.Errorf("base_url %q: %+v", tt.base, c)
		}
	}
}

// TestPagesBelowAPath: all links of all pages lead below the path of base_url.
func TestPagesBelowAPath(t *testing.T) {
	w := newWorld(t)
	w.config.BaseURL = "https://hub.example/ai"
	v := w.pages()
	id, _ := w.key(`{"name":"k"}`)
	links := regexp.MustCompile(`(?:href|src|action|hx-get|hx-post)="([^"]*)"`)
	for _, path := range append(everyPage, "/keys/"+id, "/keys/"+id+"/rotate", "/keys/"+id+"/revoke") {
		for _, m := range links.FindAllStringSubmatch(string(v.get(path).body), -1) {
			to := m[1]
			if strings.HasPrefix(to, "/ai/") || strings.HasPrefix(to, "?") || strings.HasPrefix(to, "#") || strings.HasPrefix(to, "https://") {
				continue
			}
			t.Errorf("%s leads to %s", path, to)
		}
	}
}

// TestSignInLeadsToPagesOfThisSite tries what a link in a mail might say.
func TestSignInLeadsToPagesOfThisSite(t *testing.T) {
	for next, want := range map[string]string{
		"keys": "keys", "usage?by=key&range=7": "usage?by=key&range=7", "keys/abc": "keys/abc",
		"//evil.example": "", "https://evil.example": "", "/\\evil.example": "", "keys\\..": "", "javascript:alert(1)": "", "keys\r\nX: y": "", "sign-in": "", "": "",
	} {
		if got := safeNext(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
}

// TestSetupLinkWorksOnce: not twice, not with another token, not after an hour.
func TestSetupLinkWorksOnce(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	if link, err := w.admin.SetupLink(t.Context(), "http://127.0.0.1:1"); err != nil || link != "" {
		t.Errorf("a link although there is a password: %q %v", link, err)
	}
	v.cookie = nil
	form := url.Values{"token": {"x"}, "password": {"another password"}, "again": {"another password"}}
	if a := v.post("/setup", form); a.status != 404 || v.cookie != nil {
		t.Errorf("a link that was used: %d", a.status)
	}

	w = newWorld(t)
	w.pages() // mounts them
	fresh := newWorld(t)
	link, err := fresh.admin.SetupLink(t.Context(), "http://127.0.0.1:1")
	if err != nil || !strings.HasPrefix(link, "http://127.0.0.1:1/setup?token=") {
		t.Fatalf("%q %v", link, err)
	}
	token := link[strings.Index(link, "=")+1:]
	if !fresh.admin.setup.Load().Valid(token) {
		t.Error("the link is not valid")
	}
	fresh.pass(time.Hour)
	if fresh.admin.setup.Load().Valid(token) {
		t.Error("the link is valid after an hour")
	}
}

// TestPagesShowASecretOnce: to whoever made it, and not again.
func TestPagesShowASecretOnce(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	a := v.post("/keys/new", url.Values{"name": {"mine"}, "expires": {"7d"}, "monthly_usd": {"2.50"}, "models": {"gpt-*\nclaude-*"}})
	if a.status != 303 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	secret := regexp.MustCompile(`th-[0-9A-Za-z]{59}`)
	to := a.header.Get("Location")
	if first := v.get(to); !secret.Match(first.body) || first.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s shows no secret: %s", to, first.body)
	}
	if again := v.get(to); secret.Match(again.body) {
		t.Errorf("%s shows the secret again", to)
	}
	keys, err := w.store.AllKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k := keys[0]
	if k.Name != "mine" || k.Limits != (db.Limits{MonthlyUSD: 2_500_000}) || len(k.Models) != 2 || !k.ExpiresAt.Equal(stamp(start).Add(7*24*time.Hour)) {
		t.Errorf("the key is %+v", k)
	}
}

// TestHtmxIsTheOneThatIsNamed holds the script against the hash in NOTICE.
func TestHtmxIsTheOneThatIsNamed(t *testing.T) {
	script, err := os.ReadFile("static/htmx.min.js")
	if err != nil {
		t.Fatal(err)
	}
	notice, err := os.ReadFile("static/NOTICE")
	if err != nil {
		t.Fatal(err)
	}
	const want = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
	sum := sha256.Sum256(script)
	if got := hex.EncodeToString(sum[:]); got != want || !strings.Contains(string(notice), want) {
		t.Errorf("htmx.min.js has the hash %s, want %s, which NOTICE names", got, want)
	}
}

// TestMissingNameIsSaidInPlainWords: the form's message was the API's with a word
// replaced, and made no sense.
func TestMissingNameIsSaidInPlainWords(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	if a := v.post("/keys/new", url.Values{"name": {""}}); !strings.Contains(string(a.body), "The name is needed: 1 to 100 characters.") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestPagesSayWhatIsWrong: in whole sentences with the words of the page, not in
// those of the API.
func TestPagesSayWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	said := regexp.MustCompile(`(?s)class="(?:error|note bad)"[^>]*>([^<]+)<`)
	good := regexp.MustCompile(`^(?:"here" in A|[A-Z0-9])[^"]*\.$`)
	wrong := url.Values{"name": {strings.Repeat("x", 101)}, "expires": {"soon"}, "models": {strings.Repeat("m", 201)}, "allowed_ips": {"here"},
		"tags": {strings.Repeat("t", 101)}, "requests_per_minute": {"0"}, "daily_tokens": {"-1"}, "monthly_usd": {"0.0000001"}, "total_usd": {"much"}}
	for _, form := range []url.Values{{"name": {""}, "expires": {"never"}}, {"name": {"a\tb"}, "expires": {"2000-01-01"}}, wrong} {
		a := v.post("/keys/new", form)
		found := said.FindAllSubmatch(a.body, -1)
		if a.status != 400 || len(found) < 2 {
			t.Fatalf("%v: %d with %q", form, a.status, found)
		}
		for _, m := range found {
			if text := html.UnescapeString(string(m[1])); !good.MatchString(text) {
				t.Errorf("the form says %s", text)
			}
		}
	}
	for _, path := range []string{"/usage?from=x", "/usage?to=x", "/usage?from=2026-02-02&to=2026-01-01", "/usage?key=nobody", "/usage?by=hour&range=90",
		"/requests?status=9", "/requests?key=nobody", "/requests?before=zz", "/audit?before=zz"} {
		a := v.get(path)
		found := regexp.MustCompile(`(?s)role="alert"[^>]*>([^<]+)<`).FindSubmatch(a.body)
		if found == nil {
			t.Errorf("%s: %d says nothing", path, a.status)
		} else if text := html.UnescapeString(string(found[1])); !good.MatchString(strings.TrimSpace(text)) {
			t.Errorf("%s says %s", path, text)
		}
	}
}

// TestSelectorsFindNamesWithDots: pressed at the provider llama.cpp, Test made its
// card vanish, since #p-llama.cpp is an element of the class cpp.
func TestSelectorsFindNamesWithDots(t *testing.T) {
	w := newWorld(t)
	w.config.Providers[1].Name = "llama.cpp"
	v := w.pages()
	page := html.UnescapeString(string(v.get("/providers").body))
	if !strings.Contains(page, `id="p-llama.cpp"`) || !strings.Contains(page, `hx-select="[id='p-llama.cpp']"`) {
		t.Errorf("the answer to a test is not found in the page: %s", page)
	}
	if m := regexp.MustCompile(`hx-(select|target)="#[^"]*[^\w"-][^"]*"`).FindString(page); m != "" {
		t.Errorf("%s is no ID alone", m)
	}
}

// TestRevokeTakesTheNameAsItIsShown: a name with two blanks in a row, of which a
// browser shows one, could not be typed so that the page took it.
func TestRevokeTakesTheNameAsItIsShown(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	id, _ := w.key(`{"name":"chat  app\u00a0 2"}`)
	to := "/keys/" + id + "/revoke"
	for _, wrong := range []string{"", "chat", "chatapp2", "chat app"} {
		if a := v.post(to, url.Values{"confirm": {wrong}}); a.status != 400 {
			t.Errorf("%q: %d", wrong, a.status)
		}
	}
	if a := v.post(to, url.Values{"confirm": {" chat app 2"}}); a.status != 303 {
		t.Errorf("the name as it is shown: %d %s", a.status, a.body)
	}
}

// TestAddressesOfFormsLeadToTheirPages: who reloaded what a form had answered, or
// found it in the history, was told that there is nothing at this address.
func TestAddressesOfFormsLeadToTheirPages(t *testing.T) {
	w := newWorld(t)
	w.config.BaseURL = "http://hub.lan/ai"
	v := w.pages()
	for from, to := range map[string]string{
		"/settings/alerts": "settings", "/settings/reload": "settings", "/settings/password": "settings", "/settings/sessions": "settings",
		"/settings/tokens": "settings", "/settings/tokens/x/revoke": "settings", "/providers/llama.cpp/test": "providers", "/providers/a%2Fb/test?x=y": "providers",
		"/keys/abc/disabled": "keys/abc", "/sign-out": "",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			if a := v.do(method, from, nil); a.status != 303 || a.header.Get("Location") != "/ai/"+to {
				t.Errorf("%s %s: %d to %s, want /ai/%s", method, from, a.status, a.header.Get("Location"), to)
			}
		}
	}
	for _, s := range sights() {
		if a := v.get(strings.ReplaceAll(s.path, ":", "")); a.status == 404 && !strings.Contains(s.path, "/:id") && s.path != "/setup" {
			t.Errorf("%s: nothing is there", s.path)
		}
	}
	if v.get("/settings").status != 200 {
		t.Error("signed out by looking")
	}
	v.cookie = nil
	if a := v.get("/settings/reload"); a.status != 303 || a.header.Get("Location") != "/ai/sign-in?next=settings%2Freload" {
		t.Errorf("without a session: %d to %s", a.status, a.header.Get("Location"))
	}
}

// TestContinueSnippetIsYAML: a name such as "@cf/llama: 8b" or "null" stood there
// without quotes, and the file could not be read, or named no model.
func TestContinueSnippetIsYAML(t *testing.T) {
	const model = "@cf/llama: 8b #1"
	for _, s := range snippets("http://127.0.0.1:8080", keyHere, model) {
		if s.Name != "continue" {
			continue
		}
		for _, line := range []string{`  - name: "` + model + `"`, `    model: "` + model + `"`} {
			if !strings.Contains(s.Text, line+"\n") {
				t.Errorf("%s does not stand in\n%s", line, s.Text)
			}
		}
	}
}

// TestListsLeadToOlderAndBack: Older stood outside of what refreshes itself, so a
// page that was opened with few requests never had it; and from older pages of the
// audit trail no link led back.
func TestListsLeadToOlderAndBack(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	id, _ := w.key(`{"name":"k"}`)
	for range rowsPerPage + 1 {
		w.settle(id, "gpt-4o", "gpt-4o", "openai", 1, 1, 1, 200)
		if err := w.store.AddAudit(t.Context(), db.Audit{Time: start, Actor: "test", Action: "key.rotate", Target: id}); err != nil {
			t.Fatal(err)
		}
	}
	older := regexp.MustCompile(`href="([^"]*)">Older<`)
	newest := regexp.MustCompile(`href="([^"]*)">Newest<`)
	for path, filter := range map[string]string{"/requests": "status=2xx", "/audit": "target=" + id} {
		first := string(v.get(path + "?" + filter).body)
		next := older.FindStringSubmatch(first)
		if next == nil || newest.MatchString(first) {
			t.Fatalf("%s: the first page leads to %q: %s", path, next, first)
		}
		second := string(v.get(path + html.UnescapeString(next[1])).body)
		if back := newest.FindStringSubmatch(second); back == nil || back[1] != "?"+filter {
			t.Errorf("%s: from the second page %q leads back", path, back)
		}
	}
	page := string(v.get("/requests").body)
	list := page[strings.Index(page, `<div id="list"`):]
	depth := 0
	for _, at := range regexp.MustCompile(`</?div\b`).FindAllStringIndex(list, -1) {
		if depth++; list[at[0]:at[1]] == "</div" {
			depth -= 2
		}
		if depth == 0 {
			list = list[:at[1]]
			break
		}
	}
	if !older.MatchString(list) {
		t.Errorf("what refreshes itself does not lead to older requests: %s", list)
	}
}

// Files of the pages are kept by browsers for good, so their path tells what is in
// them: with another hash there is no such file.
func TestFilesOfPagesByTheirHash(t *testing.T) {
	v := newWorld(t).pages()
	v.cookie = nil // the page to sign in has them too
	for name, f := range loadAssets() {
		if a := v.get(f.path); a.status != 200 || string(a.body) != string(f.plain) || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %d bytes, %v", f.path, a.status, len(a.body), a.header)
		}
		if a := v.do("HEAD", f.path, nil, "If-None-Match", f.etag); a.status != 304 {
			t.Errorf("HEAD of the same %s: %d", f.path, a.status)
		}
		for _, path := range []string{"/static/0123456789abcdef/" + name, strings.TrimSuffix(f.path, name) + "other.js", f.path + "/"} {
			if a := v.get(path); a.status == 200 {
				t.Errorf("%s: got an answer of %d bytes", path, len(a.body))
			}
		}
	}
	if a := v.get("/favicon.ico"); a.status != 200 || strings.Contains(a.header.Get("Cache-Control"), "immutable") {
		t.Errorf("the icon: %d %v", a.status, a.header)
	}
}
