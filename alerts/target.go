package alerts

import (
	"context"
	"io"
	"log"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/nicholas-fedor/shoutrrr"

	"tokenhub/config"
)

// SendTime is how long one try to reach a target may take. Shoutrrr sends with
// [http.DefaultClient], whose timeout the program should set to it: a target that
// never answers would keep its connection otherwise.
const SendTime = 20 * time.Second

// shout sends a message by Shoutrrr. Its services know no context: a try that
// takes too long is left to end by itself, by the timeout of its HTTP client.
func shout(ctx context.Context, target config.Secret, message string) error {
	ctx, cancel := context.WithTimeout(ctx, SendTime)
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

// scrub returns the text of an error without anything of the target's URL: not
// its parts, nor the words that they consist of, since services put these
// together anew (Slack's A-B-C becomes a path A/B/C).
func scrub(err error, target config.Secret) string {
	text := strings.ToValidUTF8(err.Error(), "")
	secrets := parts(strings.ToValidUTF8(target.Reveal(), ""))
	// Of those that begin at one place the longest one goes.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for i, s := range secrets {
		secrets[i] = regexp.QuoteMeta(s)
	}
	if len(secrets) > 0 {
		all, err := regexp.Compile("(?i)" + strings.Join(secrets, "|"))
		if err != nil {
			return "***"
		}
		text = all.ReplaceAllLiteralString(text, "***")
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// parts are the pieces of a target's URL that may be secret: all but its scheme,
// as written and decoded, and the words in them.
func parts(raw string) []string {
	_, rest, _ := strings.Cut(raw, ":")
	list := []string{rest}
	if u, err := url.Parse(raw); err == nil {
		list = append(list, u.Opaque, u.Host, u.Path, u.RawPath, u.RawQuery, u.User.String(), u.User.Username(), u.Hostname())
		if password, ok := u.User.Password(); ok {
			list = append(list, password, url.QueryEscape(password))
		}
		list = append(list, strings.Split(u.Path, "/")...)
		for _, values := range u.Query() {
			for _, v := range values {
				list = append(list, v, url.QueryEscape(v))
			}
		}
	}
	var secrets []string
	for _, part := range list {
		if len(part) >= 3 {
			secrets = append(secrets, part)
		}
		for _, word := range strings.FieldsFunc(part, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if len(word) >= 4 {
				secrets = append(secrets, word)
			}
		}
	}
	slices.Sort(secrets)
	return slices.Compact(secrets)
}
