// Package subject fills the subjects of mails: text in which %Name% stands for what is told.
//
// It promises that a subject is one line of bounded length whatever is filled in, so that nothing becomes a header of its
// own; that what is filled in is never read as a variable again; and that the same table decides what is accepted in a document and what is
// filled in later. It is pure.
package subject

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/holdfast-backup/holdfast"
)

// Kind is what a mail is about.
type Kind string

// The kinds that have subjects of their own.
const (
	Session Kind = "session"
	Report  Kind = "report"
)

// The variables.
const (
	JobName     = "JobName"     // the policy
	JobResult   = "JobResult"   // Success, Warning, Failed or Stopped
	ObjectCount = "ObjectCount" // how many machines
	Issues      = "Issues"      // how many of them failed or have a warning, in words; nothing when none
	SLAType     = "SLAType"     // such as Daily backup SLA
	SLAPeriod   = "SLAPeriod"   // the day, week or month
	SLAStatus   = "SLAStatus"   // met, missed, and by how much
)

// variables is the one table of what may stand where.
var variables = map[Kind][]string{
	Session: {JobResult, JobName, ObjectCount, Issues},
	Report:  {JobName, ObjectCount, SLAType, SLAPeriod, SLAStatus},
}

// The limits of a subject, in characters.
const (
	templateMax = 255
	filledMax   = 255 // a line of a header may have 998; nobody reads more than this
)

// variable is a name between per cent signs. A sign that stands alone, as in 100 %, is text.
var variable = regexp.MustCompile(`%([A-Za-z][A-Za-z0-9]*)%`)

// Accepted says in words which variables a kind has.
func Accepted(k Kind) string {
	names := variables[k]
	quoted := make([]string, 0, len(names))
	for _, name := range names {
		quoted = append(quoted, "%"+name+"%")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " and " + quoted[len(quoted)-1]
}

// Check refuses a template that is no line of text or names an unknown variable. Names are compared as they are written.
func Check(k Kind, template string) error {
	if n := len([]rune(template)); n < 1 || n > templateMax || strings.ContainsFunc(template, unseen) {
		return holdfast.Errorf(holdfast.KindInvalid, "%q cannot be a subject", template).WithHint("1 to %d characters on one line", templateMax)
	}
	for _, found := range variable.FindAllStringSubmatch(template, -1) {
		if !slices.Contains(variables[k], found[1]) {
			return holdfast.Errorf(holdfast.KindInvalid, "%s stands for nothing in this subject", found[0]).WithHint("%s", Accepted(k))
		}
	}
	return nil
}

// Fill puts values in the place of a template's variables, in one pass. What a value has of line ends and of characters that
// cannot be seen becomes a space; what is longer than a subject may be ends in an ellipsis.
func Fill(template string, values map[string]string) string {
	filled := variable.ReplaceAllStringFunc(template, func(name string) string {
		value, ok := values[strings.Trim(name, "%")]
		if !ok {
			return name
		}
		return value
	})
	return Line(filled)
}

// Line makes one line of bounded length of any text.
func Line(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	text = strings.Map(func(r rune) rune {
		if unseen(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > filledMax {
		return strings.TrimSpace(string(runes[:filledMax-1])) + "…"
	}
	return text
}

// unseen reports whether a character has no look of its own: those that end lines, control a terminal, or turn the writing
// around.
func unseen(r rune) bool { return !unicode.IsGraphic(r) }
