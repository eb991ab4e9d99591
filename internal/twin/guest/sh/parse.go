package sh

import (
	"errors"
	"fmt"
	"strings"
)

// part is a piece of a word.
type part struct {
	kind   partKind
	text   string // the literal, the name of the variable, or the command's source
	quoted bool   // not split into fields, and no pattern
}

type partKind int

const (
	literal partKind = iota
	variable
	substitution
)

type word []part

// redirect is where a stream of a command goes to, or comes from.
type redirect struct {
	operator string // >, >>, <, 2>, 2>>, 2>&1
	target   word
}

// node is a command. Exactly one of its forms is set.
type node struct {
	start, end int // in the source
	assign     []assignment
	words      []word
	redirects  []redirect
	negated    bool
	background bool

	subshell []*node  // ( … )
	branches []branch // if and elif
	otherway []*node  // else
	loop     []*node  // while: the condition
	body     []*node  // while, for
	name     string   // for: the variable
	values   []word   // for
	subject  word     // case
	arms     []arm    // case
	list     []*node  // && and ||: two nodes
	operator string   // && or ||
	kind     nodeKind
}

type nodeKind int

const (
	simple nodeKind = iota
	subshell
	ifElse
	whileLoop
	forLoop
	caseOf
	logical
)

type assignment struct {
	name  string
	value word
}

type branch struct{ condition, body []*node }

type arm struct {
	patterns []word
	body     []*node
}

// token is a word or an operator.
type token struct {
	operator string // "" for a word
	word     word
	start    int
	end      int
}

// plain returns the text of a word without quotes and expansions; other words are no keywords.
func (t token) plain() string {
	if t.operator != "" || len(t.word) != 1 || t.word[0].kind != literal || t.word[0].quoted {
		return ""
	}
	return t.word[0].text
}

type parser struct {
	source string
	tokens []token
	at     int
}

// parse reads a whole script. What it does not understand is an error that names the place.
func parse(source string) ([]*node, error) {
	if strings.Count(source, "(") > parensMax {
		return nil, errors.New("the script is too deep")
	}
	tokens, err := scan(source)
	if err != nil {
		return nil, err
	}
	p := &parser{source: source, tokens: tokens}
	list, err := p.list()
	if err == nil && p.at < len(p.tokens) {
		err = p.unexpected()
	}
	return list, err
}

func (p *parser) peek() token {
	if p.at >= len(p.tokens) {
		return token{operator: "end", start: len(p.source), end: len(p.source)}
	}
	return p.tokens[p.at]
}

func (p *parser) unexpected() error {
	t := p.peek()
	what := t.operator
	if what == "" {
		what = p.source[t.start:t.end]
	}
	return fmt.Errorf("line %d: %q is not understood here", 1+strings.Count(p.source[:t.start], "\n"), what)
}

func (p *parser) expect(keyword string) error {
	if p.peek().plain() != keyword && p.peek().operator != keyword {
		return p.unexpected()
	}
	p.at++
	return nil
}

func (p *parser) separators() {
	for p.peek().operator == "\n" || p.peek().operator == ";" {
		p.at++
	}
}

// closers end a list.
func (t token) closes() bool {
	switch t.operator {
	case ")", ";;", "end":
		return true
	}
	switch t.plain() {
	case "then", "elif", "else", "fi", "do", "done", "esac":
		return true
	}
	return false
}

func (p *parser) list() ([]*node, error) {
	var list []*node
	for p.separators(); !p.peek().closes(); p.separators() {
		n, err := p.andOr()
		if err != nil {
			return nil, err
		}
		list = append(list, n)
		switch p.peek().operator {
		case "&":
			n.background = true
			p.at++
		case ";", "\n", ")", ";;", "end":
		default:
			return nil, p.unexpected()
		}
	}
	return list, nil
}

func (p *parser) andOr() (*node, error) {
	left, err := p.command()
	for err == nil && (p.peek().operator == "&&" || p.peek().operator == "||") {
		operator := p.peek().operator
		p.at++
		for p.peek().operator == "\n" {
			p.at++
		}
		var right *node
		if right, err = p.command(); err == nil {
			left = &node{kind: logical, operator: operator, list: []*node{left, right}, start: left.start, end: right.end}
		}
	}
	return left, err
}

