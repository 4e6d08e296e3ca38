package ui

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
	"time"

	"tokenhub/db"
)

// settle counts one finished request of a key at the world's time.
func (w *world) settle(key, model, served, provider string, input, output, cost int64, status int) {
	w.t.Helper()
	now := w.clock()
	res, err := w.store.Reserve(w.t.Context(), db.Claim{KeyID: key, Time: now, Input: 1, Output: 1, Provider: provider})
	if err != nil {
		w.t.Fatal(err)
	}
	rec := &db.Record{
		ID: fmt.Sprintf("req_%d", res.ID), Start: now, Latency: 1500 * time.Millisecond, FirstByte: 200 * time.Millisecond,
		KeyID: key, Model: model, Served: served, Provider: provider, Endpoint: "POST /v1/chat/completions", Status: status,
		Usage: db.Usage{Input: input, Output: output}, Cost: cost, Source: db.FromProvider, Attempt: 1,
	}
	if err := w.store.Settle(w.t.Context(), res, rec); err != nil {
		w.t.Fatal(err)
	}
}

func usageWorld(t *testing.T) (w *world, one, two, three string) {
	w = newWorld(t)
	one, _ = w.key(`{"name":"one","tags":["red","blue"]}`)
	two, _ = w.key(`{"name":"two","tags":["blue"]}`)
	three, _ = w.key(`{"name":"=three"}`)
	w.settle(one, "gpt-4o", "gpt-4o-1", "openai", 100, 10, 1_000_001, 200)
	w.settle(two, "gpt-4o", "gpt-4o-1", "openai", 200, 20, 2_000_000, 200)
	w.settle(two, "gpt-4o", "gpt-4o-1", "openai", 0, 0, 0, 500)
	w.settle(three, "qwen3", "qwen3", "ollama", 5, 5, db.UnknownCost, 200)
	return w, one, two, three
}

func TestUsageGroups(t *testing.T) {
	w, one, two, three := usageWorld(t)
	for _, c := range []struct{ query, want string }{
		{"", `4/1/305/35/3.000001`},
		{"group_by=model", `gpt-4o 3/1/300/30/3.000001; qwen3 1/0/5/5/0`},
		{"group_by=key", two + ` two 2/1/200/20/2; ` + one + ` one 1/0/100/10/1.000001; ` + three + ` =three 1/0/5/5/0`},
		{"group_by=tag", `blue 3/1/300/30/3.000001; red 1/0/100/10/1.000001;  1/0/5/5/0`},
		{"group_by=tag&key=two", `blue 2/1/200/20/2`},
		{"group_by=provider,served_model", `gpt-4o-1 openai 3/1/300/30/3.000001; qwen3 ollama 1/0/5/5/0`},
		{"group_by=day", `2027-03-17 4/1/305/35/3.000001`},
		{"group_by=hour", `2027-03-17T10:00:00.000Z 4/1/305/35/3.000001`},
		{"group_by=day&provider=ollama", `2027-03-17 1/0/5/5/0`},
		{"model=gpt-4o&key=th-" + one, `1/0/100/10/1.000001`},
		{"group_by=day&from=2027-03-18&to=2027-03-19", ``},
		{"group_by=day&from=2027-03-17&to=2027-03-18", `2027-03-17 4/1/305/35/3.000001`},
		{"group_by=model&from=2027-03-17T11:00:00%2B01:00&to=2027-03-17T11:00:00Z&model=qwen3", `qwen3 1/0/5/5/0`},
		{"group_by=model&from=2027-03-17T11:00:00Z&to=2027-03-17T12:00:00Z", ``},
	} {
		var got []string
		for _, row := range w.want(200, "GET", "/api/usage?"+c.query, "")["data"].([]any) {
			var s string
			for _, g := range []string{"key", "key_name", "model", "served_model", "provider", "day", "hour", "tag"} {
				if v, ok := row.(map[string]any)[g]; ok {
					s += v.(string) + " "
				}
			}
			for i, n := range []string{"requests", "errors", "input_tokens", "output_tokens", "cost_usd"} {
				if i > 0 {
					s += "/"
				}
				s += text(at(row, n))
			}
			got = append(got, s)
		}
		if got := strings.Join(got, "; "); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.query, got, c.want)
		}
	}
	if v := w.want(200, "GET", "/api/usage", ""); v["from"] != "2027-02-16T00:00:00.000Z" || v["to"] != "2027-03-17T11:00:00.000Z" {
		t.Errorf("the last 30 days are %v to %v", v["from"], v["to"])
	}
}

func TestUsageRefusesWhatItDoesNotUnderstand(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{
		"group_by=colour", "group_by=model,", "from=yesterday", "from=2027-03-17T10:30:00Z", "to=2027-03-17T10:00:00.5Z", "from=2027-03-17&to=2027-03-17",
		"from=2028-01-01", "format=xml", "form=2027-01-01", "limit=7",
	} {
		w.refused(400, "invalid_request", "GET", "/api/usage?"+bad, "")
	}
	w.refused(404, "not_found", "GET", "/api/usage?key=nobody", "")
}

