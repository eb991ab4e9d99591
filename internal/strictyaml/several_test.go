package strictyaml_test

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

type base struct {
	Kind string `yaml:"kind,required"`
	Note string `yaml:"note"`
}

// span is a struct that may be written as a text.
type span struct {
	From string `yaml:"from,required"`
	To   string `yaml:"to"`
}

func (s span) MarshalText() ([]byte, error) { return []byte(s.From + ".." + s.To), nil }

func (s *span) UnmarshalText(text []byte) error {
	from, to, ok := strings.Cut(string(text), "..")
	if !ok {
		return holdfast.Errorf(holdfast.KindInvalid, "%q is no span", text).WithHint("write a..b")
	}
	s.From, s.To = from, to
	return nil
}

type letter struct {
	base
	Keep  holdfast.Period     `yaml:"keep"`
	At    *holdfast.TimeOfDay `yaml:"at"`
	Span  *span               `yaml:"span"`
	Parts []part              `yaml:"parts"`
	Table map[string]string   `yaml:"table"`
	Count int                 `yaml:"count,required"`
	Share *float64            `yaml:"share"`
	Maybe *bool               `yaml:"maybe"`
}

type part struct {
	Words []string `yaml:"words"`
	Inner *part    `yaml:"inner"`
}

// TestSplit gives each document its own places, counted in the file, and leaves empty ones out.
func TestSplit(t *testing.T) {
	parts, mistake := strictyaml.Split("f.yaml", []byte("# first\nkind: a\ncount: 1\n---\n# nothing\n---\ncount: 2\nkind: b\nspan: {from: x}\nkeep: 14 days\n"))
	if mistake != nil || len(parts) != 2 {
		t.Fatalf("%d parts, %v", len(parts), mistake)
	}
	if kind, d := parts[1].Text("kind"); kind != "b" || d.Mistake("kind", "x").String() != "f.yaml:8:7: kind: x" {
		t.Errorf("kind %q at %s", kind, d.Mistake("kind", "x"))
	}
	var got letter
	d, mistakes := parts[1].Decode(&got)
	if len(mistakes) > 0 || got.Kind != "b" || got.Count != 2 || got.Span.From != "x" || got.Keep != holdfast.Days(14) {
		t.Errorf("%+v, %v", got, mistakes)
	}
	if m := d.Mistake("span.from", "x"); m.Line != 9 || m.Column != 8 {
		t.Errorf("place %+v", m)
	}
	var text letter
	if _, mistakes := decode("kind: a\ncount: 0\nspan: a..b\nat: \"07:30\"", &text); len(mistakes) > 0 || *text.Span != (span{"a", "b"}) || *text.At != 450 {
		t.Errorf("%+v, %v", text, mistakes)
	}
}

func decode(text string, into any) (*strictyaml.Document, []strictyaml.Mistake) {
	parts, mistake := strictyaml.Split("f.yaml", []byte(text))
	if mistake != nil {
		return nil, []strictyaml.Mistake{*mistake}
	}
	return parts[0].Decode(into)
}

// TestPart_Decode_TellsEveryMistake in the order of the file, with places and hints.
func TestPart_Decode_TellsEveryMistake(t *testing.T) {
	var got letter
	_, mistakes := decode("note: [1]\nkeep: 14\nodd: 1\nspan: nothing\nparts:\n  - {words: 3}\n  - words: [a, {b: c}]\nat: 7\nkeep: 1 day\nspan2: x\n", &got)
	var all []string
	for _, m := range mistakes {
		all = append(all, m.String())
	}
	want := []string{
		`f.yaml:1:7: note: a text is wanted here, not a list`,
		`f.yaml:2:7: keep: "14" is not a period`,
		`f.yaml:3:1: odd: unknown field`,
		`f.yaml:4:7: span: "nothing" is no span`,
		`f.yaml:6:13: parts[0].words: a list is wanted here, not "3"`,
		`f.yaml:7:16: parts[1].words[1]: a text is wanted here, not a mapping`,
		`f.yaml:8:5: at: "7" is not a time of day`,
		`f.yaml:9:1: keep: set twice`,
		`f.yaml:10:1: span2: unknown field`,
		`f.yaml:1:1: kind: missing`,
		`f.yaml:1:1: count: missing`,
	}
	if !reflect.DeepEqual(all, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(all, "\n"), strings.Join(want, "\n"))
	}
	if mistakes[1].Hint == "" || mistakes[3].Hint != "write a..b" || mistakes[2].Hint != "accepted here: at, count, keep, kind, maybe, note, parts, share, span, table" {
		t.Errorf("hints %q, %q, %q", mistakes[1].Hint, mistakes[3].Hint, mistakes[2].Hint)
	}
}

