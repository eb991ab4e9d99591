package packlist

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// CondemnationLabel is the first line of a condemnation list.
const CondemnationLabel = "holdfast condemnation 1"

// Condemnation is a list of objects that are going to be deleted.
type Condemnation struct {
	Repository keys.RepositoryID
	Session    holdfast.SessionID // of the collection; only its entries name the list
	Names      []string
}

// Encode returns the list's bytes.
func (c Condemnation) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrepository %s\nsession %s\n", CondemnationLabel, c.Repository, c.Session)
	for _, name := range c.Names {
		fmt.Fprintln(&b, name)
	}
	return b.Bytes()
}

// ParseCondemnation reads a condemnation list: its label, whose it is, then one object name a line (doc/format.md §12). Anything
// malformed is KindCorrupt.
func ParseCondemnation(data []byte) (Condemnation, error) {
	c, lines, err := header(data, CondemnationLabel)
	if err != nil {
		return Condemnation{}, err
	}
	for _, name := range lines {
		if kind, _ := layout.Parse(name); kind == layout.Foreign || kind == layout.LogEntry {
			return Condemnation{}, malformed("a condemnation list", name)
		}
	}
	c.Names = lines
	return c, nil
}

// OwnerOf returns whose list of any kind it is, and its label, from a beginning that holds its first three lines. Anything else is
// KindCorrupt.
func OwnerOf(beginning []byte) (session holdfast.SessionID, label string, err error) {
	label, _, _ = strings.Cut(string(beginning), "\n")
	if label != Label && label != CondemnationLabel && label != GoneLabel && label != DamageLabel {
		return session, "", malformed("a list", label)
	}
	end := bytes.LastIndexByte(beginning, '\n')
	c, _, err := header(beginning[:end+1], label)
	return c.Session, label, err
}

// header reads the three lines that lists of all kinds begin with, and returns the lines that follow.
func header(data []byte, label string) (Condemnation, []string, error) {
	what := "a list"
	text, ok := strings.CutSuffix(string(data), "\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) < 3 || lines[0] != label {
		return Condemnation{}, nil, malformed(what, lines[0])
	}
	repository, ok1 := strings.CutPrefix(lines[1], "repository ")
	session, ok2 := strings.CutPrefix(lines[2], "session ")
	var c Condemnation
	if !ok1 || c.Repository.UnmarshalText([]byte(repository)) != nil {
		return Condemnation{}, nil, malformed(what, lines[1])
	}
	if !ok2 || c.Session.UnmarshalText([]byte(session)) != nil {
		return Condemnation{}, nil, malformed(what, lines[2])
	}
	return c, lines[3:], nil
}

func malformed(what, line string) error {
	return holdfast.Errorf(holdfast.KindCorrupt, "%s has the malformed line %.80q", what, line)
}
