package collect

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
)

// readersMax is how many objects are looked at, and deleted, at the same time.
const readersMax = 16

// Plan is what a collection is going to do.
type Plan struct {
	c      Config
	o      Options
	rule   Rule
	state  oplog.State
	now    time.Time // by the clock of a store that can lock
	result Result

	census  *census
	strewn  []strewing  // newest points that are read with too many breaks
	others  []blob.Info // objects that are not packs, as a listing showed them
	chosen  []candidate
	garbage []object
	locked  []blob.Info     // that nothing needs
	held    []object        // of these, what is condemned all the same
	expired []object        // lists of collections that are over: nobody can come to name them
	doomed  map[string]bool // condemned by earlier entries
	earlier []unswept       // of these, what is still to be deleted
	lost    []string        // condemnation lists that are damaged
	// Records of gone packs that are damaged.
	lostRecords []string
	tooOld      []holdfast.SessionID
	sessions    map[string]holdfast.SessionID // of unneeded objects, by name, as their own bytes say
	includes    map[string][]string           // what the lists of visible points include
	young       map[holdfast.SessionID]bool   // sessions whose points are younger than the rule wants

	successors map[string][]string // of packs that were moved out of: the packs that what is needed of them is in now

	session   holdfast.SessionID // of this collection, once it has begun
	begun     bool
	relocated []Located // what was moved
	runs      []string  // index runs that lead to it

	own    []ownList // what this collection condemned
	latest uint64    // number of the newest condemn entry that the census has seen
}

// object is an object that nothing needs.
type object struct {
	name string
	size int64
}

// NewPlan reads the repository and decides. It changes nothing. It starts anew when another collection took away what it looked for.
func NewPlan(ctx context.Context, c Config, o Options) (*Plan, error) {
	for range triesMax {
		p := newPlan(c, o)
		err := p.unlessStale(ctx, p.make(ctx))
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, errStale) {
			return nil, err
		}
	}
	return nil, busy(c)
}

// make reads and decides.
func (p *Plan) make(ctx context.Context) error {
	if err := p.read(ctx); err != nil {
		return err
	}
	if err := p.markAll(ctx); err != nil {
		return err
	}
	if err := p.mustTell(); err != nil {
		return err
	}
	if err := p.choose(ctx); err != nil {
		return err
	}
	if err := p.findOld(ctx); err != nil {
		return err
	}
	if err := p.findGarbage(ctx, p.state); err != nil {
		return err
	}
	if len(p.census.damaged) > 0 && p.isOvertaken(ctx) {
		return errStale // they may be whole
	}
	return nil
}

// unlessStale returns err, or errStale where it says that something is damaged and another collection came between: what is missing may
// be what that one took.
func (p *Plan) unlessStale(ctx context.Context, err error) error {
	if err != nil && stored.IsDamage(err) && p.isOvertaken(ctx) {
		return errStale
	}
	return err
}

// isOvertaken reports whether the log says by now that another collection came between.
func (p *Plan) isOvertaken(ctx context.Context) bool {
	if p.state.Next == 0 {
		return false // the log is what could not be read
	}
	state, err := p.c.Log.Sync(ctx)
	return err == nil && p.isStale(state)
}

func newPlan(c Config, o Options) *Plan {
	return &Plan{
		c: c, o: o, rule: o.Rule.orDefault(), sessions: map[string]holdfast.SessionID{}, doomed: map[string]bool{}, includes: map[string][]string{},
		young: map[holdfast.SessionID]bool{},
	}
}

// read reads the log, the list of all objects, and what is known to be gone or damaged.
func (p *Plan) read(ctx context.Context) (err error) {
	if damage := p.c.Log.Damage(); len(damage) > 0 {
		return holdfast.Errorf(holdfast.KindCorrupt, "%s is damaged, so nobody can tell what is needed", damage[0].Object).
			WithHint("see what is damaged with: holdfast repo verify --repo %s", p.c.Store.URL())
	}
	if p.state, err = p.c.Log.Sync(ctx); err != nil {
		return err
	}
	p.latest = p.state.LastCondemned
	if err := p.c.Repository.IndexWhole(ctx, p.state); err != nil {
		if !stored.IsDamage(err) {
			return err
		}
		return holdfast.Wrap(holdfast.KindCorrupt, err, "the index is damaged, and it alone leads to what was moved").
			WithHint("make it anew with: holdfast repo rebuild-index --repo %s; then collect again", p.c.Store.URL())
	}
	gone, err := p.readGone(ctx)
	if err != nil {
		return err
	}
	if err := p.seeThrough(ctx); err != nil {
		return err
	}
	if err := p.list(ctx); err != nil {
		return err
	}
	p.census.state, p.census.gone = p.state, gone
	return p.bar(ctx)
}

