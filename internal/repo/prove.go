package repo

import (
	"context"
	"iter"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// VerifyLevel is how deep a verification goes; the proof levels of a restore point.
type VerifyLevel = verify.Level

// The levels that need nothing but the store.
const (
	VerifyStored   = verify.Stored   // stored bytes re-hashed, the log folded anew; needs no key
	VerifyComplete = verify.Complete // everything decrypted, every chunk of every point present and authentic; needs a key
)

// Report is what a verification found.
type Report = verify.Report

// ObjectProblem names an object and what is wrong with it.
type ObjectProblem = verify.ObjectProblem

// VerifyOptions tell what to check.
type VerifyOptions struct {
	Level      VerifyLevel
	Repository *Repository // the open repository for level 2, and to name VMs; nil verifies without a key
	Clock      clock.Clock
	Progress   func(objects int, bytes int64) // optional; called from several goroutines with what was checked since the last call
}

// Verify checks a repository: the log from its first entry, every object in the folder and every object that should be
// there, and at level 2 the content of every restore point. It returns an error only when it could not check; damage is in
// the report. It changes nothing: RecordProof keeps what was found.
func Verify(ctx context.Context, store blob.Store, o VerifyOptions) (Report, error) {
	if o.Level == VerifyComplete && o.Repository == nil {
		return Report{}, holdfast.Errorf(holdfast.KindWrongKey, "level 2 decrypts, so it needs the repository's password").WithHint("give the password, or verify at level 1")
	}
	store, err := seeThrough(ctx, store)
	if err != nil {
		return Report{}, err
	}
	report, err := verify.Run(ctx, store, o.inner())
	report.Shadowed = append([]string{}, shadowedIn(store)...)
	return report, err
}

func (o VerifyOptions) inner() verify.Options {
	inner := verify.Options{Level: o.Level, Progress: o.Progress}
	if o.Repository != nil {
		inner.Key = o.Repository.verifyKey()
	}
	return inner
}

// verifyKey lends what a verification with the key needs.
func (r *Repository) verifyKey() *verify.Key {
	return &verify.Key{
		Ring: r.ring, Codec: r.codec, Hasher: r.hasher, Repository: r.id, Parameters: r.params, Nodes: r, Manifest: r.decodeManifest, Top: decodeTop,
		Machine: func(p oplog.PointState) (holdfast.ResourceID, error) {
			sum, err := r.openSummary(p.ID, p.Summary)
			return sum.VM, err
		},
		Runs: r.checkRuns,
	}
}

// checkRuns opens all blocks of the live index runs and reports damaged ones.
func (r *Repository) checkRuns(ctx context.Context, state oplog.State, report func(name string, err error)) error {
	for i, name := range state.Runs {
		run, err := r.runs.reader.MustOpen(ctx, aboutRun(name, state.AboutRun(i)))
		if err == nil {
			err = run.Check(ctx)
		}
		if isDamage(err) {
			report(name, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// RootOf computes the root that content with the disk's size has, to compare it with Root.
func (d *DiskReader) RootOf(ctx context.Context, extents iter.Seq2[holdfast.Extent, error], source Source) (holdfast.Root, error) {
	return d.r.RootOf(ctx, RootInput{SizeBytes: d.disk.SizeBytes, Extents: extents, Source: source})
}

// Verify is the function Verify for an open repository.
func (r *Repository) Verify(ctx context.Context, level VerifyLevel) (Report, error) {
	return Verify(ctx, r.store.Store, VerifyOptions{Level: level, Repository: r, Clock: r.clock})
}
