package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
)

// begin starts the collection's session: what it writes is nobody's leftovers, and condemnations by others stay in the state until it
// ends.
func (p *Plan) begin(ctx context.Context) error {
	p.session = holdfast.SessionID(keys.Random(len(p.session)))
	_, err := p.c.Log.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
		if p.isStale(s) {
			return oplog.Entry{}, errStale
		}
		return oplog.Entry{Kind: oplog.Begin, Session: &p.session}, nil
	})
	p.begun = err == nil
	return err
}

// isStale reports whether somebody condemned something, or found damage, since the census began: then other places may count.
func (p *Plan) isStale(s oplog.State) bool {
	return s.LastCondemned != p.latest || s.Damage != p.state.Damage
}

// giveUp abandons sessions that are too old, and settles those that have nothing outside the repository.
func (p *Plan) giveUp(ctx context.Context) error {
	for _, id := range p.tooOld {
		reason, err := json.Marshal(map[string]string{"reason": fmt.Sprintf("given up by a collection: it began more than %v ago", p.o.GiveUpAfter)})
		if err != nil {
			return err
		}
		_, err = p.c.Log.Append(ctx, func(oplog.State) (oplog.Entry, error) {
			return oplog.Entry{Kind: oplog.Abandon, Session: &id, Private: reason}, nil
		})
		if holdfast.IsKind(err, holdfast.KindConflict) {
			continue // it ended by itself
		}
		if err != nil {
			return err
		}
		p.result.GivenUp = append(p.result.GivenUp, id)
	}
	return p.settle(ctx)
}

// settle settles abandoned sessions of collections and rebuilds, which have nothing to put in order.
func (p *Plan) settle(ctx context.Context) error {
	for _, s := range p.c.Log.State().Sessions {
		if s.Subject != "" || s.Status != oplog.SessionAbandoned {
			continue
		}
		_, err := p.c.Log.Append(ctx, func(oplog.State) (oplog.Entry, error) { return oplog.Entry{Kind: oplog.Settle, Session: &s.ID}, nil })
		if err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
			return err
		}
	}
	return nil
}

// isIdle reports whether there is nothing to condemn.
func (p *Plan) isIdle() bool { return len(p.garbage) == 0 && len(p.held) == 0 && len(p.chosen) == 0 }

// errAgain says that the log went on, and the list of what is condemned has to be made anew.
var errAgain = errors.New("points were published since")

// condemn condemns what nothing needs. Whoever published since the census began is marked first.
func (p *Plan) condemn(ctx context.Context) error {
	for range triesMax {
		err := p.condemnOnce(ctx)
		if !errors.Is(err, errAgain) {
			return err
		}
	}
	return holdfast.Errorf(holdfast.KindConflict, "too many others write to %s", p.c.Store.URL()).WithHint("run again")
}

func (p *Plan) condemnOnce(ctx context.Context) error {
	state, err := p.c.Log.Sync(ctx)
	if err != nil {
		return err
	}
	if p.isStale(state) {
		return errStale
	}
	p.census.state = state
	for _, point := range state.Points {
		if !p.census.marked[point.ID] {
			if err := p.census.mark(ctx, point); err != nil {
				return err
			}
		}
	}
	if err := p.mustTell(); err != nil {
		return err
	}
	if err := p.mustLead(ctx, state); err != nil {
		return err
	}
	if err := p.findGarbage(ctx, state); err != nil {
		return err
	}
	for part := range slices.Chunk(slices.Concat(p.garbage, p.held), listNamesMax) {
		if err := p.condemnList(ctx, state, part); err != nil {
			return err
		}
		state = p.c.Log.State()
	}
	return nil
}

// listNamesMax bounds a condemnation list: 78 bytes a name, far below layout.ListBytesMax.
const listNamesMax = 1 << 17

