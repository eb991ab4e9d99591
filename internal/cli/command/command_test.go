package command_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
)

// TestMistakes proves that a mistake in the command line names its flag and says what is wanted, in no words of the parser.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ line, message, hint string }{
		{"--days 1.5", `invalid argument "1.5" for "--days" flag`, "write a whole number; see the command's --help"},
		{"--churn lots", `invalid argument "lots" for "--churn" flag`, "write a number such as 0.5; see the command's --help"},
		{"--dry=perhaps", `invalid argument "perhaps" for "--dry" flag`, "write true or false; see the command's --help"},
		{"--bogus", "unknown flag: --bogus", "see the command's --help"},
		{"policies", `"policies" is not something that "check" does`, "files are named behind -f; see: check --help"},
	} {
		check := &cobra.Command{Use: "check", Args: command.NoArguments, SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
		check.Flags().Int("days", 30, "")
		check.Flags().Float64("churn", 0.03, "")
		check.Flags().Bool("dry", false, "")
		check.Flags().StringArrayP("file", "f", nil, "")
		check.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return command.FlagError(err) })
		check.SetArgs(strings.Fields(c.line))
		err := check.ExecuteContext(t.Context())
		if err == nil {
			t.Errorf("%s: accepted", c.line)
			continue
		}
		if message, hint := told(command.Explained(check, err)); message != c.message || hint != c.hint {
			t.Errorf("%s: %q, hint %q, want %q, hint %q", c.line, message, hint, c.message, c.hint)
		}
	}
}

// told returns what an error says to people.
func told(err error) (message, hint string) {
	var e *holdfast.Error
	if !errors.As(err, &e) {
		return err.Error(), ""
	}
	return e.Message, e.Hint
}
