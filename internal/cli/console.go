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
	"strings"

	"golang.org/x/term"

	"github.com/holdfast-backup/holdfast"
)

// Console is where a command speaks. JSON asks for machine-readable results and errors.
type Console struct {
	Out  io.Writer // results
	Err  io.Writer // progress, warnings, errors for people
	JSON bool
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

// Note prints a line for people on standard error.
func (c *Console) Note(format string, args ...any) {
	_, _ = fmt.Fprintf(c.Err, format+"\n", args...) // nobody is left to tell when standard error is closed
}

// failure is the JSON form of an error.
type failure struct {
	Error struct {
		Kind    holdfast.Kind `json:"kind"`
		Message string        `json:"message"`
		Hint    string        `json:"hint,omitempty"`
		Field   string        `json:"field,omitempty"`
	} `json:"error"`
}

// Fail tells an error and returns the exit code that goes with it. With JSON the error goes to standard output as the one value
// that a script reads.
func (c *Console) Fail(err error) int {
	var f failure
	f.Error.Kind, f.Error.Message = holdfast.KindOf(err), sentence(err)
	var e *holdfast.Error
	if errors.As(err, &e) {
		f.Error.Hint, f.Error.Field = e.Hint, e.Field
	}
	if c.JSON {
		_ = json.NewEncoder(c.Out).Encode(f) // the exit code still tells
		return ExitCode(err)
	}
	c.Note("Error: %s", f.Error.Message)
	if f.Error.Hint != "" {
		c.Note("  → %s", f.Error.Hint)
	}
	return ExitCode(err)
}

// sentence returns an error's text. A cancelled context says so in words.
func sentence(err error) string {
	if holdfast.KindOf(err) == holdfast.KindCanceled && errors.Is(err, context.Canceled) {
		return "stopped"
	}
	return strings.TrimSpace(err.Error())
}

// ExitCode maps an error to the process's exit code: 0 done, 1 failed, 2 bad input, 3 not found, 4 damage found,
// 5 refused, 6 wrong key.
func ExitCode(err error) int {
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

// IsTerminal reports whether w is a terminal, which gets bars instead of lines.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
