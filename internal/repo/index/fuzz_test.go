package index

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// No bytes make the decoder of blocks panic, and what it accepts is in order.
func FuzzDecodeBlock(f *testing.F) {
	entry := make([]byte, entrySize)
	f.Add(entry, 1)
	f.Add(append(slices.Clone(entry), bytes.Repeat([]byte{1, 0}, entrySize/2)...), 2)
	f.Add([]byte{}, 0)
	f.Add(entry, 1<<40)
	f.Add(entry, -1)
	f.Fuzz(func(t *testing.T, plain []byte, items int) {
		block, err := decodeBlock("index/x", plain, items)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		if len(block) != items || !slices.IsSortedFunc(block, func(a, b Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) }) {
			t.Errorf("%d entries of %d", len(block), items)
		}
	})
}

// No bytes make the decoder of pack tables and filters panic or allocate for what they merely claim.
func FuzzReadExtra(f *testing.F) {
	c := Contents{Packs: []string{layout.Name(layout.DataPack, layout.Hash{1})}, Entries: []Entry{{ID: chunk.ID{1}}}}
	good, err := c.extra()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31))
	f.Add(append(binary.BigEndian.AppendUint32(nil, 1), make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, extra []byte) {
		r := &Run{name: "index/x"}
		if err := r.readExtra(extra); err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		r.filter.mayContain(chunk.ID{1, 2, 3})
		if _, err := r.place(Entry{Pack: 1 << 31}); err == nil {
			t.Error("a pack beyond the table is found")
		}
	})
}
