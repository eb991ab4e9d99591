package index

import (
	"bytes"
	"encoding/binary"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// Entry says where an id lies.
type Entry struct {
	ID     chunk.ID
	Pack   Pack
	Offset uint32 // of the frame in the pack
	Stored uint32 // bytes of the frame
	Slot   uint16
}

// Pack names a data or tree pack in fewer bytes than its object name.
type Pack struct {
	Kind seal.Kind
	Hash layout.Hash
}

// PackOf returns the pack of an object name. Any other object is KindInternal.
func PackOf(name string) (Pack, error) {
	kind, hash := layout.Parse(name)
	switch kind {
	case layout.DataPack:
		return Pack{seal.KindData, hash}, nil
	case layout.TreePack:
		return Pack{seal.KindTree, hash}, nil
	case layout.Foreign, layout.LogEntry, layout.KeyObject, layout.State, layout.IndexRun, layout.Manifest, layout.List:
	}
	return Pack{}, holdfast.Errorf(holdfast.KindInternal, "%s is not a pack", name)
}

// Name returns the pack's object name.
func (p Pack) Name() string { return layout.Name(p.Kind.ObjectKind(), p.Hash) }

// A record is an entry's bytes in a run (doc/format.md §8).
const (
	recordSize   = 76
	kindOffset   = 32
	slotOffset   = 34
	packOffset   = 36
	frameOffset  = 68
	storedOffset = 72
)

func appendRecord(b []byte, e Entry) []byte {
	b = append(b, e.ID[:]...)
	b = append(b, byte(e.Pack.Kind), 0)
	b = binary.BigEndian.AppendUint16(b, e.Slot)
	b = append(b, e.Pack.Hash[:]...)
	b = binary.BigEndian.AppendUint32(b, e.Offset)
	return binary.BigEndian.AppendUint32(b, e.Stored)
}

func parseRecord(b []byte) Entry {
	return Entry{
		ID: chunk.ID(b[:kindOffset]), Pack: packIn(b), Offset: binary.BigEndian.Uint32(b[frameOffset:]), Stored: binary.BigEndian.Uint32(b[storedOffset:]),
		Slot: binary.BigEndian.Uint16(b[slotOffset:]),
	}
}

func packIn(record []byte) Pack {
	return Pack{seal.Kind(record[kindOffset]), layout.Hash(record[packOffset:frameOffset])}
}

// checkRecords returns an error unless a block consists of so many sound records in order.
func checkRecords(block []byte, items int) error {
	if len(block)%recordSize != 0 || len(block)/recordSize != items {
		return corrupt("a block has %d bytes for %d entries", len(block), items)
	}
	for at := 0; at < len(block); at += recordSize {
		record := block[at : at+recordSize]
		if kind := packIn(record).Kind; kind != seal.KindData && kind != seal.KindTree || record[kindOffset+1] != 0 {
			return corrupt("an entry of a block is malformed")
		}
		if at > 0 && bytes.Compare(block[at-recordSize:][:kindOffset], record[:kindOffset]) >= 0 {
			return corrupt("a block is out of order")
		}
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return holdfast.Errorf(holdfast.KindCorrupt, format, args...)
}
