package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"tokenhub/config"
)

// provider is one configured endpoint with its connections.
type provider struct {
	config.Provider
	scheme, host, path string // of BaseURL; path without a trailing slash
	// own are the configured headers and the credential, by name.
	own Headers
	// upstream is the way there: see [sending.send]. All that the gateway needs of
	// it is RoundTrip: one request, no redirects, no retries of anything that may
	// have been read.
	upstream http.RoundTripper
	// catalog is what the provider's own GET /models listed, nil before the first time.
	catalog atomic.Pointer[catalog]
	health  *health
	queue   *queue
}

// newProvider prepares the connections to a provider; it opens none.
func newProvider(c config.Provider) (*provider, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("provider %s: base_url: %w", c.Name, err)
	}
	transport, err := newTransport(c)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", c.Name, err)
	}
	p := &provider{Provider: c, scheme: base.Scheme, host: base.Host, path: base.EscapedPath(), upstream: transport,
		health: newHealth(), queue: newQueue(c.MaxConcurrency)}
	p.own = p.ownHeaders()
	if way := newPlain(base, newDialer(c), transport); way != nil {
		p.upstream = way
	}
	return p, nil
}

func newTransport(c config.Provider) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: newDialer(c).DialContext,
		// Any of our own settings would otherwise switch HTTP/2 off.
		ForceAttemptHTTP2: true,
		// Without pings a dead pooled connection hangs for minutes.
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		TLSHandshakeTimeout: c.Timeouts.Connect,
		// Else answers would be decoded on the way.
		DisableCompression:     true,
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: no certificate in %s", c.CA)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

// dialer opens connections to a provider.
type dialer struct{ net.Dialer }

func newDialer(c config.Provider) *dialer {
	return &dialer{net.Dialer{Timeout: c.Timeouts.Connect, KeepAlive: 15 * time.Second}}
}

// DialContext opens one; see [net.Dialer.DialContext].
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newSocket(conn), nil
}

// close ends the idle connections; running answers keep theirs.
func (p *provider) close() {
	if t, ok := p.upstream.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// ownHeaders are the provider's credential and configured headers.
func (p *provider) ownHeaders() (own Headers) {
	set := func(name, value string) {
		own = append(slices.DeleteFunc(own, func(h Header) bool { return h.Name == name }), Header{name, value})
	}
	for _, name := range slices.Sorted(maps.Keys(p.Headers)) {
		set(http.CanonicalHeaderKey(name), p.Headers[name].Reveal())
	}
	switch p.Auth {
	case "bearer":
		set("Authorization", "Bearer "+p.APIKey.Reveal())
	case "x-api-key":
		set("X-Api-Key", p.APIKey.Reveal())
	case "api-key":
		set("Api-Key", p.APIKey.Reveal())
	}
	return own
}
