package pack

import (
	"encoding/binary"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
)

// While nodes pile up because packs are slow to be stored, the data pack is closed early once per queue, not once per node.
func TestNodes_ClosesOncePerQueue(t *testing.T) {
	known := map[chunk.ID]*chunk.Place{}
	register := func(id chunk.ID, place *chunk.Place) *chunk.Place {
		if other, ok := known[id]; ok {
			return other
		}
		known[id] = place
		return nil
	}
	n := &Nodes{o: NodesOptions{Register: register}, room: make(chan struct{}, 2*WaitingMax)}
	closed := 0
	for i := range cap(n.room) {
		n.room <- struct{}{}
		var id chunk.ID
		binary.BigEndian.PutUint64(id[:], uint64(i)+1)
		place := &chunk.Place{}
		got, long := n.enqueue(waitingNode{id: id, place: place})
		if got != place {
			t.Fatal("another place")
		}
		if long {
			closed++
		}
	}
	if closed != 1 {
		t.Errorf("closed %d times for %d waiting nodes", closed, cap(n.room))
	}
	<-n.room
	n.room <- struct{}{}
	var first chunk.ID
	binary.BigEndian.PutUint64(first[:], 1)
	if got, _ := n.enqueue(waitingNode{id: first, place: &chunk.Place{}}); got != n.queue[0].place || len(n.room) != cap(n.room)-1 {
		t.Error("a node that waits already is queued again")
	}
}
