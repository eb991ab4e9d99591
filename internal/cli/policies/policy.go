package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/document"
)

func (c *commands) policyCommand() *cobra.Command {
	return command.Group(c.console, "policy", "Work with documents: policies, templates, repositories, settings", "",
		c.policyCheckCommand(), c.policyPreviewCommand(), c.policySchemaCommand(), c.policyScopeCommand(),
	)
}

// documentsFlag adds -f, of commands that work on a set of documents; hand its value to documents.
func documentsFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "file", "f", nil, "file with documents, or a folder with files *.yaml; may be given several times")
}

// documents reads what -f names as one set, and tells people what is worth a note. Mistakes are one error of kind invalid that
// the console tells one by one.
func (c *commands) documents(files []string) (holdfast.Documents, error) {
	d, notes, err := readDocuments(files)
	for _, n := range notes {
		c.console.Note("%s", noteLine(n))
	}
	return d, err
}

func readDocuments(paths []string) (holdfast.Documents, []document.Note, error) {
	if len(paths) == 0 {
		return holdfast.Documents{}, nil, holdfast.Errorf(holdfast.KindInvalid, "-f is missing: the documents to work with").WithField("file").
			WithHint("name a file, or a folder with files *.yaml; -f may be given several times")
	}
	files, err := document.Load(paths...)
	if err != nil {
		return holdfast.Documents{}, nil, err
	}
	return document.Read(files...)
}

func noteLine(n document.Note) string {
	at := fmt.Sprintf("%s:%d:%d: ", n.File, n.Line, n.Column)
	if n.Field != "" {
		at += n.Field + ": "
	}
	return string(n.Level) + ": " + at + n.Text
}

func (c *commands) policyCheckCommand() *cobra.Command {
	var files []string
	check := &cobra.Command{
		Use: "check", Short: "Check documents, and say what they will do", Args: command.NoArguments,
		Long: `Check documents as one set, and say in sentences what they will do. Every mistake is told with its file, line, column and field, and what is
accepted there; the exit code is 2 then. Nothing is asked of Azure, and no secret is looked up.`,
		Example: `  holdfast policy check -f policies.yaml
  holdfast policy check -f policies/ -f repositories.yaml --json`,
		RunE: func(*cobra.Command, []string) error { return c.checkPolicies(files) },
	}
	documentsFlag(check, &files)
	return check
}

func (c *commands) checkPolicies(files []string) error {
	d, notes, err := readDocuments(files)
	var mistakes document.Mistakes
	if err != nil && !errors.As(err, &mistakes) {
		return err
	}
	result := show.NewCheck(d, notes, mistakes)
	if err := c.console.Result(result, result.Tell); err != nil || result.OK {
		return err
	}
	return command.ErrMistakesTold
}

func (c *commands) policySchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of documents, for editors", Args: command.NoArguments,
		Long: `Print the JSON Schema of documents, by which editors complete and check them while they are written. A document says where its schema is in its
first line: # yaml-language-server: $schema=documents.schema.json`,
		Example: `  holdfast policy schema > documents.schema.json`,
		RunE: func(*cobra.Command, []string) error {
			schema, err := document.Schema()
			if err != nil {
				return err
			}
			return c.console.Result(json.RawMessage(schema), func(w io.Writer) error {
				_, err := w.Write(schema)
				return err
			})
		},
	}
}
