package index

import (
	"bytes"
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// cursor yields the records of runs one after the other. The runs follow one another in order of id: their prefixes are disjoint, or
// there is one. Not safe for concurrent use.
type cursor struct {
	reader *Reader
	runs   []About // to be opened
	ahead  int     // bytes read at once
	strict bool    // a run that is missing or damaged is an error; else what is lost is left out

	about  About
	run    *Run
	number int      // of the block to be read next
	opened [][]byte // blocks read ahead, in order
	block  []byte   // what is left of the block at hand

	stored []byte   // memory, used again
	plain  [][]byte // memory, used again
}

// blockStored is what a block takes in a run.
const blockStored = blockEntries*recordSize + seal.Overhead

func newCursor(reader *Reader, runs ...About) *cursor {
	return &cursor{reader: reader, runs: runs, ahead: 16 * blockStored}
}

// inMemory returns a cursor of entries that are in order.
func inMemory(entries []Entry) *cursor {
	c := &cursor{}
	for _, e := range entries {
		c.block = appendRecord(c.block, e)
	}
	return c
}

// next returns the next record, nil at the end. It is valid until the next call.
func (c *cursor) next(ctx context.Context) ([]byte, error) {
	for len(c.block) == 0 {
		more, err := c.nextBlock(ctx)
		if err != nil || !more {
			return nil, err
		}
	}
	record := c.block[:recordSize]
	c.block = c.block[recordSize:]
	return record, nil
}

// nextBlock moves to the next block and reports whether there is one.
func (c *cursor) nextBlock(ctx context.Context) (bool, error) {
	for {
		if len(c.opened) > 0 {
			c.block, c.opened = c.opened[0], c.opened[1:]
			return true, nil
		}
		if c.run != nil && c.number < len(c.run.firsts) {
			if err := c.tolerate(ctx, c.readAhead(ctx)); err != nil {
				return false, err
			}
			continue
		}
		if len(c.runs) == 0 {
			return false, nil
		}
		var err error
		c.about, c.runs, c.number = c.runs[0], c.runs[1:], 0
		c.run, err = c.reader.MustOpen(ctx, c.about)
		if err := c.tolerate(ctx, err); err != nil {
			return false, err
		}
	}
}

// tolerate drops an error that says that something is missing or damaged, unless the cursor is strict.
func (c *cursor) tolerate(ctx context.Context, err error) error {
	if c.strict {
		return err
	}
	return c.reader.passOver(ctx, c.about.Name, err)
}

// readAhead reads as many blocks as may be read at once, at least one, and opens those that are sound.
func (c *cursor) readAhead(ctx context.Context) error {
	first, start, end := c.number, c.run.frame(c.number).offset, uint32(0)
	for c.number < len(c.run.firsts) {
		next := c.run.frame(c.number)
		if c.number > first && int(next.offset+next.stored-start) > c.ahead {
			break
		}
		end = next.offset + next.stored
		c.number++
	}
	c.stored = slices.Grow(c.stored[:0], int(end-start))[:end-start]
	if n, err := c.reader.store.Read(ctx, c.run.name, int64(start), c.stored); err != nil || n < len(c.stored) {
		return seal.ShortRead(c.run.name, int64(start), err)
	}
	c.plain = slices.Grow(c.plain[:0], c.number-first)[:c.number-first]
	c.opened = nil
	var damage error
	for i := range c.plain {
		b := c.run.frame(first + i)
		plain, err := c.run.open(first+i, c.plain[i], c.stored[b.offset-start:b.offset-start+b.stored])
		if err != nil {
			damage = err
			continue
		}
		c.plain[i] = plain
		c.opened = append(c.opened, plain)
	}
	return damage
}

// merged yields the records of several cursors in order of id, each id once: the first cursor that has it wins.
type merged struct {
	cursors []*cursor
	heads   [][]byte
}

func merge(ctx context.Context, cursors []*cursor) (*merged, error) {
	m := &merged{cursors: cursors, heads: make([][]byte, len(cursors))}
	for i := range cursors {
		var err error
		if m.heads[i], err = cursors[i].next(ctx); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// next appends the next record to target[:0], and returns nothing at the end.
func (m *merged) next(ctx context.Context, target []byte) ([]byte, error) {
	least := -1
	for i, head := range m.heads {
		if head != nil && (least < 0 || bytes.Compare(head[:kindOffset], m.heads[least][:kindOffset]) < 0) {
			least = i
		}
	}
	if least < 0 {
		return nil, nil
	}
	target = append(target[:0], m.heads[least]...)
	for i := least; i < len(m.heads); i++ {
		if m.heads[i] == nil || i > least && !bytes.Equal(m.heads[i][:kindOffset], target[:kindOffset]) {
			continue
		}
		var err error
		if m.heads[i], err = m.cursors[i].next(ctx); err != nil {
			return nil, err
		}
	}
	return target, nil
}

// sorted puts entries in order of id and drops those whose id came before.
func sorted(entries []Entry) []Entry {
	slices.SortStableFunc(entries, func(a, b Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return slices.CompactFunc(entries, func(a, b Entry) bool { return a.ID == b.ID })
}
