package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// dirs remembers which folders are known to be durable. A folder that exists may have been made a moment ago by a process
// that has not synced it yet, so existence alone proves nothing: each folder's parent is synced once per process.
type dirs struct {
	mu      sync.Mutex
	durable map[string]bool // guarded by mu
}

// ensure makes folder and its parents exist durably. Parents above the root are synced only when they had to be made.
func (d *dirs) ensure(sys system, root, folder string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ensureLocked(sys, root, folder)
}

func (d *dirs) ensureLocked(sys system, root, folder string) error {
	if d.durable[folder] {
		return nil
	}
	made := false
	err := os.Mkdir(folder, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.ensureLocked(sys, root, filepath.Dir(folder)); err != nil {
			return err
		}
		err = os.Mkdir(folder, 0o700)
	}
	switch {
	case err == nil:
		made = true
	case leadsToFolder(folder):
	case errors.Is(err, fs.ErrExist):
		return &fs.PathError{Op: "mkdir", Path: folder, Err: errNotFolder}
	default:
		return err
	}
	if inside := strings.HasPrefix(folder+string(filepath.Separator), root+string(filepath.Separator)); inside && folder != root {
		if err := d.ensureLocked(sys, root, filepath.Dir(folder)); err != nil {
			return err
		}
	} else if !inside && !made {
		return nil
	}
	if err := sys.syncFolder(filepath.Dir(folder)); err != nil {
		return err
	}
	d.durable[folder] = true
	return nil
}

// forget drops what is known about a folder and everything it lies in: somebody removed it.
func (d *dirs) forget(folder string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for known := range d.durable {
		if strings.HasPrefix(folder+string(filepath.Separator), known+string(filepath.Separator)) {
			delete(d.durable, known)
		}
	}
}

// leadsToFolder reports whether path leads to a folder, through links too: the root may be one.
func leadsToFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
