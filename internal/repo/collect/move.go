package collect

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/cache"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// moved is what has been moved out of packs, and where it lies now.
type moved struct {
	chunks map[chunkPlace]chunk.Place
	nodes  map[nodePlace]chunk.Place
}

type chunkPlace struct {
	pack   int32
	offset uint32
	slot   uint16
}

func placeOfChunk(pack int, p *chunk.Place) chunkPlace {
	return chunkPlace{int32(pack), uint32(p.Offset), uint16(p.Slot)}
}

func placeOfNode(pack int, p *chunk.Place) nodePlace { return nodePlace{int32(pack), uint32(p.Offset)} }

// has reports whether what lies at a place of a pack was moved.
func (m *moved) has(shelf *shelf, pack int, p *chunk.Place) bool {
	if shelf.kind == layout.TreePack {
		_, ok := m.nodes[placeOfNode(pack, p)]
		return ok
	}
	_, ok := m.chunks[placeOfChunk(pack, p)]
	return ok
}

// move writes what is needed of the chosen packs anew, in the order in which points are read, and makes the index lead there. The old
// packs are condemned later, like everything that nothing needs.
func (p *Plan) move(ctx context.Context) error {
	if len(p.chosen) == 0 {
		return nil
	}
	m := newMover(p)
	points, _ := inReadingOrder(p.state.Points)
	if err := m.each(ctx, points, m.moveChunks); err != nil {
		return err
	}
	if err := m.data.finish(ctx); err != nil {
		return err
	}
	if err := m.each(ctx, points, m.moveNodes); err != nil {
		return err
	}
	if err := m.tree.finish(ctx); err != nil {
		return err
	}
	p.census.moved = m.moved
	p.noteMoved(m)
	for _, packer := range []*packer{m.data, m.tree} {
		p.relocated = append(p.relocated, packer.places...)
	}
	return p.addRuns(ctx, p.relocated)
}

