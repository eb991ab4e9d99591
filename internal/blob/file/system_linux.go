package file

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// temporaryFile opens a file without a name in folder, or a named one where the file system has no such thing.
func temporaryFile(folder string) (*os.File, publish, error) {
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		return namedFile(folder)
	case err != nil:
		return nil, nil, &os.PathError{Op: "open", Path: folder, Err: err}
	}
	f := os.NewFile(uintptr(fd), filepath.Join(folder, "(unnamed)"))
	return f, func(path string) error {
		// The link by descriptor alone (AT_EMPTY_PATH) needs a capability; the one through /proc does not.
		source := "/proc/self/fd/" + strconv.Itoa(fd)
		if err := unix.Linkat(unix.AT_FDCWD, source, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
			return &os.LinkError{Op: "linkat", Old: source, New: path, Err: err}
		}
		return nil
	}, nil
}

// renameNoReplace is for file systems without hard links.
func renameNoReplace(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return errors.Join(errNoLinks, err)
	case err != nil:
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// openObject opens an object for reading and refuses symbolic links; it never waits for a pipe's other end.
func openObject(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func isQuota(err error) bool { return errors.Is(err, syscall.EDQUOT) }
