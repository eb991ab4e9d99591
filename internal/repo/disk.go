package repo

import (
	"context"
	"iter"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/span"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Source is the content of a disk.
type Source interface {
	// ReadAt fills p from offset on. It is called from several goroutines.
	ReadAt(ctx context.Context, p []byte, offset int64) error
}

// DiskInput is a disk to be written.
type DiskInput struct {
	LUN       holdfast.LUN
	SizeBytes int64
	// Base is the disk of a parent point that Extents are changes against; nil says that Extents are all that is not zero.
	// It must be no larger than the disk.
	Base     *holdfast.PointDisk
	Extents  iter.Seq2[holdfast.Extent, error] // sorted, not overlapping; Zero ones read as zeros now
	Source   Source
	Readers  int            // chunk groups read and processed at the same time; 0 means DefaultReaders
	Progress func(Progress) // optional; called from several goroutines
}

// Progress is what has happened since the last call.
type Progress struct {
	ReadBytes int64 // fetched from the source
	NewBytes  int64 // of chunks that were not stored before
}

// DiskBytesMax is the greatest disk that can be written: far beyond what Azure has (64 TiB), and far from any overflow.
const DiskBytesMax = 1 << 50

// DefaultReaders is a good number of readers for a local source.
func DefaultReaders() int { return 2 * runtime.GOMAXPROCS(0) }

// DiskOutput is a disk as written. Publish finds its place by LUN.
type DiskOutput struct {
	Root           holdfast.Root
	ReadBytes      int64 // fetched from the source: whole chunks
	NewBytes       int64 // plain bytes of chunks not stored before
	DuplicateBytes int64 // plain bytes of chunks that were stored already
	ZeroBytes      int64 // read, and found to be zeros
	HealedBytes    int64 // part of NewBytes: what was stored before and had been lost with damaged packs
}

// WriteDisk reads what the extents name, stores the chunks that are new and maps the disk. Chunks are read whole, so an
// extent that covers a part of a chunk reads all of it. After an error the session can only be closed.
func (s *Session) WriteDisk(ctx context.Context, in DiskInput) (DiskOutput, error) {
	if err := checkSize(in.SizeBytes); err != nil {
		return DiskOutput{}, err
	}
	if in.Base != nil && !s.bases[in.Base.Root] {
		return DiskOutput{}, holdfast.Errorf(holdfast.KindInternal, "disk %s is written against a disk that no parent of the session has", in.LUN)
	}
	caller := ctx
	endSession := context.AfterFunc(caller, func() { s.fail(context.Cause(caller)) }) // frees who waits for the session
	defer endSession()
	ctx, cancel := context.WithCancelCause(caller)
	defer cancel(nil)
	endDisk := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	defer endDisk()

	lost, err := s.losses(ctx, in.LUN, in.Base)
	if err != nil {
		s.fail(err)
		return DiskOutput{}, context.Cause(s.ctx)
	}
	m := &mapper{r: s.r, in: in, lost: lost, keep: s.keepNew, nodes: tree.Nodes{Source: s.r, Sink: s.nodes, Hasher: s.r.hasher}}
	base, _, err := m.base()
	if err != nil {
		return DiskOutput{}, err
	}
	out, top, err := m.run(ctx)
	if err != nil {
		if in.Base != nil && isDamage(err) && s.ctx.Err() == nil {
			err = &BaseDamaged{in.LUN, err}
		}
		s.fail(err) // unless something else failed before, which then is the reason
		return DiskOutput{}, context.Cause(s.ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disks[in.LUN] = writtenDisk{top, base, out.Root, in.SizeBytes}
	return out, nil
}

func checkSize(bytes int64) error {
	if bytes <= 0 || bytes > DiskBytesMax {
		return holdfast.Errorf(holdfast.KindInvalid, "a disk of %d bytes cannot be mapped: 1 to %d are possible", bytes, int64(DiskBytesMax))
	}
	return nil
}

// keepNew stores those chunks of a group that are new. places is filled for all chunks that are not holes.
func (s *Session) keepNew(ctx context.Context, w *worker, g *group) error {
	w.ids, w.payload, w.slots = w.ids[:0], w.payload[:0], w.slots[:0]
	for i := range g.children {
		child := &g.children[i]
		if child.ID.IsHole() {
			continue
		}
		place, err := s.find(ctx, child.ID)
		if err != nil {
			return err
		}
		length := int64(len(g.chunk(w.buffer, i, s.r.params.ChunkSize)))
		if place != nil {
			child.Place = place
			g.duplicate += length
			continue
		}
		if was, err := s.finder.wasStored(ctx, child.ID); err != nil {
			return err
		} else if was {
			g.healed += length
			s.healed.Store(true)
		}
		w.ids = append(w.ids, child.ID)
		w.slots = append(w.slots, i)
		w.payload = append(w.payload, g.chunk(w.buffer, i, s.r.params.ChunkSize)...)
		g.fresh += length
	}
	if len(w.ids) == 0 {
		return nil
	}
	w.packed = s.r.codec.Compress(w.packed, w.payload)
	places, err := s.chunks.add(w.packed, len(w.payload), w.ids)
	if err != nil {
		return err
	}
	s.remember(w.ids, places)
	for k, i := range w.slots {
		g.children[i].Place = &places[k]
	}
	return nil
}

// RootInput is disk content whose map root is wanted.
type RootInput struct {
	SizeBytes int64
	Extents   iter.Seq2[holdfast.Extent, error] // all that may be other than zeros
	Source    Source
	Readers   int
	Progress  func(Progress)
}

// RootOf computes the map root of any content. It stores nothing: equal roots prove equal disks.
func (r *Repository) RootOf(ctx context.Context, in RootInput) (holdfast.Root, error) {
	if err := checkSize(in.SizeBytes); err != nil {
		return holdfast.Root{}, err
	}
	m := &mapper{
		r: r, in: DiskInput{SizeBytes: in.SizeBytes, Extents: in.Extents, Source: in.Source, Readers: in.Readers, Progress: in.Progress},
		keep:  func(context.Context, *worker, *group) error { return nil },
		nodes: tree.Nodes{Source: r, Sink: nowhere{}, Hasher: r.hasher},
	}
	out, _, err := m.run(ctx)
	return out.Root, err
}

// nowhere is a sink for trees of which only the root is wanted.
type nowhere struct{}

// Put implements tree.Sink.
func (nowhere) Put(context.Context, chunk.ID, *tree.Node) (*chunk.Place, error) { return nil, nil }

// mapper turns extents into a disk map: workers read and hash groups of chunks in parallel, and one goroutine takes their
// results in order into the tree.
type mapper struct {
	r     *Repository
	in    DiskInput
	lost  []span.Span                                          // chunks of the base that have to be read again
	keep  func(ctx context.Context, w *worker, g *group) error // stores a group's new chunks and sets their places
	nodes tree.Nodes
	stats diskStats
}

type diskStats struct{ read, fresh, duplicate, zero, healed atomic.Int64 }

// group is what is read and compressed together: neighbouring chunks within one frame, or a span of holes.
type group struct {
	first    int64      // number of the first chunk
	holes    *span.Span // a span of holes instead of chunks to read
	offset   int64
	length   int // bytes
	children []tree.Child
	fresh    int64
	duplicate,
	zero,
	healed int64
	done chan struct{} // closed when children are known
	err  error         // owned by the worker until done is closed
}

func (g *group) chunk(buffer []byte, i, chunkSize int) []byte {
	return buffer[i*chunkSize : min((i+1)*chunkSize, g.length)]
}

// worker is the memory of one worker, used again for each group.
type worker struct {
	buffer, payload, packed []byte
	ids                     []chunk.ID
	slots                   []int
}

func (m *mapper) run(ctx context.Context) (DiskOutput, tree.Child, error) {
	base, extra, err := m.base()
	if err != nil {
		return DiskOutput{}, tree.Child{}, err
	}
	cuts := span.Cut(m.in.Extents, m.in.SizeBytes, m.r.params.ChunkSize)
	if extra >= 0 {
		cuts = span.WithChunk(cuts, extra)
	}
	if len(m.lost) > 0 {
		cuts = span.WithRead(cuts, m.lost)
	}
	readers := m.in.Readers
	if readers <= 0 {
		readers = DefaultReaders()
	}
	ordered, work := make(chan *group, 4*readers), make(chan *group)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.produce(gctx, cuts, ordered, work) })
	for range readers {
		g.Go(func() error { return m.process(gctx, work) })
	}
	var top tree.Child
	shape := tree.NewShape(m.in.SizeBytes, m.r.params)
	g.Go(func() (err error) {
		top, err = tree.Update(gctx, shape, base, m.changes(gctx, shape, base, ordered), m.nodes)
		return err
	})
	if err := g.Wait(); err != nil {
		return DiskOutput{}, tree.Child{}, err
	}
	return DiskOutput{
		Root:      m.r.hasher.Root(shape.SizeBytes, shape.ChunkSize, shape.FanOut, top.ID),
		ReadBytes: m.stats.read.Load(), NewBytes: m.stats.fresh.Load(), DuplicateBytes: m.stats.duplicate.Load(), ZeroBytes: m.stats.zero.Load(),
		HealedBytes: m.stats.healed.Load(),
	}, top, nil
}

// base returns the tree to start from, and the number of a chunk that must be read besides the extents, −1 for none: when a
// disk grew and its last chunk was short, that chunk is a longer one now.
func (m *mapper) base() (tree.Base, int64, error) {
	if m.in.Base == nil {
		return tree.Base{}, -1, nil
	}
	if m.in.Base.SizeBytes > m.in.SizeBytes {
		return tree.Base{}, -1, holdfast.Errorf(holdfast.KindInvalid, "the disk shrank from %d to %d bytes: it must be read in full", m.in.Base.SizeBytes, m.in.SizeBytes)
	}
	top, err := decodeTop(*m.in.Base)
	if err != nil {
		return tree.Base{}, -1, err
	}
	extra := int64(-1)
	if m.in.Base.SizeBytes < m.in.SizeBytes && m.in.Base.SizeBytes%int64(m.r.params.ChunkSize) != 0 {
		extra = m.in.Base.SizeBytes / int64(m.r.params.ChunkSize)
	}
	return tree.Base{Top: top, SizeBytes: m.in.Base.SizeBytes}, extra, nil
}

// produce cuts spans into groups and hands each to the orderer and to a worker.
func (m *mapper) produce(ctx context.Context, cuts iter.Seq2[span.Span, error], ordered, work chan<- *group) error {
	defer close(work)
	defer close(ordered)
	for s, err := range cuts {
		if err != nil {
			return err
		}
		for g := range m.groups(s) {
			if err := send(ctx, ordered, g); err != nil {
				return err
			}
			if g.holes != nil {
				close(g.done)
				continue
			}
			if err := send(ctx, work, g); err != nil {
				return err
			}
		}
	}
	return nil
}

func send(ctx context.Context, to chan<- *group, g *group) error {
	select {
	case to <- g:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *mapper) groups(s span.Span) iter.Seq[*group] {
	return func(yield func(*group) bool) {
		if s.Zero {
			yield(&group{first: s.From, holes: &s, done: make(chan struct{})})
			return
		}
		chunkSize, perFrame := int64(m.r.params.ChunkSize), int64(m.r.params.FrameSize/m.r.params.ChunkSize)
		for first := s.From; first < s.To; {
			next := min((first/perFrame+1)*perFrame, s.To)
			offset := first * chunkSize
			g := &group{first: first, offset: offset, length: int(min(next*chunkSize, m.in.SizeBytes) - offset), done: make(chan struct{})}
			g.children = make([]tree.Child, next-first)
			if !yield(g) {
				return
			}
			first = next
		}
	}
}

// process is a worker: it reads, hashes and keeps groups until there are no more.
func (m *mapper) process(ctx context.Context, work <-chan *group) error {
	w := &worker{buffer: make([]byte, m.r.params.FrameSize)}
	for g := range work {
		g.err = m.processGroup(ctx, w, g)
		close(g.done)
		if g.err != nil {
			return g.err
		}
	}
	return nil
}

func (m *mapper) processGroup(ctx context.Context, w *worker, g *group) error {
	if err := m.in.Source.ReadAt(ctx, w.buffer[:g.length], g.offset); err != nil {
		return err
	}
	for i := range g.children {
		data := g.chunk(w.buffer, i, m.r.params.ChunkSize)
		if chunk.IsZero(data) {
			g.zero += int64(len(data))
			continue
		}
		g.children[i].ID = m.r.hasher.Chunk(data)
	}
	if err := m.keep(ctx, w, g); err != nil {
		return err
	}
	m.stats.read.Add(int64(g.length))
	m.stats.fresh.Add(g.fresh)
	m.stats.duplicate.Add(g.duplicate)
	m.stats.zero.Add(g.zero)
	m.stats.healed.Add(g.healed)
	if m.in.Progress != nil {
		m.in.Progress(Progress{ReadBytes: int64(g.length), NewBytes: g.fresh})
	}
	return nil
}

// changes yields the content of all groups in order of chunks.
func (m *mapper) changes(ctx context.Context, shape tree.Shape, base tree.Base, ordered <-chan *group) iter.Seq2[tree.Change, error] {
	return func(yield func(tree.Change, error) bool) {
		for {
			var g *group
			var more bool
			select {
			case g, more = <-ordered:
			case <-ctx.Done():
				yield(tree.Change{}, context.Cause(ctx))
				return
			}
			if !more {
				return
			}
			select {
			case <-g.done:
			case <-ctx.Done():
				yield(tree.Change{}, context.Cause(ctx))
				return
			}
			if g.err != nil {
				yield(tree.Change{}, g.err)
				return
			}
			if !m.yieldGroup(ctx, shape, base, g, yield) {
				return
			}
		}
	}
}

func (m *mapper) yieldGroup(ctx context.Context, shape tree.Shape, base tree.Base, g *group, yield func(tree.Change, error) bool) bool {
	if g.holes == nil {
		for i := range g.children {
			if !yield(tree.Change{Number: g.first + int64(i), Child: g.children[i]}, nil) {
				return false
			}
		}
		return true
	}
	// Only chunks that the base maps need to become holes.
	baseShape := shape
	baseShape.SizeBytes = base.SizeBytes
	for present, err := range tree.Leaves(ctx, baseShape, base.Top, g.holes.From, g.holes.To, m.nodes.Source) {
		if err != nil {
			yield(tree.Change{}, err)
			return false
		}
		if !yield(tree.Change{Number: present.Number}, nil) {
			return false
		}
	}
	return true
}
