package proxy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// catalog is what a provider's own GET /models listed.
type catalog struct {
	at   time.Time
	list []listed
	byID map[string]bool
}

// listed is one model as a provider lists it; unknown fields are zero.
type listed struct {
	ID      string
	Created int64 // Unix seconds
	OwnedBy string
	Window  int64 // context window in tokens
}

// catalogEvery is how often the lists are read anew, catalogWait how long one
// reading may take, catalogSoon how soon a miss leads to another reading.
const (
	catalogEvery = 5 * time.Minute
	catalogWait  = 15 * time.Second
	catalogSoon  = 10 * time.Second
	catalogPages = 100
	// catalogBytes bounds all pages of a list together, catalogModels what is
	// kept of them.
	catalogBytes  = 8 << 20
	catalogModels = 20_000
)

// anthropicVersion is the version of Anthropic's API that TokenHub speaks where
// no caller says one.
const anthropicVersion = "2023-06-01"

// listError is an answer to GET /models that is no list.
type listError struct {
	url    string
	status int
}

func (e *listError) Error() string { return fmt.Sprintf("GET %s answered %d", e.url, e.status) }

func (c *catalog) has(name string) bool {
	// Ollama lists llama3:latest, and its users say llama3.
	return c.byID[name] || c.byID[name+":latest"]
}

// named is what the list says of a name, at least the name.
func (c *catalog) named(name string) listed {
	if c != nil {
		for _, m := range c.list {
			if m.ID == name {
				return m
			}
		}
	}
	return listed{ID: name}
}

// refresher reads the lists of the providers in the background, so that no
// request waits for them.
type refresher struct {
	wake chan struct{}
	last atomic.Int64 // Unix seconds of the newest round
}

// soon asks for another round, at most one every catalogSoon.
func (r *refresher) soon(now time.Time) {
	if last := r.last.Load(); now.Unix()-last < int64(catalogSoon/time.Second) || !r.last.CompareAndSwap(last, now.Unix()) {
		return
	}
	r.poke()
}

// poke asks for a round at once.
func (r *refresher) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// refreshCatalogs reads the lists now, every few minutes, and when asked to,
// until ctx ends.
func (g *Gateway) refreshCatalogs(ctx context.Context) error {
	tick := time.NewTicker(catalogEvery)
	defer tick.Stop()
	for {
		g.refresher.last.Store(g.now().Unix())
		var round sync.WaitGroup
		for _, p := range g.state.Load().providers {
			round.Go(func() {
				limit, cancel := context.WithTimeout(ctx, catalogWait)
				defer cancel()
				if _, err := p.refresh(limit); err != nil && ctx.Err() == nil {
					g.log.Debug().Str("provider", p.Name).Err(err).Msg("its list of models can't be read")
					if p.Models == nil { // else it is not needed: some have none
						p.health.noList(g.now(), "its list of models can't be read: "+err.Error())
					}
				}
			})
		}
		round.Wait()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-g.refresher.wake:
		}
	}
}

// refresh reads the provider's list of models and keeps it. After an error the
// earlier list stays.
func (p *provider) refresh(ctx context.Context) (*catalog, error) {
	c := &catalog{byID: map[string]bool{}}
	after, left := "", int64(catalogBytes)
	for range catalogPages {
		page, n, err := p.listPage(ctx, after, left)
		if err != nil {
			return nil, err
		}
		left -= n
		for _, m := range page.Data {
			if m.ID != "" && !c.byID[m.ID] && len(c.list) < catalogModels {
				c.byID[m.ID] = true
				c.list = append(c.list, m.listed())
			}
		}
		if !page.HasMore || page.LastID == "" || page.LastID == after || len(c.list) == catalogModels {
			break
		}
		after = page.LastID
	}
	c.at = time.Now()
	p.catalog.Store(c)
	return c, nil
}

