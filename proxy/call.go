package proxy

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"io"
	"net/netip"
	"strings"
	"time"

	"tokenhub/auth"
)

// Call is one request of a caller's. It owns its bytes: nothing in it is a view
// on the server's memory, but for the body, which is read while the handler
// waits for [Gateway.Do] or the answer's Body.
type Call struct {
	// ID is the request ID, "req_...", which the caller is told.
	ID string
	// Start is when the request's headers were there.
	Start  time.Time
	Method string
	// Path and Query are as sent, without the question mark between them.
	// BareQuery says that there was a question mark and nothing behind it.
	Path, Query string
	BareQuery   bool
	// Header holds all headers, the credential included.
	Header Headers
	// secret is what was presented, once it is verified, and keyID the key's.
	secret, keyID string
	// From is the caller's address.
	From netip.Addr
	// Body is what follows the headers; nil when there is none. It need not be
	// closed. Length is its length, -1 when it is not known beforehand.
	Body   io.Reader
	Length int64
	// Upgrade is set on a request to change to the WebSocket protocol.
	Upgrade bool
	// Cancel ends the context that Do was given.
	Cancel context.CancelCauseFunc
	// Hurry, if set, is called when the answer has to end although the caller
	// may not be reading it: bytes must not wait for long any more.
	Hurry func()
}

// presented is the secret that the caller presents. One that stands in the
// target too would go on to the provider, and into its log.
func (c *Call) presented() (string, error) {
	var protocols []string
	if c.Upgrade {
		protocols = c.Header.Values("Sec-Websocket-Protocol")
	}
	secret, err := auth.Presented(c.Header.Values("Authorization"), c.Header.Values("X-Api-Key"), protocols)
	if err == nil && (auth.QueryHasKey(c.Query) || strings.Contains(c.Query, secret) || strings.Contains(c.Path, secret)) {
		return "", &auth.Refused{Reason: auth.Malformed}
	}
	return secret, err
}

// newRequestID returns "req_" and 26 characters that nobody can guess.
func newRequestID() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	id := append(make([]byte, 0, 30), "req_"...)
	return string(idEncoding.AppendEncode(id, random[:]))
}

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// endpoint tells what the call's path is.
func (c *Call) endpoint() endpoint { return endpointOf(c.Path) }

// The causes for which a call's context ends; see [context.Cause]. They are
// errors already, so that to compare with one makes none.
var (
	errGone     error = causeError("the caller left")
	errRevoked  error = causeError("the key was revoked")
	errShutdown error = causeError("the server is stopping")
	errFull     error = causeError("no place at the provider within first_byte")
	errSilent   error = causeError("no answer within first_byte")
	errIdle     error = causeError("nothing came for the idle time")
	errTotal    error = causeError("the total time is over")
	errDone     error = causeError("the answer is complete")
)

type causeError string

func (e causeError) Error() string { return string(e) }

// Is says that the cause is why something was canceled, for those who ask no
// further.
func (e causeError) Is(target error) bool { return target == context.Canceled }

// causeOf returns why ctx ended; nil while it has not.
func causeOf(ctx context.Context) error {
	err := ctx.Err()
	if _, ok := ctx.(*life); ok || err == nil {
		return err
	}
	return context.Cause(ctx)
}
