package demo

import (
	"unicode"
	"unicode/utf8"
)

// longestWord is the number of letters and digits in the largest token.
const longestWord = 5

// Tokens counts the tokens of a text as the demo models do: a token is a run of
// at most five letters and digits, or one other character, with the white space
// before it; white space at the very end is a token too.
func Tokens(text string) int {
	n := 0
	for text != "" {
		text = text[tokenLen(text):]
		n++
	}
	return n
}

// split cuts a text into its tokens; joined they are the text again.
func split(text string) []string {
	var tokens []string
	for text != "" {
		n := tokenLen(text)
		tokens = append(tokens, text[:n])
		text = text[n:]
	}
	return tokens
}

// tokenLen returns the length in bytes of the first token of a text.
func tokenLen(text string) int {
	i, letters := 0, 0
	for i < len(text) {
		r, size := utf8.DecodeRuneInString(text[i:])
		word := unicode.IsLetter(r) || unicode.IsDigit(r)
		switch {
		case letters == 0 && unicode.IsSpace(r):
		case letters == 0 && !word:
			return i + size
		case !word || letters == longestWord:
			return i
		default:
			letters++
		}
		i += size
	}
	return i
}