// seeThrough makes sure that whose an object is, and how long it is locked, is not told by what somebody put over it, nor by a clock of
// ours.
func (p *Plan) seeThrough(ctx context.Context) (err error) {
	if through := shadow.Of(p.c.Store); through != nil {
		if err := through.Survey(ctx, ""); err != nil {
			return err
		}
	}
	if locker := shadow.Locker(p.c.Store); locker != nil {
		p.now, err = locker.Now(ctx)
	}
	return err
}

// list takes stock of all objects.
func (p *Plan) list(ctx context.Context) error {
	var packs [2][]packInfo
	for info, err := range p.c.Store.List(ctx, "") {
		if err != nil {
			return err
		}
		kind, hash := layout.Parse(info.Name)
		switch kind {
		case layout.DataPack:
			packs[0] = append(packs[0], packInfo{hash, info.Size, info.LockedUntil})
		case layout.TreePack:
			packs[1] = append(packs[1], packInfo{hash, info.Size, info.LockedUntil})
		case layout.Foreign:
			p.result.Foreign++
			continue
		case layout.LogEntry:
			continue
		case layout.KeyObject, layout.State, layout.IndexRun, layout.Manifest, layout.List:
			p.others = append(p.others, info)
		}
		p.result.Stored += info.Size
	}
	p.result.Packs = len(packs[0]) + len(packs[1])
	p.census = &census{
		c: p.c, data: newShelf(layout.DataPack, packs[0]), tree: newShelf(layout.TreePack, packs[1]),
		absent: map[string]bool{}, marked: map[holdfast.PointID]bool{}, untold: map[string][]string{}, byIndex: map[string]bool{}, damaged: map[holdfast.PointID]bool{},
	}
	return nil
}

// bar bars what is condemned, what is gone, and what is damaged.
func (p *Plan) bar(ctx context.Context) error {
	for _, condemnation := range p.state.Condemned {
		names, err := p.condemnedBy(ctx, condemnation.List)
		if stored.IsDamage(err) { // packs that it named are gone; what is left of the rest is going to be found again
			p.lost = append(p.lost, condemnation.List)
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			p.census.bar(name, doomed)
			p.doomed[name] = true
		}
		if !condemnation.Swept {
			p.earlier = append(p.earlier, p.leftOf(condemnation.List, names))
		}
	}
	for name := range p.census.gone { // it may have come back from a copy of the storage; lists stand for what took its place
		p.census.bar(name, 0)
	}
	damage, err := p.damage(ctx, p.state)
	if err != nil {
		return err
	}
	for name := range damage.Names() {
		p.census.bar(name, 0)
	}
	return nil
}

// unswept is a condemnation by an earlier collection that was not finished.
type unswept struct {
	list    string
	objects []object    // to be deleted, those that have gone already among them
	locked  []blob.Info // to be deleted when a lock ends: the store would say so, at the price of a request
}

// leftOf files what a list condemned.
func (p *Plan) leftOf(list string, names []string) unswept {
	u := unswept{list: list}
	for _, name := range names {
		size, lockedUntil := p.listed(name)
		if p.isLocked(lockedUntil) {
			u.locked = append(u.locked, blob.Info{Name: name, Size: size, LockedUntil: lockedUntil})
		} else {
			u.objects = append(u.objects, object{name, size})
		}
	}
	return u
}

func (p *Plan) condemnedBy(ctx context.Context, list string) ([]string, error) {
	data, err := stored.Read(ctx, p.c.Store, list, layout.ListBytesMax)
	if err != nil {
		return nil, err
	}
	condemnation, err := packlist.ParseCondemnation(data)
	return condemnation.Names, err
}

func (p *Plan) damage(ctx context.Context, state oplog.State) (packlist.Damage, error) {
	return p.c.lists().Damage(ctx, state.Damage)
}

