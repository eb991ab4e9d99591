package retention_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

const twoPoints = `{"id":"1","vm":"/a","kind":"snapshot","policy":"shop","created":"2026-03-02T08:00:00+01:00","flags":"DW","base":true,"keep":{"daily":"3 points","weekly":"21 days","zone":"Europe/Berlin"}}
{"id":"2","vm":"/B","kind":"backup","manual":true,"created":"2026-03-02T07:00:00Z","good":false,"lockedUntil":"2026-04-01T00:00:00Z"}
`

// An array and JSON Lines say the same; what is left out of a point is that it is bad; and what is written is read again.
func TestParsePoints(t *testing.T) {
	lines, err := retention.ParsePoints("f.json", []byte(twoPoints))
	if err != nil {
		t.Fatal(err)
	}
	list := "\n [" + strings.Replace(strings.TrimSpace(twoPoints), "\n", ",\n", 1) + "] "
	array, err := retention.ParsePoints("f.json", []byte(list))
	if err != nil || asJSON(t, array) != asJSON(t, lines) {
		t.Fatalf("the array says %v, %v, the lines say %v", array, err, lines)
	}
	first := lines[0]
	if !first.Good || lines[1].Good || first.Keep.Daily != retention.Newest(3) || first.Keep.Weekly != retention.Lasting(holdfast.Days(21)) || first.Keep.Zone.String() != "Europe/Berlin" {
		t.Errorf("%+v", lines)
	}
	if !strings.Contains(asJSON(t, lines), `"created":"2026-03-02T07:00:00Z"`) {
		t.Errorf("not in UTC: %s", asJSON(t, lines))
	}
	again, err := retention.ParsePoints("f.json", []byte(asJSON(t, lines)))
	if err != nil || asJSON(t, again) != asJSON(t, lines) {
		t.Errorf("written and read: %v, %v", again, err)
	}
	if machines := retention.Machines(lines); len(machines) != 2 || machines[0][0].ID != "1" || retention.Latest(machines[1]).Policy != "" || retention.Latest(lines).ID != "1" {
		t.Errorf("machines %v", machines)
	}
	for _, empty := range []string{"", " \n", "[]"} {
		if points, err := retention.ParsePoints("f.json", []byte(empty)); len(points) != 0 || err != nil {
			t.Errorf("%q: %v, %v", empty, points, err)
		}
	}
}

// Each mistake names the point, its line and, where there is one, the field.
func TestParsePoints_Mistakes(t *testing.T) {
	good := `{"id":"1","vm":"/a","kind":"snapshot","policy":"shop","created":"2026-03-02T07:00:00Z"}`
	for _, c := range []struct{ text, want, field string }{
		{good + "\n\n" + strings.Replace(good, `"1"`, `""`, 1), "f.json:3: id is missing", "[1].id"},
		{"[" + good + ",\n" + strings.Replace(good, `,"vm"`, ",\n\n"+`"vm"`, 1) + "]", "f.json:2: restore point 1 is in the list twice", "[1].id"},
		{strings.Replace(good, `"/a"`, `""`, 1), "f.json:1: vm is missing", "[0].vm"},
		{strings.Replace(good, `,"created":"2026-03-02T07:00:00Z"`, "", 1), "created is missing", "[0].created"},
		{strings.Replace(good, "2026-03-02T", "2026-03-02 ", 1), `"2026-03-02 07:00:00Z" is not a moment`, ""},
		{strings.Replace(good, `"1"`, `1`, 1), "id is a number", "[0].id"},
		{strings.Replace(good, "snapshot", "copy", 1), `"copy" is no kind`, "[0].kind"},
		{strings.Replace(good, `,"policy":"shop"`, "", 1), "neither which policy", "[0].policy"},
		{strings.Replace(good, `"vm"`, `"flags":"DD","vm"`, 1), `"DD" are not flags`, ""},
		{strings.Replace(good, `"vm"`, `"flags":"D","temporary":true,"vm"`, 1), "bears flags", "[0].flags"},
		{strings.Replace(good, `"snapshot"`, `"backup","base":true`, 1), "no snapshot", "[0].base"},
		{strings.Replace(good, `"vm"`, `"keep":{"daily":"3 bananas"},"vm"`, 1), "how long points are kept", ""},
		{strings.Replace(good, `"vm"`, `"keep":{"zone":"Mars"},"vm"`, 1), "not a time zone", ""},
		{strings.Replace(good, `"vm"`, `"lockedTill":"x","vm"`, 1), `unknown field "lockedTill"`, ""},
		{strings.Replace(good, "shop", `a\u001b[31m`, 1), "cannot be printed", "[0].policy"},
		{"[" + good, "breaks off", ""},
		{"[" + good + "] 1", "follows the end", ""},
		{good[:20], "breaks off", ""},
		{"[1]", "an object, not a number", ""},
	} {
		_, err := retention.ParsePoints("f.json", []byte(c.text))
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != holdfast.KindInvalid || !strings.Contains(e.Message, c.want) || e.Field != c.field || e.Hint == "" {
			t.Errorf("%s\n\tgives %#v, expected %q at %q", c.text, err, c.want, c.field)
		}
	}
}

// Whatever a file holds, it is read or refused; and what was read is written so that it reads the same.
func FuzzParsePoints(f *testing.F) {
	f.Add([]byte(twoPoints))
	f.Add([]byte(`[{"id":"1","vm":"a","kind":"archive","policy":"p","created":"9999-12-31T23:59:59Z","flags":"MY","like":"daily","keep":{"yearly":"36525 years"}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		points, err := retention.ParsePoints("f.json", data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindInvalid) {
				t.Fatalf("kind %s: %v", holdfast.KindOf(err), err)
			}
			return
		}
		again, err := retention.ParsePoints("f.json", []byte(asJSON(t, points)))
		if err != nil || asJSON(t, points) != asJSON(t, again) {
			t.Fatalf("%v, %v after %v", again, err, points)
		}
		for _, machine := range retention.Machines(points) {
			asJSON(t, retention.Explain(at("03-20 00:15"), retention.BothOccasions, retention.Unprotected(settings()), machine))
		}
	})
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
