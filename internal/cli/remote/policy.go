package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func (c *commands) policyCommands() []*cobra.Command {
	return []*cobra.Command{
		c.policyListCommand(), c.policyShowCommand(), c.policyRunCommand(), c.policyStopCommand(), c.policySwitchCommand("enable", true), c.policySwitchCommand("disable", false),
		c.policyPriorityCommand(), c.policyCloneCommand(), c.policyExportCommand(), c.policyImportCommand(), c.policyRemoveCommand(),
	}
}

func (c *commands) policyListCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "list", Short: "List the server's policies, in the order in which they go",
		Example: `  holdfast policy list`,
	}, func(ctx context.Context, server *client.Client, _ []string) error {
		policies, err := server.Policies(ctx)
		if err != nil {
			return err
		}
		if policies == nil {
			policies = []view.Policy{}
		}
		return c.result(policies, func(w io.Writer) error {
			var rows [][]string
			for _, p := range policies {
				rows = append(rows, []string{p.Name, string(p.Kind), fmt.Sprint(p.Priority), enabledWord(p), fmt.Sprint(p.Machines), timeOrNone(p.Next), lastWord(p)})
			}
			return table(w, []string{"NAME", "KIND", "PRIORITY", "STATE", "MACHINES", "NEXT", "LAST"}, rows,
				"There are no policies yet. Write one (examples/policies shows how) and put it in force with: holdfast apply -f FILE")
		})
	})
}

func enabledWord(p view.Policy) string {
	switch {
	case len(p.Running) > 0:
		return "running"
	case p.Enabled:
		return "enabled"
	}
	return "disabled"
}

func lastWord(p view.Policy) string {
	if p.Last == nil {
		return "–"
	}
	return string(p.Last.Outcome) + ", " + cli.Time(p.Last.Ended)
}

func timeOrNone(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return cli.Time(t)
}

func (c *commands) policyShowCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "show NAME", Short: "Show a policy of the server, how it is doing, and its document", Args: words("NAME"),
		Example: `  holdfast policy show nightly`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		p, err := server.Policy(ctx, args[0])
		if err != nil {
			return err
		}
		return c.tellPolicy(p)
	})
}

