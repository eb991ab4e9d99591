package capture

import (
	"context"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// Snapshots makes, judges and removes snapshot points. It keeps nothing: what is to be known about a point is in its
// holdfast.SnapshotSet, which the caller writes down between Prepare and Make. Its methods may be called for different sets at once.
type Snapshots struct{ config SnapshotConfig }

// SnapshotSource is what snapshot points need of the cloud.
type SnapshotSource interface {
	Machine(ctx context.Context, id holdfast.ResourceID) (machine.VM, error)
	Locks(ctx context.Context, subscription string) ([]machine.Lock, error)
	CreateSnapshot(ctx context.Context, request machine.SnapshotRequest) (machine.Snapshot, error)
	Snapshot(ctx context.Context, id holdfast.ResourceID) (machine.Snapshot, error)
	DeleteSnapshot(ctx context.Context, id holdfast.ResourceID) error
}

// SnapshotConfig says what to work with. Source is required.
type SnapshotConfig struct {
	Source    SnapshotSource
	Clock     clock.Clock
	Log       *slog.Logger
	Progress  func(Progress) // may be called from any goroutine; nil for none
	PollEvery time.Duration  // as in Config
	// OneByOne makes one snapshot after the other, so that a history can be told again call by call: for the simulator. The disks of a
	// set lie further apart in time by that.
	OneByOne bool
	// PrivateAccess is that of Config, for sets that are to be read.
	PrivateAccess bool
	// MayRemove is asked before a Make that failed removes what bears the set's names. An error leaves everything as it is: names are
	// all that tells snapshots apart, so a caller whose work has gone to another process would remove what that one has made. nil for always.
	MayRemove func(ctx context.Context, set holdfast.SnapshotSet) error
}

// SnapshotOptions say what a snapshot point is to be.
type SnapshotOptions struct {
	Point         holdfast.PointID
	Policy        string         // "" of a point made by hand
	Session       holdfast.RunID // the run that makes it
	Slot          time.Time
	Flags         holdfast.Flags
	Temporary     bool           // made to be read by a backup, and nothing to restore from
	Tags          []holdfast.Tag // of the policy
	CopyTags      bool           // also those of the disks, as far as there is room
	ResourceGroup string         // that takes the snapshots; "" leaves each beside its disk
	Read          bool           // a backup is going to read the snapshots: disks whose content may not leave them are refused
}

// NewSnapshots checks the configuration.
func NewSnapshots(config SnapshotConfig) (*Snapshots, error) {
	if config.Source == nil {
		return nil, holdfast.Errorf(holdfast.KindInternal, "snapshot points need a source")
	}
	if config.Clock == nil {
		config.Clock = clock.System{}
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Progress == nil {
		config.Progress = func(Progress) {}
	}
	if config.PollEvery == 0 {
		config.PollEvery = pollEvery
	}
	return &Snapshots{config: config}, nil
}

// check refuses options that cannot become tags and names.
func (o SnapshotOptions) check() error {
	if !o.Point.Valid() {
		return holdfast.Errorf(holdfast.KindInternal, "%q is not the id of a restore point", o.Point)
	}
	for _, text := range []string{o.Policy, string(o.Session)} {
		if utf8.RuneCountInString(text) > tagCharsMax {
			return holdfast.Errorf(holdfast.KindInvalid, "%.40q… does not fit into a tag", text).WithHint("use up to %d characters", tagCharsMax)
		}
	}
	return checkTags(o.Tags)
}

// Prepare reads a machine and returns the set that Make is to make, with all names chosen. It refuses what could not be carried
// through, and makes nothing.
func (s *Snapshots) Prepare(ctx context.Context, id holdfast.ResourceID, o SnapshotOptions) (holdfast.SnapshotSet, error) {
	if err := o.check(); err != nil {
		return holdfast.SnapshotSet{}, err
	}
	vm, err := s.config.Source.Machine(ctx, id)
	if err != nil {
		return holdfast.SnapshotSet{}, err
	}
	if err := s.possible(vm, o); err != nil {
		return holdfast.SnapshotSet{}, err
	}
	set := s.compose(ctx, vm, o)
	held, err := readLocks(ctx, s.config.Source, s.config.Log, set.Snapshots())
	if err != nil {
		return holdfast.SnapshotSet{}, err
	}
	for _, d := range set.Disks {
		if err := held.against(d.Snapshot.ID, "snapshots of the disk "+d.Name); err != nil {
			return holdfast.SnapshotSet{}, err
		}
	}
	return set, nil
}

// possible refuses a machine with a disk that cannot be snapshotted, or not be read though it is to be.
func (s *Snapshots) possible(vm machine.VM, o SnapshotOptions) error {
	if len(vm.Disks) == 0 {
		return noDisks(vm)
	}
	for _, d := range vm.Disks {
		refusal, refused := d.SnapshotRefusal()
		if o.Read {
			refusal, refused = d.Refusal(machine.Reader{PrivateAccess: s.config.PrivateAccess})
		}
		if refused {
			return refuses(vm, d, refusal)
		}
	}
	return nil
}

func noDisks(vm machine.VM) error {
	return holdfast.Errorf(holdfast.KindInvalid, "the virtual machine %s has no disks", vm.Name)
}

func refuses(vm machine.VM, d machine.Disk, refusal machine.Refusal) error {
	return holdfast.Errorf(refusal.Kind, "the disk %s of %s %s", d.Name, vm.Name, refusal.Why).WithHint("%s", refusal.Hint)
}

// compose describes the set.
func (s *Snapshots) compose(ctx context.Context, vm machine.VM, o SnapshotOptions) holdfast.SnapshotSet {
	set := holdfast.SnapshotSet{
		Point: o.Point, VM: vm.ID, Name: vm.Name, Region: vm.Location, Policy: o.Policy, Session: o.Session, Slot: o.Slot.UTC(), Flags: o.Flags, Temporary: o.Temporary,
		Consistency: consistencyOf(len(vm.Disks)), Documents: vm.Documents,
	}
	for _, d := range vm.Disks {
		group := d.ID.ResourceGroup()
		if o.ResourceGroup != "" {
			group = o.ResourceGroup
		}
		name := "hf-" + string(o.Point) + "-" + string(d.LUN)
		tags, dropped := tagsFor(set, d, len(vm.Disks), o)
		if dropped > 0 {
			s.config.Log.InfoContext(ctx, "tags of the disk are not copied, for there is no room", "disk", d.Name, "tags", dropped)
		}
		set.Disks = append(set.Disks, holdfast.SetDisk{
			LUN: d.LUN, Name: d.Name, ID: d.ID, UniqueID: d.UniqueID, Location: d.Location, SizeBytes: d.SizeBytes, SKU: d.SKU,
			Caching: d.Caching, LogicalSectorBytes: d.LogicalSectorBytes, Tags: tags,
			Snapshot: holdfast.SourceSnapshot{ID: holdfast.NewResourceID(d.ID.Subscription(), group, snapshotType, name)},
		})
	}
	return set
}

// consistencyOf says how well snapshots agree that were made in parallel.
func consistencyOf(disks int) holdfast.Consistency {
	if disks > 1 {
		return holdfast.ConsistencyEachDisk
	}
	return holdfast.ConsistencyOneDisk
}

// SetState is what is wrong with a set in the cloud. The zero value says that it is whole.
type SetState struct {
	Gone    []holdfast.ResourceID // there is no such snapshot
	Foreign []holdfast.ResourceID // somebody else's bears the name, or one that was made later
	Broken  []holdfast.ResourceID // Azure could not make it
	Copying []holdfast.ResourceID // cannot be read yet
}

// Whole reports whether every snapshot of the set is there and can be read.
func (s SetState) Whole() bool { return !s.Lost() && len(s.Copying) == 0 }

// Lost reports whether the set will never be whole: nothing can be restored from it as a whole machine.
func (s SetState) Lost() bool { return len(s.Gone)+len(s.Foreign)+len(s.Broken) > 0 }

// State reads the set's snapshots, each by its id. Of a set that was not made all are expected that its names stand for.
func (s *Snapshots) State(ctx context.Context, set holdfast.SnapshotSet) (SetState, error) {
	var state SetState
	for _, d := range set.Disks {
		found, err := s.config.Source.Snapshot(ctx, d.Snapshot.ID)
		switch {
		case holdfast.IsKind(err, holdfast.KindNotFound):
			state.Gone = append(state.Gone, d.Snapshot.ID)
		case err != nil:
			return SetState{}, err
		case !belongs(found, set, d):
			state.Foreign = append(state.Foreign, d.Snapshot.ID)
		case found.Failed:
			state.Broken = append(state.Broken, d.Snapshot.ID)
		case !found.Ready:
			state.Copying = append(state.Copying, d.Snapshot.ID)
		}
	}
	return state, nil
}

// belongs reports whether a snapshot is that of a disk of the set.
func belongs(found machine.Snapshot, set holdfast.SnapshotSet, d holdfast.SetDisk) bool {
	return tagOf(found.Tags, tagPoint) == string(set.Point) && (d.Snapshot.UniqueID == "" || d.Snapshot.UniqueID == found.UniqueID)
}

// Remove deletes the set's snapshots, as far as they are there and bear the tag of the point; whatever else bears their names is
// left alone. It may be called again, and for a set that was never made. What could not be deleted is in remain, and err says why.
// That none of them is needed any more, as a base or by who reads it, is for the caller to know.
func (s *Snapshots) Remove(ctx context.Context, set holdfast.SnapshotSet) (remain []holdfast.ResourceID, err error) {
	for _, id := range set.Snapshots() {
		if failed := s.removeOne(ctx, id, set.Point); failed != nil {
			s.config.Log.WarnContext(ctx, "a snapshot remains", "snapshot", string(id), "point", string(set.Point), "error", failed)
			remain = append(remain, id)
			if err == nil {
				err = failed
			}
		}
	}
	return remain, err
}

func (s *Snapshots) removeOne(ctx context.Context, id holdfast.ResourceID, point holdfast.PointID) error {
	found, err := s.config.Source.Snapshot(ctx, id)
	if holdfast.IsKind(err, holdfast.KindNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if point == "" || tagOf(found.Tags, tagPoint) != string(point) {
		s.config.Log.WarnContext(ctx, "a snapshot of our name does not bear the point's tag and is left alone", "snapshot", string(id), "point", string(point))
		return nil
	}
	return s.config.Source.DeleteSnapshot(ctx, id)
}
