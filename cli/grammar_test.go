package cli

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Flags may stand at any place, in both spellings: it is the same command.
func TestFlagsStandAnywhere(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))

	const body = `{"id":"1","name":"laptop","key":"th-secret"}`
	tests := []struct {
		words  []string
		flags  [][]string
		asked  string
		answer answer
	}{
		{
			words:  []string{"keys", "rotate", "laptop"},
			flags:  [][]string{{"--grace", "24h"}, {"--json"}, {"--config", "c.toml"}, {"--data", "d"}},
			asked:  `POST /api/keys/laptop/rotate {"grace":"24h"}`,
			answer: answer{body: body},
		},
		{
			words:  []string{"keys", "create"},
			flags:  [][]string{{"--name", "keys"}, {"--rpm", "5"}, {"--tags", "a,b"}, {"--json"}, {"--data", "d"}},
			asked:  `POST /api/keys {"limits":{"requests_per_minute":5},"name":"keys","tags":["a","b"]}`,
			answer: answer{201, body},
		},
		{
			words:  []string{"admin", "token", "create"},
			flags:  [][]string{{"--read-only"}, {"--name", "--json"}, {"--json"}, {"--data", "d"}},
			asked:  `POST /api/tokens {"name":"--json","read_only":true}`,
			answer: answer{201, `{"id":"1","token":"tha-secret"}`},
		},
	}
	for _, test := range tests {
		route := strings.Join(strings.Fields(test.asked)[:2], " ")
		f := newFixture(t, map[string]answer{route: test.answer})
		f.write("c.toml", "")
		if err := os.Mkdir(filepath.Join(f.dir, "d"), 0o700); err != nil {
			t.Fatal(err)
		}
		f.write("d/"+databaseName, "")
		f.listen(filepath.Join(f.dir, "d"))
		first := ""
		for range 60 {
			args := scatter(rnd, test.words, test.flags)
			f.api.asked = nil
			got := f.run(args...)
			if got.code != 0 || got.stderr != "" {
				t.Fatalf("%q: code %d, stderr %q", args, got.code, got.stderr)
			}
			if asked := f.api.requests(); len(asked) != 1 || asked[0] != test.asked {
				t.Fatalf("%q asked %q, want %q", args, asked, test.asked)
			}
			if first == "" {
				first = got.stdout
			}
			if got.stdout != first {
				t.Fatalf("%q printed %q, another order %q", args, got.stdout, first)
			}
		}
	}
}

// scatter puts the flags in any order at any place between the words.
func scatter(rnd *rand.Rand, words []string, flags [][]string) []string {
	places := make([][]string, len(words)+1)
	for _, i := range rnd.Perm(len(flags)) {
		flag := flags[i]
		if len(flag) == 2 && rnd.IntN(2) == 0 {
			flag = []string{flag[0] + "=" + flag[1]}
		}
		at := rnd.IntN(len(places))
		places[at] = append(places[at], flag...)
	}
	args := places[0]
	for i, word := range words {
		args = append(append(args, word), places[i+1]...)
	}
	return args
}

func TestArrange(t *testing.T) {
	tests := []struct{ args, want string }{
		{"", "serve --"},
		{"--demo", "serve --demo --"},
		{"--listen :1 --demo", "serve --listen=:1 --demo --"},
		{"--demo serve", "serve --demo --"},
		{"-h", "-h --"},
		{"keys --help", "keys --help --"},
		{"keys create -h", "keys create -h --"},
		{"--version", "--version --"},
		{"help keys create", "help -- keys create"},
		{"backup -", "backup -- -"},
		{"backup -- --odd.db", "backup -- --odd.db"},
		{"--name keys keys create", "keys create --name=keys --"},
		{"keys show --unknown list", "keys show --unknown -- list"},
		{"__complete keys --na", "__complete keys --na"},
	}
	for _, test := range tests {
		got, err := arrange((&app{}).root(), strings.Fields(test.args))
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%q: got %q, %v, want %q", test.args, got, err, test.want)
		}
	}
}

