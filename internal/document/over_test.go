package document_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/document"
)

// policyFile is a policy as a file of its own; priority 0 leaves it out.
func policyFile(name string, priority int) document.File {
	text := "kind: SchedulePolicy\nname: " + name + "\nsources: {regions: [westeurope], all: true}\ndaily: {snapshots: {hours: [2], keep: 7}}\n"
	if priority > 0 {
		text += fmt.Sprintf("priority: %d\n", priority)
	}
	return document.File{Name: name + ".yaml", Folder: "/", Data: []byte(text)}
}

// TestReadOver proves where policies that are read over others stand, and that what a file replaces is not there twice.
func TestReadOver(t *testing.T) {
	inForce := []document.File{policyFile("a", 1), policyFile("b", 2), policyFile("c", 5)}
	for _, c := range []struct {
		files []document.File
		want  string
	}{
		{nil, "a1 b2 c5"},
		{[]document.File{policyFile("b", 0)}, "a1 b2 c5"},
		{[]document.File{policyFile("d", 0)}, "a1 b2 c5 d6"},
		{[]document.File{policyFile("d", 1)}, "d1 a2 b3 c5"},
		{[]document.File{policyFile("c", 1)}, "c1 a2 b3"},
		{[]document.File{policyFile("d", 0), policyFile("e", 0), policyFile("a", 0)}, "a1 b2 c5 d6 e7"},
	} {
		documents, _, err := document.ReadOver(inForce, c.files)
		if err != nil {
			t.Errorf("%v: %v", names(c.files), err)
			continue
		}
		var got []string
		for _, p := range documents.SchedulePolicies {
			got = append(got, fmt.Sprint(p.Name, p.Priority))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v: %v, want %s", names(c.files), got, c.want)
		}
	}
	_, _, err := document.ReadOver(inForce, []document.File{policyFile("d", 1), policyFile("e", 1)})
	if err == nil || !strings.Contains(err.Error(), `1 is the priority of "d" already`) {
		t.Errorf("two files that ask for one priority: %v", err)
	}
}

func names(files []document.File) (all []string) {
	for _, n := range document.Names(files...) {
		all = append(all, n.Name)
	}
	return all
}
