package index

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// packTable is what makes a run with a pack table another thing than the runs that are written today: entries name packs by number
// (doc/format.md §8). Such runs are read only.
type packTable struct {
	packs  []Pack
	filter filter
}

const (
	tableEntrySize  = 48
	packEntrySize   = 1 + layout.HashSize
	tableItemOffset = len(chunk.ID{})
)

// memoryBytes is what the table costs; a run without one has a nil table.
func (t *packTable) memoryBytes() int64 {
	if t == nil {
		return 0
	}
	return int64(len(t.packs))*packEntrySize + int64(len(t.filter))
}

// parseTable reads what follows the frame records in the directory. Anything malformed is KindCorrupt.
func parseTable(extra []byte) (*packTable, error) {
	malformed := corrupt("its directory is malformed")
	if len(extra) < 4 {
		return nil, malformed
	}
	packs := int64(binary.BigEndian.Uint32(extra))
	extra = extra[4:]
	if int64(len(extra)) < packs*packEntrySize+4 {
		return nil, malformed
	}
	t := &packTable{packs: make([]Pack, 0, packs)}
	for range packs {
		p := Pack{seal.Kind(extra[0]), layout.Hash(extra[1:packEntrySize])}
		if p.Kind != seal.KindData && p.Kind != seal.KindTree {
			return nil, malformed
		}
		t.packs, extra = append(t.packs, p), extra[packEntrySize:]
	}
	if int64(binary.BigEndian.Uint32(extra)) != int64(len(extra)-4) {
		return nil, malformed
	}
	t.filter = extra[4:]
	return t, nil
}

// records returns a block's entries as other runs have them.
func (t *packTable) records(block []byte) ([]byte, error) {
	if len(block)%tableEntrySize != 0 {
		return nil, corrupt("a block has %d bytes", len(block))
	}
	records := make([]byte, 0, len(block)/tableEntrySize*recordSize)
	for at := 0; at < len(block); at += tableEntrySize {
		b := block[at+tableItemOffset : at+tableEntrySize]
		number := binary.BigEndian.Uint32(b)
		if int64(number) >= int64(len(t.packs)) || b[14] != 0 || b[15] != 0 {
			return nil, corrupt("an entry of a block is malformed, or names pack %d of %d", number, len(t.packs))
		}
		records = appendRecord(records, Entry{
			ID: chunk.ID(block[at:]), Pack: t.packs[number], Offset: binary.BigEndian.Uint32(b[4:]), Stored: binary.BigEndian.Uint32(b[8:]), Slot: binary.BigEndian.Uint16(b[12:]),
		})
	}
	return records, nil
}