// fields prints names and values, a line each; those without a value are left out.
func fields(w io.Writer, pairs [][2]string) error {
	for _, pair := range pairs {
		if pair[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-12s %s\n", pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func (c *commands) tellPolicy(p view.Policy) error {
	return c.result(p, func(w io.Writer) error {
		running := make([]string, 0, len(p.Running))
		for _, id := range p.Running {
			running = append(running, string(id))
		}
		err := fields(w, [][2]string{
			{"policy", p.Name},
			{"kind", string(p.Kind)},
			{"description", p.Description},
			{"state", enabledWord(p)},
			{"priority", fmt.Sprint(p.Priority)},
			{"version", fmt.Sprint(p.Version)},
			{"template", p.Template},
			{"storage", p.Storage},
			{"machines", fmt.Sprint(p.Machines)},
			{"next", timeOrNone(p.Next)},
			{"running", strings.Join(running, ", ")},
			{"last", lastWord(p)},
		})
		if err == nil && p.YAML != "" {
			_, err = fmt.Fprintf(w, "\n%s\n", strings.TrimRight(p.YAML, "\n"))
		}
		return err
	})
}

// runResult is the result of policy run. Of sessions that were followed it has the figures at their end.
type runResult struct {
	Sessions []view.Session `json:"sessions"`
	Note     string         `json:"note,omitempty"`
}

func (c *commands) policyRunCommand() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "run NAME", Short: "Start a policy now", Args: words("NAME"),
		Long: `Start a policy now, whatever its schedule. An SLA policy has a session for each region. With --wait the sessions are followed until they
have ended; the exit code is 1 unless all of them ended well or with warnings alone. To end the command does not end the sessions.`,
		Example: `  holdfast policy run nightly
  holdfast policy run nightly --wait`,
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the sessions until they have ended")
	return c.asking(cmd, func(ctx context.Context, server *client.Client, args []string) error {
		started, err := server.RunPolicy(ctx, args[0])
		if err != nil {
			return err
		}
		result := runResult{Sessions: []view.Session{}, Note: started.Note}
		for _, s := range started.Sessions {
			result.Sessions = append(result.Sessions, view.Session{Session: s})
		}
		if wait {
			if result.Sessions, err = c.follow(ctx, server, result.Sessions); err != nil {
				return err
			}
		}
		if err := c.result(result, func(w io.Writer) error { return tellRun(w, result, wait) }); err != nil {
			return err
		}
		return endedWell(result.Sessions)
	})
}

func tellRun(w io.Writer, r runResult, waited bool) error {
	if r.Note != "" {
		if _, err := fmt.Fprintf(w, "Note: %s\n", r.Note); err != nil {
			return err
		}
	}
	if err := tellSessions(w, r.Sessions, "No session was started."); err != nil || len(r.Sessions) == 0 {
		return err
	}
	if waited {
		return tellTroubles(w, r.Sessions)
	}
	_, err := fmt.Fprintf(w, "Follow it with: holdfast session watch %s\n", r.Sessions[0].ID)
	return err
}

func (c *commands) policyStopCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "stop NAME", Short: "Ask the running sessions of a policy to stop", Args: words("NAME"),
		Long:    `Ask the running sessions of a policy to stop. Points that are durable stay; what is half made is undone, and nothing is tried again.`,
		Example: `  holdfast policy stop nightly`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		stopped, err := server.StopPolicy(ctx, args[0])
		if err != nil {
			return err
		}
		return c.result(stopped, func(w io.Writer) error {
			if len(stopped.Sessions) == 0 {
				_, err := fmt.Fprintf(w, "Nothing of %s is running.\n", args[0])
				return err
			}
			for _, id := range stopped.Sessions {
				if _, err := fmt.Fprintf(w, "Session %s was asked to stop.\n", id); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (c *commands) policySwitchCommand(verb string, enabled bool) *cobra.Command {
	short, long := "Let a policy run by its schedule again", "Let a policy run by its schedule again."
	if !enabled {
		short = "Keep a policy from running by its schedule"
		long = "Keep a policy from running by its schedule. A session that runs goes on, and retention removes points as before."
	}
	return c.asking(&cobra.Command{
		Use: verb + " NAME", Short: short, Long: long, Args: words("NAME"), Example: "  holdfast policy " + verb + " nightly",
	}, func(ctx context.Context, server *client.Client, args []string) error {
		p, err := server.PatchPolicy(ctx, args[0], view.PolicyPatch{Enabled: &enabled})
		if err != nil {
			return err
		}
		return c.result(p, func(w io.Writer) error {
			next := ""
			if enabled && !p.Next.IsZero() {
				next = "; it runs next at " + cli.Time(p.Next)
			}
			_, err := fmt.Fprintf(w, "Policy %s is %sd%s.\n", p.Name, verb, next)
			return err
		})
	})
}

func (c *commands) policyPriorityCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "priority NAME N", Short: "Move a policy to a place among those of its kind", Args: words("NAME", "N"),
		Long: `Move a policy to a place among those of its kind; 1 goes first, and the others move. Of two policies of a kind that ask for one machine
the one that goes first protects it; an SLA policy goes before every other one.`,
		Example: `  holdfast policy priority nightly 1`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return holdfast.Errorf(holdfast.KindInvalid, "%q is not a place", args[1]).WithField("priority").WithHint("write a whole number from 1 on")
		}
		p, err := server.PatchPolicy(ctx, args[0], view.PolicyPatch{Priority: &n})
		if err != nil {
			return err
		}
		return c.result(p, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "Policy %s has place %d among those of kind %s.\n", p.Name, p.Priority, p.Kind)
			return err
		})
	})
}

