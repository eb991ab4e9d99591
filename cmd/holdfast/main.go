// Command holdfast protects Azure virtual machines: backup, restore, repositories, and the twin, a simulated Azure.
//
// This package is the only place that knows everything: flags, configuration, wiring, exit codes. What commands do lives
// in the packages they call.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/policies"
	"github.com/holdfast-backup/holdfast/internal/cli/remote"
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
	if err == nil || command.Told(err) {
		return cli.ExitCode(err)
	}
	a.log().DebugContext(ctx, "the command failed", "error", err)
	return a.console.Fail(command.Explained(cmd, err))
}

// app is what commands share.
type app struct {
	console *cli.Console
	clock   clock.Clock
	getenv  func(string) string

	azureFile    string
	repository   string
	compression  string
	passwordFile string
	owner        string

	added wrap.Counter // what the command puts into the repository's store
}

// answers is where somebody answers questions; nil where standard input or standard error is no terminal.
func (a *app) answers() io.Reader {
	if cli.IsTerminal(os.Stdin) && cli.IsTerminal(a.console.Err) {
		return os.Stdin
	}
	return nil
}

const rootHelp = `Holdfast protects Azure virtual machines without software in the guest: it takes snapshots, reads what changed, keeps
image-level backups in an encrypted, deduplicated repository, and restores machines, disks and files.

Try it without an Azure account:
  holdfast demo

Work with the twin, a simulated Azure, or with a real one; the file after --azure says which:
  holdfast twin serve --dir twin --estate estate.yaml &
  holdfast vm list --azure twin/azure.yaml
  holdfast repo init --repo /backups --password-file secret
  holdfast backup --azure twin/azure.yaml --repo /backups --password-file secret --vm ID

Work with a server, which protects machines by policies day after day:
  holdfast login --server https://backup.example.com:8460 --user anna --password-file secret
  holdfast apply -f examples/policies`

func (a *app) rootCommand() *cobra.Command {
	root := command.Group(a.console, "holdfast", "Backup and restore of Azure virtual machines", rootHelp,
		a.demoCommand(), a.backupCommand(), a.restoreCommand(), a.repoCommand(), a.imageCommand(), a.storageCommand(), a.vmCommand(), a.twinCommand(), a.simCommand(), a.serverCommand(), a.workerCommand(),
	)
	root.AddCommand(policies.New(policies.Config{Console: a.console, Clock: a.clock, Cloud: a.cloudInventory, Getenv: a.getenv})...)
	remote.Join(root, remote.Config{Console: a.console, Clock: a.clock, Getenv: a.getenv, Answers: a.answers(), Color: cli.IsTerminal(a.console.Out) && a.getenv("NO_COLOR") == ""})
	root.Version, root.SilenceUsage, root.SilenceErrors = version(), true, true
	root.PersistentFlags().BoolVar(&a.console.JSON, "json", false, "print the result as one JSON value on the last line")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return command.FlagError(err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}
