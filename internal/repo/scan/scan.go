// Package scan turns the content of a disk into its map: workers read, hash and keep groups of neighbouring chunks in parallel,
// and one goroutine takes their results in order into the tree.
//
// It promises that memory is bounded by the number of readers, whatever the disk's size, and that the root depends on the content
// alone. It knows nothing of where chunks are kept: that is the Keeper's.
package scan

import (
	"context"
	"iter"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/span"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Source is the content of a disk.
type Source interface {
	// ReadAt fills p from offset on. It is called from several goroutines.
	ReadAt(ctx context.Context, p []byte, offset int64) error
}

// Progress is what has happened since the last call.
type Progress struct {
	ReadBytes int64 // fetched from the source
	NewBytes  int64 // of chunks that were not stored before
}

// DefaultReaders is a good number of readers for a local source.
func DefaultReaders() int { return 2 * runtime.GOMAXPROCS(0) }

// Input is a disk to be mapped.
type Input struct {
	SizeBytes int64
	Base      tree.Base                         // the map that Extents are changes against; the zero value for none
	Lost      []span.Span                       // chunks of Base that are to be read again, too
	Extents   iter.Seq2[holdfast.Extent, error] // sorted, not overlapping; Zero ones read as zeros now
	Source    Source
	Readers   int            // groups read and processed at the same time; 0 means DefaultReaders
	Progress  func(Progress) // optional; called from several goroutines
}

// Output is the map.
type Output struct {
	Root holdfast.Root
	Top  tree.Child
	Counts
}

// Counts are the bytes of what was read.
type Counts struct {
	Read      int64 // fetched from the source: whole chunks
	Fresh     int64 // of chunks not stored before
	Duplicate int64 // of chunks that were stored already
	Zero      int64 // found to be zeros
	Healed    int64 // part of Fresh: stored before, and lost since
}

// Keeper stores the new chunks of a group, sets the places of all its children that are not holes, and counts what they were. A worker
// has one of its own; the group's content is valid until it returns.
type Keeper func(ctx context.Context, g *Group) error

// Scanner maps disks.
type Scanner struct {
	Parameters layout.Parameters
	Hasher     *chunk.Hasher
	Nodes      tree.Nodes
	NewKeeper  func() Keeper // called once for each worker
}

// Group is what is read and compressed together: neighbouring chunks within one frame.
type Group struct {
	Children []tree.Child // holes have no id
	Counts   Counts       // Fresh, Duplicate and Healed are the Keeper's

	first     int64      // number of the first chunk
	holes     *span.Span // a span of holes instead of chunks to read
	offset    int64
	length    int // bytes
	chunkSize int
	buffer    []byte        // of the worker, while it works
	done      chan struct{} // closed when Children are known
	err       error         // owned by the worker until done is closed
}

// Chunk returns the content of a child.
func (g *Group) Chunk(i int) []byte {
	return g.buffer[i*g.chunkSize : min((i+1)*g.chunkSize, g.length)]
}

// totals are counted by all workers.
type totals struct{ read, fresh, duplicate, zero, healed atomic.Int64 }

func (t *totals) add(c Counts) {
	t.read.Add(c.Read)
	t.fresh.Add(c.Fresh)
	t.duplicate.Add(c.Duplicate)
	t.zero.Add(c.Zero)
	t.healed.Add(c.Healed)
}

func (t *totals) counts() Counts {
	return Counts{Read: t.read.Load(), Fresh: t.fresh.Load(), Duplicate: t.duplicate.Load(), Zero: t.zero.Load(), Healed: t.healed.Load()}
}

// scan is one run of a Scanner.
type scan struct {
	Scanner
	in     Input
	totals totals
}

// Run maps a disk. The base must be no larger than the disk.
func (sc Scanner) Run(ctx context.Context, in Input) (Output, error) {
	s := &scan{Scanner: sc, in: in}
	readers := in.Readers
	if readers <= 0 {
		readers = DefaultReaders()
	}
	ordered, work := make(chan *Group, 4*readers), make(chan *Group)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.produce(gctx, s.spans(), ordered, work) })
	for range readers {
		g.Go(func() error { return s.process(gctx, work) })
	}
	var top tree.Child
	shape := tree.NewShape(in.SizeBytes, s.Parameters)
	g.Go(func() (err error) {
		top, err = tree.Update(gctx, shape, in.Base, s.changes(gctx, shape, ordered), s.Nodes)
		return err
	})
	if err := g.Wait(); err != nil {
		return Output{}, err
	}
	return Output{Root: s.Hasher.Root(shape.SizeBytes, shape.ChunkSize, shape.FanOut, top.ID), Top: top, Counts: s.totals.counts()}, nil
}

