package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// adminCommand is about those who administer.
func (a *app) adminCommand() *cobra.Command {
	tokens := group("token", "Create, list and revoke tokens for the admin API",
		"  tokenhub admin token create --name grafana --read-only",
		a.tokenCreate(), a.tokenList(), a.tokenRevoke())
	return group("admin", "Set the admin password, manage admin tokens",
		"  tokenhub admin password\n  tokenhub admin token list",
		a.passwordCommand(), tokens)
}

// token is what the commands read of an admin token of the API.
type token struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Prefix     string     `json:"prefix"`
	Status     string     `json:"status"`
	ReadOnly   bool       `json:"read_only"`
	CreatedAt  *time.Time `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	// Token is the secret, in the answer of create alone.
	Token string `json:"token"`
}

func (a *app) tokenCreate() *cobra.Command {
	var name string
	var readOnly bool
	cmd := &cobra.Command{
		Use:   "create --name NAME",
		Short: "Make a token for the admin API and print it, once",
		Example: `  tokenhub admin token create --name deploy
  tokenhub admin token create --name grafana --read-only --quiet`,
		Args: operands(0),
	}
	cmd.Flags().StringVar(&name, "name", "", "`NAME` of the token, 1 to 100 characters")
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "the token may ask, not change")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if strings.TrimSpace(name) == "" {
			return usagef("--name is missing: write tokenhub admin token create --name NAME")
		}
		return a.withAPI(cmd.Context(), mayCreate, func(api *api) error {
			var raw json.RawMessage
			body := map[string]any{"name": name, "read_only": readOnly}
			if err := api.do(cmd.Context(), http.MethodPost, "/api/tokens", body, &raw); err != nil {
				return err
			}
			var t token
			if err := json.Unmarshal(raw, &t); err != nil || t.Token == "" {
				return errors.New("read the answer of POST /api/tokens: it holds no token")
			}
			switch {
			case a.asJSON:
				return a.printJSON(raw)
			case a.quiet:
				fmt.Fprintln(a.out, oneLine(t.Token))
			default:
				fmt.Fprintf(a.out, "Created the admin token %s (ID %s). Keep it now: it is shown this once.\n\n  %s\n", oneLine(t.Name), oneLine(t.ID), oneLine(t.Token))
			}
			return nil
		})
	}
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the admin tokens",
		Example: "  tokenhub admin token list",
		Args:    operands(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
				raw, err := api.list(cmd.Context(), "/api/tokens")
				if err != nil || a.asJSON {
					return a.jsonOr(raw, err)
				}
				tokens, err := decodeAll[token](raw)
				if err != nil {
					return err
				}
				a.showTokens(tokens, api.zone)
				return nil
			})
		},
	}
}

// showTokens prints a table of admin tokens.
func (a *app) showTokens(tokens []token, zone *time.Location) {
	if len(tokens) == 0 && !a.quiet {
		fmt.Fprintln(a.out, "No admin tokens yet. Make one: tokenhub admin token create --name deploy")
		return
	}
	var rows [][]string
	for _, t := range tokens {
		may := "all"
		if t.ReadOnly {
			may = "read"
		}
		if a.quiet {
			fmt.Fprintln(a.out, oneLine(t.ID))
		}
		rows = append(rows, []string{t.ID, t.Name, may, t.Status, moment(t.CreatedAt, zone, "-"), moment(t.LastUsedAt, zone, "never")})
	}
	if !a.quiet {
		a.table([]string{"ID", "NAME", "MAY", "STATUS", "CREATED", "LAST USED"}, rows)
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "End an admin token for good",
		Example: "  tokenhub admin token revoke 3kTMd9QwZa",
		Args:    operands(1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAPI(cmd.Context(), mustExist, func(api *api) error {
				var raw json.RawMessage
				if err := api.do(cmd.Context(), http.MethodDelete, pathOf("tokens", args[0]), nil, &raw); err != nil {
					return err
				}
				var t token
				if err := json.Unmarshal(raw, &t); err != nil {
					return fmt.Errorf("read the answer of DELETE /api/tokens: %w", err)
				}
				switch {
				case a.asJSON:
					return a.printJSON(raw)
				case a.quiet:
					fmt.Fprintln(a.out, oneLine(t.ID))
				default:
					fmt.Fprintf(a.out, "Revoked the admin token %s (ID %s).\n", oneLine(t.Name), oneLine(t.ID))
				}
				return nil
			})
		},
	}
}

// The least length of a password, in characters.
const minPassword = 10

func (a *app) passwordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "password",
		Short: "Set the admin password",
		Long: `Set the password of the admin pages. It is asked for on the terminal, or read as
one line from the standard input. It has at least 10 characters, or is an argon2id
hash as a PHC string.`,
		Example: `  tokenhub admin password
  tokenhub admin password < password.txt`,
		Args: operands(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := a.askPassword(cmd.Context())
			if err != nil {
				return err
			}
			return a.withAPI(cmd.Context(), mayCreate, func(api *api) error {
				if err := api.do(cmd.Context(), http.MethodPut, "/api/admin/password", map[string]string{"password": password}, nil); err != nil {
					return err
				}
				switch {
				case a.asJSON:
					return a.printJSON(map[string]bool{"changed": true})
				case !a.quiet:
					fmt.Fprintln(a.out, "The admin password is set.")
				}
				return nil
			})
		},
	}
}

// askPassword reads a new password, twice from a terminal.
func (a *app) askPassword(ctx context.Context) (string, error) {
	ask := a.Password
	if ask == nil && isTerminal(a.Stdin) {
		ask = a.fromTerminal
	}
	var password string
	if ask == nil {
		line, err := bufio.NewReader(io.LimitReader(a.Stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password from the standard input: %w", err)
		}
		password = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	} else {
		again := ""
		var err error
		if password, err = ask(ctx, "New admin password: "); err == nil {
			again, err = ask(ctx, "The same again: ")
		}
		if err != nil {
			return "", err
		}
		if password != again {
			return "", errors.New("the two are not the same: nothing was changed, try again")
		}
	}
	switch n := len([]rune(password)); {
	case n == 0:
		return "", usagef("no password was given: type one, or write it as one line to the standard input")
	case n < minPassword:
		return "", usagef("the password is too short: it takes at least %d characters", minPassword)
	}
	return password, nil
}

// fromTerminal asks on the terminal that is Stdin, without echo.
func (a *app) fromTerminal(ctx context.Context, prompt string) (string, error) {
	terminal, ok := a.Stdin.(*os.File)
	if !ok {
		return "", errors.New("the standard input is no terminal")
	}
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	fmt.Fprint(a.Stderr, prompt)
	defer fmt.Fprintln(a.Stderr)
	type typed struct {
		text []byte
		err  error
	}
	done := make(chan typed, 1)
	go func() { // a read from a terminal can't be interrupted: on Ctrl-C it is left behind
		text, err := term.ReadPassword(fd)
		done <- typed{text, err}
	}()
	select {
	case t := <-done:
		if t.err != nil {
			return "", fmt.Errorf("read from the terminal: %w", t.err)
		}
		return string(t.text), nil
	case <-ctx.Done():
		_ = term.Restore(fd, before) // or the shell would stay without echo
		return "", ctx.Err()
	}
}
