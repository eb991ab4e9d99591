// Package audit compares what a disk held with what a restore point says of it, where a change list claimed that nothing had changed.
//
// It promises that what differs is named, after it was read twice, and that what both maps call zeros is looked at too where the source
// holds data. It must never read of the store more than maps, and never read a chunk that differs between the two maps: that was read before.
package audit

import (
	"context"
	"iter"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Map is the map of a disk.
type Map struct {
	Shape tree.Shape
	Top   tree.Child
}

// Content is what the disk held.
type Content interface {
	ReadAt(ctx context.Context, p []byte, offset int64) error
}

// Input says what to compare. From, To and Most are bytes.
type Input struct {
	Now, Parent Map // the disk, and the disk that the change list counted from
	Nodes       tree.Source
	Hasher      *chunk.Hasher
	From, To    int64
	Most        int64                             // to be read, in whole chunks
	Extents     iter.Seq2[holdfast.Extent, error] // where the source holds data, from From on
	Content     Content
	Readers     int
}

// Output is what an audit found.
type Output struct {
	Bytes int64   // read
	Next  int64   // byte where the next audit goes on; To when all was read
	Wrong []int64 // bytes where chunks begin that are not what the point says, some of them, in order
}

// wrongMax bounds the chunks that are named: one is enough to distrust a list.
const wrongMax = 16

// Run reads chunks of which both maps say the same, and compares their ids with it.
func Run(ctx context.Context, in Input) (Output, error) {
	a := auditor{in: in, chunkSize: int64(in.Now.Shape.ChunkSize), out: Output{Next: in.To}}
	work := make(chan audited)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		return a.choose(gctx, work)
	})
	for range in.Readers {
		g.Go(func() error {
			buffer := make([]byte, a.chunkSize)
			for c := range work {
				if err := a.compare(gctx, buffer, c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	slices.Sort(a.out.Wrong)
	return a.out, err
}

// audited is a chunk to be compared: its number, and the id that the map gives it.
type audited struct {
	number int64
	id     chunk.ID
}

type auditor struct {
	in        Input
	chunkSize int64

	mu  sync.Mutex // guards out
	out Output
}

// choose walks both maps and the source's extents side by side.
func (a *auditor) choose(ctx context.Context, work chan<- audited) error {
	first, end := a.in.From/a.chunkSize, (a.in.To+a.chunkSize-1)/a.chunkSize
	now, stopNow := iter.Pull2(tree.Leaves(ctx, a.in.Now.Shape, a.in.Now.Top, first, end, a.in.Nodes))
	defer stopNow()
	before, stopBefore := iter.Pull2(tree.Leaves(ctx, a.in.Parent.Shape, a.in.Parent.Top, first, end, a.in.Nodes))
	defer stopBefore()
	held, stopHeld := iter.Pull2(chunksOf(a.in.Extents, a.chunkSize))
	defer stopHeld()
	left := a.in.Most
	c := cursors{mapped: newCursor(now), parent: newCursor(before), held: newCursor(held)}
	for {
		number, id, unchanged, err := c.next()
		if err != nil || number < 0 || number >= end {
			return err
		}
		if !unchanged || number < first {
			continue
		}
		size := min(a.chunkSize, a.in.Now.Shape.SizeBytes-number*a.chunkSize)
		if left < size {
			a.mu.Lock()
			a.out.Next = number * a.chunkSize
			a.mu.Unlock()
			return nil
		}
		left -= size
		select {
		case work <- audited{number, id}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// chunksOf yields the numbers of the chunks that extents touch, as changes without an id.
func chunksOf(extents iter.Seq2[holdfast.Extent, error], chunkSize int64) iter.Seq2[tree.Change, error] {
	return func(yield func(tree.Change, error) bool) {
		last := int64(-1)
		for e, err := range extents {
			if err != nil {
				yield(tree.Change{}, err)
				return
			}
			for n := max(last+1, e.Offset/chunkSize); !e.Zero && n*chunkSize < e.End(); n++ {
				if last = n; !yield(tree.Change{Number: n}, nil) {
					return
				}
			}
		}
	}
}

// cursor is a place in a sequence of chunks in rising order.
type cursor struct {
	pull func() (tree.Change, error, bool)
	at   tree.Change
	err  error
	more bool
}

func newCursor(pull func() (tree.Change, error, bool)) *cursor {
	c := &cursor{pull: pull}
	c.advance()
	return c
}

func (c *cursor) advance() { c.at, c.err, c.more = c.pull() }

// take returns the id at a number, a hole where the sequence has none, and moves past it.
func (c *cursor) take(number int64) (id chunk.ID, present bool) {
	if !c.more || c.at.Number != number {
		return chunk.ID{}, false
	}
	id = c.at.Child.ID
	c.advance()
	return id, true
}

// cursors walk a map, the one before it, and what the source holds.
type cursors struct{ mapped, parent, held *cursor }

// next returns the next chunk that any of them has, −1 at the end, and whether both maps say the same of it.
func (c cursors) next() (number int64, id chunk.ID, unchanged bool, err error) {
	number = -1
	for _, one := range []*cursor{c.mapped, c.parent, c.held} {
		if one.err != nil {
			return 0, id, false, one.err
		}
		if one.more && (number < 0 || one.at.Number < number) {
			number = one.at.Number
		}
	}
	if number < 0 {
		return number, id, false, nil
	}
	id, _ = c.mapped.take(number)
	before, _ := c.parent.take(number)
	c.held.take(number)
	return number, id, id == before, nil
}

// compare reads a chunk, twice if it is not what it should be.
func (a *auditor) compare(ctx context.Context, buffer []byte, c audited) error {
	offset := c.number * a.chunkSize
	data := buffer[:min(a.chunkSize, a.in.Now.Shape.SizeBytes-offset)]
	for range 2 {
		if err := a.in.Content.ReadAt(ctx, data, offset); err != nil {
			return err
		}
		a.mu.Lock()
		a.out.Bytes += int64(len(data))
		a.mu.Unlock()
		var id chunk.ID
		if !chunk.IsZero(data) {
			id = a.in.Hasher.Chunk(data)
		}
		if id == c.id {
			return nil
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.out.Wrong) < wrongMax {
		a.out.Wrong = append(a.out.Wrong, offset)
	}
	return nil
}
