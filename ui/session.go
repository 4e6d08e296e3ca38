package ui

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"tokenhub/auth"
	"tokenhub/config"
)

// root is the path below which browsers see the pages, with a slash at its end.
// A proxy that puts them below a path takes it off again.
func (a *Admin) root() string {
	cfg := a.config()
	if cfg.AdminListen != "" { // base_url is about the gateway's address
		return "/"
	}
	return rootOf(cfg)
}

func rootOf(cfg *config.Config) string {
	u, err := url.Parse(cfg.BaseURL)
	if err != nil {
		return "/"
	}
	return strings.TrimSuffix(u.EscapedPath(), "/") + "/"
}

// encrypted reports whether browsers reach the pages by https: directly, or
// through a proxy as base_url says.
func (a *Admin) encrypted(c *fiber.Ctx) bool {
	cfg := a.config()
	return c.Context().IsTLS() || cfg.AdminListen == "" && strings.HasPrefix(cfg.BaseURL, "https://")
}

// cookieName is the name of the session's cookie. Its prefix has browsers hold
// the promise that only this site, and only by https, may set it.
func (a *Admin) cookieName(c *fiber.Ctx) string {
	switch {
	case !a.encrypted(c):
		return "tokenhub_session"
	case a.root() == "/":
		return "__Host-tokenhub_session"
	}
	return "__Secure-tokenhub_session"
}

// unaskedHeader marks what a page asks for by itself, see the templates: it is no
// use of the session.
const unaskedHeader = "X-TokenHub-Unasked"

// signedIn returns the ID of the session that a request belongs to, empty when it
// has none that lives.
func (a *Admin) signedIn(c *fiber.Ctx) string {
	lives := a.sessions.Check
	if c.Get(unaskedHeader) != "" {
		lives = a.sessions.Peek
	}
	id := string(c.Request().Header.Cookie(a.cookieName(c)))
	if id == "" || !lives(id) {
		return ""
	}
	return id
}

// signIn begins a session, unless all were ended since the generation.
func (a *Admin) signIn(c *fiber.Ctx, generation uint64) bool {
	id, ok := a.sessions.Create(generation)
	if ok {
		a.setCookie(c, id, int(auth.SessionMax/time.Second))
	}
	return ok
}

// signOut ends the session of a request.
func (a *Admin) signOut(c *fiber.Ctx) {
	a.sessions.Delete(string(c.Request().Header.Cookie(a.cookieName(c))))
	a.setCookie(c, "", -1)
}

func (a *Admin) setCookie(c *fiber.Ctx, value string, seconds int) {
	var cookie fasthttp.Cookie
	cookie.SetKey(a.cookieName(c))
	cookie.SetValue(value)
	cookie.SetPath(a.root())
	cookie.SetHTTPOnly(true)
	cookie.SetSecure(a.encrypted(c))
	// Lax, so that a link from elsewhere opens a page. Changes are held to ownPage.
	cookie.SetSameSite(fasthttp.CookieSameSiteLaxMode)
	if seconds < 0 {
		cookie.SetExpire(fasthttp.CookieExpireDelete)
	} else {
		cookie.SetMaxAge(seconds)
	}
	c.Response().Header.SetCookie(&cookie)
}

// identifySession tells who calls the API with a session's cookie. Pages of
// other sites can't: browsers send the cookie along, but say who asked.
func (a *Admin) identifySession(c *fiber.Ctx) (caller, error) {
	looks := c.Method() == "GET" || c.Method() == "HEAD"
	if !a.ownPage(c) && (!looks || c.Get("Sec-Fetch-Site") != "") {
		return caller{}, errForeign
	}
	who := a.admin(c)
	who.bySession = true
	return who, nil
}

// admin is the caller who has signed in.
func (a *Admin) admin(c *fiber.Ctx) caller {
	who := caller{actor: "admin"}
	if from := a.callerAddr(c); from.IsValid() {
		who.from = from.String()
	}
	return who
}

var errForeign = errDenied("The browser does not say that a page of this site sent this. Open TokenHub at its own address and repeat it there; programs use an admin token.")

// ownPage reports whether a browser says that a page of this site makes the
// request.
func (a *Admin) ownPage(c *fiber.Ctx) bool {
	if site := c.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin" || site == "none"
	}
	origin, err := url.Parse(c.Get("Origin"))
	if err != nil || origin.Host == "" {
		return false
	}
	if base, err := url.Parse(a.config().BaseURL); err == nil && base.Host != "" && sameHost(origin.Scheme, origin.Host, base.Scheme, base.Host) {
		return true
	}
	return strings.EqualFold(origin.Host, string(c.Request().Header.Host()))
}

// sameHost reports whether two hosts are the same, with the port that a scheme
// has by itself or without.
func sameHost(schemeA, a, schemeB, b string) bool {
	full := func(scheme, host string) string {
		port := map[string]string{"http": ":80", "https": ":443"}[scheme]
		if _, _, err := net.SplitHostPort(host); err != nil {
			host += port
		}
		return strings.ToLower(host)
	}
	return schemeA == schemeB && full(schemeA, a) == full(schemeB, b)
}

// reachable replaces an address that stands for all of a machine's by one that a
// browser on that machine can open.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
