// Package strictyaml reads the YAML files that people write for Holdfast and names the place of every mistake.
//
// It promises that nothing in a file is silently ignored or bent: an unknown field, a duplicate key, a fraction where a
// whole number is wanted, a second document and an anchor are all errors of KindInvalid whose message begins with
// FILE:LINE:COLUMN and whose Field is the path of the field, such as virtualMachines[0].osDisk.sizeGiB. JSON is accepted,
// being a subset. It must never panic, whatever the bytes, and it never opens files by itself.
//
// Only the shape is checked here; what the values mean is checked by the package that owns the file, which uses
// Document.Errorf to point at a field.
package strictyaml

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/holdfast-backup/holdfast"
)

const (
	// sizeMax bounds a file. An estate of 3,000 VMs takes about 2 MB.
	sizeMax = 16 << 20
	// depthMax bounds nesting, so that hostile input cannot exhaust the stack of the parser, which recurses. Our deepest
	// file has six levels.
	depthMax = 100
	// mistakesMax bounds the mistakes of one document that are told. Who has made a hundred reads no further.
	mistakesMax = 100
)

// Document is a document that was read, with the places of its fields.
type Document struct {
	name     string
	places   map[string]place
	mistakes []Mistake
}

type place struct{ line, column int }

// Mistake is what is wrong with one field of a file, and where.
type Mistake struct {
	File   string
	Line   int // 0 when the mistake has no place
	Column int
	Field  string
	Text   string
	Hint   string // what is accepted; may be empty
}

// String returns the mistake on one line: FILE:LINE:COLUMN: FIELD: TEXT.
func (m Mistake) String() string {
	at := m.File
	if m.Line > 0 {
		at = fmt.Sprintf("%s:%d:%d", m.File, m.Line, m.Column)
	}
	if m.Field != "" {
		at += ": " + m.Field
	}
	return at + ": " + m.Text
}

// Err returns the mistake as an error of KindInvalid.
func (m Mistake) Err() *holdfast.Error {
	e := holdfast.Errorf(holdfast.KindInvalid, "%s", m.String()).WithField(m.Field)
	e.Hint = m.Hint
	return e
}

// Part is one of the documents that a file holds, separated by lines of three hyphens.
type Part struct {
	name string
	body ast.Node
}

// byteOrderMark is what some editors write before a text; it is no part of it.
const byteOrderMark = "\ufeff"

// Split reads the documents of a file called name. Empty ones are left out. The error, if any, is the one Mistake that
// keeps the file from being YAML at all.
func Split(name string, data []byte) (parts []Part, mistake *Mistake) {
	d := &Document{name: name, places: map[string]place{}}
	defer func() {
		// The parser is not ours; a defect in it must not bring the program down over a file.
		if cause := recover(); cause != nil {
			parts, mistake = nil, &Mistake{File: name, Text: fmt.Sprintf("cannot be read as YAML: %v", cause)}
		}
	}()
	if err := d.checkSize(data); err != nil {
		return nil, err
	}
	joined, written := joinEmpty(bytes.TrimPrefix(data, []byte(byteOrderMark)))
	file, err := parser.ParseBytes(joined, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, d.syntaxMistake(err)
	}
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			parts = append(parts, Part{name: name, body: doc.Body})
		}
	}
	if len(parts) != written {
		return nil, d.whole("holds %d documents, of which %d can be told apart; separate them by lines of three hyphens and nothing else", written, len(parts))
	}
	return parts, nil
}

// joinEmpty takes the separators of empty documents away, and counts the documents that are left. The parser loses the document
// after an empty one without a word; so the separators are found here as well (YAML knows them wherever they begin a line,
// inside of texts too), and the two counts are compared.
func joinEmpty(data []byte) (joined []byte, documents int) {
	joined = slices.Clone(data)
	separator, begun, start := -1, false, 0
	for start < len(joined) {
		end := start + lineLength(joined[start:])
		line := strings.TrimRight(string(joined[start:end]), " \t\r\n")
		rest, separates := strings.CutPrefix(line, "---")
		separates = separates && (rest == "" || rest[0] == ' ' || rest[0] == '\t')
		if separates || line == "..." {
			if separator >= 0 && !begun {
				copy(joined[separator:], "   ")
			}
			separator, begun = start, false
		} else {
			rest = line
		}
		if rest = strings.TrimSpace(rest); !begun && rest != "" && rest[0] != '#' && rest != "..." {
			begun = true
			documents++
		}
		start = end
	}
	return joined, documents
}

