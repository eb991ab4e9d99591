// Package sh runs shell scripts in a simulated Linux guest: the part of the POSIX shell that scripts of an operator need
// (quotes, variables, command substitution, redirects, if, while, for, case, subshells, && and ||), with a few commands
// that work on files in memory, on the script files that an estate declares, and on mounts that can be frozen.
//
// It promises to refuse what it does not know, as a shell does: a script with syntax that it does not understand does
// nothing and ends with status 2, a command that it does not have ends with 127. Time is virtual: a sleep is not slept, but
// counted. A command put into the background with `setsid sh -c` goes on at its first sleep when that time has come. It
// must never touch anything of the machine that the twin runs on.
package sh

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Host is the guest that a script runs in.
type Host interface {
	Files() Files
	// Program runs a script file of the estate; found is false when there is none at path.
	Program(path string, arguments []string) (result Result, found bool)
	Mounts() string // /proc/mounts
	Freeze(mount string) error
	Thaw(mount string) error
	// Later takes what a background command does after a time.
	Later(delay time.Duration, job Job)
}

// Result is what a program said and how it ended.
type Result struct {
	Output string
	Errors string
	Status int
	Took   time.Duration
}

// Job is the rest of a background command.
type Job struct {
	Script     string            `json:"script"`
	Parameters []string          `json:"parameters,omitempty"` // $0, $1 …
	Variables  map[string]string `json:"variables,omitempty"`
}

// Limits of scripts that would not end by themselves, or take all memory.
const (
	stepsMax    = 100_000
	textMax     = 1 << 20
	parensMax   = 200 // each opens a shell, or a substitution, in the one before
	patternsMax = 4096
)

// Run runs a job at a moment.
func Run(host Host, job Job, now time.Time) Result {
	r := &run{host: host, began: now, now: now}
	list, err := parse(job.Script)
	if err != nil {
		return Result{Errors: "sh: " + err.Error() + "\n", Status: 2}
	}
	s := &shell{run: r, source: job.Script, parameters: job.Parameters, variables: map[string]string{}}
	maps.Copy(s.variables, job.Variables)
	s.out, s.err = &r.out, &r.errs
	status := s.top(list)
	return Result{Output: r.out.String(), Errors: r.errs.String(), Status: status, Took: r.now.Sub(r.began)}
}

// run is what all shells of one script share.
type run struct {
	host      Host
	began     time.Time
	now       time.Time
	out, errs strings.Builder
	steps     int
}

// shell is one shell, or subshell, of a run.
type shell struct {
	*run
	source     string
	variables  map[string]string
	parameters []string
	status     int
	out, err   *strings.Builder
	in         *strings.Reader
	background bool // the rest after a sleep is for later
}

// exit ends a shell.
type exit struct{ status int }

func (e exit) Error() string { return "exit " + strconv.Itoa(e.status) }

// later ends a background shell, whose rest was handed to the host.
var errLater = errors.New("the rest comes later")

// top runs a list as a shell of its own.
func (s *shell) top(list []*node) int {
	err := s.list(list)
	var ended exit
	if errors.As(err, &ended) {
		return ended.status
	}
	return s.status
}

func (s *shell) list(list []*node) error {
	for i, n := range list {
		if s.steps++; s.steps > stepsMax {
			s.complain("the script does not end")
			return exit{124}
		}
		if s.background && n.kind == simple && len(n.words) == 2 && s.text(n.words[0]) == "sleep" {
			rest := ""
			if i+1 < len(list) {
				rest = s.source[list[i+1].start:list[len(list)-1].end]
			}
			delay, _ := strconv.ParseFloat(s.text(n.words[1]), 64)
			s.host.Later(s.now.Sub(s.began)+time.Duration(delay*float64(time.Second)), Job{Script: rest, Parameters: s.parameters, Variables: s.variables})
			return errLater
		}
		if n.background {
			if err := s.inBackground(n); err != nil {
				return err
			}
			continue
		}
		if err := s.run1(n); err != nil {
			return err
		}
	}
	return nil
}

// inBackground starts `setsid sh -c SCRIPT NAME …`, the one form of background command that outlives its script.
func (s *shell) inBackground(n *node) error {
	if n.kind != simple {
		s.complain("only `setsid sh -c SCRIPT NAME ARGUMENTS &` can be put into the background")
		return exit{2}
	}
	words := s.fields(n.words)
	if len(words) < 5 || words[0] != "setsid" || words[1] != "sh" || words[2] != "-c" {
		s.complain("only `setsid sh -c SCRIPT NAME ARGUMENTS &` can be put into the background")
		return exit{2}
	}
	list, err := parse(words[3])
	if err != nil {
		s.complain(err.Error())
		return nil
	}
	child := &shell{run: s.run, source: words[3], parameters: words[4:], variables: map[string]string{}, out: new(strings.Builder), err: new(strings.Builder), background: true}
	before := s.now
	child.top(list)
	s.now = before // it does not hold up the script
	s.status = 0
	return nil
}

func (s *shell) complain(text string) { s.err.WriteString("sh: " + text + "\n") }

// run1 runs one command with its redirects.
func (s *shell) run1(n *node) error {
	restore, ok := s.redirect(n.redirects)
	if !ok {
		s.status = 1
		return nil
	}
	err := s.form(n)
	restore()
	if n.negated && err == nil {
		s.status = map[bool]int{true: 1, false: 0}[s.status == 0]
	}
	return err
}

