package graph

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
)

// The tables.
const (
	tableResources  = "resources"
	tableContainers = "resourcecontainers"
)

// row is one line of a table; a missing column is null.
type row map[string]any

// table is what flows through the pipe.
type table struct {
	columns []string
	rows    []row
}

// resolve is called for each path before rows are looked at, so that unknown columns are refused even without rows.
func (t *table) resolve(e expression) error {
	var unknown error
	e.walk(func(p path) {
		if unknown == nil && !slices.Contains(t.columns, p.column) {
			unknown = failAt(p.at, "a column: "+strings.Join(t.columns, ", "))
		}
	})
	return unknown
}

// expression is evaluated for a row. Values are nil, string, float64, bool, []any and map[string]any.
type expression interface {
	value(row) any
	walk(visit func(path))
}

type literal struct{ constant any }

func (l literal) value(row) any   { return l.constant }
func (l literal) walk(func(path)) {}

type member struct {
	name    string
	index   int
	isIndex bool
}

type path struct {
	column string
	parts  []member
	at     token
}

func (p path) walk(visit func(path)) { visit(p) }

func (p path) value(r row) any {
	value := r[p.column]
	for _, part := range p.parts {
		switch inner := value.(type) {
		case map[string]any:
			value = inner[part.name]
		case []any:
			if !part.isIndex || part.index >= len(inner) {
				return nil
			}
			value = inner[part.index]
		default:
			return nil
		}
	}
	return plain(value)
}

// plain turns numbers of any kind into float64.
func plain(value any) any {
	switch v := value.(type) {
	case json.Number:
		number, err := v.Float64()
		if err != nil {
			return string(v)
		}
		return number
	case int:
		return float64(v)
	case int32:
		return float64(v)
	case int64:
		return float64(v)
	}
	return value
}

type call struct {
	name      string
	function  func(any) any
	arguments []expression
}

func (c call) value(r row) any { return c.function(c.arguments[0].value(r)) }
func (c call) walk(visit func(path)) {
	for _, argument := range c.arguments {
		argument.walk(visit)
	}
}

// functions are those of one argument; not() belongs to the grammar.
func functions() map[string]func(any) any {
	return map[string]func(any) any{
		"isnotempty": func(v any) any { return text(v) != "" },
		"isempty":    func(v any) any { return text(v) == "" },
		"isnull":     func(v any) any { return v == nil },
		"isnotnull":  func(v any) any { return v != nil },
		"tostring":   func(v any) any { return text(v) },
		"tolower":    func(v any) any { return strings.ToLower(text(v)) },
		"toupper":    func(v any) any { return strings.ToUpper(text(v)) },
		"toint":      toWhole,
		"tolong":     toWhole,
		"tobool":     toBool,
		"array_length": func(v any) any {
			if list, ok := v.([]any); ok {
				return float64(len(list))
			}
			return nil
		},
	}
}

func functionNames() string {
	return strings.Join(append(slices.Sorted(maps.Keys(functions())), "not"), ", ")
}

func toWhole(v any) any {
	number, err := strconv.ParseFloat(text(v), 64)
	if err != nil {
		return nil
	}
	return float64(int64(number))
}

func toBool(v any) any {
	switch strings.ToLower(text(v)) {
	case "true", "1":
		return true
	case "false", "0":
		return false
	}
	return nil
}

// text is KQL's tostring: null is the empty string, objects and lists are JSON.
func text(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(encoded)
}

type anyOf struct{ operands []expression }

func (a anyOf) walk(visit func(path)) { walkAll(a.operands, visit) }
func (a anyOf) value(r row) any {
	return slices.ContainsFunc(a.operands, func(e expression) bool { return holds(e, r) })
}

type allOf struct{ operands []expression }

func (a allOf) walk(visit func(path)) { walkAll(a.operands, visit) }
func (a allOf) value(r row) any {
	return !slices.ContainsFunc(a.operands, func(e expression) bool { return !holds(e, r) })
}

func walkAll(operands []expression, visit func(path)) {
	for _, operand := range operands {
		operand.walk(visit)
	}
}

type not struct{ operand expression }

func (n not) walk(visit func(path)) { n.operand.walk(visit) }
func (n not) value(r row) any       { return !holds(n.operand, r) }

func holds(e expression, r row) bool {
	truth, _ := e.value(r).(bool)
	return truth
}

type comparison struct {
	operator    string
	left, right expression
}

func (c comparison) walk(visit func(path)) { walkAll([]expression{c.left, c.right}, visit) }

