package repo

import (
	"context"
	"math/bits"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
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

func readPackList(ctx context.Context, store blob.Reader, name string) (packlist.List, error) {
	data, err := readNamed(ctx, store, name, layout.ListBytesMax)
	if err != nil {
		return packlist.List{}, err
	}
	return packlist.Parse(data)
}

// writePackList stores the list of a new point: the parents' packs added to its own. Lists stay short because packs move to
// included lists, whose number grows with the logarithm of the number of packs.
func (r *Repository) writePackList(ctx context.Context, list packlist.List, parents []string) (string, error) {
	for _, parent := range parents {
		l, err := readPackList(ctx, r.store, parent)
		if err != nil {
			return "", err
		}
		list.Packs = append(list.Packs, l.Packs...)
		list.Includes = append(list.Includes, l.Includes...)
	}
	list.Packs = sortedUnique(list.Packs)
	slices.SortFunc(list.Includes, func(a, b packlist.Include) int { return strings.Compare(a.Name, b.Name) })
	list.Includes = slices.Compact(list.Includes)
	if len(list.Packs) > inlinePacksMax {
		for packs := range slices.Chunk(list.Packs, includedPacksMax) {
			in, err := r.writeIncluded(ctx, list.Session, packs)
			if err != nil {
				return "", err
			}
			list.Includes = append(list.Includes, in)
		}
		list.Packs = nil
	}
	if err := r.mergeIncludes(ctx, list.Session, &list); err != nil {
		return "", err
	}
	return r.put(ctx, layout.List, list.Encode())
}

func (r *Repository) writeIncluded(ctx context.Context, session holdfast.SessionID, packs []string) (packlist.Include, error) {
	name, err := r.put(ctx, layout.List, packlist.List{Repository: r.id, Session: session, Packs: packs}.Encode())
	return packlist.Include{Name: name, Packs: len(packs)}, err
}

// mergeIncludes makes one list of every eight of a size class.
func (r *Repository) mergeIncludes(ctx context.Context, session holdfast.SessionID, list *packlist.List) error {
	for {
		classes := map[int][]packlist.Include{}
		for _, in := range list.Includes {
			if in.Packs > includedPacksMax/includesPerClass {
				continue // eight of them together might be too long
			}
			c := sizeClass(in.Packs)
			classes[c] = append(classes[c], in)
		}
		full := slices.IndexFunc(list.Includes, func(in packlist.Include) bool { return len(classes[sizeClass(in.Packs)]) >= includesPerClass })
		if full < 0 {
			return nil
		}
		merge := classes[sizeClass(list.Includes[full].Packs)][:includesPerClass]
		var packs []string
		for _, in := range merge {
			l, err := readPackList(ctx, r.store, in.Name)
			if err != nil {
				return err
			}
			packs = append(packs, l.Packs...)
		}
		merged, err := r.writeIncluded(ctx, session, sortedUnique(packs))
		if err != nil {
			return err
		}
		list.Includes = slices.DeleteFunc(list.Includes, func(in packlist.Include) bool { return slices.Contains(merge, in) })
		list.Includes = append(list.Includes, merged)
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
	packs = l.Packs
	for _, in := range l.Includes {
		includes = append(includes, in.Name)
		nested, err := readPackList(ctx, store, in.Name)
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
