package ui

import (
	"context"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"tokenhub/auth"
)

// overtaken is a store whose admin password is changed while somebody signs in.
type overtaken struct {
	Store
	// left counts down the times that the hash is read until that happens.
	left   atomic.Int64
	change func()
}

func (s *overtaken) Setting(ctx context.Context, name string) (string, error) {
	text, err := s.Store.Setting(ctx, name)
	if name == auth.PasswordSetting && s.left.Add(-1) == 0 {
		s.change()
	}
	return text, err
}

// A sign-in with the old password, which a change of it overtook behind its check,
// began a session that the change did not end.
func TestSignInThatAChangeOvertakes(t *testing.T) {
	store := &overtaken{}
	w := newWorld(t, func(o *Options) { store.Store, o.Store = o.Store, store })
	v := w.pages()
	v.cookie = nil
	store.change = func() { w.admin.sessions.DeleteAll() } // as newPassword does
	store.left.Store(2)                                    // which is behind the check
	a := v.post("/sign-in", url.Values{"password": {adminPassword}})
	if a.status != 401 || v.cookie != nil || !strings.Contains(string(a.body), "was just changed") {
		t.Errorf("got %d with cookie %v: %s", a.status, v.cookie, a.body)
	}
	if a := v.get("/settings"); a.status != 303 {
		t.Errorf("without a session the settings are %d", a.status)
	}
	if a := v.post("/sign-in", url.Values{"password": {adminPassword}}); a.status != 303 || v.cookie == nil {
		t.Errorf("the next sign-in: %d", a.status)
	}
}
