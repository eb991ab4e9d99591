package verify

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/span"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// assess judges damage of packs. Without a key all points are hit whose lists name a damaged pack; with one those that have really
// lost something. What was known as lost and is not needed any more is healed.
func (v *verifier) assess(ctx context.Context) error {
	v.after = packlist.Damage{Repository: v.state.Repository, Lost: map[string][]string{}, Spare: map[string][]string{}, Hit: v.hit}
	if v.o.Key == nil {
		maps.Copy(v.hit, v.byList)
		return nil
	}
	damaged := map[string]bool{}
	for _, name := range slices.AppendSeq(slices.Collect(maps.Keys(v.problems)), maps.Keys(v.healed)) {
		kind, _ := layout.Parse(name)
		switch {
		case IsPack(name) && v.known[name]:
			damaged[name] = true
		case kind != layout.Foreign:
			v.after.Lost[name] = nil
		}
	}
	a, err := v.o.Key.Assess(ctx, Question{State: v.state, Lists: v.lists(), Damaged: damaged, Condemned: v.avoid})
	if err != nil {
		return err
	}
	maps.Copy(v.hit, a.Hit)
	for name := range damaged {
		by := slices.Sorted(maps.Keys(a.By[name]))
		if a.Needed[name] {
			v.after.Lost[name] = by
			continue
		}
		v.after.Spare[name] = by
		if _, before := v.damage.Lost[name]; before {
			delete(v.problems, name)
			v.healed[name] = true
		}
	}
	return nil
}

// Assessment is what some damaged packs do to restore points, chunk by chunk.
type Assessment struct {
	Hit    map[holdfast.PointID]bool
	Needed map[string]bool            // damaged packs with which a point has lost something
	By     map[string]map[string]bool // per damaged pack: packs that hold what points need of it
}

// Question says which packs are damaged, and what has to be known to follow points around them.
type Question struct {
	State     oplog.State
	Lists     packlist.Source
	Damaged   map[string]bool
	Condemned map[string]bool
}

// Assess finds out which visible points have lost something with damaged packs. It walks the maps of the points whose lists name one of
// them, subtrees that they share once, and reads no data.
func (k *Key) Assess(ctx context.Context, q Question) (Assessment, error) {
	a := assessor{k: k, q: q, lost: map[shortID]bool{}, result: Assessment{Hit: map[holdfast.PointID]bool{}, Needed: map[string]bool{}, By: map[string]map[string]bool{}}}
	if len(q.Damaged) == 0 {
		return a.result, nil
	}
	gone, err := q.Lists.Gone(ctx, q.State.Gone)
	if err != nil && !stored.IsDamage(err) {
		return Assessment{}, err
	}
	for _, p := range q.State.Points {
		packs, _, err := q.Lists.Expand(ctx, p.List)
		if stored.IsDamage(err) {
			a.result.Hit[p.ID] = true
			continue
		}
		if err != nil {
			return Assessment{}, err
		}
		packs = gone.Resolve(packs)
		if !slices.ContainsFunc(packs, func(name string) bool { return q.Damaged[name] }) {
			continue
		}
		if err := a.point(ctx, p, packs); err != nil {
			return Assessment{}, err
		}
	}
	return a.result, nil
}

type assessor struct {
	k      *Key
	q      Question
	listed map[string]bool  // packs of the point that is being walked
	lost   map[shortID]bool // of nodes that were walked: whether something below is lost
	result Assessment
}

// shortID is half an id, which tells nodes apart as surely and takes half the memory. A quarter of it would tell too little: collections
// rely on what is said here of packs.
type shortID [16]byte

func shortOf(id chunk.ID) shortID { return shortID(id[:]) }

