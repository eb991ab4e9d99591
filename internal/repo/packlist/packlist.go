// Package packlist is the lists of packs: their text (doc/format.md §10), how lists of points stay short, condemnation lists, and
// the records of what became of packs that are gone (§12).
//
// It needs no key, and no storage but what a Source reads and a Writer's Put writes. It never decides what is needed.
package packlist

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Label is the first line of a pack list.
const Label = "holdfast pack list 1"

// List names the packs that a point needs: maybe more, never fewer (doc/format.md §10).
type List struct {
	Repository keys.RepositoryID
	Session    holdfast.SessionID
	Point      holdfast.PointID // "" in an included list
	Packs      []string
	Includes   []Include
}

// Include is a line that names another list.
type Include struct {
	Name  string // of another list, which has no includes itself
	Packs int
}

// Encode returns the list's bytes.
func (l List) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrepository %s\nsession %s\n", Label, l.Repository, l.Session)
	if l.Point != "" {
		fmt.Fprintf(&b, "point %s\n", l.Point)
	}
	for _, i := range l.Includes {
		fmt.Fprintf(&b, "include %s %d\n", i.Name, i.Packs)
	}
	for _, name := range l.Packs {
		fmt.Fprintf(&b, "pack %s\n", name)
	}
	return b.Bytes()
}

// Parse reads a list. Anything malformed is KindCorrupt.
func Parse(data []byte) (List, error) {
	var l List
	malformed := func(line string) (List, error) {
		return List{}, holdfast.Errorf(holdfast.KindCorrupt, "a pack list has the malformed line %.80q", line)
	}
	text, ok := strings.CutSuffix(string(data), "\n")
	if !ok {
		return malformed("")
	}
	for i, line := range strings.Split(text, "\n") {
		var err error
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case i == 0:
			if line != Label {
				return malformed(line)
			}
		case i == 1 && word == "repository":
			err = l.Repository.UnmarshalText([]byte(rest))
		case i == 2 && word == "session":
			err = l.Session.UnmarshalText([]byte(rest))
		case i == 3 && word == "point" && rest != "":
			l.Point = holdfast.PointID(rest)
		case i > 2 && word == "include":
			var in Include
			in, err = parseInclude(rest)
			l.Includes = append(l.Includes, in)
		case i > 2 && word == "pack":
			if kind, _ := layout.Parse(rest); kind != layout.DataPack && kind != layout.TreePack {
				return malformed(line)
			}
			l.Packs = append(l.Packs, rest)
		default:
			return malformed(line)
		}
		if err != nil {
			return malformed(line)
		}
	}
	return l, nil
}

func parseInclude(text string) (Include, error) {
	name, count, _ := strings.Cut(text, " ")
	packs, err := strconv.ParseUint(count, 10, 31)
	if kind, _ := layout.Parse(name); err == nil && kind != layout.List {
		err = fmt.Errorf("%q is not a list", name)
	}
	return Include{name, int(packs)}, err
}
