package vdisk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-backup/holdfast"
)

// compactAbove is how many dead lines the catalogue may carry before Open writes it anew.
const compactAbove = 256

// entry is one line of the catalogue: everything that changes at one moment. The line is the CRC-32C of the JSON text as
// eight hexadecimal digits, a space, the text.
type entry struct {
	Next    uint64        `json:"next"` // the next free number
	Layers  []layerEntry  `json:"layers,omitempty"`
	Volumes []volumeEntry `json:"volumes,omitempty"`
	Gone    []ID          `json:"gone,omitempty"`
	Dropped []uint64      `json:"dropped,omitempty"` // layers
}

type layerEntry struct {
	Number uint64 `json:"number"`
	Parent uint64 `json:"parent,omitempty"`
}

type volumeEntry struct {
	Volume
	Top uint64 `json:"top"` // number of the top layer
}

// catalogue is the file that lists volumes and layers.
type catalogue struct {
	file *os.File
	end  int64
}

// append adds e; after an error the catalogue is as before.
func (c *catalogue) append(e entry) error {
	line, err := e.encode()
	if err != nil {
		return err
	}
	if _, err := c.file.WriteAt(line, c.end); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, errors.Join(err, c.file.Truncate(c.end)), "cannot write the catalogue of volumes")
	}
	c.end += int64(len(line))
	return nil
}

func (c *catalogue) close() error { return c.file.Close() }

func (e entry) encode() ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "cannot encode the catalogue of volumes")
	}
	return fmt.Appendf(nil, "%08x %s\n", checksum(text), text), nil
}

func decodeEntry(line []byte) (e entry, sound bool) {
	sum, text, found := bytes.Cut(line, []byte(" "))
	if !found || string(sum) != fmt.Sprintf("%08x", checksum(text)) {
		return entry{}, false
	}
	return e, json.Unmarshal(text, &e) == nil
}

// load reads the catalogue, removes the files of layers that it does not list and opens it for appending.
func (s *Store) load() error {
	path := filepath.Join(s.dir, "catalogue")
	entries, end, err := readCatalogue(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.replay(e); err != nil {
			return err
		}
	}
	s.countUsers()
	if err := s.removeStrayLayers(); err != nil {
		return err
	}
	if len(entries) > compactAbove+2*len(s.volumes)+2*len(s.layers) {
		if end, err = s.compact(path); err != nil {
			return err
		}
	}

	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = file.Truncate(end)
	}
	if err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot open the catalogue of volumes")
	}
	s.catalogue = &catalogue{file: file, end: end}
	return nil
}

// readCatalogue returns the entries and where the sound part of the file ends: a torn last line does not count.
func readCatalogue(path string) (entries []entry, end int64, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot read the catalogue of volumes")
	}
	for rest := text; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		e, sound := decodeEntry(line)
		switch {
		case whole && sound:
			entries = append(entries, e)
			end = int64(len(text) - len(after))
		case whole && len(after) > 0:
			return nil, 0, holdfast.Errorf(holdfast.KindCorrupt, "the catalogue of volumes %s is damaged at byte %d", path, end)
		}
		rest = after
	}
	return entries, end, nil
}

func (s *Store) replay(e entry) error {
	s.next = max(s.next, e.Next)
	for _, l := range e.Layers {
		parent, known := s.layers[l.Parent]
		if l.Parent != 0 && !known {
			return holdfast.Errorf(holdfast.KindCorrupt, "the catalogue of volumes names the unknown layer %d", l.Parent)
		}
		s.layers[l.Number] = s.layerAt(l.Number, parent)
	}
	for _, v := range e.Volumes {
		top, known := s.layers[v.Top]
		if !known {
			return holdfast.Errorf(holdfast.KindCorrupt, "the catalogue of volumes names the unknown layer %d", v.Top)
		}
		s.volumes[v.ID] = &volume{info: v.Volume, top: top}
	}
	for _, id := range e.Gone {
		delete(s.volumes, id)
	}
	for _, number := range e.Dropped {
		delete(s.layers, number)
	}
	return nil
}

func (s *Store) countUsers() {
	for _, v := range s.volumes {
		v.top.users++
	}
	for _, l := range s.layers {
		if l.parent != nil {
			l.parent.users++
		}
	}
}

// removeStrayLayers frees what a deletion left behind when the process was killed in the middle of it.
func (s *Store) removeStrayLayers() error {
	wanted := map[string]bool{}
	for _, l := range s.layers {
		wanted[filepath.Base(l.dir)] = true
	}
	folder := filepath.Join(s.dir, layersFolder)
	found, err := os.ReadDir(folder)
	if err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot list the layers of volumes")
	}
	for _, f := range found {
		if wanted[f.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(folder, f.Name())); err != nil {
			return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot free a volume's files")
		}
	}
	return nil
}

// compact writes the catalogue anew, as one entry, and returns its length.
func (s *Store) compact(path string) (int64, error) {
	e := entry{Next: s.next}
	for _, l := range s.layers {
		e.Layers = append(e.Layers, l.entry())
	}
	for _, v := range s.volumes {
		e.Volumes = append(e.Volumes, volumeEntry{Volume: v.info, Top: v.top.number})
	}
	slices.SortFunc(e.Layers, func(a, b layerEntry) int { return int(a.Number) - int(b.Number) }) // parents first
	line, err := e.encode()
	if err != nil {
		return 0, err
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, line, 0o600); err != nil {
		return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot write the catalogue of volumes")
	}
	if err := os.Rename(fresh, path); err != nil {
		return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot replace the catalogue of volumes")
	}
	return int64(len(line)), nil
}