// lineLength is the length of the first line of a text, with what ends it.
func lineLength(text []byte) int {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return i + 1
	}
	return len(text)
}

// Decode reads data, which came from the file called name, into the struct that into points to. Fields are matched by
// their yaml tags; those of an embedded struct count as its own. Strings, booleans, whole numbers, floats, structs, slices,
// pointers, string maps and what implements encoding.TextUnmarshaler are known; an unquoted number or boolean is accepted
// where a text is wanted, as in "zone: 1". A struct that implements encoding.TextUnmarshaler may be written as a text or
// as a mapping. A field whose tag says "required" must be there. The error is the first mistake.
func Decode(name string, data []byte, into any) (*Document, error) {
	parts, mistake := Split(name, data)
	if mistake != nil {
		return nil, mistake.Err()
	}
	if len(parts) == 0 {
		return &Document{name: name, places: map[string]place{}}, nil
	}
	if len(parts) > 1 {
		d := &Document{name: name, places: map[string]place{}}
		d.wrong(parts[1].body, "", "a second document begins here; one is accepted")
		return nil, d.mistakes[0].Err()
	}
	d, mistakes := parts[0].Decode(into)
	if len(mistakes) > 0 {
		return nil, mistakes[0].Err()
	}
	return d, nil
}

// Decode reads the document into the struct that into points to, as the function Decode does, but goes on after a mistake:
// it returns all of them, in their order in the file, mistakesMax at the most. The document is there in any case.
func (p Part) Decode(into any) (d *Document, mistakes []Mistake) {
	d = &Document{name: p.name, places: map[string]place{}}
	defer func() {
		if cause := recover(); cause != nil { // as in Split: the nodes are the parser's
			mistakes = []Mistake{{File: p.name, Text: fmt.Sprintf("cannot be read as YAML: %v", cause)}}
		}
	}()
	d.decode(p.body, "", reflect.ValueOf(into).Elem())
	return d, d.mistakes
}

// Text returns the text under a key of the document's mapping, and the document with the places of its keys, so that a
// reader can choose the struct that the rest is read into.
func (p Part) Text(key string) (text string, d *Document) {
	d = &Document{name: p.name, places: map[string]place{}}
	d.remember(beginning(p.body), "")
	for _, pair := range pairsOf(p.body) {
		if name, ok := scalarText(pair.Key); ok && name == key {
			d.remember(pair.Value, key)
			text, _ = scalarText(pair.Value)
			break
		}
	}
	return text, d
}

// Has reports whether the file sets the field at path.
func (d *Document) Has(path string) bool {
	_, ok := d.places[path]
	return ok
}

// Mistake makes a mistake at the place of the field at path, or, when the file does not set it, at the place of the
// nearest field around it.
func (d *Document) Mistake(path, format string, args ...any) Mistake {
	m := Mistake{File: d.name, Field: path, Text: fmt.Sprintf(format, args...)}
	for around := path; ; around = parent(around) {
		if p, ok := d.places[around]; ok {
			m.Line, m.Column = p.line, p.column
			return m
		}
		if around == "" {
			return m
		}
	}
}

// Errorf makes an error of KindInvalid out of a mistake at the field at path; see Mistake.
func (d *Document) Errorf(path, format string, args ...any) *holdfast.Error {
	return d.Mistake(path, format, args...).Err()
}

// parent cuts the last part off a path: a.b[2] becomes a.b, then a, then the empty path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

func (d *Document) checkSize(data []byte) *Mistake {
	if len(data) > sizeMax {
		return d.whole("the file has %d bytes; at most %d are accepted", len(data), sizeMax)
	}
	depth := 0
	for _, c := range data {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		}
		if depth > depthMax {
			return d.whole("nested more than %d levels deep", depthMax)
		}
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if strings.Count(line, "- ")+strings.Count(line, "? ")+strings.Count(line, ": ")+strings.Count(line, "!")+
			strings.Count(line, "&") > 10*depthMax {
			return d.whole("a line holds more than %d nested parts", 10*depthMax)
		}
	}
	return nil
}

// whole is a mistake of the file as a whole, which has no place.
func (d *Document) whole(format string, args ...any) *Mistake {
	return &Mistake{File: d.name, Text: fmt.Sprintf(format, args...)}
}

