// Package powershell runs scripts in a simulated Windows guest: the few forms of PowerShell that running a program and
// keeping what it said needs, a statement in a line.
//
// It promises to refuse what it does not know: a script with a line that it does not understand does nothing and says so.
// It knows assignments, `if (…) { … } else { … }`, `& PROGRAM … *> FILE`, Set-Content, Get-Content, Test-Path, New-Item of
// folders, Write-Output, and the pipeline that removes old folders. It must never touch anything of the machine that the
// twin runs on.
package powershell

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/guest/sh"
)

// Host is the guest that a script runs in.
type Host interface {
	Files() sh.Files
	// Program runs a script file of the estate; found is false when there is none at path.
	Program(path string, arguments []string) (result sh.Result, found bool)
}

// Run runs a script at a moment.
func Run(host Host, script string, now time.Time) sh.Result {
	lines := strings.Split(strings.ReplaceAll(script, "\r\n", "\n"), "\n")
	for i, line := range lines {
		if !understood(strings.TrimSpace(line)) {
			return sh.Result{Errors: fmt.Sprintf("line %d: this is not understood here: %s\r\n", i+1, strings.TrimSpace(line)), Status: 1}
		}
	}
	s := &script1{host: host, began: now, now: now, variables: map[string]string{"LASTEXITCODE": "0"}}
	if err := s.block(lines); err != nil {
		s.errs.WriteString(err.Error() + "\r\n")
		return sh.Result{Output: s.out.String(), Errors: s.errs.String(), Status: 1, Took: s.now.Sub(now)}
	}
	return sh.Result{Output: s.out.String(), Errors: s.errs.String(), Took: s.now.Sub(now)}
}

// script1 is one run of a script.
type script1 struct {
	host       Host
	began, now time.Time
	variables  map[string]string
	out, errs  strings.Builder
}

// The statements. EXPRESSION stands for a literal, a text with variables, or a variable.
var (
	assignLine   = regexp.MustCompile(`^\$(\w+) = (.+)$`)
	ifLine       = regexp.MustCompile(`^if \((.+)\) \{$`)
	inlineIf     = regexp.MustCompile(`^if \((.+)\) \{ (.+) \}$`)
	folderLine   = regexp.MustCompile(`^New-Item -ItemType Directory( -Force)? -Path (\S+|'[^']*'|"[^"]*") \| Out-Null$`)
	forgetLine   = regexp.MustCompile(`^Get-ChildItem -LiteralPath ('[^']*') \| Where-Object \{ \$_\.LastWriteTime -lt \(Get-Date\)\.AddDays\(-(\d+)\) \} \| Remove-Item -Recurse -Force$`)
	programLine  = regexp.MustCompile(`^& (.+?) \*> (\S+|"[^"]*")$`)
	contentLine  = regexp.MustCompile(`^Set-Content -LiteralPath (\S+|'[^']*'|"[^"]*") -Value (.+)$`)
	outputLine   = regexp.MustCompile(`^Write-Output (.+)$`)
	testPath     = regexp.MustCompile(`^Test-Path -LiteralPath (\S+|'[^']*'|"[^"]*")( -PathType Leaf)?$`)
	notCondition = regexp.MustCompile(`^-not \((.+)\)$`)
	greater      = regexp.MustCompile(`^(\S+) -gt (\d+)$`)
	getContent   = regexp.MustCompile(`^(?:\[string\]\()?\(?Get-Content (?:-TotalCount 1 |-Raw )?-LiteralPath (\S+?|'[^']*'|"[^"]*")\)*$`)
	lengthOf     = regexp.MustCompile(`^\$(\w+)\.Length$`)
	tailOf       = regexp.MustCompile(`^\$(\w+)\.Substring\(\$(\w+)\.Length - (\d+)\)$`)
	argument     = regexp.MustCompile(`'(?:[^']|'')*'|"[^"]*"|\S+`)
	interpolated = regexp.MustCompile(`\$(\w+)`)
)

func understood(line string) bool {
	switch line {
	case "", "}", "} else {":
		return true
	}
	for _, form := range []*regexp.Regexp{assignLine, ifLine, inlineIf, folderLine, forgetLine, programLine, contentLine, outputLine} {
		if form.MatchString(line) {
			return true
		}
	}
	return strings.HasPrefix(line, "#")
}

// block runs lines up to their end; blocks in braces are found by counting them.
func (s *script1) block(lines []string) error {
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		match := ifLine.FindStringSubmatch(line)
		if match == nil {
			if err := s.statement(line); err != nil {
				return err
			}
			continue
		}
		holds, err := s.condition(match[1])
		if err != nil {
			return err
		}
		body, otherwise, next, err := braces(lines, i)
		if err != nil {
			return err
		}
		chosen := body
		if !holds {
			chosen = otherwise
		}
		if err := s.block(chosen); err != nil {
			return err
		}
		i = next
	}
	return nil
}

// braces returns the lines of an if and of its else, and the line that closes it.
func braces(lines []string, at int) (body, otherwise []string, end int, err error) {
	depth, from, inElse := 1, at+1, false
	for i := at + 1; i < len(lines); i++ {
		switch line := strings.TrimSpace(lines[i]); {
		case line == "} else {" && depth == 1:
			body, from, inElse = lines[from:i], i+1, true
		case line == "}":
			if depth--; depth > 0 {
				continue
			}
			if inElse {
				return body, lines[from:i], i, nil
			}
			return lines[from:i], nil, i, nil
		case ifLine.MatchString(line):
			depth++
		}
	}
	return nil, nil, 0, errors.New("a closing brace is missing")
}

