package tree

import (
	"context"
	"iter"
)

// Disk is the map of a disk.
type Disk struct {
	Top   Child
	Shape Shape
}

// Diff yields the chunks in which a disk differs from another one, in order, each with what the disk has there. Beyond its end the other
// one counts as zeros. Both are cut alike. Subtrees that are equal are not loaded, so the work goes with the difference.
func Diff(ctx context.Context, disk, since Disk, source Source) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := differ{ctx: ctx, fanOut: int64(disk.Shape.FanOut), chunks: disk.Shape.Chunks(), source: source, yield: yield}
		a, b := subtree{disk.Top, disk.Shape.Height() - 1}, subtree{since.Top, since.Shape.Height() - 1}
		d.compare(a, b, max(a.level, b.level), 0)
	}
}

type differ struct {
	ctx    context.Context
	fanOut int64
	chunks int64 // of the disk
	source Source
	yield  func(Change, error) bool
}

// subtree is a child with the level of the node it stands for, −1 for a chunk.
type subtree struct {
	child Child
	level int
}

// compare visits what differs below level, from chunk number first on, and reports whether to go on. A subtree of a lower level is the
// first child of what it would be in a taller tree.
func (d *differ) compare(a, b subtree, level int, first int64) bool {
	if a.child.ID == b.child.ID && (a.level == b.level || a.child.ID.IsHole()) || first >= d.chunks {
		return true
	}
	if level < 0 {
		return d.yield(Change{Number: first, Child: a.child}, nil)
	}
	as, err := d.children(a, level)
	if err != nil {
		d.yield(Change{}, err)
		return false
	}
	bs, err := d.children(b, level)
	if err != nil {
		d.yield(Change{}, err)
		return false
	}
	step := int64(1)
	for range level {
		step *= d.fanOut
	}
	for i := range d.fanOut {
		if !d.compare(below(a, as, i, level), below(b, bs, i, level), level-1, first+i*step) {
			return false
		}
	}
	return true
}

// children loads the node that a subtree stands for, nil where it has none at that level.
func (d *differ) children(s subtree, level int) ([]Child, error) {
	if s.level < level || s.child.ID.IsHole() {
		return nil, nil
	}
	node, err := d.source.Load(d.ctx, s.child, level)
	if err != nil {
		return nil, err
	}
	return node.Children, nil
}

// below returns child i of what a subtree stands for at a level.
func below(s subtree, children []Child, i int64, level int) subtree {
	switch {
	case children != nil:
		return subtree{children[i], level - 1}
	case i == 0 && s.level < level:
		return s
	}
	return subtree{level: level - 1}
}
