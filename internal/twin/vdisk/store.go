package vdisk

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
)

// Limits and units.
const (
	// SectorBytes is the unit of the change map; the platform's page ranges have the same.
	SectorBytes = 512
	// SizeMax is the largest volume: Ultra disks end at 64 TiB.
	SizeMax = 64 << 40

	openFilesMax    = 400     // below the usual limit of 1,024 descriptors, with room for the servers' connections
	cachedPiecesMax = 2 << 20 // pieces of frozen maps kept in memory: about 64 MiB
)

// The refusals. They are wrapped with the volume's ID; compare with errors.Is.
var (
	// ErrNotFound says that there is no such volume.
	ErrNotFound = holdfast.Errorf(holdfast.KindNotFound, "there is no such volume")
	// ErrFrozen refuses a change of a frozen volume.
	ErrFrozen = holdfast.Errorf(holdfast.KindRefused, "the volume is frozen")
	// ErrLive refuses to clone a volume that is not frozen.
	ErrLive = holdfast.Errorf(holdfast.KindRefused, "the volume is not frozen")
	// ErrSize refuses a size that is not a positive multiple of 512 bytes up to SizeMax, or that shrinks a volume.
	ErrSize = holdfast.Errorf(holdfast.KindInvalid, "the size of the volume is not possible")
	// ErrRange refuses a range outside the volume.
	ErrRange = holdfast.Errorf(holdfast.KindInvalid, "the range lies outside the volume")
	// ErrUnrelated refuses the diff of volumes of two families.
	ErrUnrelated = holdfast.Errorf(holdfast.KindInvalid, "the volumes are not of one family")
	// ErrOrder refuses the diff of volumes named in the wrong order.
	ErrOrder = holdfast.Errorf(holdfast.KindInvalid, "the older volume is the newer one")
	// ErrClosed refuses the use of a closed store.
	ErrClosed = holdfast.Errorf(holdfast.KindUnavailable, "the volume store is closed")
)

// ID names a volume. IDs are never used twice.
type ID string

// Volume describes a volume.
type Volume struct {
	ID     ID     `json:"id"`
	Size   int64  `json:"size"`             // bytes, a multiple of SectorBytes
	Frozen bool   `json:"frozen,omitempty"` // a snapshot: never changes
	Family string `json:"family"`           // a GUID shared by a live volume and its snapshots; a clone starts a new one
	Parent ID     `json:"parent,omitempty"` // what it was snapshot or cloned from and may be deleted by now; "" for a created volume
}

// Store is a set of volumes in a directory. It is safe for concurrent use.
type Store struct {
	dir    string
	lock   *os.File
	files  *fileCache
	frozen *mapCache

	mu        sync.RWMutex
	closed    bool              // guarded by mu
	volumes   map[ID]*volume    // guarded by mu
	layers    map[uint64]*layer // guarded by mu
	next      uint64            // guarded by mu; the next number of a volume or layer
	catalogue *catalogue        // guarded by mu
}

// Open opens the store in dir and makes it when it is not there. Only one process can have it open (KindConflict). Maps
// are loaded when a volume is first used, so that opening costs what the catalogue costs.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, layersFolder), 0o700); err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot make the volume store %s", dir)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindConflict, err, "the volume store %s is in use", dir)
	}
	s := &Store{
		dir: dir, lock: lock, files: newFileCache(openFilesMax), frozen: newMapCache(cachedPiecesMax),
		volumes: map[ID]*volume{}, layers: map[uint64]*layer{}, next: 1,
	}
	if err := s.load(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return s, nil
}

// Close releases the files. Calls under way finish or fail with ErrClosed; later ones fail with it.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	volumes := make([]*volume, 0, len(s.volumes))
	for _, v := range s.volumes {
		volumes = append(volumes, v)
	}
	catalogueErr := s.catalogue.close()
	s.mu.Unlock()

	for _, v := range volumes {
		v.mu.Lock()
		v.gone = ErrClosed
		v.mu.Unlock()
	}
	s.files.close()
	return errors.Join(catalogueErr, s.lock.Close())
}

// Create makes a live volume that reads as zeros, of a new family.
func (s *Store) Create(size int64) (Volume, error) {
	if !possibleSize(size) {
		return Volume{}, fmt.Errorf("%d bytes: %w", size, ErrSize)
	}
	return s.add(Volume{Size: size}, nil)
}

// Clone makes a live volume with the content of the frozen volume id, of a new family. The bytes are shared until one
// side changes. size is at least the source's; what it adds reads as zeros.
func (s *Store) Clone(id ID, size int64) (Volume, error) {
	source, err := s.shared(id)
	if err != nil {
		return Volume{}, err
	}
	defer source.mu.RUnlock()

	if !source.info.Frozen {
		return Volume{}, fmt.Errorf("%s: %w", id, ErrLive)
	}
	if !possibleSize(size) || size < source.info.Size {
		return Volume{}, fmt.Errorf("%s to %d bytes: %w", id, size, ErrSize)
	}
	return s.add(Volume{Size: size, Parent: id}, source.top)
}

