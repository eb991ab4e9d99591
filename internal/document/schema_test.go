package document_test

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/strictyaml/yamltest"
)

const (
	schemaFile    = "../../schemas/documents.schema.json"
	examplePolicy = "../../examples/policies"
)

// TestSchema_IsWhatIsCommitted proves that the file that editors are pointed to is made of the structs as they are.
func TestSchema_IsWhatIsCommitted(t *testing.T) {
	want, err := document.Schema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v; write it anew: make schemas", err)
	}
}

func compile(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := document.Schema()
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("documents.json", value); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("documents.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// examples returns the files of the examples.
func examples(t testing.TB) []document.File {
	t.Helper()
	files, err := document.Load(examplePolicy)
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	return files
}

// TestSchema_AcceptsTheExamples holds the examples against the schema with a validator that is not ours.
func TestSchema_AcceptsTheExamples(t *testing.T) {
	compiled := compile(t)
	for _, file := range examples(t) {
		for i, value := range yamltest.Values(t, file.Data) {
			if err := compiled.Validate(value); err != nil {
				t.Errorf("%s, document %d: %v", file.Name, i+1, err)
			}
		}
		if first, _, _ := strings.Cut(string(file.Data), "\n"); first != "# yaml-language-server: $schema=../"+strings.TrimPrefix(schemaFile, "../") {
			t.Errorf("%s begins with %q: editors do not find its schema", file.Name, first)
		}
	}
}

// TestSchema_AcceptsWhatWriteWrites, whatever the documents are.
func TestSchema_AcceptsWhatWriteWrites(t *testing.T) {
	compiled := compile(t)
	rapid.Check(t, func(rt *rapid.T) {
		text, err := document.Write(drawDocuments(rt))
		if err != nil {
			rt.Fatal(err)
		}
		for _, value := range yamltest.Values(t, text) {
			if err := compiled.Validate(value); err != nil {
				rt.Fatalf("%v\n%s", err, text)
			}
		}
	})
}

// TestSchema_RefusesUnknownFields everywhere: a field is added to each mapping of each example in turn.
func TestSchema_RefusesUnknownFields(t *testing.T) {
	compiled := compile(t)
	tried := 0
	for _, file := range examples(t) {
		for _, value := range yamltest.Values(t, file.Data) {
			for _, mapping := range mappings(value, "") {
				if strings.HasSuffix(mapping.path, "resourceGroups") || strings.HasSuffix(mapping.path, "regions") {
					continue // tables of names that people choose
				}
				tried++
				mapping.value["odd"] = 1
				if err := compiled.Validate(value); err == nil {
					t.Errorf("%s: %s may have a field that is not known", file.Name, mapping.path)
				}
				delete(mapping.value, "odd")
			}
		}
	}
	if tried < 80 {
		t.Errorf("only %d mappings were tried", tried)
	}
}

type mapping struct {
	path  string
	value map[string]any
}

// mappings returns all mappings in a value, itself included.
func mappings(value any, path string) []mapping {
	var all []mapping
	switch v := value.(type) {
	case map[string]any:
		all = append(all, mapping{path, v})
		for key, inner := range v {
			all = append(all, mappings(inner, path+"."+key)...)
		}
	case []any:
		for _, inner := range v {
			all = append(all, mappings(inner, path+"[]")...)
		}
	}
	return all
}

// TestSchema_RefusesWhatReadRefuses of single fields.
func TestSchema_RefusesWhatReadRefuses(t *testing.T) {
	compiled := compile(t)
	for _, text := range []string{
		"kind: Policy\nname: a", "name: a", "kind: Repository\nurl: x", "kind: Repository\nname: a.b\nurl: x", "kind: Repository\nname: a\nurl: x\ntier: warm",
		"kind: SLATemplate\nname: a\ntarget: 101", "kind: SLATemplate\nname: a\nsnapshots: {window: 9-5}", "kind: SLATemplate\nname: a\nsnapshots: {window: {from: '09:00'}}",
		"kind: SLATemplate\nname: a\nsnapshots: {daily: {every: 1 fortnight, keep: 1 day}}", "kind: SLATemplate\nname: a\nsnapshots: {weekly: {days: [someday], keep: 1 day}}",
		"kind: SLATemplate\nname: a\narchives: {on: fifth monday, months: [every], keep: 1 year}", "kind: Installation\nretentionAt: '24:00'",
		"kind: SchedulePolicy\nname: a\nsources: {regions: [West Europe]}", "kind: SchedulePolicy\nname: a\nsources: {regions: [westeurope], include: [{vm: web-1}]}",
		"kind: SchedulePolicy\nname: a\nsources: {regions: [westeurope], include: [{subscription: 11111111-1111-1111-1111-111111111111, tag: {name: a}}]}",
		"kind: SchedulePolicy\nname: a\nsources: {regions: [westeurope]}\nretries: -1", "kind: SchedulePolicy\nname: a\nsources: {regions: [westeurope]}\nretries: few",
		"kind: SchedulePolicy\nname: a\nsources: {regions: [westeurope]}\ndaily: {snapshots: {hours: [24], keep: 1}}",
		"kind: SchedulePolicy\nname: a\nsources: {regions: [westeurope]}\ndaily: {snapshots: {hours: [1, 1], keep: 1}}",
		"kind: SchedulePolicy\nname: a\nsources: {regions: [westeurope]}\ndaily: {snapshots: {hours: [1], perHour: 5, keep: 1}}",
	} {
		if err := compiled.Validate(yamltest.Values(t, []byte(text))[0]); err == nil {
			t.Errorf("accepted:\n%s", text)
		}
		if _, _, err := read(text); err == nil {
			t.Errorf("read:\n%s", text)
		}
	}
}

// TestExamples_AreRight reads the examples as a whole. What they leave unsaid is noted by nobody: they are what one should write.
func TestExamples_AreRight(t *testing.T) {
	d, notes, err := document.Read(examples(t)...)
	if err != nil || len(notes) > 0 {
		t.Fatalf("%v, %+v", err, notes)
	}
	if len(d.SchedulePolicies) < 2 || len(d.SLAPolicies) < 2 {
		t.Errorf("%d and %d policies", len(d.SchedulePolicies), len(d.SLAPolicies))
	}
}

// TestExamples_WrittenBack round-trips the examples.
func TestExamples_WrittenBack(t *testing.T) {
	want, _, err := document.Read(examples(t)...)
	if err != nil {
		t.Fatal(err)
	}
	text, err := document.Write(want)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := document.Read(document.File{Name: "elsewhere/again.yaml", Data: text})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%s", err, text)
	}
}
