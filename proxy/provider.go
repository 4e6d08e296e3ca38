package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"tokenhub/config"
)

// provider is one configured endpoint with its connections.
type provider struct {
	config.Provider
	scheme, host, path string // of BaseURL; path without a trailing slash
	// own are the configured headers and the credential, by canonical name.
	own map[string][]string
	// name is the Name as the value of a header.
	name []string
	// upstream is the way there. All that the gateway needs of it is RoundTrip:
	// one request, no redirects, no retries of anything that may have been read.
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
	p.own, p.name = p.ownHeaders(), []string{c.Name}
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

func newDialer(c config.Provider) *net.Dialer {
	return &net.Dialer{Timeout: c.Timeouts.Connect, KeepAlive: 15 * time.Second}
}

// close ends the idle connections; running answers keep theirs.
func (p *provider) close() {
	if t, ok := p.upstream.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// url is where a call goes: what follows /v1 is appended to the base URL, byte
// for byte.
func (p *provider) url(call *Call) *url.URL {
	raw := p.path + call.Path[len("/v1"):]
	u := &url.URL{Scheme: p.scheme, Host: p.host, RawQuery: call.Query, ForceQuery: call.BareQuery}
	if _, ok := p.upstream.(*plain); ok {
		u.Opaque = raw
		return u
	}
	if path, err := url.PathUnescape(raw); err == nil {
		u.Path, u.RawPath = path, raw
		if u.EscapedPath() == raw {
			return u
		}
	}
	// A spelling that net/url would change goes out as it is.
	u.Path, u.RawPath, u.Opaque = "", "", raw
	return u
}

// ownHeaders are the provider's credential and configured headers.
func (p *provider) ownHeaders() map[string][]string {
	h := map[string][]string{}
	for name, value := range p.Headers {
		h[http.CanonicalHeaderKey(name)] = []string{value.Reveal()}
	}
	switch p.Auth {
	case "bearer":
		h["Authorization"] = []string{"Bearer " + p.APIKey.Reveal()}
	case "x-api-key":
		h["X-Api-Key"] = []string{p.APIKey.Reveal()}
	case "api-key":
		h["Api-Key"] = []string{p.APIKey.Reveal()}
	}
	return h
}

// request makes the request for one attempt. headers are the caller's, already
// stripped; they become the request's.
func (p *provider) request(ctx context.Context, call *Call, headers http.Header, body *payload, edits []edit) *http.Request {
	for name, values := range p.own {
		headers[name] = values
	}
	r := new(http.Request).WithContext(ctx)
	r.Method, r.URL, r.Host, r.Header = call.Method, p.url(call), p.host, headers
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	if body.none {
		return r
	}
	from, length := body.open(edits)
	r.ContentLength = length
	if length == 0 {
		// Said explicitly by the caller, so said explicitly again.
		r.Body, r.TransferEncoding = http.NoBody, identity
		return r
	}
	r.Body = from
	if body.replayable() {
		r.GetBody = func() (io.ReadCloser, error) {
			again, _ := body.open(edits)
			return again, nil
		}
	}
	return r
}

// noted returns the context of an attempt under which RoundTrip notes how far it
// came.
func (p *provider) noted(a *attempt) context.Context {
	if _, ok := p.upstream.(*plain); ok {
		return &a.life
	}
	return traced(a)
}

// traced returns the attempt's life as a context under which [http.Transport]
// notes how far the attempt came: that there was a connection (before that
// nothing can have been sent), and that the whole request went out. The transport
// asks for another connection where the first turned out to be dead before it
// took anything.
func traced(a *attempt) context.Context {
	ctx := httptrace.WithClientTrace(&a.life, &httptrace.ClientTrace{
		GetConn: func(string) { a.connected.Store(false); a.sent.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { a.connected.Store(true) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				a.sent.Store(true)
			}
		},
	})
	return tracedLife{ctx, &a.life}
}

// tracedLife is a life that carries values. Without its AfterFunc the standard
// library would wait for its end in a goroutine per context made of it.
type tracedLife struct {
	context.Context
	life *life
}

// AfterFunc is that of the life.
func (t tracedLife) AfterFunc(f func()) (stop func() bool) { return t.life.AfterFunc(f) }
