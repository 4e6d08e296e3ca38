package config

// nearest returns the one of names that a typo of word may have meant, or "".
func nearest(word string, names []string) string {
	best, found := len(word)/3+1, ""
	for _, name := range names {
		if d := distance(word, name); d < best || d == best && found == "" {
			best, found = d, name
		}
	}
	if best >= len(found) { // nothing of the name is left
		return ""
	}
	return found
}

// distance counts the letters to insert, remove or replace between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
