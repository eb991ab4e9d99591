package index

import (
	"bytes"
	"context"
	"sort"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// Run is an open run. Safe for concurrent use.
type Run struct {
	name    string
	reader  *Reader
	opener  *seal.Opener
	entries int
	filter  frame
	table   *packTable // of a run with one

	firsts []uint64 // of each block the first 8 bytes of its first id
	frames []frame  // of the blocks; nil when all of them but the last are full and of blockStored bytes, as writers make them
	last   frame
}

// frame is a frame's place in a run and what it holds. Run objects are shorter than 4 GiB.
type frame struct{ offset, stored, items uint32 }

// Memory of an open run.
const (
	runBytes   = 2 << 10 // besides the blocks
	firstBytes = 8
	frameBytes = 12
)

// Name returns the run's object name.
func (r *Run) Name() string { return r.name }

// Len returns the number of entries.
func (r *Run) Len() int { return r.entries }

// memoryBytes is what the run costs while it is open.
func (r *Run) memoryBytes() int64 {
	return runBytes + int64(len(r.firsts))*firstBytes + int64(len(r.frames))*frameBytes + r.table.memoryBytes()
}

// newRun makes sense of a run's directory. The bytes are hostile: anything malformed is KindCorrupt.
func newRun(name string, reader *Reader, object *seal.Object) (*Run, error) {
	r := &Run{name: name, reader: reader, opener: object.Opener}
	frames := object.Frames
	switch object.Header.Kind {
	case seal.KindIndex:
		if len(frames) == 0 || frames[len(frames)-1].Items != 0 || len(object.Extra) > 0 {
			return nil, seal.Damaged(name, corrupt("its directory has no filter"))
		}
		r.filter, frames = frameOf(frames[len(frames)-1]), frames[:len(frames)-1]
	case seal.KindTableRun:
		table, err := parseTable(object.Extra)
		if err != nil {
			return nil, seal.Damaged(name, err)
		}
		r.table = table
	case seal.KindData, seal.KindTree, seal.KindManifest:
		return nil, seal.Damaged(name, corrupt("its header says that it is another object"))
	}
	if err := r.takeBlocks(frames); err != nil {
		return nil, seal.Damaged(name, err)
	}
	return r, nil
}

func frameOf(f seal.Frame) frame { return frame{uint32(f.Offset), uint32(f.Stored), uint32(f.Items)} }

// takeBlocks notes where the blocks lie.
func (r *Run) takeBlocks(frames []seal.Frame) error {
	r.firsts = make([]uint64, 0, len(frames))
	regular := true
	for i, f := range frames {
		if f.Items == 0 || f.Stored > layout.FrameBytesMax+seal.Overhead || f.Offset+int64(f.Stored) > layout.IndexRunBytesMax-1 {
			return corrupt("its directory has a block of %d entries in %d bytes at %d", f.Items, f.Stored, f.Offset)
		}
		first := keyOf(f.Data)
		if i > 0 && first < r.firsts[i-1] {
			return corrupt("its blocks are out of order")
		}
		r.firsts = append(r.firsts, first)
		r.entries += f.Items
		r.last = frameOf(f)
		regular = regular && (i == len(frames)-1 || f.Items == blockEntries && f.Stored == blockStored)
	}
	if r.entries > runEntriesMax && r.table == nil {
		return corrupt("it has %d entries, more than %d", r.entries, runEntriesMax)
	}
	if !regular {
		r.frames = make([]frame, 0, len(frames))
		for _, f := range frames {
			r.frames = append(r.frames, frameOf(f))
		}
	}
	return nil
}

// frame returns the place of block i.
func (r *Run) frame(i int) frame {
	switch {
	case r.frames != nil:
		return r.frames[i]
	case i == len(r.firsts)-1:
		return r.last
	}
	return frame{seal.HeaderSize + uint32(i)*blockStored, blockStored, blockEntries}
}

// Lookup returns the place of an id, nil if the run does not have it. It does not ask the filter.
func (r *Run) Lookup(ctx context.Context, id chunk.ID) (*chunk.Place, error) {
	key := keyOf(id[:])
	i := sort.Search(len(r.firsts), func(i int) bool { return r.firsts[i] > key }) - 1
	for ; i >= 0; i-- { // ids that begin alike may lie on both sides of a cut
		block, err := r.block(ctx, i)
		if err != nil {
			return nil, err
		}
		n := len(block) / recordSize
		at := sort.Search(n, func(i int) bool { return bytes.Compare(block[i*recordSize:][:kindOffset], id[:]) >= 0 })
		if at < n && chunk.ID(block[at*recordSize:][:kindOffset]) == id {
			return r.reader.placeOf(ctx, block[at*recordSize:])
		}
		if r.firsts[i] < key {
			break
		}
	}
	return nil, nil
}

// block returns the records of a block, through the reader's cache.
func (r *Run) block(ctx context.Context, i int) ([]byte, error) {
	return r.reader.blocks.Get(ctx, blockKey{r.name, i}, func() (records []byte, err error) {
		err = r.reader.twice(ctx, r.name, func() error {
			stored, err := r.readStored(ctx, r.frame(i))
			if err == nil {
				records, err = r.open(i, nil, stored)
			}
			return err
		})
		return records, err
	})
}

// readStored reads the stored bytes of a frame.
func (r *Run) readStored(ctx context.Context, f frame) ([]byte, error) {
	stored := make([]byte, f.stored)
	if n, err := r.reader.store.Read(ctx, r.name, int64(f.offset), stored); err != nil || n < len(stored) {
		return nil, seal.ShortRead(r.name, int64(f.offset), err)
	}
	return stored, nil
}

// open returns the records of a block whose stored bytes are given, in target's memory where they fit. Stored bytes are overwritten.
func (r *Run) open(i int, target, stored []byte) ([]byte, error) {
	b := r.frame(i)
	plain, err := r.opener.Open(target, stored, int64(b.offset), layout.FrameBytesMax)
	if err == nil && r.table != nil {
		plain, err = r.table.records(plain)
	}
	if err == nil {
		err = checkRecords(plain, int(b.items))
	}
	if err == nil && keyOf(plain) != r.firsts[i] {
		err = corrupt("a block does not begin as its directory says")
	}
	if err != nil {
		return nil, seal.Damaged(r.name, err)
	}
	return plain, nil
}

// readFilter reads the run's filter.
func (r *Run) readFilter(ctx context.Context) (filter, error) {
	if r.table != nil {
		return r.table.filter, nil
	}
	stored, err := r.readStored(ctx, r.filter)
	if err != nil {
		return nil, err
	}
	plain, err := r.opener.Open(nil, stored, int64(r.filter.offset), layout.FrameBytesMax)
	if err == nil && int64(len(plain)) != filterBytes(r.entries) {
		err = corrupt("its filter has %d bytes for %d entries", len(plain), r.entries)
	}
	if err != nil {
		return nil, seal.Damaged(r.name, err)
	}
	return plain, nil
}

// Check reads the whole run and compares its parts. Damage is KindCorrupt.
func (r *Run) Check(ctx context.Context) error {
	present, err := r.readFilter(ctx)
	if err != nil {
		return err
	}
	return r.Entries(ctx, func(e Entry) error {
		if !present.mayContain(e.ID) {
			return seal.Damaged(r.name, corrupt("its filter denies an entry"))
		}
		return nil
	})
}

// Entries calls visit with every entry in order of id. Damage is KindCorrupt.
func (r *Run) Entries(ctx context.Context, visit func(Entry) error) error {
	c := newCursor(r.reader, About{Name: r.name})
	c.strict = true
	for {
		record, err := c.next(ctx)
		if err != nil || record == nil {
			return err
		}
		if err := visit(parseRecord(record)); err != nil {
			return err
		}
	}
}
