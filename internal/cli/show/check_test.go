package show_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/document"
)

// TestCheck_Tell shows nothing that a terminal would obey, and every mistake with its hint on lines of their own.
func TestCheck_Tell(t *testing.T) {
	policy := "kind: SchedulePolicy\nname: shop\nsources: {regions: [westeurope], include: [{tag: {name: a, value: \"\\e[2Jb\\nc\"}}]}\n"
	for text, want := range map[string]string{
		policy:                  "  It protects in westeurope: machines with the tag a=\\x1b[2Jb\\nc.\n",
		policy + "\"\\a\": x\n": "set.yaml:4:1: \\a: unknown field\n  → accepted here: ",
	} {
		d, notes, err := document.Read(document.File{Name: "set.yaml", Data: []byte(text)})
		var mistakes document.Mistakes
		_ = errors.As(err, &mistakes) // none where there is no error
		var out strings.Builder
		if err := show.NewCheck(d, notes, mistakes).Tell(&out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) || strings.ContainsAny(out.String(), "\x1b\a") {
			t.Errorf("people read\n%q\nwant\n%q", out.String(), want)
		}
	}
}
