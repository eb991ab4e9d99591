package vdisk

import (
	"fmt"
	"iter"

	"github.com/holdfast-backup/holdfast"
)

// Allocated yields the ranges of the volume that may hold something else than zeros: whole sectors, in order, merged, inside
// the window. The zero window means the whole volume; another one is widened to whole sectors. The listing shows the
// moment of its start, whatever is written meanwhile. An error is yielded alone, as the last thing.
func (s *Store) Allocated(id ID, window holdfast.Extent) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		flat, size, err := s.still(id)
		if err != nil {
			yield(holdfast.Extent{}, err)
			return
		}
		start, end := clip(window, size)
		found := merger{yield: yield}
		for p := range flat.overlapping(start, end) {
			if !found.add(max(p.start, start), min(p.end, end), false) {
				return
			}
		}
		found.flush()
	}
}

// Diff yields what changed from older, a frozen volume, to newer, a volume of the same family that is not older than it:
// ranges that were written, and with Zero set ranges that were cleared, interleaved in order, otherwise as Allocated does.
// Volumes of two families give ErrUnrelated, swapped ones ErrOrder. It costs what was changed inside the window, and only
// as far as the listing is followed.
func (s *Store) Diff(older, newer ID, window holdfast.Extent) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		maps, size, err := s.between(older, newer)
		if err != nil {
			yield(holdfast.Extent{}, err)
			return
		}
		start, end := clip(window, size)
		union(maps, start, end, &merger{yield: yield})
	}
}

// union adds to found what the maps say about the range, the first map having the last word.
func union(maps []*extentMap, start, end int64, found *merger) {
	cursors := make([]*cursor, len(maps))
	for i, m := range maps {
		cursors[i] = newCursor(m, start)
	}
	for at := start; at < end; {
		winner, border := (*cursor)(nil), end
		for _, c := range cursors {
			c.passOver(at)
			if c.ok && c.current.start <= at {
				winner, border = c, min(border, c.current.end)
				break
			}
			if c.ok {
				border = min(border, c.current.start)
			}
		}
		if winner != nil && !found.add(at, border, winner.current.layer == nil) {
			return
		}
		at = border
	}
	found.flush()
}

// still returns a flat map that will not change and the volume's size.
func (s *Store) still(id ID) (*extentMap, int64, error) {
	v, flat, err := s.readable(id)
	if err != nil {
		return nil, 0, err
	}
	defer v.mu.RUnlock()
	if !v.info.Frozen {
		flat = flat.copy()
	}
	return flat, v.info.Size, nil
}

// between returns the maps of the layers above older's top up to newer's, the newest first, and newer's size.
func (s *Store) between(older, newer ID) ([]*extentMap, int64, error) {
	base, err := s.find(older)
	if err != nil {
		return nil, 0, err
	}
	v, _, err := s.readable(newer)
	if err != nil {
		return nil, 0, err
	}
	defer v.mu.RUnlock()

	s.mu.RLock()
	baseInfo, baseTop := base.info, base.top
	s.mu.RUnlock()
	switch {
	case baseInfo.Family != v.info.Family:
		return nil, 0, fmt.Errorf("%s and %s: %w", older, newer, ErrUnrelated)
	case older == newer:
		return nil, v.info.Size, nil
	case !baseInfo.Frozen || !v.top.standsOn(baseTop):
		return nil, 0, fmt.Errorf("%s and %s: %w", older, newer, ErrOrder)
	}

	var maps []*extentMap
	for l := v.top; l != baseTop; l = l.parent {
		changes, err := s.changesOf(v, l)
		if err != nil {
			return nil, 0, err
		}
		if changes.len() > 0 {
			maps = append(maps, changes)
		}
	}
	return maps, v.info.Size, nil
}

// changesOf returns the map of a layer of v's chain, as it is now.
func (s *Store) changesOf(v *volume, l *layer) (*extentMap, error) {
	if l == v.top && !v.info.Frozen {
		return v.changes.copy(), nil
	}
	return s.frozenChanges(l)
}

// standsOn reports whether other is the layer or lies below it.
func (l *layer) standsOn(other *layer) bool {
	for ; l != nil; l = l.parent {
		if l == other {
			return true
		}
	}
	return false
}

// clip returns the part of the window inside a volume of that size.
func clip(window holdfast.Extent, size int64) (start, end int64) {
	if window == (holdfast.Extent{}) {
		return 0, size
	}
	start = roundDown(max(window.Offset, 0))
	if window.Length > size || window.Offset > size-window.Length {
		return start, size
	}
	return start, roundUp(window.End())
}

// merger joins ranges of one kind that touch.
type merger struct {
	yield func(holdfast.Extent, error) bool
	held  holdfast.Extent
}

// add takes the next range and reports whether the consumer wants more.
func (m *merger) add(start, end int64, zero bool) bool {
	if m.held.Length > 0 && m.held.End() == start && m.held.Zero == zero {
		m.held.Length = end - m.held.Offset
		return true
	}
	if !m.flush() {
		return false
	}
	m.held = holdfast.Extent{Offset: start, Length: end - start, Zero: zero}
	return true
}

func (m *merger) flush() bool {
	held := m.held
	m.held = holdfast.Extent{}
	return held.Length == 0 || m.yield(held, nil)
}
