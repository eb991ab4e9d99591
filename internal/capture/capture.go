// Package capture backs up one virtual machine: snapshot every disk, read what changed, write it into the repository,
// publish a restore point, rotate the snapshots. It also makes and removes snapshot points, from which a backup can be read.
//
// What it promises:
//
//   - When Run returns without error, the restore point is durable, and each disk has exactly one snapshot of ours: the
//     base against which the next run compares. Snapshots of snapshot points are not counted: a run reads them, and neither makes nor
//     removes any.
//   - When Run returns an error, or is stopped, there is no new restore point, and the snapshots and SAS that it made are
//     gone. What could not be removed is named in the error.
//   - A process that dies leaves names in the repository's log (doc/format.md §6.3, begin). The next Run for the machine
//     takes them from there, makes sure that the dead session can never publish, and removes what it made. There is no
//     second path for recovery: the same step finds nothing to do after a good run.
//
// What it must never do: find by listing what it deletes, delete a snapshot without its tag, let a run delete a snapshot of a snapshot
// point or the base of the newest durable point, or open a SAS on a live disk.
//
// The order of steps and why they may be interrupted anywhere is the order of Run; the log decides, never a clock.
package capture

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Flow backs up machines of one cloud into one repository. Its methods may be called for different machines at once.
type Flow struct{ config Config }

// Source is what the flow needs of the cloud. Package azure implements it; its documentation says what holds after errors.
type Source interface {
	SnapshotSource
	OpenSnapshot(ctx context.Context, snapshot machine.Snapshot) (machine.Content, error)
	Revoke(ctx context.Context, id holdfast.ResourceID) error
}

// Config says what to work with. Source and Repository are required.
type Config struct {
	Source     Source
	Repository *repo.Repository
	Clock      clock.Clock
	Log        *slog.Logger
	Progress   func(Progress) // may be called from any goroutine; nil for none
	// PrivateAccess says that this process runs where the private endpoints of disk access objects can be reached, so that
	// disks whose networkAccessPolicy is AllowPrivate can be read.
	PrivateAccess bool
	DisksAtOnce   int           // disks read at the same time; 4 by default
	Readers       int           // concurrent reads per disk; 8 by default, for the endpoint answers slower than a disk
	PollEvery     time.Duration // how often a snapshot that is still being copied is asked for, after a few quicker looks; 5 s by default
}

const pollEvery = 5 * time.Second

// Options are what a person may ask of one run.
type Options struct {
	Full bool // read every disk in full
	// Audit says how much of what the change lists call unchanged is read to check them.
	Audit Audit
	// From is the set of snapshots that the backup is read from; nil makes new ones. Asked again for a set that was read already, Run
	// returns the restore point that there is, unless Full is set.
	From *holdfast.SnapshotSet
	// RetainUntil asks that nobody can remove what the point needs before that date (repo.BeginOptions). Zero asks for no locks.
	RetainUntil time.Time
}

// Progress is one step forward. Bytes are deltas, except Offset.
type Progress struct {
	Stage     Stage
	LUN       holdfast.LUN // "" when the stage concerns the whole machine
	Name      string       // the disk's name
	SizeBytes int64        // of the disk
	Offset    int64        // how far the disk's ranges have been handed out
	ReadBytes int64
	NewBytes  int64 // of chunks that were not stored before
}

// Stage names a part of a run.
type Stage string

// The stages of a run.
const (
	StageSnapshot Stage = "snapshot"
	StageCopy     Stage = "copy" // waiting for Azure to make a snapshot readable
	StageRead     Stage = "read"
	StagePublish  Stage = "publish"
	StageRotate   Stage = "rotate"
)

// Result is what a run achieved.
type Result = holdfast.BackupResult

// DiskResult is what a run achieved for one disk.
type DiskResult = holdfast.BackupDisk

// New checks the configuration.
func New(config Config) (*Flow, error) {
	if config.Source == nil || config.Repository == nil {
		return nil, holdfast.Errorf(holdfast.KindInternal, "capture needs a source and a repository")
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
	if config.DisksAtOnce == 0 {
		config.DisksAtOnce = 4
	}
	if config.Readers == 0 {
		config.Readers = 8
	}
	if config.PollEvery == 0 {
		config.PollEvery = pollEvery
	}
	return &Flow{config: config}, nil
}

// Run makes one restore point of a machine, from new snapshots or from a set that is given, whatever an earlier run left behind.
func (f *Flow) Run(ctx context.Context, id holdfast.ResourceID, o Options) (Result, error) {
	doubts := map[string]holdfast.FullReason{}
	for {
		result, err := f.attempt(ctx, id, o, doubts)
		var d *doubt
		if !errors.As(err, &d) || doubts[d.disk] != "" {
			return result, err
		}
		// Nothing of the attempt is left. The next one reads that disk in full.
		f.config.Log.WarnContext(ctx, "changes given up, starting over", "reason", string(d.reason), "error", d.cause)
		doubts[d.disk] = d.reason
	}
}

// attempt is one way from the machine to a restore point: the steps, and their undoing when one of them fails.
func (f *Flow) attempt(ctx context.Context, id holdfast.ResourceID, o Options, doubts map[string]holdfast.FullReason) (Result, error) {
	left, err := f.putInOrder(ctx, id)
	if err != nil {
		return Result{}, err
	}
	r := &run{flow: f, options: o, earlier: left, doubts: doubts}
	if err := r.read(ctx, id); err != nil {
		return Result{}, err
	}
	if result, found, err := r.alreadyRead(ctx); found || err != nil {
		return result, err
	}
	if err := r.chooseBases(ctx); err != nil {
		return Result{}, err
	}
	if err := r.begin(ctx); err != nil {
		return Result{}, err
	}
	if err := r.carryOut(ctx); err != nil {
		return Result{}, r.undo(ctx, err)
	}
	r.audit(ctx)
	r.rotate(ctx)
	return r.result(), nil
}

// carryOut are the steps that are undone together when one of them fails.
func (r *run) carryOut(ctx context.Context) error {
	if err := r.snapshot(ctx); err != nil {
		return err
	}
	if err := r.transfer(ctx); err != nil {
		return err
	}
	return r.publish(ctx)
}