func TestUsageAsCSV(t *testing.T) {
	w, _, _, three := usageWorld(t)
	const sums = "requests,errors,input_tokens,output_tokens,cached_input_tokens,cache_write_tokens,reasoning_tokens,cost_usd,estimated_requests,unpriced_requests"
	a := w.call("GET", "/api/usage?group_by=key,model&key="+three, "", "Accept", "text/csv")
	if got, want := string(a.body), "key,key_name,model,"+sums+"\n"+three+",'=three,qwen3,1,0,5,5,0,0,0,0,0,1\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if ct := a.header.Get("Content-Type"); ct != "text/csv; charset=utf-8" {
		t.Errorf("Content-Type %q", ct)
	}
	a = w.call("GET", "/api/usage?format=csv&group_by=day,tag&from=2020-01-01&to=2020-01-02", "")
	if got := string(a.body); got != "day,tag,"+sums+"\n" {
		t.Errorf("an empty report is %q", got)
	}
	a = w.call("GET", "/api/usage?format=csv&group_by=model,served_model,key,provider,day,hour,tag", "")
	rows, err := csv.NewReader(strings.NewReader(string(a.body))).ReadAll()
	if err != nil || len(rows) != 5 || len(rows[1]) != 18 {
		t.Errorf("%v: %d rows of %d", err, len(rows), len(rows[0]))
	}
	for accept, want := range map[string]string{"application/json, text/csv": "application/json", "*/*": "application/json", "text/csv;q=0.9": "text/csv; charset=utf-8", "": "application/json"} {
		if got := w.call("GET", "/api/usage", "", "Accept", accept).header.Get("Content-Type"); got != want {
			t.Errorf("Accept %q: got %q, want %q", accept, got, want)
		}
	}
}

// Where a day begins at half past an hour, the hour that two days share counts
// to the earlier one, in the span and in the groups alike.
func TestUsageDaysOfHalfHourZones(t *testing.T) {
	kolkata, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := parseSpan("2027-03-17", "2027-03-18", start, kolkata)
	if err != nil {
		t.Fatal(err)
	}
	if got := from.Format(time.RFC3339) + " " + to.Format(time.RFC3339); got != "2027-03-16T19:00:00Z 2027-03-17T19:00:00Z" {
		t.Errorf("got %s", got)
	}
}

func TestRequestsLog(t *testing.T) {
	w, one, two, three := usageWorld(t)
	v := w.want(200, "GET", "/api/requests?key=one", "")
	if len(v["data"].([]any)) != 1 || v["next"] != nil {
		t.Fatalf("got %s", text(v))
	}
	row := v["data"].([]any)[0].(map[string]any)
	id := row["id"].(string)
	delete(row, "id")
	want := `{"attempt":1,"broken":false,"cache_write_tokens":0,"cached_input_tokens":0,"cost_usd":1.000001,"endpoint":"POST /v1/chat/completions","error":"","first_byte_ms":200,` +
		`"input_tokens":100,"key":"` + one + `","key_name":"one","latency_ms":1500,"model":"gpt-4o","output_tokens":10,"provider":"openai","reasoning_tokens":0,` +
		`"served_model":"gpt-4o-1","source":"provider","status":200,"stream":false,"time":"2027-03-17T10:30:20.123Z"}`
	if got := text(row); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for query, want := range map[string]int{"": 4, "model=gpt-4o": 3, "model=qwen3": 1, "provider=ollama": 1, "status=500": 1, "status=2xx": 3, "status=4xx": 0, "id=" + id: 1, "key=" + two + "&status=5xx": 1} {
		if data := w.want(200, "GET", "/api/requests?"+query, "")["data"].([]any); len(data) != want {
			t.Errorf("%s: %d requests, want %d", query, len(data), want)
		}
	}
	if row := w.want(200, "GET", "/api/requests?key="+three, "")["data"].([]any)[0]; at(row, "cost_usd") != nil {
		t.Errorf("unknown cost is shown as %v", at(row, "cost_usd"))
	}
	seen := map[string]bool{}
	query := "?limit=1"
	for {
		v := w.want(200, "GET", "/api/requests"+query, "")
		for _, r := range v["data"].([]any) {
			seen[at(r, "id").(string)] = true
		}
		if v["next"] == nil {
			break
		}
		query = "?limit=1&before=" + v["next"].(string)
	}
	if len(seen) != 4 {
		t.Errorf("pages hold %d requests, want 4", len(seen))
	}
	for _, bad := range []string{"status=6xx", "status=ok", "status=42", "before=nonsense", "limit=501", "until=1"} {
		w.refused(400, "invalid_request", "GET", "/api/requests?"+bad, "")
	}
}
