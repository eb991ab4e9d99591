package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// Object is a JSON object. Numbers are json.Number, so that unknown and very large ones pass through unchanged. Paths
// name nested members with dots ("properties.creationData.createOption"); members whose names may hold dots, such as
// tags, are reached through Object.
type Object map[string]any

// ParseObject decodes exactly one JSON object.
func ParseObject(raw []byte) (Object, error) {
	var o Object
	if err := decode(raw, &o); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, errors.New("null where an object is expected")
	}
	return o, nil
}

// ObjectOf converts a value through its JSON form; it is for SDK models and plain data, whose encoding cannot fail.
func ObjectOf(value any) (Object, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return ParseObject(raw)
}

func decode(raw []byte, into any) error {
	in := json.NewDecoder(bytes.NewReader(raw))
	in.UseNumber()
	if err := in.Decode(into); err != nil {
		return err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// UnmarshalJSON keeps numbers as they are written.
func (o *Object) UnmarshalJSON(raw []byte) error {
	var plain map[string]any
	if err := decode(raw, &plain); err != nil {
		return err
	}
	*o = plain
	return nil
}

// At returns the value at path, or nil.
func (o Object) At(path string) any {
	var value any = map[string]any(o)
	for name := range strings.SplitSeq(path, ".") {
		inner, ok := asMap(value)
		if !ok {
			return nil
		}
		value = inner[name]
	}
	return value
}

// Text returns the string at path, or "".
func (o Object) Text(path string) string {
	text, _ := o.At(path).(string)
	return text
}

// Int returns the whole number at path, or 0.
func (o Object) Int(path string) int64 {
	number, _ := o.At(path).(json.Number)
	value, err := number.Int64()
	if err != nil {
		return 0
	}
	return value
}

// Flag returns the boolean at path, or false.
func (o Object) Flag(path string) bool {
	flag, _ := o.At(path).(bool)
	return flag
}

// Time returns the RFC 3339 time at path, or the zero time.
func (o Object) Time(path string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, o.Text(path))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Object returns the object at path, or nil. It is part of o.
func (o Object) Object(path string) Object {
	inner, _ := asMap(o.At(path))
	return inner
}

// Objects returns the objects of the list at path; other elements are left out.
func (o Object) Objects(path string) []Object {
	list, _ := o.At(path).([]any)
	found := make([]Object, 0, len(list))
	for _, element := range list {
		if inner, ok := asMap(element); ok {
			found = append(found, inner)
		}
	}
	return found
}

// Texts returns the strings of the list at path.
func (o Object) Texts(path string) []string {
	list, _ := o.At(path).([]any)
	var found []string
	for _, element := range list {
		if text, ok := element.(string); ok {
			found = append(found, text)
		}
	}
	return found
}

// Set puts a value at path, making the objects on the way. Times become RFC 3339, whole numbers json.Number, typed lists
// plain ones.
func (o Object) Set(path string, value any) {
	names := strings.Split(path, ".")
	inner := map[string]any(o)
	for _, name := range names[:len(names)-1] {
		next, ok := asMap(inner[name])
		if !ok {
			next = Object{}
			inner[name] = map[string]any(next)
		}
		inner = next
	}
	inner[names[len(names)-1]] = plain(value)
}

// Remove drops the member at path.
func (o Object) Remove(path string) {
	outer, name := o, path
	if at := strings.LastIndex(path, "."); at >= 0 {
		outer, name = o.Object(path[:at]), path[at+1:]
	}
	delete(outer, name)
}

// Merge lays patch over o as a JSON merge patch does: objects merge, null removes, anything else replaces.
func (o Object) Merge(patch Object) {
	for name, value := range patch {
		inner, isObject := asMap(value)
		present, wasObject := asMap(o[name])
		switch {
		case value == nil:
			delete(o, name)
		case isObject && wasObject:
			present.Merge(inner)
		default:
			o[name] = clone(value)
		}
	}
}

// Given returns a deep copy without the members of objects that are null, which for most of the platform is the same as not
// being there.
func (o Object) Given() Object {
	given := Object{}
	for name, value := range o {
		if inner, isObject := asMap(value); isObject {
			given[name] = map[string]any(inner.Given())
		} else if value != nil {
			given[name] = clone(value)
		}
	}
	return given
}

// Clone returns a deep copy.
func (o Object) Clone() Object {
	if o == nil {
		return nil
	}
	c := make(Object, len(o))
	for name, value := range o {
		c[name] = clone(value)
	}
	return c
}

func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		return map[string]any(Object(v).Clone())
	case Object:
		return map[string]any(v.Clone())
	case []any:
		c := make([]any, len(v))
		for i := range v {
			c[i] = clone(v[i])
		}
		return c
	default:
		return v
	}
}

func asMap(value any) (Object, bool) {
	switch v := value.(type) {
	case map[string]any:
		return v, v != nil
	case Object:
		return v, v != nil
	default:
		return nil, false
	}
}

// plain turns the Go values that callers have at hand into what decoding JSON would have given.
func plain(value any) any {
	switch v := value.(type) {
	case int:
		return json.Number(strconv.Itoa(v))
	case int64:
		return json.Number(strconv.FormatInt(v, 10))
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case Object:
		return map[string]any(v)
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		return list
	case []Object:
		list := make([]any, len(v))
		for i := range v {
			list[i] = map[string]any(v[i])
		}
		return list
	default:
		return v
	}
}
