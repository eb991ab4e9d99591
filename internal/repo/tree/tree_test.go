package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// forest keeps nodes in memory, encoded, as a repository would.
type forest struct {
	hasher *chunk.Hasher
	fanOut int
	nodes  map[chunk.ID][]byte
	puts   int
	loads  int
	fail   error // what Load returns
}

func newForest(fanOut int) *forest {
	return &forest{hasher: chunk.NewHasher(keys.NewRing(keys.RepositoryID{1})), fanOut: fanOut, nodes: map[chunk.ID][]byte{}}
}

var herePack = chunk.NamedPack(layout.Name(layout.TreePack, layout.Hash{9}))

func (f *forest) Put(_ context.Context, id chunk.ID, n *tree.Node) (*chunk.Place, error) {
	f.puts++
	f.nodes[id] = n.Encode(herePack)
	return &chunk.Place{Pack: herePack, Offset: 64, Stored: 100}, nil
}

func (f *forest) Load(_ context.Context, c tree.Child, level int) (*tree.Node, error) {
	f.loads++
	if f.fail != nil {
		return nil, f.fail
	}
	data, ok := f.nodes[c.ID]
	if !ok {
		return nil, fmt.Errorf("node %s is not there", c.ID)
	}
	n, err := tree.Decode(data, level, f.fanOut, herePack)
	if err == nil && n.ID(f.hasher) != c.ID {
		err = errors.New("decoded to another id")
	}
	return n, err
}

func (f *forest) surroundings() tree.Nodes { return tree.Nodes{Source: f, Sink: f, Hasher: f.hasher} }

func (f *forest) shape(chunks int64) tree.Shape {
	return tree.Shape{SizeBytes: chunks * (64 << 10), ChunkSize: 64 << 10, FanOut: f.fanOut}
}

// naive computes the id of the tree over the chunks from the definition of doc/format.md §7 alone: level by level, everything.
func (f *forest) naive(chunks map[int64]chunk.ID, count int64) chunk.ID {
	level := maps.Clone(chunks)
	for height, reach := 0, int64(1); height == 0 || reach < count; height++ {
		above := map[int64]chunk.ID{}
		parents := map[int64]bool{}
		for n := range level {
			parents[n/int64(f.fanOut)] = true
		}
		for p := range parents {
			bitmap, ids := make([]byte, f.fanOut/8), []byte(nil)
			for i := range f.fanOut {
				if id, ok := level[p*int64(f.fanOut)+int64(i)]; ok {
					bitmap[i/8] |= 1 << (i % 8)
					ids = append(ids, id[:]...)
				}
			}
			above[p] = f.hasher.Node(byte(height), bitmap, ids)
		}
		level, reach = above, reach*int64(f.fanOut)
	}
	return level[0]
}

func randomID(r *rand.Rand) chunk.ID {
	var id chunk.ID
	for i := range id {
		id[i] = byte(1 + r.IntN(255))
	}
	return id
}

func inOrder(changes map[int64]chunk.ID) iter.Seq2[tree.Change, error] {
	return func(yield func(tree.Change, error) bool) {
		for _, n := range slices.Sorted(maps.Keys(changes)) {
			child := tree.Child{ID: changes[n]}
			if !child.ID.IsHole() {
				child.Place = &chunk.Place{Pack: chunk.NamedPack(layout.Name(layout.DataPack, layout.Hash{byte(n)})), Offset: 64 + n%1000, Stored: 200, Slot: int(n % 64)}
			}
			if !yield(tree.Change{Number: n, Child: child}, nil) {
				return
			}
		}
	}
}

func apply(chunks, changes map[int64]chunk.ID) {
	for n, id := range changes {
		if id.IsHole() {
			delete(chunks, n)
			continue
		}
		chunks[n] = id
	}
}

