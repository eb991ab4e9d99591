// Package remote holds the commands that speak to a Holdfast server: who is signed in, what is in force, what runs, what there is to go
// back to. doc/cli.md states what scripts may rely on.
//
// A command here asks the server over its REST interface and shows the answer; it decides nothing that the server decides. It promises
// that what a server says reaches a terminal as text alone, that a long list looks like one whatever pages it came in, and that without
// somebody who agrees nothing is changed that cannot be taken back. A password or a token must never be in what it writes, but for the
// file of the user that keeps the token; and a token goes to the server that gave it and to no other one.
package remote

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// Config is what the commands are made from.
type Config struct {
	Console *cli.Console
	Clock   clock.Clock
	Getenv  func(string) string
	Answers io.Reader // where somebody answers questions; nil where nobody sits
	Color   bool      // results go to a terminal that shows colours
}

// Join adds the commands to the root command, and to its groups policy, sla and vm what a server does for them. Of the commands that these
// groups have already, `policy preview` and `vm list` ask the server, too, when they are not given what they work on.
func Join(root *cobra.Command, config Config) {
	c := &commands{console: config.Console, clock: config.Clock, getenv: config.Getenv, answers: config.Answers, color: config.Color}
	root.AddCommand(c.loginCommand(), c.logoutCommand(), c.whoamiCommand(), c.planCommand(), c.applyCommand(),
		c.sessionCommand(), c.pointCommand(), c.repositoryCommand(), c.notifyCommand())
	for _, group := range root.Commands() {
		switch group.Name() {
		case "policy":
			group.AddCommand(c.policyCommands()...)
		case "sla":
			group.AddCommand(c.slaReportCommand())
		case "vm":
			group.AddCommand(c.vmSnapshotCommand(), c.vmDiscoverCommand())
		}
		for _, offline := range group.Commands() {
			switch group.Name() + " " + offline.Name() {
			case "policy preview":
				c.alsoPreview(offline)
			case "vm list":
				c.alsoListMachines(offline)
			}
		}
	}
}

// commands is what they share. The last two are flags of the command that runs.
type commands struct {
	console *cli.Console
	clock   clock.Clock
	getenv  func(string) string
	answers io.Reader
	color   bool

	server    string
	loginFile string
}

// asking makes a command that asks the server. It is signed in when run is called, and an error that run returns is told with what to do
// about a sign-in that has ended.
func (c *commands) asking(cmd *cobra.Command, run func(ctx context.Context, server *client.Client, args []string) error) *cobra.Command {
	if cmd.Args == nil {
		cmd.Args = command.NoArguments
	}
	c.serverFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.ask(cmd.Context(), args, run) }
	return cmd
}

// ask runs what asks the server.
func (c *commands) ask(ctx context.Context, args []string, run func(context.Context, *client.Client, []string) error) error {
	in, err := c.signedIn()
	if err != nil {
		return err
	}
	server, err := client.New(client.Config{Server: in.Server, Token: in.Token, Certs: in.Certs, Clock: c.clock})
	if err != nil {
		return err
	}
	err = run(ctx, server, args)
	if client.IsUnauthenticated(err) {
		return holdfast.Errorf(holdfast.KindRefused, "the sign-in to %s has ended", in.Server).
			WithHint("sign in again: holdfast login --server %s --user %s --password-file FILE", in.Server, in.User)
	}
	return err
}

func (c *commands) serverFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.server, "server", "", "which server, of those that you are signed in to (default: the one of the last login)")
	cmd.Flags().StringVar(&c.loginFile, "login", "", "file that keeps the sign-in (or HOLDFAST_LOGIN; default: holdfast/login.json in your folder of settings)")
}

// words wants a number of names behind a command.
func words(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		usage := cmd.CommandPath() + " " + strings.Join(names, " ")
		if len(args) < len(names) {
			return holdfast.Errorf(holdfast.KindInvalid, "%q needs a %s", cmd.CommandPath(), names[len(args)]).WithHint("write it as: %s", usage)
		}
		return holdfast.Errorf(holdfast.KindInvalid, "%q is too much behind %q", args[len(names)], cmd.CommandPath()).WithHint("write it as: %s", usage)
	}
}

