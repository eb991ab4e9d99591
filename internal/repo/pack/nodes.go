package pack

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// WaitingMax is how many nodes may wait for the names of data packs before the pack that is being filled is closed early.
// As many again may come meanwhile; then Put waits.
const WaitingMax = 4096

// Nodes stores new tree nodes. A node names the packs its children lie in, and a pack has no name before it is stored; so
// nodes wait in a queue, in order, and one goroutine writes each as soon as the packs it points to are stored.
// Put is safe for concurrent use.
//
// Put never waits for ever: when the queue is full, at least half of it was there when the data pack was last closed early, so
// all packs that the first half points to are on their way to the store.
type Nodes struct {
	o      NodesOptions
	packer *Packer
	ctx    context.Context // of the session

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

// NodesOptions say how nodes and their session find each other.
type NodesOptions struct {
	Options
	// Find returns where a node is stored already, nil for nowhere.
	Find func(ctx context.Context, id chunk.ID) (*chunk.Place, error)
	// Register notes the place that a new node is going to have, and returns the one that it has already, if any. It is called
	// under the queue's lock.
	Register func(id chunk.ID, place *chunk.Place) *chunk.Place
	// CloseData closes the data pack that is being filled.
	CloseData func()
}

// NewNodes returns a sink that works until Flush, or until ctx ends and Stop is called.
func NewNodes(ctx context.Context, o NodesOptions) *Nodes {
	n := &Nodes{
		o: o, packer: New(ctx, seal.KindTree, o.Options), ctx: ctx,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 2*WaitingMax), done: make(chan struct{}),
	}
	go n.write() // its owner is Flush, or Stop, which wait for done
	return n
}

// Put implements tree.Sink. The place is filled in by the time flush returns.
func (n *Nodes) Put(ctx context.Context, id chunk.ID, node *tree.Node) (*chunk.Place, error) {
	stored, err := n.o.Find(ctx, id)
	if stored != nil || err != nil {
		return stored, err
	}
	select {
	case n.room <- struct{}{}:
	case <-n.ctx.Done():
		return nil, context.Cause(n.ctx)
	}
	place, long := n.enqueue(waitingNode{id, node, &chunk.Place{}})
	if long {
		n.o.CloseData()
	}
	n.signal()
	return place, nil
}

// enqueue adds a node, unless another disk just did, and reports whether the data pack should be closed. A place that others
// can find is in the queue already: a parent never comes before its child.
func (n *Nodes) enqueue(w waitingNode) (place *chunk.Place, long bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if other := n.o.Register(w.id, w.place); other != nil {
		<-n.room
		return other, false
	}
	n.queue = append(n.queue, w)
	n.since++
	if len(n.queue) > WaitingMax && n.since > WaitingMax {
		n.since, long = 0, true
	}
	return w.place, long
}

func (n *Nodes) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// write is the goroutine: it takes nodes in order until the queue is closed and empty.
func (n *Nodes) write() {
	defer close(n.done)
	for {
		next, ok := n.next()
		if !ok {
			return
		}
		if err := n.writeNode(next); err != nil {
			n.err = err
			n.o.Failed(err)
			return
		}
	}
}

func (n *Nodes) next() (waitingNode, bool) {
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
		case <-n.ctx.Done():
			return waitingNode{}, false
		}
	}
}

// nodePlaintextMax bounds the bytes of an encoded node, for finding the pack it goes into before it is encoded.
const nodePlaintextMax = layout.NodeBytesMax + 1

func (n *Nodes) writeNode(next waitingNode) error {
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
		case <-n.ctx.Done():
			return context.Cause(n.ctx)
		}
	}
	encoded := next.node.Encode(here)
	places, err := n.packer.Add(seal.Stored(nil, encoded), len(encoded), []chunk.ID{next.id})
	if err != nil {
		return err
	}
	*next.place = places[0]
	return nil
}

// Flush writes all nodes and stores their packs. The data packs must be stored before.
func (n *Nodes) Flush() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.signal()
	<-n.done
	if n.err != nil {
		return n.err
	}
	if err := n.ctx.Err(); err != nil {
		return context.Cause(n.ctx)
	}
	return n.packer.Flush()
}

// Stop waits for the goroutine and the uploads of a session that has been cancelled.
func (n *Nodes) Stop() {
	<-n.done
	n.packer.Wait()
}