// Whatever changes are made to disks of whatever shape, with growth in between, the tree is the one that the definition gives for
// the content, and Leaves yields that content for any window.
func TestUpdate_EqualsDefinition(t *testing.T) {
	for _, fanOut := range []int{8, 16} {
		for _, count := range []int64{1, 2, 7, 8, 9, 63, 64, 65, 511, 512, 513, 4096, 5000} {
			t.Run(fmt.Sprintf("%d of %d", count, fanOut), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(count), uint64(fanOut)))
				f, chunks, base := newForest(fanOut), map[int64]chunk.ID{}, tree.Base{}
				for round := range 12 {
					if round%4 == 3 { // a larger disk, at times by levels
						count = count*int64(1+r.IntN(9)) + int64(r.IntN(3))
					}
					changes := map[int64]chunk.ID{}
					for range r.IntN(40) {
						id := randomID(r)
						if r.IntN(3) == 0 {
							id = chunk.ID{}
						}
						changes[r.Int64N(count)] = id
					}
					top, err := tree.Update(t.Context(), f.shape(count), base, inOrder(changes), f.surroundings())
					if err != nil {
						t.Fatal(err)
					}
					apply(chunks, changes)
					if want := f.naive(chunks, count); top.ID != want {
						t.Fatalf("round %d, %d chunks: top %s, want %s", round, count, top.ID, want)
					}
					f.mustYield(t, top, count, chunks, r)
					base = tree.Base{Top: top, SizeBytes: f.shape(count).SizeBytes}
				}
			})
		}
	}
}

func (f *forest) mustYield(t *testing.T, top tree.Child, count int64, chunks map[int64]chunk.ID, r *rand.Rand) {
	t.Helper()
	for range 5 {
		from := r.Int64N(count + 1)
		to := from + r.Int64N(count-from+2)
		got := map[int64]chunk.ID{}
		last := int64(-1)
		for c, err := range tree.Leaves(t.Context(), f.shape(count), top, from, to, f) {
			if err != nil || c.Number <= last {
				t.Fatal(c.Number, err)
			}
			last = c.Number
			got[c.Number] = c.Child.ID
			if c.Child.Place == nil || c.Child.Place.Slot != int(c.Number%64) || c.Child.Place.Offset != 64+c.Number%1000 {
				t.Fatalf("chunk %d is hinted at %+v", c.Number, c.Child.Place)
			}
		}
		want := maps.Clone(chunks)
		maps.DeleteFunc(want, func(n int64, _ chunk.ID) bool { return n < from || n >= to })
		if !maps.Equal(got, want) {
			t.Fatalf("leaves from %d to %d of %d: %d chunks, want %d", from, to, count, len(got), len(want))
		}
	}
}

// One changed chunk puts the nodes on its path and no others, and loads no more.
func TestUpdate_WritesOnlyThePath(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f, changes := newForest(8), map[int64]chunk.ID{}
	const count = 4096 // four levels
	for n := range int64(count) {
		changes[n] = randomID(r)
	}
	top, err := tree.Update(t.Context(), f.shape(count), tree.Base{}, inOrder(changes), f.surroundings())
	if err != nil {
		t.Fatal(err)
	}
	base := tree.Base{Top: top, SizeBytes: f.shape(count).SizeBytes}
	for _, test := range []struct {
		change map[int64]chunk.ID
		puts   int
	}{
		{map[int64]chunk.ID{1234: randomID(r)}, 4},
		{map[int64]chunk.ID{1234: changes[1234]}, 0}, // as it was
		{map[int64]chunk.ID{0: randomID(r), 4095: randomID(r)}, 7},
		{map[int64]chunk.ID{}, 0},
	} {
		f.puts, f.loads = 0, 0
		if _, err := tree.Update(t.Context(), f.shape(count), base, inOrder(test.change), f.surroundings()); err != nil {
			t.Fatal(err)
		}
		if f.puts != test.puts || f.loads > 7 {
			t.Errorf("%d changes: %d puts, want %d; %d loads", len(test.change), f.puts, test.puts, f.loads)
		}
	}
}

// Clearing everything gives the tree of a disk of zeros, which has no node.
func TestUpdate_ToZeros(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	f := newForest(8)
	full, none := map[int64]chunk.ID{}, map[int64]chunk.ID{}
	for n := range int64(100) {
		full[n], none[n] = randomID(r), chunk.ID{}
	}
	top, err := tree.Update(t.Context(), f.shape(100), tree.Base{}, inOrder(full), f.surroundings())
	if err != nil {
		t.Fatal(err)
	}
	f.puts = 0
	top, err = tree.Update(t.Context(), f.shape(100), tree.Base{Top: top, SizeBytes: f.shape(100).SizeBytes}, inOrder(none), f.surroundings())
	if err != nil || !top.ID.IsHole() || f.puts != 0 {
		t.Errorf("top %s after %d puts, %v", top.ID, f.puts, err)
	}
	for c := range tree.Leaves(t.Context(), f.shape(100), top, 0, 100, f) {
		t.Errorf("chunk %d is left", c.Number)
	}
}

