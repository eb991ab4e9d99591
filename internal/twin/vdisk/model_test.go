package vdisk_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// TestStore_RandomHistory_EqualsModel proves that whatever sequence of writes, clears, imports, snapshots, clones, resizes,
// deletions, orderly restarts and kills happened, every volume reads, lists and differs as a plain model in memory says.
func TestStore_RandomHistory_EqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		defer m.cleanUp()
		t.Repeat(map[string]func(*rapid.T){
			"create":   m.create,
			"write":    m.write,
			"write 2":  m.write, // twice as often
			"zero":     m.zero,
			"import":   m.importImage,
			"snapshot": m.snapshot,
			"snap 2":   m.snapshot,
			"clone":    m.clone,
			"resize":   m.resize,
			"delete":   m.delete,
			"reopen":   m.reopen,
			"kill":     m.kill,
			"diff":     m.diff,
			"":         m.check,
		})
	})
}

const (
	modelVolumesMax = 10
	modelLiveMax    = 2
)

// modelVolume is a volume in memory. epochs says, for each snapshot period of its family, which sectors were touched and
// whether they were cleared.
type modelVolume struct {
	info      vdisk.Volume
	content   []byte
	allocated []bool
	epochs    []map[int64]bool
}

type model struct {
	store   *vdisk.Store
	dir     string
	dirs    []string
	order   []vdisk.ID
	volumes map[vdisk.ID]*modelVolume
}

func newModel(t *rapid.T) *model {
	m := &model{volumes: map[vdisk.ID]*modelVolume{}}
	m.dir = m.newDir(t)
	m.open(t)
	return m
}

func (m *model) newDir(t *rapid.T) string {
	dir, err := os.MkdirTemp(memoryFolder(), "vdisk")
	must(t, err)
	m.dirs = append(m.dirs, dir)
	return dir
}

func (m *model) cleanUp() {
	_ = m.store.Close()
	for _, dir := range m.dirs {
		_ = os.RemoveAll(dir)
	}
}

func (m *model) open(t *rapid.T) {
	store, err := vdisk.Open(m.dir)
	must(t, err)
	m.store = store
}

// create makes few volumes, so that the steps go into long histories of each.
func (m *model) create(t *rapid.T) {
	if len(m.order) >= modelVolumesMax || m.live() >= modelLiveMax {
		t.Skip("enough volumes")
	}
	size := rapid.Int64Range(1, 40).Draw(t, "sectors") * vdisk.SectorBytes
	info, err := m.store.Create(size)
	must(t, err)
	m.add(&modelVolume{
		info: info, content: make([]byte, size), allocated: make([]bool, size/vdisk.SectorBytes),
		epochs: []map[int64]bool{{}},
	})
}

func (m *model) live() (n int) {
	for _, v := range m.volumes {
		if !v.info.Frozen {
			n++
		}
	}
	return n
}

func (m *model) add(v *modelVolume) {
	m.volumes[v.info.ID] = v
	m.order = append(m.order, v.info.ID)
}

// pick draws a volume that is frozen or not, as asked.
func (m *model) pick(t *rapid.T, frozen bool) *modelVolume {
	var candidates []vdisk.ID
	for _, id := range m.order {
		if m.volumes[id].info.Frozen == frozen {
			candidates = append(candidates, id)
		}
	}
	if len(candidates) == 0 {
		t.Skip("no such volume yet")
	}
	return m.volumes[rapid.SampledFrom(candidates).Draw(t, "volume")]
}

func drawRange(t *rapid.T, size int64) (off, length int64) {
	off = rapid.Int64Range(0, size).Draw(t, "offset")
	length = rapid.Int64Range(0, size-off).Draw(t, "length")
	if rapid.IntRange(0, 3).Draw(t, "whole") == 0 {
		return 0, size
	}
	if rapid.Bool().Draw(t, "aligned") {
		off, length = off/vdisk.SectorBytes*vdisk.SectorBytes, length/vdisk.SectorBytes*vdisk.SectorBytes
	}
	return off, length
}

