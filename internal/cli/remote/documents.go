package remote

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// proposalFlags say what is proposed.
type proposalFlags struct {
	files []string
	prune bool
}

func (o *proposalFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&o.files, "file", "f", nil, "file with documents, or a folder with files *.yaml; may be given several times")
	cmd.Flags().BoolVar(&o.prune, "prune", false, "remove documents that are in force and that the files do not hold")
}

// proposal reads the files.
func (o *proposalFlags) proposal() (view.Proposal, []document.File, error) {
	if len(o.files) == 0 {
		return view.Proposal{}, nil, holdfast.Errorf(holdfast.KindInvalid, "-f is missing: the documents to put in force").WithField("file").
			WithHint("name a file, or a folder with files *.yaml; -f may be given several times")
	}
	files, err := document.Load(o.files...)
	if err != nil {
		return view.Proposal{}, nil, err
	}
	p := view.Proposal{Prune: o.prune}
	for _, f := range files {
		p.Files = append(p.Files, view.File{Name: f.Name, Folder: f.Folder, Data: string(f.Data)})
	}
	return p, files, nil
}

func (c *commands) planCommand() *cobra.Command {
	var o proposalFlags
	var byCode bool
	cmd := &cobra.Command{
		Use: "plan", Short: "Show what documents would change on the server",
		Long: `Show what documents would change on the server: the difference to what is in force, which machines would be protected by another
policy or by none, and what somebody should look at before. Nothing is changed, and no secret is looked up.

The files may be a part of what is in force; with --prune they are all of it, and what they do not hold would be removed.`,
		Example: `  holdfast plan -f policies.yaml
  holdfast plan -f policies/ --prune
  holdfast plan -f policies/ --prune --exit-code || echo "something differs, or failed"`,
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&byCode, "exit-code", false, "exit with 7 when something would be changed")
	return c.asking(cmd, func(ctx context.Context, server *client.Client, _ []string) error {
		proposal, _, err := o.proposal()
		if err != nil {
			return err
		}
		plan, err := server.Plan(ctx, proposal)
		if err != nil {
			return err
		}
		err = c.console.Result(plan, func(w io.Writer) error {
			if err := c.tellPlan(w, plan); err != nil || !plan.Changed() {
				return err
			}
			_, err := fmt.Fprintln(w, "Nothing was changed; to change it, run holdfast apply with the same flags.")
			return err
		})
		if err == nil && byCode && plan.Changed() {
			return cli.ErrChanges
		}
		return err
	})
}

// applyFlags say how a proposal is put in force.
type applyFlags struct {
	proposalFlags
	yes     bool
	secrets bool // those of documents that stay as they are, too
	keep    bool // what is in force stays as it is: the proposal may only add to it
}

func (c *commands) applyCommand() *cobra.Command {
	var o applyFlags
	cmd := &cobra.Command{
		Use: "apply", Short: "Put documents in force on the server",
		Long: `Put documents in force on the server. The plan is shown first, as holdfast plan shows it, and somebody has to agree to it: on a terminal
the command asks, elsewhere it wants --yes. When somebody else changes what is in force between plan and agreement, nothing is done and the
command says so. What is in force already is left as it is: a second run changes nothing.

Secrets that documents name by file or environment are looked up on this machine and handed to the server, which seals them; those in a vault
the server fetches itself. Of documents that stay as they are it has them already: after a password was changed, hand it over with --secrets. A
repository that is made has a recovery code, which is shown once.`,
		Example: `  holdfast apply -f policies.yaml
  holdfast apply -f repositories.yaml --secrets
  holdfast apply -f policies/ -f repositories.yaml --prune --yes`,
	}
	o.add(cmd)
	yesFlag(cmd, &o.yes)
	cmd.Flags().BoolVar(&o.secrets, "secrets", false, "hand over the secrets of documents that stay as they are, too")
	return c.asking(cmd, func(ctx context.Context, server *client.Client, _ []string) error { return c.apply(ctx, server, o) })
}

// apply shows the plan of a proposal, has it agreed to, and puts it in force.
func (c *commands) apply(ctx context.Context, server *client.Client, o applyFlags) error {
	proposal, files, err := o.proposal()
	if err != nil {
		return err
	}
	plan, err := server.Plan(ctx, proposal)
	if err != nil {
		return err
	}
	if err := o.mayChange(plan); err != nil {
		return err
	}
	if !c.console.JSON {
		if err := c.tellPlan(c.console.Out, plan); err != nil {
			return err
		}
	}
	if proposal.Secrets, err = c.secrets(files, plan.Changes, o.secrets); err != nil {
		return err
	}
	if plan.Changed() {
		if err := c.confirm(o.yes, "Put this in force on %s?", server.Server()); err != nil {
			return err
		}
	}
	applied := view.Applied{Plan: plan, Repositories: []view.Connected{}}
	if plan.Changed() || len(proposal.Secrets) > 0 {
		proposal.Base = &plan.Base
		if applied, err = server.Apply(ctx, proposal); err != nil {
			return withConflictHint(err)
		}
	}
	return c.result(applied, func(w io.Writer) error { return tellApplied(w, applied) })
}

