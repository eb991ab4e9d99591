package tree

import (
	"context"
	"iter"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Source loads nodes. The node that Load returns has the child's id; it is not changed by callers.
type Source interface {
	Load(ctx context.Context, child Child, level int) (*Node, error)
}

// Sink takes new nodes, children before parents, and says where they are going to lie. It may find that a node is stored
// already and return that place.
type Sink interface {
	Put(ctx context.Context, id chunk.ID, node *Node) (*chunk.Place, error)
}

// Shape is how a disk is mapped.
type Shape struct {
	SizeBytes int64
	ChunkSize int
	FanOut    int
}

// NewShape returns the shape of a disk under a repository's parameters.
func NewShape(sizeBytes int64, p layout.Parameters) Shape {
	return Shape{SizeBytes: sizeBytes, ChunkSize: p.ChunkSize, FanOut: p.FanOut}
}

// Chunks returns the number of chunks.
func (s Shape) Chunks() int64 { return chunk.Count(s.SizeBytes, s.ChunkSize) }

// Height returns the number of levels: the smallest h ≥ 1 with fanOut^h ≥ Chunks.
func (s Shape) Height() int {
	height, reach := 1, int64(s.FanOut)
	for reach < s.Chunks() {
		reach *= int64(s.FanOut)
		height++
	}
	return height
}

// Change gives one chunk of a disk a new content; a hole when the Child's ID is zero.
type Change struct {
	Number int64
	Child  Child
}

// Base is the tree that an update starts from: its top node and the size of the disk it maps. The zero Base maps zeros.
type Base struct {
	Top       Child
	SizeBytes int64
}

// Update returns the top of the tree that maps base with the changes applied, for a disk that is not smaller than base's.
// Changes come in strictly rising order of Number. Nodes that do not differ from base's are not put again.
func Update(ctx context.Context, shape Shape, base Base, changes iter.Seq2[Change, error], nodes Nodes) (Child, error) {
	u := updater{ctx: ctx, shape: shape, nodes: nodes, path: make([]*openNode, shape.Height())}
	if err := u.openTop(base); err != nil {
		return Child{}, err
	}
	last := int64(-1)
	for change, err := range changes {
		if err != nil {
			return Child{}, err
		}
		holdfast.Invariant(change.Number > last && change.Number < shape.Chunks(), "change of chunk %d after %d of %d", change.Number, last, shape.Chunks())
		last = change.Number
		if err := u.set(change); err != nil {
			return Child{}, err
		}
	}
	return u.finish()
}

// Nodes is what Update needs of its surroundings.
type Nodes struct {
	Source Source
	Sink   Sink
	Hasher *chunk.Hasher
}

type updater struct {
	ctx   context.Context
	shape Shape
	nodes Nodes
	path  []*openNode // by level; the node that is being changed at each level, nil below the lowest open one
}

type openNode struct {
	index int64 // of the node within its level
	base  Child // what the parent held before; the zero Child for a new node
	node  *Node // our own copy
}

// openTop opens the top of the new tree. Where the new tree is higher than the base's, the base's top becomes child 0 of
// new nodes above it.
func (u *updater) openTop(base Base) error {
	top := u.shape.Height() - 1
	if base.Top.ID.IsHole() {
		u.path[top] = &openNode{node: NewNode(top, u.shape.FanOut)}
		return nil
	}
	baseHeight := Shape{base.SizeBytes, u.shape.ChunkSize, u.shape.FanOut}.Height()
	holdfast.Invariant(base.SizeBytes <= u.shape.SizeBytes, "a disk map grows only: %d to %d bytes", base.SizeBytes, u.shape.SizeBytes)
	if baseHeight == u.shape.Height() {
		return u.open(top, 0, base.Top)
	}
	for level := top; level >= baseHeight; level-- {
		u.path[level] = &openNode{node: NewNode(level, u.shape.FanOut)}
	}
	u.path[baseHeight].node.Children[0] = base.Top
	return nil
}

func (u *updater) open(level int, index int64, base Child) error {
	if base.ID.IsHole() {
		u.path[level] = &openNode{index: index, node: NewNode(level, u.shape.FanOut)}
		return nil
	}
	loaded, err := u.nodes.Source.Load(u.ctx, base, level)
	if err != nil {
		return err
	}
	own := NewNode(level, u.shape.FanOut)
	copy(own.Children, loaded.Children)
	u.path[level] = &openNode{index: index, base: base, node: own}
	return nil
}

func (u *updater) set(change Change) error {
	lowest := u.lowestCommon(change.Number)
	if err := u.closeBelow(lowest); err != nil {
		return err
	}
	for level := lowest - 1; level >= 0; level-- {
		index := change.Number / u.reach(level)
		parent := u.path[level+1].node
		if err := u.open(level, index, parent.Children[index%int64(u.shape.FanOut)]); err != nil {
			return err
		}
	}
	u.path[0].node.Children[change.Number%int64(u.shape.FanOut)] = change.Child
	return nil
}

// reach returns how many chunks a node of that level maps.
func (u *updater) reach(level int) int64 {
	reach := int64(u.shape.FanOut)
	for range level {
		reach *= int64(u.shape.FanOut)
	}
	return reach
}

// lowestCommon returns the lowest level whose open node maps the chunk. The top maps everything.
func (u *updater) lowestCommon(number int64) int {
	for level, open := range u.path {
		if open != nil && open.index == number/u.reach(level) {
			return level
		}
	}
	return len(u.path) - 1
}

func (u *updater) closeBelow(lowest int) error {
	for level := range lowest {
		open := u.path[level]
		if open == nil {
			continue
		}
		child, err := u.close(open)
		if err != nil {
			return err
		}
		parent := u.path[level+1]
		parent.node.Children[open.index%int64(u.shape.FanOut)] = child
		u.path[level] = nil
	}
	return nil
}

func (u *updater) close(open *openNode) (Child, error) {
	id := open.node.ID(u.nodes.Hasher)
	if id.IsHole() {
		return Child{}, nil
	}
	if id == open.base.ID {
		return open.base, nil
	}
	place, err := u.nodes.Sink.Put(u.ctx, id, open.node)
	if err != nil {
		return Child{}, err
	}
	return Child{ID: id, Place: place}, nil
}

func (u *updater) finish() (Child, error) {
	top := len(u.path) - 1
	if err := u.closeBelow(top); err != nil {
		return Child{}, err
	}
	return u.close(u.path[top])
}

// Leaves yields the chunks of a tree that are not holes, in order, from chunk number from up to but not including to.
func Leaves(ctx context.Context, shape Shape, top Child, from, to int64, source Source) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		w := walker{ctx: ctx, fanOut: int64(shape.FanOut), from: from, to: min(to, shape.Chunks()), source: source, yield: yield}
		if !top.ID.IsHole() {
			w.walk(top, shape.Height()-1, 0)
		}
	}
}

type walker struct {
	ctx      context.Context
	fanOut   int64
	from, to int64
	source   Source
	yield    func(Change, error) bool
}

// walk visits the node whose first chunk is first and reports whether to go on.
func (w *walker) walk(child Child, level int, first int64) bool {
	node, err := w.source.Load(w.ctx, child, level)
	if err != nil {
		w.yield(Change{}, err)
		return false
	}
	step := int64(1)
	for range level {
		step *= w.fanOut
	}
	for i := range node.Children {
		start := first + int64(i)*step
		if node.Children[i].ID.IsHole() || start+step <= w.from || start >= w.to {
			continue
		}
		if level == 0 {
			if !w.yield(Change{Number: start, Child: node.Children[i]}, nil) {
				return false
			}
			continue
		}
		if !w.walk(node.Children[i], level-1, start) {
			return false
		}
	}
	return true
}
