package repo

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// packList names the packs that a point needs: maybe more, never fewer (doc/format.md §10).
type packList struct {
	repository keys.RepositoryID
	session    holdfast.SessionID
	point      holdfast.PointID // "" in an included list
	packs      []string
	includes   []include
}

type include struct {
	name  string // of another list, which has no includes itself
	packs int
}

const (
	listLabel         = "holdfast pack list 1"
	condemnationLabel = "holdfast condemnation 1"

	// inlinePacksMax is how many packs a list holds itself before it moves them to an included list.
	inlinePacksMax = 32
	// includesPerClass is how many included lists of one size class stand before they become one of the next.
	includesPerClass = 8
	// includedPacksMax is how many packs an included list may name: beyond it lists are not merged any more, so that none grows
	// beyond what readers take (78 bytes a line, layout.ListBytesMax).
	includedPacksMax = 1 << 19
)

func (l packList) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrepository %s\nsession %s\n", listLabel, l.repository, l.session)
	if l.point != "" {
		fmt.Fprintf(&b, "point %s\n", l.point)
	}
	for _, i := range l.includes {
		fmt.Fprintf(&b, "include %s %d\n", i.name, i.packs)
	}
	for _, name := range l.packs {
		fmt.Fprintf(&b, "pack %s\n", name)
	}
	return b.Bytes()
}

// parsePackList reads a list. Anything malformed is KindCorrupt.
func parsePackList(data []byte) (packList, error) {
	var l packList
	malformed := func(line string) (packList, error) {
		return packList{}, holdfast.Errorf(holdfast.KindCorrupt, "a pack list has the malformed line %.80q", line)
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
			if line != listLabel {
				return malformed(line)
			}
		case i == 1 && word == "repository":
			err = l.repository.UnmarshalText([]byte(rest))
		case i == 2 && word == "session":
			err = l.session.UnmarshalText([]byte(rest))
		case i == 3 && word == "point" && rest != "":
			l.point = holdfast.PointID(rest)
		case i > 2 && word == "include":
			var in include
			in, err = parseInclude(rest)
			l.includes = append(l.includes, in)
		case i > 2 && word == "pack":
			if kind, _ := layout.Parse(rest); kind != layout.DataPack && kind != layout.TreePack {
				return malformed(line)
			}
			l.packs = append(l.packs, rest)
		default:
			return malformed(line)
		}
		if err != nil {
			return malformed(line)
		}
	}
	return l, nil
}

func parseInclude(text string) (include, error) {
	name, count, _ := strings.Cut(text, " ")
	packs, err := strconv.ParseUint(count, 10, 31)
	if kind, _ := layout.Parse(name); err == nil && kind != layout.List {
		err = fmt.Errorf("%q is not a list", name)
	}
	return include{name, int(packs)}, err
}

func readPackList(ctx context.Context, store blob.Reader, name string) (packList, error) {
	data, err := readNamed(ctx, store, name, layout.ListBytesMax)
	if err != nil {
		return packList{}, err
	}
	return parsePackList(data)
}

// writePackList stores the list of a new point: the parents' packs added to its own. Lists stay short because packs move to
// included lists, whose number grows with the logarithm of the number of packs.
func (r *Repository) writePackList(ctx context.Context, list packList, parents []string) (string, error) {
	for _, parent := range parents {
		l, err := readPackList(ctx, r.store, parent)
		if err != nil {
			return "", err
		}
		list.packs = append(list.packs, l.packs...)
		list.includes = append(list.includes, l.includes...)
	}
	list.packs = sortedUnique(list.packs)
	slices.SortFunc(list.includes, func(a, b include) int { return strings.Compare(a.name, b.name) })
	list.includes = slices.Compact(list.includes)
	if len(list.packs) > inlinePacksMax {
		for packs := range slices.Chunk(list.packs, includedPacksMax) {
			in, err := r.writeIncluded(ctx, list.session, packs)
			if err != nil {
				return "", err
			}
			list.includes = append(list.includes, in)
		}
		list.packs = nil
	}
	if err := r.mergeIncludes(ctx, list.session, &list); err != nil {
		return "", err
	}
	return r.put(ctx, layout.List, list.encode())
}

func (r *Repository) writeIncluded(ctx context.Context, session holdfast.SessionID, packs []string) (include, error) {
	name, err := r.put(ctx, layout.List, packList{repository: r.id, session: session, packs: packs}.encode())
	return include{name, len(packs)}, err
}

// mergeIncludes makes one list of every eight of a size class.
func (r *Repository) mergeIncludes(ctx context.Context, session holdfast.SessionID, list *packList) error {
	for {
		classes := map[int][]include{}
		for _, in := range list.includes {
			if in.packs > includedPacksMax/includesPerClass {
				continue // eight of them together might be too long
			}
			c := sizeClass(in.packs)
			classes[c] = append(classes[c], in)
		}
		full := slices.IndexFunc(list.includes, func(in include) bool { return len(classes[sizeClass(in.packs)]) >= includesPerClass })
		if full < 0 {
			return nil
		}
		merge := classes[sizeClass(list.includes[full].packs)][:includesPerClass]
		var packs []string
		for _, in := range merge {
			l, err := readPackList(ctx, r.store, in.name)
			if err != nil {
				return err
			}
			packs = append(packs, l.packs...)
		}
		merged, err := r.writeIncluded(ctx, session, sortedUnique(packs))
		if err != nil {
			return err
		}
		list.includes = slices.DeleteFunc(list.includes, func(in include) bool { return slices.Contains(merge, in) })
		list.includes = append(list.includes, merged)
	}
}

// sizeClass groups lists whose lengths are within a factor of eight.
func sizeClass(packs int) int { return (bits.Len(uint(packs)) - 1) / 3 }

func sortedUnique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// expandPackList returns all packs a list names, and the included lists. It needs no key.
func expandPackList(ctx context.Context, store blob.Reader, name string) (packs, includes []string, err error) {
	l, err := readPackList(ctx, store, name)
	if err != nil {
		return nil, nil, err
	}
	packs = l.packs
	for _, in := range l.includes {
		includes = append(includes, in.name)
		nested, err := readPackList(ctx, store, in.name)
		if err != nil {
			return packs, includes, err
		}
		if len(nested.includes) > 0 {
			return packs, includes, holdfast.Errorf(holdfast.KindCorrupt, "%s is included in a list and includes others", in.name)
		}
		packs = append(packs, nested.packs...)
	}
	return sortedUnique(packs), includes, nil
}

// parseCondemnation reads a condemnation list: its label, then one object name a line (doc/format.md §12).
func parseCondemnation(data []byte) (map[string]bool, error) {
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if lines[0] != condemnationLabel {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "a condemnation list is malformed")
	}
	names := map[string]bool{}
	for _, name := range lines[1:] {
		if kind, _ := layout.Parse(name); kind == layout.Foreign {
			return nil, holdfast.Errorf(holdfast.KindCorrupt, "a condemnation list names %.80q", name)
		}
		names[name] = true
	}
	return names, nil
}
