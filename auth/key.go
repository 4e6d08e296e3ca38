package auth

import (
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"io"
)

// Kind is the beginning of a text and says what it opens.
type Kind string

// The two kinds.
const (
	Key   Kind = "th-"  // opens /v1
	Token Kind = "tha-" // opens the admin API
)

// The parts of a text after its kind, in characters.
const (
	idLen     = 10
	secretLen = 43 // 256 bits
	sumLen    = 6  // CRC-32/IEEE of all before it
	bodyLen   = idLen + secretLen + sumLen
	// textMax is the length of the longest text.
	textMax = len(Token) + bodyLen
)

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Mint makes a new text of the kind, with 256 random bits of secret, and tells
// its ID. The text is not kept anywhere. An error means that there is no such
// kind or no randomness.
func Mint(kind Kind) (text, id string, err error) {
	if kind != Key && kind != Token {
		return "", "", fmt.Errorf("mint: no kind %q", kind)
	}
	var secret [32]byte
	if _, err := io.ReadFull(rand.Reader, secret[:]); err != nil {
		return "", "", fmt.Errorf("mint: %w", err)
	}
	var idDigits [idLen]byte
	for i := 0; i < idLen; {
		var b [1]byte
		if _, err := io.ReadFull(rand.Reader, b[:]); err != nil {
			return "", "", fmt.Errorf("mint: %w", err)
		}
		if v := b[0] & 63; v < 62 { // the other two would make some digits likelier
			idDigits[i] = digits[v]
			i++
		}
	}
	return compose(kind, string(idDigits[:]), secret), string(idDigits[:]), nil
}

// Renew makes a new text with a fresh secret for an ID that exists, as a
// rotation does. An error means that it is no kind or ID, or no randomness.
func Renew(kind Kind, id string) (text string, err error) {
	var secret [32]byte
	if _, err := io.ReadFull(rand.Reader, secret[:]); err != nil {
		return "", fmt.Errorf("renew: %w", err)
	}
	text = compose(kind, id, secret)
	if k, parsed, ok := Parse(text); !ok || k != kind || parsed != id {
		return "", fmt.Errorf("renew: no %s ID %q", kind, id)
	}
	return text, nil
}

// compose writes the text of an ID and a secret.
func compose(kind Kind, id string, secret [32]byte) string {
	text := make([]byte, 0, textMax)
	text = append(text, kind...)
	text = append(text, id...)
	text = append(text, encode256(secret)...)
	sum := encodeSum(crc32.ChecksumIEEE(text))
	return string(append(text, sum[:]...))
}

// encode256 writes a big-endian number as base62, left-padded.
func encode256(n [32]byte) []byte {
	out := make([]byte, secretLen)
	for i := secretLen - 1; i >= 0; i-- {
		rest := 0
		for j, b := range n {
			rest = rest<<8 | int(b)
			n[j] = byte(rest / 62)
			rest %= 62
		}
		out[i] = digits[rest]
	}
	return out
}

func encodeSum(crc uint32) (out [sumLen]byte) {
	for i := sumLen - 1; i >= 0; i-- {
		out[i] = digits[crc%62]
		crc /= 62
	}
	return out
}

// Parse takes a text apart. It looks at the form only (length, characters,
// checksum), so that typing errors are refused without a look-up; it allocates
// nothing, and id is a part of text.
func Parse(text string) (kind Kind, id string, ok bool) {
	switch len(text) {
	case len(Key) + bodyLen:
		kind = Key
	case len(Token) + bodyLen:
		kind = Token
	default:
		return "", "", false
	}
	body := text[len(kind):]
	if text[:len(kind)] != string(kind) {
		return "", "", false
	}
	split := len(text) - sumLen
	// The checksum by hand: crc32.ChecksumIEEE wants bytes on the heap, and this
	// runs for each request.
	crc := ^uint32(0)
	for i := 0; i < split; i++ {
		crc = crc32.IEEETable[byte(crc)^text[i]] ^ crc>>8
	}
	ok = true
	for i := 0; i < len(body); i++ {
		ok = ok && isDigit(body[i])
	}
	sum := encodeSum(^crc)
	if !ok || string(sum[:]) != text[split:] {
		return "", "", false
	}
	return kind, body[:idLen], true
}

// isDigit reads a bitmap of the 128 ASCII characters; comparisons would make
// the processor guess wrong on random text.
func isDigit(c byte) bool {
	const low, high = uint64(0x3ff000000000000), uint64(0x7fffffe07fffffe)
	return (low>>c|high>>(c-64))&1 != 0
}

// Prefix is the part of a text that may be shown anywhere: "th-" and the ID.
// Of anything that is not well-formed nothing may be shown, and it is empty.
func Prefix(text string) string {
	kind, _, ok := Parse(text)
	if !ok {
		return ""
	}
	return text[:len(kind)+idLen]
}
