package ui

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"tokenhub/auth"
	"tokenhub/db"
)

const fullKey = `{"name":" laptop ","expires_at":"2027-04-01T00:00:00+02:00","models":["gpt-*","gpt-*"],"providers":["openai"],
	"endpoints":"all","allowed_ips":["10.1.2.3","10.1.2.3/8","2001:db8::1","::ffff:192.0.2.7"],"tags":["team a","ci"],"disabled":true,
	"limits":{"requests_per_minute":60,"tokens_per_minute":100000,"concurrent_requests":4,"max_tokens_per_request":4096,
	"daily_tokens":9007199254740991,"monthly_tokens":1,"total_tokens":2,"daily_usd":0.000001,"monthly_usd":20.50,"total_usd":1e3}}`

func TestKeyHasEveryFieldAsItWasSet(t *testing.T) {
	w := newWorld(t)
	v := w.want(201, "POST", "/api/keys", fullKey)
	id := v["id"].(string)
	kind, parsed, ok := auth.Parse(v["key"].(string))
	if !ok || kind != auth.Key || parsed != id {
		t.Fatalf("the key does not belong to the ID %s", id)
	}
	want := `{"allowed_ips":["10.1.2.3/32","10.0.0.0/8","2001:db8::1/128","192.0.2.7/32"],"created_at":"2027-03-17T10:30:20.123Z","disabled":true,"endpoints":"all",` +
		`"expires_at":"2027-03-31T22:00:00.000Z","id":"` + id + `","last_used_at":null,` +
		`"limits":{"concurrent_requests":4,"daily_tokens":9007199254740991,"daily_usd":0.000001,"max_tokens_per_request":4096,"monthly_tokens":1,"monthly_usd":20.5,"requests_per_minute":60,"tokens_per_minute":100000,"total_tokens":2,"total_usd":1000},` +
		`"models":["gpt-*"],"name":"laptop","prefix":"th-` + id + `","providers":["openai"],"revision":1,"status":"disabled","tags":["team a","ci"],` +
		`"usage":{"day":{"requests":0,"resets_at":"2027-03-18T00:00:00.000Z","tokens":0,"usd":0},"minute":{"requests":0,"resets_at":"2027-03-17T10:31:00.000Z","tokens":0,"usd":0},` +
		`"month":{"requests":0,"resets_at":"2027-04-01T00:00:00.000Z","tokens":0,"usd":0},"running":0,"total":{"requests":0,"resets_at":null,"tokens":0,"usd":0}}}`
	delete(v, "key")
	if got := text(v); got != want {
		t.Errorf("created\n got %s\nwant %s", got, want)
	}
	for _, path := range []string{id, "th-" + id, "laptop"} {
		if got := text(w.want(200, "GET", "/api/keys/"+path, "")); got != want {
			t.Errorf("shown as %s\n got %s\nwant %s", path, got, want)
		}
	}
}

func TestKeyDefaults(t *testing.T) {
	w := newWorld(t)
	v := w.want(201, "POST", "/api/keys", `{"name":"x","expires_at":null,"limits":null,"models":[],"tags":null,"endpoints":null,"disabled":null}`)
	for field, want := range map[string]string{
		"models": "[]", "providers": "[]", "allowed_ips": "[]", "tags": "[]", "limits": "{}", "expires_at": "null",
		"endpoints": `"inference"`, "disabled": "false", "status": `"active"`,
	} {
		if got := text(v[field]); got != want {
			t.Errorf("%s: got %s, want %s", field, got, want)
		}
	}
}