func (c *commands) policyCloneCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "clone NAME COPY", Short: "Copy a policy under another name", Args: words("NAME", "COPY"),
		Long:    `Copy a policy under another name. The copy is disabled, so that it can be edited before it does anything.`,
		Example: `  holdfast policy clone nightly nightly-eu`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		p, err := server.ClonePolicy(ctx, args[0], view.ClonePolicy{Name: args[1]})
		if err != nil {
			return err
		}
		return c.result(p, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "Policy %s is a copy of %s, and disabled. Let it run with: holdfast policy enable %s\n", p.Name, args[0], p.Name)
			return err
		})
	})
}

// exported is the result of policy export.
type exported struct {
	YAML string `json:"yaml"`
}

func (c *commands) policyExportCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "export [NAME]", Short: "Write the document of a policy, or all documents in force",
		Args: func(cmd *cobra.Command, args []string) error {
			if all && len(args) == 0 || !all && len(args) == 1 {
				return nil
			}
			return holdfast.Errorf(holdfast.KindInvalid, "%q needs the NAME of one policy, or --all", cmd.CommandPath()).WithHint("write it as: holdfast policy export NAME")
		},
		Long: `Write the document of a policy as it is in force, or with --all all documents: policies, templates, repositories and settings. The result is
what holdfast apply and holdfast policy import take. It holds no secret, but says where each is found.`,
		Example: `  holdfast policy export nightly > nightly.yaml
  holdfast policy export --all > all.yaml`,
	}
	cmd.Flags().BoolVar(&all, "all", false, "all documents that are in force")
	return c.asking(cmd, func(ctx context.Context, server *client.Client, args []string) error {
		text, err := export(ctx, server, args)
		if err != nil {
			return err
		}
		if c.console.JSON {
			return c.console.Result(exported{text}, nil)
		}
		return c.copyOut(strings.NewReader(text))
	})
}

func export(ctx context.Context, server *client.Client, names []string) (string, error) {
	if len(names) > 0 {
		p, err := server.Policy(ctx, names[0])
		return strings.TrimRight(p.YAML, "\n") + "\n", err
	}
	documents, err := server.Documents(ctx)
	if err != nil {
		return "", err
	}
	var parts []string
	for _, d := range documents {
		if text := strings.TrimRight(d.YAML, "\n"); text != "" {
			parts = append(parts, text+"\n")
		}
	}
	return strings.Join(parts, "---\n"), nil
}

func (c *commands) policyImportCommand() *cobra.Command {
	var o applyFlags
	var replace bool
	cmd := &cobra.Command{
		Use: "import", Short: "Add exported documents to those in force",
		Long: `Add exported documents to those in force, as holdfast apply does; but a document that is in force already and differs is a conflict, unless
--replace is given.`,
		Example: `  holdfast policy import -f nightly.yaml`,
	}
	cmd.Flags().StringArrayVarP(&o.files, "file", "f", nil, "file with documents, or a folder with files *.yaml; may be given several times")
	cmd.Flags().BoolVar(&replace, "replace", false, "put the imported documents in the place of those that are in force under their names")
	yesFlag(cmd, &o.yes)
	return c.asking(cmd, func(ctx context.Context, server *client.Client, _ []string) error {
		o.keep = !replace
		return c.apply(ctx, server, o)
	})
}

func (c *commands) policyRemoveCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Remove a policy from the server", Args: words("NAME"),
		Long:    `Remove a policy from the server. Its restore points stay, and age by what it said last; its machines may be left without protection.`,
		Example: `  holdfast policy remove nightly`,
	}
	yesFlag(cmd, &yes)
	return c.asking(cmd, func(ctx context.Context, server *client.Client, args []string) error {
		p, err := server.Policy(ctx, args[0])
		if err != nil {
			return err
		}
		if err := c.confirm(yes, "Remove the policy %s, which protects %s?", p.Name, cli.Count(p.Machines, "machine")); err != nil {
			return err
		}
		if err := server.RemovePolicy(ctx, args[0]); err != nil {
			return err
		}
		return c.removed(p.Name, "Policy "+p.Name+" is removed; its restore points stay, and age by what it said last.")
	})
}

