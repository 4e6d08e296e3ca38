package ui

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The secret of a key is in the answers to create and rotate, and nowhere else.
func TestSecretIsShownOnce(t *testing.T) {
	w := newWorld(t)
	id, first := w.key(fullKey)
	second := w.want(200, "POST", "/api/keys/"+id+"/rotate", `{"grace":"1d"}`)["key"].(string)
	token := w.want(201, "POST", "/api/tokens", `{"name":"ci"}`)["token"].(string)
	w.want(200, "PUT", "/api/admin/password", `{"password":"correct horse battery"}`)
	w.want(200, "PATCH", "/api/keys/"+id, `{"name":"y"}`)
	w.want(200, "DELETE", "/api/keys/"+id, ``)
	var seen strings.Builder
	for _, path := range []string{"/api/keys", "/api/keys/" + id, "/api/tokens", "/api/audit", "/api/usage?group_by=key", "/api/requests", "/api/providers"} {
		seen.Write(w.call("GET", path, "").body)
	}
	seen.WriteString(text(w.audits()))
	seen.WriteString(w.log.String())
	for _, secret := range []string{first[13:], second[13:], token[14:], "correct horse", "$argon2id$"} {
		if strings.Contains(seen.String(), secret) {
			t.Errorf("a secret or hash is shown (%.12s...)", secret)
		}
	}
}

func TestAuditSaysWhoAndWhere(t *testing.T) {
	w := newWorld(t)
	w.want(201, "POST", "/api/keys", `{"name":"net"}`, "X-TokenHub-Actor", "somebody")
	socket := w.serve(Socket)
	resp, err := http.Post(socket+"/api/keys", "application/json", strings.NewReader(`{"name":"sock","limits":{"daily_usd":2.50}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	e := w.audits()
	if e[1].Actor != "token:ops" || e[1].From != "127.0.0.1" || e[1].Action != "key.create" || e[1].TargetName != "net" || e[1].Before != "" || e[1].After != `{"endpoints":"inference","name":"net"}` {
		t.Errorf("over the network: %+v", e[1])
	}
	if e[0].Actor != "cli" || e[0].From != "socket" || e[0].After != `{"endpoints":"inference","limits":{"daily_usd":2.5},"name":"sock"}` {
		t.Errorf("over the socket: %+v", e[0])
	}
	v := w.want(200, "GET", "/api/audit?limit=1", "")
	var shown struct {
		Data []struct {
			Action, Actor, From, Target string
			Before, After               json.RawMessage
		}
		Next *string
	}
	if err := json.Unmarshal([]byte(text(v)), &shown); err != nil || len(shown.Data) != 1 || shown.Next == nil {
		t.Fatalf("%v: %s", err, text(v))
	}
	if string(shown.Data[0].Before) != "null" || string(shown.Data[0].After) != e[0].After {
		t.Errorf("shown as %s", text(v))
	}
	if data := w.want(200, "GET", "/api/audit?target=th-"+e[1].Target, "")["data"].([]any); len(data) != 1 {
		t.Errorf("by target: %d entries", len(data))
	}
	w.refused(400, "invalid_request", "GET", "/api/audit?before=nonsense", "")
}
