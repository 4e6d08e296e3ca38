package auth

import (
	"encoding/hex"
	"hash/crc32"
	"math/big"
	"strings"
	"testing"
)

// The texts were computed with another language from the description of the
// format alone.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		kind             Kind
		id, secret, text string
	}{
		{Key, "0000000000", "0000000000000000000000000000000000000000000000000000000000000000", "th-000000000000000000000000000000000000000000000000000003muCIe"},
		{Key, "AbCdEfGh12", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "th-AbCdEfGh12yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp124PdLt"},
		{Token, "zzzzzzzzzz", "0000000000000000000000000000000000000000000000000000000000000001", "tha-zzzzzzzzzz00000000000000000000000000000000000000000013PYNYr"},
		{Key, "k3Y0000001", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "th-k3Y0000001003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0FIXCl"},
		{Token, "Q7w8E9r0T1", "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0", "tha-Q7w8E9r0T1yhgIGB9quGfHP8Y83EcC2im5kZukTeYkpb69aekqK3M1Lk2nd"},
	} {
		raw, err := hex.DecodeString(v.secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := compose(v.kind, v.id, [32]byte(raw)); got != v.text {
			t.Errorf("text of %s%s: got %s, want %s", v.kind, v.id, got, v.text)
		}
		kind, id, ok := Parse(v.text)
		if kind != v.kind || id != v.id || !ok {
			t.Errorf("parse %s: got %q %q %v, want %q %q true", v.text, kind, id, ok, v.kind, v.id)
		}
		if got, want := Prefix(v.text), string(v.kind)+v.id; got != want {
			t.Errorf("prefix: got %q, want %q", got, want)
		}
	}
}

func TestRenew(t *testing.T) {
	first, id, err := Mint(Key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Renew(Key, id)
	if err != nil {
		t.Fatal(err)
	}
	if kind, got, ok := Parse(second); kind != Key || got != id || !ok || second == first {
		t.Errorf("renewed: got %q with ID %q %v, want the ID %q and another secret", second, got, ok, id)
	}
	for _, c := range []struct {
		kind Kind
		id   string
	}{{"sk-", id}, {Key, ""}, {Key, id[1:]}, {Key, id + "0"}, {Token, id[1:] + "-"}} {
		if text, err := Renew(c.kind, c.id); err == nil {
			t.Errorf("renewed %q %q: got %q, want an error", c.kind, c.id, text)
		}
	}
}

func TestMint(t *testing.T) {
	texts, ids := map[string]bool{}, map[string]bool{}
	seen := map[byte]bool{}
	for range 500 {
		for kind, length := range map[Kind]int{Key: 62, Token: 63} {
			text, id, err := Mint(kind)
			if err != nil {
				t.Fatal(err)
			}
			k, i, ok := Parse(text)
			if k != kind || i != id || !ok || len(text) != length || len(id) != 10 {
				t.Fatalf("mint %q: got %q with ID %q, parsed as %q %q %v", kind, text, id, k, i, ok)
			}
			if texts[text] || ids[id] {
				t.Fatalf("minted twice: %q", text)
			}
			texts[text], ids[id] = true, true
			for j := range len(id) {
				seen[id[j]] = true
			}
		}
	}
	if len(seen) != 62 {
		t.Errorf("10,000 digits of IDs hold %d different ones, want all 62", len(seen))
	}
	if _, _, err := Mint("sk-"); err == nil {
		t.Error("a kind that does not exist was minted")
	}
}

// One wrong, missing, surplus or swapped character is never accepted.
func TestTypingErrors(t *testing.T) {
	text, _, err := Mint(Key)
	if err != nil {
		t.Fatal(err)
	}
	reject := func(typo string) {
		t.Helper()
		if _, _, ok := Parse(typo); ok && typo != text {
			t.Errorf("accepted %q for %q", typo, text)
		}
	}
	for i := range len(text) {
		for _, c := range []byte(digits + "-_ \x00é") {
			reject(text[:i] + string(c) + text[i+1:])
			reject(text[:i] + string(c) + text[i:])
		}
		reject(text[:i] + text[i+1:])
		if i > 0 {
			reject(text[:i-1] + text[i:i+1] + text[i-1:i] + text[i+1:])
		}
	}
	reject("")
	reject(strings.ToUpper(text))
	reject("tha" + text[2:])
	if got := Prefix(text[:40]); got != "" {
		t.Errorf("prefix of a part of a key: got %q, want none", got)
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	text, _, err := Mint(Token)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { Parse(text) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// FuzzParse holds the parser against a slow one written from the description.
func FuzzParse(f *testing.F) {
	text, _, err := Mint(Key)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "th-", "tha-", text, text + "0", "tha-" + text[3:], strings.Repeat("0", 62)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kind, id, ok := Parse(s)
		if ok != wellFormed(s) {
			t.Fatalf("%q: got %v", s, ok)
		}
		if ok && s[:len(kind)+10] != string(kind)+id {
			t.Fatalf("%q: got %q %q", s, kind, id)
		}
		// Whatever the fuzzer found, with its checksum put right it is a text.
		if len(s) >= 56 && !ok {
			fixed := s[:56] + slowSum(s[:56])
			if _, _, ok := Parse(fixed); ok != wellFormed(fixed) {
				t.Fatalf("%q: got %v", fixed, ok)
			}
		}
	})
}

func wellFormed(s string) bool {
	body, ok := strings.CutPrefix(s, "th-")
	if !ok {
		body, ok = strings.CutPrefix(s, "tha-")
	}
	return ok && len(body) == 59 && strings.Trim(body, digits) == "" && slowSum(s[:len(s)-6]) == s[len(s)-6:]
}

func slowSum(s string) string {
	n, out := big.NewInt(int64(crc32.ChecksumIEEE([]byte(s)))), ""
	for range 6 {
		rest := new(big.Int)
		n.DivMod(n, big.NewInt(62), rest)
		out = digits[rest.Int64():rest.Int64()+1] + out
	}
	return out
}

func BenchmarkParse(b *testing.B) {
	text, _, err := Mint(Key)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		Parse(text)
	}
}