func TestBadKeysAreRefusedWithASentence(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("ä", 101)
	for _, c := range []struct{ body, says string }{
		{``, "name"}, {`{}`, "name"}, {`{"name":""}`, "1 to 100"}, {`{"name":"  "}`, "1 to 100"}, {`{"name":null}`, "name"},
		{`{"name":"` + long + `"}`, "1 to 100"}, {`{"name":"a\u0007"}`, "control"}, {`{"name":"a\u202eb"}`, "control"}, {`{"name":7}`, "string"},
		{`[]`, "object"}, {`"x"`, "object"}, {`{`, "JSON"}, {`{"name":"x"`, "JSON"}, {`{"name":"x"}}`, "after its end"}, {`{"name":"x"} {}`, "after its end"},
		{`{"name":"x",}`, "JSON"}, {"{\"name\":\"\xff\"}", "UTF-8"}, {`{"name":"x","name":"y"}`, "twice"}, {`{"name":"x","n\u0061me":"y"}`, "twice"},
		{`{"name":"x","Name":"y"}`, `no field "Name"`}, {`{"name":"x","budget":1}`, `no field "budget"`}, {`{"name":"x","id":"y"}`, "can't be set"}, {`{"name":"x","revision":1}`, "revision"},
		{`{"name":"x","expires_at":"2020-01-01"}`, "past"}, {`{"name":"x","expires_at":"tomorrow"}`, "2027-01-31"}, {`{"name":"x","expires_at":"0s"}`, "duration"}, {`{"name":"x","expires_at":12}`, "string"},
		{`{"name":"x","expires_at":"0001-01-01T00:00:00Z"}`, "1970"}, {`{"name":"x","expires_at":""}`, "duration"},
		{`{"name":"x","models":"gpt"}`, "list of strings"}, {`{"name":"x","models":[""]}`, "200 bytes"}, {`{"name":"x","models":[null]}`, "list of strings"}, {`{"name":"x","models":[1]}`, "list of strings"},
		{`{"name":"x","models":["` + strings.Repeat("m", 201) + `"]}`, "200 bytes"}, {`{"name":"x","models":["a\nb"]}`, "200 bytes"},
		{`{"name":"x","providers":["opnai"]}`, "openai, ollama"}, {`{"name":"x","providers":[""]}`, "provider"},
		{`{"name":"x","endpoints":"some"}`, "inference"}, {`{"name":"x","endpoints":true}`, "string"},
		{`{"name":"x","allowed_ips":["10.0.0.0/33"]}`, "10.0.0.0/8"}, {`{"name":"x","allowed_ips":["localhost"]}`, "neither"}, {`{"name":"x","allowed_ips":["fe80::1%eth0"]}`, "neither"}, {`{"name":"x","allowed_ips":["::ffff:0:0/90"]}`, "neither"},
		{`{"name":"x","tags":["a,b"]}`, "commas"}, {`{"name":"x","tags":[" a"]}`, "blanks"}, {`{"name":"x","tags":[""]}`, "1 to 100"}, {`{"name":"x","tags":[` + strings.Repeat(`"a",`, 500) + `"b"]}`, "too many"},
		{`{"name":"x","disabled":1}`, "true or false"}, {`{"name":"x","disabled":"true"}`, "true or false"},
		{`{"name":"x","limits":[]}`, "object"}, {`{"name":"x","limits":7}`, "object"}, {`{"name":"x","limits":{"rpm":7}}`, `no limit "rpm"`},
		{`{"name":"x","limits":{"daily_usd":1,"daily_usd":2}}`, "twice"},
		{`{"name":"x","limits":{"requests_per_minute":0}}`, "leave it empty for no limit, disable the key for none"}, {`{"name":"x","limits":{"requests_per_minute":-1}}`, "whole number"},
		{`{"name":"x","limits":{"requests_per_minute":1.5}}`, "whole number"}, {`{"name":"x","limits":{"requests_per_minute":"60"}}`, "number"}, {`{"name":"x","limits":{"requests_per_minute":true}}`, "number"},
		{`{"name":"x","limits":{"daily_tokens":9007199254740992}}`, "whole number"}, {`{"name":"x","limits":{"daily_tokens":99999999999999999999}}`, "whole number"},
		{`{"name":"x","limits":{"daily_usd":0}}`, "leave it empty for no limit"}, {`{"name":"x","limits":{"daily_usd":0.0}}`, "leave it empty for no limit"}, {`{"name":"x","limits":{"daily_usd":-1}}`, "at least 0.000001"},
		{`{"name":"x","limits":{"daily_usd":0.0000001}}`, "at least 0.000001"}, {`{"name":"x","limits":{"daily_usd":1.0000001}}`, "6 decimals"}, {`{"name":"x","limits":{"daily_usd":"5"}}`, "number"},
		{`{"name":"x","limits":{"daily_usd":1000000001}}`, "too large"}, {`{"name":"x","limits":{"daily_usd":1e999999999}}`, "too large"}, {`{"name":"x","limits":{"daily_usd":1e-999999999}}`, "leave it empty"},
		{`{"name":"x","limits":{"daily_usd":0.` + strings.Repeat("1", 60) + `}}`, "too long"},
	} {
		if got := w.refused(400, "invalid_request", "POST", "/api/keys", c.body); !strings.Contains(got, c.says) {
			t.Errorf("%s: got %q, want %q in it", c.body, got, c.says)
		}
	}
	if keys := w.want(200, "GET", "/api/keys", "")["data"].([]any); len(keys) != 0 {
		t.Errorf("refused requests made %d keys", len(keys))
	}
}

