package ui

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Healthz answers 200 as long as the program is alive. Everyone may ask.
func (a *Admin) Healthz(c *fiber.Ctx) error { return state(c, 200, "ok") }

// Readyz answers 200 while the program can serve, 503 otherwise. Everyone may
// ask; the reason stands in the log only.
func (a *Admin) Readyz(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := a.ready(ctx); err != nil {
		a.warn().Err(err).Msg("not ready")
		return state(c, 503, "unavailable")
	}
	return state(c, 200, "ready")
}

func state(c *fiber.Ctx, status int, word string) error {
	c.Set("Cache-Control", "no-store")
	c.Set("Content-Type", "application/json")
	return c.Status(status).SendString(`{"status":"` + word + `"}`)
}

// Metrics returns the handler that answers with the metrics in Prometheus' text
// format, for callers who are believed as trust says. A read-only admin token
// is enough; a session is not one.
func (a *Admin) Metrics(trust Trust) fiber.Handler {
	return a.serve(trust, func(a *Admin, r *request) error {
		if r.bySession {
			return errToken(errors.New("metrics take an admin token, no session"))
		}
		var b bytes.Buffer
		if a.metrics != nil {
			a.metrics(&b)
		}
		r.c.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		return r.c.Status(200).Send(b.Bytes())
	}, 0)
}
