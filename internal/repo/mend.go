package repo

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// errCondemned says that packs were condemned which a session builds on.
var errCondemned = errors.New("condemned meanwhile")

// publishTriesMax bounds how often a session looks for other places of what was condemned under it. Each time means that another
// collection came between.
const publishTriesMax = 8

// mend finds again, in the state read last, everything that the session's disks took over from the index, now that some of the packs
// it was found in are condemned. What was only moved to another pack is found there. What nobody else needed is gone or is going to
// be; it cannot be written anew, since the source has been read and may be gone too: then the error is KindConflict.
func (s *Session) mend(ctx context.Context) error {
	finder, err := s.r.finder(ctx, s.r.oplog.State())
	if err != nil {
		return err
	}
	s.mu.Lock()
	finder.damaged = s.finder.damaged
	s.finder = finder
	for name := range finder.condemned {
		delete(s.reused, name)
	}
	disks := make([]writtenDisk, 0, len(s.disks))
	for _, disk := range s.disks {
		disks = append(disks, disk)
	}
	s.mu.Unlock()
	for _, disk := range disks {
		m := mender{s: s, baseLevel: -1}
		if !disk.base.Top.ID.IsHole() {
			m.baseLevel = tree.NewShape(disk.base.SizeBytes, s.r.params).Height() - 1
		}
		if err := m.node(ctx, disk.top, disk.base.Top, tree.NewShape(disk.sizeBytes, s.r.params).Height()-1); err != nil {
			return err
		}
	}
	return nil
}

// mender walks where a disk's map differs from that of the point it was written against. What is equal is the other point's, which
// the session has pinned.
type mender struct {
	s         *Session
	baseLevel int // of the top of the base
}

// node finds a node and what lies below it. base is what the older disk has in its place, or the top of a lower map that is going to
// be the first child.
func (m *mender) node(ctx context.Context, child, base tree.Child, level int) error {
	if child.ID.IsHole() || child.ID == base.ID && level <= m.baseLevel {
		return nil
	}
	if err := m.find(ctx, child.ID); err != nil {
		return err
	}
	node, err := m.s.r.Load(ctx, child, level)
	if isDamage(err) {
		return m.lost()
	}
	if err != nil {
		return err
	}
	bases := make([]tree.Child, len(node.Children))
	switch {
	case level > m.baseLevel:
		bases[0] = base
	case !base.ID.IsHole():
		older, err := m.s.r.Load(ctx, base, level)
		if err != nil {
			return err
		}
		copy(bases, older.Children)
	}
	for i := range node.Children {
		below := node.Children[i]
		switch {
		case level > 0:
			err = m.node(ctx, below, bases[i], level-1)
		case !below.ID.IsHole() && below.ID != bases[i].ID:
			err = m.find(ctx, below.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) find(ctx context.Context, id chunk.ID) error {
	place, err := m.s.find(ctx, id)
	if err == nil && place == nil {
		return m.lost()
	}
	return err
}

func (m *mender) lost() error {
	return holdfast.Errorf(holdfast.KindConflict, "a collection has taken chunks that this backup found stored, and that no restore point needed").
		WithHint("run the backup again")
}