func TestWrongUsage(t *testing.T) {
	tests := []struct{ args, stderr string }{
		{"nonsense", `unknown command "nonsense": tokenhub --help lists the commands`},
		{"kyes list", `unknown command "kyes": did you mean tokenhub keys?`},
		{"keys crate", `did you mean tokenhub keys create?`},
		{"keys", "tokenhub keys needs one of create, disable, enable"},
		{"admin token", "tokenhub admin token needs one of create, list, revoke"},
		{"help nonsense", `unknown command "nonsense"`},
		{"keys list --nonsense", "unknown flag: --nonsense"},
		{"--nonsense", "unknown flag: --nonsense: see tokenhub serve --help"},
		{"-x keys list", "unknown shorthand flag"},
		{"keys list --name x", "unknown flag: --name"},
		{"serve now", `surplus argument "now"`},
		{"keys list all", `surplus argument "all"`},
		{"keys show", "ID is missing: write tokenhub keys show ID"},
		{"keys show a b", `surplus argument "b"`},
		{"keys create --name", "--name needs a value"},
		{"keys create", "--name is missing"},
		{"--name", "--name needs a value"},
		{"keys create --name=", "--name is empty"},
		{"keys update a", "nothing to change"},
		{"keys update a --name=", "--name is empty"},
		{"keys create --name a --rpm 0", "--rpm 0: leave it empty for no limit, disable the key for none"},
		{"keys create --name a --rpm -1", "--rpm -1: write a whole number of at least 1"},
		{"keys create --name a --rpm 1.5", "whole number"},
		{"keys create --name a --tpm 99999999999999999999", "whole number"},
		{"keys create --name a --daily-usd 0", "--daily-usd 0: leave it empty"},
		{"keys create --name a --daily-usd 0.0000001", "--daily-usd"},
		{"keys create --name a --daily-usd -1", "--daily-usd"},
		{"keys create --name a --daily-usd ten", "--daily-usd"},
		{"keys create --name a --expires tomorrow", "--expires tomorrow: write 90d"},
		{"keys create --name a --expires 0s", "--expires 0s"},
		{"keys create --name a --expires 2027-02-30", "--expires 2027-02-30"},
		{"keys create --name a --endpoints chat", "write inference or all"},
		{"keys create --name a --models a,,b", "an item of the list is empty"},
		{"keys rotate a --grace soon", "--grace"},
		{"keys list --json --quiet", "exclude each other"},
		{"keys list --json=perhaps", "--json"},
		{"usage --by colour", "--by colour: choose among key, model"},
		{"usage --csv --json", "exclude each other"},
		{"usage --since 7d --from 2027-01-01", "exclude each other"},
		{"usage --since long", "--since"},
		{"explain --key a", "--key and --model are needed"},
		{"explain --key a --model m --max-tokens 0", "whole number"},
		{"admin token create", "--name is missing"},
		{"completion tcsh", "choose among bash, zsh"},
		{"backup", "FILE is missing"},
	}
	for _, test := range tests {
		f := newFixture(t, nil).online()
		got := f.run(strings.Fields(test.args)...)
		if got.code != ExitUsage {
			t.Errorf("%q: code %d, want 2", test.args, got.code)
		}
		got.want(t, got.code, "", test.stderr)
		if asked := f.api.requests(); len(asked) > 0 {
			t.Errorf("%q asked the API: %q", test.args, asked)
		}
	}
}

// An empty ID must not reach another route.
func TestEmptyID(t *testing.T) {
	f := newFixture(t, nil).online()
	f.run("keys", "revoke", "").want(t, ExitUsage, "", "ID is empty")
	f.wantAsked()
}

// A flag's name takes a value in all commands or in none: arrange relies on it.
func TestFlagsMeanTheSame(t *testing.T) {
	valued := map[string]bool{}
	each((&app{}).root(), func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			takes := f.NoOptDefVal == ""
			if was, seen := valued[f.Name]; seen && was != takes {
				t.Errorf("%s: --%s takes a value here and not elsewhere", cmd.CommandPath(), f.Name)
			}
			valued[f.Name] = takes
		})
	})
}

func TestHelp(t *testing.T) {
	each((&app{}).root(), func(cmd *cobra.Command) {
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		f := newFixture(t, nil)
		got := f.run(args...)
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "Examples:\n  ") || !strings.Contains(got.stdout, "--config FILE") {
			t.Errorf("%q: code %d, stderr %q, stdout\n%s", args, got.code, got.stderr, got.stdout)
		}
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		again := f.run(append([]string{"help"}, args[:len(args)-1]...)...)
		if again.stdout != got.stdout {
			t.Errorf("help %q differs from --help:\n%s\nand\n%s", args, again.stdout, got.stdout)
		}
	})
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		f := newFixture(t, nil)
		if got := f.run("completion", shell); got.code != 0 || !strings.Contains(got.stdout, "tokenhub") {
			t.Errorf("%s: code %d, %q", shell, got.code, got.stdout)
		}
	}
	f := newFixture(t, nil)
	got := f.run("__complete", "keys", "cre")
	if !strings.HasPrefix(got.stdout, "create\t") {
		t.Errorf("completion of keys cre: %q", got.stdout)
	}
}

// each calls fn with cmd and all commands below it.
func each(cmd *cobra.Command, fn func(*cobra.Command)) {
	fn(cmd)
	for _, sub := range slices.Clone(cmd.Commands()) {
		each(sub, fn)
	}
}

// The manual named --log-level, which no command has.
func TestTheManualNamesFlagsThatExist(t *testing.T) {
	text, err := os.ReadFile("../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	known := valuedFlags((&app{}).root())
	named := regexp.MustCompile(`(Docker's )?--([a-z][a-z-]*)`).FindAllStringSubmatch(string(text), -1)
	if len(named) < 4 {
		t.Fatalf("config.example.toml names %q", named)
	}
	for _, m := range named {
		if m[1] == "" && !known[m[2]] {
			t.Errorf("config.example.toml names --%s, which no command has", m[2])
		}
	}
}