// mayChange refuses a plan that changes what is in force, where it may only add.
func (o applyFlags) mayChange(plan view.Plan) error {
	for _, change := range plan.Changes {
		if o.keep && (change.Verb == view.Update || change.Verb == view.Remove) {
			return holdfast.Errorf(holdfast.KindConflict, "there is a %s %q already, and it differs", change.Kind, change.Name).WithField("file").
				WithHint("see the difference with: holdfast plan -f FILE; give --replace to put the imported one in its place, or another name to the document")
		}
	}
	return nil
}

func withConflictHint(err error) error {
	e, ok := err.(*holdfast.Error) //nolint:errorlint // the client returns it bare
	if !ok || e.Kind != holdfast.KindConflict || e.Hint != "" {
		return err
	}
	return e.WithHint("somebody changed what is in force meanwhile; run the command again to see the plan as it is now")
}

// tellApplied says what was put in force, and shows what is shown once.
func tellApplied(w io.Writer, a view.Applied) error {
	counts := countVerbs(a.Changes)
	done := fmt.Sprintf("Done: %d created, %d updated, %d removed.", counts[view.Create], counts[view.Update], counts[view.Remove])
	if !a.Changed() {
		done = "Nothing to do: what the files hold is in force."
	}
	if _, err := fmt.Fprintln(w, done); err != nil {
		return err
	}
	for _, r := range a.Repositories {
		if err := tellConnected(w, r); err != nil {
			return err
		}
	}
	return nil
}

// tellConnected says that a repository is open, and shows the recovery code of a new one.
func tellConnected(w io.Writer, r view.Connected) error {
	what := "was opened"
	if r.Created {
		what = "was made"
	}
	if _, err := fmt.Fprintf(w, "Repository %s at %s %s; its id is %s.\n", r.Name, r.URL, what, r.ID); err != nil || r.RecoveryCode == "" {
		return err
	}
	_, err := fmt.Fprintf(w, "\n  Recovery code of %s:  %s\n\n"+
		"  It opens the repository when its password is lost, and is shown this once and kept nowhere.\n"+
		"  Write it on paper, keep it in another place than the storage and this server, and print the kit beside it:\n"+
		"    holdfast repo kit --repo %s --password-file FILE\n", r.Name, r.RecoveryCode, r.URL)
	return err
}

func countVerbs(changes []view.Change) map[view.Verb]int {
	counts := map[view.Verb]int{}
	for _, change := range changes {
		counts[change.Verb]++
	}
	return counts
}

// The colours of a difference, as terminals know them.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

// tellPlan shows a difference. It makes text of what the server says itself, since it adds colours to it.
func (c *commands) tellPlan(w io.Writer, p view.Plan) error {
	show := func(color, format string, args ...any) error {
		text := cli.Printable(fmt.Sprintf(format, args...))
		if c.color && color != "" {
			text = color + text + plain
		}
		_, err := fmt.Fprintln(w, text)
		return err
	}
	for _, change := range p.Changes {
		if err := tellChange(show, change); err != nil {
			return err
		}
	}
	if err := tellCoverage(w, p.Coverage); err != nil {
		return err
	}
	for _, note := range p.Notes {
		if err := show(yellow, "Note: %s", note); err != nil {
			return err
		}
	}
	counts := countVerbs(p.Changes)
	if !p.Changed() {
		return show("", "Nothing would be changed: %s in force as they are.", cli.Count(counts[view.Unchanged], "document"))
	}
	return show("", "%d to create, %d to update, %d to remove; %d stay as they are.", counts[view.Create], counts[view.Update], counts[view.Remove], counts[view.Unchanged])
}

// tellChange shows what becomes of one document, line by line.
func tellChange(show func(color, format string, args ...any) error, change view.Change) error {
	what := change.Kind
	if change.Name != "" {
		what += " " + change.Name
	}
	was := ""
	if change.Version > 0 {
		was = fmt.Sprintf(" (version %d", change.Version)
		if change.Author != "" {
			was += " by " + change.Author
		}
		was += ")"
	}
	var err error
	switch change.Verb {
	case view.Unchanged:
		return nil
	case view.Create:
		err = show(green, "+ %s: new", what)
	case view.Update:
		err = show(yellow, "~ %s: changed%s", what, was)
	case view.Remove:
		err = show(red, "- %s: removed%s", what, was)
	}
	for _, line := range change.Diff {
		color := ""
		switch {
		case len(line) > 0 && line[0] == '+':
			color = green
		case len(line) > 0 && line[0] == '-':
			color = red
		}
		if err == nil {
			err = show(color, "    %s", line)
		}
	}
	return err
}

// tellCoverage lists the machines whose protection changes.
func tellCoverage(w io.Writer, coverage []view.Coverage) error {
	if len(coverage) == 0 {
		return nil
	}
	var rows [][]string
	for _, vm := range coverage {
		rows = append(rows, []string{vm.VM.Name(), orNone(vm.Before), orNone(vm.After), vm.Why})
	}
	if _, err := fmt.Fprintf(w, "\nThe protection of %s would change:\n", cli.Count(len(rows), "machine")); err != nil {
		return err
	}
	if err := cli.Table(w, []string{"MACHINE", "NOW", "THEN", "WHY"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// orNone shows that there is nothing to say.
func orNone(text string) string {
	if text == "" {
		return "–"
	}
	return text
}
