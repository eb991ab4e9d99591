package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Remover returns the right to remove objects from the store. Folders that become empty stay: removing them would race
// with a put.
func (s *Store) Remover() blob.Remover { return remover{s} }

type remover struct{ store *Store }

// Remove implements blob.Remover. The removal is durable when it returns.
func (r remover) Remove(ctx context.Context, name string) error {
	path, err := r.store.path(ctx, name)
	if err != nil {
		return err
	}
	if isFolder(path) {
		return nil
	}
	if err := os.Remove(path); missing(err) {
		return nil
	} else if err != nil {
		return r.store.failure(err, "remove", name)
	}
	if err := r.store.sys.syncFolder(filepath.Dir(path)); err != nil {
		return r.store.failure(err, "sync the folder of", name)
	}
	return nil
}

// RemoveFolders removes the folders below prefix, and itself, when all objects in them are gone. Call it where nobody puts.
func (s *Store) RemoveFolders(prefix string) error {
	var folders []string
	err := filepath.WalkDir(filepath.Join(s.root, filepath.FromSlash(prefix)), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	for _, folder := range slices.Backward(folders) { // the inner ones first
		if err == nil {
			err = os.Remove(folder)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
