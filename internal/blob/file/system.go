package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
)

// temporaryPrefix begins the names of files that are not published yet. No object's name can begin so.
const temporaryPrefix = ".tmp-"

// publish gives a written file its name, or fails with fs.ErrExist when the name is taken.
type publish func(path string) error

// system is what the store asks of the operating system; tests put failures in its place.
type system struct {
	temporary  func(folder string) (*os.File, publish, error)
	write      func(f *os.File, p []byte) (int, error)
	syncFile   func(f *os.File) error
	syncFolder func(folder string) error
	discard    func(f *os.File) error // closes the file and removes its temporary name, if it has one
}

func realSystem() system {
	return system{
		temporary:  temporaryFile,
		write:      (*os.File).Write,
		syncFile:   (*os.File).Sync,
		syncFolder: syncFolder,
		discard:    discard,
	}
}

// namedFile is the way that works on all systems: a temporary name in the same folder, linked to the final one.
func namedFile(folder string) (*os.File, publish, error) {
	f, err := os.OpenFile(filepath.Join(folder, temporaryPrefix+uuid.NewString()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, func(path string) error {
		err := os.Link(f.Name(), path)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EMLINK) {
			return renameNoReplace(f.Name(), path)
		}
		return err
	}, nil
}

// discard closes the file and removes its temporary name. A file without a name vanishes by the close.
func discard(f *os.File) error {
	err := f.Close()
	if !strings.HasPrefix(filepath.Base(f.Name()), temporaryPrefix) {
		return err
	}
	if removeErr := os.Remove(f.Name()); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}
