package proxy

import (
	"math"
	"math/bits"
	"strings"

	"tokenhub/config"
	"tokenhub/db"
)

// price is what a model costs. All are micro-dollars: per million tokens, or per
// image, second of audio and call.
type price struct {
	input, cached, written, output int64
	image, second, call            int64
	// tokens: the model is priced by token. One that is not has a price per image,
	// second or call.
	tokens bool
}

// prices finds the price of a model: the operator's own first, then those of a
// price file, then the built-in ones.
type prices struct {
	own []config.Price
	// tables are searched in order, each by every form of the name.
	tables []*priceTable
}

// newPrices returns the prices under the operator's overrides; imported is the
// content of a price file, nil without one.
func newPrices(overrides []config.Price, imported *priceTable) *prices {
	p := &prices{own: overrides}
	if imported != nil {
		p.tables = append(p.tables, imported)
	}
	p.tables = append(p.tables, builtinPrices())
	return p
}

// lookup finds the price of a served model at a provider. Without ok there is
// none, which is not the same as a price of 0.
func (p *prices) lookup(provider, served string) (price, bool) {
	if served == "" {
		return price{}, false
	}
	full := provider + "/" + served
	for _, name := range []string{full, served} {
		for i := range p.own {
			if c := &p.own[i]; match(c.Model, name) {
				return price{c.Input, c.CachedInput, c.CacheWrite, c.Output, c.Image, c.Second, c.Call, c.Tokens}, true
			}
		}
	}
	for _, t := range p.tables {
		if row, ok := t.find(provider, served); ok && row.priced {
			return row.price, true
		}
	}
	return price{}, false
}

// lookupFor finds the price of a served model for a call. Without ok there is
// none that the call can be charged by: what is priced per image, say, would cost
// nothing in a chat.
func (p *prices) lookupFor(d demand, provider, served string) (price, bool) {
	found, ok := p.lookup(provider, served)
	return found, ok && found.fits(d)
}

// fits reports whether what the price is for is counted in a call.
func (pr price) fits(d demand) bool {
	switch {
	case pr.tokens, pr.call > 0, !d.endpoint.isMetered():
		return true
	case d.endpoint == images:
		return pr.image > 0
	}
	return d.uploads && pr.second > 0
}

// find looks a model up under provider/model, its own name, the part after the
// last slash, and the last two without a trailing date.
func (t *priceTable) find(provider, served string) (priceRow, bool) {
	if provider != "" {
		if row, ok := t.rows[provider+"/"+served]; ok {
			return row, true
		}
		if row, ok := t.rows[provider+"/*"]; ok {
			return row, true
		}
	}
	last := served[strings.LastIndexByte(served, '/')+1:]
	for _, name := range []string{served, last, undated(served), undated(last)} {
		if row, ok := t.rows[name]; ok {
			return row, true
		}
	}
	return priceRow{}, false
}

// undated cuts a trailing date off a model's name: -2024-08-06, -20240806 or
// @20240806.
func undated(name string) string {
	if n := len(name) - len("-2024-08-06"); n > 0 && isDate(name[n:], "-dddd-dd-dd") {
		return name[:n]
	}
	if n := len(name) - len("-20240806"); n > 0 && (isDate(name[n:], "-dddddddd") || isDate(name[n:], "@dddddddd")) {
		return name[:n]
	}
	return name
}

// isDate reports whether s has the shape of pattern, in which d is a digit, and
// a plausible year.
func isDate(s, pattern string) bool {
	for i := range len(s) {
		if pattern[i] == 'd' {
			if s[i] < '0' || s[i] > '9' {
				return false
			}
		} else if s[i] != pattern[i] {
			return false
		}
	}
	return s[1:3] == "20"
}

// contextWindow is the number of tokens that a served model takes in, as far as
// the built-in table knows; 0 = unknown.
func contextWindow(served string) int64 {
	row, _ := builtinPrices().find("", served)
	return row.window
}

// million is what prices per token are quoted for.
const million = 1_000_000

// cost is what a request cost in micro-dollars, rounded half up once. Costs that
// no int64 can hold are the largest one.
func (pr price) cost(u db.Usage, a amounts) int64 {
	var s sum
	cached := clamp(u.CachedInput, u.Input)
	written := clamp(u.CacheWrite, max(0, u.Input)-cached)
	s.add(max(0, u.Input)-cached-written, pr.input)
	s.add(cached, pr.cached)
	s.add(written, pr.written)
	s.add(u.Output, pr.output)
	s.addWhole(a.images, pr.image)
	s.addWhole(a.calls, pr.call)
	s.addPerThousand(a.millis, pr.second)
	return s.round()
}

// inputCost is the most that a number of input tokens can cost, in micro-dollars
// rounded up: whatever is cached turns out at settlement only.
func (pr price) inputCost(tokens int64) int64 {
	var s sum
	s.add(tokens, max(pr.input, pr.cached, pr.written))
	return s.roundUp()
}

// outputPrice is the price of a million output tokens in micro-dollars.
func (pr price) outputPrice() int64 { return pr.output }

// fixed is what a request costs besides its tokens, in micro-dollars.
func (pr price) fixed(a amounts) int64 { return pr.cost(db.Usage{}, a) }

func clamp(n, most int64) int64 { return max(0, min(n, most)) }

// sum adds products up in 128 bits, in millionths of a micro-dollar.
type sum struct {
	hi, lo uint64
	over   bool
}

// add adds n × perMillion. Neither is negative in earnest; a negative one is 0.
func (s *sum) add(n, perMillion int64) { s.product(n, perMillion, 1) }

func (s *sum) addWhole(n, each int64) { s.product(n, each, million) }

func (s *sum) addPerThousand(n, perThousand int64) { s.product(n, perThousand, million/1000) }

func (s *sum) product(n, p int64, scale uint64) {
	if n <= 0 || p <= 0 {
		return
	}
	hi, lo := bits.Mul64(uint64(n), uint64(p))
	// hi is below 2^62, so that the scaled product may pass 128 bits only with hi
	// above 2^44; such a cost is beyond all money anyway.
	if hi > 1<<40 {
		s.over = true
		return
	}
	carry, lo := bits.Mul64(lo, scale)
	hi = hi*scale + carry
	var c uint64
	s.lo, c = bits.Add64(s.lo, lo, 0)
	s.hi, c = bits.Add64(s.hi, hi, c)
	s.over = s.over || c != 0
}

func (s sum) round() int64   { return s.divide(million / 2) }
func (s sum) roundUp() int64 { return s.divide(million - 1) }

// divide adds what to round by and divides by a million.
func (s sum) divide(by uint64) int64 {
	lo, c := bits.Add64(s.lo, by, 0)
	hi, c := bits.Add64(s.hi, 0, c)
	if s.over || c != 0 || hi >= million {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, million)
	return int64(min(q, math.MaxInt64))
}
