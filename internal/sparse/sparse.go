// Package sparse tells which parts of a file hold data, and reads files as disks.
//
// It asks the file system for holes (lseek with SEEK_DATA and SEEK_HOLE) and takes a file for full where that is not known.
package sparse

import (
	"context"
	"errors"
	"iter"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast"
)

// extentBytesMax cuts long extents, so that progress moves.
const extentBytesMax = 64 << 20

// Extents yields the parts of a file, up to size, that are not holes. Where the file system cannot tell, that is all of it.
func Extents(f *os.File, size int64) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		for offset := int64(0); offset < size; {
			start, end, err := nextData(f, offset, size)
			if err != nil {
				yield(holdfast.Extent{}, err)
				return
			}
			for ; start < end; start += extentBytesMax {
				if !yield(holdfast.Extent{Offset: start, Length: min(extentBytesMax, end-start)}, nil) {
					return
				}
			}
			offset = end
		}
	}
}

// nextData returns the first range of data at or after offset; an empty one at size when there is none.
func nextData(f *os.File, offset, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ESPIPE):
		return offset, size, nil
	case err != nil:
		return 0, 0, holdfast.Wrap(holdfast.KindUnavailable, err, "the holes of %s cannot be found", f.Name())
	case start >= size:
		return size, size, nil
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, holdfast.Wrap(holdfast.KindUnavailable, err, "the holes of %s cannot be found", f.Name())
	}
	return start, min(end, size), nil
}

// Source reads a file as a repo.Source.
type Source struct{ File *os.File }

// ReadAt implements repo.Source.
func (s Source) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := s.File.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	return holdfast.Wrap(holdfast.KindUnavailable, err, "%s cannot be read at offset %d", s.File.Name(), offset)
}

// IsDiskFull reports whether an error says that a file system has no room left.
func IsDiskFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// IsReadOnly reports whether an error says that a file system is read-only.
func IsReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }
