package repo

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

// AuditInput is content that a disk of a point should be equal to, as far as a change list said that nothing had changed.
type AuditInput struct {
	Parent  *DiskReader                       // the disk that the change list counted from; chunks that differ from it were read, and are not looked at
	From    int64                             // byte where to begin
	To      int64                             // byte where to end
	Most    int64                             // bytes to be read at most, in whole chunks
	Extents iter.Seq2[holdfast.Extent, error] // where the source holds data, from From on
	Source  Source                            // what the disk held
	Readers int                               // concurrent reads; 0 means DefaultReaders
}

// AuditOutput is what an audit found.
type AuditOutput struct {
	Bytes int64   // read
	Next  int64   // byte where the next audit goes on; To when all was read
	Wrong []int64 // bytes where chunks begin that are not what the point says, some of them, in order
}

// auditWrongMax bounds the chunks that are named: one is enough to distrust a list.
const auditWrongMax = 16

// Audit reads chunks that have not changed since Parent, and those that both maps call zeros although the source holds data there, and
// compares their ids with those of the map. Nothing is read of the store but the maps. What differs is read twice.
func (d *DiskReader) Audit(ctx context.Context, in AuditInput) (AuditOutput, error) {
	a := auditor{d: d, in: in, chunkSize: int64(d.shape.ChunkSize), out: AuditOutput{Next: in.To}}
	work := make(chan audited)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		return a.choose(gctx, work)
	})
	readers := in.Readers
	if readers <= 0 {
		readers = DefaultReaders()
	}
	for range readers {
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
	d         *DiskReader
	in        AuditInput
	chunkSize int64

	mu  sync.Mutex // guards out
	out AuditOutput
}

// choose walks both maps and the source's extents side by side.
func (a *auditor) choose(ctx context.Context, work chan<- audited) error {
	first, end := a.in.From/a.chunkSize, (a.in.To+a.chunkSize-1)/a.chunkSize
	now, stopNow := iter.Pull2(tree.Leaves(ctx, a.d.shape, a.d.top, first, end, a.d.r))
	defer stopNow()
	before, stopBefore := iter.Pull2(tree.Leaves(ctx, a.in.Parent.shape, a.in.Parent.top, first, end, a.d.r))
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
		size := min(a.chunkSize, a.d.disk.SizeBytes-number*a.chunkSize)
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
	data := buffer[:min(a.chunkSize, a.d.disk.SizeBytes-offset)]
	for range 2 {
		if err := a.in.Source.ReadAt(ctx, data, offset); err != nil {
			return err
		}
		a.mu.Lock()
		a.out.Bytes += int64(len(data))
		a.mu.Unlock()
		var id chunk.ID
		if !chunk.IsZero(data) {
			id = a.d.r.hasher.Chunk(data)
		}
		if id == c.id {
			return nil
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.out.Wrong) < auditWrongMax {
		a.out.Wrong = append(a.out.Wrong, offset)
	}
	return nil
}
