package repo

import (
	"context"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// freshEntriesMax bounds the index entries that a session keeps in memory, about 250 bytes each with what finds them; more go to
// runs of its own.
const freshEntriesMax = 96 << 10

// merger returns what makes index runs in the name of a session, under a state whose condemned packs are given.
func (r *Repository) merger(session holdfast.SessionID, condemned map[string]bool, state oplog.State) (*index.Merger, error) {
	packs := map[index.Pack]bool{}
	for name := range condemned {
		if kind, _ := layout.Parse(name); kind != layout.DataPack && kind != layout.TreePack {
			continue
		}
		pack, err := index.PackOf(name)
		if err != nil {
			return nil, err
		}
		packs[pack] = true
	}
	m := &index.Merger{
		Reader: r.runs.reader, Clean: state.Next,
		Header: func() seal.Header { return seal.NewHeader(seal.KindIndex, r.ring, r.id, session) },
		Put:    func(ctx context.Context, data []byte) (string, error) { return r.put(ctx, layout.IndexRun, data) },
		Buffer: r.runBuffer,
	}
	if len(packs) > 0 {
		m.Without = func(pack index.Pack) bool { return packs[pack] }
	}
	return m, nil
}

// smallRunBytes is up to which size memory of a run's own is better than that of a pack.
const smallRunBytes = 1 << 20

// runBuffer returns memory for a run: that of a pack where it fits, since fresh memory of that size takes long to get. Only the largest
// runs of large repositories do not.
func (r *Repository) runBuffer(size int) (buffer []byte, release func()) {
	if size <= smallRunBytes || size > r.packBuffers.Size() {
		return make([]byte, 0, size), func() {}
	}
	buffer = r.packBuffers.Get(size)
	return buffer, func() { r.packBuffers.Put(buffer) }
}
