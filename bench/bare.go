//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// runBare serves a proxy that does nothing but forward: what Fiber costs by
// itself, with the one client or the other.
func runBare(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bench bare fasthttp|net/http ADDRESS PROVIDER")
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, BodyLimit: 64 << 20})
	switch args[0] {
	case "fasthttp":
		app.Use(bareFasthttp(args[2]))
	case "net/http":
		app.Use(bareNetHTTP(args[2]))
	default:
		return fmt.Errorf("there is no client %q", args[0])
	}
	return app.Listen(args[1])
}

// wantsStream reports whether the caller expects events.
func wantsStream(c *fiber.Ctx) bool { return c.Get("Accept") == "text/event-stream" }

// bareFasthttp forwards requests in place by fasthttp's client, the cheapest
// that can be done with Fiber.
func bareFasthttp(provider string) fiber.Handler {
	whole := &fasthttp.HostClient{Addr: provider, MaxConns: 8192, MaxIdemponentCallAttempts: 1}
	streaming := &fasthttp.HostClient{Addr: provider, MaxConns: 8192, MaxIdemponentCallAttempts: 1, StreamResponseBody: true}
	return func(c *fiber.Ctx) error {
		client := whole
		if wantsStream(c) {
			client = streaming
		}
		c.Request().Header.Del("Connection")
		if err := client.Do(c.Request(), c.Response()); err != nil {
			return err
		}
		c.Response().Header.Del("Connection")
		c.Response().ImmediateHeaderFlush = client == streaming
		return nil
	}
}

// bareNetHTTP forwards requests by the standard library's transport.
func bareNetHTTP(provider string) fiber.Handler {
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	return func(c *fiber.Ctx) error {
		r, err := http.NewRequest(c.Method(), "http://"+provider+c.OriginalURL(), bytes.NewReader(bytes.Clone(c.Request().Body())))
		if err != nil {
			return err
		}
		for name, value := range c.Request().Header.All() {
			if n := string(name); n != "Host" && n != "Connection" && n != "Content-Length" {
				r.Header.Add(n, string(value))
			}
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		c.Status(resp.StatusCode)
		for name, values := range resp.Header {
			for _, v := range values {
				c.Response().Header.Add(name, v)
			}
		}
		if wantsStream(c) {
			c.Response().ImmediateHeaderFlush = true
			c.Context().SetBodyStream(resp.Body, -1)
			return nil
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		c.Response().SetBodyRaw(body)
		return nil
	}
}
