package file

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Failures of our own that the operating system has no clear word for.
var (
	errNotFolder = errors.New("a file is where a folder belongs")
	errNoLinks   = errors.New("the file system can neither link nor rename without overwriting")
)

// failure turns an error of the operating system into one that says what to do. verb and name tell what was tried.
func (s *Store) failure(err error, verb, name string) error {
	var known *holdfast.Error
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &known) {
		return err
	}
	wrap := func(kind holdfast.Kind, hint string) error {
		e := holdfast.Wrap(kind, err, "cannot %s %s in %s", verb, name, s.root)
		return e.WithHint("%s", hint)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), isQuota(err):
		return wrap(holdfast.KindUnavailable, "the disk or the quota is full: free space and run again; nothing half-written was left")
	case errors.Is(err, syscall.EROFS):
		err = errors.Join(blob.ErrReadOnly, err)
		return wrap(holdfast.KindRefused, "the file system is mounted read-only: mount it for writing, or choose another folder")
	case errors.Is(err, fs.ErrPermission):
		err = errors.Join(blob.ErrReadOnly, err)
		return wrap(holdfast.KindRefused, "give the user that runs Holdfast read and write access to the folder and all below it")
	case errors.Is(err, errNoLinks):
		return wrap(holdfast.KindInvalid, "keep the repository on a file system with hard links, such as ext4, XFS, ZFS or NTFS")
	case errors.Is(err, errNotFolder), errors.Is(err, syscall.ENOTDIR):
		return wrap(holdfast.KindInvalid, "a file is in the way of the folder: move it, or choose another folder")
	case errors.Is(err, syscall.ENAMETOOLONG):
		return wrap(holdfast.KindInvalid, "choose a folder with a shorter path")
	}
	return wrap(holdfast.KindUnavailable, "check the disk and its mount; the system's log may say more")
}

// readFailure is failure for reads: a missing file is ErrNotFound, and a medium that cannot read is damage.
func (s *Store) readFailure(err error, name string) error {
	switch {
	case missing(err):
		return blob.ErrNotFound
	case errors.Is(err, syscall.ELOOP):
		return holdfast.Wrap(holdfast.KindCorrupt, err, "%s in %s is a symbolic link", name, s.root).
			WithHint("something that Holdfast did not write is in the folder; move it away")
	case errors.Is(err, syscall.EIO):
		return holdfast.Wrap(holdfast.KindCorrupt, err, "cannot read %s in %s", name, s.root).
			WithHint("the disk reports a defect: replace it, then verify the repository")
	case errors.Is(err, fs.ErrPermission):
		return holdfast.Wrap(holdfast.KindRefused, err, "cannot read %s in %s", name, s.root).
			WithHint("give the user that runs Holdfast read access to the folder and all below it")
	}
	return s.failure(err, "read", name)
}

// missing reports whether err says that there is no such file: a file in the place of a folder means the same.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
