package idset

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/holdfast-backup/holdfast"
)

const (
	// mergeBytes is the memory of all runs together while they are merged: 20 KiB for each of the 400 runs of 100 TiB.
	mergeBytes = 8 << 20

	// readBytesMin is what a run gets of it at least. Only from 2,048 runs on, half a PiB, does merging take more than mergeBytes.
	readBytesMin = 4 << 10

	// readBytesMax is enough for reading in a row.
	readBytesMax = 256 << 10

	writeBytes = 256 << 10
)

// unnamed is a temporary file that has no name any more: the system takes it back when it is closed or the process ends.
type unnamed struct{ f *os.File }

func newUnnamed() (*unnamed, error) {
	f, err := os.CreateTemp("", "holdfast-ids-") // mode 0600
	if err != nil {
		return nil, failed(err, "made")
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, failed(errors.Join(err, f.Close()), "unlinked")
	}
	return &unnamed{f}, nil
}

func (u *unnamed) readAt(data []byte, offset int64) error {
	if _, err := u.f.ReadAt(data, offset); err != nil {
		return failed(err, "read")
	}
	return nil
}

func (u *unnamed) close() {
	_ = u.f.Close() // best effort: nobody reads it again
}

func failed(err error, what string) error {
	return holdfast.Wrap(holdfast.KindUnavailable, err, "the temporary file of ids in %s cannot be %s", os.TempDir(), what).
		WithHint("set TMPDIR to a folder with room for 16 bytes for each chunk and each node of a disk map, 14 GB for 100 TiB of unique data")
}

// spill is a file of sorted runs, one after the other.
type spill struct {
	file      *unnamed
	ends      []int64                  // of the runs, in keys
	temporary func() (*unnamed, error) // makes the file that they are merged into
}

func (s *spill) keys() int64 {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

func (s *spill) run(keys []uint64) error {
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file.f, s.keys()*keyBytes), writeBytes)
	for _, key := range keys {
		if err := writeKey(w, key); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return failed(err, "written")
	}
	s.ends = append(s.ends, s.keys()+int64(len(keys)))
	return nil
}

func writeKey(w *bufio.Writer, key uint64) error {
	if _, err := w.Write(binary.BigEndian.AppendUint64(w.AvailableBuffer(), key)); err != nil {
		return failed(err, "written")
	}
	return nil
}

func (s *spill) close() { s.file.close() }

// merge writes all runs as one into a file of its own.
func (s *spill) merge() (*Set, error) {
	file, err := s.temporary()
	if err != nil {
		return nil, err
	}
	set := &Set{file: file, keys: make([]uint64, 0, s.keys()/blockKeys+1)}
	if err := s.mergeInto(set); err != nil {
		file.close()
		return nil, err
	}
	return set, nil
}

func (s *spill) mergeInto(set *Set) error {
	runs, err := s.open()
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(set.file.f, writeBytes)
	last := uint64(0)
	for len(runs) > 0 {
		key := runs[0].key
		if set.count == 0 || key != last { // runs may share keys
			if set.count%blockKeys == 0 {
				set.keys = append(set.keys, key)
			}
			if err := writeKey(w, key); err != nil {
				return err
			}
			set.count, last = set.count+1, key
		}
		more, err := runs[0].next()
		if err != nil {
			return err
		}
		if more {
			heap.Fix(&runs, 0)
		} else {
			heap.Pop(&runs)
		}
	}
	if err := w.Flush(); err != nil {
		return failed(err, "written")
	}
	return nil
}

// open returns the runs that hold keys, each at its first one.
func (s *spill) open() (merging, error) {
	size := min(max(mergeBytes/max(len(s.ends), 1), readBytesMin), readBytesMax)
	var runs merging
	start := int64(0)
	for _, end := range s.ends {
		section := io.NewSectionReader(s.file.f, start*keyBytes, (end-start)*keyBytes)
		start = end
		r := &runReader{r: bufio.NewReaderSize(section, size), left: section.Size() / keyBytes}
		more, err := r.next()
		if err != nil {
			return nil, err
		}
		if more {
			runs = append(runs, r)
		}
	}
	heap.Init(&runs)
	return runs, nil
}

type runReader struct {
	r     *bufio.Reader
	left  int64 // keys behind the one that it is at
	key   uint64
	bytes [keyBytes]byte
}

// next goes to the next key; false when there is none. A run that ends early is an error, never a shorter run.
func (r *runReader) next() (bool, error) {
	if r.left == 0 {
		return false, nil
	}
	if _, err := io.ReadFull(r.r, r.bytes[:]); err != nil {
		return false, failed(err, "read")
	}
	r.left--
	r.key = binary.BigEndian.Uint64(r.bytes[:])
	return true, nil
}

// merging is a heap of runs by the keys that they are at.
type merging []*runReader

func (m merging) Len() int           { return len(m) }
func (m merging) Less(i, j int) bool { return m[i].key < m[j].key }
func (m merging) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merging) Push(run any)      { *m = append(*m, run.(*runReader)) }
func (m *merging) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
