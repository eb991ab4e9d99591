//go:build !linux

package file

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
)

func temporaryFile(folder string) (*os.File, publish, error) { return namedFile(folder) }

// renameNoReplace has no portable form that is atomic.
func renameNoReplace(string, string) error { return errNoLinks }

// openObject opens an object for reading and refuses symbolic links, as far as a look beforehand can.
func openObject(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.Join(notRegular(info), &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid})
	}
	return os.Open(path)
}

// syncFolder makes names in the folder durable. Windows cannot sync a folder; NTFS journals names by itself.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func isQuota(error) bool { return false }
