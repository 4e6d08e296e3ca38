package ui

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
)

// sight is one of the admin pages, or what a form on one of them does.
type sight struct {
	method, path string
	handle       func(*Admin, *request) error
	// open ones are seen without signing in.
	open bool
}

// sights are all pages. GET routes answer HEAD too.
func sights() []sight {
	return []sight{
		{"GET", "/setup", (*Admin).setupPage, true},
		{"POST", "/setup", (*Admin).setupForm, true},
		{"GET", "/sign-in", (*Admin).signInPage, true},
		{"POST", "/sign-in", (*Admin).signInForm, true},
		{"POST", "/sign-out", (*Admin).signOutForm, true},

		{"GET", "/", (*Admin).overviewPage, false},
		{"GET", "/keys", (*Admin).keysPage, false},
		{"GET", "/keys/new", (*Admin).newKeyPage, false},
		{"POST", "/keys/new", (*Admin).newKeyForm, false},
		{"GET", "/keys/:id", (*Admin).keyPage, false},
		{"POST", "/keys/:id", (*Admin).keyForm, false},
		{"GET", "/keys/:id/secret", (*Admin).secretPage, false},
		{"GET", "/keys/:id/rotate", (*Admin).rotatePage, false},
		{"POST", "/keys/:id/rotate", (*Admin).rotateForm, false},
		{"POST", "/keys/:id/disabled", (*Admin).disableForm, false},
		{"GET", "/keys/:id/revoke", (*Admin).revokePage, false},
		{"POST", "/keys/:id/revoke", (*Admin).revokeForm, false},
		{"GET", "/usage", (*Admin).usagePage, false},
		{"GET", "/requests", (*Admin).requestsPage, false},
		{"GET", "/requests/:id", (*Admin).requestPage, false},
		{"GET", "/providers", (*Admin).providersPage, false},
		{"POST", "/providers/:name/test", (*Admin).testForm, false},
		{"GET", "/connect", (*Admin).connectPage, false},
		{"GET", "/audit", (*Admin).auditPage, false},
		{"GET", "/settings", (*Admin).settingsPage, false},
		{"POST", "/settings/password", (*Admin).passwordForm, false},
		{"POST", "/settings/sessions", (*Admin).sessionsForm, false},
		{"POST", "/settings/tokens", (*Admin).tokenForm, false},
		{"POST", "/settings/tokens/:id/revoke", (*Admin).revokeTokenForm, false},
		{"POST", "/settings/alerts", (*Admin).alertsForm, false},
		{"POST", "/settings/reload", (*Admin).reloadForm, false},
	}
}

// Pages returns what mounts the admin pages on a router: at /, for whoever signs
// in with the admin password. It is mounted beside [Admin.API] for [Network],
// which their sessions open too.
func (a *Admin) Pages() func(fiber.Router) {
	a.assets = sync.OnceValue(loadAssets)
	a.templates = sync.OnceValue(a.loadTemplates)
	return func(r fiber.Router) {
		seen := map[string]bool{}
		for _, s := range sights() {
			h := a.show(s)
			r.Add(s.method, s.path, h)
			if s.method == "GET" {
				r.Add("HEAD", s.path, h)
				seen[s.path] = true
			}
		}
		for _, s := range sights() {
			if !seen[s.path] {
				h := a.show(sight{handle: above(s.path, seen)})
				r.Add("GET", s.path, h)
				r.Add("HEAD", s.path, h)
			}
		}
		r.Get("/static/:hash/:name", a.serveAsset)
		r.Get("/favicon.ico", func(c *fiber.Ctx) error { return a.assets()["icon.svg"].serve(c) })
	}
}

// above leads from the address of a form, which stays in the browser with the
// form's answer, to the page that it lies below.
func above(address string, seen map[string]bool) func(*Admin, *request) error {
	page := path.Dir(address)
	for !seen[page] {
		page = path.Dir(page)
	}
	parts := strings.Count(strings.TrimSuffix(page, "/"), "/")
	return func(a *Admin, r *request) error {
		own := strings.Split(strings.TrimPrefix(r.c.Path(), "/"), "/")
		return a.redirect(r, strings.Join(own[:parts], "/"))
	}
}

