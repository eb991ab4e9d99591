package index

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
)

const (
	filterBits   = 10 // per entry
	filterHashes = 7
)

// filterBytes returns the size of the filter of so many entries.
func filterBytes(entries int) int64 { return (int64(entries)*filterBits + 7) / 8 }

// filter is a Bloom filter whose hashes are parts of the id, which is a hash already.
type filter []byte

func newFilter(entries int) filter { return make(filter, filterBytes(entries)) }

// hashes are the parts of an id that a filter looks at.
type hashes struct{ h1, h2 uint64 }

func hashesOf(id []byte) hashes {
	return hashes{binary.BigEndian.Uint64(id), binary.BigEndian.Uint64(id[8:]) | 1}
}

func (f filter) add(h hashes) {
	bits := uint64(len(f)) * 8
	for i := range uint64(filterHashes) {
		bit := (h.h1 + i*h.h2) % bits
		f[bit/8] |= 1 << (bit % 8)
	}
}

func (f filter) mayContain(id chunk.ID) bool {
	h, bits := hashesOf(id[:]), uint64(len(f))*8
	if bits == 0 {
		return false
	}
	for i := range uint64(filterHashes) {
		bit := (h.h1 + i*h.h2) % bits
		if f[bit/8]&(1<<(bit%8)) == 0 {
			return false
		}
	}
	return true
}
