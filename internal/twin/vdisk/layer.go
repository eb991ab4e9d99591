package vdisk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast"
)

const (
	layersFolder = "layers"

	// segmentBytes is how much of a volume one data file covers.
	segmentBytes = 1 << 40
)

// layer is one generation of changes of a volume. Its folder comes into being with the first change.
type layer struct {
	number uint64
	parent *layer // what lies below; nil at the bottom
	dir    string
	files  *fileCache

	users int // volumes that have it as their top, plus layers right above; guarded by the store's mu
}

func (l *layer) entry() layerEntry {
	e := layerEntry{Number: l.number}
	if l.parent != nil {
		e.Parent = l.parent.number
	}
	return e
}

// write puts bytes at the volume's offset.
func (l *layer) write(p []byte, off int64) error {
	return l.eachSegment(off, int64(len(p)), func(path string, from, at, length int64) error {
		file, err := l.files.take(path, true)
		if err != nil {
			return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot open a volume's data")
		}
		defer l.files.give(file)
		if _, err := file.WriteAt(p[from:from+length], at); err != nil {
			return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot write a volume's data")
		}
		return nil
	})
}

// read gets bytes that were written at the volume's offset.
func (l *layer) read(p []byte, off int64) error {
	return l.eachSegment(off, int64(len(p)), func(path string, from, at, length int64) error {
		file, err := l.files.take(path, false)
		if errors.Is(err, fs.ErrNotExist) {
			return holdfast.Wrap(holdfast.KindCorrupt, err, "a volume's data file is missing")
		}
		if err != nil {
			return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot open a volume's data")
		}
		defer l.files.give(file)
		if _, err := file.ReadAt(p[from:from+length], at); err != nil {
			return holdfast.Wrap(holdfast.KindCorrupt, err, "a volume's data cannot be read")
		}
		return nil
	})
}

// free gives the space of a range back that the map does not refer to any more.
func (l *layer) free(off, length int64) {
	_ = l.eachSegment(off, length, func(path string, _, at, length int64) error {
		file, err := l.files.take(path, false)
		if err != nil {
			return err
		}
		defer l.files.give(file)
		return punchHole(file.File, at, length)
	}) // best effort: without it the bytes stay allocated, but nobody reads them
}

// eachSegment calls do for the part of the range in each data file: from is the part's place in the range, at its place in
// the file.
func (l *layer) eachSegment(off, length int64, do func(path string, from, at, length int64) error) error {
	for from := int64(0); from < length; {
		segment, at := (off+from)/segmentBytes, (off+from)%segmentBytes
		part := min(length-from, segmentBytes-at)
		if err := do(filepath.Join(l.dir, fmt.Sprintf("data-%04d", segment)), from, at, part); err != nil {
			return err
		}
		from += part
	}
	return nil
}

func (l *layer) journalPath() string { return filepath.Join(l.dir, "map") }

// readChanges reads the layer's map from its journal and tells where the next record goes.
func (l *layer) readChanges() (changes *extentMap, end int64, err error) {
	changes = newExtentMap()
	end, err = readJournal(l.journalPath(), func(c change) { l.apply(c, changes) })
	return changes, end, err
}

func (l *layer) apply(c change, changes *extentMap) {
	p := piece{start: c.start, end: c.end, layer: l}
	if c.cleared {
		p.layer = nil
	}
	changes.set(p)
}

// record appends a change to the journal, whose end is given, and returns the new end.
func (l *layer) record(c change, end int64) (int64, error) {
	file, err := l.files.take(l.journalPath(), true)
	if err != nil {
		return end, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot open a volume's map")
	}
	defer l.files.give(file)
	if _, err := file.WriteAt(c.encode(), end); err != nil {
		return end, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot write a volume's map")
	}
	return end + changeBytes, nil
}

func (l *layer) remove() error {
	l.files.forget(l.dir)
	if err := os.RemoveAll(l.dir); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot free a volume's files")
	}
	return nil
}