// value compares. Two numbers and two truths compare as such, anything else as text, so that a missing tag differs from
// 'prod' and equals the empty string, as it does in the service.
func (c comparison) value(r row) any {
	left, right := c.left.value(r), c.right.value(r)
	a, b := text(left), text(right)
	switch c.operator {
	case "=~":
		return strings.EqualFold(a, b)
	case "!~":
		return !strings.EqualFold(a, b)
	case "contains":
		return strings.Contains(strings.ToLower(a), strings.ToLower(b))
	case "contains_cs":
		return strings.Contains(a, b)
	case "startswith":
		return strings.HasPrefix(strings.ToLower(a), strings.ToLower(b))
	case "endswith":
		return strings.HasSuffix(strings.ToLower(a), strings.ToLower(b))
	case "has":
		return hasTerm(strings.ToLower(a), strings.ToLower(b))
	case "==":
		return compareValues(left, right) == 0
	case "!=":
		return compareValues(left, right) != 0
	}
	if (left == nil) != (right == nil) {
		return false // null has no order
	}
	order := compareValues(left, right)
	return map[string]bool{"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[c.operator]
}

// hasTerm: term stands in s with no letter or digit around it.
func hasTerm(s, term string) bool {
	boundary := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }
	for start := 0; ; {
		i := strings.Index(s[start:], term)
		if i < 0 {
			return false
		}
		before, after := []rune(s[:start+i]), []rune(s[start+i+len(term):])
		if (len(before) == 0 || boundary(before[len(before)-1])) && (len(after) == 0 || boundary(after[0])) {
			return true
		}
		if start += i + max(1, len(term)); start > len(s) {
			return false
		}
	}
}

func compareValues(a, b any) int {
	x, aIsNumber := a.(float64)
	y, bIsNumber := b.(float64)
	if aIsNumber && bIsNumber {
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	return strings.Compare(text(a), text(b))
}

type where struct{ condition expression }

func (w where) apply(t *table) (*table, error) {
	if err := t.resolve(w.condition); err != nil {
		return nil, err
	}
	kept := t.rows[:0:0]
	for _, r := range t.rows {
		if holds(w.condition, r) {
			kept = append(kept, r)
		}
	}
	return &table{columns: t.columns, rows: kept}, nil
}

type project struct{ columns []named }

func (p project) apply(t *table) (*table, error) {
	result := &table{rows: make([]row, len(t.rows))}
	for i := range result.rows {
		result.rows[i] = row{}
	}
	for _, column := range p.columns {
		if err := t.resolve(column.expr); err != nil {
			return nil, err
		}
		if !slices.Contains(result.columns, column.name) {
			result.columns = append(result.columns, column.name)
		}
		for i, r := range t.rows {
			result.rows[i][column.name] = column.expr.value(r)
		}
	}
	return result, nil
}

type extend struct{ columns []named }

func (e extend) apply(t *table) (*table, error) {
	kept := make([]named, 0, len(t.columns)+len(e.columns))
	for _, column := range t.columns {
		kept = append(kept, named{column, path{column: column}})
	}
	return project{append(kept, e.columns...)}.apply(t)
}

type sortKey struct {
	expr       expression
	descending bool
}

type order struct{ keys []sortKey }

// apply sorts stably; nulls come first ascending and last descending, as in KQL.
func (o order) apply(t *table) (*table, error) {
	for _, key := range o.keys {
		if err := t.resolve(key.expr); err != nil {
			return nil, err
		}
	}
	sorted := slices.Clone(t.rows)
	sort.SliceStable(sorted, func(i, j int) bool {
		for _, key := range o.keys {
			a, b := key.expr.value(sorted[i]), key.expr.value(sorted[j])
			before := compareNullsFirst(a, b)
			if key.descending {
				before = -before
			}
			if before != 0 {
				return before < 0
			}
		}
		return false
	})
	return &table{columns: t.columns, rows: sorted}, nil
}

func compareNullsFirst(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return compareValues(a, b)
}

type limit struct{ count int }

func (l limit) apply(t *table) (*table, error) {
	return &table{columns: t.columns, rows: t.rows[:min(l.count, len(t.rows))]}, nil
}

type summarize struct {
	counted string // name of the column that holds the count
	by      []named
}

// apply counts the rows of each group, in the order in which groups appear. Without groups there is always one row.
func (s summarize) apply(t *table) (*table, error) {
	if len(s.by) == 0 {
		return &table{columns: []string{s.counted}, rows: []row{{s.counted: float64(len(t.rows))}}}, nil
	}
	groups, err := project{s.by}.apply(t)
	if err != nil {
		return nil, err
	}
	result := &table{columns: append(slices.Clone(groups.columns), s.counted)}
	seen := map[string]row{}
	for _, r := range groups.rows {
		key := groups.key(r)
		if seen[key] == nil {
			seen[key] = r
			r[s.counted] = float64(0)
			result.rows = append(result.rows, r)
		}
		count, _ := seen[key][s.counted].(float64)
		seen[key][s.counted] = count + 1
	}
	return result, nil
}

type distinct struct{ columns []named }

func (d distinct) apply(t *table) (*table, error) {
	all, err := project(d).apply(t)
	if err != nil {
		return nil, err
	}
	result := &table{columns: all.columns}
	seen := map[string]bool{}
	for _, r := range all.rows {
		if key := all.key(r); !seen[key] {
			seen[key] = true
			result.rows = append(result.rows, r)
		}
	}
	return result, nil
}

// key tells rows apart by their values.
func (t *table) key(r row) string {
	var key strings.Builder
	for _, column := range t.columns {
		fmt.Fprintf(&key, "%T%q,", r[column], text(r[column]))
	}
	return key.String()
}