// Snapshot freezes the present content of the live volume id as a new volume of the same family. Its cost does not depend
// on the size or content. Writers go on: every write is wholly in the snapshot or not at all.
func (s *Store) Snapshot(id ID) (Volume, error) {
	set, err := s.SnapshotSet([]ID{id})
	if err != nil {
		return Volume{}, err
	}
	return set[0], nil
}

// SnapshotSet freezes several live volumes at one instant, in the order of ids: a write that returned before the instant
// is in the set, and one that began after a write that is not in it is not in it either. All are made or none.
func (s *Store) SnapshotSet(ids []ID) ([]Volume, error) {
	live, unlock, err := s.exclusiveSet(ids)
	if err != nil {
		return nil, err
	}
	defer unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	var all entry
	infos, tops := make([]Volume, len(ids)), make([]*layer, len(ids))
	for i, v := range live {
		if v.info.Frozen {
			return nil, fmt.Errorf("%s: %w", v.info.ID, ErrFrozen)
		}
		tops[i] = s.newLayer(v.top)
		infos[i] = Volume{ID: s.newID(), Size: v.info.Size, Frozen: true, Family: v.info.Family, Parent: v.info.ID}
		all.Layers = append(all.Layers, tops[i].entry())
		all.Volumes = append(all.Volumes, volumeEntry{Volume: infos[i], Top: v.top.number}, volumeEntry{Volume: v.info, Top: tops[i].number})
	}
	if err := s.record(all); err != nil {
		return nil, err
	}
	for i, v := range live {
		s.freeze(v, infos[i], tops[i])
	}
	return infos, nil
}

// freeze gives v's top layer to a snapshot and puts another one on v. The caller holds mu and v's mutex.
func (s *Store) freeze(v *volume, info Volume, top *layer) {
	snapshot := &volume{info: info, top: v.top}
	s.volumes[info.ID] = snapshot
	s.layers[top.number] = top
	v.top.users++ // by the new layer; the live volume's use passes to the snapshot
	top.users = 1
	v.passOn(snapshot, s.frozen)
	v.top = top
}

// exclusiveSet returns volumes with their mutexes held for writing. They are taken in the order of the IDs, so that two
// sets never wait for each other; nobody else holds more than one.
func (s *Store) exclusiveSet(ids []ID) (live []*volume, unlock func(), err error) {
	held := map[ID]*volume{}
	unlock = func() {
		for _, v := range held {
			v.mu.Unlock()
		}
	}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		if held[id] != nil {
			unlock()
			return nil, nil, holdfast.Errorf(holdfast.KindInvalid, "the volume %s stands twice in a set", id)
		}
		v, err := s.exclusive(id)
		if err != nil {
			unlock()
			return nil, nil, err
		}
		held[id] = v
	}
	for _, id := range ids {
		live = append(live, held[id])
	}
	return live, unlock, nil
}

