package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast"
)

// lineWidth is how far a mapping or list may reach on one line before it gets a line for each of its parts.
const lineWidth = 120

// Encode writes the struct that value points to in the one form that Decode reads back to an equal value. Fields are
// written in their order; those that are zero and not required are left out, so that a pointer stands where zero means
// something. Short parts stand on one line. The error has KindInvalid: a text is not UTF-8, and YAML knows no other.
func Encode(value any) ([]byte, error) {
	n, err := nodeOf(reflect.ValueOf(value).Elem())
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for _, pair := range n.pairs {
		pair.write(&b, 0)
	}
	return []byte(b.String()), nil
}

// node is a value on its way to the page: a scalar's text, a list or a mapping.
type node struct {
	text  string
	items []node
	pairs []pair
	kind  reflect.Kind // Slice, Map, or String for every scalar
}

type pair struct {
	key   string
	value node
}

func nodeOf(value reflect.Value) (node, error) {
	if value.Kind() == reflect.Pointer {
		return nodeOf(value.Elem())
	}
	if writer, ok := reflect.TypeAssert[encoding.TextMarshaler](value); ok {
		text, err := writer.MarshalText()
		if err != nil {
			return node{}, err
		}
		return textNode(string(text))
	}
	switch value.Kind() {
	case reflect.String:
		return textNode(value.String())
	case reflect.Struct:
		return structNode(value)
	case reflect.Map:
		return mapNode(value)
	case reflect.Slice:
		n := node{kind: reflect.Slice}
		for i := range value.Len() {
			item, err := nodeOf(value.Index(i))
			if err != nil {
				return node{}, err
			}
			n.items = append(n.items, item)
		}
		return n, nil
	case reflect.Bool:
		return node{kind: reflect.String, text: strconv.FormatBool(value.Bool())}, nil
	case reflect.Int, reflect.Int64:
		return node{kind: reflect.String, text: strconv.FormatInt(value.Int(), 10)}, nil
	case reflect.Float64:
		return node{kind: reflect.String, text: strconv.FormatFloat(value.Float(), 'f', -1, 64)}, nil
	}
	return node{}, holdfast.Errorf(holdfast.KindInternal, "a value of type %s cannot be written to a file", value.Type())
}

func structNode(value reflect.Value) (node, error) {
	n := node{kind: reflect.Map}
	for _, f := range fieldsOf(value) {
		if !f.required && isEmpty(f.value) {
			continue
		}
		part, err := nodeOf(f.value)
		if err != nil {
			return node{}, err
		}
		n.pairs = append(n.pairs, pair{f.name, part})
	}
	return n, nil
}

func isEmpty(value reflect.Value) bool {
	return value.IsZero() || (value.Kind() == reflect.Slice || value.Kind() == reflect.Map) && value.Len() == 0
}

func mapNode(value reflect.Value) (node, error) {
	n := node{kind: reflect.Map}
	keys := value.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		name, err := textNode(key.String())
		if err != nil {
			return node{}, err
		}
		part, err := nodeOf(value.MapIndex(key))
		if err != nil {
			return node{}, err
		}
		n.pairs = append(n.pairs, pair{name.text, part})
	}
	return n, nil
}

// plain is a text that needs no quotation marks wherever it stands and whoever reads it; what looks like a number or holds
// a sign that YAML knows does.
var plain = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_/.@-]*( [A-Za-z0-9_/.@-]+)*$`)

// words that some version of YAML takes for something else than a text.
var words = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}

func textNode(text string) (node, error) {
	switch {
	case !utf8.ValidString(text):
		return node{}, holdfast.Errorf(holdfast.KindInvalid, "%q is not UTF-8", text)
	case startsWithNumber.MatchString(text) && plain.MatchString("x"+text), // 14 days
		plain.MatchString(text) && !slices.Contains(words, strings.ToLower(text)):
		return node{kind: reflect.String, text: text}, nil
	}
	return node{kind: reflect.String, text: quote(text)}, nil
}

// startsWithNumber is a number and a word behind it, which nobody takes for a number.
var startsWithNumber = regexp.MustCompile(`^[0-9]+ [A-Za-z]`)

// quote writes a text in quotation marks; what could break a line, or cannot be seen, is escaped.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// flow is the node on one line.
func (n node) flow() string {
	var parts []string
	switch n.kind {
	case reflect.Slice:
		for _, item := range n.items {
			parts = append(parts, item.flow())
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Map:
		for _, pair := range n.pairs {
			parts = append(parts, pair.key+": "+pair.value.flow())
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return n.text
}

// depth is how many levels of mappings and lists stand in a node, itself counted.
func (n node) depth() int {
	deepest := 0
	for _, item := range n.items {
		deepest = max(deepest, item.depth())
	}
	for _, pair := range n.pairs {
		deepest = max(deepest, pair.value.depth())
	}
	if n.kind == reflect.String {
		return 0
	}
	return deepest + 1
}

// flowDepthMax is how many levels stand on one line: {hours: [7, 9], keep: 4} is read at a glance, one level more is not.
const flowDepthMax = 2

func (n node) fits(before int) bool {
	return n.depth() <= flowDepthMax && before+len(n.flow()) <= lineWidth || len(n.items)+len(n.pairs) == 0
}

// write puts the pair on one line, or its parts on lines of their own, two columns further in.
func (p pair) write(b *strings.Builder, indent int) {
	margin := strings.Repeat(" ", indent)
	head := margin + p.key + ":"
	if p.value.fits(len(head) + 1) {
		fmt.Fprintf(b, "%s %s\n", head, p.value.flow())
		return
	}
	b.WriteString(head + "\n")
	for _, part := range p.value.pairs {
		part.write(b, indent+2)
	}
	for _, item := range p.value.items {
		item.write(b, indent+2)
	}
}

// write puts an item of a list on one line, or its parts on lines of their own, the first one behind the hyphen.
func (n node) write(b *strings.Builder, indent int) {
	margin := strings.Repeat(" ", indent)
	if n.fits(indent + 2) {
		fmt.Fprintf(b, "%s- %s\n", margin, n.flow())
		return
	}
	var parts strings.Builder
	for _, part := range n.pairs {
		part.write(&parts, indent+2)
	}
	for _, item := range n.items {
		item.write(&parts, indent+2)
	}
	b.WriteString(margin + "- " + strings.TrimLeft(parts.String(), " "))
}
