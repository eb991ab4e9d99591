// Package document reads the documents that people write for Holdfast, policies, templates, repositories and the settings
// of the installation, into the nouns that the engines know, and writes them back.
//
// It promises that nothing in a document is ignored or bent: whatever is unknown, missing, contradictory or impossible is
// a mistake with its file, line, column and field, and with what is accepted; all mistakes of a set of files are told, not
// the first alone. What comes out of Read without an error was checked as a whole, references among the documents
// included. What the reader decided by itself (hours added to the snapshots because backups need them), and what may
// surprise (retention shorter than a storage tier bills), is told in notes. Write and Read are inverse: Read(Write(d)) is d.
//
// A secret must never stand in a document: fields that would hold one are refused, and those that say where a secret is
// found are not followed. Nothing here asks the cloud whether what a document names exists.
//
// doc/cli.md and examples/ show the documents; schemas/ has their form for editors; doc/policies.md says what they do.
package document

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

const (
	// filesMax bounds the files of a set. Five hundred policies in a file each are a lot already.
	filesMax = 10_000
	// mistakesMax bounds the mistakes of a set that are told. Nobody mends more in one go.
	mistakesMax = 100
)

// File is a file with documents.
type File struct {
	Name   string // as mistakes name it
	Folder string // where relative paths in its documents begin; "" is the folder of Name
	Data   []byte
}

// Load reads files. A folder stands for its files *.yaml and *.yml, in the order of their names, those in folders below it
// not included. Relative paths in documents become absolute ones, so that they mean the same wherever the documents are
// written. A path that leads nowhere is KindNotFound.
func Load(paths ...string) ([]File, error) {
	var files []File
	for _, path := range paths {
		names, err := filesAt(path)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			file, err := loadFile(name)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
		if len(files) > filesMax {
			return nil, holdfast.Errorf(holdfast.KindInvalid, "%s: more than %d files", path, filesMax).WithField("file")
		}
	}
	return files, nil
}

func loadFile(name string) (File, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return File{}, unreadable(name, err)
	}
	folder, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return File{}, holdfast.Wrap(holdfast.KindInternal, err, "the folder of %s has no absolute path", name)
	}
	return File{Name: name, Folder: folder, Data: data}, nil
}

// filesAt returns the name of a file, or the names of those in a folder.
func filesAt(path string) ([]string, error) {
	about, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !about.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	var names []string
	for _, entry := range entries {
		if extension := filepath.Ext(entry.Name()); !entry.IsDir() && (extension == ".yaml" || extension == ".yml") {
			names = append(names, filepath.Join(path, entry.Name()))
		}
	}
	if len(names) == 0 {
		return nil, holdfast.Errorf(holdfast.KindNotFound, "the folder %s holds no document", path).WithField("file").
			WithHint("documents are its files *.yaml and *.yml; name folders below it by themselves")
	}
	slices.Sort(names)
	return names, nil
}

func unreadable(path string, err error) error {
	kind := holdfast.KindUnavailable
	if os.IsNotExist(err) {
		kind = holdfast.KindNotFound
	}
	if e, ok := err.(*fs.PathError); ok { //nolint:errorlint // package os returns it bare; its text without the path, which the message has
		err = e.Err
	}
	return holdfast.Wrap(kind, err, "%s cannot be read", path).WithField("file").
		WithHint("name a file with documents, or a folder with files *.yaml")
}

// Mistakes are all that is wrong with a set of documents, in the order of the files. As an error they have KindInvalid.
type Mistakes []strictyaml.Mistake

// Error returns a line for each mistake.
func (m Mistakes) Error() string {
	lines := make([]string, 0, len(m))
	for _, one := range m {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns an error for each mistake.
func (m Mistakes) Unwrap() []error {
	all := make([]error, 0, len(m))
	for _, one := range m {
		all = append(all, one.Err())
	}
	return all
}

// Level says how much a note matters.
type Level string

// The levels of a note.
const (
	LevelNote    Level = "note"    // what the reader decided, or what follows from what is written
	LevelWarning Level = "warning" // what costs money, or will not do what one might expect
)

// Note is what somebody who wrote a document should know about it, though nothing is wrong.
type Note struct {
	Level  Level
	File   string
	Line   int
	Column int
	Kind   string // of the document
	Name   string // of the document
	Field  string
	Text   string
}