// Resize grows the live volume id; what is added reads as zeros. Shrinking fails with ErrSize, the same size does nothing.
func (s *Store) Resize(id ID, size int64) error {
	v, err := s.exclusive(id)
	if err != nil {
		return err
	}
	defer v.mu.Unlock()

	switch {
	case v.info.Frozen:
		return fmt.Errorf("%s: %w", id, ErrFrozen)
	case !possibleSize(size) || size < v.info.Size:
		return fmt.Errorf("%s to %d bytes: %w", id, size, ErrSize)
	case size == v.info.Size:
		return nil
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	info := v.info
	info.Size = size
	if err := s.record(entry{Volumes: []volumeEntry{{Volume: info, Top: v.top.number}}}); err != nil {
		return err
	}
	v.info = info
	return nil
}

// Delete removes the volume and frees what no other volume needs: whole layers, and in the layers that stay what the next
// snapshot has overwritten. Readers of it finish first; a listing under way goes on. Deleting a snapshot leaves the ones
// before and after it, and the diffs between them, as they were. After an error the volume may be gone, with space still
// held.
func (s *Store) Delete(id ID) error {
	v, err := s.exclusive(id)
	if err != nil {
		return err
	}
	defer v.mu.Unlock()
	cover, hidden, err := s.forget(v)
	if err != nil {
		return err
	}
	return s.freeHidden(cover, hidden)
}

// forget takes v out of the store, with the layers that nobody else needs. When v's top layer stays, since one other
// stands on it, it returns that one as cover and the layers that are seen only through it as hidden.
func (s *Store) forget(v *volume) (cover *layer, hidden []*layer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, unused := v.info.ID, unusedWithout(v.top)
	if err := s.record(entry{Gone: []ID{id}, Dropped: numbers(unused)}); err != nil {
		return nil, nil, err
	}
	v.gone = fmt.Errorf("%s: %w", id, ErrNotFound)
	v.flat, v.changes = nil, nil
	delete(s.volumes, id)
	s.frozen.forget(flatKey(id))
	if len(unused) > 0 {
		return nil, nil, s.drop(unused)
	}
	v.top.users--
	return s.coverOf(v.top), unusedWithout(v.top), nil
}

// coverOf returns the layer that stands on l, when there is only one and it will not change. The caller holds mu.
func (s *Store) coverOf(l *layer) *layer {
	if l.users != 1 {
		return nil
	}
	for _, v := range s.volumes {
		if v.top.parent == l && !v.info.Frozen {
			return nil
		}
	}
	for _, above := range s.layers {
		if above.parent == l {
			return above
		}
	}
	return nil
}

// freeHidden gives back the space of bytes that nobody can see any more: those in the hidden layers over which the cover
// has written or cleared. Their maps keep the entries, which the cover's hide for ever: nobody stands on a hidden layer
// but the cover, and no volume has it as its top.
func (s *Store) freeHidden(cover *layer, hidden []*layer) error {
	if cover == nil {
		return nil
	}
	above, err := s.frozenChanges(cover)
	if err != nil {
		return err
	}
	for _, l := range hidden {
		below, err := s.frozenChanges(l)
		if err != nil {
			return err
		}
		for c := range above.overlapping(0, SizeMax) {
			for p := range below.overlapping(c.start, c.end) {
				if p.layer != nil {
					from := max(p.start, c.start)
					l.free(from, min(p.end, c.end)-from)
				}
			}
		}
	}
	return nil
}

// Stat describes the volume.
func (s *Store) Stat(id ID) (Volume, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return Volume{}, ErrClosed
	}
	v, ok := s.volumes[id]
	if !ok {
		return Volume{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return v.info, nil
}

// List describes all volumes, in the order in which they were made.
func (s *Store) List() []Volume {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Volume, 0, len(s.volumes))
	for _, v := range s.volumes {
		list = append(list, v.info)
	}
	slices.SortFunc(list, func(a, b Volume) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func possibleSize(size int64) bool { return size > 0 && size <= SizeMax && size%SectorBytes == 0 }

// add makes a live volume on top of parent, which may be nil.
func (s *Store) add(info Volume, parent *layer) (Volume, error) {
	family, err := uuid.NewRandom()
	if err != nil {
		return Volume{}, holdfast.Wrap(holdfast.KindInternal, err, "cannot name a family")
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Volume{}, ErrClosed
	}
	info.ID, info.Family = s.newID(), family.String()
	top := s.newLayer(parent)
	err = s.record(entry{Layers: []layerEntry{top.entry()}, Volumes: []volumeEntry{{Volume: info, Top: top.number}}})
	if err != nil {
		return Volume{}, err
	}
	if parent != nil {
		parent.users++
	}
	top.users = 1
	s.layers[top.number] = top
	s.volumes[info.ID] = &volume{info: info, top: top}
	return info, nil
}

// newID gives an ID whose alphabetical order is the order of creation. The caller holds mu.
func (s *Store) newID() ID {
	s.next++
	return ID(fmt.Sprintf("volume-%012d", s.next-1))
}

// newLayer gives a layer that is not yet known to the store. The caller holds mu.
func (s *Store) newLayer(parent *layer) *layer {
	s.next++
	return s.layerAt(s.next-1, parent)
}

func (s *Store) layerAt(number uint64, parent *layer) *layer {
	return &layer{
		number: number, parent: parent, files: s.files,
		dir: filepath.Join(s.dir, layersFolder, fmt.Sprintf("layer-%012d", number)),
	}
}

// record writes e, and the numbers used up to now, to the catalogue. The caller holds mu.
func (s *Store) record(e entry) error {
	if s.closed {
		return ErrClosed
	}
	e.Next = s.next
	return s.catalogue.append(e)
}

// unusedWithout returns the layers that nobody needs once a volume with this top is gone, from the top down.
func unusedWithout(top *layer) []*layer {
	var unused []*layer
	for l := top; l != nil && l.users == 1; l = l.parent {
		unused = append(unused, l)
	}
	return unused
}

func numbers(layers []*layer) []uint64 {
	var list []uint64
	for _, l := range layers {
		list = append(list, l.number)
	}
	return list
}

// drop removes layers that unusedWithout found. The catalogue does not know them any more, so files that stay behind
// after an error are removed by the next Open. The caller holds mu.
func (s *Store) drop(unused []*layer) error {
	for i, l := range unused {
		delete(s.layers, l.number)
		s.frozen.forget(layerKey(l.number))
		if i == len(unused)-1 && l.parent != nil {
			l.parent.users--
		}
	}
	for _, l := range unused {
		if err := l.remove(); err != nil {
			return err
		}
	}
	return nil
}

// shared returns the volume with its mutex held for reading.
func (s *Store) shared(id ID) (*volume, error) {
	v, err := s.find(id)
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	if v.gone != nil {
		v.mu.RUnlock()
		return nil, v.gone
	}
	return v, nil
}

// exclusive returns the volume with its mutex held for writing.
func (s *Store) exclusive(id ID) (*volume, error) {
	v, err := s.find(id)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	if v.gone != nil {
		v.mu.Unlock()
		return nil, v.gone
	}
	return v, nil
}

func (s *Store) find(id ID) (*volume, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	v, ok := s.volumes[id]
	if !ok {
		return nil, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return v, nil
}
