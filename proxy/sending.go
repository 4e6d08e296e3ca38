package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// sending is one request to a provider: a call, of whose headers and body goes on
// what may.
type sending struct {
	provider *provider
	call     *Call
	body     *payload
	edits    []edit // in the body
}

// send sends the request and returns the answer at its headers. It ends when ctx
// does; so does the reading of the answer's body. How far it came is noted in a,
// which may be nil; then ctx is the life of a.
func (s *sending) send(ctx context.Context, a *attempt) (*Response, error) {
	if way, ok := s.provider.upstream.(*plain); ok && way.takes(s) {
		return way.send(ctx, a, s)
	}
	if a != nil {
		ctx = traced(a)
	}
	resp, err := s.provider.upstream.RoundTrip(s.request(ctx))
	if err != nil {
		return nil, err
	}
	return fromHTTP(resp), nil
}

// headers calls fn with each header of the request. The values are shared.
// Programs that show their key in several ways at once are many: a header that
// holds the secret is a credential, whatever its name.
func (s *sending) headers(fn func(name, value string)) {
	h, own := s.call.Header, s.provider.own
	named, metered := h.named(), s.call.endpoint().isMetered()
	for _, one := range h {
		name := one.Name
		switch {
		case isHopByHop(name), isCallerOnly(name), isOurs(name), !httpguts.ValidHeaderFieldName(name),
			own.has(name), named[name], metered && name == "Accept-Encoding":
		case holds(one.Value, s.call.secret) && !(s.call.Upgrade && name == "Sec-Websocket-Protocol"): // a list: see askUpgrade
		default:
			fn(name, one.Value)
		}
	}
	if metered && !own.has("Accept-Encoding") {
		fn("Accept-Encoding", "identity")
	}
	for _, one := range own {
		fn(one.Name, one.Value)
	}
}

// request is the request as [http.RoundTripper] takes it.
func (s *sending) request(ctx context.Context) *http.Request {
	h := make(http.Header, len(s.call.Header))
	s.headers(func(name, value string) { h[name] = append(h[name], value) })
	if s.call.Upgrade {
		askUpgrade(h)
		for _, one := range s.provider.own { // which it has to show as they are
			h[one.Name] = []string{one.Value}
		}
	}
	// The transport would invent a User-Agent, and would send a request with
	// either of these a second time on its own (it looks for this spelling).
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
	r := new(http.Request).WithContext(ctx)
	r.Method, r.URL, r.Host, r.Header = s.call.Method, s.url(), s.provider.host, h
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	if s.body.none {
		return r
	}
	from, length := s.body.open(s.edits)
	r.ContentLength = length
	if length == 0 {
		// Said explicitly by the caller, so said explicitly again.
		r.Body, r.TransferEncoding = http.NoBody, []string{"identity"}
		return r
	}
	r.Body = from
	if s.body.replayable() {
		r.GetBody = func() (io.ReadCloser, error) {
			again, _ := s.body.open(s.edits)
			return again, nil
		}
	}
	return r
}

// url is where the call goes: what follows /v1 is appended to the base URL, byte
// for byte.
func (s *sending) url() *url.URL {
	raw := s.provider.path + s.call.Path[len("/v1"):]
	u := &url.URL{Scheme: s.provider.scheme, Host: s.provider.host, RawQuery: s.call.Query, ForceQuery: s.call.BareQuery}
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
