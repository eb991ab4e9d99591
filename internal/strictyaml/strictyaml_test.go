package strictyaml_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

type leaf struct {
	Size  int64             `yaml:"size"`
	Zone  string            `yaml:"zone"`
	On    bool              `yaml:"on"`
	Ratio *float64          `yaml:"ratio"`
	Tags  map[string]string `yaml:"tags"`
	List  []leaf            `yaml:"list"`
}

func TestDecode_ReadsEveryKindOfField(t *testing.T) {
	var got leaf
	document, err := strictyaml.Decode("f.yaml", []byte("# note\nsize: 7\nzone: 1\non: true\nratio: 0.5\ntags: {a: b, c: 3}\nlist:\n  - {size: 1}\n  - size: 2\n    ratio: 1\n"), &got)
	if err != nil {
		t.Fatal(err)
	}
	if got.Size != 7 || got.Zone != "1" || !got.On || *got.Ratio != 0.5 || got.Tags["a"] != "b" || got.Tags["c"] != "3" ||
		len(got.List) != 2 || got.List[1].Size != 2 || *got.List[1].Ratio != 1 {
		t.Fatalf("got %+v", got)
	}
	if !document.Has("list[1].ratio") || document.Has("list[0].ratio") {
		t.Fatal("Has does not tell set fields from unset ones")
	}
	if msg := document.Errorf("list[1].ratio", "too big").Error(); msg != "f.yaml:10:5: list[1].ratio: too big" {
		t.Fatalf("place of a set field: %s", msg)
	}
	if msg := document.Errorf("list[1].size.sub", "odd").Error(); !strings.HasPrefix(msg, "f.yaml:9:5: ") {
		t.Fatalf("place of an unset field is that of the nearest one: %s", msg)
	}
}

func TestDecode_AcceptsJSON(t *testing.T) {
	var got leaf
	if _, err := strictyaml.Decode("body", []byte(`{"size": 3, "tags": {"x": "y"}, "list": []}`), &got); err != nil || got.Size != 3 || got.Tags["x"] != "y" {
		t.Fatalf("%+v %v", got, err)
	}
}

func TestDecode_EmptyFileIsTheZeroValue(t *testing.T) {
	for _, text := range []string{"", "\ufeff", "\n\n", "# nothing\n", "---\n"} {
		var got leaf
		if _, err := strictyaml.Decode("f.yaml", []byte(text), &got); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDecode_RefusesAndNamesThePlace(t *testing.T) {
	for _, c := range []struct{ text, place, field string }{
		{"size: 1\nlist:\n  - {size: 1, sise: 2}", "f.yaml:3:15: ", "list[0].sise"},
		{"size: 1.5", "f.yaml:1:7: ", "size"},
		{"size: 010", "f.yaml:1:7: ", "size"},
		{"size: 0x10", "f.yaml:1:7: ", "size"},
		{"size: 1_000", "f.yaml:1:7: ", "size"},
		{"size: \"12\"", "f.yaml:1:7: ", "size"},
		{"size: 99999999999999999999", "f.yaml:1:7: ", "size"},
		{"size: 18446744073709551615", "f.yaml:1:7: ", "size"},
		{"on: yes", "f.yaml:1:5: ", "on"},
		{"ratio: much", "f.yaml:1:8: ", "ratio"},
		{"zone: [1]", "f.yaml:1:", "zone"},
		{"list: {size: 1}", "f.yaml:1:", "list"},
		{"tags: 3", "f.yaml:1:7: ", "tags"},
		{"size: 1\n---\nsize: 2", "f.yaml:3:", ""},
		{"size: 1\nsize: 2", "f.yaml:2:1: ", ""},
		{"list: &a [*a]", "f.yaml:1:", "list"},
		{"zone: !!str x", "f.yaml:1:", "zone"},
		{"- 1", "f.yaml:1:", ""},
		{"list: [", "f.yaml:1:", ""},
		{strings.Repeat("[", 1000), "f.yaml: ", ""},
		{strings.Repeat("- ", 5000), "f.yaml: ", ""},
	} {
		var got leaf
		_, err := strictyaml.Decode("f.yaml", []byte(c.text), &got)
		var problem *holdfast.Error
		if !errors.As(err, &problem) || problem.Kind != holdfast.KindInvalid {
			t.Errorf("%.40q: got %v", c.text, err)
			continue
		}
		if !strings.HasPrefix(problem.Message, c.place) || (c.field != "" && problem.Field != c.field) {
			t.Errorf("%.40q: got %q, field %q; want it at %q, field %q", c.text, problem.Message, problem.Field, c.place, c.field)
		}
	}
}

func TestDecode_UnknownFieldHintListsTheAcceptedOnes(t *testing.T) {
	var got leaf
	_, err := strictyaml.Decode("f.yaml", []byte("siz: 1"), &got)
	var problem *holdfast.Error
	if !errors.As(err, &problem) || problem.Hint != "accepted here: list, on, ratio, size, tags, zone" {
		t.Fatalf("got %#v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"size: 1", "list: [{size: 1}]", "tags: {a: b}", "a: &x [*x]", "? [a]\n: b", "zone: |\n  a\n  b\n", "{\"a\":[{}]}", "- - - -"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got leaf
		if _, err := strictyaml.Decode("f.yaml", data, &got); err != nil && !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Fatalf("kind %s of %v", holdfast.KindOf(err), err)
		}
	})
}
