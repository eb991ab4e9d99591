// Package archive copies a backup from one repository into another as an archive. It needs two repositories and nothing else: the cloud
// that the backup came from may be gone.
//
// What it promises:
//
//   - When Run returns without error, the archive is durable and complete by itself; the repository that it was copied from, its
//     keys and its parameters are needed no more.
//   - When Run returns an error, or dies, there is no new archive, or the next Run for the point finds it and makes no second
//     one. What it had uploaded are orphans that the next collection takes.
//   - What is copied has been authenticated by the source. Only what differs from the archive before is read where the source
//     still has what that one was copied from, as each archived disk states (doc/format.md §9, origin); else all that is allocated.
//
// What it must never do: take any content from an archive whose origin it cannot name, settle a session that is not of an archive, or
// change the source.
package archive

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Flow copies backups of one repository into another one. Its methods may be called for different machines at once.
type Flow struct{ config Config }

// Config says what to work with. Source and Target are required.
type Config struct {
	Source      *repo.Repository
	Target      *repo.Repository
	Log         *slog.Logger
	Progress    func(Progress) // may be called from any goroutine; nil for none
	DisksAtOnce int            // disks copied at the same time; 4 by default
	Readers     int            // concurrent reads per disk; repo.DefaultReaders by default
}

// Options are what may be asked of one run.
type Options struct {
	Full bool // read every disk in full
	// Compare reads every disk of the backup once more, and in full, and compares what that makes with the archive, before that is published.
	Compare bool
	// RetainUntil asks that nobody can remove what the archive needs before that date (repo.BeginOptions). Zero asks for no locks.
	RetainUntil time.Time
}

// Progress is one step forward. Bytes are deltas, except Offset.
type Progress struct {
	LUN       holdfast.LUN
	Name      string // the disk's name
	SizeBytes int64
	Offset    int64 // how far the disk's ranges have been handed out
	ReadBytes int64
	NewBytes  int64 // of chunks that were not stored before
}

// Result is what a run achieved. Parent is the archive that changes were counted from.
type Result = holdfast.BackupResult

// New checks the configuration.
func New(config Config) (*Flow, error) {
	if config.Source == nil || config.Target == nil {
		return nil, holdfast.Errorf(holdfast.KindInternal, "an archive needs two repositories")
	}
	if config.Source.ID() == config.Target.ID() {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the repository %s cannot be the archive of its own backups", config.Source.URL()).
			WithField("repository").WithHint("name another repository")
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
	return &Flow{config: config}, nil
}

// Run archives one backup of the source, unless it is archived already.
func (f *Flow) Run(ctx context.Context, id holdfast.PointID, o Options) (Result, error) {
	r := &run{flow: f, options: o}
	result, err := r.attempt(ctx, id)
	if !holdfast.IsKind(err, holdfast.KindCorrupt) || !r.builds() {
		return result, err
	}
	// Nothing of the attempt is visible. What is damaged may be what it built on, here or there.
	f.config.Log.WarnContext(ctx, "changes given up, starting over", "point", string(id), "error", err)
	r = &run{flow: f, options: o, distrust: true}
	return r.attempt(ctx, id)
}

// attempt is one way from the backup to the archive: the steps, and their undoing when one of them fails.
func (r *run) attempt(ctx context.Context, id holdfast.PointID) (Result, error) {
	if err := r.openSource(ctx, id); err != nil {
		return Result{}, err
	}
	if err := r.putInOrder(ctx); err != nil {
		return Result{}, err
	}
	if result, found, err := r.archived(); found || err != nil {
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
	r.settle(ctx)
	return r.result(), nil
}

// carryOut are the steps that are undone together when one of them fails.
func (r *run) carryOut(ctx context.Context) error {
	if err := r.transfer(ctx); err != nil {
		return err
	}
	return r.publish(ctx)
}
