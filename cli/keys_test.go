package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const secret = "th-3kTMd9QwZaSECRETSECRETSECRETSECRETSECRETSECRETSECRETabcdef"

// laptop is a key object as the API gives it; %s takes further fields.
const laptop = `{"id":"3kTMd9QwZa","name":"laptop","prefix":"th-3kTMd9QwZa","status":"active",` +
	`"created_at":"2027-01-01T08:00:00.000Z","expires_at":"2027-04-15T12:30:00.000Z","last_used_at":null,` +
	`"models":["gpt-4o*","house"],"providers":[],"endpoints":"inference","allowed_ips":[],"tags":["team-a"],"disabled":false,` +
	`"limits":{"requests_per_minute":60,"monthly_usd":20.5},"revision":3,"usage":{` +
	`"minute":{"requests":2,"tokens":40,"usd":0.000123,"resets_at":"2027-01-15T12:31:00.000Z"},` +
	`"day":{"requests":7,"tokens":900,"usd":0.5,"resets_at":"2027-01-16T00:00:00.000Z"},` +
	`"month":{"requests":70,"tokens":9000,"usd":5.25,"resets_at":"2027-02-01T00:00:00.000Z"},` +
	`"total":{"requests":700,"tokens":90000,"usd":52.5,"resets_at":null},"running":1}%s}`

func laptopWith(more string) answer { return answer{body: fmt.Sprintf(laptop, more)} }

// The requests that the flags of create and update become.
func TestKeyFlags(t *testing.T) {
	tests := []struct{ args, asked string }{
		{"keys create --name a", `POST /api/keys {"name":"a"}`},
		{
			"keys create --name a --models= --rpm= --expires=",
			`POST /api/keys {"name":"a"}`,
		},
		{
			"keys create --name a --expires 90d --models gpt-*,house --providers openai --endpoints all --allowed-ips 10.0.0.0/8,::1 --tags x --tags y",
			`POST /api/keys {"allowed_ips":["10.0.0.0/8","::1"],"endpoints":"all","expires_at":"2027-04-15T12:30:00.000Z","models":["gpt-*","house"],"name":"a","providers":["openai"],"tags":["x","y"]}`,
		},
		{
			"keys create --name a --rpm 1 --tpm 2 --concurrency 3 --max-tokens 4 --daily-tokens 5 --monthly-tokens 6 --total-tokens 7 --daily-usd 0.000001 --monthly-usd 20.50 --total-usd 100",
			`POST /api/keys {"limits":{"concurrent_requests":3,"daily_tokens":5,"daily_usd":0.000001,"max_tokens_per_request":4,"monthly_tokens":6,"monthly_usd":20.5,"requests_per_minute":1,"tokens_per_minute":2,"total_tokens":7,"total_usd":100},"name":"a"}`,
		},
		{"keys update a --name b", `PATCH /api/keys/a {"name":"b"}`},
		{
			"keys update a --expires= --models= --providers= --endpoints= --allowed-ips= --tags= --rpm= --total-usd=",
			`PATCH /api/keys/a {"allowed_ips":null,"endpoints":null,"expires_at":null,"limits":{"requests_per_minute":null,"total_usd":null},"models":null,"providers":null,"tags":null}`,
		},
		{"keys rotate a", `POST /api/keys/a/rotate {}`},
		{"keys rotate a --grace 24h", `POST /api/keys/a/rotate {"grace":"24h"}`},
		{"keys disable a", `PATCH /api/keys/a {"disabled":true}`},
		{"keys enable a", `PATCH /api/keys/a {"disabled":false}`},
		{"keys revoke th-3kTMd9QwZa", `DELETE /api/keys/th-3kTMd9QwZa`},
		{"keys show a/b?c%", `GET /api/keys/a%2Fb%3Fc%25`},
	}
	for _, test := range tests {
		route := strings.Join(strings.Fields(test.asked)[:2], " ")
		f := newFixture(t, map[string]answer{route: laptopWith(`,"key":"` + secret + `"`)}).online()
		if got := f.run(strings.Fields(test.args)...); got.code != 0 || got.stderr != "" {
			t.Errorf("%q: code %d, stderr %q", test.args, got.code, got.stderr)
		}
		f.wantAsked(test.asked)
	}
}

