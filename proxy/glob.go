package proxy

// match reports whether name matches the glob pattern: * is any run of
// characters, slashes included, ? is one character; nothing else is special.
// It takes time proportional to both lengths at worst, never exponential.
func match(pattern, name string) bool {
	p, n := 0, 0
	star, from := -1, 0 // where the last * stands, and where its run began
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && pattern[p] == '?':
			n += runeLen(name[n:])
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// runeLen is the length of the first UTF-8 character of s, 1 for a stray byte.
func runeLen(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i]&0xc0 != 0x80 {
			return i
		}
	}
	return len(s)
}
