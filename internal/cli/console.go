// Package cli is how commands speak to people and scripts: results on standard output, progress and everything else on
// standard error, one JSON value at the end where asked, exit codes that mean something.
//
// It promises that standard output carries the result only, and that an error is told once, with what to do next. It knows
// no command and does no work of its own.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"golang.org/x/term"

	"github.com/holdfast-backup/holdfast"
)

// Console is where a command speaks. JSON asks for machine-readable results and errors.
type Console struct {
	Out  io.Writer // results
	Err  io.Writer // progress, warnings, errors for people
	JSON bool

	bars atomic.Pointer[mpb.Progress] // those on the terminal now; lines are written above them
}

// Result prints a command's result: as one JSON value on one line where asked, else as people prints it.
func (c *Console) Result(value any, people func(w io.Writer) error) error {
	if !c.JSON {
		return people(c.Out)
	}
	encoder := json.NewEncoder(c.Out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// Note prints a line for people on standard error, above the bars that are shown there.
func (c *Console) Note(format string, args ...any) {
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i := range lines {
		lines[i] = Printable(lines[i])
	}
	line := strings.Join(lines, "\n") + "\n"
	if bars := c.bars.Load(); bars != nil {
		if _, err := io.WriteString(bars, line); err == nil {
			return
		}
	}
	_, _ = io.WriteString(c.Err, line) // nobody is left to tell when standard error is closed
}

// failure is the JSON form of an error. All fields are always there; "" means that there is nothing to say.
type failure struct {
	Error struct {
		Kind    holdfast.Kind `json:"kind"`
		Message string        `json:"message"`
		Hint    string        `json:"hint"`
		Field   string        `json:"field"`
		Also    []alsoWrong   `json:"also,omitempty"` // where one input has several mistakes: the others
	} `json:"error"`
}

type alsoWrong struct {
	Message string `json:"message"`
	Hint    string `json:"hint"`
	Field   string `json:"field"`
}

// Fail tells an error and returns the exit code that goes with it. With JSON the error goes to standard output as the one value
// that a script reads.
func (c *Console) Fail(err error) int {
	if several := mistakesIn(err); len(several) > 1 {
		return c.failAll(err, several)
	}
	var f failure
	f.Error.Kind, f.Error.Message = holdfast.KindOf(err), Sentence(err)
	var e *holdfast.Error
	if errors.As(err, &e) {
		f.Error.Hint, f.Error.Field = e.Hint, e.Field
	}
	if c.JSON {
		encoder := json.NewEncoder(c.Out)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(f) // the exit code still tells
		return ExitCode(err)
	}
	c.Note("Error: %s", f.Error.Message)
	if f.Error.Hint != "" {
		c.Note("  → %s", f.Error.Hint)
	}
	return ExitCode(err)
}

// mistakesIn returns the parts of an error that is nothing but several mistakes in one input. What wraps such an error has
// more to say than its parts.
func mistakesIn(err error) []*holdfast.Error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var all []*holdfast.Error
	for _, part := range joined.Unwrap() {
		e, ok := part.(*holdfast.Error) //nolint:errorlint // as above
		if !ok || e.Kind != holdfast.KindInvalid {
			return nil
		}
		all = append(all, e)
	}
	return all
}

// failAll tells several mistakes, each with what to do about it; to scripts the first one as Fail does, and the others beside it.
func (c *Console) failAll(err error, mistakes []*holdfast.Error) int {
	if !c.JSON {
		for _, e := range mistakes {
			c.Note("Error: %s", Sentence(e))
			if e.Hint != "" {
				c.Note("  → %s", e.Hint)
			}
		}
		return ExitCode(err)
	}
	var f failure
	first := mistakes[0]
	f.Error.Kind, f.Error.Message, f.Error.Hint, f.Error.Field = first.Kind, Sentence(first), first.Hint, first.Field
	for _, e := range mistakes[1:] {
		f.Error.Also = append(f.Error.Also, alsoWrong{Sentence(e), e.Hint, e.Field})
	}
	encoder := json.NewEncoder(c.Out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(f) // the exit code still tells
	return ExitCode(err)
}

// Sentence returns an error's text on one line. A cancelled context says so in words.
func Sentence(err error) string {
	if holdfast.KindOf(err) == holdfast.KindCanceled && errors.Is(err, context.Canceled) {
		return "stopped"
	}
	text := strings.TrimSpace(err.Error())
	if request := answerDump.FindStringIndex(text); request != nil {
		text = strings.TrimRight(text[:request[0]], ": ") + cause(text[request[0]:])
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' }), "; ")
}

// The SDK prints a refused request as a report of several lines: the request, the status, the code and the whole body.
var (
	answerDump    = regexp.MustCompile(`[A-Z]{3,7} https?://\S+\n-{20,}\n`)
	answerStatus  = regexp.MustCompile(`(?m)^RESPONSE (\d+)`)
	answerCode    = regexp.MustCompile(`(?m)^ERROR CODE: (\S+)$`)
	answerMessage = regexp.MustCompile(`"message": "((?:[^"\\]|\\.)*)"|<Message>([^<\n]*)`)
)

// cause says in a few words what such a report says: the service's own words, its code and the status.
func cause(report string) string {
	part := func(pattern *regexp.Regexp) string {
		for i, group := range pattern.FindStringSubmatch(report) {
			if i > 0 && group != "" {
				return group
			}
		}
		return ""
	}
	words, status := part(answerCode), part(answerStatus)
	if message := part(answerMessage); message != "" {
		words = strings.TrimSpace(words + " " + message)
	}
	if words == "" && status == "" {
		return ""
	}
	return strings.TrimRight(": "+words, ": ") + " (HTTP " + status + ")"
}

// ErrChanges ends a command that was asked to tell by its exit code that something would be changed, and whose result says what.
var ErrChanges = holdfast.Errorf(holdfast.KindConflict, "something would be changed")

// changesCode is the exit code that goes with ErrChanges.
const changesCode = 7

// ExitCode maps an error to the process's exit code: 0 done, 1 failed, 2 bad input, 3 not found, 4 damage found,
// 5 refused, 6 wrong key, 7 something would be changed.
func ExitCode(err error) int {
	if errors.Is(err, ErrChanges) {
		return changesCode
	}
	switch holdfast.KindOf(err) {
	case "":
		return 0
	case holdfast.KindInvalid:
		return 2
	case holdfast.KindNotFound:
		return 3
	case holdfast.KindCorrupt:
		return 4
	case holdfast.KindRefused, holdfast.KindConflict:
		return 5
	case holdfast.KindWrongKey:
		return 6
	case holdfast.KindThrottled, holdfast.KindUnavailable, holdfast.KindCanceled, holdfast.KindInternal:
	}
	return 1
}

// IsTerminal reports whether a stream is a terminal: one to write to gets bars instead of lines, at one to read from sits somebody who answers.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
