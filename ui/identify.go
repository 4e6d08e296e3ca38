package ui

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"tokenhub/auth"
)

// identify tells who calls, or why they may not. What a caller says of itself
// (an X-TokenHub-Actor header, say) is not asked.
func (a *Admin) identify(ctx context.Context, c *fiber.Ctx, trust Trust) (caller, error) {
	switch trust {
	case Socket:
		return caller{actor: "cli", from: "socket"}, nil
	case Offline:
		return caller{actor: "cli", from: "offline"}, nil
	}
	if queryHasSecret(c) {
		return caller{}, errToken(errors.New("a secret stands in the query"))
	}
	shown := headerValues(c, "Authorization")
	if !slices.ContainsFunc(shown, isBearer) && a.signedIn(c) != "" {
		return a.identifySession(c)
	}
	text, err := auth.Presented(shown, nil, nil)
	if err != nil {
		return caller{}, errToken(err)
	}
	if kind, _, ok := auth.Parse(text); !ok || kind != auth.Token {
		return caller{}, errToken(errors.New("no admin token in the Authorization header"))
	}
	from := a.callerAddr(c)
	token, err := a.tokens.VerifyToken(ctx, text, from)
	if err != nil {
		var refused *auth.Refused
		if errors.As(err, &refused) { // the caller is not told why, the log is
			a.warn().Str("token", auth.Prefix(text)).Str("reason", string(refused.Reason)).Stringer("from", from).Msg("admin token refused")
		}
		return caller{}, err
	}
	a.store.TouchToken(token.ID, a.now())
	who := caller{actor: "token:" + token.Name, readOnly: token.ReadOnly}
	if from.IsValid() {
		who.from = from.String()
	}
	return who, nil
}

// isBearer reports whether the value of an Authorization header presents a token.
// One of another scheme was meant for a proxy in front, which asks for a password
// of its own.
func isBearer(value string) bool {
	words := strings.Fields(value)
	return len(words) > 1 && strings.EqualFold(words[0], "bearer")
}

// queryHasSecret reports whether a whole secret stands in the query, where it
// would end up in histories and logs. A prefix alone (th-...) may stand there.
func queryHasSecret(c *fiber.Ctx) bool {
	for _, v := range c.Context().QueryArgs().All() {
		text := string(v)
		if _, _, ok := auth.Parse(text); ok || strings.HasPrefix(text, "tha-") {
			return true
		}
	}
	return false
}

// headerValues returns copies of all values of a header.
func headerValues(c *fiber.Ctx, name string) []string {
	var out []string
	for _, v := range c.Request().Header.PeekAll(name) {
		out = append(out, string(v))
	}
	return out
}

// callerAddr returns the caller's address: the peer's or, when the peer is a
// trusted proxy, the rightmost in X-Forwarded-For that is not one.
func (a *Admin) callerAddr(c *fiber.Ctx) netip.Addr {
	return auth.CallerAddress(peer(c), headerValues(c, "X-Forwarded-For"), a.config().TrustedProxies)
}