func (m *model) write(t *rapid.T) {
	v := m.pick(t, false)
	off, length := drawRange(t, v.info.Size)
	// Zeros are a likely value on purpose: written zeros are not a clear.
	data := bytes.Repeat([]byte{byte(rapid.IntRange(0, 5).Draw(t, "value"))}, int(length))
	n, err := m.store.WriteAt(v.info.ID, data, off)
	must(t, err)
	if n != len(data) {
		t.Fatalf("wrote %d of %d bytes", n, len(data))
	}
	v.write(data, off)
}

func (v *modelVolume) write(data []byte, off int64) {
	copy(v.content[off:], data)
	if len(data) == 0 {
		return
	}
	last := (off + int64(len(data)) - 1) / vdisk.SectorBytes
	for sector := off / vdisk.SectorBytes; sector <= last; sector++ {
		v.touch(sector, false)
	}
}

func (v *modelVolume) touch(sector int64, cleared bool) {
	v.epochs[len(v.epochs)-1][sector] = cleared
	v.allocated[sector] = !cleared
}

func (m *model) zero(t *rapid.T) {
	v := m.pick(t, false)
	off, length := drawRange(t, v.info.Size)
	must(t, m.store.Zero(v.info.ID, off, length))
	v.zero(off, length)
}

func (v *modelVolume) zero(off, length int64) {
	clear(v.content[off : off+length])
	for sector := range int64(len(v.allocated)) {
		start, end := sector*vdisk.SectorBytes, (sector+1)*vdisk.SectorBytes
		if start >= off && end <= off+length {
			v.touch(sector, true)
		} else if start < off+length && end > off && length > 0 {
			v.touch(sector, false)
		}
	}
}

func (m *model) importImage(t *rapid.T) {
	v := m.pick(t, false)
	image := make([]byte, rapid.Int64Range(0, v.info.Size).Draw(t, "image"))
	for start := 0; start < len(image); start += 4096 {
		end := min(start+4096, len(image))
		if rapid.Bool().Draw(t, "filled") {
			image[rapid.IntRange(start, end-1).Draw(t, "at")] = 9
		}
	}
	must(t, m.store.Import(v.info.ID, bytes.NewReader(image)))

	// The runs of equal kind are written, or cleared when they hold something.
	filled := func(start int) bool { return bytes.IndexByte(image[start:min(start+4096, len(image))], 9) >= 0 }
	for start := 0; start < len(image); {
		end := start
		for end < len(image) && filled(end) == filled(start) {
			end = min(end+4096, len(image))
		}
		if filled(start) {
			v.write(image[start:end], int64(start))
		} else if v.holds(int64(start), int64(end)) {
			v.zero(int64(start), int64(end-start))
		}
		start = end
	}
}

func (v *modelVolume) holds(start, end int64) bool {
	for sector := start / vdisk.SectorBytes; sector*vdisk.SectorBytes < end; sector++ {
		if v.allocated[sector] {
			return true
		}
	}
	return false
}

func (m *model) snapshot(t *rapid.T) {
	if len(m.order) >= modelVolumesMax {
		t.Skip("enough volumes")
	}
	v := m.pick(t, false)
	info, err := m.store.Snapshot(v.info.ID)
	must(t, err)
	want := vdisk.Volume{ID: info.ID, Size: v.info.Size, Frozen: true, Family: v.info.Family, Parent: v.info.ID}
	if info != want {
		t.Fatalf("snapshot is %+v, want %+v", info, want)
	}
	m.add(&modelVolume{
		info: info, content: bytes.Clone(v.content), allocated: append([]bool(nil), v.allocated...),
		epochs: slices.Clip(v.epochs),
	})
	v.epochs = append(v.epochs, map[int64]bool{})
}

func (m *model) clone(t *rapid.T) {
	if len(m.order) >= modelVolumesMax {
		t.Skip("enough volumes")
	}
	v := m.pick(t, true)
	size := v.info.Size + rapid.Int64Range(0, 3).Draw(t, "more")*vdisk.SectorBytes
	info, err := m.store.Clone(v.info.ID, size)
	must(t, err)
	if info.Family == v.info.Family || info.Frozen || info.Parent != v.info.ID || info.Size != size {
		t.Fatalf("clone of %+v is %+v", v.info, info)
	}
	c := &modelVolume{info: info, content: bytes.Clone(v.content), allocated: append([]bool(nil), v.allocated...), epochs: []map[int64]bool{{}}}
	c.grow(size)
	m.add(c)
}

