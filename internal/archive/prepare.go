package archive

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// run is one run for one backup. Its fields are owned by the goroutine of Run, except those guarded by mu; each disk is owned by the
// goroutine that works on it between the steps.
type run struct {
	flow     *Flow
	options  Options
	distrust bool // build on nothing

	backup *repo.PointReader
	source holdfast.Point // of backup
	parent *holdfast.Point
	disks  []*disk

	session     *repo.Session
	publication holdfast.Point
	published   repo.Published

	mu       sync.Mutex // guards the following
	warnings []string
}

// disk is one disk of a run.
type disk struct {
	holdfast.PointDisk                     // as the backup has it
	now                *repo.DiskReader    // its content
	base               *holdfast.PointDisk // the parent's disk that changes are counted from; nil for a full read
	before             *repo.DiskReader    // what base was copied from
	reason             holdfast.FullReason
	output             repo.DiskOutput
}

// builds reports whether a disk was to be taken from the archive before.
func (r *run) builds() bool {
	return slices.ContainsFunc(r.disks, func(d *disk) bool { return d.base != nil })
}

func (r *run) warn(ctx context.Context, sentence string) {
	r.flow.config.Log.WarnContext(ctx, "a person is warned", "warning", sentence, "machine", string(r.source.VM))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, sentence)
}

// openSource opens the backup.
func (r *run) openSource(ctx context.Context, id holdfast.PointID) error {
	from := r.flow.config.Source
	if err := from.Refresh(ctx); err != nil {
		return err
	}
	var err error
	if r.backup, err = from.OpenPoint(ctx, id); err != nil {
		return err
	}
	r.source = r.backup.Point()
	if r.source.Kind != holdfast.PointBackup {
		return holdfast.Errorf(holdfast.KindInvalid, "the restore point %s is no backup: its kind is %s", r.source.ID, r.source.Kind).WithField("point").
			WithHint("name a backup")
	}
	for _, d := range r.source.Disks {
		now, err := r.backup.Disk(d.LUN)
		if err != nil {
			return err
		}
		r.disks = append(r.disks, &disk{PointDisk: d, now: now})
	}
	return r.warnOfDoubts(ctx)
}

// warnOfDoubts tells a person what is known against the backup. It is archived all the same: there may be none that is better.
func (r *run) warnOfDoubts(ctx context.Context) error {
	points, err := r.flow.config.Source.Points()
	if err != nil {
		return err
	}
	for _, p := range points {
		if p.ID != r.source.ID {
			continue
		}
		for _, lun := range p.Suspect {
			r.warn(ctx, "the content of the disk "+string(lun)+" is in doubt in the backup, and so it is in the archive: it rests on a change list that was found wrong")
		}
	}
	return nil
}

// journal is what a session of an archive writes into the log when it begins. It tells these sessions from those of backups, which
// name what has to be put in order in the cloud, and are none of this package's business.
type journal struct {
	Archive *archived `json:"archive,omitempty"`
}

// archived names a backup.
type archived struct {
	Repository string           `json:"repository"`
	Point      holdfast.PointID `json:"point"`
}

// putInOrder makes sure that archives of the machine that died cannot be published any more. They left nothing outside the
// repository.
func (r *run) putInOrder(ctx context.Context) error {
	into := r.flow.config.Target
	if err := into.Refresh(ctx); err != nil {
		return err
	}
	sessions, err := into.Unsettled(r.source.VM)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		var begun journal
		if len(s.Resources) > 0 {
			if err := json.Unmarshal(s.Resources, &begun); err != nil {
				return holdfast.Wrap(holdfast.KindCorrupt, err, "what an earlier session is for cannot be read")
			}
		}
		if begun.Archive == nil {
			continue
		}
		if s.Status == repo.SessionOpen {
			err := into.Abandon(ctx, s.ID, "a newer archive of the machine started")
			if err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
				return err
			}
		}
		if err := into.Settle(ctx, s.ID); err != nil {
			return err
		}
	}
	return nil
}