// result prints a command's result. What people print reaches them as text alone.
func (c *commands) result(value any, people func(w io.Writer) error) error {
	return c.console.Result(value, func(w io.Writer) error {
		var text bytes.Buffer
		if err := people(&text); err != nil {
			return err
		}
		for line := range strings.Lines(text.String()) {
			if _, err := fmt.Fprintln(w, cli.Printable(strings.TrimSuffix(line, "\n"))); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyOut copies what the server wrote for other programs, as it is. On a terminal it is shown as text alone.
func (c *commands) copyOut(from io.Reader) error {
	var err error
	if cli.IsTerminal(c.console.Out) {
		lines := bufio.NewScanner(from)
		lines.Buffer(nil, shownLineMax)
		for lines.Scan() {
			if _, err := fmt.Fprintln(c.console.Out, cli.Printable(lines.Text())); err != nil {
				return err
			}
		}
		err = lines.Err()
	} else {
		_, err = io.Copy(c.console.Out, from)
	}
	if err != nil {
		return brokenOff(err)
	}
	return nil
}

func brokenOff(err error) error {
	return holdfast.Wrap(holdfast.KindUnavailable, err, "the server's answer broke off").WithHint("what was written is not all; run the command again")
}

// shownLineMax bounds a line that is shown on a terminal.
const shownLineMax = 1 << 20

// table prints rows, or a line that says what to do next where there are none.
func table(w io.Writer, heading []string, rows [][]string, empty string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, empty)
		return err
	}
	return cli.Table(w, heading, rows)
}

// confirm asks whether to go on. --yes answers beforehand.
func (c *commands) confirm(yes bool, question string, args ...any) error {
	if yes {
		return nil
	}
	if c.answers == nil || c.console.JSON {
		return holdfast.Errorf(holdfast.KindInvalid, "--yes is missing, and nobody is here to agree").WithField("yes").WithHint("look at what would be done, then give --yes")
	}
	fmt.Fprintf(c.console.Err, "%s [y/N] ", cli.Printable(fmt.Sprintf(question, args...)))
	answer, err := bufio.NewReader(c.answers).ReadString('\n')
	if err != nil && err != io.EOF {
		return holdfast.Wrap(holdfast.KindInternal, err, "the answer cannot be read")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return holdfast.Errorf(holdfast.KindCanceled, "nothing was changed")
}

func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do it without asking")
}

// pageMax is how much is asked for at once.
const pageMax = 500

// gather gets up to limit items, 0 being all, page by page. more says that there are others.
func gather[T any](limit int, page func(limit int, after string) (view.List[T], error)) (items []T, more bool, err error) {
	items = []T{}
	for after := ""; ; {
		size := pageMax
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		list, err := page(size, after)
		if err != nil {
			return nil, false, err
		}
		items = append(items, list.Items...)
		if list.Next == "" || limit > 0 && len(items) >= limit {
			return items[:atMost(limit, len(items))], list.Next != "" || limit > 0 && len(items) > limit, nil
		}
		if list.Next == after || len(list.Items) == 0 {
			return nil, false, holdfast.Errorf(holdfast.KindInternal, "the server's list does not end").WithHint("check that this is a Holdfast server of the same version")
		}
		after = list.Next
	}
}

func atMost(limit, n int) int {
	if limit > 0 {
		return min(limit, n)
	}
	return n
}

func limitFlag(cmd *cobra.Command, limit *int, standard int) {
	cmd.Flags().IntVar(limit, "limit", standard, "how many are listed at the most; 0 for all")
}

func checkLimit(limit int) error {
	if limit < 0 {
		return holdfast.Errorf(holdfast.KindInvalid, "%d cannot be listed", limit).WithField("limit").WithHint("write a number from 1 on, or 0 for all")
	}
	return nil
}

// noteMore says that a list was cut.
func (c *commands) noteMore(more bool, shown int) {
	if more {
		c.console.Note("There are more than these %d; --limit 0 lists all.", shown)
	}
}

// oneOf refuses a word that is none of those that a flag takes.
func oneOf[T ~string](flag string, given []string, accepted []T) error {
	for _, word := range given {
		ok := false
		var list []string
		for _, a := range accepted {
			ok = ok || word == string(a)
			list = append(list, string(a))
		}
		if !ok {
			return holdfast.Errorf(holdfast.KindInvalid, "%q is not something that --%s takes", word, flag).WithField(flag).WithHint("write one of: %s", strings.Join(list, ", "))
		}
	}
	return nil
}
