// Package index answers where a chunk or node lies: immutable sorted runs with a filter, each a sealed object
// (doc/format.md §8). A run is a cache of what the directories of packs say; losing one costs time, never data.
//
// Opening a run reads its directory and filter; blocks of entries are read on demand through a cache with a bound.
package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/cache"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// Entry says where an id lies. Pack counts in the Packs of the Contents that the entry belongs to.
type Entry struct {
	ID     chunk.ID
	Pack   uint32
	Offset uint32
	Stored uint32
	Slot   uint16
}

// Contents is a run in memory.
type Contents struct {
	Packs   []string // object names
	Entries []Entry
}

// Sizes of a run's parts (doc/format.md §8).
const (
	blockEntries  = 1024
	entrySize     = 48
	filterBits    = 10 // per entry
	filterHashes  = 7
	packEntrySize = 1 + layout.HashSize
)

// EntriesMax bounds a run that is built in memory, about 200 MB.
const EntriesMax = 4 << 20

// Merge unites contents. Where an id occurs more than once the first one given stays.
func Merge(parts ...Contents) Contents {
	var merged Contents
	numbers := map[string]uint32{}
	for _, part := range parts {
		renumber := make([]uint32, len(part.Packs))
		for i, name := range part.Packs {
			number, ok := numbers[name]
			if !ok {
				number = uint32(len(merged.Packs))
				numbers[name] = number
				merged.Packs = append(merged.Packs, name)
			}
			renumber[i] = number
		}
		for _, e := range part.Entries {
			e.Pack = renumber[e.Pack]
			merged.Entries = append(merged.Entries, e)
		}
	}
	merged.sort()
	return merged
}

// Without returns the contents less the entries and names of some packs.
func (c Contents) Without(packs map[string]bool) Contents {
	if !slices.ContainsFunc(c.Packs, func(name string) bool { return packs[name] }) {
		return c
	}
	var kept Contents
	numbers := make([]uint32, len(c.Packs))
	for i, name := range c.Packs {
		if !packs[name] {
			numbers[i] = uint32(len(kept.Packs))
			kept.Packs = append(kept.Packs, name)
		}
	}
	for _, e := range c.Entries {
		if !packs[c.Packs[e.Pack]] {
			e.Pack = numbers[e.Pack]
			kept.Entries = append(kept.Entries, e)
		}
	}
	return kept
}

