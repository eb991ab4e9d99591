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
	"fmt"
	"reflect"
	"sort"
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
)

// Document is a file that was read, with the places of its fields.
type Document struct {
	name   string
	places map[string]place
}

type place struct{ line, column int }

// Decode reads data, which came from the file called name, into the struct that into points to. Fields are matched by
// their yaml tags. Strings, booleans, whole numbers, floats, structs, slices, pointers and string maps are known; an
// unquoted number or boolean is accepted where a string is wanted, as in "zone: 1".
func Decode(name string, data []byte, into any) (document *Document, err error) {
	d := &Document{name: name, places: map[string]place{}}
	defer func() {
		// The parser is not ours; a defect in it must not bring the program down over a file.
		if cause := recover(); cause != nil {
			document, err = nil, holdfast.Errorf(holdfast.KindInvalid, "%s: cannot be read as YAML: %v", name, cause)
		}
	}()
	if err := d.checkSize(data); err != nil {
		return nil, err
	}
	file, parseErr := parser.ParseBytes(data, 0)
	if parseErr != nil {
		return nil, d.syntaxError(parseErr)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			return nil, d.errorAt(doc.Body, "", "a second document begins here; one is accepted")
		}
		body = doc.Body
	}
	if body == nil {
		return d, nil
	}
	if err := d.decode(body, "", reflect.ValueOf(into).Elem()); err != nil {
		return nil, err
	}
	return d, nil
}

// Has reports whether the file sets the field at path.
func (d *Document) Has(path string) bool {
	_, ok := d.places[path]
	return ok
}

// Errorf makes an error of KindInvalid that names the place of the field at path, or, when the file does not set it, the
// place of the nearest field around it.
func (d *Document) Errorf(path, format string, args ...any) *holdfast.Error {
	at := d.name
	for around := path; ; around = parent(around) {
		if p, ok := d.places[around]; ok {
			at = fmt.Sprintf("%s:%d:%d", d.name, p.line, p.column)
			break
		}
		if around == "" {
			break
		}
	}
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = path + ": " + message
	}
	return holdfast.Errorf(holdfast.KindInvalid, "%s: %s", at, message).WithField(path)
}

// parent cuts the last part off a path: a.b[2] becomes a.b, then a, then the empty path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

func (d *Document) checkSize(data []byte) error {
	if len(data) > sizeMax {
		return holdfast.Errorf(holdfast.KindInvalid, "%s: the file has %d bytes; at most %d are accepted", d.name, len(data), sizeMax)
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
			return holdfast.Errorf(holdfast.KindInvalid, "%s: nested more than %d levels deep", d.name, depthMax)
		}
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if strings.Count(line, "- ")+strings.Count(line, "? ")+strings.Count(line, ": ")+strings.Count(line, "!")+
			strings.Count(line, "&") > 10*depthMax {
			return holdfast.Errorf(holdfast.KindInvalid, "%s: a line holds more than %d nested parts", d.name, 10*depthMax)
		}
	}
	return nil
}

