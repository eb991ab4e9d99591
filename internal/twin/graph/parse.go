package graph

import (
	"strconv"
	"strings"
)

const (
	queryBytesMax = 32 << 10 // the longest query that is looked at; inventory queries have a few hundred bytes
	depthMax      = 100      // nesting of an expression, so that a query cannot exhaust the stack
	stepsMax      = 100      // operators in one query
)

// query is a parsed query: a table and the steps that its rows go through.
type query struct {
	table string // lower-cased
	steps []step
}

// step is one operator of the pipe.
type step interface {
	apply(*table) (*table, error)
}

// named is an expression with the name of the column it makes.
type named struct {
	name string
	expr expression
}

type parser struct {
	tokens []token
	depth  int
}

// parse understands a query or says where it stopped to.
func parse(text string) (*query, error) {
	if len(text) > queryBytesMax {
		return nil, &SyntaxError{Line: 1, Column: 1, Expected: "a query of at most " + strconv.Itoa(queryBytesMax) + " bytes"}
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	return q, nil
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) take() token {
	t := p.tokens[0]
	if t.kind != tokenEnd {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *parser) fail(expected string) error { return failAt(p.peek(), expected) }

func failAt(t token, expected string) error {
	return &SyntaxError{Line: t.line, Column: t.column, Token: t.value, Expected: expected}
}

// acceptSign takes the sign if it stands next.
func (p *parser) acceptSign(sign string) bool {
	if t := p.peek(); t.kind == tokenSign && t.value == sign {
		p.take()
		return true
	}
	return false
}

// acceptWord takes the keyword if it stands next; keywords are lower-case in KQL.
func (p *parser) acceptWord(word string) bool {
	if t := p.peek(); t.kind == tokenName && t.value == word {
		p.take()
		return true
	}
	return false
}

func (p *parser) expectSign(sign string) error {
	if !p.acceptSign(sign) {
		return p.fail("'" + sign + "'")
	}
	return nil
}

func (p *parser) name(expected string) (string, error) {
	if p.peek().kind != tokenName {
		return "", p.fail(expected)
	}
	return p.take().value, nil
}

func (p *parser) query() (*query, error) {
	at := p.peek()
	table, err := p.name("a table: resources or resourcecontainers")
	if err != nil {
		return nil, err
	}
	q := &query{table: strings.ToLower(table)}
	if q.table != tableResources && q.table != tableContainers {
		return nil, failAt(at, "a table: resources or resourcecontainers")
	}
	for p.acceptSign("|") {
		if len(q.steps) == stepsMax {
			return nil, p.fail("at most " + strconv.Itoa(stepsMax) + " operators")
		}
		next, err := p.step()
		if err != nil {
			return nil, err
		}
		q.steps = append(q.steps, next)
	}
	p.acceptSign(";")
	if p.peek().kind != tokenEnd {
		return nil, p.fail("'|' or the end of the query")
	}
	return q, nil
}

const operatorNames = "an operator: where, project, extend, order by, sort by, limit, take, summarize, count, distinct"

func (p *parser) step() (step, error) {
	at := p.peek()
	operator, err := p.name(operatorNames)
	if err != nil {
		return nil, err
	}
	switch operator {
	case "where":
		condition, err := p.expression()
		return where{condition}, err
	case "project":
		columns, err := p.namedList()
		return project{columns}, err
	case "extend":
		columns, err := p.namedList()
		return extend{columns}, err
	case "order", "sort":
		return p.order()
	case "limit", "take":
		return p.limit()
	case "summarize":
		return p.summarize()
	case "count":
		return summarize{counted: "Count"}, nil
	case "distinct":
		return p.distinct()
	}
	return nil, failAt(at, operatorNames)
}

// namedList reads expressions separated by commas, each maybe with "name =" before it.
func (p *parser) namedList() ([]named, error) {
	var list []named
	for {
		column, err := p.named(len(list))
		if err != nil {
			return nil, err
		}
		list = append(list, column)
		if !p.acceptSign(",") {
			return list, nil
		}
	}
}

func (p *parser) named(index int) (named, error) {
	if p.peek().kind == tokenName && p.tokens[1].kind == tokenSign && p.tokens[1].value == "=" {
		name := p.take().value
		p.take()
		expr, err := p.expression()
		return named{name, expr}, err
	}
	expr, err := p.expression()
	if err != nil {
		return named{}, err
	}
	return named{autoName(expr, index), expr}, nil
}

// autoName is what the service calls a column without a given name: a path's parts joined by '_', a function's first
// argument, or ColumnN.
func autoName(expr expression, index int) string {
	switch e := expr.(type) {
	case path:
		parts := []string{e.column}
		for _, part := range e.parts {
			parts = append(parts, part.name)
		}
		return strings.Join(parts, "_")
	case call:
		if len(e.arguments) == 1 {
			return autoName(e.arguments[0], index)
		}
	}
	return "Column" + strconv.Itoa(index+1)
}

func (p *parser) order() (step, error) {
	if !p.acceptWord("by") {
		return nil, p.fail("'by'")
	}
	var keys []sortKey
	for {
		expr, err := p.expression()
		if err != nil {
			return nil, err
		}
		key := sortKey{expr: expr, descending: true} // KQL's default
		if p.acceptWord("asc") {
			key.descending = false
		} else {
			p.acceptWord("desc")
		}
		keys = append(keys, key)
		if !p.acceptSign(",") {
			return order{keys}, nil
		}
	}
}

func (p *parser) limit() (step, error) {
	t := p.peek()
	count, err := strconv.Atoi(t.value)
	if t.kind != tokenNumber || err != nil {
		return nil, p.fail("a whole number")
	}
	p.take()
	return limit{count}, nil
}

// summarize reads "[name =] count() [by columns]".
func (p *parser) summarize() (step, error) {
	s := summarize{counted: "count_"}
	if p.peek().kind == tokenName && p.tokens[1].value == "=" {
		s.counted = p.take().value
		p.take()
	}
	if !p.acceptWord("count") {
		return nil, p.fail("the aggregate count()")
	}
	if err := p.expectSign("("); err != nil {
		return nil, err
	}
	if err := p.expectSign(")"); err != nil {
		return nil, err
	}
	if !p.acceptWord("by") {
		return s, nil
	}
	var err error
	s.by, err = p.namedList()
	return s, err
}

func (p *parser) distinct() (step, error) {
	columns, err := p.namedList()
	return distinct{columns}, err
}

// nested guards a recursion of the grammar.
func (p *parser) nested(parse func() (expression, error)) (expression, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > depthMax {
		return nil, p.fail("an expression nested less than " + strconv.Itoa(depthMax) + " levels deep")
	}
	return parse()
}

func (p *parser) expression() (expression, error) { return p.nested(p.or) }

func (p *parser) or() (expression, error) {
	operands, err := p.chain("or", p.and)
	if err != nil || len(operands) == 1 {
		return first(operands), err
	}
	return anyOf{operands}, nil
}

func (p *parser) and() (expression, error) {
	operands, err := p.chain("and", p.comparison)
	if err != nil || len(operands) == 1 {
		return first(operands), err
	}
	return allOf{operands}, nil
}

func first(operands []expression) expression {
	if len(operands) == 0 {
		return nil
	}
	return operands[0]
}

func (p *parser) chain(word string, operand func() (expression, error)) ([]expression, error) {
	var operands []expression
	for {
		next, err := operand()
		if err != nil {
			return nil, err
		}
		operands = append(operands, next)
		if !p.acceptWord(word) {
			return operands, nil
		}
	}
}

func (p *parser) comparison() (expression, error) {
	left, err := p.primary()
	if err != nil {
		return nil, err
	}
	operator := p.operator()
	if operator == "" {
		return left, nil
	}
	if list, ok := strings.CutPrefix(operator, "!"); ok && isComparisonWord(list) {
		inner, err := p.compare(left, list)
		return not{inner}, err
	}
	return p.compare(left, operator)
}

// compare reads the right side of operator.
func (p *parser) compare(left expression, operator string) (expression, error) {
	if operator != "in" && operator != "in~" {
		right, err := p.primary()
		return comparison{operator, left, right}, err
	}
	if err := p.expectSign("("); err != nil {
		return nil, err
	}
	var choices []expression
	for {
		choice, err := p.primary()
		if err != nil {
			return nil, err
		}
		choices = append(choices, comparison{map[string]string{"in": "==", "in~": "=~"}[operator], left, choice})
		if !p.acceptSign(",") {
			return anyOf{choices}, p.expectSign(")")
		}
	}
}

func isComparisonWord(word string) bool {
	switch word {
	case "in", "in~", "contains", "contains_cs", "startswith", "endswith", "has":
		return true
	}
	return false
}

// operator takes a comparison operator, such as ==, in~ or !contains, or returns "".
func (p *parser) operator() string {
	t := p.peek()
	if t.kind == tokenSign {
		switch t.value {
		case "==", "=~", "!=", "!~", "<", ">", "<=", ">=":
			return p.take().value
		case "!":
			if next := p.tokens[1]; next.kind == tokenName && isComparisonWord(next.value) {
				p.take()
				return "!" + p.word()
			}
		}
		return ""
	}
	if t.kind == tokenName && isComparisonWord(t.value) {
		return p.word()
	}
	return ""
}

// word takes a comparison word with the ~ that may follow "in".
func (p *parser) word() string {
	word := p.take().value
	if word == "in" && p.acceptSign("~") {
		return "in~"
	}
	return word
}

func (p *parser) primary() (expression, error) {
	t := p.peek()
	switch {
	case t.kind == tokenText:
		p.take()
		return literal{t.value}, nil
	case t.kind == tokenNumber:
		p.take()
		return number(t, 1)
	case t.kind == tokenSign && t.value == "-" && p.tokens[1].kind == tokenNumber:
		p.take()
		return number(p.take(), -1)
	case t.kind == tokenSign && t.value == "(":
		p.take()
		inner, err := p.expression()
		if err != nil {
			return nil, err
		}
		return inner, p.expectSign(")")
	case t.kind == tokenName && (t.value == "true" || t.value == "false"):
		p.take()
		return literal{t.value == "true"}, nil
	case t.kind == tokenName && p.tokens[1].kind == tokenSign && p.tokens[1].value == "(":
		return p.call()
	case t.kind == tokenName:
		return p.path()
	}
	return nil, p.fail("a column, a literal, a function or '('")
}

func number(t token, sign float64) (expression, error) {
	value, err := strconv.ParseFloat(t.value, 64)
	if err != nil {
		return nil, failAt(t, "a number")
	}
	return literal{sign * value}, nil
}

func (p *parser) call() (expression, error) {
	at := p.take()
	p.take()
	if at.value == "not" {
		inner, err := p.expression()
		if err != nil {
			return nil, err
		}
		return not{inner}, p.expectSign(")")
	}
	function, known := functions()[at.value]
	if !known {
		return nil, failAt(at, "a function: "+functionNames())
	}
	argument, err := p.expression()
	if err != nil {
		return nil, err
	}
	return call{at.value, function, []expression{argument}}, p.expectSign(")")
}

// path reads column, column.member, column['member'] and column[0], mixed.
func (p *parser) path() (expression, error) {
	result := path{column: p.peek().value, at: p.take()}
	for {
		switch {
		case p.acceptSign("."):
			name, err := p.name("the name of a member")
			if err != nil {
				return nil, err
			}
			result.parts = append(result.parts, member{name: name})
		case p.acceptSign("["):
			t := p.take()
			part := member{name: t.value}
			index, err := strconv.Atoi(t.value)
			if t.kind == tokenNumber && err == nil {
				part.index, part.isIndex = index, true
			} else if t.kind != tokenText {
				return nil, failAt(t, "the name of a member in quotes, or an index")
			}
			if err := p.expectSign("]"); err != nil {
				return nil, err
			}
			result.parts = append(result.parts, part)
		default:
			return result, nil
		}
	}
}
