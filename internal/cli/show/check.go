package show

import (
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/document/explain"
)

// Check is the result of `policy check`.
type Check struct {
	OK        bool                  `json:"ok"`
	Mistakes  []checkFinding        `json:"mistakes"`
	Notes     []checkFinding        `json:"notes"`
	Documents []explain.Explanation `json:"documents"` // empty unless OK
}

// checkFinding is a mistake, or a note, and where it stands.
type checkFinding struct {
	Level   string `json:"level"` // mistake, warning or note
	File    string `json:"file"`
	Line    int    `json:"line"` // 0 when the file as a whole is meant
	Column  int    `json:"column"`
	Field   string `json:"field"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

const levelMistake = "mistake"

// NewCheck makes the result of what document.Read returned.
func NewCheck(d holdfast.Documents, notes []document.Note, mistakes document.Mistakes) Check {
	c := Check{OK: len(mistakes) == 0, Mistakes: []checkFinding{}, Notes: []checkFinding{}, Documents: []explain.Explanation{}}
	for _, m := range mistakes {
		c.Mistakes = append(c.Mistakes, checkFinding{levelMistake, m.File, m.Line, m.Column, m.Field, m.Text, m.Hint})
	}
	for _, n := range notes {
		c.Notes = append(c.Notes, checkFinding{string(n.Level), n.File, n.Line, n.Column, n.Field, n.Text, ""})
	}
	if c.OK {
		c.Documents = explain.Documents(d)
	}
	return c
}

// Tell says what the documents do, what is worth a note, and what is wrong with them.
func (c Check) Tell(w io.Writer) error {
	var b strings.Builder
	line := func(text string) { fmt.Fprintln(&b, cli.Printable(text)) } // what people wrote may hold anything
	for _, d := range c.Documents {
		line(strings.TrimSpace(d.Kind + " " + d.Name))
		for _, sentence := range d.Sentences {
			line("  " + sentence)
		}
	}
	for _, f := range c.Notes {
		line(f.Level + ": " + f.String())
	}
	for _, f := range c.Mistakes {
		line(f.String())
		if f.Hint != "" {
			line("  → " + f.Hint)
		}
	}
	if n := len(c.Mistakes); n > 0 {
		line(fmt.Sprintf("mistakes: %d", n))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String returns the finding on one line, as a compiler does: editors find the place.
func (f checkFinding) String() string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	}
	if f.Field != "" {
		at += ": " + f.Field
	}
	return at + ": " + f.Message
}
