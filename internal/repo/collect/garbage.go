package collect

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
)

// findGarbage finds what nothing needs in a state: packs that no point of the census needs or that were moved, and other objects that
// the state does not lead to. All visible points of the state must be marked.
func (p *Plan) findGarbage(ctx context.Context, state oplog.State) error {
	p.garbage, p.held, p.expired, p.result.Locked, p.result.Protected = nil, nil, nil, LockedAmount{}, Amount{}
	p.locked = nil
	for _, shelf := range []*shelf{p.census.data, p.census.tree} {
		for i := range shelf.len() {
			switch {
			case shelf.is(i, doomed):
			case shelf.is(i, moving) && !shelf.is(i, whole):
				if !p.begun {
					continue // it is still to be moved
				}
				if err := p.movedFrom(ctx, shelf, i); err != nil {
					return err
				}
			case !shelf.needed(i):
				info := blob.Info{Name: shelf.name(i), Size: shelf.size(i), LockedUntil: shelf.lockedUntil(i)}
				if err := p.unneeded(ctx, state, info); err != nil {
					return err
				}
			}
		}
	}
	live, err := p.led(ctx, state)
	if err != nil {
		return err
	}
	for _, name := range p.lostRecords {
		if slices.Contains(state.Gone, name) {
			size, _ := p.listed(name)
			p.garbage = append(p.garbage, object{name, size}) // what it said is told anew with its condemnation
		}
	}
	for _, info := range p.others {
		if live[info.Name] || p.doomed[info.Name] {
			continue
		}
		if err := p.unneeded(ctx, state, info); err != nil {
			return err
		}
	}
	return p.fileLocked(ctx, state)
}

// fileLocked files what nothing needs and a lock holds. It is left alone until the lock ends, but for packs that a pack list still names:
// each new list takes those names over, and each backup that locks would lock them anew, so that they never went. They are condemned, and
// deleted when their time is over.
func (p *Plan) fileLocked(ctx context.Context, state oplog.State) error {
	named, err := p.namedByLists(ctx, state)
	if err != nil {
		return err
	}
	for _, info := range p.locked {
		if named[info.Name] {
			p.held = append(p.held, object{info.Name, info.Size})
		}
		if !named[info.Name] || !p.begun {
			p.result.Locked.add(info.Size, info.LockedUntil)
		}
	}
	return nil
}

// namedByLists returns which of the locked packs the lists of visible points name.
func (p *Plan) namedByLists(ctx context.Context, state oplog.State) (map[string]bool, error) {
	named, wanted, read := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, info := range p.locked {
		if kind, _ := layout.Parse(info.Name); kind == layout.DataPack || kind == layout.TreePack {
			wanted[info.Name] = true
		}
	}
	var lists []string
	for _, point := range state.Points {
		lists = append(lists, point.List)
	}
	for ; len(lists) > 0 && len(wanted) > 0; lists = lists[1:] {
		if read[lists[0]] {
			continue
		}
		read[lists[0]] = true
		list, err := p.c.lists().Read(ctx, lists[0])
		if stored.IsDamage(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range list.Packs {
			if wanted[name] {
				named[name] = true
			}
		}
		for _, in := range list.Includes {
			lists = append(lists, in.Name)
		}
	}
	return named, nil
}

// movedFrom files a pack that something was moved out of: it is garbage, unless somebody has locked it since. Then a point that was
// promised to stay rests on it, and its horizon is that of this pack.
func (p *Plan) movedFrom(ctx context.Context, shelf *shelf, i int) error {
	o := object{shelf.name(i), shelf.size(i)}
	if shadow.Locker(p.c.Store) != nil {
		info, err := p.c.Store.Stat(ctx, o.name)
		if stored.IgnoreDamage(err) != nil {
			return err
		}
		if p.isLocked(info.LockedUntil) {
			shelf.unset(i, moving)
			return nil
		}
	}
	p.garbage = append(p.garbage, o)
	return nil
}

// led returns the names of all objects but packs that a state leads to.
func (p *Plan) led(ctx context.Context, state oplog.State) (map[string]bool, error) {
	live := map[string]bool{}
	for _, name := range slices.Concat(state.Runs, state.Slots, []string{state.KeyRing, state.Damage}, state.Lists(), state.Gone) {
		live[name] = true
	}
	for _, point := range state.Points {
		live[point.Manifest], live[point.List] = true, true
	}
	checkpoints, err := p.checkpoints(ctx, state)
	if err != nil {
		return nil, err
	}
	for _, name := range checkpoints {
		live[name] = true
	}
	if !slices.ContainsFunc(p.others, func(o blob.Info) bool { kind, _ := layout.Parse(o.Name); return kind == layout.List && !live[o.Name] }) {
		return live, nil // no list is left that could be included in one
	}
	for _, point := range state.Points {
		included, err := p.included(ctx, point)
		if err != nil {
			return nil, err
		}
		for _, name := range included {
			live[name] = true
		}
	}
	return live, nil
}

// included returns the lists that a point's list includes. When it is damaged, nobody can tell which those are.
func (p *Plan) included(ctx context.Context, point oplog.PointState) ([]string, error) {
	if names, ok := p.includes[point.List]; ok {
		return names, nil
	}
	list, err := p.c.lists().Read(ctx, point.List)
	if err != nil {
		if !stored.IsDamage(err) {
			return nil, err
		}
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "the pack list of restore point %s is damaged, so nobody can tell what it needs", point.ID).
			WithHint("bring it back from a copy of the storage, or remove the restore point; then collect again")
	}
	var names []string
	for _, in := range list.Includes {
		names = append(names, in.Name)
	}
	p.includes[point.List] = names
	return names, nil
}