// condemnList condemns objects in one entry.
func (p *Plan) condemnList(ctx context.Context, state oplog.State, objects []object) error {
	condemnation, doomed := packlist.Condemnation{Repository: p.c.ID, Session: p.session}, map[string]bool{}
	for _, o := range objects {
		condemnation.Names, doomed[o.name] = append(condemnation.Names, o.name), true
	}
	list, err := p.put(ctx, condemnation.Encode(), time.Time{})
	if err != nil {
		return err
	}
	entry := oplog.Entry{Kind: oplog.Condemn, List: list, Session: &p.session}
	if entry.Added, entry.Dropped, err = p.record(ctx, state, condemnation.Names); err != nil {
		return err
	}
	entry, err = p.c.Log.Append(ctx, func(s oplog.State) (oplog.Entry, error) { return entry, p.stillRight(state, s, doomed) })
	if err != nil {
		return err
	}
	p.latest = entry.N
	p.own = append(p.own, ownList{list, objects})
	return nil
}

// stillRight judges the condemnation of objects in the state that it is appended to. before is the state that it was made from.
func (p *Plan) stillRight(before, s oplog.State, doomed map[string]bool) error {
	if p.isStale(s) {
		return errStale
	}
	if s.Checkpoint != before.Checkpoint || !slices.Equal(s.Gone, before.Gone) || len(p.relocated) > 0 && !slices.Equal(s.Runs, before.Runs) {
		return errAgain
	}
	for _, point := range s.Points {
		if !p.census.marked[point.ID] {
			return errAgain
		}
	}
	for _, name := range slices.Concat(s.Runs, s.Slots, []string{s.KeyRing}) {
		if doomed[name] {
			return errAgain
		}
	}
	for name := range doomed {
		if session := s.Session(p.sessions[name]); session != nil && session.Status == oplog.SessionOpen {
			return errAgain
		}
	}
	return nil
}

// longestLock returns how long the pack list of a visible point is locked at most. A record of gone packs says how lists are to be
// read, so it must not be the first to go. Lists of points that came since the store was listed are asked for.
func (p *Plan) longestLock(ctx context.Context, state oplog.State) (until time.Time, err error) {
	visible := map[string]bool{}
	for _, point := range state.Points {
		visible[point.List] = true
	}
	for _, info := range p.others {
		if visible[info.Name] {
			until = latest(until, info.LockedUntil)
			delete(visible, info.Name)
		}
	}
	if shadow.Locker(p.c.Store) == nil {
		return time.Time{}, nil
	}
	for name := range visible {
		info, err := p.c.Store.Stat(ctx, name)
		if stored.IgnoreDamage(err) != nil {
			return time.Time{}, err
		}
		until = latest(until, info.LockedUntil)
	}
	if !p.isLocked(until) {
		return time.Time{}, nil
	}
	return until, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (p *Plan) put(ctx context.Context, data []byte, lockUntil time.Time) (string, error) {
	name := layout.Name(layout.List, layout.Sum(data))
	if err := p.c.Store.Put(ctx, name, data, blob.PutOptions{LockUntil: lockUntil}); err != nil && !errors.Is(err, blob.ErrExists) {
		return "", err
	}
	return name, nil
}

// recordLinesMin is how long the records of gone packs become before a collection looks which of their lines are still needed.
const recordLinesMin = 4096

// record stores a record of what becomes of packs that are condemned, merged with older ones that are not larger.
func (p *Plan) record(ctx context.Context, state oplog.State, names []string) (added, dropped []string, err error) {
	whole := packlist.Gone{}
	damage, err := p.damage(ctx, state)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if kind, _ := layout.Parse(name); kind == layout.DataPack || kind == layout.TreePack {
			// One that is gone already has come back from a copy of the storage: what took its place then still counts.
			whole[name] = slices.Concat(p.census.gone[name], p.successors[name], damage.Spare[name])
		}
	}
	for name, successors := range p.census.untold {
		whole[name] = append(slices.Clone(p.census.gone[name]), successors...)
	}
	dropped = slices.DeleteFunc(slices.Clone(p.lostRecords), func(name string) bool { return !slices.Contains(state.Gone, name) })
	if len(dropped) > 0 {
		if err := p.tellAnew(ctx, state, whole); err != nil {
			return nil, nil, err
		}
	}
	if len(whole) == 0 {
		return nil, dropped, nil
	}
	records, err := p.records(ctx, state)
	if err != nil {
		return nil, nil, err
	}
	lost := len(dropped)
	for _, r := range records {
		if len(r.gone) > len(whole) && len(r.gone) > recordLinesMin {
			break
		}
		for name, successors := range r.gone {
			if _, newer := whole[name]; !newer {
				whole[name] = successors
			}
		}
		dropped = append(dropped, r.name)
	}
	if len(dropped)-lost == len(records) && len(whole) > recordLinesMin {
		if whole, err = p.prune(ctx, state, whole, names); err != nil {
			return nil, nil, err
		}
	}
	until, err := p.longestLock(ctx, state)
	if err != nil {
		return nil, nil, err
	}
	name, err := p.put(ctx, whole.Encode(p.c.ID, p.session), until)
	return []string{name}, dropped, err
}

