package alerts

import (
	"context"
	"io"
	"log"
	"net/url"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr"

	"tokenhub/config"
)

// sendTime is how long one try to reach a target may take.
const sendTime = 20 * time.Second

// shout sends a message by Shoutrrr. Its services know no context: a try that
// takes too long is left to end by itself.
func shout(ctx context.Context, target config.Secret, message string) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		sender, err := shoutrrr.NewSender(log.New(io.Discard, "", 0), target.Reveal())
		if err != nil {
			done <- err
			return
		}
		for _, err := range sender.Send(message, nil) {
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// service is the part of a target that may be shown: what kind it is.
func service(target config.Secret) string {
	scheme, _, ok := strings.Cut(target.Reveal(), ":")
	if !ok || len(scheme) > 20 {
		return "unknown"
	}
	return scheme
}

// scrub returns the text of an error without anything of the target's URL.
func scrub(err error, target config.Secret) string {
	raw := target.Reveal()
	text := strings.ReplaceAll(err.Error(), raw, "***")
	for _, part := range parts(raw) {
		if len(part) >= 3 {
			text = strings.ReplaceAll(text, part, "***")
		}
	}
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "")
}

// parts are the pieces of a URL that may be secret, the longest forms first:
// all but its scheme.
func parts(raw string) []string {
	u, err := url.Parse(raw)
	if err != nil {
		_, rest, _ := strings.Cut(raw, ":")
		return strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune("/?&=@:#", r) })
	}
	list := []string{u.Opaque, u.Host, u.Path, u.RawPath, u.RawQuery, u.User.String(), u.User.Username(), u.Hostname()}
	if password, ok := u.User.Password(); ok {
		list = append(list, password, url.QueryEscape(password))
	}
	list = append(list, strings.Split(u.Path, "/")...)
	for _, values := range u.Query() {
		for _, v := range values {
			list = append(list, v, url.QueryEscape(v))
		}
	}
	return list
}