// TestSplit_LosesNone proves that no document is passed over, however documents are separated; the parser alone would.
func TestSplit_LosesNone(t *testing.T) {
	for text, want := range map[string]int{
		"a: 1\n---\n---\nb: 1\n":                      2,
		"---\n---\n# x\n---\r\n  \n---\na: 1":         1,
		"--- # x\na: 1\n--- # y\n---\nb: 1\n---\n# z": 2,
		"a: 1\n...\n---\n...\n---\nb: 1\n...\n":       2,
		"a: |\n  x\n  ---\n---\nb: 1\n":               2,
		"---\n--- {a: 1}\n---\nb: 1\n":                2,
		"\ufeffa: 1\n---\nb: 1":                       2,
		"# a\n---\n":                                  0,
		"a: '\n---\n'\n":                              -1,
		"a: 1\n...\nb: 1\n":                           2,
	} {
		parts, mistake := strictyaml.Split("f.yaml", []byte(text))
		if got := len(parts); mistake == nil && got != want || mistake != nil && want >= 0 {
			t.Errorf("%q: %d documents, %v; want %d", text, got, mistake, want)
		}
	}
}

// TestPart_Decode_StopsTelling after a hundred mistakes.
func TestPart_Decode_StopsTelling(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		b.WriteString("odd" + strings.Repeat("x", i) + ": 1\n")
	}
	if _, mistakes := decode(b.String(), &letter{}); len(mistakes) != 100 {
		t.Errorf("%d mistakes", len(mistakes))
	}
}

// TestEncode reads back what it wrote, whatever texts it was given.
func TestEncode(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"", "true", "No", "~", "null", "1", "1 2", "0x1", "1e3", "-", "- a", "a: b", "a #b", "#", "é", " a", "a ", "a\nb", "\r", "\x00", "\u2028", "\ufeff", "\U0001F600", "'", `"`, `\`,
			"[a]", "{a}", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a", "07:00", "14 days", "2026-01-01", ".inf", ".nan", "---", "...", "<<", "?", "=", "a,b", "on",
		}))
		var want letter
		want.Kind, want.Note, want.Count = text.Draw(rt, "kind"), text.Draw(rt, "note"), rapid.Int().Draw(rt, "count")
		if rapid.Bool().Draw(rt, "more") {
			share, maybe, at := rapid.Float64Range(-1e9, 1e9).Draw(rt, "share"), rapid.Bool().Draw(rt, "maybe"), holdfast.TimeOfDay(0)
			want.Share, want.Maybe, want.At, want.Keep, want.Span = &share, &maybe, &at, holdfast.Hours(1), &span{"a: b", text.Draw(rt, "to")}
			want.Table = map[string]string{text.Draw(rt, "key"): text.Draw(rt, "value")}
			inner := part{Words: rapid.SliceOfN(text, 1, 4).Draw(rt, "words"), Inner: &part{Words: []string{"x"}, Inner: &part{Words: []string{text.Draw(rt, "deep")}}}}
			want.Parts = []part{inner, {Words: []string{"y", strings.Repeat("long ", 30)}}, {Inner: &part{Inner: &inner}}}
		}
		written, err := strictyaml.Encode(&want)
		if err != nil {
			rt.Fatal(err)
		}
		var got letter
		if _, err := strictyaml.Decode("f.yaml", written, &got); err != nil {
			rt.Fatalf("%v\n%s", err, written)
		}
		if !reflect.DeepEqual(got, want) {
			rt.Fatalf("got  %+v\nwant %+v\n%s", got, want, written)
		}
	})
}

// TestEncode_Looks as a person would write it.
func TestEncode_Looks(t *testing.T) {
	share := 0.5
	l := letter{base: base{Kind: "a"}, Keep: holdfast.Days(14), Span: &span{"a", "b"}, Share: &share, Table: map[string]string{"b": "1", "a": "x y"}}
	l.Parts = []part{{Words: []string{"one", "two"}}, {Words: []string{"x"}, Inner: &part{Inner: &part{Words: []string{"no"}}}}}
	got, err := strictyaml.Encode(&l)
	want := `kind: a
keep: 14 days
span: a..b
parts:
  - {words: [one, two]}
  - words: [x]
    inner:
      inner: {words: ["no"]}
table: {a: x y, b: "1"}
count: 0
share: 0.5
`
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestShapeOf says of each field what Decode accepts.
func TestShapeOf(t *testing.T) {
	var say func(s strictyaml.Shape) string
	say = func(s strictyaml.Shape) string {
		text := string(s.Form)
		if s.Texts {
			text += "|text"
		}
		if s.Element != nil && s.Element.Type != "part" {
			text += " of " + say(*s.Element)
		}
		for _, f := range s.Fields {
			text += " " + f.Name
			if f.Required {
				text += "!"
			}
			if f.Name != "inner" && f.Name != "parts" {
				text += ":" + say(f.Shape)
			}
		}
		return text
	}
	got := say(strictyaml.ShapeOf(&struct {
		base
		Keep  holdfast.Period   `yaml:"keep"`
		Span  *span             `yaml:"span"`
		Words []string          `yaml:"words"`
		Table map[string]string `yaml:"table"`
		Count int               `yaml:"count,required"`
		Share *float64          `yaml:"share"`
		Maybe *bool             `yaml:"maybe"`
	}{}))
	want := "mapping kind!:text note:text keep:text span:mapping|text from!:text to:text words:list of text table:table of text count!:whole share:number maybe:truth"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
