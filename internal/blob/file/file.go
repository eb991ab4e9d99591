// Package file is an object store in a local folder: one file per object, its name the path.
//
// It promises that an object is on the disk, whole, when Put returns: the bytes, the name and the folders are synced, and
// the name appears by a link, so that a crash at any instant leaves the object or nothing. It never overwrites, never
// follows a symbolic link to an object, and never leaves the folder. On Linux an object is written into a file without a
// name; where the file system cannot do that, a crash may leave a file called ".tmp-…", which is no object, which
// Leftovers finds and Sweep removes. Local folders have no locks: a put that asks for one is refused.
package file

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

// writePiece is how much is written between two looks at the context.
const writePiece = 4 << 20

// Options of a store.
type Options struct {
	// NoSync leaves out every sync: a crash of the machine may lose or tear objects. For tests and benchmarks only.
	NoSync bool
}

// Store keeps objects in a folder. Safe for concurrent use, by several processes too.
type Store struct {
	root string // absolute
	sys  system
	dirs dirs
}

var _ blob.Store = (*Store)(nil)

// Open returns the store in a folder. It does not touch the disk: the folder is made by the first Put, with all its
// parents. The error is KindInvalid when there is no such path.
func Open(folder string, opts Options) (*Store, error) {
	if folder == "" {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the store's folder has no name")
	}
	root, err := filepath.Abs(folder)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "%q is not a path", folder)
	}
	sys := realSystem()
	if opts.NoSync {
		sys.syncFile = func(*os.File) error { return nil }
		sys.syncFolder = func(string) error { return nil }
	}
	return &Store{root: root, sys: sys, dirs: dirs{durable: map[string]bool{}}}, nil
}

// Put implements blob.Store. ErrExists, too, is returned only once the present object's name is durable.
func (s *Store) Put(ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
	path, err := s.path(ctx, name)
	if err != nil {
		return err
	}
	if !opts.LockUntil.IsZero() {
		return holdfast.Errorf(holdfast.KindInvalid, "a local folder cannot lock objects against removal").
			WithHint("keep the repository on Blob storage with version-level immutability, or do without")
	}
	folder := filepath.Dir(path)
	if err := s.dirs.ensure(s.sys, s.root, folder); err != nil {
		return s.failure(err, "create the folder of", name)
	}
	err = s.create(ctx, folder, path, data)
	if errors.Is(err, fs.ErrNotExist) { // the folder was removed behind our back: make it again, once
		s.dirs.forget(folder)
		if err := s.dirs.ensure(s.sys, s.root, folder); err != nil {
			return s.failure(err, "create the folder of", name)
		}
		err = s.create(ctx, folder, path, data)
	}
	exists := errors.Is(err, fs.ErrExist)
	if err != nil && !exists {
		return s.failure(err, "write", name)
	}
	if exists && isFolder(path) {
		return holdfast.Errorf(holdfast.KindInvalid, "object name %q is a folder of other objects", name)
	}
	if err := s.sys.syncFolder(folder); err != nil {
		return s.failure(err, "sync the folder of", name)
	}
	if exists {
		return blob.ErrExists
	}
	return nil
}

// create makes the file with its bytes synced, or returns fs.ErrExist and leaves the present one. The name itself is not
// synced yet. Nothing half-written is left, whatever the error.
func (s *Store) create(ctx context.Context, folder, path string, data []byte) error {
	f, publish, err := s.sys.temporary(folder)
	if err != nil {
		return err
	}
	err = s.fill(ctx, f, data)
	if err == nil {
		err = publish(path)
	}
	return errors.Join(err, s.sys.discard(f))
}

func (s *Store) fill(ctx context.Context, f *os.File, data []byte) error {
	for len(data) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := data[:min(len(data), writePiece)]
		if _, err := s.sys.write(f, piece); err != nil {
			return err
		}
		data = data[len(piece):]
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.sys.syncFile(f)
}

// Read implements blob.Reader.
func (s *Store) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	path, err := s.path(ctx, name)
	if err != nil {
		return 0, err
	}
	f, err := openObject(path)
	if err != nil {
		return 0, s.readFailure(err, name)
	}
	defer f.Close() // read only: nothing can be lost by a failing close
	info, err := f.Stat()
	if err == nil {
		err = notRegular(info)
	}
	if err != nil {
		return 0, s.readFailure(err, name)
	}
	n, err := f.ReadAt(p, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, s.readFailure(err, name)
	}
	return n, nil
}

// Stat implements blob.Reader.
func (s *Store) Stat(ctx context.Context, name string) (blob.Info, error) {
	path, err := s.path(ctx, name)
	if err != nil {
		return blob.Info{}, err
	}
	info, err := os.Lstat(path)
	if err == nil {
		err = notRegular(info)
	}
	if err != nil {
		return blob.Info{}, s.readFailure(err, name)
	}
	return blob.Info{Name: name, Size: info.Size()}, nil
}

// notRegular returns the reason why a file is no object: a folder is as good as missing, anything else is foreign.
func notRegular(info fs.FileInfo) error {
	switch {
	case info.Mode().IsRegular():
		return nil
	case info.IsDir():
		return fs.ErrNotExist
	}
	return holdfast.Errorf(holdfast.KindCorrupt, "%s is no regular file", info.Name()).
		WithHint("something that Holdfast did not write is in the folder; move it away")
}

// URL implements blob.Store.
func (s *Store) URL() string {
	path := filepath.ToSlash(s.root)
	if runtime.GOOS == "windows" {
		path = "/" + path
	}
	return "file://" + path
}

// path checks the name and returns the file's path.
func (s *Store) path(ctx context.Context, name string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := blob.CheckName(name); err != nil {
		return "", err
	}
	return filepath.Join(s.root, filepath.FromSlash(name)), nil
}

func isFolder(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}