func (s *shell) form(n *node) error {
	switch n.kind {
	case subshell:
		child := *s
		child.variables = maps.Clone(s.variables)
		s.status = child.top(n.subshell)
		return nil
	case ifElse:
		for _, b := range n.branches {
			if err := s.list(b.condition); err != nil {
				return err
			}
			if s.status == 0 {
				return s.list(b.body)
			}
		}
		s.status = 0
		return s.list(n.otherway)
	case whileLoop:
		return s.whileLoop(n)
	case forLoop:
		for _, value := range s.fields(n.values) {
			s.variables[n.name] = value
			if err := s.list(n.body); err != nil && !errors.Is(err, errContinue) {
				return err
			}
		}
		return nil
	case caseOf:
		return s.caseOf(n)
	case logical:
		if err := s.run1(n.list[0]); err != nil || (s.status == 0) != (n.operator == "&&") {
			return err
		}
		return s.run1(n.list[1])
	case simple:
	}
	return s.simple(n)
}

var errContinue = errors.New("continue")

func (s *shell) whileLoop(n *node) error {
	for {
		if s.steps++; s.steps > stepsMax {
			return exit{124}
		}
		if err := s.list(n.loop); err != nil {
			return err
		}
		if s.status != 0 {
			s.status = 0
			return nil
		}
		if err := s.list(n.body); err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
}

func (s *shell) caseOf(n *node) error {
	subject := s.text(n.subject)
	s.status = 0
	for _, a := range n.arms {
		for _, pattern := range a.patterns {
			if s.pattern(pattern).MatchString(subject) {
				return s.list(a.body)
			}
		}
	}
	return nil
}

// pattern knows the star; other signs stand for themselves.
func (s *shell) pattern(w word) *regexp.Regexp {
	var expression strings.Builder
	expression.WriteString(`(?s)^`)
	for _, p := range w {
		text := regexp.QuoteMeta(s.expand(p))
		if p.kind == literal && !p.quoted {
			text = strings.ReplaceAll(text, `\*`, `.*`)
		}
		expression.WriteString(text)
	}
	if expression.Len() > patternsMax {
		return regexp.MustCompile(`^\z.`) // nothing is like it
	}
	return regexp.MustCompile(expression.String() + `$`)
}

func (s *shell) simple(n *node) error {
	for _, a := range n.assign {
		value := s.text(a.value)
		if len(value) > textMax {
			s.complain(a.name + ": too long")
			return exit{2}
		}
		s.variables[a.name] = value
	}
	words := s.fields(n.words)
	if len(words) == 0 {
		if len(n.assign) > 0 && !hasSubstitution(n.assign) {
			s.status = 0
		}
		return nil
	}
	return s.command(words[0], words[1:])
}

func hasSubstitution(assignments []assignment) bool {
	for _, a := range assignments {
		for _, p := range a.value {
			if p.kind == substitution {
				return true
			}
		}
	}
	return false
}

// redirect points the streams elsewhere and returns what points them back and writes files.
func (s *shell) redirect(redirects []redirect) (restore func(), ok bool) {
	out, errs, in := s.out, s.err, s.in
	var writes []func()
	for _, r := range redirects {
		path := s.text(r.target)
		switch r.operator {
		case "2>&1":
			s.err = s.out
			continue
		case "<":
			text, found := s.read(path)
			if !found {
				s.complain(path + ": No such file or directory")
				s.out, s.err, s.in = out, errs, in
				return nil, false
			}
			s.in = strings.NewReader(text)
			continue
		}
		stream := new(strings.Builder)
		if strings.HasSuffix(r.operator, ">>") {
			text, _ := s.read(path)
			stream.WriteString(text)
		}
		if path != "/dev/null" {
			files := s.host.Files()
			writes = append(writes, func() { files.Write(path, stream.String(), s.now) })
			files.Write(path, stream.String(), s.now)
		}
		if strings.HasPrefix(r.operator, "2") {
			s.err = stream
		} else {
			s.out = stream
		}
	}
	return func() {
		s.out, s.err, s.in = out, errs, in
		for _, write := range writes {
			write()
		}
	}, true
}

func (s *shell) read(path string) (string, bool) {
	switch path {
	case "/dev/null":
		return "", true
	case "/proc/mounts":
		return s.host.Mounts(), true
	}
	return s.host.Files().Read(path)
}

// text expands a word to one text.
func (s *shell) text(w word) string {
	var text strings.Builder
	for _, p := range w {
		text.WriteString(s.expand(p))
	}
	return text.String()
}

// fields expands words; what an unquoted expansion yields is split at blanks.
func (s *shell) fields(words []word) []string {
	var fields []string
	for _, w := range words {
		current, open := "", false
		for _, p := range w {
			text := s.expand(p)
			if p.kind == literal || p.quoted {
				current, open = current+text, true
				continue
			}
			pieces := strings.Fields(text)
			for i, piece := range pieces {
				if i > 0 {
					fields, current = append(fields, current), ""
				}
				current, open = current+piece, true
			}
		}
		if open {
			fields = append(fields, current)
		}
	}
	return fields
}

func (s *shell) expand(p part) string {
	switch p.kind {
	case variable:
		if p.text == "?" {
			return strconv.Itoa(s.status)
		}
		if number, err := strconv.Atoi(p.text); err == nil {
			if number < len(s.parameters) {
				return s.parameters[number]
			}
			return ""
		}
		return s.variables[p.text]
	case substitution:
		list, err := parse(p.text)
		if err != nil {
			s.complain(err.Error())
			return ""
		}
		child := *s
		child.out, child.source = new(strings.Builder), p.text
		s.status = child.top(list)
		return strings.TrimRight(child.out.String(), "\n")
	case literal:
	}
	return p.text
}

func (s *shell) say(format string, arguments ...any) { fmt.Fprintf(s.out, format, arguments...) }
