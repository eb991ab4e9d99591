// Package flows does what packages protect and aging ask for: snapshots and backups by package capture, archives by package archive, in repositories that are opened
// once and kept.
//
// It decides nothing: what is to be made, and what goes, is in the order. What the flows promise holds here as well: whatever is asked
// for may be asked for again. It must never open a repository that the documents do not declare.
package flows

import (
	"context"
	"log/slog"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/archive"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/proof"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// Repositories opens the repositories that the documents declare.
type Repositories interface {
	// Open returns a repository by its name, for several users at once.
	Open(ctx context.Context, name string) (*repo.Repository, error)
	// Collector returns what may delete in it.
	Collector(ctx context.Context, name string) (*repo.Collector, error)
}

// Config says what to work with. All fields but the numbers are required.
type Config struct {
	Source       capture.Source
	Repositories Repositories
	Clock        clock.Clock
	Log          *slog.Logger
	Guests       guest.Commands // runs scripts in guests; nil: none run
	DisksAtOnce  int            // of one backup; 0 for capture's own number
	Readers      int            // of one disk; likewise
	OneByOne     bool           // snapshots of a set are made one after the other: for the simulator
}

// Flows makes and removes what points are made of. Safe for concurrent use.
type Flows struct {
	config    Config
	snapshots *capture.Snapshots
	gates     gates
}

// New makes it.
func New(config Config) (*Flows, error) {
	f := &Flows{config: config}
	var err error
	f.snapshots, err = f.newSnapshots(nil)
	return f, err
}

func (f *Flows) newSnapshots(mayRemove func(ctx context.Context, set holdfast.SnapshotSet) error) (*capture.Snapshots, error) {
	return capture.NewSnapshots(capture.SnapshotConfig{Source: f.config.Source, Clock: f.config.Clock, Log: f.config.Log, MayRemove: mayRemove, OneByOne: f.config.OneByOne})
}

// PrepareSnapshots implements protect.Flows.
func (f *Flows) PrepareSnapshots(ctx context.Context, vm holdfast.ResourceID, o work.SnapshotOrder) (holdfast.SnapshotSet, error) {
	return f.snapshots.Prepare(ctx, vm, capture.SnapshotOptions{
		Point: o.Point, Policy: o.Policy.Name, Session: o.Session, Slot: o.Slot, Flags: o.Flags, Temporary: o.Temporary, Read: o.Read,
		Tags: o.Policy.Snapshots.Tags, CopyTags: o.Policy.Snapshots.CopyTags, ResourceGroup: o.Policy.Snapshots.ResourceGroups[vm.Subscription()],
	})
}

// MakeSnapshots implements protect.Flows.
func (f *Flows) MakeSnapshots(ctx context.Context, o work.MakeOrder) (set holdfast.SnapshotSet, warnings []string, err error) {
	snapshots, err := f.newSnapshots(func(ctx context.Context, _ holdfast.SnapshotSet) error { return o.MayRemove(ctx) })
	if err != nil {
		return o.Set, nil, err
	}
	made := o.Set
	take := func(ctx context.Context) (err error) {
		made, err = snapshots.Make(ctx, o.Set)
		return err
	}
	if f.config.Guests == nil || !wantsGuest(o.Policy.Guest) {
		err := take(ctx)
		return made, eachAlone(o, made, err), err
	}
	result, err := f.around(ctx, o, take)
	return made, append(result.Warnings, eachAlone(o, made, err)...), err
}

// RemoveSnapshots implements protect.Flows and aging.Remover.
func (f *Flows) RemoveSnapshots(ctx context.Context, set holdfast.SnapshotSet) error {
	_, err := f.snapshots.Remove(ctx, set)
	return err
}

// Backup implements protect.Flows.
func (f *Flows) Backup(ctx context.Context, o work.BackupOrder) (holdfast.BackupResult, error) {
	leave, err := f.gates.enter(ctx, o.Repository, o.AtOnce)
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	defer leave()
	r, err := f.config.Repositories.Open(ctx, o.Repository)
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	flow, err := capture.New(capture.Config{
		Source: f.config.Source, Repository: r, Clock: f.config.Clock, Log: f.config.Log, DisksAtOnce: f.config.DisksAtOnce, Readers: f.config.Readers,
		Progress: backupSteps(o.Report),
	})
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	return flow.Run(ctx, o.VM, capture.Options{From: &o.From, Full: o.Full, RetainUntil: o.LockUntil})
}

// backupSteps reports the steps of a backup; nil when nobody wants them.
func backupSteps(report func(work.Step)) func(capture.Progress) {
	if report == nil {
		return nil
	}
	return func(p capture.Progress) {
		report(work.Step{Stage: string(p.Stage), LUN: p.LUN, SizeBytes: p.SizeBytes, Offset: p.Offset, Read: p.ReadBytes, Stored: p.NewBytes})
	}
}

// archiveSteps reports the steps of an archive; nil when nobody wants them.
func archiveSteps(report func(work.Step)) func(archive.Progress) {
	if report == nil {
		return nil
	}
	return func(p archive.Progress) {
		report(work.Step{Stage: string(holdfast.PointArchive), LUN: p.LUN, SizeBytes: p.SizeBytes, Offset: p.Offset, Read: p.ReadBytes, Stored: p.NewBytes})
	}
}

// Archive implements protect.Flows.
func (f *Flows) Archive(ctx context.Context, o work.ArchiveOrder) (holdfast.BackupResult, error) {
	leave, err := f.gates.enter(ctx, o.To, o.AtOnce)
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	defer leave()
	source, err := f.config.Repositories.Open(ctx, o.Source)
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	target, err := f.config.Repositories.Open(ctx, o.To)
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	for _, r := range []*repo.Repository{source, target} { // other processes write to them as well
		if err := r.Refresh(ctx); err != nil {
			return holdfast.BackupResult{}, err
		}
	}
	flow, err := archive.New(archive.Config{
		Source: source, Target: target, Log: f.config.Log, DisksAtOnce: f.config.DisksAtOnce, Readers: f.config.Readers, Progress: archiveSteps(o.Report),
	})
	if err != nil {
		return holdfast.BackupResult{}, err
	}
	return flow.Run(ctx, o.From, archive.Options{RetainUntil: o.LockUntil})
}

// RemoveBackup implements aging.Remover. One that is locked is an error of KindRefused, with the date.
func (f *Flows) RemoveBackup(ctx context.Context, repository string, point holdfast.PointID) error {
	r, err := f.config.Repositories.Open(ctx, repository)
	if err != nil {
		return err
	}
	if err := r.Refresh(ctx); err != nil {
		return err
	}
	_, err = r.Remove(ctx, []holdfast.PointID{point}, repo.RemoveOptions{})
	if holdfast.IsKind(err, holdfast.KindNotFound) {
		return nil // it was removed before
	}
	return err
}

// Prove implements proof.Prover.
func (f *Flows) Prove(ctx context.Context, repository string) (proof.Found, error) {
	r, err := f.config.Repositories.Open(ctx, repository)
	if err != nil {
		return proof.Found{}, err
	}
	if err := r.Refresh(ctx); err != nil {
		return proof.Found{}, err
	}
	report, err := r.Verify(ctx, repo.VerifyComplete)
	if err != nil {
		return proof.Found{}, err
	}
	if _, err := r.RecordProof(ctx, report); err != nil {
		// best effort: what was found counts all the same; what the log does not say is read again.
		f.config.Log.WarnContext(ctx, "the log of a repository could not keep what was proven", "repository", repository, "error", err)
	}
	return proof.Found{Bytes: report.Bytes, Damaged: report.Points}, nil
}

// Collect implements aging.Collector.
func (f *Flows) Collect(ctx context.Context, repository string) error {
	c, err := f.config.Repositories.Collector(ctx, repository)
	if err != nil {
		return err
	}
	_, err = c.Collect(ctx, repo.CollectOptions{})
	return err
}
