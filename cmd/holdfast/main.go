// Command holdfast protects Azure virtual machines: backup, restore, repositories, and the twin, a simulated Azure.
//
// This package is the only place that knows everything: flags, configuration, wiring, exit codes. What commands do lives
// in the packages they call.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}

// gcPercent is how much garbage may gather, in percent of what lives. What lives is large buffers without pointers, which
// cost little to mark; so memory is dear here and collections are cheap.
const gcPercent = 30

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	a := &app{console: &cli.Console{Out: stdout, Err: stderr}, clock: clock.System{}, getenv: getenv}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	for _, arg := range args { // an error in the flags themselves is told in the form that was asked for, too
		a.console.JSON = a.console.JSON || arg == "--json" || arg == "--json=true"
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil || errors.Is(err, errDamageTold) || errors.Is(err, errMistakesTold) || errors.Is(err, errTold) {
		return cli.ExitCode(err)
	}
	a.log().DebugContext(ctx, "the command failed", "error", err)
	return a.console.Fail(asFlag(cmd, asInput(err)))
}

// errDamageTold ends a command whose result has told of damage already.
var errDamageTold = holdfast.Errorf(holdfast.KindCorrupt, "damage was found")

// errMistakesTold ends a command whose result has told of mistakes in its input already.
var errMistakesTold = holdfast.Errorf(holdfast.KindInvalid, "mistakes were found")

// errTold ends a command whose result has told of its failure already.
var errTold = holdfast.Errorf(holdfast.KindInternal, "the result says what failed")

// app is what commands share.
type app struct {
	console *cli.Console
	clock   clock.Clock
	getenv  func(string) string

	azureFile     string
	inventoryFile string
	repository    string
	compression   string
	passwordFile  string
	owner         string

	added wrap.Counter // what the command puts into the repository's store
}

const rootHelp = `Holdfast protects Azure virtual machines without software in the guest: it takes snapshots, reads what changed, keeps
image-level backups in an encrypted, deduplicated repository, and restores machines, disks and files.

Try it without an Azure account:
  holdfast demo

Work with the twin, a simulated Azure, or with a real one; the file after --azure says which:
  holdfast twin serve --dir twin --estate estate.yaml &
  holdfast vm list --azure twin/azure.yaml
  holdfast repo init --repo /backups --password-file secret
  holdfast backup --azure twin/azure.yaml --repo /backups --password-file secret --vm ID`

func (a *app) rootCommand() *cobra.Command {
	root := a.group("holdfast", "Backup and restore of Azure virtual machines", rootHelp,
		a.demoCommand(), a.backupCommand(), a.restoreCommand(), a.repoCommand(), a.imageCommand(), a.storageCommand(), a.vmCommand(), a.inventoryCommand(), a.policyCommand(), a.retentionCommand(), a.slaCommand(), a.twinCommand(),
	)
	root.Version, root.SilenceUsage, root.SilenceErrors = version(), true, true
	root.PersistentFlags().BoolVar(&a.console.JSON, "json", false, "print the result as one JSON value on the last line")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// noArguments refuses words that a command does not take.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := holdfast.Errorf(holdfast.KindInvalid, "%q is not something that %q does", args[0], cmd.CommandPath())
	if cmd.HasAvailableSubCommands() {
		return err.WithHint("it does: %s", names(cmd))
	}
	return err.WithHint("see: %s --help", cmd.CommandPath())
}

// names lists the commands below a command.
func names(cmd *cobra.Command) string {
	var all []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, c.Name())
		}
	}
	return strings.Join(all, ", ")
}

// flagError names the flag at fault.
func flagError(err error) error {
	e := holdfast.Errorf(holdfast.KindInvalid, "%s", err.Error()).WithHint("see the command's --help")
	if _, rest, ok := strings.Cut(err.Error(), "--"); ok {
		e.Field = strings.TrimRight(strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '=' || r == '"' })[0], ":,")
	}
	return e
}

// asInput turns cobra's own complaints, which are about the command line, into errors of kind invalid.
func asInput(err error) error {
	var e *holdfast.Error
	if errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	for _, start := range []string{"unknown command", "required flag", "accepts ", "requires at least"} {
		if strings.HasPrefix(err.Error(), start) {
			return flagError(err)
		}
	}
	return err
}

// asFlag names the flag as a person writes it where an error names the input that came from it, and points to the help where
// there is no better hint.
func asFlag(cmd *cobra.Command, err error) error {
	var e *holdfast.Error
	if !errors.As(err, &e) || e.Field == "" {
		return err
	}
	var flag strings.Builder
	for _, r := range e.Field {
		if unicode.IsUpper(r) {
			flag.WriteByte('-')
		}
		flag.WriteRune(unicode.ToLower(r))
	}
	name := flag.String()
	if name == "password" {
		name = "password-file"
	}
	if cmd.Flags().Lookup(name) == nil {
		return err
	}
	e.Field = name
	if e.Hint == "" {
		e.Hint = "see: " + cmd.CommandPath() + " --help"
	}
	return err
}

// group makes a command that only holds others. Called alone it shows its help; a script gets an error.
func (a *app) group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: noArguments}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !a.console.JSON {
			return cmd.Help()
		}
		return holdfast.Errorf(holdfast.KindInvalid, "%q needs a command", cmd.CommandPath()).WithHint("it does: %s", names(cmd))
	}
	cmd.AddCommand(commands...)
	return cmd
}

// required marks flags that a command cannot do without.
func required(cmd *cobra.Command, flags ...string) {
	previous := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		for _, name := range flags {
			if f := cmd.Flags().Lookup(name); f.Value.String() == "" || f.Value.String() == "[]" { // the latter of a flag with several values
				return holdfast.Errorf(holdfast.KindInvalid, "--%s is missing: %s", name, f.Usage).WithField(name).WithHint("see: %s --help", cmd.CommandPath())
			}
		}
		if previous != nil {
			return previous(cmd, args)
		}
		return nil
	}
}
