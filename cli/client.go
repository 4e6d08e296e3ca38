package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tokenhub/config"
)

// api speaks the admin API, with the running server over its socket or with the
// same handlers in process.
type api struct {
	http  *http.Client
	close func() error
	// zone is where a day begins, for what people read and write.
	zone *time.Location
}

// apiError is a refusal of the admin API.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return e.message }

// errBody is how the admin API says no.
type errBody struct {
	Error struct {
		Message string `json:"message"`
		Code    string `json:"code"`
	} `json:"error"`
}

// online returns the API of the running server, or errNoServer.
func online(ctx context.Context, cfg *config.Config) (*api, error) {
	conn, err := dialSocket(ctx, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	first := make(chan net.Conn, 1)
	first <- conn
	transport := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case conn := <-first: // the probe, so that nobody can come between
				return conn, nil
			default:
				return dialSocket(ctx, cfg.DataDir)
			}
		},
	}
	return &api{
		http: &http.Client{Transport: transport},
		zone: cfg.Timezone,
		close: func() error {
			transport.CloseIdleConnections()
			select {
			case conn := <-first:
				return conn.Close()
			default:
				return nil
			}
		},
	}, nil
}

// do sends one request. In is marshalled to JSON unless nil; out takes the
// answer's JSON unless nil. The error is an *apiError when the API refused.
func (a *api) do(ctx context.Context, method, path string, in, out any) error {
	body, err := a.open(ctx, method, path, "application/json", in)
	if err != nil {
		return err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	return nil
}

// open sends one request and returns the body of a good answer, which the
// caller closes.
func (a *api) open(ctx context.Context, method, path, accept string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://tokenhub"+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", accept)
	resp, err := a.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) { // its text names an address that people never see
			err = wrapped.Err
		}
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var refused errBody
	if json.Unmarshal(text, &refused) != nil || refused.Error.Message == "" {
		refused.Error.Message = fmt.Sprintf("%s %s was answered with %s", method, path, resp.Status)
	}
	return nil, &apiError{resp.StatusCode, refused.Error.Code, refused.Error.Message}
}

// list returns the objects of all pages of a list.
func (a *api) list(ctx context.Context, path string) ([]json.RawMessage, error) {
	all := []json.RawMessage{}
	query := url.Values{"limit": {"500"}}
	for {
		var page struct {
			Data []json.RawMessage `json:"data"`
			Next *string           `json:"next"`
		}
		if err := a.do(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Data...)
		if page.Next == nil || *page.Next == "" {
			return all, nil
		}
		if *page.Next == query.Get("cursor") {
			return nil, fmt.Errorf("read %s: the list does not end", path)
		}
		query.Set("cursor", *page.Next)
	}
}

// whole returns the objects of a list that has one page.
func (a *api) whole(ctx context.Context, path string) ([]json.RawMessage, error) {
	var page struct {
		Data []json.RawMessage `json:"data"`
	}
	if err := a.do(ctx, http.MethodGet, path, nil, &page); err != nil {
		return nil, err
	}
	return append([]json.RawMessage{}, page.Data...), nil
}

// pathOf joins the parts of a path below /api, each escaped as one segment.
func pathOf(parts ...string) string {
	var b strings.Builder
	b.WriteString("/api")
	for _, part := range parts {
		b.WriteString("/" + url.PathEscape(part))
	}
	return b.String()
}