func (d *Document) syntaxMistake(err error) *Mistake {
	known, ok := err.(yaml.Error) //nolint:errorlint // the parser returns its errors bare, and its interface is no error type for As
	if !ok || known.GetToken() == nil {
		return d.whole("%s", firstLine(err.Error()))
	}
	m := d.whole("%s", firstLine(known.GetMessage()))
	m.Line, m.Column = known.GetToken().Position.Line, known.GetToken().Position.Column
	return m
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// wrong takes down a mistake at node, which becomes the place of the field at path. Beyond mistakesMax none is kept.
func (d *Document) wrong(node ast.Node, path, format string, args ...any) *Mistake {
	d.remember(node, path)
	m := d.Mistake(path, format, args...)
	if len(d.mistakes) >= mistakesMax {
		return &m
	}
	d.mistakes = append(d.mistakes, m)
	return &d.mistakes[len(d.mistakes)-1]
}

func (d *Document) remember(node ast.Node, path string) {
	if token := node.GetToken(); token != nil && token.Position != nil {
		d.places[path] = place{line: token.Position.Line, column: token.Position.Column}
	}
}

// decode puts node, found at path, into target.
func (d *Document) decode(node ast.Node, path string, target reflect.Value) {
	if _, known := d.places[path]; !known {
		d.remember(beginning(node), path)
	}
	switch node.Type() {
	case ast.NullType:
		return
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType, ast.DirectiveType:
		d.wrong(node, path, "anchors, aliases, merge keys and tags of YAML are not accepted here")
		return
	}
	if target.Kind() == reflect.Pointer {
		target.Set(reflect.New(target.Type().Elem()))
		d.decode(node, path, target.Elem())
		return
	}
	if d.decodeText(node, path, target) {
		return
	}
	switch target.Kind() {
	case reflect.Struct:
		d.decodeStruct(node, path, target)
	case reflect.Slice:
		d.decodeSlice(node, path, target)
	case reflect.Map:
		d.decodeMap(node, path, target)
	default:
		d.decodeScalar(node, path, target)
	}
}

// decodeText reads node into a target that knows how to read a text; it returns false for another target, and for a
// mapping that is to be read into a struct.
func (d *Document) decodeText(node ast.Node, path string, target reflect.Value) bool {
	if !target.CanAddr() || !target.Addr().CanInterface() {
		return false
	}
	reader, ok := reflect.TypeAssert[encoding.TextUnmarshaler](target.Addr())
	if !ok {
		return false
	}
	text, ok := scalarText(node)
	if !ok {
		if target.Kind() == reflect.Struct && isMapping(node) && len(fieldsOf(target)) > 0 {
			return false
		}
		d.wrong(node, path, "a text is wanted here, not %s", describe(node))
		return true
	}
	if err := reader.UnmarshalText([]byte(text)); err != nil {
		m := d.wrong(node, path, "%s", err)
		var known *holdfast.Error
		if errors.As(err, &known) {
			m.Hint = known.Hint
		}
	}
	return true
}

// field is a field of a struct that a file can set.
type field struct {
	name     string
	required bool
	value    reflect.Value
}

// fieldsOf returns the fields of a struct in their order, those of embedded structs in their place.
func fieldsOf(target reflect.Value) []field {
	var fields []field
	for i := range target.NumField() {
		if target.Type().Field(i).Anonymous {
			fields = append(fields, fieldsOf(target.Field(i))...)
			continue
		}
		name, options, _ := strings.Cut(target.Type().Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fields = append(fields, field{name, options == "required", target.Field(i)})
		}
	}
	return fields
}

func (d *Document) decodeStruct(node ast.Node, path string, target reflect.Value) {
	fields := fieldsOf(target)
	set := map[string]bool{}
	d.eachPair(node, path, func(key string, keyNode, value ast.Node) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			d.wrong(keyNode, join(path, key), "unknown field").Hint = "accepted here: " + strings.Join(sortedNames(fields), ", ")
			return
		}
		set[key] = value.Type() != ast.NullType
		d.decode(value, join(path, key), fields[i].value)
	})
	for _, f := range fields {
		if f.required && !set[f.name] && isMapping(node) {
			d.missing(node, path, f.name)
		}
	}
}

// missing takes down that a mapping has no field of a name, at the mapping's place.
func (d *Document) missing(node ast.Node, path, name string) {
	if len(d.mistakes) < mistakesMax {
		d.remember(beginning(node), path)
		d.mistakes = append(d.mistakes, d.Mistake(join(path, name), "missing"))
	}
}