type goneRecord struct {
	name string
	gone packlist.Gone
}

// records returns the records of a state, the smallest first.
func (p *Plan) records(ctx context.Context, state oplog.State) ([]goneRecord, error) {
	var records []goneRecord
	for _, name := range state.Gone {
		if slices.Contains(p.lostRecords, name) {
			continue
		}
		data, err := stored.Read(ctx, p.c.Store, name, layout.ListBytesMax)
		if err != nil {
			return nil, err
		}
		gone, err := packlist.ParseGone(data)
		if err != nil {
			return nil, err
		}
		records = append(records, goneRecord{name, gone})
	}
	slices.SortFunc(records, func(a, b goneRecord) int { return len(a.gone) - len(b.gone) })
	return records, nil
}

// prune leaves out of a record what no list of a visible point rests on, and no condemnation that is in force or being made names: should
// its list be damaged, the records tell what it condemned.
func (p *Plan) prune(ctx context.Context, state oplog.State, whole packlist.Gone, condemned []string) (packlist.Gone, error) {
	named, read := map[string]bool{}, map[string]bool{}
	for _, point := range state.Points {
		list, err := p.c.lists().Read(ctx, point.List)
		if err != nil {
			return whole, stored.IgnoreDamage(err) // nobody can tell: all lines stay
		}
		packs := list.Packs
		for _, in := range list.Includes {
			if read[in.Name] {
				continue
			}
			read[in.Name] = true
			nested, err := p.c.lists().Read(ctx, in.Name)
			if err != nil {
				return whole, stored.IgnoreDamage(err)
			}
			packs = append(packs, nested.Packs...)
		}
		for _, name := range packs {
			if _, gone := whole[name]; gone {
				named[name] = true
			}
		}
	}
	damage, err := p.c.lists().Damage(ctx, state.Damage)
	if err != nil {
		return whole, stored.IgnoreDamage(err)
	}
	for _, others := range []map[string][]string{damage.Lost, damage.Spare} { // what lists stand for besides
		for _, packs := range others {
			for _, name := range packs {
				named[name] = true
			}
		}
	}
	for _, name := range condemned {
		named[name] = true
	}
	for _, list := range state.Lists() {
		names, err := p.condemnedBy(ctx, list)
		if err != nil {
			return whole, stored.IgnoreDamage(err)
		}
		for _, name := range names {
			named[name] = true
		}
	}
	return whole.Needed(named), nil
}

// end ends the session. Where that is worth the work, the index is cleaned of what is condemned, so that the condemnations can be
// forgotten.
func (p *Plan) end(ctx context.Context) error {
	for range triesMax {
		state, err := p.c.Log.Sync(ctx)
		if err != nil {
			return err
		}
		entry, err := p.c.Repository.CleanRuns(ctx, p.session, state)
		if err != nil {
			return err
		}
		entry.Kind, entry.Session = oplog.Index, &p.session
		_, err = p.c.Log.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
			if !slices.Equal(s.Runs, state.Runs) {
				return oplog.Entry{}, errAgain
			}
			return entry, nil
		})
		if !errors.Is(err, errAgain) {
			return err
		}
	}
	return p.leave(ctx, errAgain) // the index is cleaned another time
}

