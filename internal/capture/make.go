package capture

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// LeftBehind is the error of a Make that failed and left something, or cannot know that it left nothing. The set stays what finds
// it: Remove is to be called again.
type LeftBehind struct {
	Snapshots []holdfast.ResourceID
	Err       error // why Make failed
}

// Error returns the message of the cause.
func (l *LeftBehind) Error() string { return l.Err.Error() }

// Unwrap returns the cause.
func (l *LeftBehind) Unwrap() error { return l.Err }

// making is one Make. Its fields are owned by the goroutine of Make, except those guarded by mu; each element of found is owned by
// the goroutine that works on its disk between the steps.
type making struct {
	*Snapshots
	set   holdfast.SnapshotSet
	found []machine.Snapshot // by disk; the zero value where there is none

	mu     sync.Mutex            // guards the following
	unsure []holdfast.ResourceID // what became of the request is not known
}

// Make makes the snapshots of a set, all at once, and waits until they can be read. It returns the set with what is known of them
// now.
//
// It may be called again after a crash: a set that is there is read, and one that is there in part is made anew, since its disks
// would lie far apart in time. After an error nothing of the set is left, or the error is LeftBehind.
func (s *Snapshots) Make(ctx context.Context, set holdfast.SnapshotSet) (holdfast.SnapshotSet, error) {
	set.Disks = slices.Clone(set.Disks)
	m := &making{Snapshots: s, set: set, found: make([]machine.Snapshot, len(set.Disks))}
	if err := m.carryOut(ctx); err != nil {
		return holdfast.SnapshotSet{}, m.undo(ctx, err)
	}
	return m.set, nil
}

func (m *making) carryOut(ctx context.Context) error {
	whole, err := m.look(ctx)
	if err != nil {
		return err
	}
	if !whole {
		if err := m.clear(ctx); err != nil {
			return err
		}
		if err := m.create(ctx); err != nil {
			return err
		}
	}
	if err := m.await(ctx); err != nil {
		return err
	}
	return m.note()
}

// look finds what an earlier attempt made, and reports whether that is all of the set. A name that somebody else's snapshot bears
// is refused.
func (m *making) look(ctx context.Context) (whole bool, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(m.atOnce())
	for i, d := range m.set.Disks {
		group.Go(func() error {
			found, err := m.config.Source.Snapshot(ctx, d.Snapshot.ID)
			switch {
			case holdfast.IsKind(err, holdfast.KindNotFound):
				return nil
			case err != nil:
				return err
			case tagOf(found.Tags, tagPoint) != string(m.set.Point):
				return holdfast.Errorf(holdfast.KindRefused, "%s exists already and does not belong to the restore point %s", d.Snapshot.ID, m.set.Point).
					WithHint("rename or remove it, then try again")
			}
			m.found[i] = found
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	missing := func(s machine.Snapshot) bool { return s.ID == "" || s.Failed }
	return !slices.ContainsFunc(m.found, missing), nil
}

// atOnce is how many disks are worked on at the same time.
func (m *making) atOnce() int {
	if m.config.OneByOne {
		return 1
	}
	return max(1, len(m.set.Disks))
}

// clear removes the part that an earlier attempt made.
func (m *making) clear(ctx context.Context) error {
	for i, d := range m.set.Disks {
		if m.found[i].ID == "" {
			continue
		}
		if err := m.removeOne(ctx, d.Snapshot.ID, m.set.Point); err != nil {
			return err
		}
	}
	return nil
}

// create asks for all snapshots at once, so that they lie as close together in time as can be. A request that was sent is waited
// for even when another fails: what it makes must be known.
func (m *making) create(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(m.atOnce())
	for i := range m.set.Disks {
		group.Go(func() error { return m.createOne(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (m *making) createOne(ctx context.Context, i int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	patient, cancel := linger(ctx, m.config.Clock)
	defer cancel()
	d := m.set.Disks[i]
	made, err := m.config.Source.CreateSnapshot(patient, machine.SnapshotRequest{
		ID: d.Snapshot.ID, SourceID: d.ID, Location: d.Location, Tags: d.Tags,
	})
	m.found[i] = made
	if outcomeUnknown(err) {
		m.mu.Lock()
		m.unsure = append(m.unsure, d.Snapshot.ID)
		m.mu.Unlock()
	}
	m.config.Progress(Progress{Stage: StageSnapshot, LUN: d.LUN, Name: d.Name, SizeBytes: d.SizeBytes})
	return err
}

// await waits until all snapshots can be read.
func (m *making) await(ctx context.Context) error {
	for i, d := range m.set.Disks {
		wait := copying{source: m.config.Source, clock: m.config.Clock, every: m.config.PollEvery, told: func() {
			m.config.Progress(Progress{Stage: StageCopy, LUN: d.LUN, Name: d.Name, SizeBytes: d.SizeBytes})
		}}
		var err error
		if m.found[i], err = wait.await(ctx, m.found[i], d.Snapshot.ID, d.Name); err != nil {
			return err
		}
	}
	return nil
}

// note takes into the set what the snapshots turned out to be.
func (m *making) note() error {
	m.set.Time = m.found[0].Created
	for i := range m.set.Disks {
		d, found := &m.set.Disks[i], m.found[i]
		if found.SourceUniqueID != "" && found.SourceUniqueID != d.UniqueID {
			return holdfast.Errorf(holdfast.KindConflict, "the disk %s was replaced by another one of its name before it was snapshotted", d.Name).
				WithHint("try again")
		}
		d.SizeBytes, d.Snapshot = found.SizeBytes, sourceOf(found)
		m.set.Time = earliest(m.set.Time, found.Created)
	}
	return nil
}

// undo removes what bears the set's names. It runs although ctx may have ended.
func (m *making) undo(ctx context.Context, cause error) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if m.config.MayRemove != nil {
		if err := m.config.MayRemove(ctx, m.set); err != nil {
			m.config.Log.WarnContext(ctx, "the snapshots of a set are left as they are", "point", string(m.set.Point), "error", err)
			return &LeftBehind{Snapshots: m.set.Snapshots(), Err: cause}
		}
	}
	remain, _ := m.Remove(ctx, m.set) // it logs why
	for _, id := range m.unsure {
		if !slices.Contains(remain, id) {
			remain = append(remain, id)
		}
	}
	if len(remain) == 0 {
		return cause
	}
	names := make([]string, len(remain))
	for i, id := range remain {
		names[i] = string(id)
	}
	return &LeftBehind{Snapshots: remain, Err: leaves(cause, "What may remain is removed with the restore point "+string(m.set.Point)+": "+strings.Join(names, ", "))}
}

// sourceOf is what a restore point keeps of a snapshot.
func sourceOf(s machine.Snapshot) holdfast.SourceSnapshot {
	return holdfast.SourceSnapshot{ID: s.ID, UniqueID: s.UniqueID, FamilyID: s.FamilyID, SKU: s.SKU, Created: s.Created}
}