// archived looks for an archive of the backup: who died before it heard of its archive asks again.
func (r *run) archived() (Result, bool, error) {
	if r.options.Full {
		return Result{}, false, nil
	}
	points, err := r.flow.config.Target.Points()
	if err != nil {
		return Result{}, false, err
	}
	for _, p := range slices.Backward(points) {
		if p.Kind == holdfast.PointArchive && p.VM.Equal(r.source.VM) && r.copied(p) {
			return r.found(p), true, nil
		}
	}
	return Result{}, false, nil
}

// copied reports whether an archive was copied from the backup.
func (r *run) copied(p repo.PointSummary) bool {
	return len(p.Disks) == len(r.disks) && !slices.ContainsFunc(p.Disks, func(d holdfast.PointDisk) bool {
		return d.Origin == nil || d.Origin.Repository != r.flow.config.Source.ID() || d.Origin.Point != r.source.ID
	})
}

// chooseBases decides for every disk from what its changes are counted: the newest archive of the machine, when the source still
// has what that was copied from.
func (r *run) chooseBases(ctx context.Context) error {
	trusted, err := r.findParent(ctx)
	if err != nil {
		return err
	}
	for _, d := range r.disks {
		switch {
		case r.options.Full:
			d.reason = holdfast.FullRequested
		case !trusted || r.distrust:
			d.reason = holdfast.FullSuspect
		default:
			if err := r.chooseBase(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// findParent opens the newest archive of the machine. One whose manifest is damaged is not built upon.
func (r *run) findParent(ctx context.Context) (trusted bool, err error) {
	points, err := r.flow.config.Target.Points()
	if err != nil {
		return false, err
	}
	for _, p := range slices.Backward(points) {
		if p.Kind != holdfast.PointArchive || !p.VM.Equal(r.source.VM) {
			continue
		}
		point, err := r.flow.config.Target.OpenPoint(ctx, p.ID)
		if holdfast.IsKind(err, holdfast.KindCorrupt) {
			r.warn(ctx, "the archive "+string(p.ID)+" is damaged; all disks are read in full")
			return false, nil
		}
		if err != nil {
			return false, err
		}
		manifest := point.Point()
		r.parent = &manifest
		return true, nil
	}
	return true, nil
}

func (r *run) chooseBase(ctx context.Context, d *disk) error {
	base, found := r.previous(d)
	switch {
	case !found:
		d.reason = holdfast.FullFirst
		return nil
	case base.Origin == nil || base.Origin.Repository != r.flow.config.Source.ID() || base.SizeBytes > d.SizeBytes:
		d.reason = holdfast.FullBaseMissing
		return nil
	}
	before, err := r.origin(ctx, base)
	if err != nil {
		return err
	}
	if before == nil {
		d.reason = holdfast.FullBaseMissing
		return nil
	}
	d.base, d.before = &base, before
	return nil
}

// previous finds the disk in the parent.
func (r *run) previous(d *disk) (holdfast.PointDisk, bool) {
	if r.parent == nil {
		return holdfast.PointDisk{}, false
	}
	for _, p := range r.parent.Disks {
		if p.UniqueID == d.UniqueID && (d.UniqueID != "" || p.LUN == d.LUN) {
			return p, true
		}
	}
	return holdfast.PointDisk{}, false
}

// origin opens a disk of the source that is equal to an archived one, nil when there is none any more. Which point it is in does not
// matter: the root says what it holds.
func (r *run) origin(ctx context.Context, base holdfast.PointDisk) (*repo.DiskReader, error) {
	points, err := r.flow.config.Source.Points()
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Backward(points) {
		for _, d := range p.Disks {
			if d.Root != base.Origin.Root || d.SizeBytes != base.SizeBytes {
				continue
			}
			before, err := r.openDisk(ctx, p.ID, d.LUN)
			if !holdfast.IsKind(err, holdfast.KindCorrupt) && !holdfast.IsKind(err, holdfast.KindNotFound) {
				return before, err
			}
		}
	}
	return nil, nil //nolint:nilnil // there is none, and that is no failure
}

func (r *run) openDisk(ctx context.Context, point holdfast.PointID, lun holdfast.LUN) (*repo.DiskReader, error) {
	opened, err := r.flow.config.Source.OpenPoint(ctx, point)
	if err != nil {
		return nil, err
	}
	return opened.Disk(lun)
}
