package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// TestMove proves that a policy gets the priority that it is given, and that only those that stand in its way move.
func TestMove(t *testing.T) {
	for _, c := range []struct {
		name     string
		priority int
		want     string
	}{
		{"c", 1, "a2 b3 c1 d7"},
		{"a", 7, "a7 b2 c3 d8"},
		{"d", 4, "a1 b2 c3 d4"},
		{"b", 2, "a1 b2 c3 d7"},
		{"a", 3, "a3 b2 c4 d7"},
	} {
		var all []holdfast.SLAPolicy
		for i, name := range []string{"a", "b", "c", "d"} {
			all = append(all, holdfast.SLAPolicy{PolicyCommon: holdfast.PolicyCommon{Name: name, Priority: []int{1, 2, 3, 7}[i]}})
		}
		move(all, func(p *holdfast.SLAPolicy) *holdfast.PolicyCommon { return &p.PolicyCommon }, c.name, c.priority)
		var got []string
		for _, p := range all {
			got = append(got, fmt.Sprint(p.Name, p.Priority))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s to %d: %v, want %s", c.name, c.priority, got, c.want)
		}
	}
}

// TestChanges proves what becomes of each document, with lines that differ.
func TestChanges(t *testing.T) {
	before := []store.Document{{Kind: "A", Name: "same", YAML: "x: 1\n", Version: 4}, {Kind: "A", Name: "gone", YAML: "x: 1\n"}, {Kind: "A", Name: "other", YAML: "x: 1\ny: 2\n", Version: 2, Author: "anna"}}
	after := []store.Document{{Kind: "A", Name: "same", YAML: "x: 1\n"}, {Kind: "A", Name: "new", YAML: "z: 3\n"}, {Kind: "A", Name: "other", YAML: "x: 1\ny: 3\n"}}
	got := map[string]view.Change{}
	for _, c := range changes(before, after) {
		got[c.Name] = c
	}
	for name, want := range map[string]view.Verb{"same": view.Unchanged, "gone": view.Remove, "new": view.Create, "other": view.Update} {
		if got[name].Verb != want {
			t.Errorf("%s: %s", name, got[name].Verb)
		}
	}
	if text := strings.Join(got["other"].Diff, "\n"); !strings.Contains(text, "-y: 2") || !strings.Contains(text, "+y: 3") || !strings.Contains(text, " x: 1") || got["other"].Version != 2 {
		t.Errorf("%+v", got["other"])
	}
}

// TestCell keeps spreadsheets from running what a document or a cloud names.
func TestCell(t *testing.T) {
	for text, want := range map[string]string{"=1+1": "'=1+1", "@x": "'@x", "-1": "'-1", "plain": "plain", "": ""} {
		if got := cell(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