// addRuns makes the index lead to moved things.
func (p *Plan) addRuns(ctx context.Context, places []Located) error {
	for part := range slices.Chunk(places, runEntriesMax) {
		if err := p.addRun(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// mustLead makes sure that the index of a state leads to everything that was moved: who made it anew from pack lists in between did
// not know of it yet. errAgain says that it had to be told again.
func (p *Plan) mustLead(ctx context.Context, state oplog.State) error {
	if !slices.ContainsFunc(p.runs, func(name string) bool { return !slices.Contains(state.Runs, name) }) {
		return nil
	}
	var lost []Located
	for _, l := range p.relocated {
		places, err := p.census.indexed(ctx, l.ID)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(places, func(place *chunk.Place) bool { return place.Pack.Name() == l.Place.Pack.Name() }) {
			lost = append(lost, l)
		}
	}
	if len(lost) == 0 {
		return nil // others have merged them: whoever changes the index once more is looked after again
	}
	if err := p.addRuns(ctx, lost); err != nil {
		return err
	}
	return errAgain
}

// runEntriesMax bounds an index run of moved things.
const runEntriesMax = 96 << 10

// addRun adds one run. The entry does not name the session, which goes on.
func (p *Plan) addRun(ctx context.Context, entries []Located) error {
	entry, err := p.c.Repository.AddRun(ctx, p.session, p.state, entries)
	if err != nil {
		return err
	}
	entry.Kind = oplog.Index
	_, err = p.c.Log.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
		own := s.Session(p.session)
		if own == nil || own.Status != oplog.SessionOpen {
			return oplog.Entry{}, holdfast.Errorf(holdfast.KindConflict, "another run has given this collection up").WithHint("run again")
		}
		return entry, nil
	})
	p.runs = append(p.runs, entry.Added...)
	return err
}

// noteMoved sums up, and notes where lists find what was moved.
func (p *Plan) noteMoved(m *mover) {
	p.successors = map[string][]string{}
	add := func(shelf *shelf, pack int32, place chunk.Place) {
		old := shelf.name(int(pack))
		if now := place.Pack.Name(); !slices.Contains(p.successors[old], now) {
			p.successors[old] = append(p.successors[old], now)
		}
	}
	for old, place := range m.moved.chunks {
		add(p.census.data, old.pack, place)
	}
	for old, place := range m.moved.nodes {
		add(p.census.tree, old.pack, place)
	}
	p.result.Moved = Amount{len(p.successors), m.data.bytes + m.tree.bytes}
}

// mover writes needed chunks and nodes anew.
type mover struct {
	p      *Plan
	moved  *moved
	data   *packer
	tree   *packer
	frames *cache.Cache[nodePlace, []byte] // payloads of frames that chunks are taken from

	payload []byte // of the frame that is being filled
	ids     []chunk.ID
	olds    []chunkPlace
	short   bool // the last chunk is shorter than others, so nothing may follow it

	seen nodeSet
}

const framesCacheBytes = 32 << 20

func newMover(p *Plan) *mover {
	return &mover{
		p: p, moved: &moved{chunks: map[chunkPlace]chunk.Place{}, nodes: map[nodePlace]chunk.Place{}},
		data: newPacker(p, seal.KindData), tree: newPacker(p, seal.KindTree),
		frames: cache.New[nodePlace](framesCacheBytes, func(b []byte) int64 { return int64(cap(b)) }),
	}
}

// each walks all points with a visitor of nodes, each node once. What was whole when it was marked must be whole now: who cannot
// read a node cannot know what lies below it.
func (m *mover) each(ctx context.Context, points []oplog.PointState, visit func(context.Context, tree.Child, int) (chunk.Place, error)) error {
	m.seen = newNodeSet()
	for _, point := range points {
		if m.p.census.damaged[point.ID] {
			continue // all its packs are kept as they are
		}
		disks, err := m.p.c.Repository.Disks(ctx, point)
		if err != nil {
			return err
		}
		for _, disk := range disks {
			if disk.Top.ID.IsHole() {
				continue
			}
			if _, err := visit(ctx, disk.Top, disk.Levels-1); err != nil {
				return err
			}
			if err := m.endFrame(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// open loads a node from the place that the census keeps it at. No node: it was visited before.
func (m *mover) open(ctx context.Context, child tree.Child, level int) (*tree.Node, *chunk.Place, int, error) {
	places, err := m.p.census.indexed(ctx, child.ID)
	if err != nil {
		return nil, nil, 0, err
	}
	if child.Place != nil {
		places = append([]*chunk.Place{child.Place}, places...)
	}
	for _, place := range places {
		shelf, pack, err := m.p.census.pack(ctx, place.Pack.Name())
		if err != nil {
			return nil, nil, 0, err
		}
		if shelf != m.p.census.tree || !m.p.census.tree.nodes.has(pack, place.Offset, place.Stored) {
			continue
		}
		if !m.seen.add(pack, place.Offset, place.Stored) {
			return nil, place, pack, nil
		}
		node, err := m.p.c.Repository.LoadNode(ctx, child.ID, place, level)
		return node, place, pack, err
	}
	return nil, nil, 0, holdfast.Errorf(holdfast.KindCorrupt, "a node of a map is lost")
}

// moveChunks moves the chunks below a node that lie in moving packs.
func (m *mover) moveChunks(ctx context.Context, child tree.Child, level int) (none chunk.Place, err error) {
	node, _, _, err := m.open(ctx, child, level)
	if err != nil || node == nil {
		return none, err
	}
	for i := range node.Children {
		below := node.Children[i]
		switch {
		case below.ID.IsHole():
		case level > 0:
			if _, err := m.moveChunks(ctx, below, level-1); err != nil {
				return none, err
			}
		default:
			if err := m.moveChunk(ctx, below); err != nil {
				return none, err
			}
		}
	}
	return none, nil
}

// moveChunk takes one chunk, if it lies in a moving pack. When it cannot be read there, the pack stays.
func (m *mover) moveChunk(ctx context.Context, child tree.Child) error {
	place, pack, err := m.kept(ctx, child, m.p.census.data)
	if err != nil || place == nil || !m.p.census.data.is(pack, moving) {
		return err
	}
	old := placeOfChunk(pack, place)
	if _, done := m.moved.chunks[old]; done {
		return nil
	}
	data, err := m.read(ctx, child.ID, place, pack)
	if err != nil {
		if stored.IsDamage(err) {
			m.p.census.data.unset(pack, moving)
			return nil
		}
		return err
	}
	if m.short || len(m.payload)+len(data) > m.p.c.Parameters.FrameSize {
		if err := m.endFrame(ctx); err != nil {
			return err
		}
	}
	m.moved.chunks[old] = chunk.Place{} // until the frame has its place
	m.payload, m.ids, m.olds = append(m.payload, data...), append(m.ids, child.ID), append(m.olds, old)
	m.short = len(data) < m.p.c.Parameters.ChunkSize
	m.p.progress(StepMove, m.data.bytes+m.tree.bytes, 0)
	return nil
}

// kept returns the place that the census keeps a child at.
func (m *mover) kept(ctx context.Context, child tree.Child, on *shelf) (*chunk.Place, int, error) {
	places, err := m.p.census.places(ctx, child)
	if err != nil {
		return nil, 0, err
	}
	for _, place := range places {
		shelf, pack, err := m.p.census.pack(ctx, place.Pack.Name())
		if err != nil {
			return nil, 0, err
		}
		if shelf == on {
			return place, pack, nil
		}
	}
	return nil, 0, nil
}

// read returns a chunk from its frame, checked.
func (m *mover) read(ctx context.Context, id chunk.ID, place *chunk.Place, pack int) ([]byte, error) {
	plain, err := m.frames.Get(ctx, placeOfNode(pack, place), func() ([]byte, error) {
		plain, _, err := m.p.c.Repository.ReadFrame(ctx, place, nil, nil)
		return plain, err
	})
	if err != nil {
		return nil, err
	}
	size := m.p.c.Parameters.ChunkSize
	start := place.Slot * size
	if start < len(plain) {
		data := plain[start:min(start+size, len(plain))]
		if m.p.c.Hasher.Chunk(data) == id {
			return data, nil
		}
	}
	return nil, seal.Damaged(place.Pack.Name(), holdfast.Errorf(holdfast.KindCorrupt, "the frame at offset %d does not hold the chunk it should hold", place.Offset))
}

// endFrame seals the chunks that were taken since the last one.
func (m *mover) endFrame(ctx context.Context) error {
	if len(m.ids) == 0 {
		return nil
	}
	packed := m.p.c.Codec.Compress(nil, m.payload)
	places, err := m.data.add(ctx, packed, len(m.payload), m.ids)
	if err != nil {
		return err
	}
	for k, old := range m.olds {
		m.moved.chunks[old] = places[k]
	}
	m.payload, m.ids, m.olds, m.short = m.payload[:0], m.ids[:0], m.olds[:0], false
	return nil
}

// moveNodes moves a node, if it lies in a moving pack, after those below it, and returns where it lies. What it says about the
// places of its children is made new.
func (m *mover) moveNodes(ctx context.Context, child tree.Child, level int) (chunk.Place, error) {
	node, place, pack, err := m.open(ctx, child, level)
	if err != nil {
		return chunk.Place{}, err
	}
	old := placeOfNode(pack, place)
	if node == nil {
		if now, ok := m.moved.nodes[old]; ok {
			return now, nil
		}
		return *place, nil
	}
	fresh := &tree.Node{Level: node.Level, Children: slices.Clone(node.Children)}
	for i := range fresh.Children {
		if err := m.refresh(ctx, &fresh.Children[i], level); err != nil {
			return chunk.Place{}, err
		}
	}
	if !m.p.census.tree.is(pack, moving) {
		return *place, nil
	}
	here, err := m.tree.here(ctx)
	if err != nil {
		return chunk.Place{}, err
	}
	encoded := fresh.Encode(here)
	places, err := m.tree.add(ctx, seal.Stored(nil, encoded), len(encoded), []chunk.ID{child.ID})
	if err != nil {
		return chunk.Place{}, err
	}
	m.moved.nodes[old] = places[0]
	m.p.progress(StepMove, m.data.bytes+m.tree.bytes, 0)
	return places[0], nil
}

// refresh makes a child's place what it is now. A place that is not known is left to the index.
func (m *mover) refresh(ctx context.Context, child *tree.Child, level int) error {
	if child.ID.IsHole() {
		return nil
	}
	if level > 0 {
		place, err := m.moveNodes(ctx, *child, level-1)
		if err != nil {
			return err
		}
		child.Place = &place
		return nil
	}
	place, pack, err := m.kept(ctx, *child, m.p.census.data)
	if err != nil || place == nil {
		return err
	}
	if now, ok := m.moved.chunks[placeOfChunk(pack, place)]; ok {
		place = &now
	}
	child.Place = place
	return nil
}
