package repo

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// What the index and disk maps may keep in memory by default, all of it at once, is less than 256 MiB. Packs being written and the
// frames of readers come on top.
func TestMemory_DefaultsTogether(t *testing.T) {
	limits := index.DefaultLimits()
	const entryBytes, hashBytes = 250, 16
	room := limits.RunEntries + limits.RunEntries/8
	merging := index.SizeMax(room) // more than the memory of a pack
	sum := limits.OpenBytes + limits.FilterBytes + limits.BlockBytes + int64(limits.AheadBytes) + int64(merging) + int64(room)*hashBytes +
		freshEntriesMax*entryBytes + nodeCacheBytes
	t.Logf("%d MiB", sum>>20)
	if sum > 256<<20 {
		t.Errorf("%d MiB together", sum>>20)
	}
}

// The cost of a node follows what it holds, so that a bound on the cost bounds memory: an old map, whose nodes point to a pack per child,
// costs several times what a young one does.
func TestMemory_NodeCost(t *testing.T) {
	cost := func(packs int) int64 {
		n := tree.NewNode(0, 32)
		refs := make([]*chunk.PackRef, packs)
		for i := range refs {
			refs[i] = chunk.NamedPack(layout.Name(layout.DataPack, layout.Hash{byte(i)}))
		}
		for i := range n.Children {
			n.Children[i] = tree.Child{ID: chunk.ID{1}, Place: &chunk.Place{Pack: refs[i*packs/32]}}
		}
		return n.MemoryBytes()
	}
	if young, old := cost(1), cost(32); young < 32*(40+40) || old < young+31*(78+24) {
		t.Errorf("a young node costs %d bytes, an old one %d", young, old)
	}
}