func (a *assessor) point(ctx context.Context, p oplog.PointState, packs []string) error {
	a.listed = map[string]bool{}
	for _, name := range packs {
		a.listed[name] = true
	}
	point, err := a.k.Manifest(ctx, p.Manifest)
	if stored.IsDamage(err) {
		a.result.Hit[p.ID] = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, disk := range point.Disks {
		lost, err := a.disk(ctx, disk)
		if err != nil {
			return err
		}
		if lost {
			a.result.Hit[p.ID] = true
		}
	}
	return nil
}

func (a *assessor) disk(ctx context.Context, disk holdfast.PointDisk) (lost bool, err error) {
	top, err := a.k.Top(disk)
	if err != nil {
		return true, stored.IgnoreDamage(err)
	}
	if top.ID.IsHole() {
		return false, nil
	}
	return a.node(ctx, top, tree.NewShape(disk.SizeBytes, a.k.Parameters).Height()-1)
}

func (a *assessor) node(ctx context.Context, child tree.Child, level int) (lost bool, err error) {
	if lost, known := a.lost[shortOf(child.ID)]; known {
		return lost, nil
	}
	there, err := a.there(ctx, child)
	if err != nil {
		return false, err
	}
	lost = !there
	node, err := a.k.Nodes.Load(ctx, child, level)
	if stored.IsDamage(err) {
		a.lost[shortOf(child.ID)] = true
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, below := range node.Children {
		if below.ID.IsHole() {
			continue
		}
		if level > 0 {
			gone, err := a.node(ctx, below, level-1)
			if err != nil {
				return false, err
			}
			lost = lost || gone
			continue
		}
		there, err := a.there(ctx, below)
		if err != nil {
			return false, err
		}
		lost = lost || !there
	}
	a.lost[shortOf(child.ID)] = lost
	return lost, nil
}

// there reports whether a chunk or node lies in a pack that is not damaged, and notes which damaged packs that saves, or not.
func (a *assessor) there(ctx context.Context, child tree.Child) (bool, error) {
	var damaged []string
	if child.Place != nil {
		name := child.Place.Pack.Name()
		if a.listed[name] && !a.q.Damaged[name] {
			return true, nil
		}
		if a.q.Damaged[name] {
			damaged = append(damaged, name)
		}
	}
	places, err := a.k.Places(ctx, child.ID)
	if err != nil {
		return false, err
	}
	by := ""
	for _, place := range places {
		name := place.Pack.Name()
		switch {
		case a.q.Damaged[name]:
			damaged = append(damaged, name)
		case !a.q.Condemned[name] && by == "":
			by = name
		}
	}
	for _, name := range damaged {
		if by == "" {
			a.result.Needed[name] = true
			continue
		}
		if a.result.By[name] == nil {
			a.result.By[name] = map[string]bool{}
		}
		a.result.By[name][by] = true
	}
	return by != "", nil
}

// ErrMapLost says that a part of a disk's map is lost, so that nobody knows which chunks it named.
var ErrMapLost = errors.New("a part of the disk's map is lost")

// Losses is what a disk has lost with packs that nothing is to be taken from.
type Losses struct {
	Chunks    []span.Span     // to be read again
	Elsewhere map[string]bool // packs beyond the disk's own that hold other parts of it
}

// Packs tells which packs a disk may rest on.
type Packs struct {
	Listed map[string]bool // that the list of its point stands for
	Avoid  map[string]bool // that are condemned or damaged
}

// Losses returns what a disk has lost. When it is a part of its map, the error is ErrMapLost. It reads no data.
func (k *Key) Losses(ctx context.Context, disk holdfast.PointDisk, packs Packs) (Losses, error) {
	l := loser{k: k, packs: packs, found: Losses{Elsewhere: map[string]bool{}}}
	top, err := k.Top(disk)
	if err != nil || top.ID.IsHole() {
		return l.found, err
	}
	shape := tree.NewShape(disk.SizeBytes, k.Parameters)
	err = l.node(ctx, top, shape.Height()-1, 0)
	return l.found, err
}

type loser struct {
	k     *Key
	packs Packs
	found Losses
}

func (l *loser) node(ctx context.Context, child tree.Child, level int, first int64) error {
	there, err := l.there(ctx, child)
	if err != nil {
		return err
	}
	if !there {
		return ErrMapLost
	}
	node, err := l.k.Nodes.Load(ctx, child, level)
	if stored.IsDamage(err) {
		return errors.Join(ErrMapLost, err)
	}
	if err != nil {
		return err
	}
	step := int64(1)
	for range level {
		step *= int64(len(node.Children))
	}
	for i, below := range node.Children {
		if below.ID.IsHole() {
			continue
		}
		number := first + int64(i)*step
		if level > 0 {
			if err := l.node(ctx, below, level-1, number); err != nil {
				return err
			}
			continue
		}
		there, err := l.there(ctx, below)
		if err != nil {
			return err
		}
		if !there {
			l.lose(number)
		}
	}
	return nil
}

func (l *loser) lose(number int64) {
	chunks := l.found.Chunks
	if k := len(chunks) - 1; k >= 0 && chunks[k].To == number {
		chunks[k].To++
		return
	}
	l.found.Chunks = append(chunks, span.Span{From: number, To: number + 1})
}

func (l *loser) there(ctx context.Context, child tree.Child) (bool, error) {
	if child.Place != nil {
		if name := child.Place.Pack.Name(); l.packs.Listed[name] && !l.packs.Avoid[name] {
			return true, nil
		}
	}
	places, err := l.k.Places(ctx, child.ID)
	if err != nil {
		return false, err
	}
	for _, place := range places {
		if name := place.Pack.Name(); !l.packs.Avoid[name] {
			if !l.packs.Listed[name] {
				l.found.Elsewhere[name] = true
			}
			return true, nil
		}
	}
	return false, nil
}

// IsPack reports whether a name is that of a pack.
func IsPack(name string) bool {
	kind, _ := layout.Parse(name)
	return kind == layout.DataPack || kind == layout.TreePack
}
