package document

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/strictyaml"
	"github.com/holdfast-backup/holdfast/internal/strictyaml/yamltest"
)

// termKey is the name under which the vocabulary has a field of a type.
func termKey(owner, name string) string {
	if key := baseName(owner) + "." + name; vocabulary[key].says != "" {
		return key
	}
	return name
}

// TestVocabulary_IsWhole has a term for every field, and none for what is no field.
func TestVocabulary_IsWhole(t *testing.T) {
	used := map[string]bool{}
	var walk func(path string, shape strictyaml.Shape)
	walk = func(path string, shape strictyaml.Shape) {
		for shape.Element != nil {
			shape = *shape.Element
		}
		for _, f := range shape.Fields {
			if says, ok := termOf(shape.Type, f.Name); !ok || says.says == "" {
				t.Errorf("%s.%s (%s) has no meaning", path, f.Name, shape.Type)
			}
			used[termKey(shape.Type, f.Name)] = true
			walk(path+"."+f.Name, f.Shape)
		}
	}
	for kind, shape := range kindShapes() {
		walk(kind, shape)
	}
	for _, key := range sortedKeys(vocabulary) {
		if !used[key] {
			t.Errorf("%q is the term of no field", key)
		}
	}
	if got := meaning(KindSchedulePolicy, "sources.include[3].tag.name"); got != vocabulary["tag.name"].says {
		t.Errorf("the meaning of a field deep down is %q", got)
	}
}

// TestExamples_ShowEveryField: each field of each kind is set in an example, where kinds share a part in one of them.
func TestExamples_ShowEveryField(t *testing.T) {
	shown := map[string]bool{}
	var look func(value any, owner string, shape strictyaml.Shape)
	look = func(value any, owner string, shape strictyaml.Shape) {
		switch v := value.(type) {
		case []any:
			for _, item := range v {
				look(item, owner, *shape.Element)
			}
		case map[string]any:
			for _, f := range shape.Fields {
				if inner, set := v[f.Name]; set {
					shown[owner+shape.Type+"."+f.Name] = true
					look(inner, "", f.Shape)
				}
			}
		}
	}
	files, err := Load("../../examples/policies")
	if err != nil {
		t.Fatal(err)
	}
	shapes := kindShapes()
	for _, file := range files {
		for _, value := range yamltest.Values(t, file.Data) {
			kind, _ := value.(map[string]any)["kind"].(string)
			look(value, kind+" ", shapes[kind])
		}
	}
	var want func(owner string, shape strictyaml.Shape)
	want = func(owner string, shape strictyaml.Shape) {
		for shape.Element != nil {
			shape = *shape.Element
		}
		for _, f := range shape.Fields {
			if !shown[owner+shape.Type+"."+f.Name] {
				t.Errorf("no example shows %s of %s%s", f.Name, owner, shape.Type)
				shown[owner+shape.Type+"."+f.Name] = true
			}
			want("", f.Shape)
		}
	}
	for kind, shape := range shapes {
		want(kind+" ", shape)
	}
}
