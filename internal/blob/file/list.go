package file

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// List implements blob.Reader. It yields every entry below the folder that is no folder and no ".tmp-…" file, whatever it
// is, so that foreign files are found; what vanishes while it runs is left out.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if folder != "" && path.Clean(folder)+"/" != folder || strings.HasPrefix(folder, "/") || strings.HasPrefix(folder, "../") {
			return // "..", "//" and the like: no name begins so, and the walk must not leave the root
		}
		w := walk{ctx: ctx, store: s, prefix: prefix, yield: yield}
		w.folder(folder)
	}
}

// Leftovers returns the temporary files that were written last before that time: of puts that died. They are no objects, and no list
// shows them.
func (s *Store) Leftovers(ctx context.Context, before time.Time) ([]blob.Info, error) {
	var left []blob.Info
	err := filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		if missing(err) {
			return nil // gone while it was looked at
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if !entry.Type().IsRegular() || !strings.HasPrefix(entry.Name(), temporaryPrefix) {
			return nil
		}
		info, err := entry.Info()
		if missing(err) || err == nil && !info.ModTime().Before(before) {
			return nil
		}
		name, relErr := filepath.Rel(s.root, path)
		left = append(left, blob.Info{Name: filepath.ToSlash(name), Size: info.Size()})
		return errors.Join(err, relErr)
	})
	if err != nil {
		return nil, s.failure(err, "look for leftovers in", "the folder")
	}
	return left, nil
}

// Sweep removes what Leftovers returned. A put that still works after all is made anew, or fails.
func (s *Store) Sweep(left []blob.Info) error {
	for _, info := range left {
		err := os.Remove(filepath.Join(s.root, filepath.FromSlash(info.Name)))
		if err != nil && !missing(err) {
			return s.failure(err, "remove", info.Name)
		}
	}
	return nil
}

// walk is one List. It goes through folders in the order in which their objects' whole names sort.
type walk struct {
	ctx    context.Context
	store  *Store
	prefix string
	yield  func(blob.Info, error) bool
}

// folder lists one folder, named with a slash at its end ("" is the root), and reports whether to go on.
func (w *walk) folder(name string) bool {
	if err := w.ctx.Err(); err != nil {
		return w.yield(blob.Info{}, err)
	}
	entries, err := os.ReadDir(filepath.Join(w.store.root, filepath.FromSlash(name)))
	if missing(err) {
		return true
	}
	if err != nil {
		return w.yield(blob.Info{}, w.store.failure(err, "list", path.Join("/", name)))
	}
	sortKey := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sortKey(a), sortKey(b)) })
	for _, entry := range entries {
		if !w.entry(name+sortKey(entry), entry) {
			return false
		}
	}
	return true
}

func (w *walk) entry(name string, entry fs.DirEntry) bool {
	if entry.IsDir() {
		if strings.HasPrefix(name, w.prefix) || strings.HasPrefix(w.prefix, name) {
			return w.folder(name)
		}
		return true
	}
	if !strings.HasPrefix(name, w.prefix) || strings.HasPrefix(entry.Name(), temporaryPrefix) {
		return true
	}
	info, err := entry.Info()
	if missing(err) {
		return true
	}
	if err != nil {
		return w.yield(blob.Info{}, w.store.failure(err, "list", name))
	}
	return w.yield(blob.Info{Name: name, Size: info.Size()}, nil)
}
