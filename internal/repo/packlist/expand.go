package packlist

import (
	"context"
	"math/bits"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

const (
	// inlinePacksMax is how many packs a list holds itself before it moves them to an included list.
	inlinePacksMax = 32
	// includesPerClass is how many included lists of one size class stand before they become one of the next.
	includesPerClass = 8
	// includedPacksMax is how many packs an included list may name: beyond it lists are not merged any more, so that none grows
	// beyond what readers take (78 bytes a line, layout.ListBytesMax).
	includedPacksMax = 1 << 19
)

// Source returns the bytes of an object that proved itself by its name. A missing or damaged one is KindCorrupt.
type Source func(ctx context.Context, name string) ([]byte, error)

// Read reads a pack list.
func (s Source) Read(ctx context.Context, name string) (List, error) {
	data, err := s(ctx, name)
	if err != nil {
		return List{}, err
	}
	return Parse(data)
}

// Expand returns all packs a list names, and the included lists. It needs no key. Packs that are gone are still among them:
// Gone.Resolve tells what they stand for.
func (s Source) Expand(ctx context.Context, name string) (packs, includes []string, err error) {
	l, err := s.Read(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	packs = l.Packs
	for _, in := range l.Includes {
		includes = append(includes, in.Name)
		nested, err := s.Read(ctx, in.Name)
		if err != nil {
			return packs, includes, err
		}
		if len(nested.Includes) > 0 {
			return packs, includes, holdfast.Errorf(holdfast.KindCorrupt, "%s is included in a list and includes others", in.Name)
		}
		packs = append(packs, nested.Packs...)
	}
	return sortedUnique(packs), includes, nil
}

// Writer stores lists.
type Writer struct {
	Source Source
	Put    func(ctx context.Context, data []byte) (name string, err error)
	Gone   Gone // names that lists do not take over any more
}

// Write stores the list of a new point: the parents' packs added to its own. Lists stay short because packs move to
// included lists, whose number grows with the logarithm of the number of packs.
func (w Writer) Write(ctx context.Context, list List, parents []string) (string, error) {
	for _, parent := range parents {
		l, err := w.Source.Read(ctx, parent)
		if err != nil {
			return "", err
		}
		list.Packs = append(list.Packs, l.Packs...)
		list.Includes = append(list.Includes, l.Includes...)
	}
	list.Packs = w.Gone.Resolve(list.Packs)
	slices.SortFunc(list.Includes, func(a, b Include) int { return strings.Compare(a.Name, b.Name) })
	list.Includes = slices.Compact(list.Includes)
	if len(list.Packs) > inlinePacksMax {
		for packs := range slices.Chunk(list.Packs, includedPacksMax) {
			in, err := w.writeIncluded(ctx, list, packs)
			if err != nil {
				return "", err
			}
			list.Includes = append(list.Includes, in)
		}
		list.Packs = nil
	}
	if err := w.mergeIncludes(ctx, &list); err != nil {
		return "", err
	}
	return w.Put(ctx, list.Encode())
}

func (w Writer) writeIncluded(ctx context.Context, of List, packs []string) (Include, error) {
	name, err := w.Put(ctx, List{Repository: of.Repository, Session: of.Session, Packs: packs}.Encode())
	return Include{Name: name, Packs: len(packs)}, err
}

// mergeIncludes makes one list of every eight of a size class.
func (w Writer) mergeIncludes(ctx context.Context, list *List) error {
	for {
		merge := fullClass(list.Includes)
		if merge == nil {
			return nil
		}
		var packs []string
		for _, in := range merge {
			l, err := w.Source.Read(ctx, in.Name)
			if err != nil {
				return err
			}
			packs = append(packs, l.Packs...)
		}
		list.Includes = slices.DeleteFunc(list.Includes, func(in Include) bool { return slices.Contains(merge, in) })
		if packs = w.Gone.Resolve(packs); len(packs) == 0 {
			continue
		}
		merged, err := w.writeIncluded(ctx, *list, packs)
		if err != nil {
			return err
		}
		list.Includes = append(list.Includes, merged)
	}
}

// fullClass returns eight lists of a size class that has so many, nil when there is none. Lists that might become too long
// together are left alone.
func fullClass(includes []Include) []Include {
	classes := map[int][]Include{}
	for _, in := range includes {
		if in.Packs > includedPacksMax/includesPerClass {
			continue
		}
		c := sizeClass(in.Packs)
		classes[c] = append(classes[c], in)
		if len(classes[c]) == includesPerClass {
			return classes[c]
		}
	}
	return nil
}

// sizeClass groups lists whose lengths are within a factor of eight.
func sizeClass(packs int) int { return (bits.Len(uint(packs)) - 1) / 3 }

func sortedUnique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
