package index

import (
	"bytes"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// blockEntries is how many entries a block has: reading one to look up an id costs 19 KiB.
const blockEntries = 256

// runEntriesMax is how many entries a run may have at most, whoever writes it.
const runEntriesMax = 1 << 20

// SizeMax returns the bytes of a run of so many entries.
func SizeMax(entries int) int {
	blocks := (entries + blockEntries - 1) / blockEntries
	const record = 10 + 8 // in the directory
	return seal.HeaderSize + entries*recordSize + blocks*(seal.Overhead+record) + int(filterBytes(entries)) + 2*seal.Overhead + record + seal.TrailerSize
}

// Writer makes one run of entries that come in rising order of id. Not safe for concurrent use.
type Writer struct {
	w      *seal.Writer
	room   int
	block  []byte // plaintext of the block that is being filled, codec byte first
	last   [kindOffset]byte
	hashes []hashes
}

// NewWriter starts a run of up to room entries in buffer, whose capacity must be SizeMax(room) or more.
func NewWriter(buffer []byte, room int, ring *keys.Ring, header seal.Header) (*Writer, error) {
	holdfast.Invariant(cap(buffer) >= SizeMax(room) && room <= runEntriesMax, "a run of %d entries does not fit %d bytes", room, cap(buffer))
	w, err := seal.NewWriter(buffer, ring, header)
	if err != nil {
		return nil, err
	}
	return &Writer{w: w, room: room, block: seal.Stored(make([]byte, 0, 1+blockEntries*recordSize), nil)}, nil
}

// Len returns the number of entries so far.
func (w *Writer) Len() int { return len(w.hashes) }

// IsFull reports whether no more entries fit.
func (w *Writer) IsFull() bool { return len(w.hashes) >= w.room }

// Add appends an entry. Its id must be greater than that of the one before.
func (w *Writer) Add(e Entry) {
	var record [recordSize]byte
	w.add(appendRecord(record[:0], e))
}

func (w *Writer) add(record []byte) {
	holdfast.Invariant(w.Len() == 0 || bytes.Compare(w.last[:], record[:kindOffset]) < 0, "an entry is added to a run out of order")
	holdfast.Invariant(!w.IsFull(), "a run has more than %d entries", w.room)
	copy(w.last[:], record)
	w.block = append(w.block, record...)
	w.hashes = append(w.hashes, hashesOf(record))
	if len(w.hashes)%blockEntries == 0 {
		w.closeBlock()
	}
}

func (w *Writer) closeBlock() {
	if records := len(w.block) - 1; records > 0 {
		w.w.Append(w.block, records, records/recordSize, w.block[1:9])
		w.block = w.block[:1]
	}
}

// Finish returns the bytes of the run, which live in the buffer.
func (w *Writer) Finish() []byte {
	w.closeBlock()
	f := newFilter(len(w.hashes))
	for _, h := range w.hashes {
		f.add(h)
	}
	w.w.Append(seal.Stored(nil, f), len(f), 0, nil)
	return w.w.Finish(nil)
}
