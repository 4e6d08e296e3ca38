package auth

import (
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	phc, err := Hash("open sesame")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("got %s, want 19 MiB, t=2, p=1", phc)
	}
	if again, _ := Hash("open sesame"); again == phc {
		t.Error("two hashes of a text are equal: no salt")
	}
	if err := ValidPHC(phc); err != nil {
		t.Errorf("our own hash: %v", err)
	}
	for text, want := range map[string]bool{"open sesame": true, "open sesam": false, "": false} {
		if got, err := check(text, phc); got != want || err != nil {
			t.Errorf("check %q: got %v, %v, want %v", text, got, err, want)
		}
	}
}

// The reference implementation's argon2 command made this one.
func TestHashOfTheReference(t *testing.T) {
	const phc = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"
	if ok, err := check("password", phc); !ok || err != nil {
		t.Errorf("got %v, %v, want true", ok, err)
	}
}

// Damaged and hostile hashes cost no memory and never panic.
func TestUnusableHashes(t *testing.T) {
	const salt, key = "c29tZXNhbHRzb21lc2FsdA", "bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"
	if err := ValidPHC("$argon2id$v=19$m=262144,t=16,p=16$" + salt + "$" + key); err != nil {
		t.Errorf("the largest parameters: %v", err)
	}
	for _, phc := range []string{
		"", "x", "$argon2id$", "a password that is long",
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=0,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=8,t=2,p=2$" + salt + "$" + key,
		"$argon2id$v=19$m=262145,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=17,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=17$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=300$" + salt + "$" + key,
		"$argon2id$v=18$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key[:8],
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$",
		"$argon2id$v=19$m=19456,t=2,p=1$$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$!!!",
	} {
		if err := ValidPHC(phc); err == nil {
			t.Errorf("valid: %q", phc)
		} else if len(phc) > 40 && strings.Contains(err.Error(), phc[len(phc)-20:]) {
			t.Errorf("the error repeats the hash: %v", err)
		}
		if ok, err := check("password", phc); ok || err == nil {
			t.Errorf("check %q: got %v, %v, want an error", phc, ok, err)
		}
	}
}
