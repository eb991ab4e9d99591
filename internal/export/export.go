// Package export writes a disk of a restore point to a file, without any cloud: raw, or as a fixed VHD.
//
// It promises that the file appears under its name only when it is complete, durable and read back equal to the restore
// point; after an error nothing is left behind. The file is sparse where the disk holds zeros.
package export

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/sparse"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

// Format is the form of the file.
type Format string

// The formats.
const (
	Raw Format = "raw" // the disk's bytes, exactly its size
	VHD Format = "vhd" // the disk's bytes, zeros to a whole sector where an image ends within one, and the footer of a fixed VHD
)

const sectorBytes = 512

// Options say where to and how.
type Options struct {
	File     string
	Format   Format
	Force    bool // replace a file that exists
	Clock    clock.Clock
	Progress func(bytes int64) // optional; called from several goroutines
}

// Check returns a KindInvalid error that names the option at fault.
func (o Options) Check() error {
	if o.Format != Raw && o.Format != VHD {
		return holdfast.Errorf(holdfast.KindInvalid, "the format %q is not known", o.Format).WithField("format").WithHint("give raw or vhd")
	}
	info, err := os.Stat(o.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return holdfast.Wrap(holdfast.KindInvalid, err, "the file %s cannot be written", o.File).WithField("out")
	case !info.Mode().IsRegular():
		return holdfast.Errorf(holdfast.KindInvalid, "%s is not a regular file", o.File).WithField("out").WithHint("name a file")
	case !o.Force:
		return holdfast.Errorf(holdfast.KindInvalid, "%s exists", o.File).WithField("out").WithHint("name another file, or give --force to replace it")
	}
	return nil
}

// Result is what was written.
type Result struct {
	Point        holdfast.PointID `json:"point"`
	Disk         holdfast.LUN     `json:"disk"`
	File         string           `json:"file"`
	Format       Format           `json:"format"`
	SizeBytes    int64            `json:"sizeBytes"`    // of the disk
	WrittenBytes int64            `json:"writtenBytes"` // what is not a hole
	Root         holdfast.Root    `json:"root"`         // computed from the file that was written
}

// Run writes the file and reads it back.
func Run(ctx context.Context, disk *repo.DiskReader, o Options) (Result, error) {
	if err := o.Check(); err != nil {
		return Result{}, err
	}
	f, err := os.CreateTemp(filepath.Dir(o.File), ".holdfast-export-*")
	if err != nil {
		return Result{}, fileError(err, o.File)
	}
	result, err := write(ctx, disk, f, o)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = fileError(closeErr, o.File)
	}
	if err == nil {
		err = publish(f.Name(), o)
	}
	if err != nil {
		return Result{}, errors.Join(err, ignoreMissing(os.Remove(f.Name())))
	}
	return result, nil
}

// write fills the temporary file and proves it.
func write(ctx context.Context, disk *repo.DiskReader, f *os.File, o Options) (Result, error) {
	size := disk.SizeBytes()
	if err := f.Truncate(size); err != nil {
		return Result{}, fileError(err, o.File)
	}
	target := fileTarget{f, o.File}
	result := Result{File: o.File, Format: o.Format, SizeBytes: size}
	if err := disk.CopyTo(ctx, target, repo.CopyOptions{Progress: o.Progress}); err != nil {
		return Result{}, err
	}
	for e, err := range disk.Extents(ctx) {
		if err != nil {
			return Result{}, err
		}
		result.WrittenBytes += e.Length
	}
	if o.Format == VHD {
		end := (size + sectorBytes - 1) / sectorBytes * sectorBytes
		footer := vhd.Footer(end, footerID(disk.Root()), o.Clock.Now())
		if err := target.WriteAt(ctx, footer[:], end); err != nil {
			return Result{}, err
		}
	}
	root, err := syncAndRead(ctx, disk, f, o)
	if err != nil {
		return Result{}, err
	}
	if root != disk.Root() {
		return Result{}, holdfast.Errorf(holdfast.KindCorrupt, "what was read back from %s differs from what was written", o.File).
			WithHint("the target disk or its file system may be failing")
	}
	result.Root = root
	return result, nil
}

// syncAndRead makes the file durable and computes its root from what it holds: the disk and the processors work at the same time.
func syncAndRead(ctx context.Context, disk *repo.DiskReader, f *os.File, o Options) (root holdfast.Root, err error) {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := f.Sync(); err != nil {
			return fileError(err, o.File)
		}
		return nil
	})
	g.Go(func() error {
		read, err := disk.RootOf(gctx, sparse.Extents(f, disk.SizeBytes()), sparse.Source{File: f})
		root = read
		return err
	})
	return root, g.Wait()
}

// footerID makes the VHD's id from the content, so that the same content gives the same id.
func footerID(root holdfast.Root) [16]byte { return [16]byte(root[:16]) }

// publish gives the finished file its name.
func publish(temporary string, o Options) error {
	if err := os.Chmod(temporary, 0o600); err != nil {
		return fileError(err, o.File)
	}
	var err error
	if o.Force {
		err = os.Rename(temporary, o.File)
	} else if err = os.Link(temporary, o.File); err == nil { // never over a file that appeared meanwhile
		err = os.Remove(temporary)
	}
	if err != nil {
		return fileError(err, o.File)
	}
	folder, err := os.Open(filepath.Dir(o.File))
	if err != nil {
		return fileError(err, o.File)
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

type fileTarget struct {
	f    *os.File
	name string
}

// WriteAt implements repo.Target.
func (t fileTarget) WriteAt(_ context.Context, p []byte, offset int64) error {
	if _, err := t.f.WriteAt(p, offset); err != nil {
		return fileError(err, t.name)
	}
	sparse.StartWriteback(t.f, offset, int64(len(p)))
	return nil
}

func fileError(err error, name string) error {
	switch {
	case sparse.IsDiskFull(err):
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the disk is full while writing %s", name).WithHint("free space, or name a file on another disk")
	case errors.Is(err, fs.ErrPermission), sparse.IsReadOnly(err):
		return holdfast.Wrap(holdfast.KindRefused, err, "%s may not be written", name).WithField("out").WithHint("name a file in a folder that you may write")
	case errors.Is(err, fs.ErrNotExist):
		return holdfast.Wrap(holdfast.KindInvalid, err, "the folder of %s does not exist", name).WithField("out").WithHint("make the folder first")
	}
	return holdfast.Wrap(holdfast.KindUnavailable, err, "%s cannot be written", name)
}
