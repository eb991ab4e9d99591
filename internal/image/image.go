// Package image backs up a raw disk image as a one-disk machine.
//
// A file has no change list of its own, so a run reads all that is not a hole, and what is stored already is found by its
// content. Who knows what changed (a hypervisor's dirty bitmap, a storage array's diff) says so, and only that is read. The
// repository knows such a machine as image:NAME.
package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"regexp"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/sparse"
)

// Config says what to back up and where to.
type Config struct {
	Repository *repo.Repository
	Clock      clock.Clock
	Name       string // of the machine
	File       string
	// Changes names a file with the ranges that may differ from the restore point Since; "" for none. Everything else is
	// taken from that point unread, so a list that leaves out a change makes a wrong restore point.
	Changes string
	Since   holdfast.PointID // of this machine; the beginning of its id is enough
	// RetainUntil asks that nobody can remove what the point needs before that date (repo.BeginOptions). Zero asks for no locks.
	RetainUntil time.Time
	Progress    func(position, size int64) // optional; called from several goroutines
}

// nameShape is what the repository's listings can show without quoting; nameCharsMax is that of Azure's machines.
var nameShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

const nameCharsMax = 64

// Check returns a KindInvalid error that names what cannot be backed up.
func (c Config) Check() error {
	if len(c.Name) > nameCharsMax || !nameShape.MatchString(c.Name) {
		return holdfast.Errorf(holdfast.KindInvalid, "%q cannot be the name of a machine", c.Name).WithField("name").
			WithHint("use up to %d letters, digits, dots, dashes and underscores, beginning with a letter or digit", nameCharsMax)
	}
	if (c.Changes == "") != (c.Since == "") {
		return holdfast.Errorf(holdfast.KindInvalid, "a change list needs the restore point that it counts from, and the other way round").WithField("changes").
			WithHint("give both --changes FILE and --since POINT, or neither")
	}
	info, err := os.Stat(c.File)
	if err != nil {
		return unreadable(err, c.File)
	}
	isBlockDevice := info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0
	if !info.Mode().IsRegular() && !isBlockDevice {
		return holdfast.Errorf(holdfast.KindInvalid, "%s is neither a file nor a block device", c.File).WithField("file").WithHint("name a raw disk image")
	}
	return nil
}

func unreadable(err error, name string) error {
	kind := holdfast.KindInvalid
	if errors.Is(err, fs.ErrNotExist) {
		kind = holdfast.KindNotFound
	}
	return holdfast.Wrap(kind, err, "the image %s cannot be read", name).WithField("file").WithHint("name a raw disk image that you may read")
}

// Scheme begins the ids of such machines.
const Scheme = "image:"

// VM returns the id under which the repository knows an image.
func VM(name string) holdfast.ResourceID { return holdfast.ResourceID(Scheme + name) }

// Backup makes one restore point of the file. Its result has the form of that of a machine.
func Backup(ctx context.Context, c Config) (holdfast.BackupResult, error) {
	if err := c.Check(); err != nil {
		return holdfast.BackupResult{}, err
	}
	f, size, err := open(c.File)
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	result, err := backup(ctx, c, f, size)
	return result, errors.Join(err, f.Close())
}

func open(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, unreadable(err, name)
	}
	size, err := f.Seek(0, io.SeekEnd) // works for block devices, too
	if err == nil && size == 0 {
		err = holdfast.Errorf(holdfast.KindInvalid, "the image %s is empty", name).WithField("file").WithHint("name a raw disk image")
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

func backup(ctx context.Context, c Config, f *os.File, size int64) (holdfast.BackupResult, error) {
	vm, began := VM(c.Name), c.Clock.Now()
	if err := settleEarlier(ctx, c.Repository, vm); err != nil {
		return holdfast.BackupResult{}, err
	}
	o, err := c.order(ctx, f, size)
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	s, err := c.Repository.Begin(ctx, repo.BeginOptions{VM: vm, Parents: o.parents, RetainUntil: c.RetainUntil})
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	result, err := writeAndPublish(ctx, c, s, o, began.UTC())
	if err != nil {
		return holdfast.BackupResult{}, errors.Join(err, s.Close(ctx, "the image could not be backed up"), c.Repository.Settle(context.WithoutCancel(ctx), s.ID()))
	}
	if err := c.Repository.Settle(context.WithoutCancel(ctx), s.ID()); err != nil { // the point is durable
		result.Warnings = append(result.Warnings, "the session could not be settled; the next backup does it: "+err.Error())
	}
	return result, nil
}

// order is what a run is going to read.
type order struct {
	in      repo.DiskInput
	parents []holdfast.PointID  // the point that a change list counts from
	reason  holdfast.FullReason // why all is read; "" when only changes are
}

func (c Config) order(ctx context.Context, f *os.File, size int64) (order, error) {
	o := order{in: repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: size, Source: sparse.Source{File: f}}}
	extents := sparse.Extents(f, size)
	if c.Changes == "" {
		reason, err := c.fullReason()
		o.reason, o.in.Extents = reason, watched(extents, size, c.Progress)
		return o, err
	}
	point, err := c.base(ctx, size)
	if err != nil {
		return order{}, err
	}
	changes, err := readChanges(c.Changes, size)
	if err != nil {
		return order{}, err
	}
	o.parents, o.in.Base = []holdfast.PointID{point.ID}, &point.Disks[0]
	o.in.Extents = watched(each(changes), size, c.Progress)
	return o, nil
}