func TestParseExpiry(t *testing.T) {
	load := func(name string) *time.Location {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Skip(err)
		}
		return zone
	}
	berlin, santiago := load("Europe/Berlin"), load("America/Santiago")
	tests := []struct {
		text string
		zone *time.Location
		want string
	}{
		{"1s", time.UTC, "2027-01-15T12:30:01Z"},
		{"12h", time.UTC, "2027-01-16T00:30:00Z"},
		{"90d", berlin, "2027-04-15T12:30:00Z"},
		{"2027-12-31", time.UTC, "2028-01-01T00:00:00Z"},
		{"2027-12-31", berlin, "2027-12-31T23:00:00Z"},
		{"2027-03-28", berlin, "2027-03-28T22:00:00Z"},   // a day of 23 hours
		{"2027-09-04", santiago, "2027-09-05T04:00:00Z"}, // the next day begins at 01:00
		{"2027-09-05", santiago, "2027-09-06T03:00:00Z"},
		{"2027-01-31T18:00:00+02:00", time.UTC, "2027-01-31T16:00:00Z"},
	}
	for _, test := range tests {
		got, err := parseExpiry(test.text, now, test.zone)
		if err != nil || got.UTC().Format(time.RFC3339) != test.want {
			t.Errorf("%s in %s: got %s, %v, want %s", test.text, test.zone, got.UTC(), err, test.want)
		}
	}
}

func TestSecretIsPrintedOnce(t *testing.T) {
	withKey := laptopWith(`,"key":"` + secret + `"`)
	for _, command := range []string{"create --name laptop", "rotate laptop"} {
		f := newFixture(t, map[string]answer{"POST /api/keys": withKey, "POST /api/keys/laptop/rotate": withKey}).online()
		args := append([]string{"keys"}, strings.Fields(command)...)
		f.run(append(args, "--quiet")...).want(t, 0, secret+"\n", "")
		if got := f.run(args...); got.code != 0 || strings.Count(got.stdout, secret) != 1 || !strings.Contains(got.stdout, "this once") {
			t.Errorf("%s printed %q", command, got.stdout)
		}
		got := f.run(append(args, "--json")...)
		var object struct{ Key, ID string }
		if err := json.Unmarshal([]byte(got.stdout), &object); err != nil || object.Key != secret || object.ID != "3kTMd9QwZa" {
			t.Errorf("%s --json printed %q, %v", command, got.stdout, err)
		}
	}
}

func TestKeysShow(t *testing.T) {
	f := newFixture(t, map[string]answer{"GET /api/keys/laptop": laptopWith("")}).online()
	f.run("keys", "show", "laptop").want(t, 0, `Name         laptop
ID           3kTMd9QwZa
Prefix       th-3kTMd9QwZa
Status       active
Created      2027-01-01 08:00
Expires      2027-04-15 12:30
Last used    never
Models       gpt-4o*, house
Providers    all
Endpoints    inference
Allowed IPs  all
Tags         team-a
Running      1

USED         REQUESTS  TOKENS       USD  RESETS
this minute         2      40  0.000123  2027-01-15 12:31
today               7     900       0.5  2027-01-16 00:00
this month         70    9000      5.25  2027-02-01 00:00
in all            700   90000      52.5  -

LIMIT                AT MOST  USED  RESETS
requests per minute       60     2  2027-01-15 12:31
USD per month           20.5  5.25  2027-02-01 00:00
`, "")
	f.run("keys", "show", "laptop", "--quiet").want(t, 0, "3kTMd9QwZa\n", "")
	got := f.run("keys", "show", "laptop", "--json")
	if !strings.HasPrefix(got.stdout, "{\n  \"id\": \"3kTMd9QwZa\",\n") || !strings.Contains(got.stdout, `"usd": 0.000123,`) {
		t.Errorf("printed %s", got.stdout)
	}
}

