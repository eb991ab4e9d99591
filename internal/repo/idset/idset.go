// Package idset remembers which ids were seen, in memory of a fixed size however many they are: verification asks of every id that
// points need whether some pack held it, and 100 TiB are 840 million of them.
//
// An id is kept as its first 8 bytes. Ids are keyed hashes: that an id that was not added is taken for one of n others has a chance
// of n in 2^64, less than one in ten billion per question at 100 TiB.
//
// A Builder gathers keys, a Set answers; there is no way back, so nothing is asked before everything was added. Up to BuilderKeys keys
// stay in memory. Beyond, sorted runs go to a temporary file, and Build merges them into a second one: one sorted row of keys, of which
// memory holds every 512th. The files lose their names as soon as they are made, so nothing of them is left behind by whatever
// end the process comes to. They hold parts of keyed hashes, which tell who reads them how many ids there are, and nothing of any content.
//
// It must never answer from a part of the keys: an error of the temporary disk ends the matter. It must never be asked what may be
// deleted: that is for whole ids.
package idset

import (
	"encoding/binary"
	"slices"
	"sort"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
)

const (
	// BuilderKeys are held before they are spilled: 16 MiB, enough for 256 GiB of unique data without any file, and 400 runs at 100 TiB.
	// While they grow to that number for the last time, those before take 8 MiB beside them.
	BuilderKeys = 2 << 20

	keyBytes = 8

	// blockKeys are read at once to answer: a page of 4 KiB, so that 840 million keys need 1.6 million of them in memory, 13 MiB.
	blockKeys = 512
)

// Builder gathers ids. Add is safe for concurrent use; Build and Close are called once all of it is done.
type Builder struct {
	limit     int // keys in memory
	temporary func() (*unnamed, error)

	mu    sync.Mutex // guards the fields below
	keys  []uint64
	spill *spill // nil until something was spilled
	built bool
}

// NewBuilder returns a builder without ids. Its owner calls Close, after Build too.
func NewBuilder() *Builder { return newBuilder(BuilderKeys) }

func newBuilder(limit int) *Builder { return &Builder{limit: limit, temporary: newUnnamed} }

// Add takes an id into the set that is being built; adding it again changes nothing. After an error the builder is good for Close alone.
func (b *Builder) Add(id chunk.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.built {
		return holdfast.Errorf(holdfast.KindInternal, "an id was added to a set that was built already")
	}
	if len(b.keys) == b.limit {
		if err := b.spillKeys(); err != nil {
			return err
		}
	}
	b.grow()
	b.keys = append(b.keys, keyOf(id))
	return nil
}

// grow makes room for a key: twice what there was, and never past the limit, as append would. The caller holds mu.
func (b *Builder) grow() {
	if len(b.keys) < cap(b.keys) {
		return
	}
	keys := make([]uint64, len(b.keys), min(max(2*len(b.keys), 1<<10), b.limit))
	copy(keys, b.keys)
	b.keys = keys
}

// spillKeys writes the keys in memory as a run. The caller holds mu.
func (b *Builder) spillKeys() error {
	if b.spill == nil {
		file, err := b.temporary()
		if err != nil {
			return err
		}
		b.spill = &spill{file: file, temporary: b.temporary}
	}
	if err := b.spill.run(sorted(b.keys)); err != nil {
		return err
	}
	b.keys = b.keys[:0]
	return nil
}

// Build ends the gathering and returns the set, which has to be closed. The memory of the builder is free after it.
func (b *Builder) Build() (*Set, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.built {
		return nil, holdfast.Errorf(holdfast.KindInternal, "a set was built twice")
	}
	b.built = true
	if b.spill == nil {
		keys := sorted(b.keys)
		b.keys = nil
		return &Set{keys: keys, count: int64(len(keys))}, nil
	}
	if err := b.spillKeys(); err != nil {
		return nil, err
	}
	b.keys = nil
	return b.spill.merge()
}

// Close gives back the temporary file, if there is one, whatever went wrong before. It may be called twice, and hurts no set that was
// built.
func (b *Builder) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys, b.built = nil, true
	if b.spill != nil {
		b.spill.close()
		b.spill = nil
	}
}

// Set answers which ids were added. Used by one goroutine at a time.
type Set struct {
	keys  []uint64 // all of them, or the first one of each block of the file
	count int64
	file  *unnamed // nil when keys are all
	block [blockKeys * keyBytes]byte
}

// Len returns how many different ids the set has.
func (s *Set) Len() int64 { return s.count }

// Rank returns the number of an id among those of the set, from 0 to Len()-1, and whether it is one of them. It reads at most one block.
func (s *Set) Rank(id chunk.ID) (rank int64, ok bool, err error) {
	key := keyOf(id)
	i, found := slices.BinarySearch(s.keys, key)
	if s.file == nil {
		return int64(i), found, nil
	}
	if found {
		return int64(i) * blockKeys, true, nil
	}
	if i == 0 {
		return 0, false, nil
	}
	first := int64(i-1) * blockKeys
	n := int(min(blockKeys, s.count-first))
	block := s.block[:n*keyBytes]
	if err := s.file.readAt(block, first*keyBytes); err != nil {
		return 0, false, err
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(block[i*keyBytes:]) }
	in := sort.Search(n, func(i int) bool { return at(i) >= key })
	return first + int64(in), in < n && at(in) == key, nil
}

// Has reports whether an id is in the set.
func (s *Set) Has(id chunk.ID) (bool, error) {
	_, ok, err := s.Rank(id)
	return ok, err
}

// Close gives back the temporary file, if there is one.
func (s *Set) Close() {
	if s.file != nil {
		s.file.close()
	}
}

func keyOf(id chunk.ID) uint64 { return binary.BigEndian.Uint64(id[:]) }

// sorted sorts keys in place and drops repetitions.
func sorted(keys []uint64) []uint64 {
	slices.Sort(keys)
	return slices.Compact(keys)
}
