// Package command is what the groups of commands have in common: how a command refuses words that it does not take, names
// the flags that it cannot do without, and says what is wrong with those that it was given.
//
// It promises that a mistake in the command line reads the same whichever command it was made in. It knows no command, and
// nothing of what commands do.
package command

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
)

// ErrDamageTold ends a command whose result has told of damage already.
var ErrDamageTold = holdfast.Errorf(holdfast.KindCorrupt, "damage was found")

// ErrMistakesTold ends a command whose result has told of mistakes in its input already.
var ErrMistakesTold = holdfast.Errorf(holdfast.KindInvalid, "mistakes were found")

// ErrTold ends a command whose result has told of its failure already.
var ErrTold = holdfast.Errorf(holdfast.KindInternal, "the result says what failed")

// Told reports whether the result of a command has told of its failure already, so that only the exit code is left to say.
func Told(err error) bool {
	return errors.Is(err, ErrDamageTold) || errors.Is(err, ErrMistakesTold) || errors.Is(err, ErrTold) || errors.Is(err, cli.ErrChanges)
}

// AzureFlag adds --azure. What it names is read by whoever wires the client.
func AzureFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "azure", "", "file that says which Azure to work with (or HOLDFAST_AZURE)")
}

// Explained turns the failure of a command line into one that names the flag at fault as a person wrote it.
func Explained(cmd *cobra.Command, err error) error { return asFlag(cmd, asInput(err)) }

// NoArguments refuses words that a command does not take.
func NoArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := holdfast.Errorf(holdfast.KindInvalid, "%q is not something that %q does", args[0], cmd.CommandPath())
	if cmd.HasAvailableSubCommands() {
		return err.WithHint("it does: %s", names(cmd))
	}
	if f := cmd.Flags().Lookup("file"); f != nil && f.Shorthand != "" {
		return err.WithHint("files are named behind -%s; see: %s --help", f.Shorthand, cmd.CommandPath())
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

// FlagError names the flag at fault.
func FlagError(err error) error {
	text, cause, parsed := strings.Cut(err.Error(), ": strconv.")
	e := holdfast.Errorf(holdfast.KindInvalid, "%s", text).WithHint("see the command's --help")
	if parsed {
		e.Hint = wanted(cause) + "; " + e.Hint
	}
	if _, rest, ok := strings.Cut(err.Error(), "--"); ok {
		e.Field = strings.TrimRight(strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '=' || r == '"' })[0], ":,")
	}
	return e
}

// wanted says what a flag takes, by the function that could not read it.
func wanted(parser string) string {
	switch {
	case strings.HasPrefix(parser, "ParseInt"), strings.HasPrefix(parser, "Atoi"):
		return "write a whole number"
	case strings.HasPrefix(parser, "ParseUint"):
		return "write a whole number that is not negative"
	case strings.HasPrefix(parser, "ParseFloat"):
		return "write a number such as 0.5"
	}
	return "write true or false"
}

// asInput turns cobra's own complaints, which are about the command line, into errors of kind invalid.
func asInput(err error) error {
	var e *holdfast.Error
	if errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	for _, start := range []string{"unknown command", "required flag", "accepts ", "requires at least"} {
		if strings.HasPrefix(err.Error(), start) {
			return FlagError(err)
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

// Group makes a command that only holds others. Called alone it shows its help; a script gets an error.
func Group(console *cli.Console, use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: NoArguments}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !console.JSON {
			return cmd.Help()
		}
		return holdfast.Errorf(holdfast.KindInvalid, "%q needs a command", cmd.CommandPath()).WithHint("it does: %s", names(cmd))
	}
	cmd.AddCommand(commands...)
	return cmd
}

// Required marks flags that a command cannot do without.
func Required(cmd *cobra.Command, flags ...string) {
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

// Instant reads a time that a person wrote behind a flag: RFC 3339, or a date, which begins at 00:00 UTC.
func Instant(text, flag string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, holdfast.Errorf(holdfast.KindInvalid, "%q is not a time", text).WithField(flag).
		WithHint("write it in RFC 3339, such as 2026-05-01T00:15:00Z or 2026-05-01T02:15:00+02:00, or a date, which begins at 00:00 UTC")
}