// sort orders entries by id and drops later duplicates.
func (c *Contents) sort() {
	slices.SortStableFunc(c.Entries, func(a, b Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	c.Entries = slices.CompactFunc(c.Entries, func(a, b Entry) bool { return a.ID == b.ID })
}

// Encode returns the bytes of a run.
func Encode(c Contents, header seal.Header, ring *keys.Ring, codec *seal.Codec) ([]byte, error) {
	c.sort()
	extra, err := c.extra()
	if err != nil {
		return nil, err
	}
	blocks := (len(c.Entries) + blockEntries - 1) / blockEntries
	size := seal.HeaderSize + seal.TrailerSize + seal.Overhead + len(c.Entries)*entrySize + blocks*(seal.Overhead+10+64) + len(extra)
	w, err := seal.NewWriter(make([]byte, 0, size+1024), ring, header)
	if err != nil {
		return nil, err
	}
	var plain, packed []byte
	for block := range slices.Chunk(c.Entries, blockEntries) {
		plain = plain[:0]
		for _, e := range block {
			plain = append(plain, e.ID[:]...)
			plain = binary.BigEndian.AppendUint32(plain, e.Pack)
			plain = binary.BigEndian.AppendUint32(plain, e.Offset)
			plain = binary.BigEndian.AppendUint32(plain, e.Stored)
			plain = binary.BigEndian.AppendUint16(plain, e.Slot)
			plain = append(plain, 0, 0)
		}
		packed = codec.Compress(packed, plain)
		fence := append(block[0].ID[:], block[len(block)-1].ID[:]...)
		w.Append(packed, len(plain), len(block), fence)
	}
	return w.Finish(extra), nil
}

// extra returns what follows the frame records in a run's directory: pack table and filter.
func (c *Contents) extra() ([]byte, error) {
	extra := binary.BigEndian.AppendUint32(nil, uint32(len(c.Packs)))
	for _, name := range c.Packs {
		kind, hash := layout.Parse(name)
		switch kind {
		case layout.DataPack:
			extra = append(extra, byte(seal.KindData))
		case layout.TreePack:
			extra = append(extra, byte(seal.KindTree))
		case layout.Foreign, layout.LogEntry, layout.KeyObject, layout.State, layout.IndexRun, layout.Manifest, layout.List:
			return nil, holdfast.Errorf(holdfast.KindInternal, "%s is not a pack", name)
		}
		extra = append(extra, hash[:]...)
	}
	filter := newFilter(len(c.Entries))
	for i := range c.Entries {
		filter.add(c.Entries[i].ID)
	}
	extra = binary.BigEndian.AppendUint32(extra, uint32(len(filter)))
	return append(extra, filter...), nil
}

// filter is a Bloom filter whose hashes are parts of the id, which is a hash already.
type filter []byte

func newFilter(entries int) filter { return make(filter, (entries*filterBits+7)/8) }

func (f filter) bits(id chunk.ID, visit func(bit uint64) bool) bool {
	h1, h2 := binary.BigEndian.Uint64(id[:]), binary.BigEndian.Uint64(id[8:])|1
	for i := range uint64(filterHashes) {
		if !visit((h1 + i*h2) % uint64(len(f)*8)) {
			return false
		}
	}
	return true
}

func (f filter) add(id chunk.ID) {
	f.bits(id, func(bit uint64) bool { f[bit/8] |= 1 << (bit % 8); return true })
}

func (f filter) mayContain(id chunk.ID) bool {
	return len(f) > 0 && f.bits(id, func(bit uint64) bool { return f[bit/8]&(1<<(bit%8)) != 0 })
}

// Blocks caches the decoded blocks of all runs of a repository.
type Blocks = cache.Cache[BlockKey, []Entry]

// BlockKey names a block of a run.
type BlockKey struct {
	Run   string
	Block int
}

// NewBlocks returns a block cache of that many bytes.
func NewBlocks(limit int64) *Blocks {
	return cache.New[BlockKey](limit, func(block []Entry) int64 { return int64(len(block)) * entrySize })
}

// Run is an open index run. Safe for concurrent use.
type Run struct {
	name   string
	store  blob.Reader
	opener *seal.Opener
	blocks *Blocks
	frames []seal.Frame
	packs  []*chunk.PackRef
	filter filter
	count  int
}

// Open reads a run's directory. Damage is KindCorrupt, a missing object blob.ErrNotFound.
func Open(ctx context.Context, store blob.Reader, name string, ring *keys.Ring, codec *seal.Codec, blocks *Blocks) (*Run, error) {
	object, err := seal.OpenObject(ctx, store, name, ring, codec, layout.IndexRunBytesMax)
	if err != nil {
		return nil, err
	}
	r := &Run{name: name, store: store, opener: object.Opener, blocks: blocks, frames: object.Frames}
	for _, f := range r.frames {
		r.count += f.Items
	}
	if err := r.readExtra(object.Extra); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Run) readExtra(extra []byte) error {
	malformed := holdfast.Errorf(holdfast.KindCorrupt, "the directory of %s is malformed", r.name)
	if len(extra) < 4 {
		return malformed
	}
	packs := int64(binary.BigEndian.Uint32(extra))
	extra = extra[4:]
	if int64(len(extra)) < packs*packEntrySize+4 {
		return malformed
	}
	for range packs {
		kind := seal.Kind(extra[0]).ObjectKind()
		if kind != layout.DataPack && kind != layout.TreePack {
			return malformed
		}
		r.packs = append(r.packs, chunk.NamedPack(layout.Name(kind, layout.Hash(extra[1:packEntrySize]))))
		extra = extra[packEntrySize:]
	}
	if int64(binary.BigEndian.Uint32(extra)) != int64(len(extra)-4) {
		return malformed
	}
	r.filter = extra[4:]
	return nil
}

// Name returns the run's object name.
func (r *Run) Name() string { return r.name }

// Len returns the number of entries.
func (r *Run) Len() int { return r.count }

// Lookup returns the place of an id, nil if the run does not have it.
func (r *Run) Lookup(ctx context.Context, id chunk.ID) (*chunk.Place, error) {
	if !r.filter.mayContain(id) {
		return nil, nil
	}
	i := sort.Search(len(r.frames), func(i int) bool { return bytes.Compare(r.frames[i].Data[32:], id[:]) >= 0 })
	if i == len(r.frames) || bytes.Compare(r.frames[i].Data[:32], id[:]) > 0 {
		return nil, nil
	}
	block, err := r.block(ctx, i)
	if err != nil {
		return nil, err
	}
	at, found := slices.BinarySearchFunc(block, id, func(e Entry, id chunk.ID) int { return bytes.Compare(e.ID[:], id[:]) })
	if !found {
		return nil, nil
	}
	return r.place(block[at])
}

func (r *Run) place(e Entry) (*chunk.Place, error) {
	if int(e.Pack) >= len(r.packs) {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "%s names pack %d of %d", r.name, e.Pack, len(r.packs))
	}
	return &chunk.Place{Pack: r.packs[e.Pack], Offset: int64(e.Offset), Stored: int(e.Stored), Slot: int(e.Slot)}, nil
}

func (r *Run) block(ctx context.Context, i int) ([]Entry, error) {
	return r.blocks.Get(ctx, BlockKey{r.name, i}, func() ([]Entry, error) {
		f := r.frames[i]
		stored := make([]byte, f.Stored)
		if n, err := r.store.Read(ctx, r.name, f.Offset, stored); err != nil || n < len(stored) {
			return nil, seal.ShortRead(r.name, f.Offset, err)
		}
		plain, err := r.opener.Open(nil, stored, f.Offset, layout.FrameBytesMax)
		if err != nil {
			return nil, seal.Damaged(r.name, err)
		}
		return decodeBlock(r.name, plain, f.Items)
	})
}

func decodeBlock(name string, plain []byte, items int) ([]Entry, error) {
	if len(plain)%entrySize != 0 || len(plain)/entrySize != items {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "a block of %s has %d bytes for %d entries", name, len(plain), items)
	}
	block := make([]Entry, items)
	for i := range block {
		b := plain[i*entrySize:]
		block[i] = Entry{
			ID: chunk.ID(b[:32]), Pack: binary.BigEndian.Uint32(b[32:]), Offset: binary.BigEndian.Uint32(b[36:]),
			Stored: binary.BigEndian.Uint32(b[40:]), Slot: binary.BigEndian.Uint16(b[44:]),
		}
		if i > 0 && bytes.Compare(block[i-1].ID[:], block[i].ID[:]) >= 0 || b[46] != 0 || b[47] != 0 {
			return nil, holdfast.Errorf(holdfast.KindCorrupt, "a block of %s is out of order", name)
		}
	}
	return block, nil
}

// Contents reads the whole run.
func (r *Run) Contents(ctx context.Context) (Contents, error) {
	c := Contents{Entries: make([]Entry, 0, r.count)}
	for _, pack := range r.packs {
		c.Packs = append(c.Packs, pack.Name())
	}
	for i := range r.frames {
		block, err := r.block(ctx, i)
		if err != nil {
			return Contents{}, err
		}
		for _, e := range block {
			if int(e.Pack) >= len(c.Packs) {
				return Contents{}, holdfast.Errorf(holdfast.KindCorrupt, "%s names pack %d of %d", r.name, e.Pack, len(c.Packs))
			}
		}
		c.Entries = append(c.Entries, block...)
	}
	return c, nil
}