func TestExpiryForms(t *testing.T) {
	w := newWorld(t)
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	w.config.Timezone = zone
	for sent, want := range map[string]string{
		"90d": "2027-06-15T10:30:20.123Z", "1s": "2027-03-17T10:30:21.123Z", "12h": "2027-03-17T22:30:20.123Z",
		"2027-03-27": "2027-03-27T23:00:00.000Z", "2027-03-28": "2027-03-28T22:00:00.000Z", // the clocks change on the 28th
		"2027-05-01T12:00:00.123456+02:00": "2027-05-01T10:00:00.123Z",
	} {
		v := w.want(201, "POST", "/api/keys", `{"name":"x","expires_at":"`+sent+`"}`)
		if got := v["expires_at"]; got != want {
			t.Errorf("%s: got %v, want %s", sent, got, want)
		}
	}
}

func TestPatchMerges(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(fullKey)
	path := "/api/keys/" + id
	v := w.want(200, "PATCH", path, `{"disabled":false,"expires_at":null,"models":null,"limits":{"daily_usd":null,"total_usd":7,"daily_tokens":null}}`)
	if got := text(v["limits"]); got != `{"concurrent_requests":4,"max_tokens_per_request":4096,"monthly_tokens":1,"monthly_usd":20.5,"requests_per_minute":60,"tokens_per_minute":100000,"total_tokens":2,"total_usd":7}` {
		t.Errorf("limits: %s", got)
	}
	if v["status"] != "active" || v["expires_at"] != nil || text(v["models"]) != "[]" || v["name"] != "laptop" || text(v["tags"]) != `["team a","ci"]` || text(v["revision"]) != "2" {
		t.Errorf("got %s", text(v))
	}
	entry := w.audits()[0]
	if entry.Before != `{"disabled":true,"expires_at":"2027-03-31T22:00:00.000Z","limits":{"daily_tokens":9007199254740991,"daily_usd":0.000001,"total_usd":1000},"models":["gpt-*"]}` ||
		entry.After != `{"disabled":false,"expires_at":null,"limits":{"daily_tokens":null,"daily_usd":null,"total_usd":7},"models":[]}` {
		t.Errorf("audit\nbefore %s\n after %s", entry.Before, entry.After)
	}
	if got := text(w.want(200, "PATCH", path, `{"limits":null}`)["limits"]); got != "{}" {
		t.Errorf("limits: null left %s", got)
	}
	entries := len(w.audits())
	if v := w.want(200, "PATCH", path, `{"disabled":false,"limits":{}}`); text(v["revision"]) != "3" || len(w.audits()) != entries {
		t.Errorf("a change that changes nothing was written: revision %v", v["revision"])
	}
	if v := w.want(200, "PATCH", path, ``); text(v["revision"]) != "3" {
		t.Errorf("an empty change was written")
	}
	if got := w.want(200, "PATCH", path, `{"expires_at":"2027-01-01T00:00:00Z"}`)["status"]; got != "expired" {
		t.Errorf("expired by hand: %v", got)
	}
}

func TestPatchAcceptsTheProvidersThatAreThere(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(`{"name":"x","providers":["ollama"]}`)
	w.config.Providers = w.config.Providers[:1]
	w.want(200, "PATCH", "/api/keys/"+id, `{"providers":["ollama","openai"]}`)
	w.config.Providers = nil
	w.want(201, "POST", "/api/keys", `{"name":"y","providers":["whatever"]}`)
}

func TestOldRevisionIsAConflict(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(`{"name":"x"}`)
	w.want(200, "PATCH", "/api/keys/"+id, `{"name":"y","revision":1}`)
	for _, c := range []struct{ method, path, body string }{
		{"PATCH", "/api/keys/" + id, `{"name":"z","revision":1}`},
		{"PATCH", "/api/keys/" + id, `{"revision":1}`},
		{"PATCH", "/api/keys/" + id, `{"name":"z","revision":9}`},
		{"POST", "/api/keys/" + id + "/rotate", `{"revision":1}`},
	} {
		if got := w.refused(409, "conflict", c.method, c.path, c.body); !strings.Contains(got, "revision is 2") {
			t.Errorf("%s %s: %s", c.method, c.body, got)
		}
	}
	w.refused(400, "invalid_request", "PATCH", "/api/keys/"+id, `{"revision":"2"}`)
	// It was answered in the words for limits: leave it empty for no limit.
	for _, revision := range []string{"0", "-1", "1.5", "1e3", "99999999999999999999"} {
		for method, path := range map[string]string{"PATCH": "/api/keys/" + id, "POST": "/api/keys/" + id + "/rotate"} {
			got := w.refused(400, "invalid_request", method, path, `{"revision":`+revision+`}`)
			if !strings.HasPrefix(got, `"revision" must be one that an earlier answer held`) {
				t.Errorf("%s with the revision %s: %s", method, revision, got)
			}
		}
	}
	w.want(200, "PATCH", "/api/keys/"+id, `{"name":"z","revision":null}`)
}