// leave ends a session that did not come to its end.
func (p *Plan) leave(ctx context.Context, because error) error {
	reason, err := json.Marshal(map[string]string{"reason": fmt.Sprintf("the collection ended: %v", because)})
	if err != nil {
		return err
	}
	for _, entry := range []oplog.Entry{{Kind: oplog.Abandon, Session: &p.session, Private: reason}, {Kind: oplog.Settle, Session: &p.session}} {
		_, err := p.c.Log.Append(ctx, func(oplog.State) (oplog.Entry, error) { return entry, nil })
		if err != nil && !holdfast.IsKind(err, holdfast.KindConflict) { // else somebody else did it
			return err
		}
	}
	return nil
}

// ownList is a condemnation of this collection.
type ownList struct {
	list    string
	objects []object
}

// finishEarlier deletes what earlier collections condemned and did not delete.
func (p *Plan) finishEarlier(ctx context.Context) error {
	for _, earlier := range p.earlier {
		for _, info := range earlier.locked {
			p.result.Waiting.add(info.Size, info.LockedUntil)
		}
		err := error(nil)
		if len(earlier.locked) > 0 {
			_, err = p.remove(ctx, earlier.objects)
		} else {
			err = p.delete(ctx, ownList{earlier.list, earlier.objects})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listed returns an object's size and lock as the listing showed them.
func (p *Plan) listed(name string) (size int64, lockedUntil time.Time) {
	kind, hash := layout.Parse(name)
	if shelf := p.census.shelf(kind); shelf != nil {
		if i, ok := shelf.find(hash); ok {
			return shelf.size(i), shelf.lockedUntil(i)
		}
		return 0, time.Time{}
	}
	for _, o := range p.others {
		if o.Name == name {
			return o.Size, o.LockedUntil
		}
	}
	return 0, time.Time{}
}

// sweep deletes what this collection condemned.
func (p *Plan) sweep(ctx context.Context) error {
	for _, own := range p.own {
		if err := p.delete(ctx, own); err != nil {
			return err
		}
	}
	return nil
}

// delete deletes the objects of a condemnation and records that they are gone, unless a lock holds one of them.
func (p *Plan) delete(ctx context.Context, c ownList) error {
	held, err := p.remove(ctx, c.objects)
	if err != nil || held {
		return err
	}
	return p.swept(ctx, c.list)
}

// sweepLost ends condemnations whose lists are damaged: what is left of their objects has been found and condemned anew, or a lock holds it
// and it is going to be.
func (p *Plan) sweepLost(ctx context.Context) error {
	for _, list := range p.lost {
		if err := p.swept(ctx, list); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) swept(ctx context.Context, list string) error {
	_, err := p.c.Log.Append(ctx, func(oplog.State) (oplog.Entry, error) { return oplog.Entry{Kind: oplog.Swept, List: list}, nil })
	if holdfast.IsKind(err, holdfast.KindConflict) {
		return nil // another collection was faster
	}
	return err
}

// remove deletes objects and reports whether a lock holds one of them.
func (p *Plan) remove(ctx context.Context, objects []object) (held bool, err error) {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readersMax)
	for _, o := range objects {
		g.Go(func() error {
			err := p.c.Remover.Remove(gctx, o.name)
			until := time.Time{}
			if locked := (*blob.LockedError)(nil); errors.As(err, &locked) {
				until = locked.Until
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				p.result.Freed.add(o.size)
				p.progress(StepDelete, int64(p.result.Freed.Objects), 0)
				return nil
			case errors.Is(err, blob.ErrLocked):
				held = true
				p.result.Waiting.add(o.size, until)
				return nil
			}
			return err
		})
	}
	return held, g.Wait()
}

// dropExpired deletes lists of collections that are over. Whether they are is judged in the log as it is now: in the one that was read
// before the listing, a collection that began in between is as unknown as one that is over, and one that is given up may have condemned
// before it was.
func (p *Plan) dropExpired(ctx context.Context) error {
	if len(p.expired) == 0 {
		return nil
	}
	state, err := p.c.Log.Sync(ctx)
	if err != nil {
		return err
	}
	named := slices.Concat(state.Lists(), state.Gone)
	over := slices.DeleteFunc(slices.Clone(p.expired), func(o object) bool {
		session := state.Session(p.sessions[o.name])
		return slices.Contains(named, o.name) || session != nil && session.Status == oplog.SessionOpen
	})
	_, err = p.remove(ctx, over)
	return err
}