// What a source or a list of changes says when it fails comes out of Update and Leaves.
func TestUpdate_Failures(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	f := newForest(8)
	top, err := tree.Update(t.Context(), f.shape(100), tree.Base{}, inOrder(map[int64]chunk.ID{5: randomID(r)}), f.surroundings())
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	failing := func(yield func(tree.Change, error) bool) { yield(tree.Change{}, boom) }
	if _, err := tree.Update(t.Context(), f.shape(100), tree.Base{}, failing, f.surroundings()); !errors.Is(err, boom) {
		t.Error(err)
	}
	f.fail = boom
	base := tree.Base{Top: top, SizeBytes: f.shape(100).SizeBytes}
	if _, err := tree.Update(t.Context(), f.shape(100), base, inOrder(map[int64]chunk.ID{6: randomID(r)}), f.surroundings()); !errors.Is(err, boom) {
		t.Error(err)
	}
	var got error
	for _, err := range tree.Leaves(t.Context(), f.shape(100), top, 0, 100, f) {
		got = err
	}
	if !errors.Is(got, boom) {
		t.Error(got)
	}
}

// The height is the smallest whose nodes reach all chunks, at least one level.
func TestShape_Height(t *testing.T) {
	for _, test := range []struct {
		chunks int64
		fanOut int
		height int
	}{{1, 8, 1}, {8, 8, 1}, {9, 8, 2}, {64, 8, 2}, {65, 8, 3}, {512, 8, 3}, {513, 8, 4}, {1 << 28, 32, 6}, {1 << 30, 32, 6}, {1<<30 + 1, 32, 7}, {1 << 34, 8, 12}} {
		s := tree.Shape{SizeBytes: test.chunks * (64 << 10), ChunkSize: 64 << 10, FanOut: test.fanOut}
		if s.Chunks() != test.chunks || s.Height() != test.height {
			t.Errorf("%+v: %d chunks, height %d", test, s.Chunks(), s.Height())
		}
	}
}

// A node in which everything is far apart: the largest there is.
func scattered(level, fanOut int) *tree.Node {
	r := rand.New(rand.NewPCG(4, uint64(fanOut)))
	n, kind := tree.NewNode(level, fanOut), layout.DataPack
	if level > 0 {
		kind = layout.TreePack
	}
	for i := range n.Children {
		id := randomID(r)
		n.Children[i] = tree.Child{ID: id, Place: &chunk.Place{Pack: chunk.NamedPack(layout.Name(kind, layout.Hash(id))), Offset: int64(r.Uint32()), Stored: int(r.Uint32()), Slot: r.IntN(256)}}
	}
	return n
}

// Nodes come back from their bytes as they were, with every hint, up to the greatest fan-out, and within the limit that readers
// enforce; and at the default fan-out the path of a 32 TiB disk stays under 16 KiB, whatever its age.
func TestNode_RoundTripAndSize(t *testing.T) {
	for level := range 2 {
		for fanOut := 8; fanOut <= layout.FanOutMax; fanOut += 8 {
			n := scattered(level, fanOut)
			n.Children[fanOut/2] = tree.Child{}                     // a hole
			n.Children[0].Place = nil                               // nobody knows
			n.Children[1].Place.Pack = herePack                     // beside the node
			*n.Children[2].Place = *n.Children[3].Place             // the same frame
			n.Children[2].Place.Slot = n.Children[3].Place.Slot ^ 1 // another slot of it
			data := n.Encode(herePack)
			if len(data) > layout.NodeBytesMax {
				t.Errorf("fan-out %d: %d bytes", fanOut, len(data))
			}
			got, err := tree.Decode(data, level, fanOut, herePack)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n.Children {
				if !sameChild(got.Children[i], n.Children[i]) {
					t.Fatalf("fan-out %d, child %d: %+v, want %+v", fanOut, i, got.Children[i], n.Children[i])
				}
			}
		}
	}
	p := layout.DefaultParameters()
	height := tree.NewShape(32<<40, p).Height()
	path := height * len(scattered(1, p.FanOut).Encode(herePack))
	t.Logf("32 TiB at the default: %d nodes above a chunk, %d bytes at most", height, path)
	if path > 16<<10-height*150 { // less what sealing and indexing a node takes
		t.Errorf("the path has up to %d bytes", path)
	}
}

