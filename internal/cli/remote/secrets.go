package remote

import (
	"os"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// firstLine reads the secret in the first line of a file. field is what names the file.
func firstLine(file, field string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", holdfast.Wrap(holdfast.KindInvalid, err, "the password file cannot be read").WithField(field).WithHint("name a file whose first line is the password")
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", holdfast.Errorf(holdfast.KindInvalid, "the password file %s is empty", file).WithField(field).WithHint("write the password into its first line")
	}
	return line, nil
}

// lookUp finds a secret that stands on this machine; there is false for one that does not, such as one in a vault.
func (c *commands) lookUp(s document.Secret) (secret string, there bool, err error) {
	of := s.Kind
	if s.Of != "" {
		of += " " + s.Of
	}
	switch {
	case s.Source.File != "":
		if secret, err = firstLine(s.Source.File, "file"); err != nil {
			return "", false, holdfast.Wrap(holdfast.KindInvalid, err, "a secret of %s is not found", of).WithField("file").
				WithHint("it is read on this machine and handed to the server; run the command where %s is", s.Source.File)
		}
		return secret, true, nil
	case s.Source.Environment != "":
		if secret = c.getenv(s.Source.Environment); secret == "" {
			return "", false, holdfast.Errorf(holdfast.KindInvalid, "a secret of %s is not found: the variable %s is not set", of, s.Source.Environment).WithField("file").
				WithHint("it is read on this machine and handed to the server; set the variable, and run the command again")
		}
		return secret, true, nil
	}
	return "", false, nil
}

// secrets looks up what files declare: the secrets of documents that change, and on wish those of all. What stays as it is needs none, since
// the server has it.
func (c *commands) secrets(files []document.File, changes []view.Change, all bool) (map[string]string, error) {
	found := map[string]string{}
	for _, s := range document.Secrets(files...) {
		if !all && unchanged(changes, s) {
			continue
		}
		secret, there, err := c.lookUp(s)
		if err != nil {
			return nil, err
		}
		if there {
			found[s.Name] = secret
		}
	}
	return found, nil
}

func unchanged(changes []view.Change, s document.Secret) bool {
	return slices.ContainsFunc(changes, func(c view.Change) bool {
		return c.Verb == view.Unchanged && c.Kind == s.Kind && (c.Name == s.Of || s.Of == "")
	})
}
