// Package image backs up a raw disk image as a one-disk machine, and tells which parts of a file hold data.
//
// A file has no change list, so every run reads all that is not a hole; what is stored already is found by its content.
// The repository knows such a machine as image:NAME.
package image

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Config says what to back up and where to.
type Config struct {
	Repository *repo.Repository
	Clock      clock.Clock
	Name       string // of the machine
	File       string
	Progress   func(position int64) // optional; called from several goroutines
}

// VM returns the id under which the repository knows an image.
func VM(name string) holdfast.ResourceID { return holdfast.ResourceID("image:" + name) }

// Backup makes one restore point of the file. Its result has the form of that of a machine.
func Backup(ctx context.Context, c Config) (capture.Result, error) {
	f, size, err := open(c.File)
	if err != nil {
		return capture.Result{}, err
	}
	result, err := backup(ctx, c, f, size)
	return result, errors.Join(err, f.Close())
}

func open(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, holdfast.Wrap(holdfast.KindNotFound, err, "the image cannot be read").WithField("file").WithHint("name a raw disk image")
	}
	size, err := f.Seek(0, io.SeekEnd) // works for block devices, too
	if err == nil && size == 0 {
		err = holdfast.Errorf(holdfast.KindInvalid, "the image %s is empty", name).WithField("file").WithHint("name a raw disk image")
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

func backup(ctx context.Context, c Config, f *os.File, size int64) (capture.Result, error) {
	vm, began := VM(c.Name), c.Clock.Now()
	if err := settleEarlier(ctx, c.Repository, vm); err != nil {
		return capture.Result{}, err
	}
	reason := holdfast.FullFirst
	points, err := c.Repository.Points()
	if err != nil {
		return capture.Result{}, err
	}
	for _, p := range points {
		if p.VM.Equal(vm) {
			reason = holdfast.FullRequested // a file has no change list
		}
	}
	s, err := c.Repository.Begin(ctx, repo.BeginOptions{VM: vm})
	if err != nil {
		return capture.Result{}, err
	}
	disk := holdfast.PointDisk{LUN: holdfast.OSDisk, Name: c.Name, SizeBytes: size, Full: true, Reason: reason}
	result, err := writeAndPublish(ctx, c, s, f, disk, began.UTC())
	if err != nil {
		err = errors.Join(err, s.Close(ctx, "the image could not be backed up"))
	}
	return result, errors.Join(err, c.Repository.Settle(context.WithoutCancel(ctx), s.ID()))
}

// settleEarlier makes sure that runs which died cannot publish any more. They left nothing outside the repository.
func settleEarlier(ctx context.Context, r *repo.Repository, vm holdfast.ResourceID) error {
	sessions, err := r.Unsettled(vm)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if s.Status == repo.SessionOpen {
			if err := r.Abandon(ctx, s.ID, "another run took its place"); err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
				return err
			}
		}
		if err := r.Settle(ctx, s.ID); err != nil {
			return err
		}
	}
	return nil
}

func writeAndPublish(ctx context.Context, c Config, s *repo.Session, f *os.File, disk holdfast.PointDisk, at time.Time) (capture.Result, error) {
	out, err := s.WriteDisk(ctx, repo.DiskInput{
		LUN: disk.LUN, SizeBytes: disk.SizeBytes, Extents: watched(Extents(f, disk.SizeBytes), c.Progress), Source: Source{File: f},
	})
	if err != nil {
		return capture.Result{}, err
	}
	disk.Root, disk.ReadBytes = out.Root, out.ReadBytes
	point := holdfast.Point{
		VM: VM(c.Name), Name: c.Name, Time: at, Kind: holdfast.PointBackup, Consistency: holdfast.ConsistencyOneDisk, Disks: []holdfast.PointDisk{disk},
	}
	published, err := s.Publish(ctx, point, nil)
	if err != nil {
		return capture.Result{}, err
	}
	return capture.Result{
		Point: published.ID, VM: point.VM, Time: point.Time, Consistency: point.Consistency, ReadBytes: out.ReadBytes, StoredBytes: published.StoredBytes,
		Disks: []capture.DiskResult{{
			LUN: disk.LUN, Name: disk.Name, SizeBytes: disk.SizeBytes, Root: disk.Root, ReadBytes: out.ReadBytes, Full: true, Reason: disk.Reason,
			NewBytes: out.NewBytes, Duplicate: out.DuplicateBytes,
		}},
		Warnings: []string{},
	}, nil
}

// watched tells how far the extents have been handed out.
func watched(extents iter.Seq2[holdfast.Extent, error], progress func(int64)) iter.Seq2[holdfast.Extent, error] {
	if progress == nil {
		return extents
	}
	return func(yield func(holdfast.Extent, error) bool) {
		for e, err := range extents {
			if !yield(e, err) {
				return
			}
			progress(e.End())
		}
	}
}

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
