package ui

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tokenhub/db"
)

// mostSeries is how many names a chart tells apart; the rest is one of them.
const mostSeries = 7

// measure is what a chart shows.
type measure struct {
	Name, Label string
	of          func(*db.Sums) int64
	write       func(int64) string
}

var measures = []measure{
	{"cost", "Cost", func(s *db.Sums) int64 { return s.Cost }, usd},
	{"tokens", "Tokens", func(s *db.Sums) int64 { return s.Usage.Tokens() }, short},
	{"requests", "Requests", func(s *db.Sums) int64 { return s.Requests }, short},
}

// chart is a stacked bar chart, ready to be drawn as SVG: 1000 wide and 100 high,
// and stretched to the room there is.
type chart struct {
	Label string
	// Top is the largest value of the scale, and Half the one in the middle.
	Top, Half string
	Bars      []bar
	// Ticks are the texts below: of the first bar, one in the middle, the last.
	Ticks [3]string
	// Series are the names, the largest first.
	Series []series
	Empty  bool
	// ranked are the sums of all names, the largest first.
	ranked []*namedSums
}

// series is one name in a chart; Color is the number of its colour.
type series struct {
	Color int
	Name  string
	Total string
}

// bar is one period in a chart.
type bar struct {
	// X and Width place it, Tip says what it shows.
	X, Width float64
	Tip      string
	Parts    []part
}

// part is one colour in a bar.
type part struct {
	X, Y, Width, Height float64
	Color               int
}

// newChart draws periods by a measure. label turns names into what people read.
func newChart(list []period, m measure, hourly bool, zone *time.Location, label func(string) string) *chart {
	c := &chart{Label: m.Label, ranked: rank(list, m)}
	drawn := c.ranked // those that are nothing come last
	for len(drawn) > 0 && m.of(&drawn[len(drawn)-1].Sums) == 0 {
		drawn = drawn[:len(drawn)-1]
	}
	c.Empty = len(drawn) == 0
	colors := make(map[string]int, mostSeries+1) // all others are drawn as one
	var rest int64
	for i, s := range drawn {
		if i < mostSeries || len(drawn) == mostSeries+1 {
			colors[s.name] = i
			c.Series = append(c.Series, series{i, label(s.name), m.write(m.of(&s.Sums))})
		} else {
			rest += m.of(&s.Sums)
		}
	}
	if rest > 0 {
		c.Series = append(c.Series, series{mostSeries, fmt.Sprintf("%s others", number(int64(len(drawn)-mostSeries))), m.write(rest)})
	}
	var most int64
	sums := make([][mostSeries + 1]int64, len(list))
	for i := range list {
		var total int64
		for j := range list[i].sums {
			s := &list[i].sums[j]
			v := m.of(&s.Sums)
			color, own := colors[s.name]
			if !own {
				color = mostSeries
			}
			sums[i][color] += v
			total += v
		}
		most = max(most, total)
	}
	top := roundUp(most)
	c.Top, c.Half = m.write(top), m.write(top/2)
	step := 1000 / float64(max(1, len(list)))
	for i, p := range list {
		c.Bars = append(c.Bars, newBar(sums[i], top, float64(i)*step, step))
		c.Bars[i].Tip = c.tip(p, sums[i], m, hourly, zone)
	}
	c.Ticks = ticks(list, hourly, zone)
	return c
}

// rank returns the sums of all periods by name, the largest by a measure first.
func rank(list []period, m measure) []*namedSums {
	type ranked struct {
		value int64
		sums  *namedSums
	}
	all := together(list)
	order := make([]ranked, len(all))
	for i := range all {
		order[i] = ranked{m.of(&all[i].Sums), &all[i]}
	}
	slices.SortFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(b.sums.Requests, a.sums.Requests), strings.Compare(a.sums.name, b.sums.name))
	})
	out := make([]*namedSums, len(order))
	for i := range order {
		out[i] = order[i].sums
	}
	return out
}

func newBar(sums [mostSeries + 1]int64, top int64, x, step float64) bar {
	b := bar{X: round(x + step*0.12), Width: round(step * 0.76)}
	y := 100.0
	for color, v := range sums {
		if v <= 0 || top <= 0 {
			continue
		}
		h := float64(v) / float64(top) * 100
		y -= h
		b.Parts = append(b.Parts, part{b.X, round(y), b.Width, round(h), color})
	}
	return b
}

func round(v float64) float64 { return math.Round(v*100) / 100 }

// tip says in words what a bar shows.
func (c *chart) tip(p period, sums [mostSeries + 1]int64, m measure, hourly bool, zone *time.Location) string {
	var total int64
	var b strings.Builder
	named := 0
	for _, s := range c.Series {
		v := sums[s.Color]
		total += v
		if v > 0 && s.Name != "" {
			named++
			fmt.Fprintf(&b, "\n%s: %s", s.Name, m.write(v))
		}
	}
	head := fmt.Sprintf("%s: %s", periodText(p, hourly, zone), m.write(total))
	if named < 2 && len(c.Series) < 2 {
		return head
	}
	return head + b.String()
}

func periodText(p period, hourly bool, zone *time.Location) string {
	if hourly {
		return p.from.In(zone).Format("2 Jan, 15:04")
	}
	return p.from.In(zone).Format("Mon 2 Jan 2006")
}

func ticks(list []period, hourly bool, zone *time.Location) (out [3]string) {
	if len(list) == 0 {
		return out
	}
	format := "2 Jan"
	if hourly {
		format = "2 Jan, 15:04"
	}
	for i, at := range [...]int{0, len(list) / 2, len(list) - 1} {
		if i == 0 || at > 0 && (i != 1 || len(list) > 4) {
			out[i] = list[at].from.In(zone).Format(format)
		}
	}
	return out
}

// roundUp returns the next number that reads well on a scale.
func roundUp(n int64) int64 {
	if n <= 2 {
		return max(n, 0) + n%2
	}
	unit := int64(math.Pow(10, math.Floor(math.Log10(float64(n)))))
	for _, f := range []float64{1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10} {
		if v := int64(f * float64(unit)); v >= n {
			return v
		}
	}
	return n
}