func sameChild(a, b tree.Child) bool {
	if a.ID != b.ID || (a.Place == nil) != (b.Place == nil) {
		return false
	}
	return a.Place == nil || a.Place.Pack.Name() == b.Place.Pack.Name() && a.Place.Offset == b.Place.Offset && a.Place.Stored == b.Place.Stored && a.Place.Slot == b.Place.Slot
}

// Where more packs or frames meet in a node than hints can name, the rest is left to the index: ids and id stay.
func TestNode_HintOverflow(t *testing.T) {
	const fanOut = 512
	n := scattered(0, fanOut)
	for i := range n.Children {
		n.Children[i].Place.Slot = i // from 256 on there is no hint
	}
	data := n.Encode(herePack)
	if len(data) <= layout.NodeBytesMax {
		t.Fatalf("%d bytes: this fan-out would be allowed", len(data))
	}
	if _, err := tree.Decode(data, 0, fanOut, herePack); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a node of %d bytes decodes: %v", len(data), err)
	}
	known := 0
	for i := range n.Children {
		if i%2 > 0 { // with half of the children the node is small enough
			n.Children[i] = tree.Child{}
		}
	}
	n.Children[0].Place.Pack = herePack
	for i := range n.Children {
		if i > 400 && n.Children[i].Place != nil {
			n.Children[i].Place = n.Children[0].Place // a frame that is known already
		}
	}
	if data = n.Encode(herePack); len(data) > layout.NodeBytesMax {
		t.Fatal(len(data))
	}
	got, err := tree.Decode(data, 0, fanOut, herePack)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n.Children {
		if got.Children[i].ID != n.Children[i].ID {
			t.Errorf("child %d changed its id", i)
		}
		if got.Children[i].Place != nil {
			known++
			if !sameChild(got.Children[i], n.Children[i]) {
				t.Errorf("child %d has a wrong hint", i)
			}
		}
	}
	if known == 0 || known == fanOut/2 {
		t.Errorf("%d hints are known", known)
	}
}

// The id covers what a node maps and its level, never where things lie.
func TestNode_IDIgnoresHints(t *testing.T) {
	h := newForest(8).hasher
	a, b := scattered(0, 8), scattered(0, 8)
	for i := range b.Children {
		b.Children[i].Place = nil
	}
	if a.ID(h) != b.ID(h) {
		t.Error("hints change the id")
	}
	if a.ID(h) == scattered(1, 8).ID(h) {
		t.Error("the level does not change the id")
	}
	moved := scattered(0, 16)
	moved.Children[3] = tree.Child{}
	other := scattered(0, 16)
	other.Children[4] = tree.Child{}
	if moved.ID(h) == other.ID(h) {
		t.Error("the place in the node does not change the id")
	}
	if !tree.NewNode(0, 8).ID(h).IsHole() {
		t.Error("a node of holes is no hole")
	}
}

// Every shortened node is refused, and bytes after its end are.
func TestDecode_Malformed(t *testing.T) {
	data := scattered(0, 8).Encode(herePack)
	for n := range data {
		if _, err := tree.Decode(data[:n], 0, 8, herePack); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Fatalf("the first %d bytes decode: %v", n, err)
		}
	}
	for what, bad := range map[string][]byte{
		"a byte more":   append(bytes.Clone(data), 0),
		"another level": append([]byte{1, 1}, data[2:]...),
		"version 2":     append([]byte{2}, data[1:]...),
		"reserved byte": append([]byte{1, 0, 1}, data[3:]...),
		"no children":   append([]byte{1, 0, 0, 0, 0}, 0, 0),
	} {
		if _, err := tree.Decode(bad, 0, 8, herePack); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%s decodes: %v", what, err)
		}
	}
}

// No bytes make Decode panic or allocate beyond what a node is; what decodes encodes to a node of the same id.
func FuzzDecode(f *testing.F) {
	f.Add(scattered(0, 8).Encode(herePack), 0, 8)
	f.Add(scattered(1, 32).Encode(herePack), 1, 32)
	f.Add([]byte{1, 0, 0, 0, 255, 0, 0}, 0, 8)
	h := newForest(8).hasher
	f.Fuzz(func(t *testing.T, data []byte, level, fanOut int) {
		fanOut = min(max(8, fanOut/8*8), layout.FanOutMax)
		level &= 15
		n, err := tree.Decode(data, level, fanOut, herePack)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		again, err := tree.Decode(n.Encode(herePack), level, fanOut, herePack)
		if err != nil || again.ID(h) != n.ID(h) {
			t.Errorf("encoded again: %v", err)
		}
	})
}
