package auth

import (
	"testing"

	"tokenhub/db"
)

// BenchmarkCheckOf measures what the check of each kind of secret takes: this is
// all that its time can tell. The figures stand in docs/security.md.
func BenchmarkCheckOf(b *testing.B) {
	mint := func(edit func(*db.Key)) (*Verifier, string) {
		store := newTable()
		text, id := store.mint(b)
		phc, err := Hash(text)
		if err != nil {
			b.Fatal(err)
		}
		store.edit(id, func(k *db.Key) {
			k.Secrets[0].PHC = phc
			if edit != nil {
				edit(k)
			}
		})
		return New(Options{Keys: frozen{store}}), text
	}
	bench := func(name string, v *Verifier, text string, opens bool) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := v.Verify(b.Context(), text, addr(1)); (err == nil) != opens {
					b.Fatalf("got %v", err)
				}
			}
		})
	}
	other, _, err := Mint(Key)
	if err != nil {
		b.Fatal(err)
	}
	v, text := mint(nil)
	bench("NoKey", v, "sk-something-else", false)
	bench("Typo", v, text[:len(text)-1]+"!", false)
	bench("UnknownID", v, other, false)
	disabled, closed := mint(func(k *db.Key) { k.Disabled = true })
	bench("Disabled", disabled, closed, false)
	if _, err := v.Verify(b.Context(), text, addr(1)); err != nil {
		b.Fatal(err)
	}
	bench("Proven", v, text, true)
	wrong, err := Renew(Key, text[len(Key):len(Key)+idLen])
	if err != nil {
		b.Fatal(err)
	}
	bench("WrongOfAProven", v, wrong, false)
	b.Run("FirstUse", func(b *testing.B) {
		phc, err := Hash(text)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if ok, err := check(text, phc); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}