// checkpointsKept is how many of the newest checkpoints are kept: when one is damaged, the one before it is as good.
const checkpointsKept = 2

// checkpoints returns the names of the newest checkpoints of a state.
func (p *Plan) checkpoints(ctx context.Context, state oplog.State) ([]string, error) {
	var names []string
	for n := state.Checkpoint; n > 0 && len(names) < checkpointsKept; {
		entry, err := p.c.Log.Entry(ctx, n)
		if err != nil {
			return nil, err
		}
		names, n = append(names, entry.State), entry.Checkpoint
	}
	return names, nil
}

// unneeded files an object that nothing needs: it is garbage, or expired, or a lock or an open session keeps it.
func (p *Plan) unneeded(ctx context.Context, state oplog.State, info blob.Info) error {
	session, expires, err := p.ownerOf(ctx, info.Name)
	if err != nil {
		return err
	}
	if s := state.Session(session); s != nil && s.Status == oplog.SessionOpen && !(slices.Contains(p.tooOld, session) && !p.begun) {
		p.result.Protected.add(info.Size)
		return nil
	}
	switch o := (object{info.Name, info.Size}); {
	case p.isLocked(info.LockedUntil):
		p.locked = append(p.locked, info)
	case expires:
		p.expired = append(p.expired, o)
	default:
		p.garbage = append(p.garbage, o)
	}
	return nil
}

// ownerOf returns the session that an object bears, none when it bears none, and whether the object goes without a condemnation once
// that session is over.
func (p *Plan) ownerOf(ctx context.Context, name string) (session holdfast.SessionID, expires bool, err error) {
	kind, _ := layout.Parse(name)
	switch kind {
	case layout.KeyObject, layout.State, layout.Foreign, layout.LogEntry:
		return holdfast.SessionID{}, false, nil
	case layout.List:
		session, expires, err = p.listOwner(ctx, name)
	case layout.DataPack, layout.TreePack, layout.IndexRun, layout.Manifest:
		var known bool
		if session, known = p.sessions[name]; !known {
			session, err = p.headerSession(ctx, name)
		}
	}
	if err != nil && !stored.IsDamage(err) {
		return holdfast.SessionID{}, false, err
	}
	p.sessions[name] = session // of a damaged object: nobody's
	return session, expires, nil
}

// listLabelBytes is enough for the lines that a list begins with.
const listLabelBytes = 256

// listOwner tells whose a list is, and whether it goes without a condemnation. The latter is told by bytes that prove themselves alone.
func (p *Plan) listOwner(ctx context.Context, name string) (holdfast.SessionID, bool, error) {
	b := make([]byte, listLabelBytes)
	n, err := p.c.Store.Read(ctx, name, 0, b)
	if err != nil {
		return holdfast.SessionID{}, false, err
	}
	session, label, err := packlist.OwnerOf(b[:n])
	if err != nil || label != packlist.CondemnationLabel && label != packlist.GoneLabel {
		return session, false, err
	}
	whole, err := stored.Read(ctx, p.c.Store, name, layout.ListBytesMax)
	if err != nil {
		return holdfast.SessionID{}, false, err
	}
	session, label, err = packlist.OwnerOf(whole[:min(len(whole), listLabelBytes)])
	return session, label == packlist.CondemnationLabel || label == packlist.GoneLabel, err
}

func (p *Plan) headerSession(ctx context.Context, name string) (holdfast.SessionID, error) {
	var b [seal.HeaderSize]byte
	if n, err := p.c.Store.Read(ctx, name, 0, b[:]); err != nil || n < len(b) {
		return holdfast.SessionID{}, seal.ShortRead(name, 0, err)
	}
	header, err := seal.ParseHeader(b[:])
	return header.Session, err
}
