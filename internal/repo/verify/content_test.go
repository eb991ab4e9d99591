package verify

import (
	"context"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

func id(number byte) chunk.ID { return chunk.ID{number} }

// madeUp are maps of two levels that lie nowhere, by the ids of their nodes; it counts how often each node is loaded.
type madeUp struct {
	children map[chunk.ID][]chunk.ID
	loads    map[chunk.ID]int
}

// Load implements tree.Source.
func (m *madeUp) Load(_ context.Context, child tree.Child, level int) (*tree.Node, error) {
	m.loads[child.ID]++
	node := &tree.Node{Level: level}
	for _, below := range m.children[child.ID] {
		node.Children = append(node.Children, tree.Child{ID: below})
	}
	return node, nil
}

// sharing are the maps of three disks: 1, 2 and 3 share the leaf 10; 2 and 3 share the leaf 12 as well.
func sharing() *madeUp {
	return &madeUp{loads: map[chunk.ID]int{}, children: map[chunk.ID][]chunk.ID{
		id(1): {id(10), {}, id(11)}, id(2): {id(10), id(12), id(13)}, id(3): {id(10), id(12), id(14)},
		id(10): {id(100), id(101)}, id(11): {id(102), {}}, id(12): {id(100), id(103)}, id(13): {id(104)}, id(14): {id(105)},
	}}
}

// soundOf returns what packs would be found to hold, without what is lost.
func soundOf(t *testing.T, m *madeUp, lost ...chunk.ID) *soundIDs {
	t.Helper()
	missing := map[chunk.ID]bool{{}: true}
	for _, id := range lost {
		missing[id] = true
	}
	b := newSoundBuilder()
	defer b.close()
	add := func(kind seal.Kind, id chunk.ID) {
		if missing[id] {
			return
		}
		if err := b.of(kind).Add(id); err != nil {
			t.Fatal(err)
		}
	}
	for node, children := range m.children {
		add(seal.KindTree, node)
		for _, child := range children {
			if m.children[child] == nil {
				add(seal.KindData, child)
			}
		}
	}
	sound, err := b.build()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sound.close)
	return sound
}

func walk(t *testing.T, m *madeUp, sound *soundIDs, top chunk.ID) (lost string) {
	t.Helper()
	w := contentWalker{v: &verifier{o: Options{Key: &Key{Nodes: m}}}, sound: sound}
	if err := w.node(t.Context(), tree.Child{ID: top}, 1); err != nil {
		t.Fatal(err)
	}
	return w.lost
}

// Every node of sound maps is loaded once, however many disks share it.
func TestContentWalker_WalksSharedNodesOnce(t *testing.T) {
	m := sharing()
	sound := soundOf(t, m)
	for _, top := range []chunk.ID{id(1), id(2), id(3), id(2), id(1)} {
		if lost := walk(t, m, sound, top); lost != "" {
			t.Errorf("disk %d has lost %s", top[0], lost)
		}
	}
	for node := range m.children {
		if m.loads[node] != 1 {
			t.Errorf("node %d was loaded %d times", node[0], m.loads[node])
		}
	}
}

// What is lost below a shared node is lost for every disk that shares it, and for no other; what is complete beside it is not walked again.
func TestContentWalker_TellsEveryDiskThatShares(t *testing.T) {
	for _, tt := range []struct {
		name   string
		lost   chunk.ID
		want   map[chunk.ID]string // per disk
		behind []chunk.ID          // nodes that only come after what is lost
	}{
		{"a chunk of one disk", id(104), map[chunk.ID]string{id(2): "chunk " + id(104).String()}, nil},
		{"a chunk of two disks", id(103), map[chunk.ID]string{id(2): "chunk " + id(103).String(), id(3): "chunk " + id(103).String()}, []chunk.ID{id(13), id(14)}},
		{"a node of two disks", id(12), map[chunk.ID]string{id(2): "a node of its map", id(3): "a node of its map"}, []chunk.ID{id(12), id(13), id(14)}},
		{"a disk's first node", id(1), map[chunk.ID]string{id(1): "a node of its map"}, []chunk.ID{id(1), id(11)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := sharing()
			sound := soundOf(t, m, tt.lost)
			for range 2 {
				for _, top := range []chunk.ID{id(1), id(2), id(3)} {
					if lost := walk(t, m, sound, top); lost != tt.want[top] {
						t.Errorf("disk %d has lost %q, want %q", top[0], lost, tt.want[top])
					}
				}
			}
			if m.loads[id(10)] != 1 {
				t.Errorf("a complete node was loaded %d times", m.loads[id(10)])
			}
			for _, node := range tt.behind {
				if m.loads[node] > 0 {
					t.Errorf("node %d was loaded, behind what is lost", node[0])
				}
			}
		})
	}
}