// markAll marks all visible points.
func (p *Plan) markAll(ctx context.Context) error {
	points, newest := inReadingOrder(p.state.Points)
	for i, point := range points {
		if i < newest {
			p.census.breaks = newBreaks(point.ID)
		}
		if err := p.census.mark(ctx, point); err != nil {
			return err
		}
		if i < newest {
			p.noteScattered(p.census.breaks)
			p.census.breaks = nil
		}
		p.progress(StepMark, int64(i+1), int64(len(points)))
	}
	p.result.Points = len(points)
	return nil
}

// noteScattered keeps the measure of a newest point, and which packs it is scattered over when that is too much.
func (p *Plan) noteScattered(b *breaks) {
	s := b.result()
	p.result.Scattered = append(p.result.Scattered, s)
	shelf := p.census.data
	if s.SeeksPerGiB > p.rule.SeeksPerGiBMax {
		own := slices.DeleteFunc(b.order, func(pack int) bool { return shelf.is(pack, owned) })
		p.strewn = append(p.strewn, strewing{own, b.jumps})
		for pack := range b.packs {
			shelf.set(pack, strewn)
		}
	}
	for pack := range b.packs {
		shelf.set(pack, owned)
	}
}

// choose decides what is repacked.
func (p *Plan) choose(ctx context.Context) error {
	p.findYoung()
	var all []candidate
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readersMax)
	for _, shelf := range []*shelf{p.census.data, p.census.tree} {
		for i := range shelf.len() {
			if !shelf.needed(i) || shelf.is(i, whole|barred) || p.isLocked(shelf.lockedUntil(i)) {
				continue
			}
			g.Go(func() error {
				c, err := p.candidate(gctx, shelf, i)
				if err != nil || c.size == 0 {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, c)
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b candidate) int { return a.pack - b.pack }) // the same choice whoever was first
	p.chosen = p.gather(all, p.rule.choose(all))
	for _, c := range p.chosen {
		p.census.shelf(c.kind).set(c.pack, moving)
	}
	return nil
}

// gather adds to the chosen packs those that newest points are to be put in order with.
func (p *Plan) gather(all, chosen []candidate) []candidate {
	taken, moved := map[int]bool{}, int64(0)
	for _, c := range chosen {
		moved += c.cost()
		taken[c.pack] = taken[c.pack] || c.kind == layout.DataPack
	}
	data := map[int]candidate{}
	for _, c := range all {
		if c.kind == layout.DataPack {
			data[c.pack] = c
		}
	}
	for _, s := range p.strewn {
		packs := p.rule.gather(s, func(pack int) (int64, bool) {
			c, known := data[pack]
			return c.live, known && !c.young
		})
		for _, pack := range packs {
			if c := data[pack]; !taken[pack] && moved+c.cost() <= p.rule.MoveBytesMax {
				taken[pack], moved, chosen = true, moved+c.cost(), append(chosen, c)
				p.result.Gathered.add(c.live)
			}
		}
	}
	return chosen
}

// candidate weighs a pack. One that is damaged, or written by an open session, is none and has no size.
func (p *Plan) candidate(ctx context.Context, shelf *shelf, i int) (candidate, error) {
	c := candidate{kind: shelf.kind, pack: i, size: shelf.size(i), scattered: shelf.is(i, strewn)}
	if shelf.kind == layout.TreePack {
		c.live = min(c.size, int64(shelf.live[i])+seal.HeaderSize+seal.TrailerSize+seal.Overhead)
	} else {
		items, err := p.items(ctx, shelf.name(i), shelf.size(i))
		if err != nil {
			return candidate{}, stored.IgnoreDamage(err)
		}
		c.live = int64(math.Ceil(float64(c.size) * min(1, shelf.chunks(i)/float64(max(1, items)))))
	}
	if c.size >= p.rule.SmallBytes && !p.rule.worth(c) && !c.scattered {
		return c, nil // not worth another look
	}
	session, err := p.headerSession(ctx, shelf.name(i))
	if err != nil {
		return candidate{}, stored.IgnoreDamage(err)
	}
	if s := p.state.Session(session); s != nil && s.Status == oplog.SessionOpen {
		return candidate{}, nil
	}
	c.young = p.young[session]
	return c, nil
}

// items returns how many chunks a data pack holds, from its trailer alone.
func (p *Plan) items(ctx context.Context, name string, size int64) (int64, error) {
	var b [seal.TrailerSize]byte
	if n, err := p.c.Store.Read(ctx, name, max(0, size-int64(len(b))), b[:]); err != nil || n < len(b) {
		return 0, seal.ShortRead(name, size, err)
	}
	trailer, err := seal.ParseTrailer(b[:], size)
	if err != nil {
		return 0, err
	}
	return trailer.Items(), nil
}

// pointTime is how the id of a point says when it was made.
const pointTime = "20060102-150405"

// findYoung finds the sessions that published points which are younger than the rule wants. The clock spares work here.
func (p *Plan) findYoung() {
	for _, point := range p.state.Points {
		if len(point.ID) < len(pointTime) {
			continue
		}
		at, err := time.Parse(pointTime, string(point.ID[:len(pointTime)]))
		p.young[point.Session] = err == nil && p.c.Clock.Now().Sub(at) < p.rule.MinAge
	}
}

// isLocked reports whether a lock holds, by the clock of the store. Whether an object can be deleted is decided by the store when it is asked.
func (p *Plan) isLocked(until time.Time) bool { return until.After(p.now) }

// findOld finds the sessions that are to be given up.
func (p *Plan) findOld(ctx context.Context) error {
	for _, s := range p.state.Sessions {
		if s.Status != oplog.SessionOpen || p.o.GiveUpAfter <= 0 {
			continue
		}
		entry, err := p.c.Log.Entry(ctx, s.Begun)
		if err != nil {
			return err
		}
		if p.c.Clock.Now().Sub(entry.Time) > p.o.GiveUpAfter {
			p.tooOld = append(p.tooOld, s.ID)
		}
	}
	return nil
}

// Frees returns roughly how many stored bytes nothing would need any more without some of the visible points.
func Frees(ctx context.Context, c Config, without []holdfast.PointID) (int64, error) {
	p := newPlan(c, Options{})
	if err := p.read(ctx); err != nil {
		return 0, err
	}
	var removed []oplog.PointState
	for _, point := range p.state.Points {
		if slices.Contains(without, point.ID) {
			removed = append(removed, point)
		} else if err := p.census.mark(ctx, point); err != nil {
			return 0, err
		}
	}
	chunks := make([]float64, p.census.data.len())
	for i := range chunks {
		chunks[i] = p.census.data.chunks(i)
	}
	nodes := p.census.tree.liveBytes()
	for _, point := range removed {
		if err := p.census.mark(ctx, point); err != nil {
			return 0, err
		}
	}
	frees := p.census.tree.liveBytes() - nodes
	for i, before := range chunks {
		more := p.census.data.chunks(i) - before
		if more <= 0 {
			continue
		}
		items, err := p.items(ctx, p.census.data.name(i), p.census.data.size(i))
		if err != nil && !stored.IsDamage(err) {
			return 0, err
		}
		frees += int64(float64(p.census.data.size(i)) * min(1, more/float64(max(1, items))))
	}
	return frees, nil
}

// Unneeded returns the names of all objects that are going to be condemned or deleted because nothing needs them now, without packs
// that something is to be moved out of.
func (p *Plan) Unneeded() []string {
	var names []string
	for _, o := range slices.Concat(p.garbage, p.expired) {
		names = append(names, o.name)
	}
	return names
}

// Result returns what is going to happen, as far as it can be known before.
func (p *Plan) Result() Result {
	r := p.result
	r.GivenUp = p.tooOld
	for _, o := range slices.Concat(p.garbage, p.expired) {
		r.Freed.add(o.size)
	}
	for _, earlier := range p.earlier {
		for _, o := range earlier.objects {
			if o.size > 0 { // else it has gone
				r.Freed.add(o.size)
			}
		}
		for _, info := range earlier.locked {
			r.Waiting.add(info.Size, info.LockedUntil)
		}
	}
	for _, c := range p.chosen {
		r.Freed.add(c.size)
		r.Freed.Bytes -= c.live
		r.Moved.Objects, r.Moved.Bytes = r.Moved.Objects+1, r.Moved.Bytes+c.live
	}
	for id := range p.census.damaged {
		r.Damaged = append(r.Damaged, id)
	}
	slices.Sort(r.Damaged)
	return r
}

func (p *Plan) progress(step Step, done, total int64) {
	if p.o.Progress != nil {
		p.o.Progress(Progress{step, done, total})
	}
}