func (m *model) resize(t *rapid.T) {
	v := m.pick(t, false)
	size := v.info.Size + rapid.Int64Range(0, 3).Draw(t, "more")*vdisk.SectorBytes
	must(t, m.store.Resize(v.info.ID, size))
	v.info.Size = size
	v.grow(size)
}

func (v *modelVolume) grow(size int64) {
	v.content = append(v.content, make([]byte, size-int64(len(v.content)))...)
	v.allocated = append(v.allocated, make([]bool, size/vdisk.SectorBytes-int64(len(v.allocated)))...)
}

func (m *model) delete(t *rapid.T) {
	if len(m.order) == 0 {
		t.Skip("no volume")
	}
	at := rapid.IntRange(0, len(m.order)-1).Draw(t, "volume")
	id := m.order[at]
	must(t, m.store.Delete(id))
	delete(m.volumes, id)
	m.order = append(m.order[:at:at], m.order[at+1:]...)
	if _, err := m.store.Stat(id); !errors.Is(err, vdisk.ErrNotFound) {
		t.Fatalf("Stat of a deleted volume: %v", err)
	}
}

func (m *model) reopen(t *rapid.T) {
	must(t, m.store.Close())
	m.open(t)
}

// kill goes on with a copy of what is on the disk while the store is still open: what a kill of the process leaves.
func (m *model) kill(t *rapid.T) {
	abandoned, dir := m.store, m.newDir(t)
	must(t, os.CopyFS(dir, os.DirFS(m.dir)))
	m.dir = dir
	m.open(t)
	must(t, abandoned.Close())
}

func (m *model) diff(t *rapid.T) {
	if len(m.order) == 0 {
		t.Skip("no volume")
	}
	older := m.volumes[rapid.SampledFrom(m.order).Draw(t, "older")]
	newer := m.volumes[rapid.SampledFrom(m.order).Draw(t, "newer")]
	window := holdfast.Extent{}
	if rapid.Bool().Draw(t, "windowed") {
		window.Offset, window.Length = drawRange(t, newer.info.Size)
		window.Length = max(window.Length, 1)
	}

	got, err := collect(m.store.Diff(older.info.ID, newer.info.ID, window))
	switch {
	case older.info.Family != newer.info.Family:
		wantError(t, err, vdisk.ErrUnrelated)
		return
	case older != newer && (!older.info.Frozen || len(older.epochs) >= len(newer.epochs)):
		wantError(t, err, vdisk.ErrOrder)
		return
	}
	must(t, err)
	changed := map[int64]bool{}
	for _, epoch := range newer.epochs[len(older.epochs):] {
		maps.Copy(changed, epoch)
	}
	wantExtents(t, got, extentsOf(newer.info.Size, window, func(sector int64) (listed, cleared bool) {
		cleared, listed = changed[sector]
		return listed, cleared
	}))
}

func (m *model) check(t *rapid.T) {
	list := m.store.List()
	if len(list) != len(m.order) {
		t.Fatalf("%d volumes, want %d", len(list), len(m.order))
	}
	for _, id := range m.order {
		v := m.volumes[id]
		info, err := m.store.Stat(id)
		must(t, err)
		if info != v.info {
			t.Fatalf("Stat says %+v, want %+v", info, v.info)
		}
		content := bytes.Repeat([]byte{0xEE}, len(v.content))
		_, err = m.store.ReadAt(id, content, 0)
		must(t, err)
		if !bytes.Equal(content, v.content) {
			t.Fatalf("%s holds other bytes than the model", id)
		}
		got, err := collect(m.store.Allocated(id, holdfast.Extent{}))
		must(t, err)
		wantExtents(t, got, extentsOf(v.info.Size, holdfast.Extent{}, func(sector int64) (listed, cleared bool) {
			return v.allocated[sector], false
		}))
	}
}

// memoryFolder returns a folder in memory when the machine has one: the property opens thousands of small stores.
func memoryFolder() string {
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err == nil && info.IsDir() {
		return shared
	}
	return ""
}
