package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

func mustBeCorrupt(t *testing.T, err error) {
	t.Helper()
	if err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Error(err)
	}
}

func someRecords(n int) (records []byte) {
	for i := range n {
		e := Entry{Pack: Pack{Kind: seal.KindData}, Offset: 64, Stored: 100, Slot: uint16(i)}
		binary.BigEndian.PutUint64(e.ID[:], uint64(i)<<40)
		records = appendRecord(records, e)
	}
	return records
}

// No bytes pass for a block that is not one: what is accepted is in order, names packs, and reads back as it was written.
func FuzzCheckRecords(f *testing.F) {
	good := someRecords(3)
	f.Add(good, 3)
	f.Add(append(slices.Clone(good), good...), 6)
	f.Add([]byte{}, 0)
	f.Add(good, 1<<40)
	f.Add(good, -1)
	f.Fuzz(func(t *testing.T, block []byte, items int) {
		if err := checkRecords(block, items); err != nil {
			mustBeCorrupt(t, err)
			return
		}
		var again []byte
		var last chunk.ID
		for at := 0; at < len(block); at += recordSize {
			e := parseRecord(block[at:])
			if at > 0 && bytes.Compare(last[:], e.ID[:]) >= 0 {
				t.Fatal("out of order")
			}
			if pack, err := PackOf(e.Pack.Name()); err != nil || pack != e.Pack {
				t.Fatalf("%v is a pack: %v", e.Pack, err)
			}
			last, again = e.ID, appendRecord(again, e)
		}
		if !bytes.Equal(again, block) || len(block) != items*recordSize {
			t.Errorf("%d items of %d bytes read as others", items, len(block))
		}
	})
}

// No directory makes newRun panic or allocate beyond what was read, and what it accepts can be asked for every block without reading
// outside of the object.
func FuzzNewRun(f *testing.F) {
	id := keys.NewRepositoryID()
	ring, store := keys.NewRing(id), mem.New(clock.NewManual(time.Unix(0, 0)))
	reader := NewReader(ReaderOptions{Store: store, Ring: ring, Codec: seal.NewCodec(1, seal.CompressionDefault, 1<<20)})
	f.Add(byte(seal.KindIndex), []byte{0, 0, 76, 17, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 17, 0}, []byte{})
	f.Add(byte(seal.KindTableRun), []byte{0, 0, 48, 0, 200, 1, 1, 1, 1, 1, 1, 1, 1}, []byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(byte(seal.KindManifest), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, kind byte, shape, extra []byte) {
		object := &seal.Object{Header: seal.Header{Kind: seal.Kind(kind)}, Extra: extra}
		offset := int64(seal.HeaderSize)
		for ; len(shape) >= 13; shape = shape[13:] { // stored (4), items (1), the item's bytes (8)
			frame := seal.Frame{Offset: offset, Stored: int(binary.BigEndian.Uint32(shape)), Items: int(shape[4])}
			if frame.Data = slices.Concat(shape[5:13], make([]byte, 56)); frame.Items == 0 {
				frame.Data = nil
			}
			if kind == byte(seal.KindTableRun) && frame.Data == nil {
				frame.Data = make([]byte, 64)
			}
			object.Frames = append(object.Frames, frame)
			offset += int64(frame.Stored)
		}
		run, err := newRun("index/x", reader, object)
		if err != nil {
			mustBeCorrupt(t, err)
			return
		}
		for i := range run.firsts {
			if f := run.frame(i); int64(f.offset) != object.Frames[i].Offset || int(f.stored) != object.Frames[i].Stored || int(f.items) != object.Frames[i].Items {
				t.Fatalf("block %d lies at %+v, want %+v", i, f, object.Frames[i])
			}
		}
		if _, err := run.Lookup(t.Context(), chunk.ID{1}); err == nil && len(run.firsts) > 0 && run.firsts[0] <= keyOf([]byte{1, 0, 0, 0, 0, 0, 0, 0}) {
			t.Error("a block that does not exist was read")
		}
	})
}

// No bytes make the reader of pack tables panic or allocate for what they merely claim, and no entry names a pack beyond the table.
func FuzzParseTable(f *testing.F) {
	good := append(binary.BigEndian.AppendUint32(nil, 1), slices.Concat([]byte{1}, make([]byte, 32), []byte{0, 0, 0, 2, 255, 255})...)
	f.Add(good, make([]byte, tableEntrySize))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, tableEntrySize))
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31), []byte{})
	f.Add(append(binary.BigEndian.AppendUint32(nil, 1), make([]byte, 40)...), []byte{1})
	f.Fuzz(func(t *testing.T, extra, block []byte) {
		table, err := parseTable(extra)
		if err != nil {
			mustBeCorrupt(t, err)
			return
		}
		table.filter.mayContain(chunk.ID{1, 2, 3})
		records, err := table.records(block)
		if err != nil {
			mustBeCorrupt(t, err)
			return
		}
		for ; len(records) > 0; records = records[recordSize:] {
			if !slices.Contains(table.packs, packIn(records)) {
				t.Error("an entry names a pack that the table does not have")
			}
		}
	})
}

// A prefix reads as it was written and holds what it says.
func FuzzParsePrefix(f *testing.F) {
	f.Add("", uint64(0))
	f.Add("0110", uint64(6)<<60)
	f.Add("2", uint64(1))
	f.Fuzz(func(t *testing.T, digits string, key uint64) {
		p, ok := ParsePrefix(digits)
		if !ok {
			return
		}
		if p.String() != digits || p.Len() != len(digits) || !p.contains(p.bits) || !p.contains(p.last()) {
			t.Errorf("%q reads as %q", digits, p)
		}
		if inside := key >= p.bits && key <= p.last(); inside != p.contains(key) {
			t.Errorf("%q and %x", digits, key)
		}
	})
}

// No bytes of a stored run make opening or asking it panic: each is changed in turn, in the stored bytes, and damage is all there is.
func TestRun_EveryByteChanged(t *testing.T) {
	id := keys.NewRepositoryID()
	ring := keys.NewRing(id)
	w, err := NewWriter(make([]byte, 0, SizeMax(300)), 300, ring, seal.NewHeader(seal.KindIndex, ring, id, holdfast.SessionID{}))
	if err != nil {
		t.Fatal(err)
	}
	for records := someRecords(300); len(records) > 0; records = records[recordSize:] {
		w.add(records[:recordSize])
	}
	data := slices.Clone(w.Finish())
	for at := 0; at < len(data); at += 1 + at/64 {
		store := mem.New(clock.NewManual(time.Unix(0, 0)))
		changed := slices.Clone(data)
		changed[at] ^= 0x11
		if err := store.Put(t.Context(), "index/x", changed, blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		reader := NewReader(ReaderOptions{Store: store, Ring: ring, Codec: seal.NewCodec(1, seal.CompressionDefault, 1<<20)})
		for _, size := range []int64{int64(len(data)), 0} {
			run, err := reader.read(t.Context(), About{Name: "index/x", Bytes: size})
			if err == nil {
				err = run.Check(context.WithoutCancel(t.Context()))
			}
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Fatalf("byte %d of %d changed: %v", at, len(data), err)
			}
		}
	}
}
