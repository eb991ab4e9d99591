package packlist

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// GoneLabel is the first line of a record of gone packs.
const GoneLabel = "holdfast gone packs 1"

// Gone says what became of packs that were condemned and that pack lists may still name: the packs that what was needed of
// them was moved to, none when nothing was (doc/format.md §12). A nil Gone is one that knows of nothing.
type Gone map[string][]string

// Gone reads records of gone packs.
func (s Source) Gone(ctx context.Context, names []string) (Gone, error) {
	all := Gone{}
	for _, name := range names {
		data, err := s(ctx, name)
		if err != nil {
			return nil, err
		}
		gone, err := ParseGone(data)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, gone)
	}
	return all, nil
}

// Resolve returns the packs that a list's packs stand for now: those that are gone replaced by their successors. The result is
// sorted and has no duplicates.
func (g Gone) Resolve(packs []string) []string {
	packs = slices.Clone(packs)
	seen := map[string]bool{}
	for i := 0; i < len(packs); i++ { // grows while it runs: a successor may be gone as well
		name := packs[i]
		successors, gone := g[name]
		if gone && !seen[name] {
			seen[name] = true
			packs = append(packs, successors...)
		}
	}
	packs = slices.DeleteFunc(packs, func(name string) bool { _, gone := g[name]; return gone })
	slices.Sort(packs)
	return slices.Compact(packs)
}

// Needed returns the part of g that lists which name those packs rest on: their lines, and those of their successors.
func (g Gone) Needed(named map[string]bool) Gone {
	needed := Gone{}
	var keep func(name string)
	keep = func(name string) {
		successors, gone := g[name]
		if _, done := needed[name]; !gone || done {
			return
		}
		needed[name] = successors
		for _, s := range successors {
			keep(s)
		}
	}
	for name := range g {
		if named[name] {
			keep(name)
		}
	}
	return needed
}

// Encode returns the record's bytes.
func (g Gone) Encode(repository keys.RepositoryID, session holdfast.SessionID) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrepository %s\nsession %s\n", GoneLabel, repository, session)
	for _, name := range slices.Sorted(maps.Keys(g)) {
		fmt.Fprintf(&b, "gone %s\n", name)
		for _, successor := range g[name] {
			fmt.Fprintf(&b, "now %s\n", successor)
		}
	}
	return b.Bytes()
}

// ParseGone reads a record. Anything malformed is KindCorrupt.
func ParseGone(data []byte) (Gone, error) {
	_, lines, err := header(data, GoneLabel)
	if err != nil {
		return nil, err
	}
	g, last := Gone{}, ""
	for _, line := range lines {
		word, name, _ := strings.Cut(line, " ")
		kind, _ := layout.Parse(name)
		_, known := g[name]
		switch {
		case kind != layout.DataPack && kind != layout.TreePack:
			return nil, malformed("a record of gone packs", line)
		case word == "gone" && !known:
			g[name], last = nil, name
		case word == "now" && last != "":
			g[last] = append(g[last], name)
		default:
			return nil, malformed("a record of gone packs", line)
		}
	}
	return g, nil
}