func TestConcurrentPatches(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(`{"name":"x"}`)
	limits := []string{"requests_per_minute", "tokens_per_minute", "concurrent_requests", "max_tokens_per_request", "daily_tokens",
		"monthly_tokens", "total_tokens", "daily_usd", "monthly_usd", "total_usd"}
	patch := func(value int, more string) (ok, conflict int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for _, name := range limits {
			wg.Go(func() {
				a := w.call("PATCH", "/api/keys/"+id, fmt.Sprintf(`{"limits":{%q:%d}%s}`, name, value, more))
				mu.Lock()
				defer mu.Unlock()
				switch a.status {
				case 200:
					ok++
				case 409:
					conflict++
				default:
					t.Errorf("got %d %s", a.status, a.body)
				}
			})
		}
		wg.Wait()
		return ok, conflict
	}
	// Each changes another limit: without a revision none may be lost.
	ok, _ := patch(7, "")
	v := w.want(200, "GET", "/api/keys/"+id, "")
	if set := v["limits"].(map[string]any); ok != len(limits) || len(set) != len(limits) || text(v["revision"]) != "11" {
		t.Errorf("%d of %d changes were made, revision %v: %s", ok, len(limits), v["revision"], text(set))
	}
	ok, conflict := patch(8, `,"revision":11`)
	if ok != 1 || conflict != len(limits)-1 {
		t.Errorf("with the same revision %d were made and %d refused, want 1 and %d", ok, conflict, len(limits)-1)
	}
}

func TestRevokeIsFinal(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(`{"name":"x"}`)
	path := "/api/keys/" + id
	if got := w.want(200, "DELETE", path, "")["status"]; got != "revoked" {
		t.Errorf("status %v", got)
	}
	entries := len(w.audits())
	v := w.want(200, "DELETE", path, "")
	if v["status"] != "revoked" || len(w.audits()) != entries {
		t.Errorf("revoked again: %s", text(v))
	}
	for _, c := range [][3]string{{"PATCH", path, `{"name":"y"}`}, {"PATCH", path, `{}`}, {"PATCH", path, `{"disabled":true}`}, {"POST", path + "/rotate", ``}} {
		w.refused(409, "conflict", c[0], c[1], c[2])
	}
	if data := w.want(200, "GET", "/api/keys", "")["data"].([]any); len(data) != 1 {
		t.Errorf("a revoked key is not listed")
	}
	if e := w.audits()[0]; e.Action != "key.revoke" || e.Before != `{"status":"active"}` || e.After != `{"status":"revoked"}` {
		t.Errorf("audit: %+v", e)
	}
}

