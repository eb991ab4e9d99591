package sh

import (
	"fmt"
	"strings"
)

// operators are tried in this order, so that a longer one comes before its beginning.
var operators = []string{"2>&1", "2>>", "2>", "&&", "||", ";;", ">>", ">", "<", "&", "|", ";", "(", ")", "\n"}

type scanner struct {
	source string
	at     int
}

// scan cuts a script into tokens.
func scan(source string) ([]token, error) {
	s := &scanner{source: source}
	var tokens []token
	for {
		s.space()
		if s.at >= len(source) {
			return tokens, nil
		}
		start := s.at
		if operator := s.operator(); operator != "" {
			if operator == "|" && !strings.Contains(source, "case") {
				return nil, s.failed("a pipe")
			}
			tokens = append(tokens, token{operator: operator, start: start, end: s.at})
			continue
		}
		w, err := s.word()
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token{word: w, start: start, end: s.at})
	}
}

func (s *scanner) failed(what string) error {
	return fmt.Errorf("line %d: %s is not understood", 1+strings.Count(s.source[:min(s.at, len(s.source))], "\n"), what)
}

// space passes over blanks, comments and continued lines.
func (s *scanner) space() {
	for s.at < len(s.source) {
		switch c := s.source[s.at]; {
		case c == ' ' || c == '\t' || c == '\r':
			s.at++
		case c == '\\' && strings.HasPrefix(s.source[s.at:], "\\\n"):
			s.at += 2
		case c == '#':
			for s.at < len(s.source) && s.source[s.at] != '\n' {
				s.at++
			}
		default:
			return
		}
	}
}

func (s *scanner) operator() string {
	for _, operator := range operators {
		if strings.HasPrefix(s.source[s.at:], operator) {
			s.at += len(operator)
			return operator
		}
	}
	return ""
}

// word reads quotes and expansions up to a blank or an operator.
func (s *scanner) word() (word, error) {
	var w word
	add := func(p part) { w = append(w, p) }
	for s.at < len(s.source) {
		switch c := s.source[s.at]; c {
		case ' ', '\t', '\r', '\n', ';', '&', '|', '(', ')', '<', '>':
			return w, nil
		case '\'':
			end := strings.IndexByte(s.source[s.at+1:], '\'')
			if end < 0 {
				return nil, s.failed("a quote without an end")
			}
			add(part{literal, s.source[s.at+1 : s.at+1+end], true})
			s.at += end + 2
		case '"':
			if err := s.quoted(add); err != nil {
				return nil, err
			}
		case '$':
			if err := s.expansion(add, false); err != nil {
				return nil, err
			}
		case '`':
			return nil, s.failed("a backquote")
		case '\\':
			if s.at+1 < len(s.source) {
				add(part{literal, s.source[s.at+1 : s.at+2], true})
			}
			s.at += 2
		default:
			start := s.at
			for s.at < len(s.source) && !strings.ContainsRune(" \t\r\n;&|()<>'\"$`\\", rune(s.source[s.at])) {
				s.at++
			}
			add(part{literal, s.source[start:s.at], false})
		}
	}
	return w, nil
}

func (s *scanner) quoted(add func(part)) error {
	s.at++
	var text strings.Builder
	flush := func() {
		add(part{literal, text.String(), true})
		text.Reset()
	}
	for s.at < len(s.source) {
		switch c := s.source[s.at]; c {
		case '"':
			s.at++
			flush()
			return nil
		case '\\':
			next := s.source[min(s.at+1, len(s.source)-1)]
			if !strings.ContainsRune("$`\"\\", rune(next)) {
				text.WriteByte(c)
			}
			text.WriteByte(next)
			s.at += 2
		case '$':
			flush()
			if err := s.expansion(add, true); err != nil {
				return err
			}
		default:
			text.WriteByte(c)
			s.at++
		}
	}
	return s.failed("a quote without an end")
}

// expansion reads $NAME, ${NAME}, $?, $1 and $(…).
func (s *scanner) expansion(add func(part), quoted bool) error {
	rest := s.source[s.at+1:]
	switch {
	case strings.HasPrefix(rest, "(("):
		return s.failed("arithmetic")
	case strings.HasPrefix(rest, "("):
		length := closing(rest)
		if length < 0 {
			return s.failed("a substitution without an end")
		}
		add(part{substitution, rest[1:length], quoted})
		s.at += length + 2
		return nil
	case strings.HasPrefix(rest, "{"):
		end := strings.IndexByte(rest, '}')
		if end < 0 || !isName(rest[1:end]) {
			return s.failed("an expansion other than ${NAME}")
		}
		add(part{variable, rest[1:end], quoted})
		s.at += end + 2
		return nil
	case rest != "" && (rest[0] == '?' || rest[0] >= '0' && rest[0] <= '9'):
		add(part{variable, rest[:1], quoted})
		s.at += 2
		return nil
	}
	length := 0
	for length < len(rest) && isName(rest[:length+1]) {
		length++
	}
	if length == 0 {
		return s.failed("this use of $")
	}
	add(part{variable, rest[:length], quoted})
	s.at += length + 1
	return nil
}

// closing finds the parenthesis that ends a substitution. Parentheses in quotes inside of it are not told apart.
func closing(text string) int {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}
