package strictyaml

import (
	"encoding"
	"reflect"
)

// Form is what stands in the file for a value.
type Form string

// The forms.
const (
	FormText    Form = "text"
	FormTruth   Form = "truth"  // true or false
	FormWhole   Form = "whole"  // a whole number
	FormNumber  Form = "number" // any number
	FormList    Form = "list"
	FormMapping Form = "mapping" // of the fields of a struct
	FormTable   Form = "table"   // a mapping of any names to values of one shape
)

// Shape describes what Decode accepts for a value, so that the form that editors check is made of the same structs.
type Shape struct {
	Form    Form
	Type    string  // the name of the Go type; "" for those without one
	Texts   bool    // of a mapping: it may be written as a text instead
	Fields  []Field // of a mapping, in their order
	Element *Shape  // of a list or table
}

// Field is a field of a mapping.
type Field struct {
	Name     string
	Required bool
	Shape    Shape
}

// ShapeOf returns the shape of the struct that value points to.
func ShapeOf(value any) Shape { return shapeOf(reflect.TypeOf(value).Elem()) }

func shapeOf(t reflect.Type) Shape {
	if t.Kind() == reflect.Pointer {
		return shapeOf(t.Elem())
	}
	s := Shape{Type: t.Name()}
	reads := reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	switch t.Kind() {
	case reflect.Struct:
		for _, f := range fieldsOf(reflect.New(t).Elem()) {
			s.Fields = append(s.Fields, Field{f.name, f.required, shapeOf(f.value.Type())})
		}
		s.Form, s.Texts = FormMapping, reads
	case reflect.Slice:
		element := shapeOf(t.Elem())
		s.Form, s.Element = FormList, &element
	case reflect.Map:
		element := shapeOf(t.Elem())
		s.Form, s.Element = FormTable, &element
	case reflect.Bool:
		s.Form = FormTruth
	case reflect.Int, reflect.Int64:
		s.Form = FormWhole
	case reflect.Float64:
		s.Form = FormNumber
	default:
		s.Form = FormText
	}
	if reads && len(s.Fields) == 0 {
		return Shape{Form: FormText, Type: s.Type}
	}
	return s
}