// fullReason says why all of the image is read: a file has no change list of its own.
func (c Config) fullReason() (holdfast.FullReason, error) {
	points, err := c.Repository.Points()
	if err != nil {
		return "", err
	}
	for _, p := range points {
		if p.VM.Equal(VM(c.Name)) {
			return holdfast.FullRequested, nil
		}
	}
	return holdfast.FullFirst, nil
}

// base returns the restore point that the change list counts from.
func (c Config) base(ctx context.Context, size int64) (holdfast.Point, error) {
	reader, err := c.Repository.OpenPoint(ctx, c.Since)
	if err != nil {
		return holdfast.Point{}, err
	}
	point := reader.Point()
	if !point.VM.Equal(VM(c.Name)) {
		return holdfast.Point{}, holdfast.Errorf(holdfast.KindInvalid, "the restore point %s is of %s, not of the image %s", point.ID, point.Name, c.Name).
			WithField("since").WithHint("see: holdfast repo points")
	}
	if then := point.Disks[0].SizeBytes; then != size {
		return holdfast.Point{}, holdfast.Errorf(holdfast.KindInvalid, "the image had %d bytes at %s and has %d now", then, point.ID, size).
			WithField("since").WithHint("back it up without --changes")
	}
	return point, nil
}

// settleEarlier makes sure that runs which died cannot publish any more. They left nothing outside the repository.
func settleEarlier(ctx context.Context, r *repo.Repository, vm holdfast.ResourceID) error {
	sessions, err := r.Unsettled(vm)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if s.Status == repo.SessionOpen {
			if err := r.Abandon(ctx, s.ID, "another run took its place"); err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
				return err
			}
		}
		if err := r.Settle(ctx, s.ID); err != nil {
			return err
		}
	}
	return nil
}

func writeAndPublish(ctx context.Context, c Config, s *repo.Session, o order, at time.Time) (holdfast.BackupResult, error) {
	out, err := s.WriteDisk(ctx, o.in)
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	disk := holdfast.PointDisk{
		LUN: o.in.LUN, Name: c.Name, SizeBytes: o.in.SizeBytes, Root: out.Root, ReadBytes: out.ReadBytes, Full: o.reason != "", Reason: o.reason,
	}
	point := holdfast.Point{
		VM: VM(c.Name), Name: c.Name, Time: at, Kind: holdfast.PointBackup, Consistency: holdfast.ConsistencyOneDisk, Disks: []holdfast.PointDisk{disk},
	}
	if len(o.parents) > 0 {
		point.Parent = o.parents[0]
	}
	published, err := s.Publish(ctx, point, nil)
	if err != nil {
		if published, err = c.outcome(context.WithoutCancel(ctx), s, err); err != nil {
			return holdfast.BackupResult{}, err
		}
	}
	return holdfast.BackupResult{
		Point: published.ID, VM: point.VM, Time: point.Time, Consistency: point.Consistency, Parent: point.Parent, ReadBytes: out.ReadBytes, HealedBytes: out.HealedBytes, StoredBytes: published.StoredBytes,
		Disks: []holdfast.BackupDisk{{
			LUN: disk.LUN, Name: disk.Name, SizeBytes: disk.SizeBytes, Root: disk.Root, ReadBytes: out.ReadBytes, Full: disk.Full, Reason: disk.Reason,
			NewBytes: out.NewBytes, Duplicate: out.DuplicateBytes, HealedBytes: out.HealedBytes,
		}},
		Warnings: []string{}, LockedUntil: published.LockedUntil.UTC(), LocksRenewed: published.LocksRenewed,
	}, nil
}

// outcome returns what was published although the answer got lost, or else the error.
func (c Config) outcome(ctx context.Context, s *repo.Session, cause error) (repo.Published, error) {
	if err := c.Repository.Refresh(ctx); err != nil {
		return repo.Published{}, cause
	}
	sessions, err := c.Repository.Unsettled(VM(c.Name))
	if err != nil {
		return repo.Published{}, cause
	}
	for _, session := range sessions {
		if session.ID == s.ID() && session.Status == repo.SessionPublished {
			return repo.Published{ID: session.Point, LockedUntil: c.RetainUntil}, s.Close(ctx, "it was published")
		}
	}
	return repo.Published{}, cause
}

// watched tells how far the extents have been handed out.
func watched(extents iter.Seq2[holdfast.Extent, error], size int64, progress func(position, size int64)) iter.Seq2[holdfast.Extent, error] {
	if progress == nil {
		return extents
	}
	return func(yield func(holdfast.Extent, error) bool) {
		for e, err := range extents {
			if !yield(e, err) {
				return
			}
			progress(e.End(), size)
		}
	}
}