func TestRotate(t *testing.T) {
	w := newWorld(t)
	id, first := w.key(`{"name":"x"}`)
	path := "/api/keys/" + id + "/rotate"
	secrets := func() []db.Secret {
		k, err := w.store.Key(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return k.Secrets
	}
	v := w.want(200, "POST", path, `{"grace":"24h"}`)
	if v["id"] != id || v["key"] == first || !strings.HasPrefix(v["key"].(string), "th-"+id) {
		t.Errorf("rotated: %s", text(v["id"]))
	}
	if s := secrets(); len(s) != 2 || !s[0].Until.IsZero() || !s[1].Until.Equal(stamp(start.Add(24*time.Hour))) {
		t.Fatalf("after a grace of 24h: %+v", s)
	}
	w.want(200, "POST", path, `{"grace":"1h"}`)
	if s := secrets(); len(s) != 3 || !s[1].Until.Equal(stamp(start.Add(time.Hour))) || !s[2].Until.Equal(stamp(start.Add(time.Hour))) {
		t.Fatalf("a shorter grace did not shorten the older one: %+v", s)
	}
	w.pass(2 * time.Hour)
	w.want(200, "PATCH", "/api/keys/"+id, `{"disabled":true}`)
	if s := secrets(); len(s) != 1 {
		t.Errorf("secrets past their grace were kept at the next write: %d", len(s))
	}
	for range maxSecrets - 1 {
		w.want(200, "POST", path, `{"grace":"30d"}`)
	}
	w.refused(409, "conflict", "POST", path, `{"grace":"30d"}`)
	w.want(200, "POST", path, `{}`)
	if s := secrets(); len(s) != 1 || !s[0].Until.IsZero() {
		t.Errorf("without a grace: %+v", s)
	}
	for _, bad := range []string{`{"grace":"31d"}`, `{"grace":24}`, `{"grace":"-1h"}`, `{"grace":"soon"}`, `{"key":"x"}`, `[]`} {
		w.refused(400, "invalid_request", "POST", path, bad)
	}
	if e := w.audits()[0]; e.Action != "key.rotate" || e.After != `{"grace":"0s"}` || e.Target != id || e.TargetName != "x" {
		t.Errorf("audit: %+v", e)
	}
}

func TestFindByName(t *testing.T) {
	w := newWorld(t)
	odd := "a/b c+d?ü%"
	id, _ := w.key(`{"name":"` + odd + `"}`)
	if got := w.want(200, "GET", "/api/keys/"+url.PathEscape(odd), "")["id"]; got != id {
		t.Errorf("found %v, want %s", got, id)
	}
	w.want(200, "POST", "/api/keys/"+url.PathEscape(odd)+"/rotate", "")
	w.refused(404, "not_found", "GET", "/api/keys/nobody", "")
	w.refused(404, "not_found", "PATCH", "/api/keys/th-0000000000", `{}`)

	one, _ := w.key(`{"name":"twin"}`)
	two, _ := w.key(`{"name":"twin"}`)
	message := w.refused(409, "conflict", "DELETE", "/api/keys/twin", "")
	if !strings.Contains(message, one) || !strings.Contains(message, two) {
		t.Errorf("the IDs are not named: %s", message)
	}
	w.want(200, "DELETE", "/api/keys/"+one, "")
	if got := w.want(200, "GET", "/api/keys/twin", "")["id"]; got != two {
		t.Errorf("the name means %v, want the living %s", got, two)
	}
	// A name cannot take over the ID of another key.
	w.key(`{"name":"` + two + `"}`)
	if got := w.want(200, "GET", "/api/keys/"+two, "")["id"]; got != two {
		t.Errorf("the ID means %v", got)
	}
}

func TestListKeys(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for i := range 7 {
		id, _ := w.key(fmt.Sprintf(`{"name":"key %d","tags":["Group%d"],"disabled":%v}`, i, i%2, i == 3))
		ids = append([]string{id}, ids...)
		w.pass(time.Second)
	}
	var got []string
	query := "?limit=3"
	for pages := 0; ; pages++ {
		v := w.want(200, "GET", "/api/keys"+query, "")
		for _, k := range v["data"].([]any) {
			got = append(got, at(k, "id").(string))
		}
		if pages == 0 { // a new key in front does not move the pages
			w.key(`{"name":"late"}`)
		}
		if v["next"] == nil {
			break
		}
		query = "?limit=3&cursor=" + v["next"].(string)
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("pages hold %v, want %v", got, ids)
	}
	for query, want := range map[string]int{"status=disabled": 1, "status=active": 7, "status=revoked": 0, "search=KEY": 7, "search=group1": 3, "search=th-" + ids[0]: 1, "search=group1&status=disabled": 1} {
		if data := w.want(200, "GET", "/api/keys?"+query, "")["data"].([]any); len(data) != want {
			t.Errorf("%s: %d keys, want %d", query, len(data), want)
		}
	}
	for _, bad := range []string{"limit=0", "limit=501", "limit=x", "status=on", "cursor=nonsense", "colour=red", "limit=1&limit=2", "cursor=a&before=b"} {
		w.refused(400, "invalid_request", "GET", "/api/keys?"+bad, "")
	}
}

func TestKeyShowsItsUse(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(`{"name":"x"}`)
	w.settle(id, "gpt-4o", "gpt-4o-2024", "openai", 1000, 234, 1_500_000, 200)
	w.store.TouchKey(id, start)
	v := w.want(200, "GET", "/api/keys/"+id, "")
	for _, window := range []string{"minute", "day", "month", "total"} {
		u := at(v, "usage", window)
		if text(at(u, "requests")) != "1" || text(at(u, "tokens")) != "1234" || text(at(u, "usd")) != "1.5" {
			t.Errorf("%s: %s", window, text(u))
		}
	}
	if v["last_used_at"] != "2027-03-17T10:30:20.123Z" {
		t.Errorf("last used %v", v["last_used_at"])
	}
}
