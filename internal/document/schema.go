package document

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

// schema is a part of a JSON Schema of draft 7, which is the one that editors know best.
type schema struct {
	Dialect     string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        any                `json:"type,omitempty"` // a text, or a list of them
	Const       string             `json:"const,omitempty"`
	Enum        []any              `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Minimum     *float64           `json:"minimum,omitempty"`
	Maximum     *float64           `json:"maximum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	ItemsMax    int                `json:"maxItems,omitempty"`
	Unique      bool               `json:"uniqueItems,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Additional  any                `json:"additionalProperties,omitempty"` // false, or the schema of what is not named
	FieldsMin   int                `json:"minProperties,omitempty"`
	FieldsMax   int                `json:"maxProperties,omitempty"`
	Default     any                `json:"default,omitempty"`
	AnyOf       []*schema          `json:"anyOf,omitempty"`
	AllOf       []*schema          `json:"allOf,omitempty"`
	If          *schema            `json:"if,omitempty"`
	Then        *schema            `json:"then,omitempty"`
}

// Schema returns the JSON Schema of a document of any kind, made of the structs that Read fills and of their vocabulary. It
// accepts whatever Write writes, and refuses what is wrong with one field by itself; words it wants in lower case, where Read
// takes any. What only holds for several fields, or documents, together is for Read alone to tell.
func Schema() ([]byte, error) {
	kinds := []string{KindSchedulePolicy, KindSLAPolicy, KindSLATemplate, KindStorageTemplate, KindRepository, KindInstallation}
	kind := &schema{Description: vocabulary["kind"].says}
	root := schema{
		Dialect: "http://json-schema.org/draft-07/schema#", Title: "Holdfast documents", Description: "A document that people write for Holdfast: a policy, a template, a repository, or the settings of the installation.",
		Type: "object", Properties: map[string]*schema{"kind": kind}, Required: []string{"kind"},
	}
	shapes := kindShapes()
	for _, name := range kinds {
		kind.Enum = append(kind.Enum, name)
		document := schemaOf(shapes[name], term{says: titles[name]})
		document.Properties["kind"] = &schema{Const: name, Description: vocabulary["kind"].says}
		root.AllOf = append(root.AllOf, &schema{If: &schema{Properties: map[string]*schema{"kind": {Const: name}}, Required: []string{"kind"}}, Then: document})
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(&root); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the schema cannot be written")
	}
	return b.Bytes(), nil
}

// schemaOf makes the schema of a shape, with what its term adds.
func schemaOf(shape strictyaml.Shape, t term) *schema {
	s := &schema{Description: t.says, Default: t.otherwise}
	switch shape.Form {
	case strictyaml.FormMapping:
		return mappingSchema(s, shape, t)
	case strictyaml.FormTable:
		s.Type, s.Additional = "object", schemaOf(*shape.Element, term{})
	case strictyaml.FormList:
		s.Type, s.ItemsMax = "array", t.itemsMax
		items := term{words: t.words, pattern: t.pattern, low: t.low, high: t.high, one: slices.Contains(oneOf, baseName(shape.Element.Type))}
		s.Items, s.Unique = schemaOf(*shape.Element, items), len(t.words) > 0 || t.low != nil
	case strictyaml.FormTruth:
		s.Type = "boolean"
	case strictyaml.FormWhole:
		s.Type, s.Minimum, s.Maximum, s.Enum = "integer", t.low, t.high, numbers(t.words)
	case strictyaml.FormNumber:
		s.Type, s.Minimum, s.Maximum = "number", t.low, t.high
	case strictyaml.FormText:
		textSchema(s, shape, t)
	}
	return s
}

// textSchema describes a text. Where any text will do, a number or truth without quotation marks is taken for one.
func textSchema(s *schema, shape strictyaml.Shape, t term) {
	s.Type, s.Pattern = "string", t.pattern
	if pattern, ok := types[shape.Type]; ok {
		s.Pattern = pattern
	}
	for _, word := range t.words {
		s.Enum = append(s.Enum, word)
	}
	if t.pattern == namePattern || s.Pattern == "" && len(s.Enum) == 0 {
		s.Type = []string{"string", "number", "boolean"}
	}
}

// oneOf are the types of items of which exactly one field is given.
var oneOf = []string{"selector", "exclusion"}

func numbers(words []string) []any {
	var all []any
	for _, word := range words {
		if n, err := strconv.Atoi(word); err == nil {
			all = append(all, n)
		}
	}
	return all
}

func mappingSchema(s *schema, shape strictyaml.Shape, t term) *schema {
	s.Type, s.Additional, s.Properties = "object", false, map[string]*schema{}
	for _, f := range shape.Fields {
		field, _ := termOf(shape.Type, f.Name)
		s.Properties[f.Name] = schemaOf(f.Shape, field)
		if f.Required {
			s.Required = append(s.Required, f.Name)
		}
	}
	slices.Sort(s.Required)
	if t.one {
		s.FieldsMin, s.FieldsMax = 1, 1
	}
	if !shape.Texts {
		return s
	}
	text := &schema{Type: "string", Pattern: types[baseName(shape.Type)]}
	return &schema{Description: s.Description, AnyOf: []*schema{text, {Type: s.Type, Properties: s.Properties, Required: s.Required, Additional: false}}}
}
