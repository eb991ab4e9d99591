package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

const report = `GET https://management.example/subscriptions/s?api-version=1
--------------------------------------------------------------------------------
RESPONSE 404: 404 Not Found
ERROR CODE: ResourceNotFound
--------------------------------------------------------------------------------
{
  "error": {
    "code": "ResourceNotFound",
    "message": "The disk \"d\" was not found."
  }
}
--------------------------------------------------------------------------------
`

// Whatever an error holds, a person reads one line, with the service's own words and without the report around them.
func TestSentence(t *testing.T) {
	wrapped := holdfast.Wrap(holdfast.KindNotFound, errors.New(report), "there is no disk d")
	xml := strings.ReplaceAll(report, "{\n  \"error\"", "<Error><Message>The container is gone.</Message></Error>\n{\n  \"error\"")
	for _, row := range []struct {
		err  error
		want string
	}{
		{wrapped, `there is no disk d: ResourceNotFound The disk \"d\" was not found. (HTTP 404)`},
		{fmt.Errorf("reading: %w", errors.New(xml)), "reading: ResourceNotFound The container is gone. (HTTP 404)"},
		{errors.Join(errors.New("one"), errors.New("two")), "one; two"},
		{fmt.Errorf("far down: %w", context.Canceled), "stopped"},
		{errors.New("plain"), "plain"},
	} {
		if got := cli.Sentence(row.err); got != row.want {
			t.Errorf("%q, expected %q", got, row.want)
		}
	}
}

// A failure is told once: to scripts as one line of JSON that always has all four fields, to people with what to do next.
func TestConsole_Fail(t *testing.T) {
	for kind, code := range map[holdfast.Kind]int{
		holdfast.KindInvalid: 2, holdfast.KindNotFound: 3, holdfast.KindCorrupt: 4, holdfast.KindRefused: 5, holdfast.KindConflict: 5, holdfast.KindWrongKey: 6,
		holdfast.KindThrottled: 1, holdfast.KindUnavailable: 1, holdfast.KindCanceled: 1, holdfast.KindInternal: 1,
	} {
		var out, errs bytes.Buffer
		script := cli.Console{Out: &out, Err: &errs, JSON: true}
		if got := script.Fail(holdfast.Errorf(kind, "a <b>")); got != code {
			t.Errorf("%s gives exit %d, expected %d", kind, got, code)
		}
		if want := fmt.Sprintf(`{"error":{"kind":%q,"message":"a <b>","hint":"","field":""}}`+"\n", kind); out.String() != want || errs.Len() > 0 {
			t.Errorf("a script reads %q and %q, expected %q", out.String(), errs.String(), want)
		}
	}
	var out, errs bytes.Buffer
	people := cli.Console{Out: &out, Err: &errs}
	people.Fail(holdfast.Errorf(holdfast.KindInvalid, "wrong").WithHint("do right"))
	if errs.String() != "Error: wrong\n  → do right\n" || out.Len() > 0 {
		t.Errorf("people read %q and %q", out.String(), errs.String())
	}
	if cli.ExitCode(nil) != 0 || cli.ExitCode(errors.New("unknown")) != 1 {
		t.Error("success is not 0, or an unknown failure not 1")
	}
}

// Several mistakes in one input are told one by one; scripts find the first where a single one would be, and the others beside it.
func TestConsole_Fail_Several(t *testing.T) {
	first := holdfast.Errorf(holdfast.KindInvalid, "f:1:1: a: wrong").WithField("a").WithHint("x")
	several := errors.Join(first, holdfast.Errorf(holdfast.KindInvalid, "f:2:1: b: odd").WithField("b"))
	var out, errs bytes.Buffer
	people := cli.Console{Out: &out, Err: &errs}
	if code := people.Fail(several); code != 2 || errs.String() != "Error: f:1:1: a: wrong\n  → x\nError: f:2:1: b: odd\n" {
		t.Errorf("exit %d, people read %q", code, errs.String())
	}
	script := cli.Console{Out: &out, Err: &errs, JSON: true}
	script.Fail(several)
	want := `{"error":{"kind":"invalid","message":"f:1:1: a: wrong","hint":"x","field":"a","also":[{"message":"f:2:1: b: odd","hint":"","field":"b"}]}}` + "\n"
	if out.String() != want {
		t.Errorf("a script reads %s", out.String())
	}
	errs.Reset()
	people.Fail(errors.Join(first, errors.New("something else")))
	if errs.String() != "Error: f:1:1: a: wrong; something else\n  → x\n" {
		t.Errorf("people read %q", errs.String())
	}
}

// Where standard error is no terminal, a bar writes a line now and then, and none for work that is quickly done.
func TestProgress_PlainLines(t *testing.T) {
	var errs bytes.Buffer
	now := clock.NewManual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	console := cli.Console{Err: &errs}
	progress := console.NewProgress(now)
	place, amount := progress.Bar("disk", 4<<20), progress.Bar("verify", 0)
	place.At(1 << 20)
	amount.Add(1 << 20)
	if errs.Len() > 0 {
		t.Errorf("work that just began says %q", errs.String())
	}
	now.Advance(10 * time.Second)
	place.At(2 << 20)
	place.At(1 << 20) // a bar never moves back
	amount.Add(9 << 20)
	if progress.Bar("disk", 7) != place {
		t.Error("a name has two bars")
	}
	progress.Wait(nil)
	if want := "disk: 2.00 MiB of 4.00 MiB (50 %)\nverify: 10.0 MiB, 1.00 MiB/s\n"; errs.String() != want {
		t.Errorf("people read %q, expected %q", errs.String(), want)
	}
}

func TestBytesAndTook(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10 << 20: "10.0 MiB", 128 << 10: "128 KiB", 3 << 40: "3.00 TiB", 1 << 60: "1024 PiB"} {
		if got := cli.Bytes(n); got != want {
			t.Errorf("%d bytes are %q, expected %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0.0 s", 1900 * time.Millisecond: "1.9 s", 37 * time.Second: "37 s", 97 * time.Second: "1m37s"} {
		if got := cli.Took(d); got != want {
			t.Errorf("%v is %q, expected %q", d, got, want)
		}
	}
}

// Names that anybody may choose cannot move the cursor, hide a line or turn the writing, in results, tables, notes and errors.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"web-1 (ü, 数据)":   "web-1 (ü, 数据)",
		"a\nb\tc\r":       `a\nb\tc\r`,
		"\x1b[2Jgone":     `\x1b[2Jgone`,
		"bad\xffbyte":     `bad\xffbyte`,
		"txt.\u202eexe":   `txt.\u202eexe`,
		"it's \"quoted\"": `it's "quoted"`,
		"'":               "'",
	} {
		if got := cli.Printable(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	var out, errors bytes.Buffer
	console := &cli.Console{Out: &out, Err: &errors}
	console.Note("two\nlines, \x1b[1A%s", "\a")
	console.Fail(holdfast.Errorf(holdfast.KindInvalid, "there is \x1b]0;title\a").WithHint("\x9b2J"))
	if err := cli.Table(&out, []string{"NAME", "SIZE"}, [][]string{{"a\tb\x1b", "1"}}); err != nil {
		t.Fatal(err)
	}
	if text := out.String() + errors.String(); strings.ContainsAny(text, "\x1b\a\u009b\t") || strings.Count(errors.String(), "\n") != 4 {
		t.Errorf("%q", text)
	}
}
