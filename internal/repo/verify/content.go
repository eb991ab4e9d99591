package verify

import (
	"context"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/idset"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// checkContent is verification at level 2: every sealed object is opened, every frame of every pack authenticated and its
// items hashed, and every restore point walked from its root to its chunks.
func (v *verifier) checkContent(ctx context.Context) error {
	sound, err := v.openPacks(ctx)
	if err != nil {
		return err
	}
	defer sound.close()
	report := func(name string, err error) { v.problem(name, "%v", err) }
	if err := v.o.Key.Runs(ctx, v.state, report); err != nil { // a damaged run loses nothing, but it is damage
		return err
	}
	for _, p := range v.state.Points {
		point, err := v.manifest(ctx, p)
		if stored.IsDamage(err) {
			v.problem(p.Manifest, "%v", err)
			v.hits(p.ID)
			continue
		}
		if err != nil {
			return err
		}
		for _, disk := range point.Disks {
			w := contentWalker{v: v, sound: sound}
			if err := w.disk(ctx, disk); err != nil {
				return err
			}
			if w.lost == "" {
				continue
			}
			v.hits(p.ID)
			if explained, err := v.explains(ctx, p); err != nil {
				return err
			} else if !explained { // nothing that is damaged says why
				v.problem(p.Manifest, "disk %s of the point has lost %s", disk.LUN, w.lost)
			}
		}
	}
	return nil
}

// manifest reads the manifest of a point and checks that it is the one of that point.
func (v *verifier) manifest(ctx context.Context, p oplog.PointState) (holdfast.Point, error) {
	point, err := v.o.Key.Manifest(ctx, p.Manifest)
	if err == nil && point.ID != p.ID {
		err = holdfast.Errorf(holdfast.KindCorrupt, "%s is not the manifest of restore point %s", p.Manifest, p.ID)
	}
	return point, err
}

// explains reports whether something that the point needs is known to be damaged.
func (v *verifier) explains(ctx context.Context, p oplog.PointState) (bool, error) {
	packs, includes, err := v.lists().Expand(ctx, p.List)
	if err != nil {
		return true, stored.IgnoreDamage(err)
	}
	packs = v.gone.Resolve(append(packs, v.damage.Instead(packs)...))
	return slices.ContainsFunc(append(packs, includes...), v.isProblem), nil
}

// soundIDs are the chunks and nodes that were found authentic in some pack, and which of the nodes were found complete: one bit each, by
// their rank, since an isolated change makes a node at every level, so that an old repository may have more nodes than chunks.
type soundIDs struct {
	chunks, nodes *idset.Set
	complete      []uint64
}

func (s *soundIDs) close() {
	s.chunks.Close()
	s.nodes.Close()
}

// node returns the number of a node by which it is marked as complete, and whether the node is sound.
func (s *soundIDs) node(id chunk.ID) (number int64, sound bool, err error) { return s.nodes.Rank(id) }

func (s *soundIDs) isComplete(node int64) bool { return s.complete[node/64]&(1<<(node%64)) != 0 }

func (s *soundIDs) setComplete(node int64) { s.complete[node/64] |= 1 << (node % 64) }

// soundBuilder gathers what packs of data and packs of nodes hold.
type soundBuilder struct{ chunks, nodes *idset.Builder }

func newSoundBuilder() soundBuilder { return soundBuilder{idset.NewBuilder(), idset.NewBuilder()} }

func (b soundBuilder) of(kind seal.Kind) *idset.Builder {
	if kind == seal.KindTree {
		return b.nodes
	}
	return b.chunks
}

func (b soundBuilder) build() (*soundIDs, error) {
	nodes, err := b.nodes.Build()
	if err != nil {
		return nil, err
	}
	b.nodes.Close() // its file is not to lie beside those of the chunks
	chunks, err := b.chunks.Build()
	if err != nil {
		nodes.Close()
		return nil, err
	}
	return &soundIDs{chunks: chunks, nodes: nodes, complete: make([]uint64, nodes.Len()/64+1)}, nil
}

func (b soundBuilder) close() {
	b.chunks.Close()
	b.nodes.Close()
}

// openPacks opens all packs that points need and returns the ids found in them. When a pack list is damaged that is any pack.
func (v *verifier) openPacks(ctx context.Context) (*soundIDs, error) {
	sound := newSoundBuilder()
	defer sound.close()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	packs := v.known
	if v.listLost {
		packs = v.present
	}
	for name := range packs {
		kind, _ := layout.Parse(name)
		if kind != layout.DataPack && kind != layout.TreePack || v.isProblem(name) {
			continue
		}
		g.Go(func() error {
			err := v.openPack(gctx, name, sound)
			if stored.IsDamage(err) {
				v.problem(name, "%v", err)
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return sound.build()
}

// packMemory is what one pack needs while it is checked, used again for the next one.
type packMemory struct{ data, plain []byte }

func (v *verifier) openPack(ctx context.Context, name string, sound soundBuilder) error {
	r := v.o.Key
	memory := v.packMemory.Get().(*packMemory)
	defer v.packMemory.Put(memory)
	data, err := blob.ReadInto(ctx, v.store, name, memory.data, layout.ObjectBytesMax)
	if err != nil {
		return err
	}
	memory.data = data
	object, err := seal.ParseObject(name, data, r.Ring, r.Codec)
	if err != nil {
		return err
	}
	kind, _ := layout.Parse(name)
	if object.Header.Kind.ObjectKind() != kind || object.Header.Repository != r.Repository {
		return seal.Damaged(name, holdfast.Errorf(holdfast.KindCorrupt, "its header says that it is another object"))
	}
	for _, f := range object.Frames {
		memory.plain, err = object.Opener.Open(memory.plain, data[f.Offset:f.Offset+int64(f.Stored)], f.Offset, layout.FrameBytesMax)
		if err != nil {
			return seal.Damaged(name, err)
		}
		if err := v.checkFrame(name, object.Header.Kind, f, memory.plain); err != nil {
			return err
		}
		for i := range f.Items {
			if err := sound.of(object.Header.Kind).Add(chunk.ID(f.Data[i*32:])); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkFrame compares a frame's payload with what the directory says of it.
func (v *verifier) checkFrame(name string, kind seal.Kind, f seal.Frame, plain []byte) error {
	r := v.o.Key
	wrong := seal.Damaged(name, holdfast.Errorf(holdfast.KindCorrupt, "the frame at offset %d is not what its directory says", f.Offset))
	if len(plain) != f.Plain {
		return wrong
	}
	if kind == seal.KindTree {
		level := 0
		if len(plain) > 1 {
			level = int(plain[1])
		}
		node, err := tree.Decode(plain, level, r.Parameters.FanOut, chunk.NamedPack(name))
		if err != nil || f.Items != 1 || node.ID(r.Hasher) != chunk.ID(f.Data) {
			return wrong
		}
		return nil
	}
	if chunks := chunk.Count(int64(len(plain)), r.Parameters.ChunkSize); chunks != int64(f.Items) {
		return wrong
	}
	for i := range f.Items {
		data := plain[i*r.Parameters.ChunkSize : min((i+1)*r.Parameters.ChunkSize, len(plain))]
		if r.Hasher.Chunk(data) != chunk.ID(f.Data[i*32:]) {
			return wrong
		}
	}
	return nil
}

// contentWalker walks one disk and notes the first thing that is lost.
type contentWalker struct {
	v     *verifier
	sound *soundIDs
	lost  string
}

func (w *contentWalker) disk(ctx context.Context, disk holdfast.PointDisk) error {
	r := w.v.o.Key
	top, err := r.Top(disk)
	if err != nil {
		w.lost = "its map"
		return nil
	}
	shape := tree.NewShape(disk.SizeBytes, r.Parameters)
	if r.Hasher.Root(shape.SizeBytes, shape.ChunkSize, shape.FanOut, top.ID) != disk.Root {
		w.lost = "its map: the root does not match"
		return nil
	}
	if top.ID.IsHole() {
		return nil
	}
	return w.node(ctx, top, shape.Height()-1)
}

// node walks a node and what lies below it, unless that was done already: subtrees shared by points are walked once.
func (w *contentWalker) node(ctx context.Context, child tree.Child, level int) error {
	number, sound, err := w.sound.node(child.ID)
	if err != nil {
		return err
	}
	if !sound {
		w.lose("a node of its map")
		return nil
	}
	if w.sound.isComplete(number) {
		return nil
	}
	node, err := w.v.o.Key.Nodes.Load(ctx, child, level)
	if stored.IsDamage(err) {
		w.lose("a node of its map")
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.children(ctx, node, level); err != nil {
		return err
	}
	if w.lost == "" {
		w.sound.setComplete(number)
	}
	return nil
}

// children walks what a node names, up to the first thing that is lost: what follows would say nothing new of the disk, and could not be
// marked as complete.
func (w *contentWalker) children(ctx context.Context, node *tree.Node, level int) error {
	for i := range node.Children {
		if w.lost != "" {
			return nil
		}
		below := node.Children[i]
		if below.ID.IsHole() {
			continue
		}
		if level > 0 {
			if err := w.node(ctx, below, level-1); err != nil {
				return err
			}
			continue
		}
		sound, err := w.sound.chunks.Has(below.ID)
		if err != nil {
			return err
		}
		if !sound {
			w.lose("chunk " + below.ID.String())
		}
	}
	return nil
}

func (w *contentWalker) lose(what string) {
	if w.lost == "" {
		w.lost = what
	}
}