// modelPage is one page of a list of models: OpenAI's form, with Anthropic's
// pages and the fields in which others tell the context window.
type modelPage struct {
	Data    modelEntries `json:"data"`
	Models  modelEntries `json:"models"` // where others have them
	HasMore bool         `json:"has_more"`
	LastID  string       `json:"last_id"`
}

// modelEntries are the first [catalogModels] of a list: very many small ones
// take many times their length in memory.
type modelEntries []modelEntry

func (e *modelEntries) UnmarshalJSON(text []byte) error {
	*e = modelEntries{}
	in := json.NewDecoder(bytes.NewReader(text))
	switch first, err := in.Token(); {
	case err != nil:
		return err
	case first == nil: // null
		return nil
	case first != json.Delim('['):
		return errors.New("the models are no list")
	}
	for in.More() && len(*e) < catalogModels {
		var m modelEntry
		if err := in.Decode(&m); err != nil {
			return err
		}
		*e = append(*e, m)
	}
	return nil
}

type modelEntry struct {
	ID            string      `json:"id"`
	Name          looseText   `json:"name"`
	Created       looseNumber `json:"created"`
	CreatedAt     looseText   `json:"created_at"`
	OwnedBy       looseText   `json:"owned_by"`
	ContextWindow looseNumber `json:"context_window"`
	ContextLength looseNumber `json:"context_length"`
	MaxModelLen   looseNumber `json:"max_model_len"`
}

// looseNumber and looseText are what they say, and nothing where a list has
// something else in their place: its models are worth more than their details.
type (
	looseNumber int64
	looseText   string
)

func (n *looseNumber) UnmarshalJSON(text []byte) error {
	var x json.Number
	if json.Unmarshal(text, &x) == nil {
		if f, err := x.Float64(); err == nil && math.Abs(f) < 1<<53 {
			*n = looseNumber(f)
		}
	}
	return nil
}

func (t *looseText) UnmarshalJSON(text []byte) error {
	_ = json.Unmarshal(text, (*string)(t))
	return nil
}

func (m modelEntry) listed() listed {
	out := listed{ID: m.ID, OwnedBy: string(m.OwnedBy), Created: int64(m.Created), Window: int64(max(m.ContextWindow, m.ContextLength, m.MaxModelLen))}
	if at, err := time.Parse(time.RFC3339, string(m.CreatedAt)); err == nil {
		out.Created = at.Unix()
	}
	return out
}

// listPage reads the page behind after, of at most so many bytes, and tells how
// many it were.
func (p *provider) listPage(ctx context.Context, after string, most int64) (page *modelPage, n int64, err error) {
	call := &Call{Method: "GET", Path: "/v1/models", Header: Headers{{"Accept", "application/json"}, {"User-Agent", "TokenHub"}}}
	if p.Auth == "x-api-key" {
		call.Header = append(call.Header, Header{"Anthropic-Version", anthropicVersion})
		call.Query = "limit=1000"
		if after != "" {
			call.Query = setQueryValue(call.Query+"&after_id=", "after_id", after)
		}
	}
	request := sending{provider: p, call: call, body: &payload{none: true}}
	resp, err := request.send(ctx, nil)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, &listError{p.BaseURL + "/models", resp.StatusCode}
	}
	page = &modelPage{}
	if err := json.Unmarshal(body, page); err != nil {
		// Some list a bare array.
		if json.Unmarshal(body, &page.Data) != nil {
			return nil, 0, fmt.Errorf("GET %s/models did not answer with a list of models: %w", p.BaseURL, err)
		}
	}
	if page.Data == nil {
		page.Data = page.Models
		for i, m := range page.Data {
			page.Data[i].ID = cmp.Or(m.ID, string(m.Name))
		}
	}
	if page.Data == nil { // an error, say, or a list of another form; not an empty one
		return nil, 0, fmt.Errorf("GET %s/models did not answer with a list of models: there is no \"data\"", p.BaseURL)
	}
	return page, int64(len(body)), nil
}
