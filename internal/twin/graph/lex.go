package graph

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenText   // a string literal; value is its content
	tokenNumber // a number literal
	tokenSign   // punctuation and operators such as | == =~ !in~
)

type token struct {
	kind         tokenKind
	value        string
	line, column int // both from 1; the service counts columns from 0 in its answers
}

// SyntaxError says where a query could not be understood.
type SyntaxError struct {
	Line, Column int    // from 1
	Token        string // what stands there; empty at the end of the query
	Expected     string // what would have been accepted
}

// Error names place, token and what is accepted.
func (e *SyntaxError) Error() string {
	found := "the end of the query"
	if e.Token != "" {
		found = fmt.Sprintf("%q", e.Token)
	}
	return fmt.Sprintf("line %d, column %d: found %s, expected %s", e.Line, e.Column, found, e.Expected)
}

// signs are tried in this order, so that longer ones come before their beginnings.
func signs() []string {
	return []string{"==", "=~", "!=", "!~", "<=", ">=", "<", ">", "=", "|", "(", ")", "[", "]", ",", ".", "!", ";", "-", "+", "*", "/", "{", "}", ":", "~"}
}

// lex cuts a query into tokens; the last one is always tokenEnd.
func lex(query string) ([]token, error) {
	l := lexer{rest: query, line: 1, column: 1}
	var tokens []token
	for {
		l.skipBlank()
		next, err := l.next()
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, next)
		if next.kind == tokenEnd {
			return tokens, nil
		}
	}
}

type lexer struct {
	rest         string
	line, column int
}

// advance takes n bytes.
func (l *lexer) advance(n int) string {
	taken := l.rest[:n]
	l.rest = l.rest[n:]
	for _, c := range taken {
		l.column++
		if c == '\n' {
			l.line, l.column = l.line+1, 1
		}
	}
	return taken
}

func (l *lexer) skipBlank() {
	for {
		trimmed := strings.TrimLeftFunc(l.rest, unicode.IsSpace)
		l.advance(len(l.rest) - len(trimmed))
		if !strings.HasPrefix(l.rest, "//") {
			return
		}
		end := strings.IndexByte(l.rest, '\n')
		if end < 0 {
			end = len(l.rest)
		}
		l.advance(end)
	}
}

func (l *lexer) next() (token, error) {
	t := token{line: l.line, column: l.column}
	if l.rest == "" {
		return t, nil
	}
	first, _ := utf8.DecodeRuneInString(l.rest)
	switch {
	case first == '\'' || first == '"' || strings.HasPrefix(l.rest, "@'") || strings.HasPrefix(l.rest, `@"`):
		return l.text(t)
	case isNameStart(first):
		t.kind, t.value = tokenName, l.advance(l.run(isNamePart))
		return t, nil
	case first >= '0' && first <= '9':
		t.kind, t.value = tokenNumber, l.advance(l.number())
		return t, nil
	}
	for _, sign := range signs() {
		if strings.HasPrefix(l.rest, sign) {
			t.kind, t.value = tokenSign, l.advance(len(sign))
			return t, nil
		}
	}
	return t, &SyntaxError{Line: t.line, Column: t.column, Token: string(first), Expected: "a name, a literal or an operator"}
}

// number counts the bytes of a number: digits with at most one point that digits follow.
func (l *lexer) number() int {
	digit := func(c rune) bool { return c >= '0' && c <= '9' }
	n := l.run(digit)
	if n+1 < len(l.rest) && l.rest[n] == '.' && digit(rune(l.rest[n+1])) {
		after := lexer{rest: l.rest[n+1:]}
		n += 1 + after.run(digit)
	}
	return n
}

// run counts the bytes of the longest beginning made of accepted characters.
func (l *lexer) run(accepted func(rune) bool) int {
	for i, c := range l.rest {
		if !accepted(c) {
			return i
		}
	}
	return len(l.rest)
}

func isNameStart(c rune) bool { return c == '_' || unicode.IsLetter(c) }
func isNamePart(c rune) bool  { return isNameStart(c) || unicode.IsDigit(c) }

// text reads a string literal: '…' or "…" with backslash escapes, or @'…' in which the quote is doubled.
func (l *lexer) text(t token) (token, error) {
	t.kind = tokenText
	verbatim := l.rest[0] == '@'
	if verbatim {
		l.advance(1)
	}
	quote := l.rest[0]
	l.advance(1)
	var content strings.Builder
	for l.rest != "" && l.rest[0] != '\n' {
		c := l.rest[0]
		switch {
		case c == quote && verbatim && len(l.rest) > 1 && l.rest[1] == quote:
			content.WriteByte(quote)
			l.advance(2)
		case c == quote:
			l.advance(1)
			t.value = content.String()
			return t, nil
		case c == '\\' && !verbatim && len(l.rest) > 1:
			content.WriteString(unescape(l.rest[1]))
			l.advance(2)
		default:
			_, size := utf8.DecodeRuneInString(l.rest)
			content.WriteString(l.advance(size))
		}
	}
	return t, &SyntaxError{Line: l.line, Column: l.column, Expected: "the closing quote of a string"}
}

func unescape(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case 'r':
		return "\r"
	}
	return string(rune(c))
}
