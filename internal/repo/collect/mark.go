package collect

import (
	"context"
	"errors"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// census is what is needed of every pack, as far as points have been marked.
type census struct {
	c       Config
	state   oplog.State // the index of it answers
	gone    packlist.Gone
	data    *shelf
	tree    *shelf
	absent  map[string]bool // packs that a direct read did not find, or that are barred and not listed
	marked  map[holdfast.PointID]bool
	damaged map[holdfast.PointID]bool
	lost    bool                // something of the point that is being marked was not found
	untold  map[string][]string // packs that hold what was needed of packs that are gone, and of which the records do not know yet
	byIndex map[string]bool     // packs that only the index led to
	moved   *moved              // nil until something was moved
	breaks  *breaks
}

// mark notes everything that a point needs. When something of it cannot be found, all packs that its list stands for are needed.
func (c *census) mark(ctx context.Context, p oplog.PointState) error {
	c.lost = false
	disks, err := c.c.Repository.Disks(ctx, p)
	if err != nil && !stored.IsDamage(err) {
		return err
	}
	c.lost = err != nil
	for _, disk := range disks {
		if disk.Top.ID.IsHole() {
			continue
		}
		if err := c.node(ctx, disk.Top, disk.Levels-1); err != nil {
			return err
		}
		c.breaks.end()
	}
	if c.lost {
		if err := c.keepAll(ctx, p); err != nil {
			return err
		}
	}
	c.marked[p.ID] = true
	return nil
}

// keepAll keeps every pack that a damaged point may need.
func (c *census) keepAll(ctx context.Context, p oplog.PointState) error {
	c.damaged[p.ID] = true
	packs, _, err := c.c.lists().Expand(ctx, p.List)
	if err != nil {
		if !stored.IsDamage(err) {
			return err
		}
		return holdfast.Wrap(holdfast.KindCorrupt, err, "restore point %s and its pack list are damaged, so nobody can tell what it needs", p.ID).
			WithHint("bring the damaged objects back from a copy of the storage, or remove the restore point; then collect again")
	}
	for _, name := range append(packs, c.gone.Resolve(packs)...) {
		shelf, i, err := c.pack(ctx, name)
		if err != nil {
			return err
		}
		if shelf != nil {
			shelf.set(i, whole)
		}
	}
	return nil
}

// node marks a node and what lies below it, unless that was done already. When it cannot be read where its hint says, other places
// are tried.
func (c *census) node(ctx context.Context, child tree.Child, level int) error {
	places, err := c.places(ctx, child)
	if err != nil {
		return err
	}
	node, seen, err := c.visitOne(ctx, child, places, level)
	if err == nil && node == nil && !seen && child.Place != nil {
		if places, err = c.indexed(ctx, child.ID); err == nil {
			c.noteIndexed(places)
			node, seen, err = c.visitOne(ctx, child, places, level)
		}
	}
	if err != nil || seen {
		return err
	}
	if node == nil {
		c.lost = true
		return nil
	}
	return c.children(ctx, node)
}

// visitOne visits the first place that can be read. seen says that it was visited before; no node and not seen, that there is none.
func (c *census) visitOne(ctx context.Context, child tree.Child, places []*chunk.Place, level int) (node *tree.Node, seen bool, err error) {
	for _, place := range places {
		shelf, i, err := c.pack(ctx, place.Pack.Name())
		if err != nil {
			return nil, false, err
		}
		if shelf != c.tree {
			continue // no place of a node
		}
		c.needMore(shelf, i, place)
		node, err := c.visit(ctx, child, place, i, level)
		if err == nil {
			return node, node == nil, nil
		}
		if !stored.IsDamage(err) {
			return nil, false, err
		}
	}
	return nil, false, nil
}

// needMore gives up the moving of a pack when more of it is needed than was moved.
func (c *census) needMore(shelf *shelf, i int, place *chunk.Place) {
	if c.moved != nil && shelf.is(i, moving) && !c.moved.has(shelf, i, place) {
		shelf.unset(i, moving)
	}
}

// visit loads a node from a place, nil when it has been visited there.
func (c *census) visit(ctx context.Context, child tree.Child, place *chunk.Place, pack, level int) (*tree.Node, error) {
	if c.tree.nodes.has(pack, place.Offset, place.Stored) {
		return nil, nil
	}
	node, err := c.c.Repository.LoadNode(ctx, child.ID, place, level)
	if err == nil {
		c.tree.needNode(pack, place.Offset, place.Stored)
	}
	return node, err
}

func (c *census) children(ctx context.Context, node *tree.Node) error {
	for i := range node.Children {
		child := node.Children[i]
		if child.ID.IsHole() {
			continue
		}
		err := error(nil)
		if node.Level > 0 {
			err = c.node(ctx, child, node.Level-1)
		} else {
			err = c.chunk(ctx, child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chunk marks a chunk at the first of its places.
func (c *census) chunk(ctx context.Context, child tree.Child) error {
	places, err := c.places(ctx, child)
	if err != nil {
		return err
	}
	for _, place := range places {
		shelf, i, err := c.pack(ctx, place.Pack.Name())
		if err != nil {
			return err
		}
		if shelf != c.data {
			continue
		}
		c.needMore(shelf, i, place)
		shelf.needChunk(i, place.Offset, place.Slot)
		c.breaks.at(place, i)
		return nil
	}
	c.lost = true
	return nil
}

// places returns where an id can be found: where the hint says, if that is not barred, else where the index says. The first place
// decides what a collection keeps, so it is always found in the same way.
func (c *census) places(ctx context.Context, child tree.Child) ([]*chunk.Place, error) {
	if child.Place != nil {
		usable, err := c.usable(ctx, child.Place)
		if err != nil {
			return nil, err
		}
		if usable {
			return []*chunk.Place{child.Place}, nil
		}
	}
	places, err := c.indexed(ctx, child.ID)
	c.noteIndexed(places)
	if err != nil || child.Place == nil || len(places) == 0 {
		return places, err
	}
	return c.knownToLists(child.Place.Pack.Name(), places), nil
}

// noteIndexed notes the packs of places that no hint led to.
func (c *census) noteIndexed(places []*chunk.Place) {
	for _, place := range places {
		c.byIndex[place.Pack.Name()] = true
	}
}

// knownToLists puts those places first that pack lists lead to: lists name the pack of the hint, and stand for what took its place.
// When there is none, lists have to be told of the place that counts.
func (c *census) knownToLists(hint string, places []*chunk.Place) []*chunk.Place {
	known := c.gone.Resolve([]string{hint})
	isKnown := func(p *chunk.Place) bool { return slices.Contains(known, p.Pack.Name()) }
	if i := slices.IndexFunc(places, isKnown); i >= 0 {
		places[0], places[i] = places[i], places[0]
		return places
	}
	if _, gone := c.gone[hint]; gone && !slices.Contains(c.untold[hint], places[0].Pack.Name()) {
		c.untold[hint] = append(c.untold[hint], places[0].Pack.Name())
	}
	return places
}

// indexed returns the usable places that the index knows of an id.
func (c *census) indexed(ctx context.Context, id chunk.ID) ([]*chunk.Place, error) {
	all, err := c.c.Repository.Places(ctx, c.state, id)
	if err != nil {
		return nil, err
	}
	var places []*chunk.Place
	for _, place := range all {
		usable, err := c.usable(ctx, place)
		if err != nil {
			return nil, err
		}
		if usable {
			places = append(places, place)
		}
	}
	return places, nil
}

// usable reports whether something can be read at a place: its pack is there, and neither condemned nor damaged.
func (c *census) usable(ctx context.Context, place *chunk.Place) (bool, error) {
	shelf, i, err := c.pack(ctx, place.Pack.Name())
	return shelf != nil && !shelf.is(i, barred), err
}

// pack returns a pack's shelf and number; no shelf when there is no such pack. What a listing missed is asked for by name.
func (c *census) pack(ctx context.Context, name string) (*shelf, int, error) {
	kind, hash := layout.Parse(name)
	shelf := c.shelf(kind)
	if shelf == nil || c.absent[name] {
		return nil, 0, nil
	}
	if i, ok := shelf.find(hash); ok {
		return shelf, i, nil
	}
	info, err := c.c.Store.Stat(ctx, name)
	if errors.Is(err, blob.ErrNotFound) {
		c.absent[name] = true
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return shelf, shelf.add(packInfo{hash, info.Size, info.LockedUntil}), nil
}

func (c *census) shelf(kind layout.Kind) *shelf {
	switch kind {
	case layout.DataPack:
		return c.data
	case layout.TreePack:
		return c.tree
	case layout.Foreign, layout.LogEntry, layout.KeyObject, layout.State, layout.IndexRun, layout.Manifest, layout.List:
	}
	return nil
}

// bar keeps everybody from looking for something in a pack of that name, and notes why.
func (c *census) bar(name string, why packFlag) {
	kind, hash := layout.Parse(name)
	shelf := c.shelf(kind)
	if shelf == nil {
		return
	}
	if i, ok := shelf.find(hash); ok {
		shelf.set(i, barred|why)
		return
	}
	c.absent[name] = true
}
