package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"tokenhub/db"
)

// route is one route of the API.
type route struct {
	method, path string
	handle       func(*Admin, *request) error
	// timeout bounds the work; 0 means the usual 30 s.
	timeout time.Duration
}

// routes is the whole API. GET routes answer HEAD too.
func routes() []route {
	return []route{
		{"GET", "/api/keys", (*Admin).listKeys, 0},
		{"POST", "/api/keys", (*Admin).createKey, 0},
		{"GET", "/api/keys/:id", (*Admin).showKey, 0},
		{"PATCH", "/api/keys/:id", (*Admin).updateKey, 0},
		{"DELETE", "/api/keys/:id", (*Admin).revokeKey, 0},
		{"POST", "/api/keys/:id/rotate", (*Admin).rotateKey, 0},
		{"GET", "/api/tokens", (*Admin).listTokens, 0},
		{"POST", "/api/tokens", (*Admin).createToken, 0},
		{"DELETE", "/api/tokens/:id", (*Admin).revokeToken, 0},
		{"GET", "/api/usage", (*Admin).usage, 0},
		{"GET", "/api/requests", (*Admin).requests, 0},
		{"GET", "/api/audit", (*Admin).auditLog, 0},
		{"GET", "/api/providers", (*Admin).listProviders, 0},
		{"POST", "/api/providers/:name/test", (*Admin).testProvider, 2 * time.Minute},
		{"GET", "/api/explain", (*Admin).explain, 0},
		{"GET", "/api/backup", (*Admin).backup, 30 * time.Minute},
		{"POST", "/api/reload", (*Admin).reloadConfig, time.Minute},
		{"PUT", "/api/admin/password", (*Admin).setPassword, 0},
		{"GET", "/api/openapi.json", (*Admin).openAPI, 0},
	}
}

// request is one call of the API by somebody who may make it.
type request struct {
	// c is Fiber's. What it returns is a view on memory that is used again, so
	// only the methods below touch it.
	c *fiber.Ctx
	// ctx ends when the work took too long. Fiber's own must not be kept.
	ctx context.Context
	caller
	// session is the ID of the session, empty without one.
	session string
	// plain answers are not packed: how well they pack may not tell of a secret.
	plain bool
}

// caller is who calls.
type caller struct {
	// actor and from stand in the audit trail.
	actor, from string
	// readOnly callers may only look.
	readOnly bool
	// bySession callers have signed in, and show no token.
	bySession bool
}

// API returns what mounts the admin API on a router, for callers who are
// believed as trust says. Everything at and below /api is answered by it.
func (a *Admin) API(trust Trust) func(fiber.Router) {
	return func(r fiber.Router) {
		methods := map[string][]string{} // by path
		var paths []string
		for _, route := range routes() {
			h := a.serve(trust, route.handle, route.timeout)
			r.Add(route.method, route.path, h)
			if methods[route.path] == nil {
				paths = append(paths, route.path)
			}
			methods[route.path] = append(methods[route.path], route.method)
			if route.method == "GET" {
				r.Add("HEAD", route.path, h)
				methods[route.path] = append(methods[route.path], "HEAD")
			}
		}
		// One route for all that is left: Fiber takes long to enter a route for each
		// path and method.
		rest := a.serve(trust, func(_ *Admin, r *request) error {
			for _, path := range paths {
				if !fiber.RoutePatternMatch(r.c.Path(), path, r.c.App().Config()) {
					continue
				}
				allow := methods[path]
				return &Error{Status: 405, Type: "invalid_request_error", Code: "method_not_allowed",
					Message: "This path knows " + strings.Join(allow, ", ") + " only.", Allow: allow}
			}
			return errNoRoute
		}, 0)
		r.All("/api", rest)
		r.All("/api/*", rest)
	}
}

// serve wraps a handler: who calls, may they, how long, and how it ends.
func (a *Admin) serve(trust Trust, handle func(*Admin, *request) error, timeout time.Duration) fiber.Handler {
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	return func(c *fiber.Ctx) (err error) {
		c.Set("Cache-Control", "no-store")
		c.Set("X-Content-Type-Options", "nosniff")
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				err = a.fail(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		if err := a.run(ctx, c, trust, handle); err != nil {
			return a.fail(c, err)
		}
		return nil
	}
}

func (a *Admin) run(ctx context.Context, c *fiber.Ctx, trust Trust, handle func(*Admin, *request) error) error {
	who, err := a.identify(ctx, c, trust)
	if err != nil {
		return err
	}
	if who.readOnly && c.Method() != "GET" && c.Method() != "HEAD" {
		return errDenied("This admin token is read-only. Use one that was made without --read-only.")
	}
	return handle(a, &request{c: c, ctx: ctx, caller: who})
}

// fail answers with err, and tells the log what the caller is not told.
func (a *Admin) fail(c *fiber.Ctx, err error) error {
	e := asError(err)
	if e.Status >= 500 && e.Err != nil {
		a.log.Error().Err(e.Err).Str("route", c.Method()+" "+c.Route().Path).Msg("admin API")
	}
	return writeError(c, e)
}

// json answers with v.
func (r *request) json(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.c.Set("Content-Type", "application/json")
	return r.send(status, body)
}

// param returns a copy of a part of the path, decoded.
func (r *request) param(name string) string {
	raw := strings.Clone(r.c.Params(name))
	text, err := url.PathUnescape(raw)
	if err != nil {
		return raw
	}
	return text
}

// query returns the query's parameters, each of which may stand once. What is not
// in known is refused: a filter that is not understood must not be ignored.
func (r *request) query(known ...string) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range r.c.Context().QueryArgs().All() {
		name := string(k)
		if !slices.Contains(known, name) {
			return nil, errInvalid("There is no query parameter %s here. Known are: %s.", quote(name), strings.Join(known, ", "))
		}
		if _, twice := out[name]; twice {
			return nil, errInvalid("The query parameter %s stands twice.", quote(name))
		}
		out[name] = string(v)
	}
	return out, nil
}

// audit returns an entry of the audit trail for what this request does.
func (r *request) audit(now time.Time, action, target, targetName string) db.Audit {
	return db.Audit{Time: now, Actor: r.actor, From: r.from, Action: action, Target: target, TargetName: targetName}
}

// peer returns the address that the connection comes from; the zero Addr when it
// has none, as on a socket.
func peer(c *fiber.Ctx) netip.Addr {
	at, err := netip.ParseAddrPort(c.Context().RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}