// spans are the extents cut into whole chunks, and what has to be read besides them: when a disk grew and its last chunk was
// short, that chunk is a longer one now.
func (s *scan) spans() iter.Seq2[span.Span, error] {
	chunkSize := int64(s.Parameters.ChunkSize)
	cuts := span.Cut(s.in.Extents, s.in.SizeBytes, s.Parameters.ChunkSize)
	if before := s.in.Base.SizeBytes; before < s.in.SizeBytes && before%chunkSize != 0 {
		cuts = span.WithChunk(cuts, before/chunkSize)
	}
	if len(s.in.Lost) > 0 {
		cuts = span.WithRead(cuts, s.in.Lost)
	}
	return cuts
}

// produce cuts spans into groups and hands each to the orderer and to a worker.
func (s *scan) produce(ctx context.Context, cuts iter.Seq2[span.Span, error], ordered, work chan<- *Group) error {
	defer close(work)
	defer close(ordered)
	for cut, err := range cuts {
		if err != nil {
			return err
		}
		for g := range s.groups(cut) {
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

func send(ctx context.Context, to chan<- *Group, g *Group) error {
	select {
	case to <- g:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *scan) groups(cut span.Span) iter.Seq[*Group] {
	return func(yield func(*Group) bool) {
		if cut.Zero {
			yield(&Group{first: cut.From, holes: &cut, done: make(chan struct{})})
			return
		}
		chunkSize, perFrame := int64(s.Parameters.ChunkSize), int64(s.Parameters.FrameSize/s.Parameters.ChunkSize)
		for first := cut.From; first < cut.To; {
			next := min((first/perFrame+1)*perFrame, cut.To)
			offset := first * chunkSize
			g := &Group{
				Children: make([]tree.Child, next-first), first: first, offset: offset, length: int(min(next*chunkSize, s.in.SizeBytes) - offset),
				chunkSize: s.Parameters.ChunkSize, done: make(chan struct{}),
			}
			if !yield(g) {
				return
			}
			first = next
		}
	}
}

// process is a worker: it reads, hashes and keeps groups until there are no more.
func (s *scan) process(ctx context.Context, work <-chan *Group) error {
	buffer, keep := make([]byte, s.Parameters.FrameSize), s.NewKeeper()
	for g := range work {
		g.buffer = buffer
		g.err = s.processGroup(ctx, g, keep)
		g.buffer = nil
		close(g.done)
		if g.err != nil {
			return g.err
		}
	}
	return nil
}

func (s *scan) processGroup(ctx context.Context, g *Group, keep Keeper) error {
	if err := s.in.Source.ReadAt(ctx, g.buffer[:g.length], g.offset); err != nil {
		return err
	}
	g.Counts.Read = int64(g.length)
	for i := range g.Children {
		data := g.Chunk(i)
		if chunk.IsZero(data) {
			g.Counts.Zero += int64(len(data))
			continue
		}
		g.Children[i].ID = s.Hasher.Chunk(data)
	}
	if err := keep(ctx, g); err != nil {
		return err
	}
	s.totals.add(g.Counts)
	if s.in.Progress != nil {
		s.in.Progress(Progress{ReadBytes: g.Counts.Read, NewBytes: g.Counts.Fresh})
	}
	return nil
}

// changes yields the content of all groups in order of chunks.
func (s *scan) changes(ctx context.Context, shape tree.Shape, ordered <-chan *Group) iter.Seq2[tree.Change, error] {
	return func(yield func(tree.Change, error) bool) {
		for {
			g, more, err := next(ctx, ordered)
			if err != nil {
				yield(tree.Change{}, err)
				return
			}
			if !more || !s.yieldGroup(ctx, shape, g, yield) {
				return
			}
		}
	}
}

// next waits for the next group and for its worker.
func next(ctx context.Context, ordered <-chan *Group) (g *Group, more bool, err error) {
	select {
	case g, more = <-ordered:
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	if !more {
		return nil, false, nil
	}
	select {
	case <-g.done:
		return g, true, g.err
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
}

func (s *scan) yieldGroup(ctx context.Context, shape tree.Shape, g *Group, yield func(tree.Change, error) bool) bool {
	if g.holes == nil {
		for i := range g.Children {
			if !yield(tree.Change{Number: g.first + int64(i), Child: g.Children[i]}, nil) {
				return false
			}
		}
		return true
	}
	// Only chunks that the base maps need to become holes.
	baseShape := shape
	baseShape.SizeBytes = s.in.Base.SizeBytes
	for present, err := range tree.Leaves(ctx, baseShape, s.in.Base.Top, g.holes.From, g.holes.To, s.Nodes.Source) {
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
