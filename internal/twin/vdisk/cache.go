package vdisk

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// fileCache keeps a limited number of files open. Files in use are never closed, so the limit may be exceeded by those.
type fileCache struct {
	limit int

	mu    sync.Mutex
	open  map[string]*openFile // guarded by mu
	order *list.List           // of *openFile, the latest used first; guarded by mu
	shut  bool                 // guarded by mu
}

// openFile is a file on loan.
type openFile struct {
	*os.File
	path  string
	users int           // guarded by the cache's mu
	place *list.Element // guarded by the cache's mu
	stale bool          // to be closed by the last user; guarded by the cache's mu
}

func newFileCache(limit int) *fileCache {
	return &fileCache{limit: limit, open: map[string]*openFile{}, order: list.New()}
}

// take lends the file at path, open for reading and writing; create makes it and its folder. Give it back with give.
func (c *fileCache) take(path string, create bool) (*openFile, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return nil, ErrClosed
	}
	if f, ok := c.open[path]; ok {
		f.users++
		c.order.MoveToFront(f.place)
		return f, nil
	}
	file, err := openOrCreate(path, create)
	if err != nil {
		return nil, err
	}
	f := &openFile{File: file, path: path, users: 1}
	f.place = c.order.PushFront(f)
	c.open[path] = f
	c.trim()
	return f, nil
}

func openOrCreate(path string, create bool) (*os.File, error) {
	if !create {
		return os.OpenFile(path, os.O_RDWR, 0)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

func (c *fileCache) give(f *openFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.users--
	if f.stale && f.users == 0 {
		_ = f.Close() // best effort: the file is gone from the store, and nothing is buffered
	}
}

// trim closes the files that were not used for the longest time. The caller holds mu.
func (c *fileCache) trim() {
	for e := c.order.Back(); e != nil && len(c.open) > c.limit; {
		f, before := e.Value.(*openFile), e.Prev()
		if f.users == 0 {
			c.discard(f)
		}
		e = before
	}
}

// discard closes f, or leaves that to its last user. The caller holds mu.
func (c *fileCache) discard(f *openFile) {
	delete(c.open, f.path)
	c.order.Remove(f.place)
	f.stale = true
	if f.users == 0 {
		_ = f.Close() // best effort: nothing is buffered, and writes have returned their errors
	}
}

// forget closes the files in a folder.
func (c *fileCache) forget(folder string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, f := range c.open {
		if strings.HasPrefix(path, folder+string(filepath.Separator)) {
			c.discard(f)
		}
	}
}

func (c *fileCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = true
	for _, f := range c.open {
		c.discard(f)
	}
}

// mapCache keeps maps of frozen layers and volumes, the latest used ones, as far as a number of pieces allows. A map that
// was dropped here goes on to work for those who hold it.
type mapCache struct {
	limit int

	mu     sync.Mutex
	pieces int                      // guarded by mu
	held   map[string]*list.Element // guarded by mu
	order  *list.List               // of cachedMap, the latest used first; guarded by mu
}

type cachedMap struct {
	key   string
	value *extentMap
}

func newMapCache(limit int) *mapCache {
	return &mapCache{limit: limit, held: map[string]*list.Element{}, order: list.New()}
}

func flatKey(id ID) string          { return string(id) }
func layerKey(number uint64) string { return fmt.Sprintf("layer %d", number) }

func (c *mapCache) get(key string) (*extentMap, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.held[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(cachedMap).value, true
}

// put keeps a map that will not change any more.
func (c *mapCache) put(key string, m *extentMap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.discard(key)
	c.held[key] = c.order.PushFront(cachedMap{key, m})
	c.pieces += m.len()
	for c.pieces > c.limit && c.order.Len() > 1 {
		c.discard(c.order.Back().Value.(cachedMap).key)
	}
}

func (c *mapCache) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.discard(key)
}

func (c *mapCache) discard(key string) {
	if e, ok := c.held[key]; ok {
		c.pieces -= e.Value.(cachedMap).value.len()
		c.order.Remove(e)
		delete(c.held, key)
	}
}