func (d *Document) syntaxError(err error) error {
	known, ok := err.(yaml.Error) //nolint:errorlint // the parser returns its errors bare, and its interface is no error type for As
	if !ok || known.GetToken() == nil {
		return holdfast.Errorf(holdfast.KindInvalid, "%s: %s", d.name, firstLine(err.Error()))
	}
	position := known.GetToken().Position
	return holdfast.Errorf(holdfast.KindInvalid, "%s:%d:%d: %s", d.name, position.Line, position.Column, firstLine(known.GetMessage()))
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func (d *Document) errorAt(node ast.Node, path, format string, args ...any) *holdfast.Error {
	d.remember(node, path)
	return d.Errorf(path, format, args...)
}

func (d *Document) remember(node ast.Node, path string) {
	if token := node.GetToken(); token != nil && token.Position != nil {
		d.places[path] = place{line: token.Position.Line, column: token.Position.Column}
	}
}

// decode puts node, found at path, into target.
func (d *Document) decode(node ast.Node, path string, target reflect.Value) error {
	if _, known := d.places[path]; !known {
		d.remember(node, path)
	}
	switch node.Type() {
	case ast.NullType:
		return nil
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType, ast.DirectiveType:
		return d.errorAt(node, path, "anchors, aliases, merge keys and tags of YAML are not accepted here")
	}
	switch target.Kind() {
	case reflect.Pointer:
		target.Set(reflect.New(target.Type().Elem()))
		return d.decode(node, path, target.Elem())
	case reflect.Struct:
		return d.decodeStruct(node, path, target)
	case reflect.Slice:
		return d.decodeSlice(node, path, target)
	case reflect.Map:
		return d.decodeMap(node, path, target)
	}
	return d.decodeScalar(node, path, target)
}

func (d *Document) decodeStruct(node ast.Node, path string, target reflect.Value) error {
	fields := map[string]reflect.Value{}
	for i := range target.NumField() {
		name, _, _ := strings.Cut(target.Type().Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fields[name] = target.Field(i)
		}
	}
	return d.eachPair(node, path, func(key string, keyNode, value ast.Node) error {
		field, ok := fields[key]
		if !ok {
			return d.errorAt(keyNode, join(path, key), "unknown field").WithHint("accepted here: %s", strings.Join(sortedNames(fields), ", "))
		}
		return d.decode(value, join(path, key), field)
	})
}

func sortedNames(fields map[string]reflect.Value) []string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (d *Document) decodeMap(node ast.Node, path string, target reflect.Value) error {
	target.Set(reflect.MakeMap(target.Type()))
	return d.eachPair(node, path, func(key string, _, value ast.Node) error {
		element := reflect.New(target.Type().Elem()).Elem()
		if err := d.decode(value, join(path, key), element); err != nil {
			return err
		}
		target.SetMapIndex(reflect.ValueOf(key), element)
		return nil
	})
}

func (d *Document) eachPair(node ast.Node, path string, yield func(key string, keyNode, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return d.errorAt(node, path, "a mapping (name: value) is wanted here, not %s", describe(node))
	}
	seen := map[string]bool{}
	for _, pair := range pairs {
		key, ok := scalarText(pair.Key)
		if !ok {
			return d.errorAt(pair.Key, path, "a plain name is wanted as key, not %s", describe(pair.Key))
		}
		if seen[key] {
			return d.errorAt(pair.Key, join(path, key), "set twice")
		}
		seen[key] = true
		d.remember(pair.Key, join(path, key))
		if err := yield(key, pair.Key, pair.Value); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) decodeSlice(node ast.Node, path string, target reflect.Value) error {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		return d.errorAt(node, path, "a list is wanted here, not %s", describe(node))
	}
	target.Set(reflect.MakeSlice(target.Type(), len(sequence.Values), len(sequence.Values)))
	for i, value := range sequence.Values {
		if err := d.decode(value, fmt.Sprintf("%s[%d]", path, i), target.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) decodeScalar(node ast.Node, path string, target reflect.Value) error {
	switch target.Kind() {
	case reflect.String:
		text, ok := scalarText(node)
		if !ok {
			return d.errorAt(node, path, "a text is wanted here, not %s", describe(node))
		}
		target.SetString(text)
	case reflect.Bool:
		value, ok := node.(*ast.BoolNode)
		if !ok {
			return d.errorAt(node, path, "true or false is wanted here, not %s", describe(node))
		}
		target.SetBool(value.Value)
	case reflect.Int, reflect.Int64:
		number, ok := wholeNumber(node)
		if !ok || target.OverflowInt(number) {
			return d.errorAt(node, path, "a whole number is wanted here, not %s", describe(node))
		}
		target.SetInt(number)
	case reflect.Float64:
		return d.decodeFloat(node, path, target)
	default:
		return d.errorAt(node, path, "a value of type %s cannot be read from a file", target.Type())
	}
	return nil
}

func (d *Document) decodeFloat(node ast.Node, path string, target reflect.Value) error {
	if value, ok := node.(*ast.FloatNode); ok {
		target.SetFloat(value.Value)
		return nil
	}
	number, ok := wholeNumber(node)
	if !ok {
		return d.errorAt(node, path, "a number is wanted here, not %s", describe(node))
	}
	target.SetFloat(float64(number))
	return nil
}

func wholeNumber(node ast.Node) (int64, bool) {
	value, ok := node.(*ast.IntegerNode)
	if !ok {
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
