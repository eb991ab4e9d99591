package sh

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// command runs a command by its name.
func (s *shell) command(name string, arguments []string) error {
	s.status = 0
	switch name {
	case ":", "true", "umask", "set", "sync":
	case "false":
		s.status = 1
	case "exit":
		status := 0
		if len(arguments) > 0 {
			status, _ = strconv.Atoi(arguments[0])
		}
		return exit{status & 0xff}
	case "continue":
		return errContinue
	case "sleep":
		seconds, err := strconv.ParseFloat(strings.Join(arguments, ""), 64)
		if err != nil || seconds < 0 {
			s.fail(name, "invalid time interval")
			return nil
		}
		s.now = s.now.Add(time.Duration(seconds * float64(time.Second)))
	case "echo":
		s.say("%s\n", strings.Join(arguments, " "))
	case "printf":
		if len(arguments) != 2 || arguments[0] != `%s\n` && arguments[0] != "%s" {
			s.fail(name, `only '%s' and '%s\n' with one text are known here`)
			return nil
		}
		s.say("%s", strings.Replace(strings.ReplaceAll(arguments[0], `\n`, "\n"), "%s", arguments[1], 1))
	case "date":
		s.say("%d\n", s.now.Unix())
	case "read":
		s.readLine(arguments)
	case "[", "test":
		s.test(name, arguments)
	case "fsfreeze":
		s.fsfreeze(arguments)
	case "sh":
		s.program(arguments)
	default:
		if s.fileCommand(name, arguments) {
			return nil
		}
		if strings.Contains(name, "/") {
			s.program(append([]string{name}, arguments...))
			return nil
		}
		s.complain(name + ": not found")
		s.status = 127
	}
	return nil
}

func (s *shell) fail(name, why string) {
	s.err.WriteString(name + ": " + why + "\n")
	s.status = 1
}

// program runs a script file of the estate.
func (s *shell) program(arguments []string) {
	if len(arguments) == 0 {
		s.fail("sh", "a file is wanted")
		return
	}
	result, found := s.host.Program(arguments[0], arguments[1:])
	if !found {
		s.complain(arguments[0] + ": not found")
		s.status = 127
		return
	}
	s.out.WriteString(result.Output)
	s.err.WriteString(result.Errors)
	s.now, s.status = s.now.Add(result.Took), result.Status
}

func (s *shell) fsfreeze(arguments []string) {
	if len(arguments) != 2 || arguments[0] != "-f" && arguments[0] != "-u" {
		s.fail("fsfreeze", "give -f or -u, and a mount point")
		return
	}
	change := s.host.Freeze
	if arguments[0] == "-u" {
		change = s.host.Thaw
	}
	if err := change(arguments[1]); err != nil {
		s.fail("fsfreeze", arguments[1]+": "+err.Error())
	}
}

// readLine gives the words of the next line to variables, the last of which takes the rest.
func (s *shell) readLine(names []string) {
	var line strings.Builder
	ended := s.in == nil
	for !ended {
		c, err := s.in.ReadByte()
		if err != nil {
			ended = true
			break
		}
		if c == '\n' {
			break
		}
		line.WriteByte(c)
	}
	if ended {
		s.status = 1
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "-r" })
	rest := strings.TrimSpace(line.String())
	for i, name := range names {
		value := rest
		if i < len(names)-1 {
			value, rest, _ = strings.Cut(rest, " ")
			rest = strings.TrimLeft(rest, " \t")
		}
		s.variables[name] = value
	}
}

func (s *shell) test(name string, arguments []string) {
	if name == "[" {
		if len(arguments) == 0 || arguments[len(arguments)-1] != "]" {
			s.fail("[", "missing ]")
			s.status = 2
			return
		}
		arguments = arguments[:len(arguments)-1]
	}
	negated := len(arguments) > 1 && arguments[0] == "!"
	if negated {
		arguments = arguments[1:]
	}
	holds, known := s.condition(arguments)
	switch {
	case !known:
		s.fail(name, "this condition is not understood: "+strings.Join(arguments, " "))
		s.status = 2
	case holds == negated:
		s.status = 1
	}
}

