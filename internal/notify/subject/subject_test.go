package subject_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify/subject"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		kind     subject.Kind
		template string
		problem  string // "" where it is accepted
	}{
		{subject.Session, "[%JobResult%] %JobName% (%ObjectCount% instances) %Issues%", ""},
		{subject.Report, "%JobName% (%ObjectCount% instances): [%SLAType% for the period %SLAPeriod% is %SLAStatus%]", ""},
		{subject.Session, "100 % of 50% is %", ""},
		{subject.Session, "%%JobName%%", ""},
		{subject.Session, "%SLAType%", "%SLAType% stands for nothing"},
		{subject.Report, "%JobResult%", "%JobResult% stands for nothing"},
		{subject.Report, "%Issues%", "%Issues% stands for nothing"},
		{subject.Session, "%jobname%", "%jobname% stands for nothing"},
		{subject.Session, "a %JobName% b %Names%", "%Names% stands for nothing"},
		{subject.Session, "", "cannot be a subject"},
		{subject.Session, "a\r\nBcc: b@example.com", "cannot be a subject"},
		{subject.Session, "a\u202eb", "cannot be a subject"},
		{subject.Session, strings.Repeat("ä", 255), ""},
		{subject.Session, strings.Repeat("ä", 256), "cannot be a subject"},
	} {
		err := subject.Check(c.kind, c.template)
		var e *holdfast.Error
		switch {
		case c.problem == "" && err != nil:
			t.Errorf("%q: %v", c.template, err)
		case c.problem != "" && (!errors.As(err, &e) || e.Kind != holdfast.KindInvalid || !strings.Contains(e.Message, c.problem) || e.Hint == ""):
			t.Errorf("%q: %v, want %s", c.template, err, c.problem)
		}
	}
}

func TestFill(t *testing.T) {
	values := map[string]string{"JobName": "nightly %Issues%", "Issues": "2 with issues", "JobResult": "Failed\r\nBcc: x@example.com"}
	for template, want := range map[string]string{
		"%JobName%: %Issues%":           "nightly %Issues%: 2 with issues",
		"%JobName%%Issues%":             "nightly %Issues%2 with issues",
		"[%JobResult%]":                 "[Failed Bcc: x@example.com]",
		"100 % %Other% %JobName":        "100 % %Other% %JobName",
		strings.Repeat("%JobName%", 40): "", // only its length is looked at
	} {
		got := subject.Fill(template, values)
		if want != "" && got != want || utf8.RuneCountInString(got) > 255 {
			t.Errorf("%q: %q, want %q", template, got, want)
		}
	}
}

// TestFill_OneLine proves of any values that a subject is one line of valid text without anything that cannot be seen.
func TestFill_OneLine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		raw := string(rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes")) + rapid.String().Draw(rt, "text")
		got := subject.Fill("[%JobResult%] %JobName%", map[string]string{"JobName": raw, "JobResult": "Success"})
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > 255 || strings.ContainsAny(got, "\r\n\x00\x1b\u202e\u2028") || !strings.HasPrefix(got, "[Success]") {
			rt.Errorf("%q becomes %q", raw, got)
		}
	})
}
