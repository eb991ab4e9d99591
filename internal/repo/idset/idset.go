// Package idset is a set of very many ids in little memory: first all are added, then it is asked.
//
// It promises that memory is bounded by a number of ids that is stated, whatever their number: beyond it they go, sorted, to a file
// without a name, which is gone when the set is closed or the process ends, however it ends. Ids are known by eight bytes of theirs.
// They are keyed hashes, so that two of a billion share these eight with a chance of one in forty; and the file tells nobody what
// was hashed.
//
// It must never be used for what decides whether data is deleted.
package idset

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/holdfast-backup/holdfast"
)

// Key is what is kept of an id: its first eight bytes.
type Key uint64

// KeyOf returns the key of an id of at least eight bytes.
func KeyOf(id []byte) Key { return Key(binary.BigEndian.Uint64(id)) }

const (
	keyBytes   = 8
	blockBytes = 4 << 10 // of the file that are read for one question, and stand for one key in memory
	blockKeys  = blockBytes / keyBytes
)

// MemoryKeys is how many keys a Builder holds by default before it writes them to its file: 32 MiB of them.
const MemoryKeys = 4 << 20

// Builder takes keys. Safe for concurrent use.
type Builder struct {
	mu   sync.Mutex
	keys []Key
	most int
	file *os.File // nil as long as everything fits into memory
	runs []int64  // how many keys each sorted run in the file has
}

// NewBuilder returns a builder that holds so many keys in memory; 0 means MemoryKeys.
func NewBuilder(memoryKeys int) *Builder {
	if memoryKeys == 0 {
		memoryKeys = MemoryKeys
	}
	return &Builder{most: memoryKeys}
}

// Add adds keys.
func (b *Builder) Add(keys ...Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		if len(b.keys) == b.most {
			if err := b.spill(); err != nil {
				return err
			}
		}
		b.keys = append(b.keys, k)
	}
	return nil
}

// spill writes the keys in memory to the file, as a sorted run of its own.
func (b *Builder) spill() error {
	if b.file == nil {
		file, err := unnamed()
		if err != nil {
			return err
		}
		b.file = file
	}
	b.sort()
	out := bufio.NewWriterSize(b.file, 1<<20)
	for _, k := range b.keys {
		if err := put(out, k); err != nil {
			return full(err)
		}
	}
	if err := out.Flush(); err != nil {
		return full(err)
	}
	b.runs = append(b.runs, int64(len(b.keys)))
	b.keys = b.keys[:0]
	return nil
}

func (b *Builder) sort() {
	slices.Sort(b.keys)
	b.keys = slices.Compact(b.keys)
}

func put(out *bufio.Writer, k Key) error {
	var text [keyBytes]byte
	binary.BigEndian.PutUint64(text[:], uint64(k))
	_, err := out.Write(text[:])
	return err
}

// unnamed makes a file that has no name, and so is gone with its last user.
func unnamed() (*os.File, error) {
	file, err := os.CreateTemp("", "holdfast-ids-*")
	if err != nil {
		return nil, full(err)
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, full(err)
	}
	return file, nil
}

// full says what to do when the temporary folder cannot take the file.
func full(err error) error {
	hint := "set TMPDIR to a folder that can be written to, with eight bytes free for each chunk of the repository, twice"
	if errors.Is(err, syscall.ENOSPC) {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the temporary folder %s is full", os.TempDir()).WithHint("%s", hint)
	}
	return holdfast.Wrap(holdfast.KindUnavailable, err, "the temporary folder %s cannot be used", os.TempDir()).WithHint("%s", hint)
}

// Close gives up what was added. After Set it does nothing.
func (b *Builder) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		_ = b.file.Close() // nobody needs what is in it
	}
	b.file, b.keys, b.runs = nil, nil, nil
}

// Set returns the set of all keys that were added. The builder is empty afterwards. The caller closes the set.
func (b *Builder) Set() (*Set, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		b.sort()
		s := &Set{keys: b.keys}
		b.keys = nil
		return s, nil
	}
	defer func() { _ = b.file.Close(); b.file, b.keys, b.runs = nil, nil, nil }()
	if err := b.spill(); err != nil {
		return nil, err
	}
	b.keys = nil // the merge needs memory of its own
	file, err := unnamed()
	if err != nil {
		return nil, err
	}
	s := &Set{file: file}
	if err := s.merge(b.file, b.runs); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Set answers whether a key was added. Safe for concurrent use.