// removed tells that what has a name is gone.
func (c *commands) removed(name, sentence string) error {
	return c.result(struct {
		Removed string `json:"removed"`
	}{name}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, sentence)
		return err
	})
}

// previewDaysMax bounds --days, as it does of documents.
const previewDaysMax = 3_660

// alsoPreview lets the preview of documents take the name of a policy of the server instead.
func (c *commands) alsoPreview(offline *cobra.Command) {
	documents := offline.RunE
	offline.Use, offline.Short = "preview [NAME]", "Show what policies will do: one of the server's, or documents before they are saved"
	offline.Long += `

With a NAME instead of -f the server shows what the policy of that name will do as it is in force, with its machines and points as they are; of
the other flags only --days goes with it.`
	offline.Example += "\n  holdfast policy preview nightly --days 90"
	c.serverFlags(offline)
	offline.Args = nil
	offline.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return documents(cmd, args)
		}
		if err := words("NAME")(cmd, args); err != nil {
			return err
		}
		if strings.ContainsAny(args[0], "./\\") { // which no name has
			return holdfast.Errorf(holdfast.KindInvalid, "%q is not the name of a policy", args[0]).WithHint("files are named behind -f; see: %s --help", cmd.CommandPath())
		}
		days, err := daysAlone(cmd)
		if err != nil {
			return err
		}
		return c.ask(cmd.Context(), args, func(ctx context.Context, server *client.Client, args []string) error {
			return c.preview(ctx, server, args[0], days)
		})
	}
}

// daysAlone returns --days, and refuses flags that are about documents.
func daysAlone(cmd *cobra.Command) (days int, err error) {
	for _, flag := range []string{"file", "inventory", "azure", "against", "points", "prices", "from", "occupied", "daily-churn", "compression"} {
		if cmd.Flags().Changed(flag) {
			return 0, holdfast.Errorf(holdfast.KindInvalid, "--%s does not go with the name of a policy", flag).WithField(flag).
				WithHint("give -f FILE to preview documents, or a NAME alone to preview what the server has in force")
		}
	}
	if days, err = cmd.Flags().GetInt("days"); err != nil {
		return 0, err
	}
	if days < 1 || days > previewDaysMax {
		return 0, holdfast.Errorf(holdfast.KindInvalid, "%d days cannot be shown", days).WithField("days").WithHint("write a number from 1 to %d", previewDaysMax)
	}
	return days, nil
}

func (c *commands) preview(ctx context.Context, server *client.Client, name string, days int) (err error) {
	if !c.console.JSON {
		summary, err := server.Preview(ctx, name, days)
		if err != nil {
			return err
		}
		return c.result(summary, func(w io.Writer) error { return show.Preview(w, summary) })
	}
	events, err := server.PreviewEvents(ctx, name, days)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	return c.copyEvents(events)
}

// copyEvents copies events, a line each. A server that cannot go on says so in the last one.
func (c *commands) copyEvents(events io.Reader) error {
	out := bufio.NewWriter(c.console.Out)
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, eventMax)
	for lines.Scan() {
		var failed struct{ Error *client.Problem }
		if text := lines.Bytes(); bytes.HasPrefix(text, []byte(`{"error":`)) && json.Unmarshal(text, &failed) == nil && failed.Error != nil {
			return errors.Join(out.Flush(), &holdfast.Error{Kind: failed.Error.Kind, Message: failed.Error.Detail, Hint: failed.Error.Hint})
		}
		if _, err := fmt.Fprintf(out, "%s\n", lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return errors.Join(out.Flush(), brokenOff(err))
	}
	return out.Flush()
}

// eventMax bounds the line of an event.
const eventMax = 1 << 20