// beginning returns the node at which a person sees a value begin. That of a mapping without braces is its first key; the
// parser places it at a colon.
func beginning(node ast.Node) ast.Node {
	if n, ok := node.(*ast.MappingNode); ok && n.IsFlowStyle {
		return node
	}
	if pairs := pairsOf(node); len(pairs) > 0 {
		return pairs[0].Key
	}
	return node
}

func sortedNames(fields []field) []string {
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return names
}

func (d *Document) decodeMap(node ast.Node, path string, target reflect.Value) {
	target.Set(reflect.MakeMap(target.Type()))
	d.eachPair(node, path, func(key string, _, value ast.Node) {
		element := reflect.New(target.Type().Elem()).Elem()
		d.decode(value, join(path, key), element)
		target.SetMapIndex(reflect.ValueOf(key), element)
	})
}

func isMapping(node ast.Node) bool {
	return node.Type() == ast.MappingType || node.Type() == ast.MappingValueType
}

// pairsOf returns the pairs of a mapping; the parser has another node for one that has a single pair.
func pairsOf(node ast.Node) []*ast.MappingValueNode {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func (d *Document) eachPair(node ast.Node, path string, yield func(key string, keyNode, value ast.Node)) {
	if !isMapping(node) {
		d.wrong(node, path, "a mapping (name: value) is wanted here, not %s", describe(node))
		return
	}
	seen := map[string]bool{}
	for _, pair := range pairsOf(node) {
		key, ok := scalarText(pair.Key)
		if !ok {
			d.wrong(pair.Key, path, "a plain name is wanted as key, not %s", describe(pair.Key))
			continue
		}
		if seen[key] {
			d.wrong(pair.Key, join(path, key), "set twice")
			continue
		}
		seen[key] = true
		d.remember(pair.Key, join(path, key))
		yield(key, pair.Key, pair.Value)
	}
}

func (d *Document) decodeSlice(node ast.Node, path string, target reflect.Value) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		d.wrong(node, path, "a list is wanted here, not %s", describe(node))
		return
	}
	target.Set(reflect.MakeSlice(target.Type(), len(sequence.Values), len(sequence.Values)))
	for i, value := range sequence.Values {
		d.decode(value, fmt.Sprintf("%s[%d]", path, i), target.Index(i))
	}
}

func (d *Document) decodeScalar(node ast.Node, path string, target reflect.Value) {
	switch target.Kind() {
	case reflect.String:
		text, ok := scalarText(node)
		if !ok {
			d.wrong(node, path, "a text is wanted here, not %s", describe(node))
			return
		}
		target.SetString(text)
	case reflect.Bool:
		value, ok := node.(*ast.BoolNode)
		if !ok {
			d.wrong(node, path, "true or false is wanted here, not %s", describe(node))
			return
		}
		target.SetBool(value.Value)
	case reflect.Int, reflect.Int64:
		number, ok := wholeNumber(node)
		if !ok || target.OverflowInt(number) {
			d.wrong(node, path, "a whole number is wanted here, not %s", describe(node))
			return
		}
		target.SetInt(number)
	case reflect.Float64:
		d.decodeFloat(node, path, target)
	default:
		d.wrong(node, path, "a value of type %s cannot be read from a file", target.Type())
	}
}

func (d *Document) decodeFloat(node ast.Node, path string, target reflect.Value) {
	if value, ok := node.(*ast.FloatNode); ok {
		target.SetFloat(value.Value)
		return
	}
	number, ok := wholeNumber(node)
	if !ok {
		d.wrong(node, path, "a number is wanted here, not %s", describe(node))
		return
	}
	target.SetFloat(float64(number))
}

// decimal is a whole number as everybody reads it. What begins with a zero is octal in one version of YAML and decimal in the
// next.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func wholeNumber(node ast.Node) (int64, bool) {
	value, ok := node.(*ast.IntegerNode)
	if !ok || !decimal.MatchString(value.GetToken().Value) {
		return 0, false
	}
	switch number := value.Value.(type) {
	case int64:
		return number, true
	case uint64:
		return int64(number), number <= 1<<63-1
	case int:
		return int64(number), true
	}
	return 0, false
}

func scalarText(node ast.Node) (string, bool) {
	switch value := node.(type) {
	case *ast.StringNode:
		return value.Value, true
	case *ast.LiteralNode:
		return value.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return node.GetToken().Value, true
	}
	return "", false
}

func describe(node ast.Node) string {
	if text, ok := scalarText(node); ok {
		return fmt.Sprintf("%q", text)
	}
	switch node.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	}
	return "a value of YAML type " + node.Type().YAMLName()
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