// MissingPage answers people who look for a page that is not there, and leaves
// programs to the handler after it.
func (a *Admin) MissingPage(c *fiber.Ctx) error {
	read := c.Method() == "GET" || c.Method() == "HEAD"
	if !read || !strings.Contains(c.Get("Accept"), "text/html") {
		return c.Next()
	}
	return a.show(sight{open: true, handle: func(a *Admin, r *request) error { return errNoPage }})(c)
}

var errNoPage = errMissing("There is nothing at this address. It may have been mistyped, or what was here is gone.")

// pageTime bounds the work for one page.
const pageTime = 30 * time.Second

// show wraps the handler of a page: who asks, may they, and how it ends.
func (a *Admin) show(s sight) fiber.Handler {
	return func(c *fiber.Ctx) (err error) {
		h := &c.Response().Header
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		ctx, cancel := context.WithTimeout(context.Background(), pageTime)
		defer cancel()
		r := &request{c: c, ctx: ctx}
		defer func() {
			if p := recover(); p != nil {
				err = a.failPage(r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		if s.method == "POST" && !a.ownPage(c) {
			return a.failPage(r, errForeign)
		}
		r.session = a.signedIn(c)
		if r.session == "" && !s.open {
			return a.askToSignIn(r)
		}
		r.caller = a.admin(c)
		if err := s.handle(a, r); err != nil {
			return a.failPage(r, err)
		}
		return nil
	}
}

// askToSignIn leads to the page where one signs in, and from there back here.
func (a *Admin) askToSignIn(r *request) error {
	to := "sign-in"
	if r.c.Method() == "GET" {
		if here := strings.TrimPrefix(string(r.c.Request().RequestURI()), "/"); here != "" && len(here) < 1000 {
			to += "?next=" + url.QueryEscape(here)
		}
	}
	if r.c.Get("HX-Request") != "" { // a part of a page: the whole has to go
		r.c.Set("HX-Redirect", a.root()+"sign-in")
		r.c.Status(401)
		return nil
	}
	return a.redirect(r, to)
}

// redirect leads to a page, given by its path without a slash in front.
func (a *Admin) redirect(r *request, to string) error {
	r.c.Set("Location", a.root()+to)
	r.c.Status(303)
	return nil
}

// failPage answers with a page that says what went wrong.
func (a *Admin) failPage(r *request, err error) error {
	e := asError(err)
	if e.Status >= 500 && e.Err != nil {
		a.log.Error().Err(e.Err).Str("route", r.c.Method()+" "+r.c.Route().Path).Msg("admin page")
	}
	title := "This did not work"
	switch {
	case e.Status == 404:
		title = "Not found"
	case e.Status == 403:
		title = "Not allowed"
	case e.Status == 409:
		title = "This can't be done now"
	case e.Status >= 500:
		title = "Something went wrong"
	}
	return a.page(r, e.Status, "error", title, e)
}

// form reads the fields of a form. One that stands several times is a list.
func (r *request) form() (url.Values, error) {
	body, err := readBody(r.c)
	if err != nil {
		return nil, err
	}
	kind, _, _ := strings.Cut(r.c.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		return nil, errInvalid("This takes a form of these pages only.")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errInvalid("The form can't be read. Go back and send it again.")
	}
	return values, nil
}

// ask returns the parameters of the page's query; what is not known is left out,
// and of what stands twice the first counts: people mistype addresses.
func (r *request) ask(known ...string) map[string]string {
	out := map[string]string{}
	args := r.c.Context().QueryArgs()
	for _, name := range known {
		if v := string(args.Peek(name)); v != "" {
			out[name] = v
		}
	}
	return out
}
