package repo

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/span"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// Healing (doc/format.md §10): a session takes nothing for stored that lies in a damaged pack. What its disks have lost there
// is read from the source again and written anew where it has not changed, under the same ids, so that older points find it.

// BaseDamaged is the error of WriteDisk when the map of the base is damaged: the disk has to be read in full, by another session.
type BaseDamaged struct {
	LUN holdfast.LUN
	Err error
}

// Error implements error.
func (e *BaseDamaged) Error() string {
	return "the map of disk " + string(e.LUN) + " in the point that the backup builds on is damaged: " + e.Err.Error()
}

// Unwrap returns the cause, whose kind is KindCorrupt.
func (e *BaseDamaged) Unwrap() error { return e.Err }

// learnDamage reads what is known to be damaged in the state that the session begins in.
func (s *Session) learnDamage(ctx context.Context, state oplog.State) error {
	damage, err := s.r.damageIn(ctx, state)
	if err != nil {
		return err
	}
	s.damageList, s.finder.damaged = state.Damage, damage.Names()
	return nil
}

// losses returns the chunks of a base that have to be read again because what is stored of them is lost.
func (s *Session) losses(ctx context.Context, lun holdfast.LUN, base *holdfast.PointDisk) ([]span.Span, error) {
	if base == nil || len(s.finder.damaged) == 0 {
		return nil, nil
	}
	listed, err := s.parentPacks(ctx, s.r.oplog.State())
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(s.finder.damaged)), func(name string) bool { return listed[name] }) {
		return nil, nil
	}
	avoid := maps.Clone(s.finder.condemned)
	maps.Copy(avoid, s.finder.damaged)
	lost, err := s.r.verifyKey().Losses(ctx, *base, verify.Packs{Listed: listed, Avoid: avoid})
	if errors.Is(err, verify.ErrMapLost) || isDamage(err) {
		return nil, &BaseDamaged{lun, holdfast.Wrap(holdfast.KindCorrupt, err, "the base cannot be read")}
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range lost.Elsewhere {
		s.reused[name] = true
	}
	return lost.Chunks, nil
}

// parentPacks returns the packs that the lists of the parents stand for.
func (s *Session) parentPacks(ctx context.Context, state oplog.State) (map[string]bool, error) {
	gone, err := goneIn(ctx, s.r.store, state)
	if err != nil && !isDamage(err) {
		return nil, err
	}
	listed := map[string]bool{}
	for _, parent := range s.parents {
		packs, _, err := listsIn(s.r.store).Expand(ctx, parent.List)
		if err != nil {
			return nil, err
		}
		for _, name := range gone.Resolve(packs) {
			listed[name] = true
		}
	}
	return listed, nil
}

// wasStored reports whether an id lies in a damaged pack, so that writing it anew heals what needs it.
func (f *finder) wasStored(ctx context.Context, id chunk.ID) (bool, error) {
	if len(f.damaged) == 0 {
		return false, nil
	}
	found := false
	err := f.live.Lookup(ctx, id, func(place *chunk.Place) bool {
		found = f.damaged[place.Pack.Name()]
		return found
	})
	return found, err
}

// checkDamage makes sure that nothing which the point builds on was found damaged since the session began: it has not been healed,
// and would be a damaged point that nobody is told of.
func (s *Session) checkDamage(ctx context.Context, state oplog.State) error {
	if state.Damage == s.damageList {
		return nil
	}
	damage, err := s.r.damageIn(ctx, state)
	if err != nil {
		return err
	}
	rests, err := s.parentPacks(ctx, state)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(rests, s.reused)
	for name := range damage.Names() {
		if rests[name] && !s.finder.damaged[name] {
			return holdfast.Errorf(holdfast.KindConflict, "%s, which this backup builds on, has been found damaged meanwhile", name).
				WithHint("run the backup again: it writes what is lost anew")
		}
	}
	return nil
}

// noteHealed records what is not needed of damaged packs any more, after a session that wrote some of it anew.
func (r *Repository) noteHealed(ctx context.Context) {
	err := r.appendProof(ctx, oplog.Proof{Level: int(VerifyStored)}, func(ctx context.Context, state oplog.State) (packlist.Damage, error) {
		damage, err := r.damageIn(ctx, state)
		if err != nil {
			return packlist.Damage{}, err
		}
		return r.judge(ctx, state, damage.Names())
	})
	if err != nil {
		// best effort: the next verification finds out as well.
		r.log.WarnContext(ctx, "what was healed is not recorded", "error", err)
	}
}

// suspectsMax bounds the packs that are remembered after failed reads.
const suspectsMax = 1024

// suspects are packs of which something could not be read. Safe for concurrent use.
type suspects struct {
	mu    sync.Mutex
	names map[string]bool // guarded by mu
}

func (s *suspects) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names) < suspectsMax {
		s.names[name] = true
	}
}

// take returns the names and forgets them.
func (s *suspects) take() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.names
	s.names = map[string]bool{}
	return names
}

// noteFailedReads records packs as damaged of which something could not be read, when reading them whole says so too.
func (r *Repository) noteFailedReads(ctx context.Context) {
	damaged := map[string]bool{}
	for name := range r.suspects.take() {
		if _, err := readNamed(ctx, r.store, name, layout.ObjectBytesMax); isDamage(err) {
			damaged[name] = true
		}
	}
	if len(damaged) == 0 {
		return
	}
	needed, err := r.neededByPoints(ctx, r.oplog.State())
	maps.DeleteFunc(damaged, func(name string, _ bool) bool { return !slices.Contains(needed, name) }) // a stale hint: it was collected
	if err == nil && len(damaged) == 0 {
		return
	}
	if err == nil {
		err = r.addMissing(ctx, damaged) // a lost pack is seldom alone
	}
	if err == nil {
		err = r.recordDamaged(ctx, damaged)
	}
	if err != nil {
		// best effort: the next verification finds it.
		r.log.WarnContext(ctx, "damage is not recorded", "error", err)
	}
}

// addMissing adds the packs that visible points need and that are not there. A listing spares looking for each.
func (r *Repository) addMissing(ctx context.Context, damaged map[string]bool) error {
	needed, err := r.neededByPoints(ctx, r.oplog.State())
	if err != nil {
		return err
	}
	present := map[string]bool{}
	for _, kind := range []layout.Kind{layout.DataPack, layout.TreePack} {
		for info, err := range r.store.List(ctx, layout.Prefix(kind)) {
			if err != nil {
				return err
			}
			present[info.Name] = true
		}
	}
	for _, name := range needed {
		if present[name] {
			continue
		}
		_, err := r.store.Stat(ctx, name)
		if isDamage(err) {
			damaged[name] = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// recordDamaged adds packs to the damage list.
func (r *Repository) recordDamaged(ctx context.Context, damaged map[string]bool) error {
	return r.appendProof(ctx, oplog.Proof{Level: int(VerifyStored)}, func(ctx context.Context, state oplog.State) (packlist.Damage, error) {
		known, err := r.damageIn(ctx, state)
		if err != nil {
			return packlist.Damage{}, err
		}
		all := known.Names()
		maps.Copy(all, damaged)
		return r.judge(ctx, state, all)
	})
}