func (s *shell) condition(arguments []string) (holds, known bool) {
	switch len(arguments) {
	case 1:
		return arguments[0] != "", true
	case 2:
		return s.unary(arguments[0], arguments[1])
	case 3:
		a, b := arguments[0], arguments[2]
		left, _ := strconv.Atoi(a)
		right, _ := strconv.Atoi(b)
		switch arguments[1] {
		case "=":
			return a == b, true
		case "!=":
			return a != b, true
		case "-eq":
			return left == right, true
		case "-ne":
			return left != right, true
		case "-gt":
			return left > right, true
		case "-ge":
			return left >= right, true
		case "-lt":
			return left < right, true
		case "-le":
			return left <= right, true
		}
	}
	return false, false
}

func (s *shell) unary(operator, operand string) (holds, known bool) {
	_, isProgram := s.host.Files()[operand]
	entry := s.host.Files()[operand]
	switch operator {
	case "-n":
		return operand != "", true
	case "-z":
		return operand == "", true
	case "-e":
		return isProgram, true
	case "-d":
		return entry.Folder, true
	case "-f", "-r":
		return isProgram && !entry.Folder, true
	case "-x":
		return entry.Program || entry.Folder, true
	case "-s":
		return entry.Text != "" || entry.Program, true
	}
	return false, false
}

// fileCommand runs what works on files in memory.
func (s *shell) fileCommand(name string, arguments []string) bool {
	files := s.host.Files()
	switch name {
	case "mkdir":
		s.mkdir(arguments)
	case "cat":
		for _, path := range arguments {
			text, found := s.read(path)
			if !found {
				s.fail("cat", path+": No such file or directory")
				continue
			}
			s.out.WriteString(text)
		}
	case "rm":
		for _, path := range arguments {
			if !strings.HasPrefix(path, "-") {
				files.Remove(path)
			}
		}
	case "mv":
		if len(arguments) == 2 {
			files[arguments[1]] = files[arguments[0]]
			delete(files, arguments[0])
		}
	case "tail", "wc":
		s.measure(name, arguments)
	case "find":
		s.find(arguments)
	default:
		return false
	}
	return true
}

func (s *shell) mkdir(arguments []string) {
	parents := len(arguments) > 0 && arguments[0] == "-p"
	for _, path := range arguments {
		if strings.HasPrefix(path, "-") {
			continue
		}
		files := s.host.Files()
		if _, exists := files[path]; exists && !parents {
			s.fail("mkdir", "cannot create directory '"+path+"': File exists")
			continue
		}
		if parent := path[:max(0, strings.LastIndex(path, "/"))]; !parents && parent != "" && !files[parent].Folder {
			s.fail("mkdir", "cannot create directory '"+path+"': No such file or directory")
			continue
		}
		if _, exists := files[path]; !exists {
			files[path] = File{Folder: true, Changed: s.now}
		}
	}
}

// measure is `tail -c N [FILE]` and `wc -c [<FILE]`.
func (s *shell) measure(name string, arguments []string) {
	if len(arguments) == 0 || arguments[0] != "-c" {
		s.fail(name, "only -c is known here")
		return
	}
	rest := arguments[1:]
	count := 0
	if name == "tail" && len(rest) > 0 {
		count, _ = strconv.Atoi(rest[0])
		rest = rest[1:]
	}
	text := ""
	if len(rest) > 0 {
		found := false
		if text, found = s.read(rest[0]); !found {
			s.fail(name, rest[0]+": No such file or directory")
			return
		}
	} else if s.in != nil {
		var all strings.Builder
		_, _ = s.in.WriteTo(&all)
		text = all.String()
	}
	if name == "wc" {
		s.say("%d\n", len(text))
		return
	}
	s.out.WriteString(text[max(0, len(text)-count):])
}

// find is `find FOLDER -mindepth 1 -maxdepth 1 -mmin +N -exec rm -rf {} +`: it forgets what is old.
func (s *shell) find(arguments []string) {
	at := slices.Index(arguments, "-mmin")
	if len(arguments) < 2 || at < 0 || !strings.HasSuffix(strings.Join(arguments, " "), "-exec rm -rf {} +") {
		s.fail("find", "only the removal of what is old is known here")
		return
	}
	minutes, _ := strconv.Atoi(strings.TrimPrefix(arguments[at+1], "+"))
	files, prefix := s.host.Files(), arguments[0]+"/"
	for _, path := range slices.Sorted(maps.Keys(files)) {
		below, inside := strings.CutPrefix(path, prefix)
		if inside && !strings.Contains(below, "/") && s.now.Sub(files[path].Changed) > time.Duration(minutes)*time.Minute {
			files.Remove(path)
		}
	}
}