func (p *parser) command() (*node, error) {
	negated := p.peek().plain() == "!"
	if negated {
		p.at++
	}
	n := &node{start: p.peek().start, negated: negated}
	var err error
	switch t := p.peek(); {
	case t.operator == "(":
		n.kind = subshell
		p.at++
		if n.subshell, err = p.list(); err == nil {
			err = p.expect(")")
		}
	case t.plain() == "if":
		err = p.ifElse(n)
	case t.plain() == "while":
		err = p.whileLoop(n)
	case t.plain() == "for":
		err = p.forLoop(n)
	case t.plain() == "case":
		err = p.caseOf(n)
	case t.operator == "" && !t.closes():
		return n, p.simple(n)
	default:
		err = p.unexpected()
	}
	if err != nil {
		return nil, err
	}
	n.end = p.tokens[p.at-1].end
	for p.isRedirect() {
		if err := p.redirect(n); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (p *parser) ifElse(n *node) (err error) {
	n.kind = ifElse
	for p.peek().plain() == "if" || p.peek().plain() == "elif" {
		p.at++
		var b branch
		if b.condition, err = p.list(); err != nil {
			return err
		}
		if err = p.expect("then"); err != nil {
			return err
		}
		if b.body, err = p.list(); err != nil {
			return err
		}
		n.branches = append(n.branches, b)
	}
	if p.peek().plain() == "else" {
		p.at++
		if n.otherway, err = p.list(); err != nil {
			return err
		}
	}
	return p.expect("fi")
}

func (p *parser) whileLoop(n *node) (err error) {
	n.kind = whileLoop
	p.at++
	if n.loop, err = p.list(); err != nil {
		return err
	}
	return p.doDone(n)
}

func (p *parser) doDone(n *node) (err error) {
	if err = p.expect("do"); err != nil {
		return err
	}
	if n.body, err = p.list(); err != nil {
		return err
	}
	return p.expect("done")
}

func (p *parser) forLoop(n *node) error {
	n.kind = forLoop
	p.at++
	n.name = p.peek().plain()
	if n.name == "" {
		return p.unexpected()
	}
	p.at++
	if err := p.expect("in"); err != nil {
		return err
	}
	for p.peek().operator == "" {
		n.values = append(n.values, p.peek().word)
		p.at++
	}
	p.separators()
	return p.doDone(n)
}

func (p *parser) caseOf(n *node) error {
	n.kind = caseOf
	p.at++
	if p.peek().operator != "" {
		return p.unexpected()
	}
	n.subject = p.peek().word
	p.at++
	if err := p.expect("in"); err != nil {
		return err
	}
	for p.separators(); p.peek().plain() != "esac"; p.separators() {
		var a arm
		for p.peek().operator == "" {
			a.patterns = append(a.patterns, p.peek().word)
			p.at++
			if p.peek().operator != "|" {
				break
			}
			p.at++
		}
		if err := p.expect(")"); err != nil {
			return err
		}
		body, err := p.list()
		if err != nil {
			return err
		}
		a.body = body
		n.arms = append(n.arms, a)
		if p.peek().operator == ";;" {
			p.at++
		}
	}
	return p.expect("esac")
}

func (p *parser) isRedirect() bool {
	switch p.peek().operator {
	case ">", ">>", "<", "2>", "2>>", "2>&1":
		return true
	}
	return false
}

func (p *parser) redirect(n *node) error {
	r := redirect{operator: p.peek().operator}
	p.at++
	if r.operator != "2>&1" {
		if p.peek().operator != "" {
			return p.unexpected()
		}
		r.target = p.peek().word
		p.at++
	}
	n.redirects = append(n.redirects, r)
	return nil
}

func (p *parser) simple(n *node) error {
	for {
		switch t := p.peek(); {
		case p.isRedirect():
			if err := p.redirect(n); err != nil {
				return err
			}
		case t.operator != "":
			n.end = p.tokens[p.at-1].end
			return nil
		default:
			name, value, isAssignment := assigned(t.word)
			if isAssignment && len(n.words) == 0 {
				n.assign = append(n.assign, assignment{name, value})
			} else {
				n.words = append(n.words, t.word)
			}
			p.at++
		}
	}
}

// assigned splits NAME=VALUE.
func assigned(w word) (string, word, bool) {
	if len(w) == 0 || w[0].kind != literal || w[0].quoted {
		return "", nil, false
	}
	name, rest, found := strings.Cut(w[0].text, "=")
	if !found || !isName(name) {
		return "", nil, false
	}
	value := append(word{{kind: literal, text: rest, quoted: true}}, w[1:]...)
	return name, value, true
}

func isName(text string) bool {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return text != ""
}