// Times are those of the configured zone.
func TestZone(t *testing.T) {
	f := newFixture(t, map[string]answer{
		"GET /api/keys/laptop":   laptopWith(""),
		"PATCH /api/keys/laptop": laptopWith(""),
	}).online()
	f.write("config.toml", `timezone = "Asia/Kolkata"`)
	if got := f.run("keys", "show", "laptop"); !strings.Contains(got.stdout, "Created      2027-01-01 13:30\n") {
		t.Errorf("printed %s", got.stdout)
	}
	f.api.asked = nil
	f.run("keys", "update", "laptop", "--expires", "2027-01-31")
	f.wantAsked(`PATCH /api/keys/laptop {"expires_at":"2027-01-31T18:30:00.000Z"}`)
}

func TestKeysList(t *testing.T) {
	second := strings.NewReplacer("3kTMd9QwZa", "0000000000", "laptop", "c\x1b[31mi").Replace(fmt.Sprintf(laptop, ""))
	second = strings.ReplaceAll(second, "\x1b", `\u001b`)
	f := newFixture(t, map[string]answer{
		"GET /api/keys?limit=500":                   {body: `{"data":[` + fmt.Sprintf(laptop, "") + `],"next":"3kTMd9QwZa"}`},
		"GET /api/keys?cursor=3kTMd9QwZa&limit=500": {body: `{"data":[` + second + `],"next":null}`},
	}).online()
	f.run("keys", "list").want(t, 0, `ID          NAME     STATUS  EXPIRES           LAST USED  MONTH: REQUESTS  TOKENS   USD
3kTMd9QwZa  laptop   active  2027-04-15 12:30  never                   70    9000  5.25
0000000000  c [31mi  active  2027-04-15 12:30  never                   70    9000  5.25
`, "")
	f.run("keys", "list", "--quiet").want(t, 0, "3kTMd9QwZa\n0000000000\n", "")
	var all []struct{ ID string }
	got := f.run("--json", "keys", "list")
	if err := json.Unmarshal([]byte(got.stdout), &all); err != nil || len(all) != 2 || all[1].ID != "0000000000" {
		t.Errorf("printed %s: %v", got.stdout, err)
	}
}

func TestKeysListEmpty(t *testing.T) {
	f := newFixture(t, map[string]answer{"GET /api/keys?limit=500": {body: `{"data":[],"next":null}`}}).online()
	f.run("keys", "list", "--json").want(t, 0, "[]\n", "")
	f.run("keys", "list", "--quiet").want(t, 0, "", "")
	f.run("keys", "list").want(t, 0, "No keys yet. Make one: tokenhub keys create --name laptop\n", "")
}

func TestListThatDoesNotEnd(t *testing.T) {
	f := newFixture(t, map[string]answer{
		"GET /api/keys?limit=500":          {body: `{"data":[],"next":"a"}`},
		"GET /api/keys?cursor=a&limit=500": {body: `{"data":[],"next":"a"}`},
	}).online()
	f.run("keys", "list").want(t, 1, "", "the list does not end")
}

func TestOneLineAnswers(t *testing.T) {
	f := newFixture(t, map[string]answer{"PATCH /api/keys/laptop": laptopWith(""), "DELETE /api/keys/laptop": laptopWith("")}).online()
	f.run("keys", "disable", "laptop").want(t, 0, "Disabled the key laptop (ID 3kTMd9QwZa).\n", "")
	f.run("keys", "enable", "laptop").want(t, 0, "Enabled the key laptop (ID 3kTMd9QwZa).\n", "")
	f.run("keys", "revoke", "laptop").want(t, 0, "Revoked the key laptop (ID 3kTMd9QwZa).\n", "")
	f.run("keys", "revoke", "laptop", "--quiet").want(t, 0, "3kTMd9QwZa\n", "")
}
