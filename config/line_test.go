package config

import (
	"testing"

	"github.com/BurntSushi/toml"
)

func TestLineIndex(t *testing.T) {
	text := `# one
listen = """
a
"quoted"""" # two quotes at the end are text
'drain' = '''x'''
"a\u0062" . c = 1
list = [ # four
  "x", # a ] in a comment
  [ 1,
    2 ],
  { a = 1, b = { c = "}" } },
]
date = 1979-05-27 07:32:00
[log]
level = "a \" # b"
[[providers]]
name = "a"
[providers.timeouts]
connect = "1s"
[[providers.list]]
x = 1
[[providers]]
timeouts.connect = "2s"
[[providers.list]]
x = 2
[[providers.list]]
x = 3
`
	var raw map[string]any
	if _, err := toml.Decode(text, &raw); err != nil {
		t.Fatal(err)
	}
	got := lineIndex(text)
	for path, want := range map[string]int{
		"listen": 2, "drain": 5, "ab.c": 6, "list": 7, "list[0]": 8, "list[1]": 9, "list[1][1]": 10, "list[2].b.c": 11, "date": 13,
		"log": 14, "log.level": 15, "providers[0]": 16, "providers[0].name": 17, "providers[0].timeouts": 18,
		"providers[0].timeouts.connect": 19, "providers[0].list[0].x": 21, "providers[1]": 22, "providers[1].timeouts.connect": 23,
		"providers[1].list[0].x": 25, "providers[1].list[1].x": 27,
	} {
		if got[path] != want {
			t.Errorf("%s is on line %d, want %d", path, got[path], want)
		}
	}
}
