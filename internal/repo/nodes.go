package repo

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// waitingNodesMax is how many nodes may wait for the names of data packs before the pack that is being filled is closed early.
// As many again may come meanwhile; then Put waits.
const waitingNodesMax = 4096

// nodeSink stores new tree nodes. A node names the packs its children lie in, and a pack has no name before it is stored; so
// nodes wait in a queue, in order, and one goroutine writes each as soon as the packs it points to are stored.
// Put is safe for concurrent use.
//
// Put never waits for ever: when the queue is full, at least half of it was there when the data pack was last closed early, so
// all packs that the first half points to are on their way to the store.
type nodeSink struct {
	s      *Session
	packer *packer

	mu     sync.Mutex // guards the fields below; taken before the session's
	queue  []waitingNode
	since  int // nodes queued since a data pack was last closed early
	closed bool

	wake chan struct{} // capacity 1: the queue has grown or is closed
	room chan struct{} // one token per node of the queue
	done chan struct{} // closed when the goroutine has ended
	err  error         // owned by the goroutine until done is closed
}

type waitingNode struct {
	id    chunk.ID
	node  *tree.Node
	place *chunk.Place // filled in by the goroutine
}

func newNodeSink(s *Session) *nodeSink {
	n := &nodeSink{
		s: s, packer: newPacker(s, seal.KindTree),
		wake: make(chan struct{}, 1), room: make(chan struct{}, 2*waitingNodesMax), done: make(chan struct{}),
	}
	go n.write() // its owner is flush, or stop, which wait for done
	return n
}

// Put implements tree.Sink. The place is filled in by the time flush returns.
func (n *nodeSink) Put(ctx context.Context, id chunk.ID, node *tree.Node) (*chunk.Place, error) {
	stored, err := n.s.find(ctx, id)
	if stored != nil || err != nil {
		return stored, err
	}
	if was, err := n.s.finder.wasStored(ctx, id); err != nil {
		return nil, err
	} else if was {
		n.s.healed.Store(true)
	}
	select {
	case n.room <- struct{}{}:
	case <-n.s.ctx.Done():
		return nil, context.Cause(n.s.ctx)
	}
	place, long := n.enqueue(waitingNode{id, node, &chunk.Place{}})
	if long {
		n.s.chunks.rotate()
	}
	n.signal()
	return place, nil
}

// enqueue adds a node, unless another disk just did, and reports whether the data pack should be closed. A place that others
// can find is in the queue already: a parent never comes before its child.
func (n *nodeSink) enqueue(w waitingNode) (place *chunk.Place, long bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if other := n.s.register(w.id, w.place); other != nil {
		<-n.room
		return other, false
	}
	n.queue = append(n.queue, w)
	n.since++
	if len(n.queue) > waitingNodesMax && n.since > waitingNodesMax {
		n.since, long = 0, true
	}
	return w.place, long
}

func (n *nodeSink) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// write is the goroutine: it takes nodes in order until the queue is closed and empty.
func (n *nodeSink) write() {
	defer close(n.done)
	for {
		next, ok := n.next()
		if !ok {
			return
		}
		if err := n.writeNode(next); err != nil {
			n.err = err
			n.s.fail(err)
			return
		}
	}
}

func (n *nodeSink) next() (waitingNode, bool) {
	for {
		n.mu.Lock()
		if len(n.queue) > 0 {
			next := n.queue[0]
			n.queue[0] = waitingNode{}
			n.queue = n.queue[1:]
			n.mu.Unlock()
			<-n.room
			return next, true
		}
		closed := n.closed
		n.mu.Unlock()
		if closed {
			return waitingNode{}, false
		}
		select {
		case <-n.wake:
		case <-n.s.ctx.Done():
			return waitingNode{}, false
		}
	}
}

// nodePlaintextMax bounds the bytes of an encoded node, for finding the pack it goes into before it is encoded.
const nodePlaintextMax = layout.NodeBytesMax + 1

func (n *nodeSink) writeNode(next waitingNode) error {
	here, err := n.packer.here(nodePlaintextMax)
	if err != nil {
		return err
	}
	for i := range next.node.Children {
		place := next.node.Children[i].Place
		if place == nil || place.Pack == here {
			continue
		}
		select {
		case <-place.Pack.Ready():
		case <-n.s.ctx.Done():
			return context.Cause(n.s.ctx)
		}
	}
	encoded := next.node.Encode(here)
	places, err := n.packer.add(seal.Stored(nil, encoded), len(encoded), []chunk.ID{next.id})
	if err != nil {
		return err
	}
	*next.place = places[0]
	return nil
}

// flush writes all nodes and stores their packs. The data packs must be stored before.
func (n *nodeSink) flush() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.signal()
	<-n.done
	if n.err != nil {
		return n.err
	}
	if err := n.s.ctx.Err(); err != nil {
		return context.Cause(n.s.ctx)
	}
	return n.packer.flush()
}

// stop waits for the goroutine and the uploads of a session that has been cancelled.
func (n *nodeSink) stop() {
	<-n.done
	_ = n.packer.uploads.Wait() // the session failed for a reason of its own
}