func (s *script1) statement(line string) error {
	files := s.host.Files()
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	if match := inlineIf.FindStringSubmatch(line); match != nil {
		holds, err := s.condition(match[1])
		if err != nil || !holds {
			return err
		}
		return s.statement(match[2])
	}
	if match := assignLine.FindStringSubmatch(line); match != nil {
		value, err := s.value(match[2])
		s.variables[match[1]] = value
		return err
	}
	if match := folderLine.FindStringSubmatch(line); match != nil {
		return s.folder(match[2], match[1] != "")
	}
	if match := forgetLine.FindStringSubmatch(line); match != nil {
		days, _ := strconv.Atoi(match[2])
		s.forget(s.literal(match[1]), time.Duration(days)*24*time.Hour)
		return nil
	}
	if match := programLine.FindStringSubmatch(line); match != nil {
		return s.program(match[1], match[2])
	}
	if match := contentLine.FindStringSubmatch(line); match != nil {
		value, err := s.value(match[2])
		files.Write(s.literal(match[1]), value+"\r\n", s.now)
		return err
	}
	if match := outputLine.FindStringSubmatch(line); match != nil {
		value, err := s.value(match[1])
		s.out.WriteString(value + "\r\n")
		return err
	}
	return fmt.Errorf("this is not understood here: %s", line)
}

func (s *script1) folder(path string, force bool) error {
	path = s.literal(path)
	if _, exists := s.host.Files()[path]; exists && !force {
		return fmt.Errorf("New-Item : an item with the specified name %s already exists", path)
	}
	s.host.Files()[path] = sh.File{Folder: true, Changed: s.now}
	return nil
}

func (s *script1) forget(folder string, age time.Duration) {
	files := s.host.Files()
	for path, file := range files {
		if strings.HasPrefix(path, folder+`\`) && s.now.Sub(file.Changed) > age {
			delete(files, path)
		}
	}
}

// program runs a script file, by itself or with the program that its sort wants; all that it says goes to a file.
func (s *script1) program(command, output string) error {
	var words []string
	for _, word := range argument.FindAllString(command, -1) {
		words = append(words, s.literal(word))
	}
	for len(words) > 0 && (strings.HasSuffix(words[0], "powershell.exe") || strings.HasSuffix(words[0], "cscript.exe") || strings.HasPrefix(words[0], "-") || strings.HasPrefix(words[0], "//")) {
		skip := 1
		if words[0] == "-ExecutionPolicy" {
			skip = 2
		}
		words = words[min(skip, len(words)):]
	}
	if len(words) == 0 {
		return errors.New("a program is wanted")
	}
	result, found := s.host.Program(words[0], words[1:])
	if !found {
		return fmt.Errorf("the term '%s' is not recognized as the name of a program", words[0])
	}
	s.now = s.now.Add(result.Took)
	s.host.Files().Write(s.literal(output), result.Output+result.Errors, s.now)
	s.variables["LASTEXITCODE"] = strconv.Itoa(result.Status)
	return nil
}

func (s *script1) condition(text string) (bool, error) {
	if match := notCondition.FindStringSubmatch(text); match != nil {
		holds, err := s.condition(match[1])
		return !holds, err
	}
	if match := testPath.FindStringSubmatch(text); match != nil {
		file, exists := s.host.Files()[s.literal(match[1])]
		return exists && (match[2] == "" || !file.Folder), nil
	}
	if match := greater.FindStringSubmatch(text); match != nil {
		value, err := s.value(match[1])
		left, _ := strconv.Atoi(value)
		right, _ := strconv.Atoi(match[2])
		return left > right, err
	}
	return false, fmt.Errorf("this condition is not understood here: %s", text)
}

func (s *script1) value(text string) (string, error) {
	if match := getContent.FindStringSubmatch(text); match != nil {
		content, found := s.host.Files().Read(s.literal(match[1]))
		if !found {
			return "", fmt.Errorf("Get-Content : cannot find path %s", s.literal(match[1]))
		}
		if strings.Contains(text, "-TotalCount 1") {
			content, _, _ = strings.Cut(content, "\r\n")
		}
		return content, nil
	}
	if match := lengthOf.FindStringSubmatch(text); match != nil {
		return strconv.Itoa(len(s.variables[match[1]])), nil
	}
	if match := tailOf.FindStringSubmatch(text); match != nil && match[1] == match[2] {
		keep, _ := strconv.Atoi(match[3])
		whole := s.variables[match[1]]
		return whole[max(0, len(whole)-keep):], nil
	}
	if strings.ContainsAny(text, "()|{}") && !strings.HasPrefix(text, "'") && !strings.HasPrefix(text, `"`) {
		return "", fmt.Errorf("this expression is not understood here: %s", text)
	}
	return s.literal(text), nil
}

// literal reads 'text', "text with $variables", $variable or a bare word.
func (s *script1) literal(text string) string {
	switch {
	case strings.HasPrefix(text, "'") && strings.HasSuffix(text, "'") && len(text) > 1:
		return strings.ReplaceAll(text[1:len(text)-1], "''", "'")
	case strings.HasPrefix(text, `"`) && strings.HasSuffix(text, `"`) && len(text) > 1:
		return interpolated.ReplaceAllStringFunc(text[1:len(text)-1], func(name string) string { return s.variables[name[1:]] })
	case strings.HasPrefix(text, "$"):
		return s.variables[text[1:]]
	}
	return text
}
