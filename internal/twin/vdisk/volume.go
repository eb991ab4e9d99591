package vdisk

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast"
)

// volume is a volume in use.
type volume struct {
	mu   sync.RWMutex
	info Volume // changed with mu and the store's mu held, so either is enough to read it
	top  *layer // likewise
	gone error  // why the volume cannot be used any more; guarded by mu

	// The maps of a live volume, nil until its first use. A frozen volume's are in the store's cache. Guarded by mu.
	flat    *extentMap // what is allocated, and in which layer
	changes *extentMap // what was written and cleared in the top layer
	end     int64      // length of the top layer's journal

	building sync.Mutex // so that a frozen volume's flat map is built once
}

// ReadAt reads like an io.ReaderAt: a read that goes beyond the end of the volume returns what is there and io.EOF. What
// was never written, or was cleared, reads as zeros.
func (s *Store) ReadAt(id ID, p []byte, off int64) (int, error) {
	v, flat, err := s.readable(id)
	if err != nil {
		return 0, err
	}
	defer v.mu.RUnlock()

	if off < 0 {
		return 0, fmt.Errorf("%s at %d: %w", id, off, ErrRange)
	}
	if off >= v.info.Size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), v.info.Size-off)
	if err := readFlat(flat, p[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// WriteAt writes p at off in the live volume. The range has to lie inside it (ErrRange); it need not be aligned, but whole
// sectors are marked as changed. After an error part of p may have been written.
func (s *Store) WriteAt(id ID, p []byte, off int64) (int, error) {
	v, err := s.writable(id, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer v.mu.Unlock()

	if len(p) == 0 {
		return 0, nil
	}
	if err := v.write(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Zero makes a range of the live volume read as zeros and frees its space; its cost depends on what was written there, not
// on the length. Sectors that are only partly in the range are rewritten and count as changed, the others as cleared.
func (s *Store) Zero(id ID, off, length int64) error {
	v, err := s.writable(id, off, length)
	if err != nil {
		return err
	}
	defer v.mu.Unlock()
	return v.zero(off, length)
}

// importBlockBytes is the unit in which Import looks for zeros: the usual block of a filesystem.
const importBlockBytes = 4096

// Import fills the live volume from its start with a raw image. Blocks of 4 KiB that are all zeros are not written; where
// the volume held something they are cleared. What lies behind the image's end stays. An image that is longer than the
// volume fails with ErrRange, the part that fits having been written.
func (s *Store) Import(id ID, r io.Reader) error {
	if _, err := s.Stat(id); err != nil {
		return err
	}
	buffer := make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := io.ReadFull(r, buffer)
		if writeErr := s.importChunk(id, buffer[:n], off); writeErr != nil {
			return writeErr
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot read the image after %d bytes", off)
		}
	}
}

// importChunk writes the runs of blocks that hold something and clears the other runs.
func (s *Store) importChunk(id ID, chunk []byte, off int64) error {
	for start := 0; start < len(chunk); {
		end, zero := start, isZero(block(chunk, start))
		for end < len(chunk) && isZero(block(chunk, end)) == zero {
			end += len(block(chunk, end))
		}
		run, at := chunk[start:end], off+int64(start)
		err := error(nil)
		if zero {
			err = s.clearAllocated(id, at, int64(len(run)))
		} else {
			_, err = s.WriteAt(id, run, at)
		}
		if err != nil {
			return err
		}
		start = end
	}
	return nil
}

func block(chunk []byte, start int) []byte {
	return chunk[start:min(start+importBlockBytes, len(chunk))]
}

func isZero(b []byte) bool {
	var zeros [importBlockBytes]byte
	return bytes.Equal(b, zeros[:len(b)])
}

// clearAllocated clears the range when anything in it is allocated.
func (s *Store) clearAllocated(id ID, off, length int64) error {
	v, err := s.writable(id, off, length)
	if err != nil {
		return err
	}
	defer v.mu.Unlock()
	if !v.flat.touches(off, off+length) {
		return nil
	}
	return v.zero(off, length)
}

// write stores p. The caller holds mu for writing and has checked the range.
func (v *volume) write(p []byte, off int64) error {
	start, end := roundDown(off), roundUp(off+int64(len(p)))
	if err := v.writeSectors(p, off, start, end); err != nil {
		return err
	}
	return v.note(change{start: start, end: end})
}

// writeSectors puts p into the top layer's files; sectors that p does not fill are completed with what they held.
func (v *volume) writeSectors(p []byte, off, start, end int64) error {
	last := off + int64(len(p))
	if start == off && end == last {
		return v.top.write(p, off)
	}
	edge := make([]byte, SectorBytes)
	if start < off || last < start+SectorBytes {
		if err := readFlat(v.flat, edge, start); err != nil {
			return err
		}
		n := copy(edge[off-start:], p)
		if err := v.top.write(edge, start); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	whole := int64(len(p)) / SectorBytes * SectorBytes
	if err := v.top.write(p[:whole], off); err != nil {
		return err
	}
	if p, off = p[whole:], off+whole; len(p) == 0 {
		return nil
	}
	if err := readFlat(v.flat, edge, off); err != nil {
		return err
	}
	copy(edge, p)
	return v.top.write(edge, off)
}

// zero clears a range. The caller holds mu for writing and has checked the range.
func (v *volume) zero(off, length int64) error {
	start, end := roundUp(off), roundDown(off+length)
	if start >= end { // inside one sector, or across the border of two
		return v.writeZeros(off, length)
	}
	if err := v.writeZeros(off, start-off); err != nil {
		return err
	}
	if err := v.writeZeros(end, off+length-end); err != nil {
		return err
	}

	var held []piece
	for p := range v.changes.overlapping(start, end) {
		if p.layer != nil {
			held = append(held, p)
		}
	}
	if err := v.note(change{start: start, end: end, cleared: true}); err != nil {
		return err
	}
	for _, p := range held {
		from := max(p.start, start)
		v.top.free(from, min(p.end, end)-from)
	}
	return nil
}

// writeZeros writes fewer zeros than two sectors have.
func (v *volume) writeZeros(off, length int64) error {
	if length == 0 {
		return nil
	}
	return v.write(make([]byte, length), off)
}

// note journals a change and puts it into the maps.
func (v *volume) note(c change) error {
	p := piece{start: c.start, end: c.end, layer: v.top}
	if c.cleared {
		p.layer = nil
	}
	if v.changes.covers(p) {
		return nil // the maps say so already
	}
	end, err := v.top.record(c, v.end)
	if err != nil {
		return err
	}
	v.end = end
	v.changes.set(p)
	if c.cleared {
		v.flat.carve(c.start, c.end)
	} else {
		v.flat.set(p)
	}
	return nil
}

// passOn gives the maps to a new snapshot and leaves the live volume with those of an empty top layer.
func (v *volume) passOn(snapshot *volume, frozen *mapCache) {
	if v.flat == nil {
		return // not in use since the start: both load theirs when needed
	}
	frozen.put(layerKey(v.top.number), v.changes)
	frozen.put(flatKey(snapshot.info.ID), v.flat.copy())
	v.changes, v.end = newExtentMap(), 0
}

// readFlat fills p from the layers.
func readFlat(flat *extentMap, p []byte, off int64) error {
	at, end := off, off+int64(len(p))
	for found := range flat.overlapping(off, end) {
		from, to := max(found.start, off), min(found.end, end)
		clear(p[at-off : from-off])
		if err := found.layer.read(p[from-off:to-off], from); err != nil {
			return err
		}
		at = to
	}
	clear(p[at-off:])
	return nil
}

// writable returns a live volume, loaded and with its mutex held for writing, after checking the range.
func (s *Store) writable(id ID, off, length int64) (*volume, error) {
	v, err := s.exclusive(id)
	if err != nil {
		return nil, err
	}
	switch {
	case v.info.Frozen:
		err = fmt.Errorf("%s: %w", id, ErrFrozen)
	case off < 0 || length < 0 || off > v.info.Size-length:
		err = fmt.Errorf("%s, %d bytes at %d: %w", id, length, off, ErrRange)
	default:
		err = s.loadLive(v)
	}
	if err != nil {
		v.mu.Unlock()
		return nil, err
	}
	return v, nil
}

// readable returns a volume with its mutex held for reading, and its flat map.
func (s *Store) readable(id ID) (*volume, *extentMap, error) {
	for {
		v, err := s.shared(id)
		if err != nil {
			return nil, nil, err
		}
		if v.info.Frozen {
			flat, err := s.frozenFlat(v)
			if err != nil {
				v.mu.RUnlock()
				return nil, nil, err
			}
			return v, flat, nil
		}
		if v.flat != nil {
			return v, v.flat, nil
		}
		v.mu.RUnlock()
		if v, err = s.writable(id, 0, 0); err != nil { // loads the maps
			return nil, nil, err
		}
		v.mu.Unlock()
	}
}

// loadLive reads the maps of a live volume unless it has them. The caller holds its mutex for writing.
func (s *Store) loadLive(v *volume) error {
	if v.flat != nil {
		return nil
	}
	changes, end, err := v.top.readChanges()
	if err != nil {
		return err
	}
	flat, err := s.flatten(v.top.parent)
	if err != nil {
		return err
	}
	lay(changes, flat)
	v.flat, v.changes, v.end = flat, changes, end
	return nil
}

// frozenFlat returns a frozen volume's flat map. The caller holds its mutex.
func (s *Store) frozenFlat(v *volume) (*extentMap, error) {
	key := flatKey(v.info.ID)
	if flat, ok := s.frozen.get(key); ok {
		return flat, nil
	}
	v.building.Lock()
	defer v.building.Unlock()
	if flat, ok := s.frozen.get(key); ok {
		return flat, nil
	}
	flat, err := s.flatten(v.top)
	if err != nil {
		return nil, err
	}
	s.frozen.put(key, flat)
	return flat, nil
}

// flatten lays the maps of a chain of frozen layers over one another.
func (s *Store) flatten(top *layer) (*extentMap, error) {
	var chain []*layer
	for l := top; l != nil; l = l.parent {
		chain = append(chain, l)
	}
	flat := newExtentMap()
	for _, l := range slices.Backward(chain) {
		changes, err := s.frozenChanges(l)
		if err != nil {
			return nil, err
		}
		lay(changes, flat)
	}
	return flat, nil
}

// lay puts a layer's changes over the flat map of what lies below.
func lay(changes, flat *extentMap) {
	for p := range changes.overlapping(0, SizeMax) {
		if p.layer == nil {
			flat.carve(p.start, p.end)
			continue
		}
		flat.set(p)
	}
}

// frozenChanges returns the map of a layer that is no live volume's top.
func (s *Store) frozenChanges(l *layer) (*extentMap, error) {
	if changes, ok := s.frozen.get(layerKey(l.number)); ok {
		return changes, nil
	}
	changes, _, err := l.readChanges()
	if err != nil {
		return nil, err
	}
	s.frozen.put(layerKey(l.number), changes)
	return changes, nil
}

func roundDown(off int64) int64 { return off / SectorBytes * SectorBytes }
func roundUp(off int64) int64   { return roundDown(off + SectorBytes - 1) }