type Set struct {
	keys   []Key    // when all of them fit into memory
	file   *os.File // else: all keys, sorted
	count  int64    // of the keys in the file
	last   Key      // that was written
	firsts []Key    // the first key of each block of the file
	blocks sync.Pool
}

// Has reports whether a key is in the set.
func (s *Set) Has(k Key) (bool, error) {
	if s.file == nil {
		_, found := slices.BinarySearch(s.keys, k)
		return found, nil
	}
	i, exact := slices.BinarySearch(s.firsts, k)
	if exact {
		return true, nil
	}
	if i == 0 {
		return false, nil
	}
	return s.inBlock(int64(i-1), k)
}

// inBlock looks for a key in one block of the file.
func (s *Set) inBlock(i int64, k Key) (bool, error) {
	block, _ := s.blocks.Get().(*[blockBytes]byte)
	if block == nil {
		block = new([blockBytes]byte)
	}
	defer s.blocks.Put(block)
	some := block[:min(blockBytes, (s.count-i*blockKeys)*keyBytes)]
	if _, err := s.file.ReadAt(some, i*blockBytes); err != nil {
		return false, full(err)
	}
	low, high := 0, len(some)/keyBytes
	for low < high {
		middle := (low + high) / 2
		switch at := Key(binary.BigEndian.Uint64(some[middle*keyBytes:])); {
		case at == k:
			return true, nil
		case at < k:
			low = middle + 1
		default:
			high = middle
		}
	}
	return false, nil
}

// Len is how many keys there are.
func (s *Set) Len() int64 {
	if s.file == nil {
		return int64(len(s.keys))
	}
	return s.count
}

// Close gives the set up.
func (s *Set) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// merge writes all runs of a file into one.
func (s *Set) merge(from *os.File, runs []int64) error {
	sources, start := make(heap, 0, len(runs)), int64(0)
	for _, keys := range runs {
		r := &run{in: bufio.NewReaderSize(io.NewSectionReader(from, start*keyBytes, keys*keyBytes), readAhead)}
		start += keys
		if more, err := r.next(); err != nil {
			return err
		} else if more {
			sources.push(r)
		}
	}
	out := bufio.NewWriterSize(s.file, 1<<20)
	for len(sources) > 0 {
		if err := s.append(out, sources[0].key); err != nil {
			return full(err)
		}
		more, err := sources[0].next()
		if err != nil {
			return err
		}
		sources.settle(more)
	}
	if err := out.Flush(); err != nil {
		return full(err)
	}
	return nil
}

// readAhead is what is read of each run at once. At 100 TiB of unique data there are 200 runs: 13 MiB.
const readAhead = 64 << 10

// append adds the next key to the file, unless it is the last one once more.
func (s *Set) append(out *bufio.Writer, k Key) error {
	if s.count > 0 && k == s.last {
		return nil
	}
	s.last = k
	if s.count%blockKeys == 0 {
		s.firsts = append(s.firsts, k)
	}
	s.count++
	return put(out, k)
}

// run is a sorted sequence of keys that is being read.
type run struct {
	in  *bufio.Reader
	key Key
}

func (r *run) next() (more bool, err error) {
	var text [keyBytes]byte
	if _, err := io.ReadFull(r.in, text[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, full(err)
	}
	r.key = Key(binary.BigEndian.Uint64(text[:]))
	return true, nil
}

// heap has the run with the least key in front.
type heap []*run

func (h *heap) push(r *run) {
	*h = append(*h, r)
	for i := len(*h) - 1; i > 0 && (*h)[i].key < (*h)[(i-1)/2].key; i = (i - 1) / 2 {
		(*h)[i], (*h)[(i-1)/2] = (*h)[(i-1)/2], (*h)[i]
	}
}

// settle puts the first run, which has another key or none any more, where it belongs.
func (h *heap) settle(more bool) {
	all := *h
	if !more {
		all[0] = all[len(all)-1]
		all = all[:len(all)-1]
		*h = all
	}
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(all); child++ {
			if all[child].key < all[least].key {
				least = child
			}
		}
		if least == i {
			return
		}
		all[i], all[least] = all[least], all[i]
		i = least
	}
}
