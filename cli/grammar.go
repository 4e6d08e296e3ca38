package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// arrange puts args into the one order that cobra reads without guessing:
// command words, flags as --name=value, "--", arguments. So a flag may stand
// before the command, between its words or after its arguments, whichever
// command it belongs to. Without a command word the command is serve.
//
// Whether the word after a flag is its value can only be known before the
// command is: that is why a flag's name means the same, with or without a value,
// in all commands.
func arrange(root *cobra.Command, args []string) ([]string, error) {
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return args, nil // a shell asks what could follow: cobra's own protocol
	}
	valued := valuedFlags(root)
	var flags, words, operands []string
	asks := false // for help or the version, which need no whole command
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			operands = args[i+1:]
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		asks = asks || slices.Contains([]string{"-h", "--help", "-v", "--version"}, arg)
		if name, isLong := strings.CutPrefix(arg, "--"); isLong && valued[name] {
			i++
			if i == len(args) {
				return nil, usagef("%s needs a value: write %s VALUE or %s=VALUE", arg, arg, arg)
			}
			arg += "=" + args[i]
		}
		flags = append(flags, arg)
	}

	cmd := root
	var path []string
	for cmd.HasSubCommands() {
		if len(words) == 0 {
			if asks {
				break
			}
			if cmd == root {
				path = []string{"serve"}
				break
			}
			return nil, usagef("%s needs one of %s: see %s --help", cmd.CommandPath(), subNames(cmd), cmd.CommandPath())
		}
		next := subCommand(cmd, words[0])
		if next == nil {
			return nil, unknownCommand(cmd, words[0])
		}
		path, words, cmd = append(path, next.Name()), words[1:], next
	}
	return slices.Concat(path, flags, []string{"--"}, words, operands), nil
}

// valuedFlags returns the names of all flags of all commands that take a value.
func valuedFlags(cmd *cobra.Command) map[string]bool {
	valued := map[string]bool{}
	var walk func(*cobra.Command)
	note := func(f *pflag.Flag) {
		if f.NoOptDefVal == "" {
			valued[f.Name] = true
		}
	}
	walk = func(c *cobra.Command) {
		c.PersistentFlags().VisitAll(note)
		c.Flags().VisitAll(note)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(cmd)
	return valued
}

// subCommand returns the command called word directly below cmd, or nil.
func subCommand(cmd *cobra.Command, word string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == word || sub.HasAlias(word) {
			return sub
		}
	}
	return nil
}

// subNames lists the words that may follow cmd.
func subNames(cmd *cobra.Command) string {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	return strings.Join(names, ", ")
}

// unknownCommand says that word is no command below cmd and which might be meant.
func unknownCommand(cmd *cobra.Command, word string) error {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		return usagef("unknown command %q: did you mean %s %s?", word, cmd.CommandPath(), near[0])
	}
	return usagef("unknown command %q: %s --help lists the commands", word, cmd.CommandPath())
}

// operands returns a check for the arguments of a command, named as in its help.
// The last ones may be left out down to least.
func operands(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usagef("surplus argument %q: write %s", args[len(names)], cmd.UseLine())
		}
		for i, name := range names[:max(least, len(args))] {
			if i >= len(args) {
				return usagef("%s is missing: write %s", name, cmd.UseLine())
			}
			if args[i] == "" {
				return usagef("%s is empty: write %s", name, cmd.UseLine())
			}
		}
		return nil
	}
}

// usageError is a mistake in what was typed; it ends the program with code 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }
