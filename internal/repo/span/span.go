// Package span turns lists of changed or allocated extents into runs of whole chunks: to be read, or to become holes
// (doc/format.md §3). It is pure: lists in, lists out.
package span

import (
	"iter"
	"slices"

	"github.com/holdfast-backup/holdfast"
)

// Span is a run of chunks that all need the same: to be read, or to become holes.
type Span struct {
	From, To int64 // chunk numbers, To exclusive
	Zero     bool
}

// Cut turns sorted extents into spans of chunks. A chunk becomes a hole without being read only when zero extents cover it
// whole; a chunk that any data extent touches, or that zero extents cover in part, is read. Extents out of order or
// outside the disk are KindInvalid.
func Cut(extents iter.Seq2[holdfast.Extent, error], sizeBytes int64, chunkSize int) iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		c := cutter{size: sizeBytes, chunk: int64(chunkSize), yield: yield, partial: -1}
		for e, err := range extents {
			if err == nil {
				err = c.check(e)
			}
			if err != nil {
				yield(Span{}, err)
				return
			}
			if !c.add(e) {
				return
			}
		}
		if c.flushPartial() && c.held.To > c.held.From {
			yield(c.held, nil)
		}
	}
}

type cutter struct {
	size, chunk int64
	yield       func(Span, error) bool
	last        int64 // end of the last extent
	partial     int64 // number of the chunk that extents so far cover in part, -1 for none
	zeroBytes   int64 // of the partial chunk, as long as nothing but zero extents touched it
	data        bool  // a data extent touched the partial chunk
	held        Span  // not yet yielded, so that neighbours can join it
}

func (c *cutter) check(e holdfast.Extent) error {
	if e.Length <= 0 || e.Offset < c.last || e.Offset > c.size || e.Length > c.size-e.Offset { // a sum could overflow
		return holdfast.Errorf(holdfast.KindInvalid, "the extent of %d bytes at %d is out of order or outside the disk of %d bytes", e.Length, e.Offset, c.size)
	}
	c.last = e.End()
	return nil
}

// add cuts one extent into its partial first chunk, its whole chunks and its partial last chunk.
func (c *cutter) add(e holdfast.Extent) bool {
	for e.Length > 0 {
		number := e.Offset / c.chunk
		start, end := number*c.chunk, min((number+1)*c.chunk, c.size)
		if e.Offset == start && e.End() >= end {
			whole := (e.End()-start)/c.chunk + number
			if e.End() == c.size { // the last chunk may be short
				whole = (c.size + c.chunk - 1) / c.chunk
			}
			if !c.flushPartial() || !c.emit(Span{number, whole, e.Zero}) {
				return false
			}
			next := min(whole*c.chunk, c.size)
			e.Offset, e.Length = next, e.End()-next
			continue
		}
		if c.partial != number && !c.flushPartial() {
			return false
		}
		part := min(end, e.End()) - e.Offset
		c.partial = number
		if e.Zero {
			c.zeroBytes += part
		} else {
			c.data = true
		}
		e.Offset, e.Length = e.Offset+part, e.Length-part
	}
	return true
}

// flushPartial emits the chunk that was covered piece by piece.
func (c *cutter) flushPartial() bool {
	if c.partial < 0 {
		return true
	}
	length := min((c.partial+1)*c.chunk, c.size) - c.partial*c.chunk
	s := Span{c.partial, c.partial + 1, !c.data && c.zeroBytes == length}
	c.partial, c.zeroBytes, c.data = -1, 0, false
	return c.emit(s)
}

// emit joins s to what is held, or passes that on.
func (c *cutter) emit(s Span) bool {
	if c.held.To == s.From && c.held.Zero == s.Zero && c.held.To > c.held.From {
		c.held.To = s.To
		return true
	}
	held := c.held
	c.held = s
	return held.To == held.From || c.yield(held, nil)
}

// WithChunk adds one chunk that must be read to sorted spans.
func WithChunk(in iter.Seq2[Span, error], number int64) iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		done := false
		one := Span{number, number + 1, false}
		for s, err := range in {
			if err != nil {
				yield(Span{}, err)
				return
			}
			for _, part := range insert(s, one, &done) {
				if !yield(part, nil) {
					return
				}
			}
		}
		if !done {
			yield(one, nil)
		}
	}
}

// WithRead adds sorted spans that must be read to sorted spans. Where the latter say that chunks are holes now, they stay so.
func WithRead(in iter.Seq2[Span, error], extra []Span) iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		left := slices.Clone(extra)
		for s, err := range in {
			for err == nil && len(left) > 0 && left[0].From < s.From {
				part := Span{From: left[0].From, To: min(left[0].To, s.From)}
				if !yield(part, nil) {
					return
				}
				left = after(left, part.To)
			}
			if !yield(s, err) || err != nil {
				return
			}
			left = after(left, s.To)
		}
		for _, s := range left {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// after returns what of sorted spans lies at or after a chunk.
func after(spans []Span, number int64) []Span {
	for len(spans) > 0 && spans[0].To <= number {
		spans = spans[1:]
	}
	if len(spans) > 0 && spans[0].From < number {
		spans[0].From = number
	}
	return spans
}

// insert returns what s becomes when the chunk of one, unless done, is to be read.
func insert(s, one Span, done *bool) []Span {
	if *done || s.To <= one.From {
		return []Span{s}
	}
	*done = true
	if s.From > one.From {
		return []Span{one, s}
	}
	if !s.Zero {
		return []Span{s}
	}
	parts := []Span{{s.From, one.From, true}, one, {one.To, s.To, true}}
	kept := parts[:0]
	for _, p := range parts {
		if p.To > p.From {
			kept = append(kept, p)
		}
	}
	return kept
}
